"""Scalar arguments: any integral or real type is accepted, NumPy's scalars included."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import Tensor, manual_seed, memory_limit, nn, ops, optim, random_state, scan
from tinygrad_gru.backend import BackendError
from tinygrad_gru.train import LossScaler

X = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
INTEGERS = [np.int64, np.int8, np.uint16, int]
REALS = [np.float16, np.float32, np.float64, float]


@pytest.mark.parametrize("type_", INTEGERS)
def test_integer_arguments_may_be_any_integral_type(type_):
    manual_seed(type_(3))
    assert random_state() == {"seed": 3, "position": 0} and type(random_state()["seed"]) is int
    assert ops.repeat(X, repeats=type_(2), axis=type_(1)).shape == (2, 6)
    assert [part.shape for part in ops.split(X, type_(3), axis=type_(1))] == [(2, 1)] * 3
    assert X[type_(1)].tolist() == [3, 4, 5] and X[type_(1), type_(2)].item() == 5
    assert X[type_(1), [0, 2]].tolist() == [3, 5]
    assert nn.GRU(type_(3), type_(4), num_layers=type_(2))(X.reshape(2, 1, 3).astype("float32"))[0].shape == (2, 1, 4)
    assert LossScaler(growth_interval=type_(5)).growth_interval == 5
    h, _ = scan(lambda h, x: h + x, Tensor(np.zeros(3)), X, checkpoint_every=type_(1))
    assert h.tolist() == [3, 5, 7]
    assert optim.StepDecay(optim.SGD([X]), every=type_(2)).every == 2
    with pytest.raises(BackendError):  # and not a TypeError
        memory_limit(type_(100), "numpy")


@pytest.mark.parametrize("type_", REALS)
def test_float_arguments_may_be_any_real_type(type_):
    assert nn.Dropout(type_(0.5))(X).shape == X.shape
    assert nn.GRU(3, 4, num_layers=2, dropout=type_(0.5)).dropout == 0.5
    assert ops.dropout(X.astype("float32"), p=type_(0.5)).dtype == np.float32
    assert optim.SGD([X], lr=type_(0.5)).groups[0]["lr"] == 0.5
    assert LossScaler(type_(1024)).scale == 1024
    assert ops.clip(X, low=type_(1), high=type_(2)).tolist() == [[1, 1, 2], [2, 2, 2]]
    for y in (ops.leaky_relu(X.astype("float32"), slope=type_(0.5)), ops.elu(X.astype("float32"), alpha=type_(0.5))):
        assert y.dtype == np.float32
    with pytest.raises(BackendError):
        memory_limit(type_(0.5), "numpy")


def test_other_types_raise():
    with pytest.raises(ValueError, match="seed must be an integer"):
        manual_seed(3.0)
    with pytest.raises(ValueError, match="repeats"):
        ops.repeat(X, repeats=2.0, axis=0)
    with pytest.raises(ValueError, match="probability"):
        nn.Dropout("0.5")
