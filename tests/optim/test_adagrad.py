from __future__ import annotations

import pytest

from tinygrad_gru.optim import Adagrad


@pytest.mark.parametrize("lr_decay", [0.0, 0.2])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("initial", [0.0, 0.5])
@pytest.mark.parametrize("eps", [1e-10, 0.01])
def test_equals_torch(equals_torch, lr_decay, weight_decay, initial, eps):
    equals_torch(
        Adagrad, lr=0.1, lr_decay=lr_decay, weight_decay=weight_decay, initial_accumulator_value=initial, eps=eps
    )


def test_defaults_equal_torch(equals_torch):
    equals_torch(Adagrad)


def test_equals_frozen(equals_frozen):
    equals_frozen(Adagrad)


def test_the_initial_accumulator_value_is_that_of_the_group(parameter):
    tensors = [parameter([1.0], [2.0]), parameter([1.0], [2.0])]
    optimizer = Adagrad([{"parameters": tensors[:1]}, {"parameters": tensors[1:], "initial_accumulator_value": 5.0}])
    optimizer.step()
    assert [float(state["s"][0]) for state in optimizer.state] == [4.0, 9.0]
