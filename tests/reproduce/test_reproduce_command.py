"""`tinygrad-gru reproduce`: lists, runs, goes on, and says what is wrong."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from line_study import Line

from tinygrad_gru.cli import main
from tinygrad_gru.cli import reproduce as command
from tinygrad_gru.reproduce import STUDIES
from tinygrad_gru.train import Trainer

pytest.importorskip("scipy")


@pytest.fixture
def line(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "STUDIES", {"line": Line()})
    monkeypatch.setattr("tinygrad_gru.reproduce.running.SECONDS", 0.0)


def test_without_a_name_it_lists_the_studies(capsys):
    assert main(["reproduce"]) == 0
    text = capsys.readouterr().out
    for name, study in STUDIES.items():
        assert name in text and study.reference in text and study.takes in text


def test_it_prints_the_report_and_goes_on(line, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    assert main(["reproduce", "line", "--quick", "--quiet", "--task", "line"]) == 0
    text = capsys.readouterr().out
    assert "Command: `tinygrad-gru reproduce line --task line --quick`" in text and "no result" in text
    assert (tmp_path / "runs" / "reproduce-line-quick" / "picture.png").exists()
    assert main(["reproduce", "line", "--quick", "--quiet", "--task", "line"]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "status"), [("SIGTERM", 75), ("SIGHUP", 75), ("SIGINT", 130)])
def test_a_study_that_is_stopped_says_so_by_its_status_and_goes_on(line, capsys, monkeypatch, number, status, tmp_path):
    pytest.importorskip("matplotlib")
    command = ["reproduce", "line", "--quiet", "--task", "line", "--seeds", "2"]
    assert main([*command, "--out", "whole"]) == 0
    whole, steps, original = capsys.readouterr().out, [], Trainer.step

    def step(trainer):
        steps.append(original(trainer))
        if len(steps) == 27:
            signal.raise_signal(getattr(signal, number))
        return steps[-1]

    monkeypatch.setattr(Trainer, "step", step)
    before = signal.getsignal(getattr(signal, number))
    assert main(command) == status
    assert signal.getsignal(getattr(signal, number)) is before
    out = tmp_path / "runs" / "reproduce-line"
    assert [path.name for path in out.glob("unfinished/*/checkpoint*")] and len(list(out.glob("runs/*"))) == 1
    assert main(command) == 0
    assert len(steps) >= 80 and _qualities(capsys.readouterr().out) == _qualities(whole)


def _qualities(text):
    """The cells of the table but the times."""
    return [[cell for k, cell in enumerate(row.split("|")) if k != 3] for row in text.splitlines() if row[:1] == "|"]


def test_without_matplotlib_the_report_is_printed(line, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with monkeypatch.context() as patch:  # the encoding of a locale, which need not be that of the report
        patch.setattr(Path, "read_text", lambda path, encoding="latin-1": path.read_bytes().decode(encoding))
        assert main(["reproduce", "line", "--quick", "--quiet", "--seeds", "1"]) == 0
    printed = capsys.readouterr()
    assert "“Small does as well as Large for less”" in printed.out
    assert "there is no confidence interval" in printed.out and "matplotlib is not installed" in printed.err


@pytest.mark.parametrize(
    ("words", "error"),
    [(["chung2041"], "no study 'chung2041' (did you mean 'chung2014'?)"),
     (["chung2014", "--task", "jbs"], "did you mean 'jsb'"),
     (["chung2014", "--seeds", "0"], "at least 1, and 2 for a confidence interval"),
     (["chung2014", "--data", "nowhere"], "nowhere does not exist: --data takes JSB_Chorales.mat or its folder")],
)  # fmt: skip
def test_wrong_calls_say_what_to_write(words, error, capsys):
    assert main(["reproduce", *words]) == 1
    assert error in capsys.readouterr().err
