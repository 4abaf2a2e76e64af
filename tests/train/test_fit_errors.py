"""train.fit: errors say what to do."""

import numpy as np
import pytest
from fit_case import LABELS, SEQUENCES, Classifier, Counter, X, Y, network, quiet

from tinygrad_gru import data, nn, ops, optim, train


@pytest.mark.parametrize(
    ("model", "loss", "given", "settings", "message"),
    [
        (network(), ops.mse, (X, Y), {}, "exactly one of epochs, steps and seconds.* none"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "steps": 2}, "got steps and epochs"),
        (network(), ops.mse, (X, Y), {"epochs": 0}, "epochs: expected a whole number, 1 or more, got 0"),
        (network(), ops.mse, (X, Y[:, 0]), {"epochs": 1}, "same shape"),
        (nn.Linear(3, 1), ops.mse, (X, Y[:, 0]), {"epochs": 1}, r"give the targets y as y\.reshape\(-1, 1\)"),
        (network(), lambda p, t: p - t, (X, Y), {"epochs": 1}, "must be a scalar, got shape"),
        (network(), lambda p, t: ops.mse(p, t).item(), (X, Y), {"epochs": 1}, "returns a Tensor.* got a float"),
        (nn.Sequential(ops.tanh), ops.mse, (X, Y), {"epochs": 1}, "has no parameters"),
        (network().freeze(), ops.mse, (X, Y), {"epochs": 1}, "all are frozen"),
        (lambda x: x, ops.mse, (X, Y), {"epochs": 1}, "expected a Module"),
        (network(), "mse", (X, Y), {"epochs": 1}, r"got 'mse': write ops\.mse"),
        (network(), ops.mse, [], {"epochs": 1}, "there are no batches"),
        (network(), nn.MSELoss, (X, Y), {"epochs": 1}, r"got a class: write MSELoss\(\)"),
        (network(), ops.mse, X, {"epochs": 1}, r"got one array of shape \(50, 3\): give the targets too, as \(x, y\)"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "schedule": "cosine"}, "a class such as optim.WarmupCosine"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "validation_split": 0.1}, r"write validation=0\.1"),
        (network(), ops.mse, (X, Y), {"epoch": 1}, "no argument 'epoch'.*did you mean 'epochs'"),
        (network(), ops.mse, (X[:0], Y[:0]), {"epochs": 1}, "there are no examples"),
        (network(), ops.mse, [X], {"epochs": 1}, r"a batch must be \(inputs, targets\)"),
        (network(), ops.mse, [([X, Y], Y)], {"epochs": 1}, r"inputs: .* several inputs are a tuple, \(x, lengths\)"),
        (network(), ops.mse, 3, {"epochs": 1}, "expected arrays .* got int"),
        (network(), ops.mse, ([["a"]], [[1.0]]), {"epochs": 1}, "must hold numbers"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "optimizer": "addam"}, "did you mean 'adam'"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "metrics": ["acuracy"]}, "did you mean 'accuracy'"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "validation": 1.5}, "a fraction between 0 and 1, got 1.5"),
        (network(), ops.mse, [(X, Y)], {"epochs": 1, "validation": 0.5}, "a fraction is of arrays"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "patience": 3}, "give validation="),
        (network(), ops.mse, (X, Y), {"epochs": 1, "resume": True}, "give folder="),
        (network(), ops.mse, (X, Y), {"seconds": 1, "schedule": optim.WarmupCosine}, "not known in advance"),
        (network(), ops.mse, iter([(X, Y)]), {"epochs": 1, "schedule": optim.WarmupCosine}, "give steps="),
        (network(), ops.mse, iter([(X, Y)]), {"epochs": 2}, "can be passed over once"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "carry_state": True}, "positional argument|carry_state"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "accumulate": 0}, "accumulate: expected a whole number"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "precision": "int8"}, "precision: expected one of"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "callbacks": [Counter]}, r"expected Callback objects.*Counter\(\)"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(model, loss, given, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        quiet(model, loss, given, **settings)


def test_arrays_beside_each_other_are_answered_with_a_pair():
    with pytest.raises(TypeError, match=r"arrays are given together, as \(x, y\)"):
        train.fit(network(), ops.mse, X, Y, epochs=1)


def test_an_optimizer_or_schedule_of_another_model_is_refused():
    other = optim.SGD(network().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="none of its parameters is one of the model"):
        quiet(network(), ops.mse, (X, Y), epochs=1, optimizer=other)
    with pytest.raises(ValueError, match="one of another optimizer"):
        quiet(network(), ops.mse, (X, Y), epochs=1, schedule=optim.StepDecay(other, every=3))
    with pytest.raises(ValueError, match="lr: the optimizer that was given has its own"):
        quiet(network(), ops.mse, (X, Y), epochs=1, optimizer=other, lr=0.1)


def test_a_fraction_of_sorted_examples_is_refused():
    labels = np.repeat([0, 1], [24, 16])
    with pytest.raises(ValueError, match="the examples are sorted"):
        quiet(Classifier(), ops.cross_entropy, (SEQUENCES, labels), epochs=1, validation=0.4)


def test_predictions_in_another_order_than_the_data_are_refused():
    for batches in (data.ArrayBatches(X, Y, seed=0), data.SequenceBatches(list(SEQUENCES), LABELS, bucket=2)):
        with pytest.raises(ValueError, match="in another order than the data, and predictions would be: leave out"):
            train.predict(network(), batches)
