"""Cells with equation keywords."""

import numpy as np
import pytest
from cell_option_cases import VARIANTS, next_state
from recurrent_case import assert_modes_agree, assert_same, make_case, run_ours

from tinygrad_gru import Tensor, checkpoint, manual_seed, nn, no_grad, ops
from tinygrad_gru.scan import compiling, explain
from tinygrad_gru.scan.tracing import trace_cache as traces
from tinygrad_gru.scan.tracing.tracer import trace_forward
from tinygrad_gru.testing import gradcheck, gradgradcheck

all_variants = pytest.mark.parametrize("name", VARIANTS)
LAYERS = ["RNN", "GRU", "LSTM", "MGU"]


def make(kind, *sizes, seed=0, **options):
    """A cell or a layer with random biases and gains too, and its parameters as arrays."""
    module = getattr(nn, kind)(*sizes, **{"dtype": "float64", **options})
    random = np.random.default_rng(seed)
    p = {name: random.standard_normal(value.shape) for name, value in module.state_dict().items()}
    module.load_state_dict(p)
    return module, p


def variant(name, *sizes, cell=True, **options):
    layer, settings = VARIANTS[name]
    return make(layer + "Cell" * cell, *sizes, **settings, **options)


def random_state(cell, rng, batch=2):
    return [rng.standard_normal((batch, size)) for size in cell.state_sizes]


def whole(arrays):
    tensors = [Tensor(array) for array in arrays]
    return tuple(tensors) if len(tensors) > 1 else tensors[0]


def arrays(state):
    return [part.numpy() for part in (state if isinstance(state, tuple) else (state,))]


def assert_close(ours, theirs, **tolerance):
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs):
        np.testing.assert_allclose(one, other, **{"rtol": 1e-11, "atol": 1e-13, **tolerance})


# -- every variant -------------------------------------------------------------------------------------------------


@all_variants
@pytest.mark.parametrize("bias", [True, False])
def test_a_step_equals_its_equations(rng, device, name, bias):
    cell, p = variant(name, 3, 5, bias=bias, device=device)
    assert any(key[0] == "b" for key in p) == bias and (bias or "c_h" not in p)
    x, state = rng.standard_normal((2, 3)), random_state(cell, rng)
    ours = cell(Tensor(x).to(device), whole(state) if device == "numpy" else None)
    expected = next_state(*VARIANTS[name], p, x, state if device == "numpy" else [0 * part for part in state])
    assert_close(arrays(ours), expected)


@all_variants
def test_gradients_equal_finite_differences_to_second_order(rng, name):
    cell, _ = variant(name, 2, 4)
    names, tensors = zip(*cell.named_parameters())
    count = len(cell.states)

    def step(x, *rest):
        given = cell.with_tensors(dict(zip(names, rest[count:])))
        return given(x, tuple(rest[:count]) if count > 1 else rest[0])

    inputs = [rng.standard_normal((2, 2)), *random_state(cell, rng), *tensors]
    gradcheck(step, inputs)
    gradgradcheck(step, inputs, rtol=1e-4, atol=1e-7)


@all_variants
def test_eager_and_compiled_mode_agree_in_all_gradients_also_with_lengths(name):
    layer, settings = VARIANTS[name]
    case = make_case(layer, steps=5, hidden=4, num_layers=2, bidirectional=True, lengths=[3, 5, 0], **settings)
    assert_modes_agree(case, rtol=1e-10, atol=1e-12)


@all_variants
def test_every_variant_compiles_with_noise_and_masks(name):
    layer, settings = VARIANTS[name]
    model, _ = make(layer, 3, 4, **settings, recurrent_dropout=0.5, zoneout=0.1)
    (cell,), x = model.cells, Tensor(np.random.default_rng(0).standard_normal((5, 2, 3)), requires_grad=True)
    step, xs = cell.scan_arguments(x, Tensor(np.ones((5, 2, 1), dtype=bool)))
    assert "runs eagerly" not in explain(step, cell.initial_state(2), xs)
    results = []
    for on in (False, True):
        manual_seed(5)
        with compiling(on):
            output, last = model(x, lengths=[5, 2])
        model.zero_grad()
        x.zero_grad()
        (output * output).sum().backward()
        results.append([output.numpy(), *arrays(last), x.grad.numpy(), *(p.grad.numpy() for p in model.parameters())])
    assert_close(*results, rtol=1e-9, atol=1e-11)


@all_variants
def test_nothing_becomes_float64_and_extremes_stay_finite(device, name):
    layer, settings = VARIANTS[name]
    options = {"recurrent_dropout": 0.3, "zoneout": 0.2, "device": device}
    model = getattr(nn, layer)(3, 4, num_layers=2, **settings, **options)
    for scale in (1.0, 1e4):
        x = Tensor(np.full((4, 2, 3), scale, dtype="float32"), requires_grad=True, device=device)
        output, last = model(x, lengths=[4, 1])
        output.sum().backward()
        results = [
            output,
            x.grad,
            *(last if isinstance(last, tuple) else (last,)),
            *(p.grad for p in model.parameters()),
        ]
        assert {str(tensor.dtype) for tensor in results} == {"float32"}
        assert all(np.isfinite(tensor.numpy()).all() for tensor in results)
        model.zero_grad()


@all_variants
def test_state_dict_repr_and_learned_initial_states(rng, name):
    layer, settings = VARIANTS[name]
    options = {**settings, "learn_initial_state": True, "num_layers": 2, "dtype": "float64"}
    model, _ = make(layer, 3, 4, **options)
    other = getattr(nn, layer)(3, 4, **options)
    other.load_state_dict(model.state_dict())
    x = Tensor(rng.standard_normal((3, 2, 3)))
    np.testing.assert_array_equal(model(x)[0].numpy(), other(x)[0].numpy())
    output, _ = model(x, lengths=[0, 3], past_end="hold")
    np.testing.assert_array_equal(output.numpy()[0, 0], model.cells[1].h_0.numpy())
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    shown = repr(model).splitlines()
    assert shown[0].startswith(f"{layer}(3, 4, num_layers=2, learn_initial_state=True")
    assert shown[1].strip().startswith(f"cells.0: {layer}Cell(3, 4, learn_initial_state=True")
    for line in shown[:2]:
        assert all(f"{keyword}={value!r}" in line for keyword, value in settings.items())


@pytest.mark.parametrize("layer", LAYERS)
def test_a_cell_with_default_keywords_is_the_textbooks_cell(rng, layer):
    """One class, one repr, and the same numbers to the last bit."""
    textbook, p = make(f"{layer}Cell", 3, 4)
    varied = getattr(nn, f"{layer}Cell")(3, 4, dtype="float64", activation="tanh")
    assert type(varied) is type(textbook) is getattr(nn, f"{layer}Cell")
    varied.load_state_dict(p)
    assert repr(varied) == repr(textbook)
    x, state = Tensor(rng.standard_normal((2, 3))), whole(random_state(textbook, rng))
    assert [part.tolist() for part in arrays(varied(x, state))] == [
        part.tolist() for part in arrays(textbook(x, state))
    ]


def test_a_seed_gives_a_variant_the_weights_of_the_textbooks_cell():
    manual_seed(3)
    textbook = nn.LSTMCell(3, 4)
    manual_seed(3)
    coupled = nn.LSTMCell(3, 4, coupled=True)
    for name, value in coupled.state_dict().items():
        if name != "b_i":
            np.testing.assert_array_equal(value, textbook.state_dict()[name])


# -- parameters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, settings, names",
    [
        ("GRU", {"reset_after": True}, "W_r W_z W_h U_r U_z U_h b_r b_z b_h c_h"),
        ("GRU", {"reset_after": True, "bias": False}, "W_r W_z W_h U_r U_z U_h"),
        ("LSTM", {"peephole": True}, "W_i W_f W_g W_o U_i U_f U_g U_o b_i b_f b_g b_o p_i p_f p_o"),
        ("LSTM", {"coupled": True, "peephole": "full"}, "W_i W_g W_o U_i U_g U_o b_i b_g b_o V_i V_o"),
        ("LSTM", {"proj_size": 2}, "W_i W_f W_g W_o U_i U_f U_g U_o b_i b_f b_g b_o P"),
        ("LSTM", {"coupled": True, "peephole": True}, "W_i W_g W_o U_i U_g U_o b_i b_g b_o p_i p_o"),
        ("MGU", {}, "W_f W_h U_f U_h b_f b_h"),
        ("RNN", {"layer_norm": True}, "W U b gain_W gain_U"),
        ("LSTM", {"layer_norm": True, "coupled": True, "bias": False}, "W_i W_g W_o U_i U_g U_o gain_W_i gain_W_g "
         "gain_W_o gain_U_i gain_U_g gain_U_o gain_c"),
    ],
)  # fmt: skip
def test_parameter_names_and_shapes_are_those_of_the_equations(kind, settings, names):
    cell = getattr(nn, f"{kind}Cell")(3, 4, **settings)
    h = settings.get("proj_size", 4)
    shapes = {"W": (3, 4), "U": (h, 4), "P": (4, h), "V": (4, 4)}
    expected = {name: shapes.get(name.split("_")[0], (4,)) for name in names.split()}
    assert {name: tensor.shape for name, tensor in cell.named_parameters()} == expected
    assert [name for name, _ in cell.named_parameters()] == names.split()


def test_a_coupled_cell_has_the_same_initial_forget_gate():
    x, state = Tensor(np.zeros((1, 3))), whole([np.zeros((1, 4)), np.ones((1, 4))])
    cells = nn.LSTMCell(3, 4, forget_bias=1.5, dtype="float64"), nn.LSTMCell(3, 4, coupled=True, forget_bias=1.5,
                                                                             dtype="float64")  # fmt: skip
    first, second = (arrays(cell(x, state))[1] for cell in cells)
    np.testing.assert_allclose(first, second, rtol=1e-14)
    np.testing.assert_allclose(first, 1 / (1 + np.exp(-1.5)), rtol=1e-14)


def test_gains_start_at_one_and_peepholes_at_zero():
    cell = nn.LSTMCell(3, 4, layer_norm=True, peephole=True)
    for name, value in cell.state_dict().items():
        assert name[0] not in "gp" or np.all(value == (name[0] == "g")), name


# -- properties of the equations -------------------------------------------------------------------------------------


def test_negated_update_gate_weights_exchange_z_and_1_minus_z(rng):
    """σ(−a) = 1 − σ(a): with W_z, U_z and b_z negated, z and 1 − z are exchanged."""
    for reset_after in (False, True):
        cell, p = make("GRUCell", 3, 4, reset_after=reset_after)
        x, h = rng.standard_normal((2, 3)), rng.standard_normal((2, 4))
        ours = cell(Tensor(x), Tensor(h)).numpy()
        swapped = next_state(
            "GRU", {"reset_after": reset_after}, p | {name: -p[name] for name in ("W_z", "U_z", "b_z")}, x, [h]
        )
        z = 1 / (1 + np.exp(-(x @ p["W_z"] + h @ p["U_z"] + p["b_z"])))
        candidate = (swapped[0] - z * h) / (1 - z)
        np.testing.assert_allclose(ours, (1 - z) * h + z * candidate, rtol=1e-10)


def before_and_after(p, x, h, **changes):
    """The outputs of both reset conventions, with the same weights."""
    results = []
    for reset_after in (False, True):
        cell = nn.GRUCell(3, 4, dtype="float64", reset_after=reset_after)
        cell.load_state_dict({name: changes.get(name, p[name]) for name, _ in cell.named_parameters()})
        results.append(cell(Tensor(x), Tensor(h)).numpy())
    return results


def test_the_two_reset_conventions_agree_in_special_cases_only(rng):
    _, p = make("GRUCell", 3, 4, reset_after=True)
    x, h = rng.standard_normal((2, 3)), rng.standard_normal((2, 4))
    no_bias = {"c_h": np.zeros(4)}
    before, after = before_and_after(p, x, h, **no_bias)
    assert np.abs(before - after).max() > 1e-2
    before, after = before_and_after(p, x, h, **no_bias, U_h=np.diag(p["U_h"].diagonal()))
    np.testing.assert_allclose(before, after, rtol=1e-13)
    before, after = before_and_after(p, x, h, **no_bias, b_r=np.full(4, 1000.0))  # r = 1
    np.testing.assert_allclose(before, after, rtol=1e-13)


def test_the_two_biases_of_the_candidate_merge_only_where_the_reset_gate_is_open(rng):
    cell, p = make("GRUCell", 3, 4, reset_after=True)
    x, h = Tensor(rng.standard_normal((2, 3))), Tensor(rng.standard_normal((2, 4)))

    def outputs(**changes):
        both = []
        for merged in ({}, {"b_h": p["b_h"] + p["c_h"], "c_h": np.zeros(4)}):
            cell.load_state_dict(p | changes | merged)
            both.append(cell(x, h).numpy())
        return both

    assert np.abs(np.subtract(*outputs())).max() > 1e-2
    np.testing.assert_allclose(*outputs(b_r=np.full(4, 1000.0)), rtol=1e-13)


def test_peepholes_add_the_old_cell_to_the_input_gate_and_the_new_to_the_output_gate():
    zeros = {name: np.zeros_like(value) for name, value in nn.LSTMCell(1, 2, peephole=True).state_dict().items()}

    def new(c, **changes):
        cell = nn.LSTMCell(1, 2, peephole=True, dtype="float64")
        cell.load_state_dict(zeros | {name: np.array(value) for name, value in changes.items()})
        return arrays(cell(Tensor(np.zeros((1, 1))), whole([np.zeros((1, 2)), np.array([c])])))

    closed = {"b_g": [1000.0, 1000.0], "b_f": [-1000.0, -1000.0]}  # c' = i
    _, c = new([0.3, -0.2], p_i=[1.0, 2.0], **closed)
    np.testing.assert_allclose(c[0], 1 / (1 + np.exp(-np.array([0.3, -0.4]))))
    h, c = new([0.3, -0.2], p_o=[1.0, 2.0], **closed)
    np.testing.assert_allclose(c[0], [0.5, 0.5])
    np.testing.assert_allclose(h[0], np.tanh(0.5) / (1 + np.exp(-np.array([0.5, 1.0]))))


def test_full_peepholes_with_diagonal_matrices_are_those_unit_by_unit(rng):
    layer, p = make("LSTM", 3, 4, peephole=True)
    full = nn.LSTM(3, 4, peephole="full", dtype="float64")
    full.load_state_dict(
        {name.replace(".p_", ".V_"): np.diag(value) if ".p_" in name else value for name, value in p.items()}
    )
    x = Tensor(rng.standard_normal((5, 2, 3)))
    np.testing.assert_allclose(full(x)[0].numpy(), layer(x)[0].numpy(), rtol=1e-12)


def test_a_projection_narrows_h_and_leaves_c(rng):
    layer, _ = make("LSTM", 3, 5, proj_size=2, num_layers=2, bidirectional=True)
    output, (h, c) = layer(Tensor(rng.standard_normal((4, 3, 3))))
    assert (output.shape, h.shape, c.shape) == ((4, 3, 4), (4, 3, 2), (4, 3, 5))
    again, _ = layer(Tensor(rng.standard_normal((4, 3, 3))), (h, c))
    assert again.shape == (4, 3, 4)
    assert [part.shape for part in layer.initial_state(7)] == [(4, 7, 2), (4, 7, 5)]
    with pytest.raises(ValueError, match=r"state h: expected .* = \(4, 3, 2\), got \(4, 3, 5\)"):
        layer(Tensor(rng.standard_normal((4, 3, 3))), (c, c))


def test_clip_bounds_the_arguments_of_activations():
    cell, p = make("RNNCell", 3, 4, clip=0.25)
    x = np.random.default_rng(0).standard_normal((5, 3)) * 10
    ours = cell(Tensor(x)).numpy()
    np.testing.assert_allclose(ours, np.tanh(np.clip(x @ p["W"] + p["b"], -0.25, 0.25)), rtol=1e-14)
    assert (np.abs(ours) <= np.tanh(0.25) + 1e-15).all() and np.isclose(np.abs(ours), np.tanh(0.25)).any()


def test_an_activation_may_be_any_function(rng):
    cell, p = make("RNNCell", 3, 4, activation=ops.square)
    x = rng.standard_normal((2, 3))
    np.testing.assert_allclose(cell(Tensor(x)).numpy(), (x @ p["W"] + p["b"]) ** 2, rtol=1e-13)
    assert "activation=square" in repr(cell)


# -- against peers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, settings", [("GRU", {"reset_after": True}), ("LSTM", {"proj_size": 2})], ids=["reset after", "projected"]
)
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lengths", [None, [2, 4, 1]], ids=["dense", "lengths"])
def test_values_and_all_gradients_equal_those_of_torch(kind, settings, num_layers, bidirectional, bias, lengths):
    peer = pytest.importorskip("peer_torch")
    case = make_case(
        kind, hidden=3, lengths=lengths, num_layers=num_layers, bidirectional=bidirectional, bias=bias, **settings
    )
    assert_same(run_ours(case), peer.run(case), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    "kind, settings",
    [
        ("GRU", {"reset_after": True}),
        ("GRU", {"reset_after": True, "clip": 0.5}),
        ("GRU", {"clip": 0.5, "activation": "relu"}),
        ("LSTM", {"peephole": True}),
        ("LSTM", {"coupled": True, "peephole": True}),
        ("LSTM", {"clip": 0.3}),
        ("LSTM", {"activation": "relu", "output_activation": "elu"}),
        ("RNN", {"activation": "relu", "clip": 0.6}),
    ],
    ids=str,
)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [None, [2, 1, 4]], ids=["dense", "lengths"])
def test_values_equal_those_of_onnxruntime(kind, settings, bidirectional, lengths):
    peer = pytest.importorskip("peer_onnxruntime")
    case = make_case(kind, hidden=3, lengths=lengths, bidirectional=bidirectional, num_layers=2, **settings)
    assert_same(run_ours(case, dtype="float32"), peer.run(case), rtol=1e-5, atol=2e-6)


# -- recurrent dropout -----------------------------------------------------------------------------------------------


DROPPED = {
    "RNN": {}, "GRU": {}, "GRU, reset after": {"reset_after": True}, "LSTM": {}, "LSTM, projected": {"proj_size": 3},
    "MGU": {}, "GRU, normalized": {"layer_norm": True},
}  # fmt: skip


@pytest.mark.parametrize("name", DROPPED)
def test_recurrent_dropout_is_one_drop_mask_on_the_state_for_all_steps_and_gates(mode, name):
    kind, settings = name.split(",")[0], DROPPED[name]
    layer, p = make(kind, 3, 6, recurrent_dropout=0.5, **settings)
    cell = layer.cells[0]
    p = {key.removeprefix("cells.0."): value for key, value in p.items()}
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    manual_seed(2)
    output = layer(Tensor(x))[0].numpy()
    manual_seed(2)
    mask = ops.dropout(Tensor(np.ones((2, cell.output_size))), p=0.5).numpy()
    assert set(np.unique(mask)) == {0.0, 2.0} and not (mask[0] == mask[1]).all()
    state = [np.zeros((2, size)) for size in cell.state_sizes]
    for t in range(4):
        state = next_state(kind, settings, p, x[t], state, dropped=mask)
        np.testing.assert_allclose(output[t], state[0], rtol=1e-10, atol=1e-12)


def test_recurrent_dropout_does_not_drop_the_carried_state():
    layer, p = make("GRU", 3, 6, recurrent_dropout=0.5)
    layer.load_state_dict(p | {"cells.0.b_z": np.full(6, -1000.0)})  # z = 0
    h = np.random.default_rng(0).standard_normal((1, 2, 6))
    _, last = layer(Tensor(np.ones((4, 2, 3))), Tensor(h))
    np.testing.assert_array_equal(last.numpy(), h)


def test_recurrent_dropout_is_sampled_for_every_pass_and_cell_and_is_off_in_evaluation():
    layer, p = make("GRU", 3, 6, recurrent_dropout=0.5, bidirectional=True)
    one_way = {name.replace("cells.0", "cells.1"): value for name, value in p.items() if "cells.0" in name}
    layer.load_state_dict(p | one_way)  # both directions have the same weights
    x = Tensor(np.ones((4, 2, 3)))
    first, second = layer(x)[0].numpy(), layer(x)[0].numpy()
    assert not np.array_equal(first, second)
    assert not np.array_equal(first[..., :6], first[::-1, :, 6:])
    layer.eval()
    reference, _ = make("GRU", 3, 6, bidirectional=True)
    reference.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(layer(x)[0].numpy(), reference(x)[0].numpy())


def test_another_drop_mask_needs_no_new_trace(monkeypatch):
    layer, _ = make("GRU", 3, 6, recurrent_dropout=0.5, zoneout=0.1)
    x, traced = Tensor(np.ones((4, 2, 3))), []
    monkeypatch.setattr(traces, "trace_forward", lambda *step: traced.append(step) or trace_forward(*step))
    for training in (True, True, False, True):
        layer.train(training)
        layer(x)
    assert len(traced) == 2  # in training and in evaluation


def test_a_checkpoint_recomputes_recurrent_dropout_with_the_same_mask():
    layer, _ = make("GRU", 3, 6, recurrent_dropout=0.5, zoneout=0.3)
    x = Tensor(np.random.default_rng(0).standard_normal((4, 2, 3)), requires_grad=True)
    results = []
    for run in (lambda x: layer(x)[0], lambda x: checkpoint(lambda x: layer(x)[0], x)):
        manual_seed(4)
        output = run(x)
        x.zero_grad()
        (output * output).sum().backward()
        results.append([output.numpy(), x.grad.numpy()])
    assert_close(*results)


# -- zoneout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LAYERS)
def test_zoneout_equals_its_mask_in_training_and_its_expectation_in_evaluation(mode, kind):
    rates = (0.4, 0.2) if kind == "LSTM" else (0.4,)
    layer, p = make(kind, 3, 6, zoneout=rates)
    p = {key.removeprefix("cells.0."): value for key, value in p.items()}
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    layer.eval()
    output, state = layer(Tensor(x))[0].numpy(), [np.zeros((2, 6)) for _ in rates]
    for t in range(5):
        new = next_state(kind, {}, p, x[t], state)
        state = [rate * old + (1 - rate) * value for rate, old, value in zip(rates, state, new)]
        np.testing.assert_allclose(output[t], state[0], rtol=1e-11, atol=1e-13)
    layer.train()
    output = layer(Tensor(x))[0].numpy()
    assert not np.array_equal(layer(Tensor(x))[0].numpy(), output)
    for t in range(1, 5) if kind != "LSTM" else ():  # whose c is not an output
        new = next_state(kind, {}, p, x[t], [output[t - 1]])[0]
        stays = output[t] == output[t - 1]
        np.testing.assert_allclose(output[t][~stays], new[~stays], rtol=1e-10)


@pytest.mark.parametrize("kind", LAYERS)
def test_zoneout_keeps_units_at_its_rate(mode, kind):
    layer, _ = make(kind, 3, 40, zoneout=0.2)
    x = Tensor(np.random.default_rng(0).standard_normal((10, 4, 3)))
    for lengths in (None, [10, 10, 10, 10]):
        output = layer(x, lengths=lengths)[0].numpy()
        assert (output[1:] == output[:-1]).mean() == pytest.approx(0.2, abs=0.04)


def test_zoneout_masks_in_half_precision_do_not_round_the_rate():
    masks = []
    for dtype in ("float16", "float32"):
        manual_seed(0)
        _, (_, mask) = nn.GRUCell(3, 500, zoneout=0.7002, dtype=dtype).scan_arguments(Tensor(np.zeros((100, 20, 3))))
        masks.append(mask.numpy())
    assert np.array_equal(*masks)


def test_zoneout_masks_have_their_rate_as_mean_and_none_at_rate_0():
    cell = nn.LSTMCell(3, 50, zoneout=(0.3, 0.0))
    _, (_, *masks) = cell.scan_arguments(Tensor(np.zeros((20, 10, 3), dtype="float32")))
    assert [mask.shape for mask in masks] == [(20, 10, 50)]
    assert masks[0].numpy().mean() == pytest.approx(0.3, abs=0.02)


def test_a_single_step_samples_noise_too(rng):
    cell, p = make("GRUCell", 3, 8, zoneout=0.5, recurrent_dropout=0.5)
    x, h = rng.standard_normal((2, 3)), rng.standard_normal((2, 8))
    new = cell(Tensor(x), Tensor(h)).numpy()
    assert 0 < (new == h).sum() < 16
    cell.eval()
    expected = 0.5 * h + 0.5 * next_state("GRU", {}, p, x, [h])[0]
    np.testing.assert_allclose(cell(Tensor(x), Tensor(h)).numpy(), expected, rtol=1e-12)


# -- bad settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, settings, error, message",
    [
        ("GRU", {"activation": "tahn"}, ValueError, r"name of one in ops, .* got 'tahn' \(did you mean 'tanh'\?\)"),
        ("GRU", {"activation": "swish"}, ValueError, "activation: 'swish' is here 'silu'"),
        ("GRU", {"activation": nn.Tanh}, ValueError, r"activation: expected a function, .* got the class Tanh"),
        ("GRU", {"gate_activation": None}, ValueError, "gate_activation: expected a function"),
        ("LSTM", {"output_activation": "x"}, ValueError, "output_activation: expected"),
        ("GRU", {"clip": 0.0}, ValueError, "clip: expected a positive number or None, got 0.0"),
        ("GRU", {"recurrent_dropout": 1.0}, ValueError, "recurrent_dropout: expected a probability"),
        ("GRU", {"zoneout": -0.1}, ValueError, "zoneout: expected a probability"),
        ("GRU", {"zoneout": (0.1, 0.1)}, ValueError, r"zoneout: expected a number, or one for each of \('h',\)"),
        ("LSTM", {"peephole": "diagonal"}, ValueError, "peephole: expected False, True .* or 'full', got 'diagonal'"),
        ("LSTM", {"proj_size": -1}, ValueError, "proj_size: expected a positive integer"),
        ("GRU", {"peephole": True}, TypeError, "GRU(Cell)? has no keyword 'peephole'; it has .*bias, .*reset_after"),
        ("RNN", {"gate_activation": "relu"}, TypeError, "RNN(Cell)? has no keyword 'gate_activation'"),
        ("LSTM", {"reset_after": True}, TypeError, "LSTM(Cell)? has no keyword 'reset_after'; it has .*forget_bias"),
    ],
)
def test_invalid_settings_raise(kind, settings, error, message):
    for name in (kind, f"{kind}Cell"):
        with pytest.raises(error, match=message):
            getattr(nn, name)(3, 4, **settings)


def test_a_subclass_of_a_textbook_cell_keeps_its_own_equations():
    class Lazy(nn.GRUCell):
        """h' = ½ (h + GRU(h, x))"""

        def step(self, h, x):
            return 0.5 * (h + super().step(h, x))

    cell = Lazy(3, 4)
    assert type(cell) is Lazy
    with pytest.raises(TypeError, match="Lazy has no keyword 'layer_norm'"):
        Lazy(3, 4, layer_norm=True)


def test_no_grad_and_evaluation_leave_no_tape():
    layer = nn.GRU(3, 4, reset_after=True, layer_norm=True).eval()
    with no_grad():
        output, _ = layer(Tensor(np.ones((5, 2, 3), dtype="float32")), lengths=[2, 5])
    assert not output.requires_grad


@pytest.mark.parametrize("cell_type", [nn.RNNCell, nn.GRUCell, nn.LSTMCell, nn.MGUCell])
def test_the_equations_with_options_are_the_textbooks_without_any(cell_type, rng):
    cell = cell_type(3, 4)
    x, carry = Tensor(rng.standard_normal((2, 3)).astype("float32")), cell.initial_state(2)
    assert not cell.has_options
    for textbook, general in zip(flat(cell.step(carry, x)), flat(cell.step_with_options(carry, x))):
        assert textbook.tolist() == general.tolist()


def test_an_option_that_is_set_later_or_by_a_subclass_is_used():
    class Clipped(nn.GRUCell):
        clip = 0.01

    later = nn.GRUCell(3, 4)
    later.clip = 0.01
    assert Clipped(3, 4).has_options and later.has_options


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("hook", ["activation", "affine", "step_with_options"])
def test_a_hook_that_a_subclass_overrides_is_used(hook, compiled, rng):
    """Not silently ignored because no keyword is given."""
    overrides = {
        "activation": property(lambda self: ops.relu),
        "affine": lambda self, gate, x, h: 2 * nn.GRUCell.affine(self, gate, x, h),
        "step_with_options": lambda self, h, x: h + 1,
    }
    cell_type = type("Custom", (nn.GRUCell,), {hook: overrides[hook]})
    layer, plain = nn.Recurrent.of(cell_type)(3, 4, compiled=compiled), nn.GRU(3, 4, compiled=compiled)
    plain.load_state_dict(layer.state_dict())
    x, cell = Tensor(rng.standard_normal((1, 2, 3)).astype("float32")), layer.cells[0]
    expected = cell.step_with_options(cell.initial_state(2), x[0])
    np.testing.assert_allclose(layer(x)[0][0].numpy(), expected.numpy(), rtol=1e-6)
    assert not np.allclose(layer(x)[0].numpy(), plain(x)[0].numpy())


def flat(carry):
    return carry if isinstance(carry, tuple) else (carry,)
