"""minGRU, minLSTM, SRU, QRNN, LRU and sLSTM beside the papers' equations, PyTorch and onnxruntime."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from modern_equations import EQUATIONS, VARIANTS
from recurrent_case import assert_modes_agree, make_case

from tinygrad_gru import Tensor, compiling, manual_seed, nn
from tinygrad_gru.scan import explain
from tinygrad_gru.testing import gradcheck, gradgradcheck

all_variants = pytest.mark.parametrize("name", VARIANTS)


def make(name, *sizes, seed=0, **options):
    """A layer with random parameters, of moderate size, and them as arrays."""
    layer, settings = VARIANTS[name]
    model = getattr(nn, layer)(*sizes, **settings, **{"dtype": "float64", **options})
    random = np.random.default_rng(seed)
    p = {key: 0.5 * random.standard_normal(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(p)
    return model, p


def parts(state):
    return list(state) if isinstance(state, tuple) else [state]


def of_cell(p, k):
    return {key.removeprefix(f"cells.{k}."): value for key, value in p.items() if key.startswith(f"cells.{k}.")}


def random_state(cell, rng, batch):
    """A random state, whose normaliser is positive."""
    state = {key: rng.standard_normal((batch, size)) for key, size in zip(cell.states, cell.state_sizes)}
    return [np.abs(value) + 0.5 if key == "n" else value for key, value in state.items()]


@all_variants
@pytest.mark.parametrize("inputs", [3, 4])
def test_a_layer_is_the_papers_equations(rng, mode, name, inputs):
    """Two layers; 4 inputs are as many as units, where x is added to the output without a matrix."""
    (layer, settings), (model, p) = VARIANTS[name], make(name, inputs, 4, num_layers=2)
    x = rng.standard_normal((6, 3, inputs))
    output, state = model(x)
    below = x
    for k in range(2):
        below, last = EQUATIONS[layer](of_cell(p, k), below, settings)
        for ours, theirs in zip(parts(state), last):
            if theirs is not None:
                np.testing.assert_allclose(ours.numpy()[k], theirs, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(output.numpy(), below, rtol=1e-10, atol=1e-12)


@all_variants
def test_both_directions_and_lengths_are_the_equations_of_each_sequence_alone(rng, name):
    (layer, settings), (model, p) = VARIANTS[name], make(name, 3, 4, bidirectional=True)
    x, lengths = rng.standard_normal((6, 3, 3)), [6, 0, 4]
    x[4:, 2] = np.nan
    output, _ = model(x, lengths=lengths)
    for b, length in enumerate(lengths):
        alone = x[:length, b : b + 1]
        forward = EQUATIONS[layer](of_cell(p, 0), alone, settings)[0] if length else np.zeros((0, 1, 4))
        backward = EQUATIONS[layer](of_cell(p, 1), alone[::-1], settings)[0][::-1] if length else np.zeros((0, 1, 4))
        expected = np.concatenate([forward, backward], axis=-1)[:, 0]
        np.testing.assert_allclose(output.numpy()[:length, b], expected, rtol=1e-10, atol=1e-12)
        assert not output.numpy()[length:, b].any()


@all_variants
def test_gradients_equal_finite_differences_to_second_order(rng, name):
    model, _ = make(name, 2, 4)
    cell = model.cells[0]
    names, tensors = zip(*cell.named_parameters())
    count = len(cell.states)

    def step(x, *rest):
        given = cell.with_tensors(dict(zip(names, rest[count:])))
        new, output = given.step(tuple(rest[:count]) if count > 1 else rest[0], x), ()
        if not cell.output_is_state:
            new, output = new[0], new[1:]
        return (*parts(new), *output)

    inputs = [rng.standard_normal((2, 2)), *random_state(cell, rng, 2), *tensors]
    gradcheck(step, inputs)
    gradgradcheck(step, inputs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("cell", [nn.MinGRUCell, nn.MinLSTMCell])
def test_a_positive_candidate_has_the_derivative_1_at_0(cell):
    """As at every a ≥ 0: there it is where inputs and biases are 0, as they often start; and gates are ½."""
    model = cell(2, 3, positive=True, dtype="float64")
    model(np.zeros((1, 2))).sum().backward()
    assert model.b_h.grad.tolist() == [0.5, 0.5, 0.5]


@all_variants
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_gives_what_float32_gives_and_keeps_its_dtype(rng, name, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    (exact, p), (half, _) = make(name, 3, 4), make(name, 3, 4, dtype=dtype)
    for key, tensor in half.named_tensors():
        tensor.data = p[key].astype(tensor.dtype)
    x = rng.standard_normal((3, 2, 3))
    with compiling(False):
        (expected, _), (output, state) = exact(x), half(x)
        output.sum().backward()
    assert {str(tensor.dtype) for tensor in (output, *parts(state), half.cells[0].weight.grad)} == {dtype}
    np.testing.assert_allclose(output.numpy().astype(float), expected.numpy(), atol={"float16": 0.02}.get(dtype, 0.15))


@all_variants
def test_eager_and_compiled_mode_agree_in_all_gradients_also_with_lengths(name):
    layer, settings = VARIANTS[name]
    case = make_case(layer, steps=5, hidden=4, num_layers=2, bidirectional=True, lengths=[3, 5, 0], **settings)
    if "n" in case["state"]:
        case["state"]["n"] = np.abs(case["state"]["n"]) + 0.5
    assert_modes_agree(case, rtol=1e-9, atol=1e-11)


@all_variants
def test_every_step_compiles_and_its_products_of_x_leave_the_loop(name):
    model, _ = make(name, 3, 4)
    (cell,), x = model.cells, Tensor(np.random.default_rng(0).standard_normal((5, 2, 3)), requires_grad=True)
    step, xs = cell.scan_arguments(x, Tensor(np.ones((5, 2, 1), dtype=bool)))
    report = str(explain(step, cell.initial_state(2), xs))
    assert "runs eagerly" not in report
    loops = [line for line in report.splitlines() if line.strip().startswith("in the loop:")]
    assert loops and (VARIANTS[name][0] == "SLSTM" or not any("matmul" in line for line in loops))


@all_variants
def test_a_sequence_goes_on_in_a_second_call_and_in_single_steps(rng, name):
    model, _ = make(name, 3, 4)
    x = rng.standard_normal((6, 2, 3))
    whole, last = model(x)
    first, state = model(x[:2])
    second, state = model(x[2:5], state)
    cell = model.cells[0]
    new = cell(x[5], tuple(part[0] for part in state) if isinstance(state, tuple) else state[0])
    new, third = (new, parts(new)[0]) if cell.output_is_state else new
    pieces = np.concatenate([first.numpy(), second.numpy(), third.numpy()[None]])
    np.testing.assert_allclose(pieces, whole.numpy(), rtol=1e-11, atol=1e-13)
    for ours, theirs in zip(parts(new), parts(last)):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy()[0], rtol=1e-11, atol=1e-13)


@all_variants
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_nothing_changes_its_dtype_and_extremes_stay_finite(device, mode, name, dtype):
    layer, settings = VARIANTS[name]
    manual_seed(0)
    model = getattr(nn, layer)(4, 4, num_layers=2, **settings, dtype=dtype, device=device)
    for scale in (1.0, 1e4 if dtype == "float32" else 100.0):
        values = scale * np.stack([np.ones((4, 4)), -np.ones((4, 4))], axis=1)
        x = Tensor(values, requires_grad=True, dtype=dtype, device=device)
        output, last = model(x, lengths=[4, 2])
        output.sum().backward()
        results = [output, *parts(last), *(parameter.grad for parameter in model.parameters())]
        assert {tensor.dtype.name for tensor in results} == {dtype}
        assert all(np.isfinite(tensor.numpy()).all() for tensor in results)
        model.zero_grad()


@all_variants
def test_state_dict_repr_record_and_learned_initial_states(rng, name):
    layer, settings = VARIANTS[name]
    options = {**settings, "learn_initial_state": True, "dtype": "float64"}
    model, other = (getattr(nn, layer)(3, 4, **options) for _ in range(2))
    other.load_state_dict(model.state_dict())
    x = Tensor(rng.standard_normal((3, 2, 3)))
    output, _, records = model(x, record=f"{model.cells[0].states[0]}'")
    np.testing.assert_array_equal(output.numpy(), other(x)[0].numpy())
    assert [next(iter(one.values())).shape[:2] for one in records] == [(3, 2)]
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    shown = repr(model).splitlines()[0]
    assert all(f"{keyword}={value!r}" in shown for keyword, value in settings.items())


@pytest.mark.parametrize("name", ["minGRU", "SRU", "QRNN, ifo, 3 inputs"])
def test_zoneout_in_evaluation_is_an_average_of_the_state_alone(rng, name):
    """What a QRNN has of earlier inputs is not averaged."""
    model, _ = make(name, 3, 4, zoneout=0.25)
    plain, _ = make(name, 3, 4)
    (cell,), (other,) = model.eval().cells, plain.cells
    x, state = rng.standard_normal((2, 3)), random_state(cell, rng, 2)
    given = tuple(map(Tensor, state)) if len(state) > 1 else Tensor(state[0])
    new, expected = ((c(x, given) if c.output_is_state else c(x, given)[0]) for c in (cell, other))
    for k, (ours, theirs, before) in enumerate(zip(parts(new), parts(expected), state)):
        theirs = theirs.numpy() if k else 0.25 * before + 0.75 * theirs.numpy()
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12)


# -- what is particular to one -------------------------------------------------------------------------------------


def test_the_stabiliser_of_an_slstm_cancels(rng):
    """c and n scaled by exp(−d) and m raised by d are the same state."""
    cell = make("sLSTM, 2 heads", 3, 4)[0].cells[0]
    x, (h, c, n, m) = rng.standard_normal((2, 3)), random_state(cell, rng, 2)
    d = rng.standard_normal((2, 4))
    one = cell(x, (h, c, n, m))
    other = cell(x, (h, c * np.exp(-d), n * np.exp(-d), m + d))
    np.testing.assert_allclose(one.h.numpy(), other.h.numpy(), rtol=1e-12)
    np.testing.assert_allclose((one.n * one.m.exp()).numpy(), (other.n * other.m.exp()).numpy(), rtol=1e-11)


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exp"])
def test_an_slstms_input_bias_cancels_unless_a_state_goes_in(rng, forget_gate):
    model = nn.SLSTM(3, 4, heads=2, forget_gate=forget_gate, dtype="float64")
    x, bias = rng.standard_normal((6, 2, 3)), model.cells[0].b_i
    y, state = model(x)
    bias.data[...] = rng.standard_normal(4)
    bias.mark_changed()
    np.testing.assert_allclose(model(x)[0].numpy(), y.numpy(), rtol=1e-12, atol=1e-14)
    for carried in (None, tuple(part.detach() for part in state)):
        model.zero_grad()
        y, _ = model(x, carried)
        (y * y).sum().backward()
        assert (np.abs(bias.grad.numpy()).max() < 1e-14) == (carried is None)


def test_an_slstm_is_right_where_its_input_gates_alone_underflow():
    """exp(−200) is 0 in float32; the papers' ratio c' / n' is not 0 / 0."""
    cell = nn.SLSTMCell(1, 2)
    cell.load_state_dict({key: np.zeros(value.shape) for key, value in cell.state_dict().items()})
    cell.load_state_dict({**cell.state_dict(), "b_i": np.full(2, -200.0), "W_z": np.full((1, 2), 0.5)})
    state = cell(np.ones((1, 1)))
    np.testing.assert_allclose(state.h.numpy(), np.full((1, 2), 0.5 * np.tanh(0.5)), rtol=1e-6)


def test_a_minlstm_is_right_where_both_of_its_gates_underflow():
    cell = nn.MinLSTMCell(1, 1)
    zeros = {key: np.zeros(value.shape) for key, value in cell.state_dict().items()}
    cell.load_state_dict({**zeros, "b_f": np.array([-200.0]), "b_i": np.array([-201.0]), "b_h": np.array([1.0])})
    expected = (np.e * 3.0 + 1.0) / (np.e + 1)
    np.testing.assert_allclose(cell(np.ones((1, 1)), np.full((1, 1), 3.0)).numpy(), [[expected]], rtol=1e-5)


def test_an_lru_starts_on_its_ring_and_keeps_the_variance():
    manual_seed(0)
    cell = nn.LRUCell(4, 500, r_min=0.9, r_max=0.99, max_phase=0.3, dtype="float64")
    p = {key: value.numpy() for key, value in cell.named_parameters()}
    size, angle = np.exp(-np.exp(p["nu_log"])), np.exp(p["theta_log"])
    assert 0.9 <= size.min() < 0.905 and 0.985 < size.max() <= 0.99 and 0.29 < angle.max() < 0.3
    assert np.mean(size**2 < (0.9**2 + 0.99**2) / 2) == pytest.approx(0.5, abs=0.07)  # uniform by area
    np.testing.assert_allclose(np.exp(2 * p["gamma_log"]) + size**2, 1, rtol=1e-12)
    assert p["B_re"].std() == pytest.approx((2 * 4) ** -0.5, rel=0.05)
    assert p["C_im"].std() == pytest.approx(500**-0.5, rel=0.05)
    assert nn.LRUCell(500, 500).D.numpy().std() == pytest.approx(1, rel=0.1)


def test_an_sru_starts_as_the_paper_says():
    manual_seed(0)
    cell = nn.SRUCell(300, 200, highway_bias=-2.0)
    p = {key: value.numpy() for key, value in cell.named_parameters()}
    alpha = np.sqrt(1 + 2 * np.exp(-2.0))
    assert p["W"].std() == pytest.approx(300**-0.5, rel=0.02) and np.abs(p["W"]).max() <= np.sqrt(3 / 300)
    assert p["W_x"].std() == pytest.approx(alpha * 300**-0.5, rel=0.02)
    assert set(p["b_r"]) == {-2.0} and set(p["b_f"]) == {0.0}


def test_heads_of_an_slstm_do_not_see_each_other(rng):
    cell = make("sLSTM, 2 heads", 3, 4)[0].cells[0]
    x, (h, *rest) = rng.standard_normal((1, 3)), random_state(cell, rng, 1)
    changed = h.copy()
    changed[:, :2] += 1
    one, other = cell(x, (h, *rest)).c.numpy(), cell(x, (changed, *rest)).c.numpy()
    assert np.all(one[:, :2] != other[:, :2]) and np.array_equal(one[:, 2:], other[:, 2:])


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")
def test_a_qrnns_gates_are_pytorchs_causal_convolution_with_its_gradients(rng):
    import torch

    model, p = make("QRNN, ifo, 3 inputs", 3, 4)
    x = rng.standard_normal((6, 2, 3))
    ours = Tensor(x, requires_grad=True)
    (model(ours)[0] ** 2).sum().backward()

    w = {key.removeprefix("cells.0."): torch.tensor(value, requires_grad=True) for key, value in p.items()}
    theirs = torch.tensor(x, requires_grad=True)
    padded = torch.nn.functional.pad(theirs.permute(1, 2, 0), (2, 0))  # (B, features, T + 2)

    def convolution(gate):
        kernel = torch.stack([w[f"W_{gate}{j}"].T for j in (2, 1, "")], dim=-1)  # the oldest input first
        return torch.nn.functional.conv1d(padded, kernel, w[f"b_{gate}"]).permute(2, 0, 1)

    z, f, i, o = torch.tanh(convolution("z")), *(torch.sigmoid(convolution(gate)) for gate in "fio")
    c, outputs = torch.zeros(2, 4, dtype=torch.float64), []
    for t in range(6):
        c = f[t] * c + i[t] * z[t]
        outputs.append(o[t] * c)
    (torch.stack(outputs) ** 2).sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-10)
    for name, parameter in model.cells[0].named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), w[name].grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["minLSTM", "SRU, peephole", "QRNN, fo", "LRU, 5 units", "sLSTM, 2 heads"])
def test_onnxruntime_runs_them_and_they_come_back(rng, tmp_path, name):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from tinygrad_gru.interop import onnx

    model, _ = make(name, 3, 4, bidirectional=True, dtype="float32")
    x, path = rng.standard_normal((5, 2, 3)).astype("float32"), str(tmp_path / "model.onnx")
    onnx.save(model, path, x)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    output, state = model(x)
    for theirs in (session.run(None, {"x": x}), onnx.load(path)(x)):
        for ours, value in zip([output, *parts(state)], theirs, strict=True):
            value = value.numpy() if isinstance(value, Tensor) else value
            np.testing.assert_allclose(value, ours.numpy(), rtol=1e-4, atol=1e-6)


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer, settings, message",
    [
        ("QRNN", {"pooling": "io"}, "pooling: expected one of 'f', 'fo', 'ifo', got 'io'"),
        ("QRNN", {"window": 0}, "window: expected a positive integer, got 0"),
        ("LRU", {"r_min": 1.0}, "expected 0 ≤ r_min < r_max ≤ 1"),
        ("LRU", {"max_phase": 0.0}, "max_phase: expected a positive angle"),
        ("LRU", {"state_size": 0}, "state_size: expected a positive integer"),
        ("SLSTM", {"heads": 3}, "heads: expected a divisor of hidden_size, 4, got 3"),
        ("SLSTM", {"forget_gate": "tanh"}, "forget_gate: expected 'sigmoid' or 'exp', got 'tanh'"),
    ],
)
def test_impossible_settings_are_errors(layer, settings, message):
    with pytest.raises(ValueError, match=message):
        getattr(nn, layer)(3, 4, **settings)


@pytest.mark.parametrize("layer", ["LRU", "SLSTM"])
def test_zoneout_is_no_keyword_where_parts_of_the_state_belong_together(layer):
    with pytest.raises(TypeError, match="zoneout"):
        getattr(nn, layer)(3, 4, zoneout=0.1)


def test_an_output_that_is_not_the_state_cannot_be_held():
    with pytest.raises(ValueError, match="past_end='hold' holds the state"):
        nn.SRU(3, 4)(np.ones((3, 2, 3)), lengths=[1, 2], past_end="hold")


def test_interop_states_what_it_cannot_convert():
    from tinygrad_gru.interop import InteropError, keras

    with pytest.raises(InteropError, match=r"Keras has no layer with the tensors .* of LRUCell"):
        keras.weights(nn.LRU(3, 4))
