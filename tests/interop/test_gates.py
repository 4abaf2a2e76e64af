"""Conversion of gate layouts, and what cannot be converted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_gru import Tensor, nn
from tinygrad_gru.interop.gates import KERAS, ONNX, TORCH, Layout, StackedWeights, from_ours, to_ours

LAYOUTS = {"torch": TORCH, "keras": KERAS, "onnx": ONNX}
CELLS = {"RNN": nn.RNNCell, "GRU": nn.GRUCell, "LSTM": nn.LSTMCell}


def randomized(cell, seed=0):
    random = np.random.default_rng(seed)
    cell.load_state_dict({name: random.standard_normal(value.shape) for name, value in cell.state_dict().items()})
    return cell


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_round_trip(layout, kind, bias):
    cell = randomized(CELLS[kind](3, 2, bias=bias, dtype="float64"))
    ours = cell.state_dict()
    back = to_ours(layout, kind, from_ours(layout, kind, ours, bias))
    assert back.keys() == ours.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(back[name], value)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_second_bias_of_the_candidate_is_separate(layout):
    ours = randomized(nn.GRUCell(3, 2, reset_after=True, dtype="float64")).state_dict()
    stacked = from_ours(layout, "GRU", ours)
    inner = layout.gates["GRU"].index("h") * 2
    np.testing.assert_array_equal(stacked.b_h[inner : inner + 2], ours["c_h"])
    assert np.count_nonzero(stacked.b_h) == 2
    back = to_ours(layout, "GRU", stacked, reset_after=True)
    assert all((back[name] == value).all() for name, value in ours.items())


def test_gate_orders_and_signs():
    """The definitions of the three libraries, spelled out."""
    ours = {f"{letter}_{gate}": np.full((1, 1), ord(gate)) for letter in "WU" for gate in "rzh"}

    def order(layout):
        codes = from_ours(layout, "GRU", ours, False).W.ravel().astype(int).tolist()
        return [chr(abs(code)) + "-" * (code < 0) for code in codes]

    assert order(TORCH) == ["r", "z-", "h"]
    assert order(KERAS) == order(ONNX) == ["z-", "r", "h"]
    ours = {f"{letter}_{gate}": np.full((2, 1), ord(gate)) for letter in "WU" for gate in "ifgo"}
    stacked = {name: from_ours(layout, "LSTM", ours, False).W for name, layout in LAYOUTS.items()}
    assert stacked["torch"].shape == stacked["onnx"].shape == (4, 2) and stacked["keras"].shape == (2, 4)
    assert "".join(map(chr, stacked["torch"][:, 0])) == "".join(map(chr, stacked["keras"][0])) == "ifgo"
    assert "".join(map(chr, stacked["onnx"][:, 0])) == "iofg"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_the_sign_of_the_update_gate_is_converted_exactly(seed, reset_after):
    """h' = (1 − z) h̃ + z h with z of weights negated is ours: σ(−a) = 1 − σ(a)."""
    cell = randomized(nn.GRUCell(3, 2, dtype="float64", **({"reset_after": True} if reset_after else {})), seed)
    random = np.random.default_rng(seed)
    x, h = random.standard_normal((2, 4, 3)), random.standard_normal((4, 2))
    p = cell.state_dict()
    z = 1 / (1 + np.exp(x[0] @ p["W_z"] + h @ p["U_z"] + p["b_z"]))  # of −a
    r = 1 / (1 + np.exp(-(x[0] @ p["W_r"] + h @ p["U_r"] + p["b_r"])))
    inner = r * (h @ p["U_h"] + p["c_h"]) if reset_after else (r * h) @ p["U_h"]
    theirs = (1 - z) * np.tanh(x[0] @ p["W_h"] + inner + p["b_h"]) + z * h
    np.testing.assert_allclose(cell(Tensor(x[0]), Tensor(h)).numpy(), theirs, rtol=1e-12, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["RNN", "GRU", "LSTM"]), st.booleans())
def test_two_biases_are_their_sum(seed, kind, reset_after):
    """Everywhere, but for the candidate of a GRU whose reset gate comes after the product."""
    random = np.random.default_rng(seed)
    reset_after = reset_after and kind == "GRU"
    gates = len(TORCH.gates[kind])
    draw = [random.standard_normal(shape) for shape in ((gates * 2, 3), (gates * 2, 2), gates * 2, gates * 2)]
    options = {"reset_after": True} if reset_after else {}
    cell = CELLS[kind](3, 2, dtype="float64", **options)
    x = Tensor(random.standard_normal((4, 3)))
    h = Tensor(random.standard_normal((4, 2)))
    state = (h, h) if kind == "LSTM" else h

    def result(b_x, b_h):
        cell.load_state_dict(to_ours(TORCH, kind, StackedWeights(*draw[:2], b_x, b_h), reset_after))
        new = cell(x, state)
        return (new[0] if kind == "LSTM" else new).numpy()

    b_x, b_h = draw[2:]
    if reset_after:  # what may be moved from one to the other is all but the last third
        moved = np.where(np.arange(len(b_h)) < 4, b_h, 0)
        np.testing.assert_allclose(result(b_x, b_h), result(b_x + moved, b_h - moved), rtol=1e-12, atol=1e-12)
        assert not np.allclose(result(b_x, b_h), result(b_x + b_h, 0 * b_h), rtol=0, atol=1e-6)
    else:
        np.testing.assert_allclose(result(b_x, b_h), result(b_x + b_h, None), rtol=1e-12, atol=1e-12)


def test_conversion_of_tensors_is_differentiable():
    W, U, b = (Tensor(np.ones(shape), requires_grad=True) for shape in ((6, 3), (6, 2), (6,)))
    ours = to_ours(TORCH, "GRU", StackedWeights(W, U, b, b))
    sum(tensor.sum() for tensor in ours.values()).backward()
    np.testing.assert_array_equal(W.grad.numpy()[:, 0], [1, 1, -1, -1, 1, 1])
    np.testing.assert_array_equal(b.grad.numpy(), [2, 2, -2, -2, 2, 2])


def test_a_user_defined_layout():
    swapped = Layout({"GRU": ("h", "z", "r")}, out_first=False)
    ours = randomized(nn.GRUCell(3, 2, dtype="float64")).state_dict()
    np.testing.assert_array_equal(from_ours(swapped, "GRU", ours).W[:, :2], ours["W_h"])
