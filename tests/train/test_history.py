"""History: arrays, tables, pictures and files of the records of a run."""

import copy
import csv
import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from tinygrad_gru import train
from tinygrad_gru.train.folder import JsonLines


def a_run(epochs=3, steps=4, evaluations=True):
    """A history as a loop makes it: losses n, n − 1, …; validation losses with their minimum in epoch 1."""
    history, step = train.History(), 0
    if evaluations:
        history.add({"step": 0, "epoch": 0, "validation_loss": 0.1, "validation_accuracy": 0.0})
    for epoch in range(epochs):
        for _ in range(steps):
            step += 1
            norm = None if step == 2 else 2.0
            history.add({"step": step, "epoch": epoch, "loss": 100.0 - step, "gradient_norm": norm, "lr": 0.1})
        if evaluations:
            loss = 5.0 + abs(epoch - 1)
            history.add({"step": step, "epoch": epoch, "validation_loss": loss, "validation_accuracy": 0.5})
    return history


def test_values_by_name_are_arrays():
    history = a_run()
    assert history["loss"].tolist() == [100.0 - step for step in range(1, 13)]
    assert history["validation_loss"].tolist() == [0.1, 6.0, 5.0, 6.0]
    steps, losses = history.curve("validation_loss")
    assert steps.tolist() == [0, 4, 8, 12] and losses.dtype == float
    assert np.isnan(history["gradient_norm"][1]) and history["gradient_norm"][2] == 2
    assert len(history) == 16 and list(history) == history.records and bool(train.History())


@pytest.mark.parametrize(
    "name, advice", [("val_loss", "validation_loss"), ("lss", "loss"), ("x", "it has step, epoch")]
)
def test_another_name_is_answered(name, advice):
    with pytest.raises(KeyError, match=advice):
        a_run()[name]
    with pytest.raises(AttributeError, match=r"a History has no attribute 'history'; here it is history\['loss'\]"):
        _ = a_run().history
    assert copy.deepcopy(a_run()).records == a_run().records


def test_the_best_evaluation_is_one_of_a_trained_model():
    assert a_run().best == {"step": 8, "epoch": 1, "validation_loss": 5.0, "validation_accuracy": 0.5}
    assert a_run(evaluations=False).best["step"] == 12
    assert train.History().best is None
    only_nan = train.History([{"step": 1, "loss": float("nan")}, {"step": 2, "loss": None}])
    assert only_nan.best is None
    text = train.History([{"step": 5, "characters": 50, "held_out": 2.0}, {"step": 6, "characters": 60, "loss": 1.0}])
    assert text.best["held_out"] == 2


def test_the_last_value_of_every_name():
    assert a_run().last == {
        "step": 12, "epoch": 2, "loss": 88.0, "gradient_norm": 2.0, "lr": 0.1, "validation_loss": 6.0,
        "validation_accuracy": 0.5,
    }  # fmt: skip


def test_epochs_are_means_of_their_steps_unless_they_were_added():
    history = a_run()
    first, second, third = history.epochs
    assert first["loss"] == 97.5 and second["loss"] == 93.5 and third["validation_loss"] == 6.0
    assert first["gradient_norm"] == 2, "the mean of those that are numbers"
    history.add_epoch({"step": 8, "epoch": 1, "loss": 1.25})
    assert [epoch["loss"] for epoch in history.epochs] == [97.5, 1.25, 89.5]
    assert history.epochs[1]["validation_loss"] == 5 and history.epochs[1]["lr"] == 0.1
    assert [epoch["epoch"] for epoch in history.epochs] == [0, 1, 2]


def test_the_table_has_a_row_per_epoch():
    history = a_run()
    history.stopped, history.diagnosis = "early stopping: so it is", "it has not learned"
    head, *rows, best, stopped, diagnosis = repr(history).splitlines()
    assert head.split() == [
        "epoch", "step", "loss", "validation_loss", "validation_accuracy", "gradient_norm", "lr"
    ]  # fmt: skip
    assert rows[0].split() == ["1", "4", "97.5", "6", "0.5", "2", "0.1"]
    assert len(rows) == 3 and len({len(line) for line in [head, *rows]}) == 1
    assert best == "best validation_loss 5 at step 8"
    assert (stopped, diagnosis) == ("early stopping: so it is", "it has not learned")
    assert repr(train.History()) == "History without records"


@pytest.mark.parametrize("steps_in_epoch", [5, 100])
def test_of_evaluations_between_the_ends_of_epochs_the_table_has_a_row_each(steps_in_epoch):
    history = train.History()
    history.add({"step": 0, "epoch": 0, "validation_loss": 9.0})
    for step in range(1, 10):
        epoch = (step - 1) // steps_in_epoch
        history.add({"step": step, "epoch": epoch, "loss": float(step)})
        if step % 4 == 0:
            history.add({"step": step, "epoch": epoch, "validation_loss": 2.0 * step})
    _, first, second, rest, _ = map(str.split, repr(history).splitlines())
    assert first == ["1", "4", "2.5", "8"] and second[1:] == ["8", "6.5", "16"] and rest[1:] == ["9", "9"]


def test_of_a_long_table_the_middle_is_left_out():
    lines = repr(a_run(epochs=100, steps=1)).splitlines()
    assert len(lines) == 15 and lines[7].strip() == "… 88 more …"
    assert lines[6].split()[0] == "6" and lines[8].split()[0] == "95" and lines[13].split()[0] == "100"
    assert len(repr(a_run(epochs=12, steps=1)).splitlines()) == 14


def test_csv_has_all_records(tmp_path):
    history = a_run()
    history.add_epoch({"step": 4, "epoch": 0, "accuracy": 0.5})
    history.to_csv(tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16 and [*rows[0], "accuracy"] == history.names
    for row, record in zip(rows, history):
        assert {name: float(value) for name, value in row.items() if value} == {
            name: value for name, value in record.items() if value is not None
        }


def polylines(html):
    """Of each chart the number of points of each curve."""
    charts = re.findall(r"<svg.*?</svg>", html)
    return [
        [len(line.attrib["points"].split()) for line in ElementTree.fromstring(chart).iter() if "points" in line.attrib]
        for chart in charts
    ]


def test_a_notebook_shows_a_table_and_charts():
    html = a_run()._repr_html_()
    ElementTree.fromstring(f"<all>{html}</all>")
    assert polylines(html) == [[12, 4], [4]], "loss of training and validation, accuracy of validation"
    assert html.count("<tr>") == 4 and "best validation_loss 5 at step 8" in html
    assert polylines(a_run(epochs=10, steps=1000, evaluations=False)._repr_html_()) == [[400]], "thinned"
    assert polylines(train.History()._repr_html_()) == []


def test_values_that_are_not_finite_are_not_drawn():
    history = train.History([{"step": step, "loss": loss} for step, loss in enumerate([3.0, float("nan"), 2.0, None])])
    assert polylines(history._repr_html_()) == [[2]]
    assert "nan" not in re.findall(r"<svg.*?</svg>", history._repr_html_())[0]
    assert polylines(train.History([{"step": 1, "loss": None}])._repr_html_()) == []


@pytest.mark.parametrize("ending, start", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("", b"\x89PNG")])
def test_plot_saves_in_the_format_of_the_ending(tmp_path, ending, start):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"history.{ending}".rstrip(".")
    a_run().plot(path)
    assert path.read_bytes().startswith(start)


def test_plot_draws_each_metric_beside_the_loss(tmp_path):
    pytest.importorskip("matplotlib")
    figure = a_run().plot()
    loss, accuracy = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy"]
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    assert loss.lines[0].get_ydata().tolist() == a_run()["loss"].tolist()
    many = a_run(steps=100).plot().axes[0]
    assert [line.get_label() for line in many.lines[1:]] == ["training (running mean)", "validation"]
    assert many.lines[0].get_ydata().size == 300 and accuracy.lines[0].get_xdata().tolist() == [0, 4, 8, 12]
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert loss.get_yscale() == "log" and accuracy.get_yscale() == "linear", "0.1 to 99, and 0 to 0.5"
    with pytest.raises(ValueError, match=r"path: expected a file that ends in .*\.png"):
        a_run().plot(tmp_path / "history.xyz")
    with pytest.raises(ValueError, match="no records"):
        train.History().plot()


def test_without_matplotlib_plot_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(train.PlotError, match=r"the history was not plotted.*pip install 'tinygrad_gru\[plot\]'"):
        a_run().plot()


def test_a_history_is_read_back_from_its_log(tmp_path):
    history = a_run()
    with JsonLines(tmp_path / "log.jsonl") as log:
        for record in history:
            log.write(record)
    with open(tmp_path / "log.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 13, "lo')
    for path in (tmp_path, tmp_path / "log.jsonl"):
        assert train.History.read(path).records == history.records
    with pytest.raises(FileNotFoundError, match="expected the folder of a run"):
        train.History.read(tmp_path / "other")


def test_records_of_a_text_run_have_no_epochs():
    history = train.History([{"step": 0, "characters": 0, "held_out": 4.0}])
    for step in range(1, 5):
        history.add({"step": step, "characters": 10 * step, "loss": 3.0, "gradient_norm": 1.0, "lr": 0.1})
        if step % 2 == 0:
            history.add({"step": step, "characters": 10 * step, "held_out": 3.0 / step})
    head, first, last, best = repr(history).splitlines()
    assert head.split() == ["step", "loss", "held_out", "characters", "gradient_norm", "lr"]
    assert first.split() == ["2", "3", "1.5", "20", "1", "0.1"] and last.split()[2] == "0.75"
    assert best == "best held_out 0.75 at step 4"
    assert polylines(history._repr_html_()) == [[4, 3]]


def test_what_only_epochs_have_is_drawn_beside_its_validation():
    history = a_run(epochs=2)
    for epoch, accuracy in enumerate((0.25, 0.5)):
        history.add_epoch({"step": 4 * epoch + 4, "epoch": epoch, "accuracy": accuracy})
    steps, values = history.curve("accuracy")
    assert steps.tolist() == [4, 8] and values.tolist() == [0.25, 0.5]
    assert polylines(history._repr_html_()) == [[8, 3], [2, 3]]


def test_records_are_given_back_as_they_were_added():
    whole = {"step": 3, "loss": 0.1, "lr": 1e-3}
    odd = [{"step": 2**60, "loss": 1.0}, {"loss": None}, {"flag": True, "name": "a"}, {}, {"x": float("inf")}]
    added = [whole, *odd, {**whole, "step": 4}, {"lr": 1, "loss": 2}]
    records = train.History(added).records
    assert records == added and [*records] == added and records[-1] == added[-1] and records[1:3] == added[1:3]
    assert [[type(value) for value in record.values()] for record in records] == [
        [type(value) for value in record.values()] for record in added
    ]
    with pytest.raises(IndexError):
        records[len(added)]


def test_a_record_of_a_step_takes_a_tenth_of_a_dictionary():
    history = train.History(
        {"step": n, "epoch": 0, "loss": 0.5, "gradient_norm": 1.0, "lr": 1e-3} for n in range(10_000)
    )
    arrays = (history.records._layout_of, history.records._begin, history.records._values)
    assert sum(map(sys.getsizeof, arrays)) < 65 * len(history)
