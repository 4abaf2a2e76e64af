"""Exit statuses, signals and resuming, as a job script needs them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinygrad_gru import cli
from tinygrad_gru.train import TrainingError, load_checkpoint, read_log
from tinygrad_gru.train.folder import CHECKPOINT, LOG

SIZES = "--embedding 4 --hidden 6 --batch 4 --window 16 --characters 1280 --quiet".split()
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture
def command(tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 80)
    return ["train", "--text", str(tmp_path / "text.txt"), "--out", str(tmp_path / "run"), *SIZES]


def stopping_at(monkeypatch, step, number):
    """Send the signal after a step of the trainer."""
    from tinygrad_gru.train import Trainer

    original = Trainer.step

    def stepping(self):
        result = original(self)
        if self.steps == step:
            signal.raise_signal(number)
        return result

    monkeypatch.setattr(Trainer, "step", stepping)


def weights(folder):
    return load_checkpoint(folder / CHECKPOINT)["trainer"]["model"]


@posix
def test_the_same_command_goes_on_until_it_is_done(command, tmp_path, monkeypatch, capsys):
    whole = [*command]
    whole[whole.index("--out") + 1] = str(tmp_path / "whole")
    assert cli.main(whole) == 0
    for step, number, status in ((5, signal.SIGTERM, 75), (9, signal.SIGHUP, 75), (12, signal.SIGINT, 130)):
        with monkeypatch.context() as patch:
            stopping_at(patch, step, number)
            assert cli.main([*command, "--resume", "auto"]) == status
        assert load_checkpoint(tmp_path / "run" / CHECKPOINT)["trainer"]["steps"] == step
        assert json.loads((tmp_path / "run" / "heartbeat.json").read_text())["state"] == "stopped"
    assert cli.main([*command, "--resume", "auto"]) == 0
    assert cli.main([*command, "--resume", "auto"]) == 0, "a run that is done stays so"
    ours, theirs = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert read_log(tmp_path / "run" / LOG) == read_log(tmp_path / "whole" / LOG)


def test_the_same_command_with_other_settings_is_refused(command, capsys):
    assert cli.main([*command, "--resume", "auto"]) == 0
    assert cli.main([*command, "--resume", "auto", "--seed", "1"]) == 1
    assert "--seed 1 differs from the run" in capsys.readouterr().err


@posix
def test_a_run_for_seconds_and_from_weights_goes_on_by_its_command(command, tmp_path, monkeypatch):
    assert cli.main(command) == 0
    index = command.index("--characters")
    begin = [*command[:index], *command[index + 2 :], "--seconds", "0.3", "--from", str(tmp_path / "run")]
    begin[begin.index("--out") + 1] = str(tmp_path / "timed")
    begin += ["--resume", "auto"]
    with monkeypatch.context() as patch:
        patch.setattr(cli.train, "time_plan", lambda seconds, settings, device: Plan())
        stopping_at(patch, 3, signal.SIGTERM)
        assert cli.main(begin) == 75
    assert cli.main(begin) == 0
    assert load_checkpoint(tmp_path / "timed" / CHECKPOINT)["trainer"]["steps"] == 10


class Plan:
    characters, evaluations = 640, 2


def test_resume_auto_needs_a_folder(capsys):
    assert cli.main(["train", "--resume", "auto"]) == 1
    assert "--resume needs --out" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train", "--resume", "always"])
    assert exit_.value.code == 2


def test_a_loss_that_is_not_finite_has_a_status_of_its_own(command, monkeypatch, capsys):
    def diverge(*_):
        raise TrainingError("the loss is nan")

    monkeypatch.setattr("tinygrad_gru.train.Trainer.step", diverge)
    assert cli.main(command) == 3
    assert capsys.readouterr().err == "error: the loss is nan\n"


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, getattr(signal, "SIGHUP", None)])
@pytest.mark.parametrize("when", ["while the text is read", "before the loop", "in an evaluation that takes too long"])
def test_a_signal_is_resumable_at_any_time(command, tmp_path, monkeypatch, when, number):
    def endless(*_):
        signal.raise_signal(number)
        began = time.monotonic()
        while time.monotonic() - began < 20:
            pass

    if when.startswith("while"):
        monkeypatch.setattr("tinygrad_gru.train.text.run.encoded_text", endless)
    elif when.startswith("before"):
        monkeypatch.setattr("tinygrad_gru.train.loop.StopRequest.__enter__", endless)
    else:
        original = cli.train.TextRun.evaluate
        monkeypatch.setattr(
            cli.train.TextRun, "evaluate", lambda run: endless() if run.trainer.steps else original(run)
        )
    before = signal.getsignal(number)
    began = time.monotonic()
    assert cli.main([*command, "--evaluations", "2", "--grace", "0.1", "--resume", "auto"]) == 75
    assert time.monotonic() - began < 15 and signal.getsignal(number) is before
    monkeypatch.undo()
    assert cli.main([*command, "--evaluations", "2", "--resume", "auto"]) == 0


@posix
def test_a_process_that_is_sent_sigterm_saves_and_ends(command, tmp_path):
    command[command.index("--characters") + 1] = str(10**9)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "TINYGRAD_GRU_COMPILED": "numpy"}
    with subprocess.Popen([sys.executable, "-m", "tinygrad_gru", *command], env=environment) as process:
        for _ in range(400):
            heartbeat = tmp_path / "run" / "heartbeat.json"
            if heartbeat.exists() and '"training"' in heartbeat.read_text():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 75
    assert load_checkpoint(tmp_path / "run" / CHECKPOINT)["trainer"]["steps"] > 0


@posix
@pytest.mark.parametrize("signals", [[], [signal.SIGTERM]])
def test_a_checkpoint_that_cannot_be_written_is_an_error_whatever_came_before(command, tmp_path, monkeypatch, signals):
    def full(*_):
        raise OSError(28, "No space left on device")

    if signals:
        stopping_at(monkeypatch, 5, *signals)
    monkeypatch.setattr("tinygrad_gru.io.checkpoint.replacing", full)
    assert cli.main([*command, "--resume", "auto"]) == 1
    assert json.loads((tmp_path / "run" / "heartbeat.json").read_text())["state"] == "failed"


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_a_model_that_diverges_has_that_status_wherever_it_is_seen(command, capsys):
    assert cli.main([*command, "--lr", "1e30"]) == 3  # its loss is finite, and its logits are not
    assert "(did its training diverge?)" in capsys.readouterr().err


@pytest.mark.parametrize("grace", ["-1", "nan", "inf"])
def test_a_grace_that_no_timer_takes_is_refused(command, capsys, grace):
    assert cli.main([*command, "--grace", grace]) == 1
    error = capsys.readouterr().err
    assert "grace: expected seconds from 0 to" in error and f"got {float(grace)!r}" in error
