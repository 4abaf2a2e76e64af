"""Callbacks in runs of train.fit: exact resume, records, and failures that corrupt nothing."""

import csv

import numpy as np
import pytest

from tinygrad_gru import manual_seed, nn, ops, train


def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3))
    return x, x @ rng.standard_normal((3, 1)) + 0.1 * rng.standard_normal((40, 1))


def run(folder, *, epochs=4, resume=False, callbacks=(), **settings):
    manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), ops.tanh, nn.Linear(4, 1))
    history = train.fit(
        model, ops.mse, data(), validation=0.25, epochs=epochs, batch_size=8, lr=0.05, metrics=["mae"], folder=folder,
        resume=resume, callbacks=callbacks, progress=False, **settings,
    )  # fmt: skip
    return model, history


def stop_at(step):
    return train.LambdaCallback(
        on_step_end=lambda loop, record: loop.request_stop("enough") if loop.steps == step else None
    )


def equal(first, second):
    return first.keys() == second.keys() and all(np.array_equal(value, second[name]) for name, value in first.items())


def test_an_average_of_a_resumed_run_is_bit_identical(tmp_path):
    whole, resumed = train.WeightAverage(0.9), train.WeightAverage(0.9)
    run(tmp_path / "whole", callbacks=[whole, stop_at(None)])
    run(tmp_path / "parts", callbacks=[train.WeightAverage(0.9), stop_at(7)])
    model, _ = run(tmp_path / "parts", callbacks=[resumed, stop_at(None)], resume=True)
    assert whole.updates == resumed.updates == 16
    assert equal(whole.state_dict()["average"], resumed.state_dict()["average"])
    last = model.state_dict()
    resumed.apply()
    assert not equal(model.state_dict(), last)


def test_a_checkpoint_with_the_average_of_another_model_is_refused(tmp_path):
    average = train.WeightAverage()
    state = {"updates": 1}
    with pytest.raises(KeyError):
        average.load_state_dict(state)
    run(tmp_path, callbacks=[train.LambdaCallback(), stop_at(7)])
    with pytest.raises(train.CheckpointError, match="does not fit this run"):
        run(tmp_path, callbacks=[average, stop_at(None)], resume=True)


@pytest.mark.parametrize("every, count", [("epoch", 4), ("step", 16), ("evaluation", 5)])
def test_csv_of_a_resumed_run_is_that_of_an_uninterrupted_one(tmp_path, every, count):
    for folder, stops in (("whole", [None]), ("parts", [7, None])):
        for stop in stops:
            log = train.CSVLog(tmp_path / f"{folder}.csv", every)
            _, history = run(tmp_path / folder, callbacks=[log, stop_at(stop)], resume=stops[0] is not stop)
    content = (tmp_path / "whole.csv").read_text(encoding="utf-8")
    assert (tmp_path / "parts.csv").read_text(encoding="utf-8") == content
    rows = list(csv.DictReader(content.splitlines()))
    assert len(rows) == count
    if every != "step":
        assert float(rows[-1]["validation_loss"]) == history["validation_loss"][-1]
        assert float(rows[-1]["validation_mae"]) == history["validation_mae"][-1]


def test_tensorboard_in_a_run(tmp_path):
    pytest.importorskip("tensorboardX")
    run(None, callbacks=[train.TensorBoard(tmp_path, histograms=True)])
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 1000


EVENTS = ("on_train_begin", "on_gradients", "on_step_end", "on_evaluation_end", "on_epoch_end", "on_train_end")


@pytest.mark.parametrize("event", EVENTS)
def test_a_callback_that_raises_corrupts_nothing(tmp_path, event):
    """The run ends with its error, the folder is free again, and the run goes on bit for bit."""

    def fail(loop, record=None):
        if loop.steps >= 6 or event == "on_train_begin":
            raise ZeroDivisionError("a bug in a callback")

    expected, whole = run(tmp_path / "whole", callbacks=[stop_at(None)])
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "parts", callbacks=[train.LambdaCallback(**{event: fail})], epochs=4)
    model, history = run(tmp_path / "parts", callbacks=[stop_at(None)], resume=True)
    assert equal(model.state_dict(), expected.state_dict())
    assert history.records == whole.records


def test_the_history_of_a_run_shows_itself():
    model, history = run(None)
    assert history["loss"].shape == (16,) and history["validation_mae"].shape == (5,)
    assert len(history.epochs) == 4 and [epoch["step"] for epoch in history.epochs] == [4, 8, 12, 16]
    assert history.best["validation_loss"] == history["validation_loss"][1:].min()
    expected = train.evaluate(model, ops.mse, tuple(part[30:] for part in data()))["loss"]
    assert history.last["validation_loss"] == pytest.approx(expected)
    assert repr(history).splitlines()[0].split()[:3] == ["epoch", "step", "loss"] and "<svg" in history._repr_html_()
