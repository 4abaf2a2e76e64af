from __future__ import annotations

import pytest

from tinygrad_gru.optim import SGD


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(
    "settings", [{}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3}, {"momentum": 0.9, "nesterov": True}]
)
def test_equals_torch(equals_torch, settings, weight_decay):
    equals_torch(SGD, lr=0.1, weight_decay=weight_decay, **settings)


def test_defaults_equal_torch(equals_torch):
    equals_torch(SGD)


def test_equals_frozen(equals_frozen):
    equals_frozen(SGD)


def test_keeps_a_buffer_only_for_momentum(parameter):
    tensors = [parameter([1.0, 2.0], [0.5, 0.5]) for _ in range(2)]
    optimizer = SGD([{"parameters": tensors[:1]}, {"parameters": tensors[1:], "momentum": 0.9}])
    optimizer.step()
    assert [list(state) for state in optimizer.state] == [[], ["b"]]


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9, "dampening": 0.1}])
def test_nesterov_needs_momentum_without_dampening(parameter, settings):
    with pytest.raises(ValueError, match="nesterov"):
        SGD([parameter([1.0])], nesterov=True, **settings)
