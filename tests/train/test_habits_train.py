"""Habits of Keras's and scikit-learn's users around training: each works, or is answered with what to type."""

import re

import numpy as np
import pytest

from tinygrad_gru import data, nn, ops, optim, train

X, Y = np.ones((8, 2)), np.zeros((8, 1))


def mse(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred))


def fit(**settings):
    return train.fit(
        nn.Linear(2, 1), settings.pop("loss", ops.mse), (X, Y), **{"epochs": 2, "progress": False} | settings
    )


def ends_with(loss, *layers):
    return train.fit(nn.Sequential(nn.Linear(2, 2), *layers), loss, (X, X), epochs=1, progress=False)


def event(name):
    return type("Mine", (train.Callback,), {name: lambda self, epoch, logs=None: None})


ANSWERED = {
    "a loss (y_true, y_pred)": (lambda: fit(loss=mse), "write lambda outputs, targets: mse(targets, outputs)"),
    "such a lambda": (lambda: fit(loss=lambda y_true, y_pred: 0), "takes the targets first"),
    "such a loss of evaluate": (lambda: train.evaluate(nn.Linear(2, 1), mse, (X, Y)), "takes the targets first"),
    "a metric (y_true, y_pred)": (lambda: fit(metrics=[mse]), "metric: mse(y_true, y_pred) takes the targets first"),
    "a loss by Keras's name": (
        lambda: fit(loss="sparse_categorical_crossentropy"),
        "write ops.cross_entropy, which takes logits: no softmax before it",
    ),
    "a softmax before the loss": (
        lambda: ends_with(ops.cross_entropy, nn.Softmax()),
        "cross_entropy takes logits, and the model ends with a softmax, which would act twice",
    ),
    "the same as functions": (lambda: ends_with(nn.CrossEntropyLoss(), ops.softmax), "ops.softmax(train.predict(model"),
    "a sigmoid before the loss": (
        lambda: ends_with(ops.binary_cross_entropy_with_logits, nn.Sequential(nn.Sigmoid())),
        "the model ends with a sigmoid",
    ),
    "one output and cross_entropy": (
        lambda: train.fit(nn.Linear(2, 1), ops.cross_entropy, (X, np.zeros(8, int)), epochs=1, progress=False),
        "cross_entropy of one class is always 0",
    ),
    "Dense(8, 'relu')": (lambda: nn.Linear(5, 8, "relu"), "bias: expected a truth value, got 'relu' (an activation"),
    "GRU(3, 8, True)": (lambda: nn.GRU(3, 8, True), "num_layers: expected a positive integer, got True"),
    "a method call": (
        lambda: type("Mine", (nn.Module,), {"call": lambda self, x: x})()(X),
        "Mine has no forward; it has a method call, which is Keras's name for it",
    ),
    "split(random_state=0)": (lambda: data.split(8, 0.8, random_state=0), "here it is seed"),
    "a loss by our name": (lambda: fit(loss="mse"), "write ops.mse"),
    "fit(model, x, y)": (
        lambda: train.fit(nn.Linear(2, 1), X, Y, epochs=2),
        "got an array of shape (8, 2): write (model, ops.mse, (x, y))",
    ),
    "evaluate(model, x, y)": (lambda: train.evaluate(nn.Linear(2, 1), X, Y), "write (model, ops.mse, (x, y))"),
    "evaluate(model, loss, x, y)": (
        lambda: train.evaluate(nn.Linear(2, 1), ops.mse, X, Y),
        "evaluate: takes model, loss and data by position; arrays are given together, as (x, y)",
    ),
    "evaluate(verbose=0)": (
        lambda: train.evaluate(nn.Linear(2, 1), ops.mse, (X, Y), verbose=0),
        "evaluate: there is no argument 'verbose': write nothing: it prints nothing",
    ),
    "predict(verbose=0)": (lambda: train.predict(nn.Linear(2, 1), X, verbose=0), "predict: there is no argument"),
    "predict(batchsize=2)": (lambda: train.predict(nn.Linear(2, 1), X, batchsize=2), "did you mean 'batch_size'?"),
    "class_weight": (lambda: fit(class_weight={0: 1.0}), "nn.CrossEntropyLoss(weight=[1.0, 2.0])"),
    "sample_weight": (lambda: fit(sample_weight=np.ones(8)), "a loss of your own that uses them"),
    "initial_epoch": (lambda: fit(initial_epoch=2), "resume=True to go on"),
    "acc": (lambda: fit(metrics=["acc"]), "there is no 'acc': write 'accuracy'"),
    "f1": (lambda: fit(metrics=["f1"]), "write train.ConfusionMatrix()"),
    "train.callbacks.EarlyStopping": (lambda: train.callbacks.EarlyStopping, "here it is train.fit("),
    "on_epoch_end(epoch, logs)": (
        lambda: event("on_epoch_end"),
        "Mine: on_epoch_end is called with the loop, and here its first argument is 'epoch': write on_epoch_end(loop, "
        "record)",
    ),
    "on_train_begin(logs)": (lambda: event("on_train_begin"), "write on_train_begin(loop)"),
    "LambdaCallback": (
        lambda: train.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
        "LambdaCallback: on_epoch_end is called with the loop",
    ),
    "a schedule of the epoch": (lambda: fit(schedule=lambda epoch: 0.9), "`class Mine(optim.Schedule):`"),
    "a plateau without validation": (lambda: fit(schedule=optim.ReduceOnPlateau), "give validation="),
    "history.history": (lambda: fit().history, "history.epochs: a record per epoch"),
    "history.epoch": (lambda: fit().epoch, "history.epochs"),
    "history.best_epoch": (lambda: fit().best_epoch, "history.best['epoch']"),
    "train.score": (lambda: train.score, "train.evaluate(model, loss, (x, y), metrics=['accuracy'])"),
    "Adam(lr=…)": (lambda: fit(optimizer=optim.Adam(lr=1e-3)), "write Adam(model.parameters(), …)"),
    "an optimizer of the model": (lambda: optim.Adam(nn.Sequential(nn.Linear(2, 1))), "the parameters of modules are"),
    "a layer by its name": (lambda: nn.Sequential(nn.Linear(2, 1), "relu"), "got str 'relu': write ops.relu"),
    "targets that are booleans": (
        lambda: ops.cross_entropy(X, np.array([True] * 8)),
        "got bool: class ids, such as targets.astype('int64')",
    ),
    "from_logits": (lambda: ops.cross_entropy(X, np.zeros(8, int), from_logits=True), "losses take logits"),
}


@pytest.mark.parametrize("habit", ANSWERED)
def test_it_is_answered_with_what_to_type(habit):
    typed, answer = ANSWERED[habit]
    with pytest.raises((TypeError, ValueError, AttributeError, NotImplementedError), match=re.escape(answer)):
        typed()


def test_a_callback_needs_no_list():
    seen = []
    fit(callbacks=train.LambdaCallback(on_epoch_end=lambda loop, record: seen.append(loop.epoch)))
    assert len(seen) == 2


def test_a_plateau_as_a_class_needs_no_number_of_steps():
    history = fit(schedule=optim.ReduceOnPlateau, validation=0.25)
    assert len(history["validation_loss"]) == 3


def test_a_loss_of_outputs_and_targets_by_any_names_works():
    for loss in (lambda outputs, targets: ops.mse(outputs, targets), lambda y_pred, y_true: ops.mse(y_pred, y_true)):
        assert np.isfinite(fit(loss=loss)["loss"]).all()


def test_a_softmax_that_the_loss_does_not_apply_itself_works():
    assert np.isfinite(ends_with(ops.mse, nn.Softmax())["loss"]).all()
    assert np.isfinite(ends_with(ops.cross_entropy, nn.LogSoftmax())["loss"]).all()  # of log p it is p
