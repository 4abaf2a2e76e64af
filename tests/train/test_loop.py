import os
import signal

import numpy as np
import pytest

from tinygrad_gru.train import CheckpointError, Progress, TextRun, load_checkpoint
from tinygrad_gru.train import loop as module
from tinygrad_gru.train.log import read_log
from tinygrad_gru.train.loop import BEST, CHECKPOINT, LOG


def run(settings, folder, interrupt_at=None, resume=False):
    """A whole run, or one that Ctrl-C meets in the middle of a step."""
    text_run = TextRun(settings)
    loop = text_run.loop(folder, load_checkpoint(folder / CHECKPOINT) if resume else None)
    if interrupt_at is not None:
        original = text_run.trainer.step

        def step():
            if text_run.trainer.steps + 1 == interrupt_at:
                signal.raise_signal(signal.SIGINT)
            return original()

        text_run.trainer.step = step
    return text_run, loop.run(Progress())


def assert_identical(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert np.array_equal(left[name], right[name]), name


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("interrupt_at", [1, 7, 10])
def test_a_run_that_was_interrupted_and_resumed_ends_bit_identical(small, tmp_path, cell, interrupt_at):
    settings = small(cell=cell, dropout=0.2)
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    whole.mkdir(), interrupted.mkdir()
    expected, finished = run(settings, whole)
    assert finished
    stopped, finished = run(settings, interrupted, interrupt_at)
    assert not finished
    assert stopped.trainer.steps == interrupt_at, "the step under way is finished, and no other is begun"
    resumed, finished = run(settings, interrupted, resume=True)
    assert finished
    assert_identical(resumed.model.state_dict(), expected.model.state_dict())
    assert read_log(interrupted / LOG) == read_log(whole / LOG)
    left, right = (load_checkpoint(folder / CHECKPOINT) for folder in (whole, interrupted))
    assert left["early_stop"] == right["early_stop"]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_run_in_float16_goes_on_in_any_precision(small, tmp_path, precision):
    expected, _ = run(small(precision="float16"), tmp_path)
    whole = read_log(tmp_path / LOG)
    run(small(precision="float16"), tmp_path, interrupt_at=10)
    resumed, finished = run(small(precision=precision), tmp_path, resume=True)
    assert finished
    log = read_log(tmp_path / LOG)
    assert [record["step"] for record in log] == [record["step"] for record in whole]
    if precision == "float16":
        assert log == whole
        assert_identical(resumed.model.state_dict(), expected.model.state_dict())
    else:
        assert log[-1]["held_out"] == pytest.approx(whole[-1]["held_out"], abs=1e-3)
        assert log[-1]["held_out"] != whole[-1]["held_out"]
    assert load_checkpoint(tmp_path / CHECKPOINT)["about"]["settings"]["precision"] == precision


def test_a_checkpoint_from_before_there_was_a_choice_of_precision_can_be_resumed(small, tmp_path):
    run(small(), tmp_path, interrupt_at=3)
    state = load_checkpoint(tmp_path / CHECKPOINT)
    del state["about"]["settings"]["precision"], state["trainer"]["precision"], state["trainer"]["scaler"]
    assert TextRun(small()).loop(tmp_path, state).run(Progress())


def test_the_log_has_every_step_and_every_evaluation(small, tmp_path):
    run(small(), tmp_path)
    records = read_log(tmp_path / LOG)
    assert [record["step"] for record in records if "loss" in record] == list(range(1, 21))
    assert [record["step"] for record in records if "held_out" in record] == list(range(0, 21, 2))
    assert records[-1]["characters"] == 20 * 4 * 16


@pytest.mark.parametrize(("steps", "expected"), [(3, [0, 1, 2, 3]), (25, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25])])
def test_evaluations_are_spread_evenly_and_the_last_is_at_the_end(small, tmp_path, steps, expected):
    run(small(characters=steps * 64), tmp_path)
    assert [record["step"] for record in read_log(tmp_path / LOG) if "held_out" in record] == expected


def test_a_finished_run_that_is_resumed_has_nothing_to_do(small, tmp_path):
    first, _ = run(small(), tmp_path)
    before = read_log(tmp_path / LOG)
    again, finished = run(small(), tmp_path, resume=True)
    assert finished
    assert_identical(first.model.state_dict(), again.model.state_dict())
    assert read_log(tmp_path / LOG) == before


def test_a_checkpoint_is_saved_on_the_way_when_enough_time_has_passed(small, tmp_path, monkeypatch):
    saves = []
    monkeypatch.setattr(module, "save_checkpoint", lambda path, state: saves.append(state["trainer"]["steps"]))
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    run(small(characters=20 * 64), tmp_path)
    assert saves == list(range(1, 21))


def test_the_log_is_on_the_disk_before_the_checkpoint_that_goes_on_from_it(small, tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(module, "save_checkpoint", lambda path, state: logged.append(read_log(tmp_path / LOG)[-1]))
    run(small(), tmp_path)
    assert [record["step"] for record in logged] == list(range(2, 21, 2))


def test_a_second_ctrl_c_stops_at_once_and_leaves_the_last_checkpoint(small, tmp_path):
    run(small(), tmp_path, interrupt_at=5)
    text_run = TextRun(small())
    loop = text_run.loop(tmp_path, load_checkpoint(tmp_path / CHECKPOINT))

    def step():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    text_run.trainer.step = step
    with pytest.raises(KeyboardInterrupt):
        loop.run(Progress())
    assert load_checkpoint(tmp_path / CHECKPOINT)["trainer"]["steps"] == 5


def test_ctrl_c_while_a_checkpoint_is_written_leaves_a_whole_one(small, tmp_path, monkeypatch):
    text_run = TextRun(small())
    real = os.replace

    def replace(source, target):
        signal.raise_signal(signal.SIGINT)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert not text_run.loop(tmp_path).run(Progress())
    assert load_checkpoint(tmp_path / CHECKPOINT)["trainer"]["steps"] == text_run.trainer.steps == 2


def test_early_stopping_ends_the_run_and_keeps_the_best_weights(small, tmp_path):
    text_run = TextRun(small(patience=1))
    loop = text_run.loop(tmp_path)
    losses = iter([9.0, 3.0, 2.0, 2.5, 2.5, 1.0])
    loop.evaluate = lambda: next(losses)
    assert loop.run(Progress())
    assert text_run.trainer.steps == 8, "evaluations after 2, 4, 6, 8 steps; the best one is the second"
    best = load_checkpoint(tmp_path / BEST)["trainer"]
    assert best["steps"] == 4
    loop.load_best()
    assert_identical(text_run.model.state_dict(), best["model"])


def test_without_patience_no_best_checkpoint_is_kept(small, tmp_path):
    text_run, _ = run(small(), tmp_path)
    assert not (tmp_path / BEST).exists()
    before = text_run.model.state_dict()
    text_run.loop(tmp_path).load_best()
    assert_identical(text_run.model.state_dict(), before)


def test_the_checkpoint_of_other_settings_or_of_a_changed_text_is_refused(small, text_file, tmp_path):
    run(small(), tmp_path, interrupt_at=3)
    state = load_checkpoint(tmp_path / CHECKPOINT)
    with pytest.raises(CheckpointError, match="other settings"):
        TextRun(small(hidden=11)).loop(tmp_path, state)
    text_file.write_text(text_file.read_text(encoding="utf-8").replace("ba", "bu"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="a text that has changed"):
        TextRun(small()).loop(tmp_path, state)


def test_speed_counts_the_steps_made_here_alone(small, tmp_path):
    text_run = TextRun(small())
    loop = text_run.loop(tmp_path)
    assert loop.characters_per_second is None
    loop.run(Progress())
    assert loop.characters_per_second > 0
    finished = TextRun(small()).loop(tmp_path, load_checkpoint(tmp_path / CHECKPOINT))
    assert finished.characters_per_second is None
