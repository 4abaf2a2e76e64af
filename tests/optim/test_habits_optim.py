"""What people from PyTorch and Keras type: names of arguments, schedules and attributes, and what they are answered."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, optim

ANSWERS = [
    (
        lambda m: optim.Adam(m.parameters(), learning_rate=0.1),
        TypeError,
        "Adam has no keyword 'learning_rate'; here it is lr",
    ),
    (lambda m: optim.SGD(m.parameters(), momentun=0.1), TypeError, "'momentun' (did you mean 'momentum'?); it has"),
    (lambda m: optim.RMSprop(m.parameters(), rho=0.9), TypeError, "here it is alpha"),
    (lambda m: optim.Adam(m.parameters(), clipnorm=1.0), TypeError, "optim.clip_gradient_norm(parameters, max_norm)"),
    (lambda m: optim.LBFGS(m.parameters(), line_search="strong_wolfe"), TypeError, "here it is line_search_fn"),
    (lambda m: optim.Adam(m.parameters), TypeError, "parameters is a method: call it, model.parameters()"),
    (lambda m: optim.Adam(m), TypeError, "a module's are model.parameters()"),
    (lambda m: optim.Adam([{"params": m.parameters()}]), TypeError, 'write "parameters" for it'),
    (lambda m: optim.Adam([{"parameters": m}]), TypeError, 'group 0: "parameters": expected a list of tensors or'),
    (lambda m: optim.Adam([{"parameters": m.parameters}]), TypeError, '"parameters": parameters is a method: call it'),
    (lambda m: optim.Adam([{"parameters": [m]}]), TypeError, "got Linear (the parameters of modules are [*first.par"),
    (
        lambda m: optim.Adam([{"parameters": m.parameters(), "learning_rate": 1.0}]),
        ValueError,
        "unknown: learning_rate (here it is lr)",
    ),
    (lambda m: optim.StepDecay(optim.SGD(m.parameters()), step_size=5), TypeError, "here it is every"),
    (lambda m: optim.OneCycle(optim.SGD(m.parameters()), 9, max_lr=1), TypeError, "here it is the lr of the optimizer"),
    (
        lambda m: optim.StepDecay(m.parameters(), 5),
        TypeError,
        "optimizer: expected an optimizer, which comes first, got",
    ),
    (lambda m: optim.clip_gradient_norm(m.parameters, 1.0), TypeError, "got a method: write model.parameters()"),
    (lambda m: optim.clip_gradient_value(m, 1.0), TypeError, "got a Linear: write model.parameters()"),
    (lambda m: optim.StepLR, AttributeError, "optim.StepDecay(optimizer, every=step_size, decay=gamma)"),
    (lambda m: optim.CosineAnnealingLR, AttributeError, "optim.WarmupCosine("),
    (lambda m: optim.ReduceLROnPlateau, AttributeError, "optim.ReduceOnPlateau("),
    (lambda m: optim.OneCycleLR, AttributeError, "optim.OneCycle("),
    (lambda m: optim.LambdaLR, AttributeError, "class Mine(optim.Schedule)"),
    (lambda m: optim.lr_scheduler, AttributeError, "optim.StepDecay, OneCycle"),
    (lambda m: optim.NAdam, AttributeError, "optim.Adam or optim.AdamW"),
    (lambda m: optim.RMSProp, AttributeError, "did you mean 'RMSprop'?"),
]


@pytest.mark.parametrize(("write", "error", "answer"), ANSWERS, ids=[answer[:24] for *_, answer in ANSWERS])
def test_foreign_names_are_answered(write, error, answer):
    with pytest.raises(error, match=re.escape(answer)):
        write(nn.Linear(2, 3))


def test_an_optimizer_of_ones_own_is_answered_too_and_may_take_any_keyword():
    class Own(optim.SGD):
        def __init__(self, parameters, lr=0.1):
            super().__init__(parameters, lr)

    class Open(optim.SGD):
        def __init__(self, parameters, **settings):
            super().__init__(parameters, **settings)

    with pytest.raises(TypeError, match="Own has no keyword 'momentum'; it has parameters, lr"):
        Own(nn.Linear(2, 3).parameters(), momentum=0.5)
    assert Open(nn.Linear(2, 3).parameters(), momentum=0.5).groups[0]["momentum"] == 0.5


def test_the_learning_rate_can_be_read_and_set():
    optimizer = optim.Adam(nn.Linear(2, 3).parameters(), lr=0.1)
    optimizer.lr = optimizer.lr / 2
    assert optimizer.lr == optimizer.learning_rate == optimizer.param_groups[0]["lr"] == 0.05
    optimizer.learning_rate = 0.2
    assert optim.StepDecay(optimizer, 3).get_last_lr() == [0.2]
    with pytest.raises(TypeError, match="lr: expected a number, got 'fast'"):
        optimizer.lr = "fast"
    groups = [{"parameters": nn.Linear(2, 3).parameters(), "lr": rate} for rate in (0.1, 0.2)]
    with pytest.raises(ValueError, match=r'the groups have \[0.1, 0.2\]: write optimizer.groups\[i\]\["lr"\]'):
        assert optim.SGD(groups).lr


def test_step_with_a_closure_and_gradients_of_zeros():
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    optimizer = optim.SGD([x], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = x.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 5.0 and x.tolist() == [0.0, 0.0]
    optimizer.zero_grad(set_to_none=False)
    assert x.grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert x.grad is None
    optimizer.zero_grad(set_to_none=False)
    assert x.grad is None
