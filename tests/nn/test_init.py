import math

import numpy as np
import pytest

from tinygrad_gru import manual_seed, nn
from tinygrad_gru.nn import init

FAN_IN, FAN_OUT = 200, 300

# Name, the sample, its bound (None: normal), its standard deviation.
SPREADS = [
    ("uniform", lambda: init.uniform(FAN_IN, FAN_OUT, bound=0.3), 0.3, 0.3 / math.sqrt(3)),
    ("normal", lambda: init.normal(FAN_IN, FAN_OUT, scale=0.7), None, 0.7),
    ("xavier_uniform", lambda: init.xavier_uniform(FAN_IN, FAN_OUT), math.sqrt(6 / 500), math.sqrt(2 / 500)),
    ("xavier_uniform with a gain", lambda: init.xavier_uniform(FAN_IN, FAN_OUT, gain=5 / 3), 5 / 3 * math.sqrt(6 / 500),
     5 / 3 * math.sqrt(2 / 500)),
    ("xavier_normal", lambda: init.xavier_normal(FAN_IN, FAN_OUT), None, math.sqrt(2 / 500)),
    ("xavier_normal with a gain", lambda: init.xavier_normal(FAN_IN, FAN_OUT, gain=2), None, 2 * math.sqrt(2 / 500)),
    ("he_uniform", lambda: init.he_uniform(FAN_IN, FAN_OUT), math.sqrt(6 / 200), math.sqrt(2 / 200)),
    ("he_normal", lambda: init.he_normal(FAN_IN, FAN_OUT), None, math.sqrt(2 / 200)),
]  # fmt: skip


@pytest.mark.parametrize("draw, bound, deviation", [row[1:] for row in SPREADS], ids=[row[0] for row in SPREADS])
def test_samples_have_the_bounds_and_deviation_of_their_formulas(draw, bound, deviation):
    w = draw()
    assert w.shape == (FAN_IN, FAN_OUT)
    # 60 000 samples: the mean is off by deviation / 245, the deviation by a few parts in a thousand.
    assert abs(w.mean()) < deviation / 50
    assert w.std() == pytest.approx(deviation, rel=0.02)
    if bound is None:
        assert 3.5 * deviation < np.abs(w).max() < 6 * deviation
    else:
        assert 0.99 * bound < np.abs(w).max() <= bound


@pytest.mark.parametrize("rows, columns", [(5, 5), (7, 3), (3, 7), (1, 4), (1, 1)])
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_orthogonal_preserves_norms(rows, columns, gain):
    w = init.orthogonal(rows, columns, gain=gain)
    assert w.shape == (rows, columns)
    product = w.T @ w if rows >= columns else w @ w.T
    np.testing.assert_allclose(product, gain**2 * np.eye(min(rows, columns)), atol=1e-12)


def test_orthogonal_is_uniform_over_directions():
    """Were the signs of the QR left as they come, diagonals would all have one sign."""
    diagonals = np.array([np.diagonal(init.orthogonal(3, 3)) for _ in range(400)])
    assert np.all(np.abs(diagonals.mean(axis=0)) < 4 / math.sqrt(3 * 400))
    assert diagonals.var() == pytest.approx(1 / 3, abs=0.05)


def test_a_seed_gives_the_same_initial_values_on_every_backend(device):
    def build():
        manual_seed(5)
        return nn.Sequential(nn.Embedding(4, 3), nn.LSTM(3, 2, device=device), nn.Linear(2, 2)).state_dict()

    first, second = build(), build()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
    manual_seed(6)
    assert np.all(nn.Embedding(4, 3).W.numpy() != first["layers.0.W"])


def test_two_samples_differ():
    assert np.all(init.normal(50) != init.normal(50))
    cell = nn.GRUCell(3, 3)
    weights = [cell.W_r, cell.W_z, cell.W_h, cell.U_r, cell.U_z, cell.U_h]
    samples = [weight.numpy() for weight in weights]
    assert all(np.all(a != b) for i, a in enumerate(samples) for b in samples[:i])


def test_initial_values_of_layers():
    linear = nn.Linear(100, 300)
    assert 0.099 < np.abs(linear.W.numpy()).max() <= 0.1
    assert 0.09 < np.abs(linear.b.numpy()).max() <= 0.1
    assert nn.Embedding(1000, 50).W.numpy().std() == pytest.approx(1, rel=0.02)
    norm = nn.LayerNorm(3)
    np.testing.assert_array_equal(norm.weight.numpy(), np.ones(3))
    np.testing.assert_array_equal(norm.bias.numpy(), np.zeros(3))


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_initial_values_of_cells(cell):
    made = cell(50, 40)
    for name, tensor in made.named_tensors():
        value = tensor.numpy()
        if name.startswith("W"):
            assert 0.95 * math.sqrt(6 / 90) < np.abs(value).max() <= math.sqrt(6 / 90)
        elif name.startswith("U"):
            np.testing.assert_allclose(value @ value.T, np.eye(40), atol=1e-5)
        else:
            np.testing.assert_array_equal(value, np.full(40, 1.0 if name == "b_f" else 0.0))
