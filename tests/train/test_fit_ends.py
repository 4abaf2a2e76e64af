"""train.fit: ends of a run, early stopping, divergence, and the diagnosis of one that has not learned."""

from itertools import count

import numpy as np
import pytest
from fit_case import X, Y, network, quiet

from tinygrad_gru import manual_seed, nn, ops, optim, train
from tinygrad_gru.train import Callback, TrainingError, load_checkpoint
from tinygrad_gru.train.stopping import diagnosis


@pytest.mark.parametrize("with_folder", [False, True])
def test_early_stopping_restores_the_best_weights(tmp_path, monkeypatch, with_folder):
    losses, seen = iter([9.0, 3.0, 2.0, 2.5, 2.5, 1.0]), []

    def evaluate(model, *given, **settings):
        seen.append(model.state_dict())
        return {"loss": next(losses)}

    monkeypatch.setattr("tinygrad_gru.train.loop.Loop.report", lambda loop, record: None)
    monkeypatch.setitem(train.fit.__globals__, "evaluate", evaluate)
    model = network()
    history = quiet(
        model, ops.mse, (X, Y), epochs=9, patience=1, validation=(X, Y), folder=tmp_path if with_folder else None
    )
    assert history.stopped == "early stopping: no better loss than 2 in 2 evaluations"
    assert history["validation_loss"].tolist() == [9, 3, 2, 2.5, 2.5]
    for name, value in model.state_dict().items():
        assert np.array_equal(value, seen[2][name])


def test_a_callback_sees_every_event_and_can_end_the_run():
    events = []

    class Watch(Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                return lambda loop, *record: (
                    events.append((name, loop.steps)),
                    loop.steps == 3 and loop.request_stop("enough"),
                )
            return super().__getattribute__(name)

    history = quiet(network(), ops.mse, [(X, Y)] * 2, epochs=9, validation=(X, Y), callbacks=[Watch()])
    assert history.stopped == "enough"
    assert events == [
        ("on_train_begin", 0), ("on_evaluation_end", 0),
        ("on_gradients", 0), ("on_step_end", 1),
        ("on_gradients", 1), ("on_step_end", 2), ("on_evaluation_end", 2), ("on_epoch_end", 2),
        ("on_gradients", 2), ("on_step_end", 3), ("on_train_end", 3),
    ]  # fmt: skip


def test_a_run_of_seconds_ends_in_time_and_is_evaluated_at_its_end():
    history = quiet(network(), ops.mse, (X, Y), seconds=0.5, validation=(X, Y))
    steps = history["step"]
    assert history.records[-1]["step"] == steps[-1] and "validation_loss" in history.records[-1]
    assert 2 <= history["validation_loss"].size <= 11


def test_a_run_of_seconds_is_evaluated_at_its_end_whenever_the_clock_is_read(monkeypatch):
    """Each reading takes a while, so that the end comes between two of them."""
    seconds = count(0, 0.03)
    monkeypatch.setattr("tinygrad_gru.train.loop.time.perf_counter", lambda: next(seconds))
    history = quiet(network(), ops.mse, [(X, Y)] * 100, seconds=3.09, validation=(X, Y))
    assert "validation_loss" in history.records[-1] and history["validation_loss"].size > 5


def test_the_seconds_of_a_resumed_run_include_those_before(tmp_path):
    quiet(network(), ops.mse, (X, Y), seconds=0.2, folder=tmp_path)
    steps = load_checkpoint(tmp_path / "checkpoint.safetensors")["trainer"]["steps"]
    history = quiet(network(), ops.mse, (X, Y), seconds=0.2, folder=tmp_path, resume=True)
    assert history["step"].max() == steps
    assert quiet(network(), ops.mse, (X, Y), seconds=0.4, folder=tmp_path, resume=True)["step"].max() > steps


@pytest.mark.parametrize("make", [lambda: (batch for batch in [(X, Y)] * 7), lambda: [(X, Y)] * 7])
def test_an_epoch_is_a_pass_over_anything_that_iterates(make):
    history = quiet(network(), ops.mse, make(), epochs=1)
    assert history["step"].size == 7 and len(history.epochs) == 1


def test_a_schedule_that_waits_for_a_plateau_is_told_the_validation_loss():
    optimizer = optim.SGD((model := network()).parameters(), lr=1e-9)
    schedule = optim.ReduceOnPlateau(optimizer, patience=1, decay=0.5)
    history = quiet(
        model, ops.mse, (X, Y), epochs=6, batch_size=50, validation=(X, Y), optimizer=optimizer, schedule=schedule
    )
    assert history["lr"].tolist() == [1e-9, 1e-9, 1e-9, 5e-10, 5e-10, 2.5e-10]


def test_divergence_names_what_happened_and_keeps_the_weights():
    model = nn.Linear(3, 2)
    before = []

    class Remember(Callback):
        def on_gradients(self, loop):
            before[:] = [loop.model.state_dict()]

    message = r"at step \d+ the loss is .* learning rate of 1e\+15 .* clip_norm=1.0"
    with pytest.raises(TrainingError, match=message), np.errstate(all="ignore"):
        quiet(model, ops.mse, (X, Y), steps=100, optimizer="sgd", lr=1e15, callbacks=[Remember()])
    for name, value in model.state_dict().items():
        assert np.array_equal(value, before[0][name])


@pytest.mark.parametrize(("name", "part"), [("inputs", 0), ("targets", 1)])
def test_a_nan_in_the_data_is_told_from_a_learning_rate_that_is_too_high(name, part):
    arrays = [X.copy(), Y.copy()]
    arrays[part][17, 1] = np.nan
    with pytest.raises(TrainingError, match="there is a NaN or infinity in this step's data"):
        quiet(network(), ops.mse, tuple(arrays), epochs=1)


@pytest.mark.parametrize("validation", [None, 0.2])
def test_a_run_that_did_not_learn_has_a_diagnosis(validation):
    model = network(0)
    history = quiet(model, ops.mse, (X, Y), epochs=20, lr=50.0, validation=validation)
    assert "has not learned" in history.diagnosis


@pytest.mark.parametrize(
    ("losses", "evaluations", "targets", "keeps_best", "expected"),
    [
        ([3.0] + [9.0] * 20, [], 32, False, "was 3 in the first step and is around 9"),
        ([3.0] + [9.0] * 20, [], 15, False, None),
        ([3.0] + [9.0] * 8, [], 32, False, None),
        ([3.0] + [4.4] * 20, [], 32, False, None),
        ([3.0] + [9.0] * 18 + [2.9], [], 32, False, None),
        ([-3.0] + [-1.0] * 20, [], 32, False, "has not learned"),
        ([3.0], [3.0, 3.1], 32, False, None),
        ([3.0], [3.0, 3.2], 32, False, "was 3 before training and is 3.2 after it: the model has not learned"),
        ([3.0], [3.0, 2.0, 3.2], 32, False, "although it was 2 in between: overfitting"),
        ([3.0], [3.0, 2.0, 3.2], 32, True, None),
        ([3.0], [3.0, float("nan")], 32, True, "is nan after it"),
        ([3.0], [float("nan"), 2.0], 32, False, None),
        ([3.0], [float("nan"), float("nan")], 32, False, "was never a number, but nan"),
        ([9.0] * 20, [3.0, 2.0], 32, False, None),
    ],
)
def test_diagnoses(losses, evaluations, targets, keeps_best, expected):
    found = diagnosis(losses, evaluations, targets, keeps_best)
    assert found is None if expected is None else expected in found


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("validation", [None, 0.5])
@pytest.mark.parametrize(("steps", "batch_size"), [(1, 32), (3, 1), (12, 16), (40, 2)])
def test_short_runs_on_noise_have_none(seed, validation, steps, batch_size):
    """There is nothing to learn, and few steps, but nothing is wrong."""
    random = np.random.default_rng(seed)
    manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 4), ops.tanh, nn.Linear(4, 1))
    noise = random.normal(size=(40, 2)), random.normal(size=(40, 1))
    history = quiet(model, ops.mse, noise, steps=steps, batch_size=batch_size, validation=validation)
    assert history.diagnosis is None
