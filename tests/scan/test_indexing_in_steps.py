"""What a step does with integers: looks rows up, picks elements, decides by argmax, feeds tokens back, counts."""

from __future__ import annotations

import numpy as np
import pytest
from support.stand_in_cuda import COMPILER
from support.stand_in_cupy import stand_in_cupy

from tests.scan.agreement import assert_close, assert_modes_agree, gradients, packed, really_compiling, run
from tinygrad_gru import Tensor, compiling, explain, grad, native, no_grad, ops, scan
from tinygrad_gru.backend import available
from tinygrad_gru.nn import Embedding, GRUCell
from tinygrad_gru.scan import NotCompiledError
from tinygrad_gru.scan.tracing.trace_cache import pure
from tinygrad_gru.testing import OP_SPECS, gradcheck
from tinygrad_gru.testing.op_specs import function_of

MODES = [False, "numpy", *(["llvm"] if native.is_available() else [])]

WORDS, WIDTH, BATCH, LENGTH = 7, 4, 3, 6

# -- which ops compile -------------------------------------------------------------------------------------------------

#: The ops that do not compile in a step, each with its reason; `getitem` only by a mask, `einsum` only of three arrays.
NOT_COMPILED = {
    "argsort": "the array function argsort", "sort": "the array function argsort", "topk": "the array function argsort",
    "einsum": "the array function einsum", "cumsum": "the array function cumulative_sum",
    "dropout": "random numbers", "categorical": "values that are known only when it runs",
    "pad": "an array to write into",
    "getitem": "by a mask",
}  # fmt: skip


def inputs_of(case, random):
    domains = case.domain if isinstance(case.domain, list) else [case.domain] * len(case.shapes)
    return [
        random.uniform(*domain, size=shape) if isinstance(shape, tuple) else np.asarray(shape)
        for shape, domain in zip(case.shapes, domains)
    ]


def reasons_of(name, random):
    """Why the cases of an op do not compile, floats being parts of the carry, and integers xs."""
    for case in OP_SPECS[name]:
        arrays = inputs_of(case, random)
        if any(0 in array.shape for array in arrays):
            continue
        is_carry = [array.dtype.kind == "f" for array in arrays]
        carry = [Tensor(a, requires_grad=True) for a, moves in zip(arrays, is_carry) if moves] or [Tensor(np.zeros(2))]
        xs = [Tensor(np.stack([a] * 2)) for a, moves in zip(arrays, is_carry) if not moves]

        def step(carry, x, case=case, is_carry=is_carry):
            parts, others = iter(carry), iter(x or ())
            y = function_of(name, case)(*(next(parts if moves else others) for moves in is_carry), **case.settings)
            return tuple(0.5 * part for part in carry), tuple(y) if isinstance(y, (list, tuple)) else y

        text = explain(step, tuple(carry), tuple(xs) or None)
        if "runs eagerly" in text[:500]:
            yield text


def test_every_op_compiles_in_a_step_or_is_listed(rng):
    found = {name: list(reasons_of(name, rng)) for name in OP_SPECS}
    assert {name for name, reasons in found.items() if reasons} == NOT_COMPILED.keys()
    for name, reason in NOT_COMPILED.items():
        assert all(reason in text and "Instead: " in text for text in found[name]), found[name]


# -- steps -------------------------------------------------------------------------------------------------------------


def looks_up(h, ids, table, u, out):
    h = ops.tanh(ops.embedding(table, ids) + h @ u)
    return h, h @ out


def skips_padding(h, ids, table, u, out):
    return ops.tanh(ops.embedding(table, ids, padding_idx=1) + h @ u)


def counts_from_the_end(h, ids, table, u, out):
    return ops.tanh(table[ids - WORDS] + h @ u), (ids - WORDS, table[ids - WORDS, ops.argmax(h, axis=1) - WIDTH])


def has_tied_weights(h, ids, table, u, out):
    h = ops.tanh(table[ids] + h @ u)
    return h, (h @ table.T, table[ids, 1:3])


def reads_two_words(h, ids, table, u, out):
    return ops.tanh(table[ids] - 0.5 * table[(ids + 1) * (ids < WORDS - 1)] + h @ u)


def has_one_hot(h, ids, table, u, out):
    return ops.tanh(ops.one_hot(ids, depth=WORDS, dtype="float64") @ table + h @ u)


def has_a_loss(h, ids, table, u, out):
    h = ops.tanh(table[ids] + h @ u)
    return h, (ops.cross_entropy(h @ out, ids), ops.cross_entropy(h @ out, ids, ignore_index=2, label_smoothing=0.1))


def picks_elements(h, ids, table, u, out):
    at = ops.argmax(h, axis=1)
    best = h[[0, 1, 2], at]
    return ops.tanh(h @ u + ops.gather(h, ops.expand_dims(at, axis=1), axis=1)), (
        best,
        at,
        ops.take(h, [0, -1], axis=1),
    )


def writes_to_places(h, ids, table, u, out):
    return ops.tanh(ops.scatter_add(h @ u, ops.transpose(h) @ u[:3], index=(ops.argmin(h, axis=0),)))


def indexes_the_middle(h, ids, table, u, out):
    cube = ops.stack([h, h @ u, 2 * h])
    picked = cube[:, ops.argmax(cube[0], axis=0)[:BATCH], 1:]
    return ops.tanh(h @ u), (picked, cube[0, :, ops.argmax(h, axis=1)], cube[ops.argmax(h, axis=1) * 0, None, ..., 2])


def counts(h, ids, table, u, out):
    good = ops.argmax(h @ out, axis=-1) == ids
    weights = ops.where(good, 1, -2)
    return ops.tanh(h @ u + ops.expand_dims(weights.astype("float64"), axis=1)), (ops.sum(good), ops.max(weights), good)


STEPS = (
    looks_up, skips_padding, counts_from_the_end, has_tied_weights, reads_two_words, has_one_hot, has_a_loss,
    picks_elements, writes_to_places, indexes_the_middle, counts,
)  # fmt: skip


@pytest.fixture
def arguments(rng):
    """A state, ids, and the weights that a step closes over."""
    shapes = [(WORDS, WIDTH), (WIDTH, WIDTH), (WIDTH, WORDS)]
    weights = [Tensor(0.7 * rng.standard_normal(shape), requires_grad=True) for shape in shapes]
    h = Tensor(rng.standard_normal((BATCH, WIDTH)), requires_grad=True)
    return h, Tensor(rng.integers(0, WORDS, (LENGTH, BATCH))), weights


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_steps(step, arguments):
    h, ids, weights = arguments
    assert_modes_agree(step, [h], [ids], weights)
    assert_modes_agree(step, [h], [ids.astype("int32")], weights, reverse=True, checkpoint_every=4)


def generates(carry, x, table, u, out):
    """Greedy decoding: the token is a part of the carry."""
    h, token = carry
    h = ops.tanh(ops.embedding(table, token) + h @ u)
    scores = h @ out
    return (h, ops.argmax(scores, axis=-1)), (scores, token)


def test_a_token_is_fed_back(arguments):
    h, ids, weights = arguments
    assert_modes_agree(generates, [h, ids[0]], [], weights, length=LENGTH)
    assert_modes_agree(generates, [h, ids[0]], [], weights, length=LENGTH, reverse=True)


@pytest.fixture(params=["llvm", "cupy"])
def target(request):
    """The mode and the device of a target: the native one, or a GPU, for which the host's C++ compiler may stand in."""
    if request.param == "llvm":
        pytest.importorskip("llvmlite")
        yield "llvm", "numpy"
    elif "cupy" in available():
        yield True, "cupy"
    elif COMPILER is None:
        pytest.skip("needs a GPU, or a C++ compiler to stand in for CUDA's")
    else:
        with stand_in_cupy(request.getfixturevalue("monkeypatch")):
            yield True, "cupy"


@pytest.mark.parametrize("step", [*STEPS, generates], ids=lambda step: step.__name__)
def test_steps_on_other_targets(step, target, arguments):
    """The loops of the native target, and kernels; both compile all of it."""
    (mode, device), (h, ids, weights) = target, arguments
    carry, xs = ([h, ids[0]], []) if step is generates else ([h], [ids])
    outputs = run(step, carry, xs, weights, length=LENGTH, compiled=False)
    expected = [y.numpy() for y in outputs], gradients(outputs, [h, *weights])
    if mode == "llvm":
        text = explain(lambda h, x: step(h, x, *weights), packed(carry), packed(xs), compiled="llvm")
        assert "does not compile all of it" not in text
    inputs = [t.detach().to(device).requires_grad_(t.requires_grad) for t in (*carry, *xs, *weights)]
    n = len(carry)
    with really_compiling():
        outputs = run(step, inputs[:n], inputs[n : n + len(xs)], inputs[n + len(xs) :], length=LENGTH, compiled=mode)
    assert_close([y.numpy() for y in outputs], expected[0])
    random = np.random.default_rng(0)
    pairs = [(y, Tensor(random.standard_normal(y.shape).astype(y.dtype), device=device)) for y in outputs]
    pairs = [(y, g) for y, g in pairs if y.requires_grad]
    wrt = [inputs[0], *inputs[n + len(xs) :]]
    found = grad([y for y, _ in pairs], wrt, [g for _, g in pairs], allow_unused=True)
    assert_close([np.zeros(t.shape) if g is None else g.numpy() for t, g in zip(wrt, found)], expected[1])


@pytest.mark.parametrize("n", [1, 63, 71])
def test_argmax_of_a_long_axis_with_equal_elements_and_nan(n, target, rng):
    x = rng.integers(0, 3, (LENGTH, BATCH, n)).astype("float32")
    x[rng.random(x.shape) < 0.02] = np.nan
    x[0], x[1] = -np.inf, np.inf
    mode, device = target

    def step(h, x):  # which needs both in the loop
        y = x + 0 * h
        last = ops.where(ops.expand_dims(ops.argmax(y, axis=1) + ops.argmin(y, axis=1), axis=1) < 0, y, h)
        return last, (ops.argmax(y, axis=1), ops.argmin(y, axis=1))

    h, xs = Tensor(np.zeros((BATCH, n), "float32"), device=device), Tensor(x, device=device)
    _, found = scan(step, h, xs, compiled=mode)
    np.testing.assert_array_equal(found[0].numpy(), np.argmax(x, axis=2))
    np.testing.assert_array_equal(found[1].numpy(), np.argmin(x, axis=2))


# -- gradients ---------------------------------------------------------------------------------------------------------


def test_the_gradient_of_a_table_is_one_scatter_add_over_all_steps(arguments):
    h, ids, weights = arguments
    text = explain(lambda h, x: has_tied_weights(h, x, *weights), h, ids)
    backward = text[text.index("Backward") :]
    assert backward.count("add_at_rows_of_steps(totals") == 2 and "scatter_add_steps" not in backward


def test_second_derivatives(arguments):
    h, ids, weights = arguments
    for step in (looks_up, picks_elements, has_a_loss):
        found = []
        for compiled in (True, False):
            last = scan(lambda h, x, step=step: step(h, x, *weights), h, ids, compiled=compiled)[0]
            (first,) = grad(ops.sum(ops.square(last)), [weights[1]], create_graph=True)
            found.append(grad(ops.sum(ops.square(first)), [h, *weights[:2]], allow_unused=True))
        assert_close(*([g.numpy() for g in gradient if g is not None] for gradient in found))


def test_finite_differences(arguments):
    h, ids, weights = arguments

    def loss(table):
        return ops.sum(scan(lambda h, x: has_tied_weights(h, x, table, *weights[1:]), h, ids, compiled=True)[1][0])

    gradcheck(loss, [weights[0]])


def test_a_decoder_of_pytorch(arguments):
    """Embedding, an Elman cell, scores, cross-entropy; and greedy decoding from the last state."""
    torch = pytest.importorskip("torch")
    h, ids, weights = arguments
    targets = Tensor(np.roll(ids.numpy(), -1, axis=0))

    def step(h, x):
        h, scores = looks_up(h, x[0], *weights)
        return h, ops.cross_entropy(scores, x[1])

    with really_compiling():
        last, losses = scan(step, h, (ids, targets), compiled=True)
        found = grad(losses.mean(), [h, *weights])
        with no_grad():
            tokens = scan(lambda c, x: generates(c, x, *weights), (last, ids[-1]), length=5, compiled=True)[1][1]
    their = [torch.tensor(t.numpy(), requires_grad=True) for t in (h, *weights)]
    state, total = their[0], 0.0
    for x, target in zip(torch.tensor(ids.numpy()), torch.tensor(targets.numpy())):
        state = torch.tanh(torch.nn.functional.embedding(x, their[1]) + state @ their[2])
        total = total + torch.nn.functional.cross_entropy(state @ their[3], target) / LENGTH
    assert_close([losses.mean().numpy()], [total.detach().numpy()])
    assert_close([g.numpy() for g in found], [g.numpy() for g in torch.autograd.grad(total, their)])
    token, generated = torch.tensor(ids.numpy()[-1]), []
    for _ in range(5):
        generated.append(token.numpy())
        state = torch.tanh(torch.nn.functional.embedding(token, their[1]) + state @ their[2])
        token = (state @ their[3]).argmax(-1)
    np.testing.assert_array_equal(tokens.numpy(), generated)


# -- indices out of bounds ---------------------------------------------------------------------------------------------


def at_computed_places(h, x, table):
    return h + table[ops.argmax(h, axis=1) + x]


@pytest.mark.parametrize(
    ("step", "bad", "message"),
    [
        (lambda h, x, table: h + ops.embedding(table, x), -1, "ids must lie in 0 … 6, got -1"),
        (lambda h, x, table: h + ops.embedding(table, x), 7, "ids must lie in 0 … 6, got 7"),
        (lambda h, x, table: h + table[x], 7, "index 7 is out of bounds for axis 0 with size 7"),
        (lambda h, x, table: h + table[x], -8, "index -8 is out of bounds for axis 0 with size 7"),
        (lambda h, x, table: h + table[x, 1:2], 9, "index 9 is out of bounds for axis 0 with size 7"),
        (lambda h, x, table: h + table[1, x][:, None], 4, "index 4 is out of bounds for axis 1 with size 4"),
        (at_computed_places, 7, "is out of bounds for axis 0 with size 7"),
        (lambda h, x, table: h + ops.one_hot(x, depth=4, dtype="float64"), 4, "ids must lie in 0 … 3, got 4"),
        (lambda h, x, table: h + ops.gather(h, x[:, None], axis=1), 4, "indices must lie in 0 … 3, got 4"),
        (lambda h, x, table: h + ops.cross_entropy(h, x), -1, "targets must lie in 0 … 3, got -1"),
        (lambda h, x, table: ops.scatter_add(h, h, index=(x,)), 3, "is out of bounds for axis 0 with size 3"),
    ],
)
def test_out_of_bounds_is_the_error_of_eager_mode(step, bad, message, arguments):
    h, _, (table, *_) = arguments
    x = np.zeros((LENGTH, BATCH), int)
    scan(lambda h, x: step(h, x, table), h, Tensor(x), compiled=True)
    x[4, 1] = bad
    for mode in MODES:
        with pytest.raises(IndexError, match=message):
            scan(lambda h, x: step(h, x, table), h, Tensor(x), compiled=mode)
        with pytest.raises(IndexError, match=message), no_grad():
            scan(lambda h, x: step(h, x, table), h, Tensor(x), compiled=mode, checkpoint_every=2)


@pytest.mark.parametrize("bad", [2**62, -(2**62)])
@pytest.mark.parametrize("mode", MODES[1:])
def test_far_out_of_bounds_takes_no_longer(bad, mode, arguments):
    """`take` would subtract the size until the position is in bounds."""
    h, ids, (table, *_) = arguments
    x = ids.numpy().copy()
    x[3, 1] = bad
    for step in (lambda h, x: h + table[x], lambda h, x: h + h[x % 3] + table[x], lambda h, x: h + h[x]):
        with pytest.raises(IndexError, match=f"index {bad} is out of bounds"):
            scan(step, h, Tensor(x), compiled=mode)


def test_out_of_bounds_on_other_targets(target, arguments):
    """On a GPU the error comes with the next copy to the host."""
    (mode, device), (h, _, (table, *_)) = target, arguments
    table, h = table.detach().to(device), h.detach().to(device)
    for bad in (7, -1):
        ids = Tensor(np.array([[0, 1, 2], [3, bad, 5]]), device=device)
        with pytest.raises(IndexError, match=f"ids must lie in 0 … 6, got {bad}"):
            scan(lambda h, x: 0.5 * h + ops.embedding(table, x), h, ids, compiled=mode)[0].numpy()


def test_a_token_that_is_fed_back_out_of_bounds(arguments):
    h, ids, weights = arguments
    step = lambda c, x: ((c[0], c[1] + 1), ops.embedding(weights[0], c[1]))  # noqa: E731
    for mode in (False, True):
        with pytest.raises(IndexError, match="ids must lie in 0 … 6, got 7"):
            scan(step, (h, ids[0] * 0 + 4), length=4, compiled=mode)


def test_bounds_are_in_the_key_of_a_plan(arguments):
    """Two steps with one graph: of the one negative ids are an error."""
    h, ids, (table, *_) = arguments
    below = ids * 0 - 1
    scan(lambda h, x: h + table[x], h, below, compiled=True)
    with pytest.raises(IndexError, match="ids must lie in"):
        scan(lambda h, x: h + ops.embedding(table, x), h, below, compiled=True)
    scan(lambda h, x: h + table[x], h, below, compiled=True)


# -- traces ------------------------------------------------------------------------------------------------------------


class TokenCell(GRUCell):
    """A GRU on tokens, with a table of its own."""

    def __init__(self, words, size):
        super().__init__(size, size, dtype="float64")
        self.table, self.offset = Embedding(words, size, dtype="float64"), Tensor(np.array([0, 1, 2]))

    @pure
    def step(self, h, ids):
        return super().step(h, self.table(ids) + ops.take(h, self.offset, axis=1)[:, :1])


def test_a_pure_step_sees_other_weights_and_other_indices(rng):
    cell, h = TokenCell(WORDS, WIDTH), Tensor(rng.standard_normal((BATCH, WIDTH)))
    ids = Tensor(rng.integers(0, WORDS, (LENGTH, BATCH)))
    for _ in range(2):
        outputs = [scan(cell.step, h, ids, compiled=compiled)[1].numpy() for compiled in (True, False, True)]
        assert_close(outputs[:2], outputs[1:])
        cell.offset.data[...] = [3, 2, 1]
        cell.table.W.data[...] *= 0.5
    cell.offset.data[...] = 4
    for compiled in (True, False):
        with pytest.raises(IndexError, match="4 is out of bounds for axis 1 with size 4"):
            scan(cell.step, h, ids, compiled=compiled)


def test_a_mask_says_what_to_write(arguments):
    h, ids, _ = arguments
    with pytest.raises(NotCompiledError, match=r"it selects by a mask.*np\.flatnonzero"), compiling(True):
        scan(lambda h, x: h + ops.sum(h[h > 0]), h, ids)
