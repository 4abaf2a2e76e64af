import json
import pickle
from copy import copy
from math import exp, tanh
from pathlib import Path

import numpy as np
import pytest
from recurrent_case import STATES, assert_same, make_case, run_ours

from tinygrad_gru import (
    AnomalyError,
    TapeError,
    Tensor,
    checkpoint,
    detect_anomaly,
    manual_seed,
    nn,
    no_grad,
    ops,
    tape,
)
from tinygrad_gru.scan import compiling
from tinygrad_gru.testing import gradcheck, gradgradcheck
from tinygrad_gru.trees import map_leaves

LAYERS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}
FROZEN = json.loads(Path(__file__).with_name("frozen.json").read_text())["cases"]

all_layers = pytest.mark.parametrize("kind", LAYERS)
one_or_both_directions = pytest.mark.parametrize("bidirectional", [False, True])


@pytest.fixture
def peer_torch():
    return pytest.importorskip("peer_torch")


@pytest.fixture
def peer_onnxruntime():
    return pytest.importorskip("peer_onnxruntime")


def random(*shape, seed=0, **options):
    return Tensor(np.random.default_rng(seed).standard_normal(shape), **{"dtype": "float64", **options})


def parts(state):
    return state if isinstance(state, tuple) else (state,)


def whole(parts):
    return tuple(parts) if len(parts) > 1 else parts[0]


def make(kind, *sizes, **settings):
    """A layer with random biases and initial states too."""
    layer = LAYERS[kind](*sizes, **{"dtype": "float64", **settings})
    generator = np.random.default_rng(1)
    state = {name: generator.standard_normal(value.shape) for name, value in layer.state_dict().items()}
    layer.load_state_dict(state)
    return layer


def gradients(loss, *tensors):
    for tensor in tensors:
        tensor.zero_grad()
    loss.backward()
    return [tensor.grad.numpy() for tensor in tensors]


def assert_all_close(ours, theirs, **tolerance):
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs):
        np.testing.assert_allclose(one, other, **{"rtol": 1e-11, "atol": 1e-13, **tolerance})


# -- against peers -------------------------------------------------------------------------------------------------


@all_layers
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@one_or_both_directions
@pytest.mark.parametrize("batch_first", [False, True])
def test_values_and_all_gradients_equal_those_of_torch(
    peer_torch, device, mode, kind, num_layers, bidirectional, batch_first
):
    case = make_case(kind, num_layers=num_layers, bidirectional=bidirectional, batch_first=batch_first)
    theirs = peer_torch.run(case)
    per_cell = {"RNN": 3, "GRU": 9, "LSTM": 12}[kind]
    assert sum(name.startswith("d cells.") for name in theirs) == per_cell * num_layers * (bidirectional + 1)
    assert_same(run_ours(case, device), theirs, rtol=1e-11, atol=1e-13)


@all_layers
def test_values_and_all_gradients_without_biases_equal_those_of_torch(peer_torch, device, kind):
    case = make_case(kind, bias=False, num_layers=2)
    assert not any(".b" in name for name in case["parameters"])
    assert_same(run_ours(case, device), peer_torch.run(case), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize("num_layers", [1, 2])
@one_or_both_directions
@pytest.mark.parametrize("batch_first", [False, True])
def test_values_equal_those_of_onnxruntime(peer_onnxruntime, device, kind, num_layers, bidirectional, batch_first):
    case = make_case(kind, steps=6, num_layers=num_layers, bidirectional=bidirectional, batch_first=batch_first)
    assert_same(run_ours(case, device, "float32"), peer_onnxruntime.run(case), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("case", FROZEN, ids=[f"{c['layer']} by {c['peer']}, {c['settings']}" for c in FROZEN])
def test_values_and_gradients_equal_the_frozen_ones(device, mode, case):
    tolerance = {"rtol": 1e-9, "atol": 1e-12} if case["peer"] == "torch" else {"rtol": 1e-5, "atol": 2e-6}
    assert_same(run_ours(case, device), case["result"], **tolerance)


def test_the_frozen_cases_cover_every_layer_and_its_gradients():
    covered = {(case["layer"], name.split(".")[0]) for case in FROZEN for name in case["result"]}
    assert covered >= {(kind, name) for kind in LAYERS for name in ("output", "d x", "d cells", "d h")}
    with_lengths = {(case["peer"], *case["settings"]) for case in FROZEN if case["lengths"]}
    assert with_lengths >= {("torch", "reset_after", "bidirectional"), ("onnxruntime", "peephole", "bidirectional")}


def test_gru_equals_its_equations_in_scalar_python(device):
    """Python scalars, in the vector notation of the paper: W x + U h + b."""
    case = make_case("GRU", steps=4, batch=2, inputs=3, hidden=2)
    p = {name.removeprefix("cells.0."): value.T.tolist() for name, value in case["parameters"].items()}
    expected = np.empty((4, 2, 2))
    for b in range(2):
        h = case["state"]["h"][0, b].tolist()
        for t in range(4):
            x = case["x"][t, b].tolist()

            def affine(gate, j, state, x=x):
                W, U, bias = p[f"W_{gate}"][j], p[f"U_{gate}"][j], p[f"b_{gate}"][j]
                return sum(w * v for w, v in zip(W, x)) + sum(u * v for u, v in zip(U, state)) + bias

            reset = [h[j] / (1 + exp(-affine("r", j, h))) for j in range(2)]
            z = [1 / (1 + exp(-affine("z", j, h))) for j in range(2)]
            h = [(1 - z[j]) * h[j] + z[j] * tanh(affine("h", j, reset)) for j in range(2)]
            expected[t, b] = h
    ours = run_ours(case, device)
    np.testing.assert_allclose(ours["output"], expected, rtol=1e-13)
    np.testing.assert_allclose(ours["h"][0], expected[-1], rtol=1e-13)


@all_layers
@one_or_both_directions
def test_gradients_equal_finite_differences_to_second_order(mode, kind, bidirectional):
    layer = make(kind, 2, 2, num_layers=2, bidirectional=bidirectional)
    names, tensors = zip(*layer.named_parameters())

    def run(x, *rest):
        state, parameters = rest[: len(STATES[kind])], rest[len(STATES[kind]) :]
        output, last = layer.with_tensors(dict(zip(names, parameters)))(x, whole(state))
        return output, *parts(last)

    states = [random(2 * (bidirectional + 1), 2, 2, seed=k) for k in range(len(STATES[kind]))]
    gradcheck(run, [random(3, 2, 2, seed=9), *states, *tensors])
    gradgradcheck(run, [random(2, 2, 2, seed=9), *states, *tensors], rtol=1e-5, atol=1e-7)


# -- states ----------------------------------------------------------------------------------------------------------


@all_layers
@one_or_both_directions
def test_the_default_state_is_zeros(kind, bidirectional):
    layer, x = make(kind, 3, 4, num_layers=2, bidirectional=bidirectional), random(5, 2, 3, requires_grad=True)
    zeros = whole([Tensor(np.zeros((2 * (bidirectional + 1), 2, 4)))] * len(STATES[kind]))
    results = []
    for state in (None, zeros, layer.initial_state(2)):
        output, last = layer(x, state)
        loss = (output * output).sum() + sum(part.sum() for part in parts(last))
        results.append([output.numpy(), *map(Tensor.numpy, parts(last)), *gradients(loss, x, *layer.parameters())])
    assert_all_close(results[0], results[1], rtol=0, atol=0)
    assert_all_close(results[0], results[2], rtol=0, atol=0)


@all_layers
def test_the_last_state_is_that_after_each_directions_last_step(kind):
    layer, x = make(kind, 3, 4, num_layers=2, bidirectional=True), random(5, 2, 3)
    output, last = layer(x)
    h = parts(last)[0].numpy()
    assert h.shape == (4, 2, 4)
    np.testing.assert_array_equal(h[2], output.numpy()[-1, :, :4])
    np.testing.assert_array_equal(h[3], output.numpy()[0, :, 4:])


@all_layers
def test_the_last_state_and_the_output_give_the_same_gradients(kind):
    layer, x = make(kind, 3, 4, bidirectional=True), random(5, 2, 3, requires_grad=True)
    weight = random(2, 2, 4, seed=3)
    output, last = layer(x)
    by_state = gradients((parts(last)[0] * weight).sum(), x, *layer.parameters())
    output, _ = layer(x)
    loss = (output[-1, :, :4] * weight[0]).sum() + (output[0, :, 4:] * weight[1]).sum()
    assert_all_close(by_state, gradients(loss, x, *layer.parameters()))


@all_layers
def test_the_reverse_direction_equals_a_forward_pass_over_the_reversed_sequence(kind):
    layer, x = make(kind, 3, 4, bidirectional=True), random(5, 2, 3)
    single = make(kind, 3, 4)
    single.cells[0].load_state_dict(layer.cells[1].state_dict())
    backward, _ = single(ops.flip(x, axis=0))
    np.testing.assert_array_equal(layer(x)[0].numpy()[:, :, 4:], backward.numpy()[::-1])


@all_layers
@pytest.mark.parametrize("lengths", [None, [5, 2, 0]], ids=["dense", "lengths"])
def test_reverse_equals_the_second_direction_of_a_bidirectional_layer(mode, kind, lengths):
    both, one, x = make(kind, 3, 4, bidirectional=True), make(kind, 3, 4, reverse=True), random(5, 3, 3)
    one.cells[0].load_state_dict(both.cells[1].state_dict())
    (output, last), (backward, reversed_last) = both(x, lengths=lengths), one(x, lengths=lengths)
    np.testing.assert_allclose(backward.numpy(), output.numpy()[..., 4:], rtol=1e-12)
    for part, expected in zip(parts(reversed_last), parts(last)):
        np.testing.assert_allclose(part.numpy()[0], expected.numpy()[1], rtol=1e-12)


@all_layers
def test_passing_the_state_continues_a_sequence(kind):
    layer, x = make(kind, 3, 4, num_layers=2), random(6, 2, 3)
    output, last = layer(x)
    first, state = layer(x[:4])
    second, state = layer(x[4:], state)
    np.testing.assert_array_equal(np.concatenate([first.numpy(), second.numpy()]), output.numpy())
    assert_all_close([part.numpy() for part in parts(state)], [part.numpy() for part in parts(last)], atol=0)


@all_layers
def test_truncated_backpropagation_sums_the_gradients_of_its_windows(kind):
    layer, x = make(kind, 3, 4, num_layers=2), random(6, 2, 3)
    parameters, weight = list(layer.parameters()), random(6, 2, 4, seed=5)

    def loss(start, state):
        output, last = layer(x[start : start + 3], state)
        return (output * weight[start : start + 3]).sum(), last

    first, last = loss(0, None)
    second, _ = loss(3, whole([part.detach() for part in parts(last)]))
    truncated = gradients(first + second, *parameters)

    constants = whole([Tensor(part.numpy()) for part in parts(last)])
    windows = [gradients(loss(0, None)[0], *parameters), gradients(loss(3, constants)[0], *parameters)]
    assert_all_close(truncated, [a + b for a, b in zip(*windows)])

    carried, last = loss(0, None)
    full = gradients(carried + loss(3, last)[0], *parameters)
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(truncated, full)), "nothing was cut"


@all_layers
@pytest.mark.parametrize("batch_first", [False, True])
def test_learned_initial_states_get_gradients(kind, batch_first):
    layer = make(kind, 3, 4, num_layers=2, bidirectional=True, batch_first=batch_first, learn_initial_state=True)
    names = [name for name, _ in layer.named_parameters() if name.endswith("_0")]
    assert names == [f"cells.{cell}.{state}_0" for cell in range(4) for state in STATES[kind]]
    learned = [dict(layer.named_parameters())[name] for name in names]
    x = random(2, 5, 3) if batch_first else random(5, 2, 3)

    def loss(state):
        output, last = layer(x, state)
        return (output * output).sum() + sum(part.sum() for part in parts(last))

    ours = gradients(loss(None), *learned)

    def given(state):  # (4, 4) to (4, B, 4)
        values = np.stack([tensor.numpy() for name, tensor in zip(names, learned) if name.endswith(f"{state}_0")])
        return Tensor(np.stack([values] * 2, axis=1), requires_grad=True)

    explicit = [given(state) for state in STATES[kind]]
    assert loss(None).item() == loss(whole(explicit)).item()
    per_row = gradients(loss(whole(explicit)), *explicit)
    sums = [gradient.sum(axis=1) for gradient in per_row]
    assert_all_close(ours, [sums[STATES[kind].index(name[-3])][int(name.split(".")[1])] for name in names])


@all_layers
def test_learned_initial_states_start_at_zero(kind):
    layer = LAYERS[kind](3, 4, learn_initial_state=True)
    assert all(not value.any() for name, value in layer.state_dict().items() if name.endswith("_0"))


# -- lengths and batches of every size -------------------------------------------------------------------------------


@all_layers
@one_or_both_directions
@pytest.mark.parametrize("steps, batch", [(0, 2), (3, 0), (0, 0), (1, 1)])
def test_empty_and_single_sequences(device, kind, bidirectional, steps, batch):
    layer = make(kind, 3, 4, num_layers=2, bidirectional=bidirectional, device=device)
    x = Tensor(np.ones((steps, batch, 3)), requires_grad=True, device=device)
    state = [Tensor(np.full((2 * (bidirectional + 1), batch, 4), 0.5), device=device) for _ in STATES[kind]]
    output, last = layer(x, whole(state))
    assert output.shape == (steps, batch, 4 * (bidirectional + 1))
    if steps == 0:
        assert_all_close([part.numpy() for part in parts(last)], [part.numpy() for part in state])
    else:
        found = gradients(output.sum() + parts(last)[0].sum(), x, *layer.parameters())
        assert found[0].shape == x.shape
        assert all(np.isfinite(gradient).all() and gradient.any() == (batch > 0) for gradient in found)


@all_layers
def test_batch_first_exchanges_the_axes_of_x_and_of_the_output_alone(kind):
    layer = make(kind, 3, 4, num_layers=2, bidirectional=True)
    other = make(kind, 3, 4, num_layers=2, bidirectional=True, batch_first=True)
    x, state = random(5, 2, 3), [random(4, 2, 4, seed=k) for k in range(len(STATES[kind]))]
    output, last = layer(x, whole(state))
    output_swapped, same_last = other(x.moveaxis(0, 1), whole(state))
    np.testing.assert_array_equal(output_swapped.numpy(), output.numpy().swapaxes(0, 1))
    for ours, theirs in zip(parts(same_last), parts(last)):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert [p.shape for p in parts(other.initial_state(7))] == [(4, 7, 4)] * len(STATES[kind])


def test_x_may_be_an_array():
    x = np.ones((5, 2, 3), dtype="float32")
    layer = nn.GRU(3, 4)
    np.testing.assert_allclose(layer(x)[0].numpy(), layer(Tensor(x))[0].numpy(), rtol=1e-6)


@all_layers
def test_nothing_becomes_float64(device, kind):
    layer = LAYERS[kind](3, 4, num_layers=2, bidirectional=True, dropout=0.5, device=device)
    x = Tensor(np.ones((5, 2, 3), dtype="float32"), requires_grad=True, device=device)
    output, last = layer(x)
    output.sum().backward()
    assert {t.dtype for t in (output, *parts(last), x.grad, *(p.grad for p in layer.parameters()))} == {
        np.dtype("float32")
    }


@all_layers
def test_no_grad_records_nothing(kind):
    layer = LAYERS[kind](3, 4)
    with no_grad():
        output, last = layer(Tensor(np.ones((5, 2, 3), dtype="float32")))
    assert not output.requires_grad and not any(part.requires_grad for part in parts(last))


def test_in_eager_mode_the_tape_shows_every_step():
    layer, x = nn.GRU(3, 4), Tensor(np.ones((5, 2, 3), dtype="float32"))
    with compiling(False):
        records = tape(layer(x)[0])
    assert sum(record.op is ops.tanh for record in records) == 5
    assert repr(records).count("GRUCell.U_h") == 5


# -- merge, residual, compiled, checkpoint_every -----------------------------------------------------------------------


MERGED = {
    "concat": lambda a, b: np.concatenate([a, b], axis=-1),
    "sum": np.add,
    "mul": np.multiply,
    "mean": lambda a, b: (a + b) / 2,
}


@all_layers
@pytest.mark.parametrize("merge", MERGED)
@pytest.mark.parametrize("residual", [False, True])
def test_merge_and_residual(mode, kind, merge, residual):
    layer = make(kind, 3, 4, num_layers=3, bidirectional=True, merge=merge, residual=residual)
    x, width = random(5, 2, 3), 8 if merge == "concat" else 4
    assert [cell.input_size for cell in layer.cells] == [3, 3, width, width, width, width]
    output, last = layer(x)
    assert output.shape == (5, 2, width) and layer.output_size == width
    y, lasts = x.numpy(), []
    for k in range(3):
        single = make(kind, y.shape[-1], 4, bidirectional=True)
        for direction in range(2):
            single.cells[direction].load_state_dict(layer.cells[2 * k + direction].state_dict())
        both, state = single(Tensor(y))
        merged = MERGED[merge](both.numpy()[..., :4], both.numpy()[..., 4:])
        y = merged + y if residual and k else merged
        lasts.append([part.numpy() for part in parts(state)])
    np.testing.assert_allclose(output.numpy(), y, rtol=1e-12)
    assert_all_close([part.numpy() for part in parts(last)], [np.concatenate(part) for part in zip(*lasts)])


def test_a_residual_layer_adds_its_input_from_before_dropout():
    layer, x = make("GRU", 3, 4, num_layers=2, dropout=0.5, residual=True), random(5, 2, 3)
    below, above = make("GRU", 3, 4), make("GRU", 4, 4)
    for k, single in enumerate((below, above)):
        single.cells[0].load_state_dict(layer.cells[k].state_dict())
    manual_seed(4)
    output = layer(x)[0].numpy()
    manual_seed(4)
    y = below(x)[0]
    np.testing.assert_allclose(output, (above(ops.dropout(y, p=0.5))[0] + y).numpy(), rtol=1e-13)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_checkpoint_every_gives_the_same_gradients(kind):
    layer, sparing = (make(kind, 3, 4, bidirectional=True, checkpoint_every=k) for k in (None, 3))
    x, results = random(8, 2, 3, requires_grad=True), []
    for one in (layer, sparing):
        output, _ = one(x, lengths=[8, 4])
        results.append([output.numpy(), *gradients((output * output).sum(), x, *one.parameters())])
    assert_all_close(*results)
    assert "checkpoint_every=3" in repr(sparing)


@pytest.mark.parametrize("compiled", [False, True, None])
def test_compiled_of_a_layer_overrides_the_default(compiled):
    layer = make("GRU", 3, 4, compiled=compiled)
    records = tape(layer(random(5, 2, 3))[0])
    assert (sum(record.op is ops.tanh for record in records) == 5) == (compiled is False)


def test_repr_shows_settings_that_differ_from_the_default():
    layer = nn.GRU(3, 4, num_layers=2, bidirectional=True, merge="sum", residual=True, dropout=0.1, batch_first=True,
                   compiled=False, bias=False)  # fmt: skip
    assert repr(layer).splitlines()[0] == (
        "GRU(3, 4, num_layers=2, bidirectional=True, merge='sum', residual=True, dropout=0.1, batch_first=True, "
        "compiled=False, bias=False)  360 parameters"
    )
    assert repr(nn.LSTM(3, 4)).splitlines()[0] == "LSTM(3, 4)  128 parameters"
    assert repr(nn.GRU(3, 4, reverse=True, input_dropout=0.2)).startswith("GRU(3, 4, reverse=True, input_dropout=0.2)")


# -- dropout ---------------------------------------------------------------------------------------------------------


@all_layers
def test_dropout_acts_between_layers_and_not_after_the_last(kind):
    layer, x = make(kind, 3, 4, num_layers=3, bidirectional=True, dropout=0.5), random(5, 2, 3)
    sizes = [3, 8, 8]
    apart = [make(kind, size, 4, bidirectional=True) for size in sizes]
    for k, single in enumerate(apart):
        for direction in range(2):
            single.cells[direction].load_state_dict(layer.cells[2 * k + direction].state_dict())
    manual_seed(4)
    output = layer(x)[0]
    manual_seed(4)
    y = apart[0](x)[0]
    for single in apart[1:]:
        y = single(ops.dropout(y, p=0.5))[0]
    np.testing.assert_array_equal(output.numpy(), y.numpy())
    assert np.all(output.numpy() != 0)


def test_dropout_is_sampled_at_every_call_and_is_off_in_evaluation():
    layer, x = make("GRU", 3, 4, num_layers=2, dropout=0.5), random(5, 2, 3)
    manual_seed(0)
    first, second = layer(x)[0].numpy(), layer(x)[0].numpy()
    manual_seed(0)
    assert np.all(first[0] == layer(x)[0].numpy()[0]) and not np.array_equal(first, second)
    layer.eval()
    reference = make("GRU", 3, 4, num_layers=2)
    np.testing.assert_array_equal(layer(x)[0].numpy(), reference(x)[0].numpy())


@all_layers
def test_input_dropout_drops_the_same_features_at_all_steps(kind):
    layer, x = make(kind, 3, 4, num_layers=2, bidirectional=True, input_dropout=0.5), random(5, 2, 3)
    apart = [make(kind, size, 4, reverse=direction == 1) for size in (3, 8) for direction in range(2)]
    for single, cell in zip(apart, layer.cells, strict=True):
        single.cells[0].load_state_dict(cell.state_dict())
    manual_seed(4)
    output = layer(x)[0]
    manual_seed(4)
    y = x
    for pair in (apart[:2], apart[2:]):
        masks = [ops.dropout(Tensor(np.ones((1, *y.shape[1:]))), p=0.5) for _ in pair]
        assert all(set(np.unique(mask.numpy())) == {0.0, 2.0} for mask in masks)
        y = ops.concatenate([single(y * mask)[0] for single, mask in zip(pair, masks)], axis=-1)
    np.testing.assert_array_equal(output.numpy(), y.numpy())
    layer.eval()
    reference = make(kind, 3, 4, num_layers=2, bidirectional=True)
    np.testing.assert_array_equal(layer(x)[0].numpy(), reference(x)[0].numpy())


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"num_layers": 0}, "num_layers: expected a positive integer, got 0"),
        ({"hidden_size": 0}, "hidden_size: expected a positive integer, got 0"),
        ({"input_size": 2.5}, "input_size: expected a positive integer, got 2.5"),
        ({"dropout": 1.0, "num_layers": 2}, "dropout: expected a probability"),
        ({"dropout": 0.5}, "dropout acts between layers"),
        ({"residual": True}, "residual acts from the second layer on"),
        ({"input_dropout": 1.0}, "input_dropout: expected a probability"),
        ({"reverse": True, "bidirectional": True}, "reverse is for a layer of one direction"),
        ({"merge": "sum"}, "merge: expected one of concat, sum, mul, mean, with bidirectional=True, got 'sum'"),
        ({"merge": "ave", "bidirectional": True}, "merge: expected one of concat, sum, mul, mean, .* got 'ave'"),
    ],
)
def test_invalid_settings_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        nn.GRU(**{"input_size": 3, "hidden_size": 4, **settings})


@pytest.mark.parametrize(
    "batch_first, shape, message",
    [
        (False, (5, 3), r"GRU: expected x \(time, batch, input_size\) with input_size 3, got shape \(5, 3\)"),
        (True, (5, 3), r"GRU: expected x \(batch, time, input_size\) with input_size 3, got shape \(5, 3\)"),
        (False, (5, 2, 4), r"with input_size 3, got shape \(5, 2, 4\)"),
        (False, (1, 5, 2, 3), r"got shape \(1, 5, 2, 3\)"),
        (False, (), r"got shape \(\)"),
        (False, (5, 3), r"an axis is missing: time \(x\[None\]\) or batch \(x\[:, None\]\)"),
        (True, (5, 3), r"an axis is missing: batch \(x\[None\]\) or time \(x\[:, None\]\)"),
        (False, (5, 2), "token ids need an Embedding first"),
        (False, (3, 5, 2), "axis 0 has that size: are the axes in another order"),
        (False, (5, 2, 6), "twice the size: both directions of a layer before it, joined"),
    ],
)
def test_an_input_of_another_shape_raises(batch_first, shape, message):
    with pytest.raises(ValueError, match=message):
        nn.GRU(3, 4, batch_first=batch_first)(Tensor(np.zeros(shape, dtype="float32")))


@pytest.mark.parametrize(
    "dtype, message",
    [
        (
            "float64",
            r"x is a Tensor of float64, the weights are float32: write x\.astype\('float32'\), or .* dtype='float64'",
        ),
        ("int64", r"x is int64, the weights are float32: write x\.astype\('float32'\) .*Embedding"),
    ],
)
def test_a_tensor_of_another_dtype_raises(dtype, message):
    with pytest.raises(TypeError, match=message):
        nn.GRU(3, 4)(Tensor(np.ones((5, 2, 3)), dtype=dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", ["float16", "float32", "float64"])
def test_arrays_are_data_of_the_dtype_and_device_of_the_weights(device, dtype, given):
    layer, x = nn.GRU(3, 4, dtype=dtype, device=device), np.ones((5, 2, 3), given)
    output, _ = layer(x)
    assert (output.dtype, output.device) == (layer.cells[0].W_r.dtype, layer.cells[0].W_r.device)
    np.testing.assert_array_equal(output.numpy(), layer(Tensor(x, dtype=dtype, device=device))[0].numpy())
    assert np.array_equal(layer(x.tolist())[0].numpy(), output.numpy())


@pytest.mark.parametrize(
    "x, error, message",
    [
        (np.ones((5, 2, 3), int), TypeError, r"x is int64, the weights are float32: write x\.astype\('float32'\)"),
        ([[["a"]]], TypeError, r"GRU: x must be a Tensor or an array of numbers, got list \(<U1\)"),
        (None, TypeError, "x must be a Tensor or an array of numbers, got NoneType"),
        (
            [np.ones((5, 3)), np.ones((2, 3))],
            ValueError,
            r"list of arrays of different shapes; .* data\.pad_sequence\(x\), and lengths=",
        ),
        ((Tensor(1.0), Tensor(1.0)), TypeError, r"tuple of Tensor, Tensor; .* output, state = layer\(x\)"),
    ],
)
def test_what_is_no_data_raises(x, error, message):
    with pytest.raises(error, match=message):
        nn.GRU(3, 4)(x)


def zeros(*shape):
    return Tensor(np.zeros(shape, dtype="float32"))


@pytest.mark.parametrize(
    "settings, shape, message",
    [
        (
            {},
            (1, 1, 4),
            r"state h: expected \(layers·directions, batch, hidden\) = \(1, 2, 4\), got \(1, 1, 4\) .*another batch",
        ),
        ({}, (1, 3, 4), r"got \(1, 3, 4\) \(the state of another batch"),
        ({}, (2, 1, 4), r"first two axes are exchanged: state\.moveaxis\(0, 1\)"),
        ({}, (1, 5, 4), r"the first two axes of x are exchanged: batch_first=True\?"),
        ({"batch_first": True}, (1, 5, 4), r"\(layers·directions, batch, hidden\) = \(1, 2, 4\), .*another batch"),
        ({"batch_first": True}, (1, 6, 4), r"the first two axes of x are exchanged: batch_first=False\?"),
        ({"batch_first": True}, (2, 1, 4), r"state\.moveaxis\(0, 1\); batch_first is for x and the output alone"),
        ({}, (2, 4), r"the axis of layers and directions is missing: state\[None\]"),
        ({"num_layers": 2}, (2, 4), "the axis of layers and directions is missing: ops.stack of 2 such"),
        ({}, (4,), r"the axis of layers and directions is missing\?"),
        ({"num_layers": 2, "bidirectional": True}, (2, 2, 4), r"= \(4, 2, 4\), got .* with one direction, or of fewer"),
        ({"num_layers": 2}, (4, 2, 4), r"= \(2, 2, 4\), got \(4, 2, 4\) .* with two directions"),
        ({"num_layers": 3}, (2, 2, 4), "3 layers times 1 direction are 3 states"),
        ({"num_layers": 3}, (2, 5, 5), "of another batch, or of another layer"),
        ({}, (1, 32, 4), "the state of another batch, such as the one before a last, shorter one"),
        ({}, (1, 2, 5), r"got \(1, 2, 5\)"),
    ],
)
def test_a_state_of_another_shape_is_never_broadcast(settings, shape, message):
    x = zeros(2, 6, 3) if settings.get("batch_first") else zeros(5, 2, 3)
    with pytest.raises(ValueError, match=message):
        nn.GRU(3, 4, **settings)(x, zeros(*shape))
    with pytest.raises(ValueError, match="state c"):
        good = nn.LSTM(3, 4, **settings).initial_state(2)[0]
        nn.LSTM(3, 4, **settings)(x, (good, zeros(*shape)))


@pytest.mark.parametrize(
    "kind, state, message",
    [
        ("GRU", (zeros(1, 2, 4), zeros(1, 2, 4)), "state: GRU needs a tensor, got tuple of Tensor, Tensor"),
        ("GRU", (zeros(1, 2, 4),), "state: GRU needs a tensor, got tuple of Tensor"),
        ("LSTM", zeros(1, 2, 4), r"state: LSTM needs the tuple \(h, c\), got Tensor"),
        ("LSTM", zeros(2, 2, 4), r"state: LSTM needs the tuple \(h, c\), got Tensor"),
        ("LSTM", [zeros(1, 2, 4)], r"needs the tuple \(h, c\), got list of Tensor \(None: its initial state\)"),
        ("LSTM", (zeros(1, 2, 4), None), r"needs the tuple \(h, c\), got tuple of Tensor, NoneType"),
        ("LSTM", (zeros(1, 2, 4),) * 3, r"needs the tuple \(h, c\), got tuple of Tensor, Tensor, Tensor"),
    ],
)
def test_a_state_of_another_structure_raises(kind, state, message):
    with pytest.raises(TypeError, match=message):
        LAYERS[kind](3, 4)(zeros(5, 2, 3), state)


def test_a_state_of_another_dtype_raises():
    with pytest.raises(TypeError, match=r"GRU: state h is a Tensor of float64, .*: write h\.astype\('float32'\)"):
        nn.GRU(3, 4)(zeros(5, 2, 3), Tensor(np.zeros((1, 2, 4))))


@all_layers
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_are_a_state(device, kind, dtype):
    layer = LAYERS[kind](3, 4, dtype=dtype, device=device)
    x = random(5, 2, 3, dtype=dtype, device=device)
    arrays = [np.random.default_rng(seed).standard_normal((1, 2, 4)).astype("float32") for seed in range(2)]
    arrays = arrays[: len(STATES[kind])]
    expected = layer(x, whole([Tensor(array, dtype=dtype, device=device) for array in arrays]))[0].numpy()
    for state in (whole(arrays), *([arrays, tuple(map(np.asarray, arrays))] if len(arrays) > 1 else [])):
        np.testing.assert_array_equal(layer(x, state)[0].numpy(), expected)


def test_a_state_of_several_has_names_and_the_methods_of_a_tensor(device):
    layer, cell = nn.LSTM(3, 4, device=device), nn.LSTMCell(3, 4, device=device)
    _, state = layer(np.ones((5, 2, 3)))
    assert isinstance(state, tuple) and state.h is state[0] and state.c is state[1]
    after = cell(np.ones((2, 3)), cell(np.ones((2, 3))))
    for found, shape in ((state, (1, 2, 4)), (layer.initial_state(2), (1, 2, 4)), (after, (2, 4))):
        assert type(found) is nn.State and found.h.shape == found.c.shape == shape
    detached = state.detach()
    assert not detached.h.requires_grad and not detached.c.requires_grad and state.c.requires_grad
    np.testing.assert_array_equal(detached.numpy().c, state.c.numpy())
    assert isinstance(detached.numpy().h, np.ndarray) and detached.to("numpy").h.device == "numpy"
    assert repr(state) == "State(h=(1, 2, 4) float32, c=(1, 2, 4) float32)"
    with pytest.raises(AttributeError, match="a State of h, c has no attribute 'shape'"):
        state.shape  # noqa: B018
    again = pickle.loads(pickle.dumps(detached.numpy()))
    np.testing.assert_array_equal(copy(again).c, state.c.numpy())
    halves = map_leaves(lambda part: 0.5 * part, state)
    np.testing.assert_array_equal(halves.c.numpy(), 0.5 * state.c.numpy())


def test_anomaly_mode_names_the_layer_the_cell_and_the_step():
    model = nn.Sequential(nn.LSTM(3, 4, num_layers=2))
    x = np.zeros((5, 2, 3), dtype="float32")
    x[3, 1, 2] = np.nan
    message = r"input 0; in Sequential\.layers\.0\.cells\.0\.step 3, at .*test_recurrent\.py"
    with pytest.raises(AnomalyError, match=message), detect_anomaly():
        model(Tensor(x))
    model.layers[0].cells[1].b_o.data[:] = np.inf
    with pytest.raises(AnomalyError, match=r"add .* in Sequential\.layers\.0\.cells\.1\.step 0"), detect_anomaly():
        model(Tensor(np.zeros((5, 2, 3), dtype="float32")))


# -- backward --------------------------------------------------------------------------------------------------------


@all_layers
def test_two_forward_passes_before_backward_are_independent(mode, kind):
    layer = make(kind, 3, 4)
    parameters, sequences = list(layer.parameters()), [random(5, 2, 3, seed=seed) for seed in range(3)]

    def loss(x):
        output, last = layer(x)
        return (output * output).sum() + sum(part.sum() for part in parts(last))

    alone = [gradients(loss(x), *parameters) for x in sequences]
    losses = [loss(x) for x in sequences]
    for k in (1, 0, 2):
        assert_all_close(gradients(losses[k], *parameters), alone[k], rtol=0, atol=0)
    assert_all_close(gradients(sum(loss(x) for x in sequences), *parameters), [sum(g) for g in zip(*alone)])


@all_layers
def test_backward_twice_with_retain_graph(mode, kind):
    layer = make(kind, 3, 4)
    parameters = list(layer.parameters())
    output, last = layer(random(5, 2, 3))
    loss = (output * output).sum() + parts(last)[0].sum()
    loss.backward(retain_graph=True)
    once = [parameter.grad.numpy() for parameter in parameters]
    loss.backward()
    assert_all_close([parameter.grad.numpy() for parameter in parameters], [2 * gradient for gradient in once])
    with pytest.raises(TapeError, match="retain_graph"):
        loss.backward()


@all_layers
def test_a_weight_written_between_forward_and_backward_raises(mode, kind):
    layer = make(kind, 3, 4)
    loss = layer(random(5, 2, 3))[0].sum()
    weight = next(tensor for name, tensor in layer.named_parameters() if ".U" in name)
    weight.data *= 1.5
    with pytest.raises(TapeError, match=r"Cell\.U.* was changed in place"):
        loss.backward()


@all_layers
def test_outputs_and_gradients_do_not_share_workspace_memory(mode, kind):
    """Nothing that a layer gave is overwritten by its next pass, and writing into it changes no later gradient."""
    layer, x = make(kind, 3, 4), random(5, 2, 3, requires_grad=True)
    output, last = layer(x)
    before = [output.numpy(), *map(Tensor.numpy, parts(last))]
    gradient = gradients((output * output).sum(), x)[0]
    held = x.grad
    x.zero_grad()
    layer(random(5, 2, 3, seed=8))[0].sum().backward()
    assert_all_close([output.numpy(), *map(Tensor.numpy, parts(last))], before, rtol=0, atol=0)
    np.testing.assert_array_equal(held.numpy(), gradient)


@all_layers
def test_a_layer_inside_a_checkpoint(mode, kind):
    layer, x = make(kind, 3, 4, num_layers=2, dropout=0.5), random(5, 2, 3, requires_grad=True)
    results = []
    for run in (
        layer,
        lambda x: checkpoint(layer, x) if kind != "LSTM" else (checkpoint(lambda x: layer(x)[0], x), None),
    ):
        manual_seed(2)
        output, _ = run(x)
        results.append([output.numpy(), *gradients((output * output).sum(), x, *layer.parameters())])
    assert_all_close(*results)
