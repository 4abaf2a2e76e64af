import errno
import os
import signal

import numpy as np
import pytest

from tinygrad_gru.io import LockedError
from tinygrad_gru.train import CheckpointError, Progress, TextRun, load_checkpoint
from tinygrad_gru.train import loop as module
from tinygrad_gru.train.folder import BEST, CHECKPOINT, LOG, JsonLines, read_log


def run(settings, folder, interrupt_at=None, resume=False):
    """A whole run, or one that Ctrl-C interrupts in the middle of a step."""
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
def test_an_interrupted_and_resumed_run_is_bit_identical(small, tmp_path, cell, interrupt_at):
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
def test_a_run_in_float16_can_be_resumed_in_any_precision(small, tmp_path, precision):
    (tmp_path / "whole").mkdir()
    expected, _ = run(small(precision="float16"), tmp_path / "whole")
    whole = read_log(tmp_path / "whole" / LOG)
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


def test_a_checkpoint_without_a_precision_can_be_resumed(small, tmp_path):
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


def test_a_checkpoint_is_saved_after_an_interval_of_time(small, tmp_path, monkeypatch):
    saves = []
    monkeypatch.setattr(module, "save_checkpoint", lambda path, state: saves.append(state["trainer"]["steps"]))
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    run(small(characters=20 * 64), tmp_path)
    assert saves == list(range(1, 21))


def test_the_log_is_on_the_disk_before_the_checkpoint_that_needs_it(small, tmp_path, monkeypatch):
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
        if target == tmp_path / CHECKPOINT:
            signal.raise_signal(signal.SIGINT)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert not text_run.loop(tmp_path).run(Progress())
    assert load_checkpoint(tmp_path / CHECKPOINT)["trainer"]["steps"] == text_run.trainer.steps == 2


def test_early_stopping_ends_the_run_and_keeps_the_best_weights(small, tmp_path):
    text_run = TextRun(small(patience=1))
    loop = text_run.loop(tmp_path)
    losses = iter([9.0, 3.0, 2.0, 2.5, 2.5, 1.0])
    loop.evaluate = lambda: {"held_out": next(losses)}
    assert loop.run(Progress())
    assert text_run.trainer.steps == 8, "evaluations after 2, 4, 6, 8 steps; the best one is the second"
    best = load_checkpoint(tmp_path / BEST)["trainer"]
    assert best["steps"] == 4
    loop.load_best()
    assert_identical(text_run.model.state_dict(), best["model"])


def with_losses(loop, *losses):
    remaining = iter(losses)
    loop.evaluate = lambda: {"held_out": next(remaining)}
    return loop


def test_best_weights_lost_by_a_kill_are_saved_when_resuming(small, tmp_path, monkeypatch):
    loop = with_losses(TextRun(small(patience=20)).loop(tmp_path), 9.0, 3.0, 2.0)
    real = module.save_checkpoint

    def killed(path, state):
        if path.name == BEST and state["trainer"]["steps"] == 4:
            raise KeyboardInterrupt
        real(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            loop.run(Progress())
    assert [load_checkpoint(tmp_path / name)["trainer"]["steps"] for name in (CHECKPOINT, BEST)] == [4, 2]
    text_run = TextRun(small(patience=20))
    loop = with_losses(text_run.loop(tmp_path, load_checkpoint(tmp_path / CHECKPOINT)), *[7.0] * 8)
    loop.run(Progress())
    best = load_checkpoint(tmp_path / BEST)["trainer"]
    assert best["steps"] == 4
    loop.load_best()
    assert_identical(text_run.model.state_dict(), best["model"])


def test_nan_losses_leave_no_best_weights(small, tmp_path):
    text_run = TextRun(small(patience=1))
    loop = with_losses(text_run.loop(tmp_path), *[float("nan")] * 3)
    assert loop.run(Progress()) and text_run.trainer.steps == 4
    assert not (tmp_path / BEST).exists()
    before = text_run.model.state_dict()
    loop.load_best()
    assert_identical(text_run.model.state_dict(), before)


@pytest.mark.parametrize("patience", [None, 5])
def test_a_second_run_in_a_folder_is_refused_and_the_first_one_unharmed(small, tmp_path, patience):
    folder = tmp_path / "run"
    run(small(patience=patience), folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match="holds a run already"):
        run(small(patience=5), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_best_weights_of_another_run_are_refused(small, tmp_path):
    for seed, losses in ((1, [9.0, 3.0, *[4.0] * 9]), (2, [9.0, 4.0, 3.0, *[4.0] * 8])):
        loop = TextRun(small(patience=20, seed=seed)).loop(tmp_path / str(seed))
        with_losses(loop, *losses).run(Progress())
    (tmp_path / "1" / BEST).write_bytes((tmp_path / "2" / BEST).read_bytes())
    state = load_checkpoint(tmp_path / "1" / CHECKPOINT)
    resumed = TextRun(small(patience=20, seed=1)).loop(tmp_path / "1", state)
    with pytest.raises(CheckpointError, match="does not hold step 2, the best one, of this run"):
        resumed.load_best()
    with pytest.raises(FileExistsError, match="is of another run than the one to resume"):
        resumed.run(Progress())


def test_missing_best_weights_are_detected_before_the_run_is_resumed(small, tmp_path):
    loop = with_losses(TextRun(small(patience=20)).loop(tmp_path), 9.0, 3.0, *[4.0] * 9)
    loop.run(Progress())
    (tmp_path / BEST).unlink()
    resumed = TextRun(small(patience=20)).loop(tmp_path, load_checkpoint(tmp_path / CHECKPOINT))
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*best"):
        resumed.run(Progress())


def test_resuming_in_the_folder_of_another_run_is_refused(small, tmp_path):
    for seed in (1, 2):
        run(small(seed=seed), tmp_path / str(seed), interrupt_at=5)
    before = {path.name: path.read_bytes() for path in (tmp_path / "2").iterdir()}
    state = load_checkpoint(tmp_path / "1" / CHECKPOINT)
    with pytest.raises(FileExistsError, match="is of another run than the one to resume"):
        TextRun(small(seed=1)).loop(tmp_path / "2", state).run(Progress())
    assert {path.name: path.read_bytes() for path in (tmp_path / "2").iterdir()} == before
    assert TextRun(small(seed=1)).loop(tmp_path / "3", state).run(Progress()), "an empty folder is as good as its own"


def test_a_run_with_a_damaged_checkpoint_can_be_resumed_from_its_best_one(small, tmp_path):
    loop = with_losses(TextRun(small(patience=20)).loop(tmp_path), 9.0, 3.0, 2.0, *[4.0] * 8)
    loop.run(Progress())
    (tmp_path / CHECKPOINT).write_bytes(b"")
    resumed = TextRun(small(patience=20)).loop(tmp_path, load_checkpoint(tmp_path / BEST))
    assert with_losses(resumed, *[4.0] * 8).run(Progress())
    assert [record["step"] for record in read_log(tmp_path / LOG) if "loss" in record] == list(range(1, 21))


def test_the_folder_is_locked_during_a_run(small, tmp_path):
    loop, other = (TextRun(small()).loop(tmp_path) for _ in range(2))

    def evaluate():
        with pytest.raises(LockedError, match="in use by another run"):
            other.run(Progress())
        return {"held_out": 1.0}

    loop.evaluate = evaluate
    assert loop.run(Progress())


@pytest.mark.parametrize("damage", [b"", b"\x00\xff", b"{}\n[]\n"])
def test_a_run_with_a_damaged_log_is_resumed_with_a_message(small, tmp_path, damage):
    expected, _ = run(small(), tmp_path / "whole")
    run(small(), tmp_path, interrupt_at=7)
    log = tmp_path / LOG
    log.write_bytes(log.read_bytes()[:-400] + damage)
    kept = len(read_log(log))
    printed = []
    text_run = TextRun(small())
    display = Progress()
    display.write = printed.append
    assert text_run.loop(tmp_path, load_checkpoint(tmp_path / CHECKPOINT)).run(display)
    assert_identical(text_run.model.state_dict(), expected.model.state_dict())
    assert printed[0] == f"{log} is damaged: it has {kept} of 11 records"
    records, whole = read_log(log), read_log(tmp_path / "whole" / LOG)
    assert records == whole[:kept] + whole[11:]


def test_the_log_has_all_records_up_to_the_checkpoint_whenever_a_resumed_run_is_killed(small, tmp_path, monkeypatch):
    """Checked before and after every replacement of a file."""
    run(small(), tmp_path / "whole")
    whole = read_log(tmp_path / "whole" / LOG)
    run(small(), tmp_path, interrupt_at=7)
    real, seen = os.replace, []

    def look():
        seen.append(load_checkpoint(tmp_path / CHECKPOINT)["trainer"]["steps"])
        known = [record for record in whole if record["step"] <= seen[-1]]
        assert read_log(tmp_path / LOG)[: len(known)] == known

    def replace(source, target):
        look()
        real(source, target)
        look()

    monkeypatch.setattr(os, "replace", replace)
    run(small(), tmp_path, resume=True)
    assert seen[0] == 7 and seen[-1] == 20
    assert read_log(tmp_path / LOG) == whole


@pytest.mark.parametrize("room_again_at", [None, 12])
def test_a_full_disk_while_logging_is_named_unless_there_is_room_in_time(small, tmp_path, monkeypatch, room_again_at):
    """Steps 11 to 20 (or 11) are taken on a full disk; a checkpoint comes after every second step."""
    expected, _ = run(small(), tmp_path / "whole")
    real, folder = JsonLines._drain, tmp_path / "run"
    text_run = TextRun(small())

    def drain(log):
        if text_run.trainer.steps > 10 and text_run.trainer.steps != room_again_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(log)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "_drain", drain)
        with pytest.raises(OSError, match=r"could not write the log: No space left on device: .*log\.jsonl"):
            text_run.loop(folder).run(Progress())
    saved = 10 if room_again_at is None else 12
    assert load_checkpoint(folder / CHECKPOINT)["trainer"]["steps"] == saved
    resumed, _ = run(small(), folder, resume=True)
    assert_identical(resumed.model.state_dict(), expected.model.state_dict())
    assert read_log(folder / LOG) == read_log(tmp_path / "whole" / LOG)


def test_a_failing_progress_display_does_not_stop_a_run(small, tmp_path):
    def broken(*arguments, **figures):
        raise BrokenPipeError

    display = Progress()
    display.write = display.advance = broken
    assert TextRun(small()).loop(tmp_path).run(display)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a signal of POSIX")
def test_a_terminal_that_closes_ends_a_run_with_a_checkpoint(small, tmp_path):
    text_run = TextRun(small())
    real = text_run.trainer.step

    def step():
        if text_run.trainer.steps == 6:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGHUP)
        return real()

    text_run.trainer.step = step
    assert not text_run.loop(tmp_path).run(Progress())
    assert load_checkpoint(tmp_path / CHECKPOINT)["trainer"]["steps"] == 7


def test_a_loop_continues_after_an_exception_when_run_again(small, tmp_path):
    text_run = TextRun(small())
    loop, real = text_run.loop(tmp_path), text_run.trainer.step

    def step():
        if text_run.trainer.steps == 1:
            text_run.trainer.step = real
            raise KeyboardInterrupt
        return real()

    text_run.trainer.step = step
    with pytest.raises(KeyboardInterrupt):
        loop.run(Progress())
    assert loop.run(Progress())
    assert [record["step"] for record in read_log(tmp_path / LOG) if "loss" in record] == list(range(1, 21))


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


def test_speed_counts_only_the_steps_of_this_process(small, tmp_path):
    text_run = TextRun(small())
    loop = text_run.loop(tmp_path)
    assert loop.steps_per_second is None
    loop.run(Progress())
    assert loop.steps_per_second > 0
    finished = TextRun(small()).loop(tmp_path, load_checkpoint(tmp_path / CHECKPOINT))
    assert finished.steps_per_second is None
