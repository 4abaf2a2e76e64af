import platform
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_gru.version
from tinygrad_gru.data import ShardedArray, text_corpus
from tinygrad_gru.train import Progress, TextRun, TextSettings, excerpts, load_checkpoint, summarize, time_plan
from tinygrad_gru.train.text.run import versions


class Recorder(Progress):
    def __init__(self):
        self.lines = []

    def write(self, text):
        self.lines.append(text)


def test_equal_settings_give_equal_runs(small):
    first, second, other = (TextRun(small(seed=seed)).trainer for seed in (1, 1, 2))
    assert first.step() == second.step() != other.step()


def test_the_vocabulary_is_that_of_the_text(small, text_file):
    run = TextRun(small())
    assert set(run.vocabulary.symbols) == set(text_file.read_text(encoding="utf-8"))
    assert run.vocabulary.decode(run.held_out) == text_corpus(run.settings.text).held_out


def test_the_standard_library_has_the_vocabulary_of_code():
    run = TextRun(TextSettings(embedding=2, hidden=2))
    assert len(run.vocabulary) == 97
    assert run.model.parameter_count() < 1000


def test_the_default_model_has_the_reported_size():
    run = TextRun(TextSettings())
    assert run.model.parameter_count() == 97 * 64 + 3 * (64 + 192 + 1) * 192 + 193 * 97


def test_samples_and_evaluations_do_not_advance_the_random_state(small, tmp_path):
    undisturbed, disturbed = (TextRun(small(dropout=0.3)) for _ in range(2))
    loop = disturbed.loop(tmp_path)
    undisturbed.trainer.step()
    expected = undisturbed.trainer.step()
    disturbed = TextRun(small(dropout=0.3))
    loop = disturbed.loop(tmp_path)
    disturbed.trainer.step()
    record = loop.evaluate()
    loop.report(record)
    assert disturbed.trainer.step() == expected


def test_samples_are_printed_line_by_line(small, tmp_path):
    recorder = Recorder()
    loop = TextRun(small()).loop(tmp_path)
    loop.progress = recorder
    loop.report({"held_out": 3.21})
    assert recorder.lines[0] == "0 characters: held-out loss 3.210 nats/char"
    assert all(line.startswith("    | ") for line in recorder.lines[1].splitlines())


def test_a_time_plan_does_not_affect_later_runs(small, monkeypatch):
    settings = small()
    expected = TextRun(settings).trainer.step()
    plan = time_plan(0.05, settings)
    assert plan.characters % settings.characters_per_step == 0 and plan.characters > 0
    assert "of training on" in str(plan)
    assert TextRun(settings).trainer.step() == expected


def test_a_short_time_has_few_evaluations(small, monkeypatch):
    monkeypatch.setattr("tinygrad_gru.train.text.duration._seconds_of", lambda action: 1.0)
    settings = small(evaluations=7)
    held_out, excerpt = (len(part) for part in (TextRun(settings).held_out, excerpts(TextRun(settings).held_out)))
    summary = held_out / excerpt
    for seconds, expected in ((0.1, 1), (2 * (summary + 8.5), 3), (100, 7)):
        monkeypatch.setattr("tinygrad_gru.train.text.duration._MEASURED_SECONDS", 0.01)
        plan = time_plan(seconds, settings)
        assert plan.evaluations == expected
        assert plan.evaluating == 2 * (expected + 1) + summary
    assert plan.training == pytest.approx(100 - plan.measuring - 16 - summary)


def test_a_run_evaluates_as_often_as_its_settings_say(small, tmp_path):
    run = TextRun(small(evaluations=3))
    loop = run.loop(tmp_path / "run")
    loop.run(Progress())
    assert len(loop.history["held_out"]) == 1 + 3


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_seconds_must_be_positive(small, seconds):
    with pytest.raises(ValueError, match="seconds must be positive"):
        time_plan(seconds, small())


def test_a_text_shorter_than_one_window_is_refused(small, tmp_path):
    (tmp_path / "short.txt").write_text("0123456789" * 5)
    with pytest.raises(ValueError, match="45 characters, but 4 streams with a window of 16 need at least 65"):
        TextRun(small(text=str(tmp_path / "short.txt")))


def test_the_text_is_shuffled_in_chunks(small, text_file):
    text_file.write_text("".join(map(chr, range(33, 20_033))), encoding="utf-8")
    run = TextRun(small())
    epoch = np.concatenate([window.inputs for window in run.trainer.source])
    jumps = epoch[1:][np.diff(epoch, axis=0) != 1]
    assert len(jumps) > 10
    assert (jumps % 1024 == 0).all(), "every character's id is its position in this text"


def test_versions_name_what_computes():
    expected = {
        "tinygrad_gru": tinygrad_gru.version.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    assert versions() == expected
    assert versions(SimpleNamespace(__name__="other", __version__="9")) == {**expected, "other": "9"}


def test_a_text_on_the_disk_trains_as_one_in_memory(small, tmp_path, monkeypatch):
    """Also if the run on the disk is stopped and resumed, and its text is in shards."""
    text = Path(small().text).read_text(encoding="utf-8")
    (tmp_path / "shards").mkdir()
    for number, part in enumerate((text[:400], text[400:401], text[401:])):
        (tmp_path / "shards" / f"{number}.txt").write_text(part, encoding="utf-8")
    in_memory = TextRun(small(dropout=0.1))
    loop = in_memory.loop(tmp_path / "in memory")
    loop.run(Progress())
    monkeypatch.setattr("tinygrad_gru.data.text.encoded._IN_MEMORY", 1)
    monkeypatch.setenv("TINYGRAD_GRU_CACHE", str(tmp_path / "cache"))
    settings = small(text=str(tmp_path / "shards"), dropout=0.1)
    on_disk = TextRun(settings).loop(tmp_path / "on disk")
    step = on_disk.trainer.step
    on_disk.trainer.step = lambda: (on_disk.steps == 6 and on_disk.request_stop("enough")) or step()
    assert not on_disk.run(Progress())
    resumed = TextRun(settings)
    assert isinstance(resumed.training, ShardedArray)
    state = load_checkpoint(tmp_path / "on disk" / "checkpoint.safetensors")
    state["about"]["versions"]["numpy"] = "0.1"
    again = resumed.loop(tmp_path / "on disk", state)
    assert f"made with numpy 0.1, now {np.__version__}: the run goes on" in resumed.trainer.remark
    assert again.run(Progress())
    assert again.history.records == loop.history.records
    for name, value in in_memory.model.state_dict().items():
        np.testing.assert_array_equal(resumed.model.state_dict()[name], value)
    ours, theirs = (summarize(*pair) for pair in ((resumed, again), (in_memory, loop)))
    for name in ("held_out", "unigram", "bigram"):
        assert ours[name] == theirs[name]
