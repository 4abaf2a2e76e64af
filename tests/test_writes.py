"""The write log: backward raises if memory that it would read was written in place, through any alias, and
never otherwise."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from support.tensors import leaf

from tinygrad_gru import TapeError, Tensor, enable_grad, grad, nn, no_grad, ops, optim
from tinygrad_gru.backend import backend_of
from tinygrad_gru.writes import WriteLog

CHANGED = "was changed in place after #.* had saved it"


def optimizer_step(W):
    W.grad = Tensor(np.ones_like(W.data))
    optim.SGD([W], lr=0.5).step()


def write_an_element(W):
    with no_grad():
        W[0] = 50.0


def write_through_a_detached_tensor(W):
    alias = W.detach()
    alias.data[...] = 50.0
    alias.mark_changed()


def write_through_a_view(W):
    with no_grad():
        view = W[1:]
    view.data[...] = 50.0
    view.mark_changed()


def add_to_data(W):
    W.data += 1.0


def load_state(W):
    module = nn.Module()
    module.W = W
    module.load_state_dict({"W": np.full(W.shape, 50.0)})


WRITES = [
    optimizer_step, write_an_element, write_through_a_detached_tensor, write_through_a_view, add_to_data, load_state,
]  # fmt: skip
ALIASES = {
    "detach": lambda W: W.detach(),
    "the raw array": lambda W: W.data,
    "the leaf itself": lambda W: W,
    "a declared view": lambda W: W.reshape(2, 1)[:, :],
    "an integer of NumPy's": lambda W: ops.expand_dims(W[:, np.int64(0)], axis=1),
    "a view under no_grad": lambda W: no_grad()(lambda: W.reshape(2, 1))(),
    "a view of a constant": lambda W: W.detach()[::-1][::-1],
    "another tensor of the array": lambda W: _another_tensor_of(W.data),
}


def _another_tensor_of(array):
    other = Tensor(np.zeros_like(array))
    other.data = array
    return other


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
@pytest.mark.parametrize("alias", ALIASES)
def test_a_write_is_detected_through_every_alias(alias, write):
    W, x = leaf([[1.0], [2.0]]), leaf([[3.0, 4.0]])
    y = (x @ ALIASES[alias](W)).sum()
    write(W)
    with pytest.raises(TapeError, match=CHANGED):
        y.backward()
    assert x.grad is None


@pytest.mark.parametrize("alias", ALIASES)
def test_without_a_write_the_gradient_is_right(alias):
    W, x = leaf([[1.0], [2.0]]), leaf([[3.0, 4.0]])
    (x @ ALIASES[alias](W)).sum().backward()
    assert x.grad.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_a_write_before_the_record_or_into_other_memory_is_harmless(write):
    W, x, other = leaf([[1.0], [2.0]]), leaf([[3.0, 4.0]]), leaf([[5.0], [6.0]])
    write(W)
    expected = [W.numpy().ravel().tolist()]
    y = (x @ W.detach()).sum()
    write(other)
    y.backward()
    assert x.grad.tolist() == expected


def test_a_write_into_the_original_of_a_copy_is_harmless():
    W, x = leaf([[1.0], [2.0]]), leaf([[3.0, 4.0]])
    y = (x @ Tensor(W.data)).sum() + (x @ W[np.array([0, 1])].detach()).sum()
    write_an_element(W)
    y.backward()
    assert x.grad.tolist() == [[2.0, 4.0]]


def test_a_write_into_another_part_of_the_array_is_harmless():
    W, x = leaf(np.arange(6.0).reshape(3, 2)), leaf([1.0, 1.0])
    y = (x * W.detach()[0]).sum()
    row = W.detach()[2]
    row.data[...] = 9.0
    row.mark_changed()
    y.backward()
    assert x.grad.tolist() == [0.0, 1.0]


def test_a_write_into_a_constant_is_detected():
    x, c = leaf([1.0, 2.0]), Tensor(np.array([3.0, 4.0]))
    y = (x * c).sum()
    c.data[...] = 0.0
    c.mark_changed()
    with pytest.raises(TapeError, match=r"a constant \(2,\) was changed in place"):
        y.backward()


def test_a_write_into_a_recorded_value_is_logged_although_it_raises():
    x = leaf([1.0, 2.0])
    y = x * 2.0
    z = (y * y).sum()
    with pytest.raises(TapeError, match="only a leaf or a constant may be written"):
        y.data += 1.0  # NumPy writes before the setter is called
    with pytest.raises(TapeError, match=CHANGED):
        z.backward()


def test_the_writes_of_a_failed_optimizer_step_are_logged(monkeypatch):
    """It raises after some writes."""
    W, x = leaf([[1.0], [2.0]]), leaf([[3.0, 4.0]])
    y = (x @ W.detach()).sum()
    W.grad = Tensor(np.ones_like(W.data))
    optimizer = optim.SGD([W], lr=0.5)
    monkeypatch.setattr(optimizer._scratch, "take", lambda *_: W.data.fill(7.0) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        optimizer.step()
    with pytest.raises(TapeError, match=CHANGED):
        y.backward()


def test_setitem_on_a_constant_copies():
    x, c = leaf([1.0, 2.0]), Tensor(np.array([3.0, 4.0]))
    y = (x * c).sum()
    c[0] = 7.0
    y.backward()
    assert x.grad.tolist() == [3.0, 4.0] and c.tolist() == [7.0, 4.0]


def test_a_write_into_an_array_that_no_visited_record_saved_is_harmless():
    """The gradient with respect to x needs W and not x; on the path to b nothing of W is needed."""
    W, x, b = leaf([[1.0], [2.0]]), leaf([[3.0, 4.0]]), leaf([0.0])
    y = (x @ W.detach() + b).sum()
    write_an_element(x)
    y.backward(retain_graph=True)
    assert x.grad.tolist() == [[1.0, 2.0]]
    write_an_element(W)
    assert grad(y, b, retain_graph=True).tolist() == [1.0]
    with pytest.raises(TapeError, match=CHANGED):
        grad(y, x)


def test_a_hook_that_writes_a_saved_array_raises():
    W, x = leaf([[1.0], [2.0]]), leaf([[3.0, 4.0]])
    h = x @ W.detach()
    h.register_hook(lambda g: write_an_element(W))
    with pytest.raises(TapeError, match=CHANGED):
        h.sum().backward()
    assert x.grad is None


def test_a_leaf_may_be_updated_by_its_hook():
    """The hooks of leaves run after all rules, so an update in backward is possible."""
    x, W = leaf([[3.0, 4.0]]), leaf([[1.0], [2.0]])

    def update(g):
        W.data -= g.data

    W.register_hook(update)
    (x @ W).sum().backward()
    assert x.grad.tolist() == [[1.0, 2.0]] and W.tolist() == [[-2.0], [-2.0]]


def test_a_write_before_second_order_backward_is_detected():
    x, w = leaf([2.0]), leaf([3.0])
    g = grad((x * x * x * w.detach()).sum(), x, create_graph=True)
    x.data += 1.0
    with pytest.raises(TapeError, match=CHANGED):
        g.backward()


# -- random histories ------------------------------------------------------------------------------------------------


def random_part(rng, array):
    """A view of an array, or the array."""
    for _ in range(rng.integers(3)):
        step = [slice(None), slice(1, None), slice(None, -1), slice(None, None, 2), slice(None, None, -1)]
        index = tuple(step[rng.integers(5)] for _ in range(array.ndim))
        array = array[index] if min(array[index].shape) else array
        array = array.T if rng.random() < 0.3 else array
    return array


def random_alias(rng, source):
    """An alias of a source, a view of a part of it, or a copy."""
    aliases = [
        lambda: source, source.detach, lambda: source.T, lambda: source[1:], lambda: source[np.int64(0)],
        lambda: source[np.array([0, 2])], lambda: no_grad()(lambda: source[::2].T)(), lambda: Tensor(source.data),
        lambda: source.detach().reshape(-1), lambda: random_part(rng, source.data), lambda: source * 1.0,
    ]  # fmt: skip
    return aliases[rng.integers(len(aliases))]()


@pytest.mark.parametrize("seed", range(60))
def test_random_histories_of_aliases_and_writes(seed):
    """y = Σ x · sum(alias), with writes in between: ∂y/∂x is the sum of the aliases as they were; TapeError if the
    range of memory of one was written since, and never otherwise."""
    rng, x = np.random.default_rng(seed), leaf(1.0)
    leaves = [leaf(rng.standard_normal((3, 4))) for _ in range(2)]
    leaves[1].requires_grad = False
    sources = [*leaves, Tensor(rng.standard_normal((3, 4)))]
    y, expected, aliases, stale = x * 0.0, 0.0, [], False
    for _ in range(rng.integers(2, 9)):
        if rng.random() < 0.6:
            alias = random_alias(rng, sources[rng.integers(3)])
            array = alias.data if isinstance(alias, Tensor) else alias
            y, expected, aliases = y + (x * alias).sum(), expected + array.sum(), [*aliases, array]
        else:
            source = sources[rng.integers(3)]
            part = random_part(rng, source.data)
            part += 1.0
            written = Tensor.from_node(part, None) if rng.random() < 0.8 else source
            written.mark_changed()
            stale = stale or any(np.may_share_memory(written.data, array) for array in aliases)
    if stale:
        with pytest.raises(TapeError, match=CHANGED):
            y.backward()
    else:
        y.backward()
        np.testing.assert_allclose(x.grad.item(), expected, rtol=1e-12, atol=1e-12)


# -- across processes ------------------------------------------------------------------------------------------------


TRAIN_AGAIN = """
import pickle, sys
from tinygrad_gru import ops, optim
model, optimizer, x = pickle.load(sys.stdin.buffer)
for _ in range(2):
    optimizer.zero_grad()
    ops.sum(ops.square(model(x))).backward()
    optimizer.step()
sys.stdout.buffer.write(pickle.dumps(model.state_dict()))
"""


def test_a_model_pickled_by_another_process_can_be_trained():
    """The logical clock is local to a process, and a pickled model has no times of another one."""
    model, x = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), Tensor(np.ones((3, 2), np.float32))
    optimizer = optim.Adam(model.parameters(), lr=0.1)

    def train(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            ops.sum(ops.square(model(x))).backward()
            optimizer.step()

    train(20)
    pickled = pickle.dumps((model, optimizer, x))
    train(2)
    done = subprocess.run([sys.executable, "-c", TRAIN_AGAIN], input=pickled, capture_output=True, check=True)
    for name, value in pickle.loads(done.stdout).items():
        np.testing.assert_array_equal(value, model.state_dict()[name])


# -- the log ---------------------------------------------------------------------------------------------------------


def test_the_log_equals_a_time_for_every_byte(rng):
    """Random strided writes; `last` gives the time of the youngest write into the range that an array spans."""
    log, memory = WriteLog(), np.zeros(64, np.int16)
    times, spans = np.zeros(memory.nbytes, int), []
    for _ in range(400):
        start, stop = sorted(rng.integers(0, 65, 2))
        part = memory[start : stop : rng.choice([1, 2, 3])][:: rng.choice([1, -1])]
        low, high = (end - memory.__array_interface__["data"][0] for end in backend_of(part).memory_range(part))
        if rng.random() < 0.5:
            log.add(part, "part")
            if part.size:
                times[low:high] = log.latest
        spans.append((part, low, high))
        part, low, high = spans[rng.integers(len(spans))]
        write = log.last(part)
        assert (write.time if write else 0) == (times[low:high].max() if part.size else 0)
    assert len(log._starts) <= memory.nbytes


def test_the_log_has_no_more_entries_than_there_is_memory():
    log, memory = WriteLog(), np.zeros(1000)
    for start in range(500):
        log.add(memory[start : start + 500], "part")
    log.add(memory, "all")
    assert len(log._starts) == len(log._writes) == 1


@pytest.mark.parametrize(
    "part", [lambda a: a, lambda a: a[1:], lambda a: a[::-1], lambda a: a[:, ::-2], lambda a: a.T, lambda a: a[1, 2]]
)
def test_memory_range_of_an_array(part):
    """From the lowest to the highest of its elements' addresses."""
    full = np.arange(12, dtype=np.int16).reshape(3, 4)
    first, offsets = full.__array_interface__["data"][0], np.ravel(part(full))
    alias = part(full) if np.ndim(part(full)) else full[1, 2:3]
    assert backend_of(alias).memory_range(alias) == (first + 2 * int(offsets.min()), first + 2 * int(offsets.max()) + 2)


def test_memory_range_of_empty_arrays_and_numpy_scalars_is_empty():
    for value in (np.zeros((2, 0)), np.float32(1.0)):
        start, end = backend_of(value).memory_range(value)
        assert start == end


def test_writes_on_a_gpu_are_detected(gpu):
    x = Tensor(gpu.asarray(np.ones((2, 2), np.float32)), requires_grad=True)
    W = Tensor(gpu.asarray(np.ones((2, 2), np.float32)), requires_grad=True)
    y = (x * W.detach()[1]).sum()
    row = W.detach()[0]
    row.data[...] = 5.0
    row.mark_changed()
    y.backward(retain_graph=True)
    assert x.grad.tolist() == [[1.0, 1.0]] * 2
    W.data[...] = 5.0
    W.mark_changed()
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()


def test_writes_are_detected_on_every_backend(backend):
    x, W = (Tensor(backend.asarray([1.0, 2.0]), requires_grad=True) for _ in range(2))
    with enable_grad():
        y = (x * W.detach()).sum()
    W.data[...] = backend.asarray([5.0, 5.0])
    W.mark_changed()
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()
