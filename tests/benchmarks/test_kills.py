"""A few of the kills of `python -m benchmarks.kills`, at fixed numbers of log records."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from benchmarks.kills import differences, frequent_saves_job, run_or_resume, run_with_kills, text
from tinygrad_gru.train.folder import LOG, read_log

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a signal of POSIX")


def test_a_killed_run_ends_with_the_files_of_an_uninterrupted_one(tmp_path):
    steps, sizes = 60, iter([7, 60])

    def wait(process: subprocess.Popen, folder) -> None:
        records = next(sizes, 0)
        while process.poll() is None and len(read_log(folder / LOG)) < records:
            time.sleep(0.01)

    path = text(tmp_path)
    run_or_resume(str(path), str(tmp_path / "whole"), steps)
    outcome = run_with_kills(frequent_saves_job(path, steps), tmp_path, tmp_path / "whole", 2, wait)
    assert outcome.kills == 2 and outcome.differences == []
    assert len(read_log(tmp_path / "1" / LOG)) == 2 * steps + 1


def test_differences_are_detected(tmp_path):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log").write_text(name)
    (tmp_path / "killed" / ".log.part").touch()
    assert differences(tmp_path / "killed", tmp_path / "whole", ("log",)) == ["log", ".log.part"]
