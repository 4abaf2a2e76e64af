"""Gradients that are sent while those of earlier layers are computed, and what may change them afterwards."""

import numpy as np
import pytest

from tinygrad_gru import nn, ops, optim, parallel
from tinygrad_gru.parallel.buckets import GradientSum
from tinygrad_gru.parallel.transport import Single


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch):
    """Each parameter has its own."""
    monkeypatch.setattr("tinygrad_gru.parallel.buckets.BUCKET_BYTES", 1)


class Recorder(Single):
    """A transport of one process that counts its sums, and notes what it has gathered last."""

    begun = 0

    def gather(self, values):
        self.told = values
        return super().gather(values)

    def sum(self, values, exact):
        self.begun += 1
        return lambda: values


class Case:
    """Three layers, whose gradients are summed over the shards of one process."""

    def __init__(self, shards=1, overlap=True):
        self.layers = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(3)))
        self.parameters, self.transport, self.shards = [*self.layers.parameters()], Recorder(), shards
        self.optimizer = optim.SGD(self.parameters, lr=0.1)
        self.gradients = GradientSum(self.optimizer, self.transport, exact=True, overlap=overlap)

    def loss(self, x=1.0):
        return ops.tanh(self.layers(np.full((1, 2), x, "f"))).sum()

    def backward(self, x=1.0):
        self.loss(x).backward()

    def step(self, *passes, after=lambda: None):
        """The number of sums that begin in the last of the passes of each shard, and after all shards."""
        self.gradients.begin(self.shards)
        before = self.transport.begun
        for _ in range(self.shards):
            for number, backward in enumerate(passes, 1):
                with self.gradients.sending(number == len(passes)):
                    backward()
            after()
            expected = [p.grad if p.grad is None else p.grad.numpy() * self.shards for p in self.parameters]
            early = self.transport.begun
            self.gradients.push()
            self.optimizer.zero_grad()
        self.gradients.reduce()
        for parameter, gradient in zip(self.parameters, expected):
            assert gradient is parameter.grad or np.array_equal(parameter.grad.numpy(), gradient)
        return early - before, self.transport.begun - early


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_the_last_shard_sends_gradients_of_the_last_layers_first(shards):
    case, sent = Case(shards), []

    def backward():
        y = case.layers[0](np.ones((1, 2), "f"))
        y.register_hook(lambda g: sent.append(case.transport.begun))
        case.layers[2](case.layers[1](y)).sum().backward()

    assert case.step(backward) == (3, 0)
    assert case.step(backward) == (3, 0)
    assert sent == [0] * (shards - 1) + [2] + [3] * (shards - 1) + [5]


def test_of_several_batches_in_a_shard_the_last_one_sends():
    case = Case(2)
    assert case.step(lambda: case.backward(2.0), case.backward) == (3, 0)


def halve(case):
    case.parameters[0].grad.data[...] *= 0.5


@pytest.mark.parametrize("backward, after", [
    (lambda case: (case.backward(), case.backward(3.0)), lambda case: None),
    (Case.backward, halve),
])  # fmt: skip
def test_gradients_that_change_after_they_were_sent_are_sent_again(backward, after):
    case = Case(2)
    for _ in range(3):
        early, later = case.step(lambda: backward(case), after=lambda: after(case))
        assert early == 3 and later > 0
    assert case.step(lambda: backward(case), after=lambda: after(case)) == (0, 3)  # it is given up


def test_a_gradient_that_is_dropped_after_it_was_sent_is_none():
    case = Case()
    drop = case.layers[1].zero_grad
    assert case.step(case.backward, after=drop) == (3, 1)
    assert case.step(case.backward, after=drop) == (3, 0)  # it is not waited for


def test_a_parameter_that_is_frozen_or_unused_keeps_no_other_from_being_sent():
    case = Case()
    case.parameters[2].requires_grad = False
    assert case.step(case.backward) == (3, 0)
    x = np.ones((1, 2), "f")
    assert case.step(lambda: case.layers[0](x).sum().backward()) == (1, 2)
    assert case.step(lambda: case.layers[0](x).sum().backward()) == (3, 0)
    assert case.step(case.backward) == (3, 0)  # the one that was unused comes first
    for on, expected in ((False, (3, 0)), (True, (3, 1))):  # both are sent before the second is complete
        case.parameters[1].requires_grad = case.parameters[2].requires_grad = on
        assert case.step(case.backward) == expected


def test_a_step_that_is_given_up_has_sent_all_its_sums_before_the_next_one():
    case = Case()

    def fails(gradient):
        raise OSError

    for wrong in (case.layers[0], case.layers[2]):
        case.gradients.begin(1)
        before = case.transport.begun
        y = wrong(np.ones((1, 2), "f"))
        y.register_hook(fails)
        with pytest.raises(OSError), case.gradients.sending():
            (case.loss() + y.sum()).backward()
        assert case.step(case.backward) == (3, 0) and case.transport.begun == before + 6


def test_a_step_that_is_given_up_before_the_first_gradient_has_sent_all_its_sums_too():
    """Otherwise those of this rank's next step would be added to those that others have sent in this one."""
    case = Case(2)
    case.gradients.begin(2)
    assert case.step(case.backward) == (3, 0) and case.transport.begun == 6


@pytest.mark.parametrize("overlap", [True, False])
def test_a_rank_that_gives_up_a_step_in_which_another_one_goes_on_is_named(overlap):
    """Otherwise the gradients of its next step would be added to those of the other's."""
    case, other = Case(overlap=overlap), Case(overlap=overlap)
    other.gradients.begin(1)
    other.step(other.backward)
    case.transport.gather = lambda values: np.stack([values, other.transport.told])
    with pytest.raises(parallel.ParallelError, match=r"rank 1 of 1 has begun 2 .* rank 0 1: one .* given up a step"):
        case.step(case.backward)
