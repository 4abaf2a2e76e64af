import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, ops
from tinygrad_gru.scan import scan
from tinygrad_gru.testing import gradcheck, gradgradcheck

CELLS = {"RNNCell": nn.RNNCell, "GRUCell": nn.GRUCell, "LSTMCell": nn.LSTMCell}
all_cells = pytest.mark.parametrize("kind", CELLS)


def make(kind, *sizes, seed=0, **options):
    """A cell with random biases too, and its parameters as arrays."""
    cell = CELLS[kind](*sizes, **{"dtype": "float64", **options})
    random = np.random.default_rng(seed)
    p = {name: random.standard_normal(value.shape) for name, value in cell.state_dict().items()}
    cell.load_state_dict(p)
    return cell, p


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def next_state(kind, p, x, state):
    """The next state in NumPy, from the equations of the docstrings."""
    a = {gate: x @ p[f"W{gate}"] + p[f"b{gate}"] for gate in (name[1:] for name in p if name[0] == "W")}
    if kind == "RNNCell":
        (h,) = state
        return (np.tanh(a[""] + h @ p["U"]),)
    if kind == "GRUCell":
        (h,) = state
        r, z = sigmoid(a["_r"] + h @ p["U_r"]), sigmoid(a["_z"] + h @ p["U_z"])
        return ((1 - z) * h + z * np.tanh(a["_h"] + (r * h) @ p["U_h"]),)
    h, c = state
    i, f, o = (sigmoid(a[gate] + h @ p[f"U{gate}"]) for gate in ("_i", "_f", "_o"))
    c = f * c + i * np.tanh(a["_g"] + h @ p["U_g"])
    return o * np.tanh(c), c


def as_state(parts):
    return tuple(parts) if len(parts) > 1 else parts[0]


def as_parts(state):
    return [part.numpy() for part in (state if isinstance(state, tuple) else (state,))]


@all_cells
def test_a_step_equals_its_equations(rng, device, kind):
    cell, p = make(kind, 3, 4, device=device)
    x = rng.standard_normal((2, 3))
    state = [rng.standard_normal((2, 4)) for _ in cell.states]
    ours = cell(Tensor(x, device=device), as_state([Tensor(part, device=device) for part in state]))
    for mine, expected in zip(as_parts(ours), next_state(kind, p, x, state)):
        np.testing.assert_allclose(mine, expected, atol=1e-14)


@all_cells
def test_a_step_without_a_state_starts_from_zeros(rng, kind):
    cell, p = make(kind, 3, 4)
    x = rng.standard_normal((2, 3))
    for mine, expected in zip(as_parts(cell(Tensor(x))), next_state(kind, p, x, [np.zeros((2, 4))] * len(cell.states))):
        np.testing.assert_allclose(mine, expected, atol=1e-14)


@all_cells
def test_a_cell_keeps_no_state(rng, kind):
    cell, _ = make(kind, 3, 4)
    x, before = Tensor(rng.standard_normal((2, 3))), set(vars(cell))
    assert [part.tolist() for part in as_parts(cell(x))] == [part.tolist() for part in as_parts(cell(x))]
    assert set(vars(cell)) == before


@all_cells
def test_gradients_equal_finite_differences_to_second_order(rng, kind):
    cell, _ = make(kind, 3, 2)
    names, tensors = zip(*cell.named_parameters())

    def step(x, *rest):
        given = cell.with_tensors(dict(zip(names, rest[len(cell.states) :])))
        return given(x, as_state(rest[: len(cell.states)]))

    inputs = [rng.standard_normal((2, 3)), *(rng.standard_normal((2, 2)) for _ in cell.states), *tensors]
    gradcheck(step, inputs, full=True, rtol=1e-5)
    gradgradcheck(step, inputs, rtol=1e-5, atol=1e-7)


# -- properties of the equations -----------------------------------------------------------------------------------


def gated(cell, **biases):
    """The cell with all gates pushed open or shut by their biases."""
    state = cell.state_dict()
    cell.load_state_dict({**state, **{name: np.full_like(state[name], value) for name, value in biases.items()}})
    return cell


def test_the_update_gate_of_a_gru_interpolates_between_old_state_and_candidate(rng):
    x, h = Tensor(rng.standard_normal((2, 3))), Tensor(rng.standard_normal((2, 4)))
    cell, p = make("GRUCell", 3, 4)
    np.testing.assert_array_equal(gated(cell, b_z=-1000)(x, h).numpy(), h.numpy())
    candidate = np.tanh(x.numpy() @ p["W_h"] + p["b_h"])
    np.testing.assert_allclose(gated(cell, b_z=1000, b_r=-1000)(x, h).numpy(), candidate, atol=1e-14)
    candidate = np.tanh(x.numpy() @ p["W_h"] + h.numpy() @ p["U_h"] + p["b_h"])
    np.testing.assert_allclose(gated(cell, b_z=1000, b_r=1000)(x, h).numpy(), candidate, atol=1e-14)


def test_the_reset_gate_of_a_gru_acts_before_the_product():
    """Two units, of which the first is reset: its old value must not reach the candidate of the second through U."""
    cell = nn.GRUCell(1, 2, dtype="float64")
    zeros = {name: np.zeros_like(value) for name, value in cell.state_dict().items()}
    crossing = np.array([[0.0, 1.0], [0.0, 0.0]])  # from unit 0 to unit 1
    cell.load_state_dict({**zeros, "b_z": [1000, 1000], "b_r": [-1000, 1000], "U_h": crossing})
    h = cell(Tensor(np.zeros((1, 1))), Tensor([[0.7, 0.2]], dtype="float64"))
    np.testing.assert_allclose(h.numpy(), [[0.0, 0.0]])  # with the reset after the product: tanh(0.7) in unit 1


def test_the_forget_gate_of_an_lstm_keeps_its_cell(rng):
    x = Tensor(rng.standard_normal((2, 3)))
    state = tuple(Tensor(rng.standard_normal((2, 4))) for _ in range(2))
    cell, _ = make("LSTMCell", 3, 4)
    h, c = gated(cell, b_f=1000, b_i=-1000, b_o=1000)(x, state)
    np.testing.assert_array_equal(c.numpy(), state[1].numpy())
    np.testing.assert_allclose(h.numpy(), np.tanh(c.numpy()), atol=1e-15)
    h, c = gated(cell, b_f=-1000, b_o=-1000)(x, state)
    assert not c.numpy().any() and not h.numpy().any()


@all_cells
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_inputs_stay_finite(kind, dtype):
    cell = CELLS[kind](2, 3, dtype=dtype)
    x = Tensor(np.full((2, 2), 1e4), requires_grad=True, dtype=dtype)
    state = as_state([Tensor(np.full((2, 3), -1e4), dtype=dtype)] * len(cell.states))
    new = cell(x, state)
    assert all(np.isfinite(part).all() for part in as_parts(new))
    sum(part.sum() for part in (new if isinstance(new, tuple) else (new,))).backward()
    assert np.isfinite(x.grad.numpy()).all()


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, gates", [("RNNCell", [""]), ("GRUCell", ["_r", "_z", "_h"]), ("LSTMCell", ["_i", "_f", "_g", "_o"])]
)
def test_parameter_names_and_shapes_are_those_of_the_equations(kind, gates):
    cell = CELLS[kind](3, 4)
    assert [(name, tensor.shape) for name, tensor in cell.named_parameters()] == [
        (f"{letter}{gate}", shape) for letter, shape in [("W", (3, 4)), ("U", (4, 4)), ("b", (4,))] for gate in gates
    ]
    without = CELLS[kind](3, 4, bias=False)
    assert [name for name, _ in without.named_parameters()] == [f"{letter}{gate}" for letter in "WU" for gate in gates]


@all_cells
def test_a_cell_without_biases_is_one_whose_biases_are_zero(rng, kind):
    cell, p = make(kind, 3, 4, bias=False)
    x, state = rng.standard_normal((2, 3)), [rng.standard_normal((2, 4)) for _ in cell.states]
    p |= {f"b{name[1:]}": 0 for name in p if name[0] == "W"}
    ours = cell(Tensor(x), as_state([Tensor(part) for part in state]))
    for mine, expected in zip(as_parts(ours), next_state(kind, p, x, state)):
        np.testing.assert_allclose(mine, expected, atol=1e-14)


@pytest.mark.parametrize("forget_bias", [0.0, 2.5])
def test_the_forget_bias_is_where_b_f_starts(forget_bias):
    cell = nn.LSTMCell(3, 4, forget_bias=forget_bias)
    np.testing.assert_array_equal(cell.b_f.numpy(), np.full(4, forget_bias, dtype="float32"))
    assert cell.b_f.dtype == np.float32
    layer = nn.LSTM(3, 4, num_layers=2, forget_bias=forget_bias)
    assert all(np.all(inner.b_f.numpy() == np.float32(forget_bias)) for inner in layer.cells)


def test_unknown_keywords_raise():
    with pytest.raises(TypeError, match="forget_bias"):
        nn.GRUCell(3, 4, forget_bias=1.0)
    with pytest.raises(TypeError):  # bias=False of torch.nn.LSTMCell must not be taken for a forget bias
        nn.LSTMCell(3, 4, False)


@all_cells
def test_initial_states(kind):
    cell = CELLS[kind](3, 4)
    assert [part.shape for part in as_parts(cell.initial_state(5))] == [(5, 4)] * len(cell.states)
    learned = CELLS[kind](3, 4, learn_initial_state=True)
    names = [name for name, _ in learned.named_parameters() if name.endswith("_0")]
    assert names == [f"{state}_0" for state in cell.states]
    h_0 = np.arange(4, dtype="float32")
    learned.load_state_dict({**learned.state_dict(), "h_0": h_0})
    np.testing.assert_array_equal(as_parts(learned.initial_state(2))[0], [h_0, h_0])
    assert learned.parameter_count() == cell.parameter_count() + 4 * len(cell.states)


# -- user-defined cells ----------------------------------------------------------------------------------------------


class LeakyCell(nn.Cell):
    """h' = ½ h + ½ tanh(x W + h U + b)"""

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b()

    def step(self, h, x):
        return 0.5 * h + 0.5 * ops.tanh(x @ self.W + h @ self.U + self.b)


class Leaky(nn.Recurrent):
    cell_type = LeakyCell


@pytest.mark.parametrize("kind", [Leaky, nn.Recurrent.of(LeakyCell)])
def test_a_user_defined_cell_makes_a_layer(rng, kind):
    layer = kind(3, 4, num_layers=2, bidirectional=True, dtype="float64")
    assert repr(layer).startswith("Leaky(3, 4, num_layers=2, bidirectional=True)")
    x = rng.standard_normal((5, 2, 3))
    output, last = layer(Tensor(x))
    assert (output.shape, last.shape) == ((5, 2, 8), (4, 2, 4))
    names, values = zip(*layer.named_parameters())

    def function(x, *parameters):
        return layer.with_tensors(dict(zip(names, parameters)))(x, lengths=[5, 2])[0]

    gradcheck(function, [x, *values])
    single = kind(3, 4, dtype="float64", learn_initial_state=True, zoneout=0.2, bias=False).eval()
    assert [name for name, _ in single.named_parameters()] == ["cells.0.h_0", "cells.0.W", "cells.0.U"]
    single = kind(3, 4, dtype="float64")
    by_hand = scan(single.cells[0].step, single.cells[0].initial_state(2), Tensor(x))[1]
    np.testing.assert_array_equal(single(Tensor(x))[0].numpy(), by_hand.numpy())


class NormalizedLeakyCell(nn.VariedCell):
    """h' = ½ h + ½ φ(a(x, h))"""

    def __init__(self, input_size, hidden_size, *, rate=0.5, **options):
        super().__init__(input_size, hidden_size, **options)
        self.rate = rate
        self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b()
        self.new_gains()

    def step(self, h, x):
        return (1 - self.rate) * h + self.rate * self.activation(self.affine("", x, h))


def test_a_user_defined_varied_cell_takes_the_equation_keywords(rng):
    layer = nn.Recurrent.of(NormalizedLeakyCell)(3, 4, layer_norm=True, recurrent_dropout=0.5, activation="relu")
    assert "layer_norm=True" in repr(layer)
    names = [name for name, _ in layer.named_parameters()]
    assert names == [f"cells.0.{name}" for name in ("W", "U", "b", "gain_W", "gain_U")]
    layer(Tensor(rng.standard_normal((5, 2, 3)), dtype="float32"))[0].sum().backward()
    assert all(parameter.grad.numpy().any() for parameter in layer.parameters())


def test_old_names_raise_with_the_new_name():
    with pytest.raises(AttributeError, match="'GRUCell' object has no attribute 'φ'; here it is activation"):
        nn.GRUCell(3, 4).φ  # noqa: B018
    with pytest.raises(TypeError, match=r"Noisy\.drawn: the method of Cell is called sample_noise now"):
        type("Noisy", (nn.Cell,), {"drawn": lambda self, shape: ()})


def test_a_step_that_is_not_pure_is_traced_at_every_call_also_under_a_mask(rng):
    scale = [1.0]

    class Scaled(LeakyCell):
        def step(self, h, x):
            return scale[0] * super().step(h, x)

    layer, x = (
        nn.Recurrent.of(Scaled)(3, 4, zoneout=0.5).eval(),
        Tensor(rng.standard_normal((1, 2, 3)), dtype="float32"),
    )
    for options in ({}, {"lengths": [1, 1]}):
        scale[0] = 1.0
        once = layer(x, **options)[0].numpy()
        scale[0] = 3.0
        np.testing.assert_allclose(layer(x, **options)[0].numpy(), 3 * once, rtol=1e-6)


def test_a_cell_without_a_step_raises():
    with pytest.raises(NotImplementedError, match="Cell has no step"):
        nn.Cell(3, 4).step(None, None)


# -- bad input -------------------------------------------------------------------------------------------------------


@all_cells
def test_an_input_of_another_shape_or_dtype_raises(kind):
    cell = CELLS[kind](3, 4)
    for shape in [(2, 4), (3,), (5, 2, 3)]:
        with pytest.raises(ValueError, match=rf"{kind}: expected x \(batch, input_size\) with input_size 3, got shape"):
            cell(Tensor(np.zeros(shape, dtype="float32")))
    with pytest.raises(TypeError, match=f"{kind}: x is a Tensor of float64, .* x.astype\\(.float32.\\)"):
        cell(Tensor(np.zeros((2, 3))))


@all_cells
@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (4,), (2, 5), (2, 2, 4)])
def test_a_state_is_never_broadcast(kind, shape):
    cell = CELLS[kind](3, 4)
    state = as_state([Tensor(np.zeros(shape, dtype="float32"))] * len(cell.states))
    with pytest.raises(ValueError, match=r"state h: expected \(batch, hidden_size\) = \(2, 4\), got .*another batch"):
        cell(Tensor(np.zeros((2, 3), dtype="float32")), state)


@pytest.mark.parametrize("kind, count", [("GRUCell", 2), ("RNNCell", 2), ("LSTMCell", 3)])
def test_a_state_of_another_structure_raises(kind, count):
    part = Tensor(np.zeros((2, 4), dtype="float32"))
    with pytest.raises(TypeError, match=f"state: {kind} needs"):
        CELLS[kind](3, 4)(Tensor(np.zeros((2, 3), dtype="float32")), (part,) * count)
    with pytest.raises(TypeError, match=f"state: {kind} needs"):
        CELLS[kind](3, 4)(Tensor(np.zeros((2, 3), dtype="float32")), [part] * count)


def test_a_cell_with_an_output_of_its_own_returns_both():
    class Doubled(nn.LSTMCell):
        def step(self, carry, x):
            h, c = super().step(carry, x)
            return (h, c), 2 * h

    state, y = Doubled(3, 4)(np.ones((2, 3)))
    assert type(state) is nn.State
    np.testing.assert_array_equal(y.numpy(), 2 * state.h.numpy())


@all_cells
def test_the_state_of_a_layer_is_not_that_of_a_cell(kind):
    state = nn.Recurrent.of(CELLS[kind])(3, 4).initial_state(2)
    with pytest.raises(ValueError, match=r"got \(1, 2, 4\) \(the state of a layer, .*: h\[0\]\)"):
        CELLS[kind](3, 4)(Tensor(np.zeros((2, 3), dtype="float32")), state)


def test_a_cell_without_parameters_says_so():
    class Sum(nn.Cell):
        def step(self, h, x):
            return h + x

    with pytest.raises(ValueError, match="Sum has no parameters, from which its dtype and device are known"):
        nn.Recurrent.of(Sum)(2, 2)(np.ones((3, 1, 2)))
