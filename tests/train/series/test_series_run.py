"""Training on the rows of a table: windows without leakage, results, and models that are saved."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from tinygrad_gru.data import Table
from tinygrad_gru.io.checkpoint import CheckpointError
from tinygrad_gru.train import SeriesModel, SeriesRun, SeriesSettings, save_checkpoint


def table_of(rows=400, **more):
    steps = np.arange(rows)
    days = np.datetime64("2024-01-01") + steps
    return Table({"day": days, "load": 10 + 3 * np.sin(steps / 4), "city": ["ab"[k // 3 % 2] for k in steps], **more})


def test_windows_hold_what_comes_before_their_targets_and_nothing_of_other_parts():
    table = Table({"a": np.arange(100.0), "b": np.arange(100.0) ** 2})
    run = SeriesRun(table, SeriesSettings("b", window=5, horizon=2))
    model, ends = run.model, (70, 85, 100)
    for part, start, end in zip(run._parts, (0, *ends), ends):
        x, y = run._windows(part)
        values = x * model.standardizer.std + model.standardizer.mean
        forecasts = y * model.scale + values[:, -1:, 1]
        for number, (window, future) in enumerate(zip(values, forecasts)):
            rows = np.arange(start + number, start + number + 7)
            np.testing.assert_allclose(window, np.stack([rows[:5], rows[:5] ** 2], axis=1), atol=1e-9)
            np.testing.assert_allclose(future, rows[5:] ** 2)
        assert rows[-1] == end - 1
    np.testing.assert_allclose(model.standardizer.mean, [34.5, (np.arange(70.0) ** 2).mean()])


def test_a_forecast_of_a_wave_is_far_better_than_the_last_value(tmp_path):
    run = SeriesRun(table_of(), SeriesSettings("load", window=16, horizon=3, hidden=16, epochs=25, lr=1e-2))
    assert run.left_out == {"day": "a date"} and list(run.model.features.columns) == ["load", "city"]
    run.fit(progress=False)
    results = run.results()
    truth = run.table["load"]
    for row, values, baseline in zip(results.rows, results.truth, results.baseline):
        np.testing.assert_array_equal(values, truth[row : row + 3])
        np.testing.assert_array_equal(baseline, np.full(3, truth[row - 1]))
    assert results.rows[0] == 340 + 16 and results.rows[-1] == 400 - 3
    figures = results.figures()
    assert figures["rmse"] < 0.2 * figures["rmse of the last value"]
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean((results.predicted - results.truth) ** 2)))

    results.to_csv(tmp_path / "predictions.csv", run.table)
    with open(tmp_path / "predictions.csv", encoding="utf-8", newline="") as file:
        names, first, *others = csv.reader(file)
    assert names == ["row", "day"] + [f"{what} {k} ahead" for k in (1, 2, 3) for what in ("truth", "predicted")]
    assert first[:2] == ["356", str(run.table["day"][356])] and float(first[2]) == truth[356]
    assert len(others) == len(results.rows) - 1


def test_a_class_is_that_of_the_last_row_and_is_not_read():
    steps = np.arange(300)
    run = SeriesRun(
        Table({"x": np.sin(steps / 3), "up": np.cos(steps / 3) > 0}),
        SeriesSettings("up", window=4, hidden=8, epochs=20, lr=1e-2),
    )
    assert run.model.task == "classify" and list(run.model.features.columns) == ["x"]
    x, targets = run._windows(run._parts[0])
    np.testing.assert_array_equal(targets, run.table["up"][3 : 3 + len(x)].astype(int))
    run.fit(progress=False)
    results = run.results()
    np.testing.assert_array_equal(results.truth, run.table["up"][results.rows])
    figures = results.figures()
    assert figures["accuracy"] > 0.9 > figures["accuracy of the most frequent class"]


def test_a_saved_model_predicts_as_the_trained_one(tmp_path):
    table = table_of(200)
    run = SeriesRun(table, SeriesSettings("load", window=8, hidden=4, epochs=1, cell="lstm", layers=2))
    run.fit(progress=False)
    run.model.save(tmp_path / "model.safetensors")
    loaded = SeriesModel.load(tmp_path / "model.safetensors")
    expected = run.model.predict(table)
    np.testing.assert_array_equal(loaded.predict(table), expected)
    assert expected.shape == (200 - 8 + 1, 1)
    without_target = loaded.predict(table[150:])  # other rows: the last window has no future yet
    np.testing.assert_allclose(without_target[-1], expected[-1], rtol=1e-5)


def test_equal_settings_give_equal_models():
    settings = SeriesSettings("load", window=8, hidden=4, epochs=2)
    first, second = (SeriesRun(table_of(150), settings) for _ in range(2))
    losses = [run.fit(progress=False)["loss"].tolist() for run in (first, second)]
    assert losses[0] == losses[1]


def test_missing_values_are_counted_or_filled():
    table = table_of(150)
    load = table["load"].copy()
    load[[20, 21, 140]] = np.nan
    table = Table({**table, "load": load})
    with pytest.raises(ValueError, match=r"values are missing in load \(2\): fill them"):  # those of training
        SeriesRun(table, SeriesSettings("load", window=8))
    run = SeriesRun(table, SeriesSettings("load", window=8, fill="forward"))
    assert run.table["load"][21] == load[19]


@pytest.mark.parametrize("fill", ["forward", "interpolate"])
def test_filled_values_are_no_truth(fill):
    """Neither trained on nor counted; and interpolation, which knows the rows after a gap, ends no window."""
    steps = np.arange(400)
    load = np.where(np.isin(steps, [100, 101, 380, 381]), np.nan, np.sin(steps / 4))
    run = SeriesRun(Table({"load": load}), SeriesSettings("load", window=8, horizon=2, hidden=4, epochs=1, fill=fill))
    run.fit(progress=False)
    results = run.results()
    np.testing.assert_array_equal(results.truth, load[results.rows[:, None] + np.arange(2)])
    left_out = set(range(348, 399)) - set(results.rows.tolist())
    assert left_out == ({379, 380, 381} if fill == "forward" else {379, 380, 381, 382})
    x, y = run._windows(run._parts[0])
    assert len(x) == len(y) == 280 - 9 - len(left_out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "day"}, "target: 'day' holds dates"),
        ({"target": "city", "task": "forecast"}, "target: 'city' holds categories, which cannot be forecast"),
        ({"target": "city", "features": ("city",)}, "features: 'city' is the class that is to be told"),
        ({"window": 60}, "window: a part of 60 rows is too short for a window of 60 and 1 rows ahead; of the 400 rows"),
        ({"window": 0}, "window must be a whole number, 1 or more, got 0"),
        ({"cell": "transformer"}, "cell: expected one of gru, lstm, rnn, mgu, got 'transformer'"),
        ({"validation": 0.6, "test": 0.4}, "leave no rows for training"),
        ({"test": 2}, "test must be a share between 0 and 1, got 2"),
    ],
)
def test_bad_settings_are_explained(change, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        SeriesRun(table_of(), SeriesSettings(**{"target": "load", **change})).fit(progress=False)


def test_a_file_of_something_else_is_refused(tmp_path):
    save_checkpoint(tmp_path / "other", {"model": {}})
    with pytest.raises(CheckpointError, match="does not hold a model of series: settings is missing"):
        SeriesModel.load(tmp_path / "other")
