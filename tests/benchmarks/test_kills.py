"""A few of the kills of `python -m benchmarks.kills`, at moments that are told by the log."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from benchmarks.kills import differences, go_on, killed, saving_always, text
from tinygrad_gru.train.folder import LOG
from tinygrad_gru.train.loop import read_log

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a signal of POSIX")


def test_a_run_that_is_killed_ends_as_one_that_is_not(tmp_path):
    steps, moments = 60, iter([7, 31, 60])

    def wait(process: subprocess.Popen, folder) -> None:
        records = next(moments, 0)
        while process.poll() is None and len(read_log(folder / LOG)) < records:
            time.sleep(0.01)

    path = text(tmp_path)
    go_on(str(path), str(tmp_path / "whole"), steps)
    outcome = killed(saving_always(path, steps), tmp_path, tmp_path / "whole", 3, wait)
    assert outcome.kills == 3 and outcome.differences == []
    assert len(read_log(tmp_path / "1" / LOG)) == 2 * steps + 1


def test_what_differs_is_found(tmp_path):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log").write_text(name)
    (tmp_path / "killed" / ".log.part").touch()
    assert differences(tmp_path / "killed", tmp_path / "whole", ("log",)) == ["log", ".log.part"]
