"""`show.loss`: the curves are the records, of a run's folder, a History or a list, and of several runs by name."""

import json
import sys

import numpy as np
import pytest

from tinygrad_gru import show, train
from tinygrad_gru.show.curves import _curve
from tinygrad_gru.show.figures import PlotError, smooth

RECORDS = [
    {"step": 0, "characters": 0, "held_out": 4.5},
    {"step": 1, "characters": 10**6, "loss": 4.0},
    {"step": 2, "characters": 2 * 10**6, "loss": 3.0},
    {"step": 2, "characters": 2 * 10**6, "held_out": 3.1},
]


def lines(figure):
    return {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}


def test_the_curves_are_the_records_wherever_they_come_from(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    expected = {"training": [[1.0, 4.0], [2.0, 3.0]], "held out": [[0.0, 4.5], [2.0, 3.1]]}
    for run in (RECORDS, train.History(RECORDS), tmp_path, str(tmp_path)):
        assert lines(show.loss(run)) == expected
    figure = show.loss({"a": RECORDS, "b": RECORDS[:2]}, baselines={"unigram": 3.17}, title="runs")
    drawn = lines(figure)
    assert list(drawn) == ["a, training", "a, held out", "b, training", "b, held out", "unigram, 3.17"]
    assert drawn["b, training"] == [[1.0, 4.0]]
    assert figure.axes[0].get_title() == "runs" and figure.axes[0].get_ylabel() == "loss (nats/char)"
    of_fit = [{"step": k, "loss": 1.0 / k} for k in (1, 2)] + [{"step": 2, "validation_loss": 0.7}]
    figure = show.loss(of_fit)
    assert lines(figure) == {"training": [[1.0, 1.0], [2.0, 0.5]], "validation": [[2.0, 0.7]]}
    assert figure.axes[0].get_xlabel() == "step"


@pytest.mark.parametrize("records", [RECORDS, RECORDS[:1], RECORDS[1:2], []])
def test_it_is_saved(tmp_path, records):
    pytest.importorskip("matplotlib")
    figure = show.loss(records, path=tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert figure._repr_png_().startswith(b"\x89PNG")  # in a notebook


def test_a_folder_that_is_none_of_a_run_is_refused(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=r"is no folder of a run: it has no log.jsonl"):
        show.loss(tmp_path)


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match=r"pip install 'tinygrad_gru\[plot\]'"):
        show.loss(RECORDS, path=tmp_path / "loss.png")
    assert not (tmp_path / "loss.png").exists()


def test_the_running_mean_is_over_previous_values():
    values = np.random.default_rng(0).random(400)
    expected = [values[max(0, end - 4) : end].mean() for end in range(1, 401)]
    assert np.allclose(smooth(values), expected)


def test_records_without_finite_values_are_skipped():
    records = [
        {"characters": 10**6, "loss": 2.0}, {"characters": None, "loss": 1.0}, {"loss": 1.0}, {"characters": 1},
        {"characters": 2 * 10**6, "loss": float("nan")}, {"characters": 3 * 10**6, "loss": float("inf")},
        {"characters": 4 * 10**6, "loss": 1}, {"step": 1},
    ]  # fmt: skip
    assert _curve(records, "loss").tolist() == [[1.0, 4.0], [2.0, 1.0]]
    assert _curve([], "loss").shape == (2, 0)


def test_what_is_no_run_is_refused():
    for runs in (3, None, [1, 2], {"GRU": 3}):
        with pytest.raises(TypeError, match=r"runs: expected the folder of a run, .* got "):
            show.loss(runs)
    with pytest.raises(TypeError, match=r"baselines: expected losses by name, .* got \[1\]"):
        show.loss(RECORDS, baselines=[1])
