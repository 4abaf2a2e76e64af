"""`tinygrad-gru reproduce`: lists, runs, goes on, and says what is wrong."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from line_study import Line

from tinygrad_gru.cli import main
from tinygrad_gru.cli import reproduce as command
from tinygrad_gru.reproduce import STUDIES, step_times

pytest.importorskip("scipy")


@pytest.fixture
def line(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "STUDIES", {"line": Line()})
    monkeypatch.setattr("tinygrad_gru.reproduce.running.step_times", partial(step_times, seconds=0))


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
