from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import Tensor
from tinygrad_gru.optim import SGD, Adagrad, Adam, AdamW, RMSprop


@pytest.mark.parametrize("given", [[], iter(()), [{"parameters": []}]])
def test_no_parameters(given):
    with pytest.raises(ValueError, match="group 0: no parameters"):
        Adam(given)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"parameters": [x]}, lambda x: 3, lambda x: None])
def test_not_a_list(parameter, wrap):
    with pytest.raises(TypeError, match="expected a list of tensors or of groups"):
        Adam(wrap(parameter([1.0])))


@pytest.mark.parametrize(
    ("entry", "hint"),
    [(np.zeros(3), "expected a Tensor, got ndarray"), (("weight", None), "named_parameters"), (1.0, "float")],
)
def test_not_a_tensor(parameter, entry, hint):
    with pytest.raises(TypeError, match=f"group 0, parameter 1.*{hint}"):
        Adam([parameter([1.0]), entry])


def test_tensors_and_groups_mixed(parameter):
    with pytest.raises(TypeError, match="group 1"):
        Adam([{"parameters": [parameter([1.0])]}, parameter([1.0])])


def test_the_same_parameter_twice(parameter):
    tensor, other = parameter([1.0]), parameter([1.0])
    with pytest.raises(ValueError, match="group 1, parameter 1 is group 0, parameter 0 again"):
        Adam([{"parameters": [tensor]}, {"parameters": [other, tensor]}])


def test_equal_parameters_are_not_the_same(parameter):
    assert len(Adam([parameter([1.0]), parameter([1.0])]).parameters()) == 2


def test_the_result_of_an_op(parameter):
    with pytest.raises(ValueError, match="only leaves"):
        Adam([parameter([1.0]) * 2.0])


def test_no_gradient_required():
    with pytest.raises(ValueError, match="does not require a gradient"):
        Adam([Tensor([1.0])])


@pytest.mark.parametrize(
    ("optimizer_class", "settings", "error"),
    [
        (SGD, {"lr": -0.1}, ValueError),
        (SGD, {"momentum": 1.0}, ValueError),
        (SGD, {"dampening": -0.1}, ValueError),
        (SGD, {"nesterov": 1}, TypeError),
        (RMSprop, {"alpha": 1.5}, ValueError),
        (Adagrad, {"lr_decay": -1}, ValueError),
        (Adagrad, {"initial_accumulator_value": -1}, ValueError),
        (Adam, {"lr": float("nan")}, ValueError),
        (Adam, {"lr": float("inf")}, ValueError),
        (Adam, {"lr": "0.1"}, TypeError),
        (Adam, {"lr": True}, TypeError),
        (Adam, {"lr": None}, TypeError),
        (Adam, {"betas": (0.9, 1.0)}, ValueError),
        (Adam, {"betas": 0.9}, TypeError),
        (Adam, {"betas": (0.9,)}, TypeError),
        (Adam, {"eps": -1e-8}, ValueError),
        (Adam, {"amsgrad": 1e-8}, TypeError),
        (AdamW, {"weight_decay": -0.01}, ValueError),
    ],
)
def test_a_setting_that_is_not_allowed_is_named(parameter, optimizer_class, settings, error):
    (name,) = settings
    with pytest.raises(error, match=f"group 0: {name}"):
        optimizer_class([parameter([1.0])], **settings)
    with pytest.raises(error, match=f"group 1: {name}"):
        optimizer_class([{"parameters": [parameter([1.0])]}, {"parameters": [parameter([1.0])], **settings}])


def test_an_unknown_setting_of_a_group(parameter):
    with pytest.raises(ValueError, match=r"Adam takes lr, betas.*momentum"):
        Adam([{"parameters": [parameter([1.0])], "momentum": 0.9}])


def test_an_invalid_change_of_a_setting_raises_at_the_next_step(parameter):
    tensor = parameter([1.0], [1.0])
    optimizer = Adam([tensor])
    optimizer.groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match="lr"):
        optimizer.step()
    assert tensor.numpy() == [1.0]
