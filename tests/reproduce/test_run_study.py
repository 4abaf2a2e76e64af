"""A study goes on where it was interrupted, refuses what does not belong together, and its statistics are right."""

from __future__ import annotations

import json
import signal
import sys
import threading
from dataclasses import replace
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from line_study import Line

from tinygrad_gru import nn
from tinygrad_gru.io import FileFormatError
from tinygrad_gru.reproduce import DataFile, interval, paired_difference, quality, report, run_study
from tinygrad_gru.train import TrainingError

scipy_stats = pytest.importorskip("scipy.stats")
OPTIONS = {"quick": True, "progress": False}


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    monkeypatch.setattr("tinygrad_gru.reproduce.running.SECONDS", 0.0)


def test_an_interrupted_study_goes_on_and_gives_the_same(tmp_path):
    whole = run_study(Line(), seeds=2, out=tmp_path / "whole", **OPTIONS)
    study = Line()

    def interrupted(run):
        if len(study.made) == 3:
            raise KeyboardInterrupt
        return Line.run(study, run)

    study.run = interrupted
    with pytest.raises(KeyboardInterrupt):
        run_study(study, seeds=2, out=tmp_path / "parts", **OPTIONS)
    again = Line()
    parts = run_study(again, seeds=2, out=tmp_path / "parts", **OPTIONS)
    assert len(study.made) == 3 and len(again.made) == 5
    assert parts.results == whole.results
    assert not list((tmp_path / "parts" / "unfinished").iterdir())


def test_a_run_that_was_interrupted_goes_on_from_its_checkpoint(tmp_path):
    """By Ctrl-C: `fit` ends in order, and what it has done so far is no result."""
    whole = run_study(Line(), seeds=1, tasks=["line"], progress=False)
    study = Line()
    settings = {**Line.settings}

    def stopping(outputs, targets, steps=[]):  # noqa: B006
        steps.append(1)
        if len(steps) == 7:
            signal.raise_signal(signal.SIGINT)
        return ((outputs - targets) ** 2).mean()

    def run(run):
        model = study.model(run)
        return run.fit(model, stopping, run.data, steps=settings["steps"], lr=settings["lr"])

    study.run = run
    with pytest.raises(KeyboardInterrupt):
        run_study(study, seeds=1, tasks=["line"], out=tmp_path, progress=False)
    (checkpoint,) = tmp_path.glob("unfinished/*/checkpoint.safetensors")
    assert "line-small-0" in str(checkpoint) and not (tmp_path / "runs").exists()
    resumed = run_study(Line(), seeds=1, tasks=["line"], out=tmp_path, progress=False)
    np.testing.assert_allclose(resumed.results["line", "small"][0].quality, whole.results["line", "small"][0].quality)
    assert len(resumed.results["line", "small"][0].curve) == Line.settings["steps"]


def test_more_seeds_and_tasks_are_added_to_a_folder(tmp_path):
    run_study(Line(), seeds=1, tasks=["line"], out=tmp_path, **OPTIONS)
    study = Line()
    outcome = run_study(study, seeds=2, out=tmp_path, **OPTIONS)
    assert len(study.made) == 2 * 2 * 2 - 2
    first, second = outcome.results["line", "small"]
    assert first.curve[0] != second.curve[0]  # each seed has its own weights


@pytest.mark.parametrize(
    ("change", "named"),
    [({"name": "circle"}, "another study: 'line' there, 'circle' now"),
     ({"settings": {"steps": 20, "lr": 0.2}}, "another setting lr: 0.1 there, 0.2 now"),
     ({"settings": {"steps": 20, "lr": 0.1, "clip": 1}}, "another setting clip: 'nothing' there, 1 now"),
     ({"model": lambda run: nn.Linear(1, 2 if run.cell == "small" else 1)},
      r"another size of a parameter of small, W: 'float32 \(1, 1\)' there, 'float32 \(1, 2\)' now")],
)  # fmt: skip
def test_a_folder_of_another_study_is_refused_by_name(tmp_path, monkeypatch, change, named):
    run_study(Line(), seeds=1, tasks=["line"], out=tmp_path, **OPTIONS)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    study = Line()
    vars(study).update(change)
    with pytest.raises(ValueError, match=named):
        run_study(study, seeds=1, tasks=["line"], out=tmp_path, **OPTIONS)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    with pytest.raises(ValueError, match="another quick: True there, False now"):
        run_study(Line(), seeds=1, tasks=["line"], out=tmp_path, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr("tinygrad_gru.reproduce.running.__version__", "99")
        with pytest.raises(ValueError, match=r"another version: '.*' there, '99' now"):
            run_study(Line(), seeds=1, tasks=["line"], out=tmp_path, **OPTIONS)
    with pytest.raises(ValueError, match="another code: "):  # defined in another module
        run_study(type("Line", (Line,), {})(), seeds=1, tasks=["line"], out=tmp_path, **OPTIONS)


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(ValueError, match="holds other files"):
        run_study(Line(), out=tmp_path, **OPTIONS)


def test_a_damaged_record_is_named(tmp_path):
    run_study(Line(), seeds=1, tasks=["line"], out=tmp_path, **OPTIONS)
    file = tmp_path / "runs" / "line-small-0.json"
    for content in (b"{", b"[]", b"{}"):
        file.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"line-small-0\.json"):
            run_study(Line(), seeds=1, tasks=["line"], out=tmp_path, **OPTIONS)


def test_wrong_tasks_and_seeds():
    with pytest.raises(ValueError, match=r"no task 'lime' \(did you mean 'line'"):
        run_study(Line(), tasks=["lime"], **OPTIONS)
    with pytest.raises(ValueError, match="at least 1, and 2 for a confidence interval, got 0"):
        run_study(Line(), seeds=0, **OPTIONS)


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_a_run_that_diverges_is_counted_and_is_an_error_if_all_do(tmp_path):
    def run(run):
        study.made.append(run.cell)
        if run.cell == "small" and run.seed == 1:
            run = replace(run, settings={"steps": 3, "lr": 1e30})
        return Line.run(Line(), run)

    study = Line()
    study.run = run
    for _ in range(2):  # made, and read
        outcome = run_study(study, seeds=3, tasks=["line"], out=tmp_path, progress=False)
    assert len(study.made) == 6 and not list((tmp_path / "unfinished").iterdir())
    values = [result.quality for result in outcome.results["line", "small"]]
    assert np.isnan(values).tolist() == [False, True, False]
    found = quality(outcome, "line", "small")
    assert found == interval([values[0], values[2]]) and found.values == 2
    (words,) = outcome.diverged["line", "small"]
    assert "training has diverged" in words and not outcome.diverged["line", "large"]
    text = report(outcome)
    assert "(2 of 3 seeds, the others diverged)" in text and "and 1 of 3 seeds of Small diverged" in text
    study = Line()
    study.settings = {"steps": 3, "lr": 1e30}
    with pytest.raises(TrainingError, match="all 6 runs diverged; line, small, seed 0: at step"):
        run_study(study, tasks=["line"], progress=False)


def test_intervals_are_those_of_scipy(rng):
    values = rng.standard_normal(7) + 5
    low, high = scipy_stats.t.interval(0.95, 6, loc=values.mean(), scale=scipy_stats.sem(values))
    found = interval(values.tolist())
    np.testing.assert_allclose([found.low, found.high], [low, high])
    second = values + rng.standard_normal(7)
    test = scipy_stats.ttest_rel(values, second).confidence_interval(0.95)
    difference = paired_difference(values.tolist(), second.tolist())
    np.testing.assert_allclose([difference.low, difference.high], [test.low, test.high], rtol=1e-9)
    assert np.isnan(interval([3.0]).half)
    with pytest.raises(ValueError, match="2 and 1"):
        paired_difference([1.0, 2.0], [1.0])


def test_data_files_are_checked(tmp_path):
    file = DataFile("a.mat", "https://example.org/a.mat", "a" * 64, "MIT")
    with pytest.raises(FileNotFoundError, match=r"does not exist: --data takes a\.mat or its folder; it is at https"):
        file.find(tmp_path)
    (tmp_path / "a.mat").write_bytes(b"notes")
    for data in (tmp_path, tmp_path / "a.mat"):
        with pytest.raises(FileFormatError, match=r"SHA-256 .* expected aaaaaaaa…: it is another file, or damaged"):
            file.find(data)


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """A server of the files in a folder, its address, and an empty cache."""
    pytest.importorskip("pooch")
    monkeypatch.setenv("TINYGRAD_GRU_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "origin"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_data_are_downloaded_once_and_checked(origin, tmp_path):
    folder, address = origin
    (folder / "a.mat").write_bytes(b"notes")
    file = DataFile("a.mat", f"{address}/a.mat", sha256(b"notes").hexdigest(), "MIT")
    path = file.find()
    assert path == tmp_path / "cache" / "data" / "a.mat" and path.read_bytes() == b"notes"
    (folder / "a.mat").unlink()
    assert file.find() == path
    (folder / "a.mat").write_bytes(b"other")
    other = DataFile("b.mat", f"{address}/a.mat", "a" * 64, "MIT")
    with pytest.raises(OSError, match="damaged, or its origin has changed"):
        other.find()
    with pytest.raises(
        OSError, match=r"could not download c\.mat \(HTTPError\).*give it by --data PATH; it is at http"
    ):
        DataFile("c.mat", f"{address}/c.mat", "a" * 64, "MIT").find()


def test_without_pooch_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pip install 'tinygrad_gru\[reproduce\]', or give --data; it is at https"):
        DataFile("a.mat", "https://example.org/a.mat", "a" * 64, "MIT").find()


def test_records_are_plain_json(tmp_path):
    run_study(Line(), seeds=1, tasks=["line"], out=tmp_path, **OPTIONS)
    record = json.loads((tmp_path / "runs" / "line-large-0.json").read_text())
    assert record["parameters"] == 25 and record["cell"] == "large" and len(record["sizes"]) == 4


def test_a_value_that_is_not_finite_on_the_way_costs_no_result(tmp_path):
    study = Line()
    nan = float("nan")
    study.run = lambda run: Line.run(study, run)._replace(curve=[[0, nan], [1, 2.0]], more={"train": nan})
    for _ in range(2):  # made, and read
        outcome = run_study(study, seeds=1, tasks=["line"], out=tmp_path, **OPTIONS)
        result = outcome.results["line", "small"][0]
        np.testing.assert_equal((result.curve, result.more), ([[0, nan], [1, 2.0]], {"train": nan}))
    assert len(study.made) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seed": 0}, r"seed: expected 1, got 0"), ({"cell": "large"}, "cell: expected 'small'"),
     ({"quality": "8.5"}, "quality: expected a finite number"),
     ({"diverged": "at step 3"}, "quality: expected a finite number, or null of a run"),
     ({"quality": None}, "quality: expected"),
     ({"curve": [[1]]}, "curve: expected"), ({"sizes": None}, "sizes: expected"), ({"parameters": "2"}, "param")],
)  # fmt: skip
def test_a_record_of_another_run_or_edited_is_refused(tmp_path, change, message):
    run_study(Line(), seeds=2, tasks=["line"], out=tmp_path, **OPTIONS)
    file = tmp_path / "runs" / "line-small-1.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(
        FileFormatError, match=rf"line-small-1\.json: {message}.*; remove it, and the run is made again"
    ):
        run_study(Line(), seeds=2, tasks=["line"], out=tmp_path, **OPTIONS)


def test_the_machine_is_that_of_the_times(tmp_path, monkeypatch):
    def machine_of(name):
        monkeypatch.setattr("tinygrad_gru.reproduce.running.machine", lambda: name)
        return run_study(Line(), seeds=1, tasks=["line"], out=tmp_path, **OPTIONS).machine

    assert [machine_of("a laptop"), machine_of("a server")] == ["a laptop", "a laptop"]
    (tmp_path / "times.json").write_text('{"line": {"small": [1, 2, 3, 4, 5]}}')  # of other cells
    assert machine_of("a server") == "a server"


def test_a_study_that_was_killed_at_its_first_file_begins_again(tmp_path):
    (tmp_path / ".study.json.01234567.part").write_bytes(b"{")
    assert run_study(Line(), seeds=1, tasks=["line"], out=tmp_path, **OPTIONS).seeds == 1


def test_without_scipy_nothing_is_trained(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    study = Line()
    with pytest.raises(ImportError, match="need scipy"):
        run_study(study, seeds=2, **OPTIONS)
    assert not study.made
    run_study(study, seeds=1, **OPTIONS)
