"""Variable-length batches: every sequence must have the results that it has alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_case import STATES, assert_same, make_case, run_ours

from tinygrad_gru import Tensor, grad, nn, ops
from tinygrad_gru.scan import compiling
from tinygrad_gru.testing import gradcheck

LAYERS = {
    "RNN": ("RNN", {}),
    "GRU": ("GRU", {}),
    "GRU, reset after": ("GRU", {"reset_after": True}),
    "LSTM": ("LSTM", {}),
    "LSTM, projected": ("LSTM", {"proj_size": 2, "peephole": True}),
    "MGU, normalized": ("MGU", {"layer_norm": True}),
}
all_layers = pytest.mark.parametrize("name", LAYERS)


def make(name, *sizes, seed=1, **options):
    """A layer with random biases and initial states too."""
    kind, keywords = LAYERS[name]
    layer = getattr(nn, kind)(*sizes, **{"dtype": "float64", **keywords, **options})
    random = np.random.default_rng(seed)
    layer.load_state_dict({key: random.standard_normal(value.shape) for key, value in layer.state_dict().items()})
    return layer


def random(*shape, seed=0, **options):
    return Tensor(np.random.default_rng(seed).standard_normal(shape), **{"dtype": "float64", **options})


def parts(state):
    return state if isinstance(state, tuple) else (state,)


def numpy(state):
    return [part.numpy() for part in parts(state)]


def mask_of(lengths, steps):
    return np.arange(steps)[:, None] < np.asarray(lengths)


def run(layer, x, state, weight=None, **options):
    """Output, last state, and the gradients of x, of the state and of all parameters of a loss that uses it all."""
    x, state = Tensor(x, requires_grad=True), [Tensor(part, requires_grad=True) for part in state]
    output, last = layer(x, tuple(state) if len(state) > 1 else state[0], **options)
    weight = np.ones(output.shape) if weight is None else weight
    loss = (output * output * weight).sum() + sum((part * part).sum() for part in parts(last))
    layer.zero_grad()
    loss.backward()

    def gradients(tensors):  # where there was no step there is none
        return [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in tensors]

    return output.numpy(), numpy(last), gradients([x, *state]), gradients(layer.parameters())


# -- as if alone -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(sorted(LAYERS)),
    mask=st.integers(0, 4).flatmap(
        lambda steps: st.lists(st.lists(st.booleans(), min_size=steps, max_size=steps), min_size=1, max_size=3)
    ),
    num_layers=st.integers(1, 2),
    merge=st.sampled_from([None, "concat", "mean", "mul"]),
    compiled=st.booleans(),
    garbage=st.sampled_from([0.0, 7.0, np.nan, np.inf]),
)
def test_every_sequence_of_a_batch_equals_that_sequence_alone(name, mask, num_layers, merge, compiled, garbage):
    """Any mask: padding on the right, on the left, holes, none. And whatever x holds at padding."""
    options = {"num_layers": num_layers, "residual": num_layers > 1, "compiled": compiled}
    options |= {} if merge is None else {"bidirectional": True, "merge": merge}
    layer = make(name, 2, 3, **options)
    mask = np.array(mask, dtype=bool).T  # (T, B)
    steps, batch = mask.shape
    x = np.random.default_rng(2).standard_normal((steps, batch, 2))
    x[~mask] = garbage
    state = [np.random.default_rng(3).standard_normal(part.shape) for part in parts(layer.initial_state(batch))]
    output, last, inputs, parameters = run(layer, x, state, mask=mask)
    totals = [np.zeros_like(gradient) for gradient in parameters]
    for b in range(batch):
        there = mask[:, b]
        alone = run(layer, x[there, b : b + 1], [part[:, b : b + 1] for part in state])
        np.testing.assert_allclose(output[there, b], alone[0][:, 0], rtol=1e-11, atol=1e-13)
        assert not output[~there, b].any()
        for mine, theirs in zip(last, alone[1]):
            np.testing.assert_allclose(mine[:, b], theirs[:, 0], rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(inputs[0][there, b], alone[2][0][:, 0], rtol=1e-9, atol=1e-11)
        assert not inputs[0][~there, b].any()
        for mine, theirs in zip(inputs[1:], alone[2][1:]):
            np.testing.assert_allclose(mine[:, b], theirs[:, 0], rtol=1e-9, atol=1e-11)
        totals = [total + gradient for total, gradient in zip(totals, alone[3])]
    for mine, theirs in zip(parameters, totals):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-10)


@all_layers
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e300])
def test_padding_reaches_no_output_and_no_gradient(mode, name, garbage):
    layer, lengths = make(name, 2, 3, num_layers=2, bidirectional=True), [2, 0, 4]
    x = np.random.default_rng(0).standard_normal((4, 3, 2))
    state = [np.random.default_rng(3).standard_normal(part.shape) for part in parts(layer.initial_state(3))]
    clean = run(layer, np.where(mask_of(lengths, 4)[..., None], x, 0.0), state, lengths=lengths)
    dirty = run(layer, np.where(mask_of(lengths, 4)[..., None], x, garbage), state, lengths=lengths)
    for one, other in zip((*clean[1:], [clean[0]]), (*dirty[1:], [dirty[0]])):
        for mine, theirs in zip(one, other):
            np.testing.assert_array_equal(mine, theirs)


@all_layers
@pytest.mark.parametrize("past_end", ["zero", "nan", -7.5])
def test_a_cotangent_at_padding_reaches_no_gradient(mode, name, past_end):
    """A loss whose targets are padded with NaN has a NaN there times 0, which is NaN."""
    layer, x = make(name, 2, 3, bidirectional=True), random(4, 2, 2, requires_grad=True)
    targets = np.where(mask_of([2, 4], 4)[..., None], 1.0, np.nan)
    output, _ = layer(x, lengths=[2, 4], past_end=past_end)
    errors = (output - targets) * (output - targets)
    ops.where(mask_of([2, 4], 4)[..., None], errors, 0.0).sum().backward()
    assert all(np.isfinite(tensor.grad.numpy()).all() for tensor in (x, *layer.parameters()))
    assert x.grad.numpy()[:2, 0].all() and not x.grad.numpy()[2:, 0].any()


@all_layers
def test_gradients_equal_finite_differences(mode, name):
    layer = make(name, 2, 3, bidirectional=True)
    count = len(parts(layer.initial_state(1)))
    names, tensors = zip(*layer.named_parameters())

    def function(x, *rest):
        given = layer.with_tensors(dict(zip(names, rest[count:])))
        output, last = given(x, tuple(rest[:count]) if count > 1 else rest[0], lengths=[1, 3, 0])
        return output, *parts(last)

    states = [random(*part.shape, seed=k) for k, part in enumerate(parts(layer.initial_state(3)))]
    gradcheck(function, [random(3, 3, 2, seed=9), *states, *tensors])


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_packed_sequences_of_torch_give_the_same(kind, bidirectional, batch_first):
    peer = pytest.importorskip("peer_torch")
    options = {"num_layers": 3, "bidirectional": bidirectional, "batch_first": batch_first}
    case = make_case(kind, lengths=[2, 4, 1], **options)
    assert_same(run_ours(case), peer.run(case), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_sequence_lens_of_onnxruntime_give_the_same(kind, bidirectional):
    peer = pytest.importorskip("peer_onnxruntime")
    case = make_case(kind, lengths=[2, 4, 1], num_layers=2, bidirectional=bidirectional)
    assert_same(run_ours(case, dtype="float32"), peer.run(case), rtol=1e-5, atol=2e-6)


# -- ends and padding --------------------------------------------------------------------------------------------------


@all_layers
def test_the_last_state_is_that_of_each_sequence_and_the_reverse_direction_starts_at_its_end(name):
    layer, lengths = make(name, 2, 3, bidirectional=True), [2, 5, 1]
    output, last = layer(random(5, 3, 2), lengths=lengths)
    h, width = parts(last)[0].numpy(), layer.cells[0].output_size
    for b, length in enumerate(lengths):
        np.testing.assert_array_equal(h[0, b], output.numpy()[length - 1, b, :width])
        np.testing.assert_array_equal(h[1, b], output.numpy()[0, b, width:])
    alone, _ = layer(random(5, 3, 2)[:2, :1])
    np.testing.assert_allclose(output.numpy()[:2, 0], alone.numpy()[:, 0], rtol=1e-12)


@all_layers
def test_the_last_state_and_the_last_output_give_the_same_gradients(name):
    layer, lengths, weight = make(name, 2, 3), [2, 4], random(2, 3, seed=5)
    width, results = layer.output_size, []
    for by_state in (True, False):
        x = random(4, 2, 2, requires_grad=True)
        output, last = layer(x, lengths=lengths)
        h = parts(last)[0][0] if by_state else ops.stack([output[length - 1, b] for b, length in enumerate(lengths)])
        layer.zero_grad()
        (h * weight[:, :width]).sum().backward()
        results.append([x.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())])
    for mine, theirs in zip(*results):
        np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-14)


@all_layers
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_output_at_padding_is_that_of_past_end(mode, name, bidirectional):
    layer, x, lengths = make(name, 2, 3, bidirectional=bidirectional), random(5, 3, 2), [2, 5, 0]
    initial = tuple(random(*part.shape, seed=7) for part in parts(layer.initial_state(3)))
    state, there = initial if len(initial) > 1 else initial[0], mask_of(lengths, 5)
    outputs = {policy: layer(x, state, lengths, past_end=policy)[0].numpy() for policy in ("zero", "hold", "nan", -7.5)}
    for output in outputs.values():
        np.testing.assert_array_equal(output[there], outputs["zero"][there])
    assert not outputs["zero"][~there].any() and np.isnan(outputs["nan"][~there]).all()
    assert (outputs[-7.5][~there] == -7.5).all()
    held, h_0, width = outputs["hold"], initial[0].numpy(), layer.cells[0].output_size
    np.testing.assert_array_equal(held[2:, 0, :width], np.broadcast_to(held[1, 0, :width], (3, width)))
    np.testing.assert_array_equal(held[:, 2, :width], np.broadcast_to(h_0[0, 2], (5, width)))
    if bidirectional:  # which has read nothing yet past the end
        np.testing.assert_array_equal(held[2:, 0, width:], np.broadcast_to(h_0[1, 0], (3, width)))


def test_gradients_of_held_outputs_flow_to_the_state_they_hold():
    layer, x = make("GRU", 2, 3), random(4, 1, 2, requires_grad=True)
    layer(x, lengths=[2], past_end="hold")[0][1:].sum().backward()
    held = x.grad.numpy()
    x.zero_grad()
    (3 * layer(x, lengths=[2])[0][1]).sum().backward()
    np.testing.assert_allclose(held, x.grad.numpy(), rtol=1e-12)


@all_layers
@pytest.mark.parametrize("bidirectional", [False, True])
def test_sequences_without_steps_return_their_initial_state(name, bidirectional):
    layer = make(name, 2, 3, num_layers=2, bidirectional=bidirectional, learn_initial_state=True)
    given_state = tuple(random(*part.shape, seed=7) for part in parts(layer.initial_state(2)))
    for state in (None, given_state if len(given_state) > 1 else given_state[0]):
        x = random(3, 2, 2, requires_grad=True)
        output, last = layer(x, state, lengths=[0, 0])
        assert not output.numpy().any()
        for mine, theirs in zip(numpy(last), numpy(layer.initial_state(2) if state is None else state)):
            np.testing.assert_array_equal(mine, theirs)
        output.sum().backward()
        assert not x.grad.numpy().any()


@all_layers
@pytest.mark.parametrize("steps, batch", [(0, 2), (3, 0), (0, 0)])
def test_empty_batches_and_no_steps(device, name, steps, batch):
    layer = make(name, 2, 3, num_layers=2, bidirectional=True, device=device)
    x = Tensor(np.ones((steps, batch, 2)), requires_grad=True, device=device)
    for options in ({"lengths": [0] * batch}, {"mask": np.zeros((steps, batch), dtype=bool)}):
        for past_end in ("zero", "hold", "nan"):
            output, last = layer(x, **options, past_end=past_end)
            assert output.shape == (steps, batch, layer.output_size)
            assert [part.shape[1] for part in parts(last)] == [batch] * len(parts(last))
            if steps:
                (output.sum() + parts(last)[0].sum()).backward()


# -- types of lengths and masks ------------------------------------------------------------------------------------


@all_layers
def test_full_lengths_change_nothing(mode, name):
    layer, x = make(name, 2, 3, num_layers=2, bidirectional=True), np.random.default_rng(0).standard_normal((4, 3, 2))
    state = numpy(layer.initial_state(3))
    dense, full = run(layer, x, state), run(layer, x, state, lengths=[4, 4, 4])
    for one, other in zip((*dense[1:], [dense[0]]), (*full[1:], [full[0]])):
        for mine, theirs in zip(one, other):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-14)


def test_lengths_and_masks_of_every_type_give_the_same(device):
    layer, x = make("LSTM", 2, 3, device=device), random(4, 3, 2, device=device)
    lengths, mask = [2, 0, 4], mask_of([2, 0, 4], 4)
    expected = layer(x, lengths=lengths)[0].numpy()
    for options in (
        {"lengths": tuple(lengths)},
        {"lengths": np.array(lengths, dtype="int16")},
        {"lengths": np.array(lengths, dtype="uint8")},
        {"lengths": Tensor(np.array(lengths), device=device)},
        {"mask": mask},
        {"mask": mask.tolist()},
        {"mask": Tensor(mask, device=device)},
    ):
        np.testing.assert_array_equal(layer(x, **options)[0].numpy(), expected)
    np.testing.assert_array_equal(layer(x, None, lengths, None, "zero")[0].numpy(), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("lengths", [[2, 0, 4], [0, 0, 0]])
def test_padding_keeps_half_precision(dtype, lengths):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    layer = nn.GRU(2, 3, dtype=dtype)
    output, h = layer(np.ones((4, 3, 2)), lengths=lengths)
    output.sum().backward()
    assert {str(one.dtype) for one in (output, h, *(p.grad for p in layer.parameters()))} == {dtype}


def test_a_mask_of_pytorch():
    torch = pytest.importorskip("torch")
    layer, x, mask = make("GRU", 2, 3), random(4, 3, 2), mask_of([2, 0, 4], 4)
    np.testing.assert_array_equal(layer(x, mask=torch.tensor(mask))[0].numpy(), layer(x, mask=mask)[0].numpy())


@all_layers
def test_batch_first_exchanges_the_axes_of_the_mask_and_not_of_the_state(name):
    layer = make(name, 2, 3, num_layers=2, bidirectional=True)
    other = make(name, 2, 3, num_layers=2, bidirectional=True, batch_first=True)
    x, mask = random(5, 3, 2), np.random.default_rng(0).random((5, 3)) < 0.5
    for ours, theirs in (({"mask": mask}, {"mask": mask.T}), ({"lengths": [3, 0, 5]},) * 2):
        output, last = layer(x, **ours)
        swapped, last_swapped = other(x.moveaxis(0, 1), **theirs)
        np.testing.assert_array_equal(output.numpy(), swapped.numpy().swapaxes(0, 1))
        for one, two in zip(numpy(last), numpy(last_swapped)):
            np.testing.assert_array_equal(one, two)


def test_one_trace_serves_all_lengths_and_masks():
    layer, x = make("GRU", 2, 3), random(4, 3, 2)
    for seed in range(5):
        mask = np.random.default_rng(seed).random((4, 3)) < 0.5
        compiled = layer(x, mask=mask)[0].numpy()
        with compiling(False):
            np.testing.assert_allclose(compiled, layer(x, mask=mask)[0].numpy(), rtol=1e-12, atol=1e-14)


def zeros(*shape):
    return Tensor(np.zeros(shape, dtype="float32"))


@pytest.mark.parametrize(
    "shape, options, error, message",
    [
        ((5, 2, 3), {"lengths": [6, 1]}, ValueError, "lengths: expected 0 … 5, the steps of x, got 6 in row 0 .*cut"),
        ((5, 2, 3), {"lengths": [1, -1]}, ValueError, "lengths: expected 0 … 5, .* got -1 in row 1$"),
        ((5, 7, 3), {"lengths": [6, 1, 1, 1, 1, 1, 1]}, ValueError, r"got 6 in row 0 \(are the .* batch_first=True"),
        ((5, 2, 3), {"lengths": [5, 5, 1, 1, 1]}, ValueError, r"expected \(batch,\) = \(2,\), .*batch_first=True"),
        ((5, 2, 3), {"lengths": [1, 2, 3]}, ValueError, "lengths of another batch, such as a last, shorter one"),
        ((5, 2, 3), {"lengths": 3}, ValueError, r"got \(\) \(one number per sequence"),
        ((5, 2, 3), {"lengths": [1.0, 2.0]}, TypeError, "lengths: expected integers, got float64"),
        ((5, 2, 3), {"lengths": [True, False]}, TypeError, "lengths: expected integers, got booleans .*mask"),
        ((5, 2, 3), {"mask": np.ones((2, 5), bool)}, ValueError, r"mask: expected \(time, batch\) = .* exchanged"),
        ((5, 2, 3), {"mask": np.ones((5, 2, 1), bool)}, ValueError, "without the last axis"),
        ((5, 2, 3), {"mask": np.ones((5, 4), bool)}, ValueError, "mask of another batch"),
        ((5, 2, 3), {"mask": np.ones((5, 2))}, TypeError, r"mask: expected booleans, .* got float64 \(mask != 0\?\)"),
        ((5, 2, 3), {"mask": np.ones((5, 2), bool), "lengths": [1, 2]}, ValueError, "give one of them"),
        (
            (5, 2, 3),
            {"lengths": [1, 2], "past_end": "last"},
            ValueError,
            "past_end: expected one of 'zero', 'hold', 'nan', or a number, got 'last'",
        ),
        ((5, 2, 3), {"lengths": [1, 2], "past_end": True}, ValueError, "or a number, got True"),
    ],
)
def test_invalid_lengths_masks_and_past_end_raise(shape, options, error, message):
    with pytest.raises(error, match=message):
        nn.GRU(3, 4)(zeros(*shape), **options)


def test_error_messages_show_the_batch_first_layout():
    layer = nn.GRU(3, 4, batch_first=True)
    with pytest.raises(ValueError, match=r"mask: expected \(batch, time\) = \(2, 5\), got \(5, 2\)"):
        layer(zeros(2, 5, 3), mask=np.ones((5, 2), bool))
    with pytest.raises(ValueError, match=r"batch_first=False"):
        layer(zeros(2, 5, 3), lengths=[1, 1, 1, 1, 1])


# -- cells whose outputs are not their state ------------------------------------------------------------------------


class Echo(nn.Cell):
    """h' = h + x W, y = 2 h' + 1"""

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.W = self.new_W()

    def step(self, h, x):
        h = h + x @ self.W
        return h, 2 * h + 1


def test_outputs_other_than_the_state_are_masked_but_cannot_be_held(mode):
    layer, x = nn.Recurrent.of(Echo)(2, 3, zoneout=0.5).eval(), Tensor(np.ones((4, 2, 2), dtype="float32"))
    output, last = layer(x, lengths=[2, 4])
    assert not output.numpy()[2:, 0].any()
    h = x.numpy()[0, 0] @ layer.cells[0].W.numpy()
    np.testing.assert_allclose(output.numpy()[:2, 0], [2 * h + 1, 3 * h + 1], rtol=1e-5)
    np.testing.assert_allclose(last.numpy()[0, 0], h, rtol=1e-5)
    with pytest.raises(ValueError, match="past_end='hold' holds the state, which is not the output of Echo"):
        layer(x, lengths=[2, 4], past_end="hold")


def test_every_state_structure_is_covered():
    assert {kind for kind, _ in LAYERS.values()} == set(STATES)


# -- singular points -------------------------------------------------------------------------------------------------

SINGULAR = {
    "direction": lambda x: x / ops.sqrt((x * x).sum(axis=-1, keepdims=True)),
    "log": lambda x: ops.log(x * x),
    "inverse": lambda x: 1 / x,
    "root": lambda x: ops.sqrt(ops.absolute(x)),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2}, {"reverse": True}], ids=str)
@pytest.mark.parametrize("name", SINGULAR)
def test_a_cell_may_be_singular_where_padding_is(name, options, compiled):
    """Zeros, infinities and NaN in the padding: gradients are those of every sequence by itself."""

    class Singular(nn.Cell):
        def __init__(self, *sizes, **others):
            super().__init__(*sizes, **others)
            self.W, self.U = self.new_W(), self.new_U()

        def step(self, h, x):
            return 0.3 + ops.sigmoid(SINGULAR[name](x) @ self.W + h @ self.U)

    layer = nn.Recurrent.of(Singular)(2, 2, dtype="float64", compiled=compiled, **options)
    random, lengths = np.random.default_rng(0), [3, 0, 1]
    array = random.standard_normal((4, 3, 2))
    weights = random.standard_normal((4, 3, layer.output_size))
    expected = [0.0 for _ in layer.parameters()]
    of_x = np.zeros(array.shape)
    for row, length in enumerate(lengths):
        if length:
            x = Tensor(array[:length, row : row + 1], requires_grad=True)
            loss = (layer(x)[0] * weights[:length, row : row + 1]).sum()
            found = grad(loss, [x, *layer.parameters()])
            of_x[:length, row : row + 1] = found[0].numpy()
            expected = [e + g.numpy() for e, g in zip(expected, found[1:])]
    for filler in (0.0, np.inf, np.nan):
        for row, length in enumerate(lengths):
            array[length:, row] = filler
        x = Tensor(array, requires_grad=True)
        found = grad((layer(x, lengths=lengths)[0] * weights).sum(), [x, *layer.parameters()])
        for one, right in zip(found, [of_x, *expected]):
            np.testing.assert_allclose(one.numpy(), right, rtol=1e-10, atol=1e-12)


def test_a_batch_of_padding_alone_has_finite_gradients():
    layer = nn.Recurrent.of(type("Log", (nn.Cell,), {"step": lambda self, h, x: h + ops.log(x) @ self.W}))(2, 2)
    for cell in layer.cells:
        cell.W = cell.new_W()
    x = Tensor(np.full((2, 3, 2), np.nan, "float32"), requires_grad=True)
    y, h = layer(x, lengths=[0, 0, 0])
    assert not y.numpy().any() and not h.numpy().any()
    found = grad(y.sum() + h.sum(), [x, layer.cells[0].W])
    assert not any(g.numpy().any() for g in found)
