"""Ranks that die, hang or fail end the job: with an error that names them, and a checkpoint to resume from."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rank_jobs as jobs
from support.ranks import environment, needs_mpi, run, start

from tinygrad_gru import parallel, train
from tinygrad_gru.cli.main import main

JOBS = Path(jobs.__file__)


@needs_mpi
def test_an_error_of_one_rank_is_told_by_all_whatever_its_length_and_letters():
    code, _, err = run(2, JOBS, "fails:error")
    assert code == 1 and "Unicode" not in err
    assert err.count("\nOSError: the disk is gone…") == 1  # rank 1 itself
    assert err.count("parallel: rank 1 of 2 has ended with OSError: the disk is gone…") == 1


@needs_mpi
def test_a_rank_that_hangs_is_named():
    code, _, err = run(2, JOBS, "fails:hang")
    assert code == 1 and "rank 1 of 2 did not answer within 1 s" in err


@needs_mpi
def test_a_killed_rank_is_named_if_a_shell_keeps_mpiexec_from_ending_the_others_at_once():
    wait = '"$@" || { status=$?; sleep 5; exit $status; }'
    code, _, err = run(2, JOBS, "fails:kill", by=["sh", "-c", wait, "sh"])
    assert code == 1 and "is gone: killed, or crashed" in err and "rank 1 of 2 (process" in err


#: The command line; a picture takes a second.
WITHOUT_PICTURES = """
import sys
from tinygrad_gru import cli
sys.modules["matplotlib"] = None
sys.exit(cli.main())
"""


def folder_state(folder):
    return [(folder / name).read_bytes() for name in ("checkpoint.safetensors", "log.jsonl")]


@needs_mpi
def test_the_command_gives_the_same_files_on_any_number_of_ranks_also_after_a_kill(tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat, and the dog on the log. " * 60)
    how = "--hidden 8 --embedding 4 --batch 8 --window 8 --dropout 0.2 --shards 4 --evaluations 3 --characters 3000"
    command = ["-c", WITHOUT_PICTURES, "train", "--text", text, *how.split(), "--quiet", "--resume", "auto", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([*map(str, [*command[2:], whole])]) == 0
    with start(2, *command, killed) as job:
        wait_for_steps(job, killed / "log.jsonl")
        os.kill(ranks_of(job.pid)[-1], signal.SIGKILL)
        assert job.wait(timeout=60) not in (0, None)
    code, _, err = run(4, *command, killed)
    assert code == 0, err
    assert folder_state(killed) == folder_state(whole)


def wait_for_steps(job, log):
    """Wait until the log has grown by some steps."""
    size = log.stat().st_size if log.exists() else 0
    while not log.exists() or log.stat().st_size <= size + 500:
        assert job.poll() is None
        time.sleep(0.005)


def ranks_of(mpiexec_process):
    """The processes of the ranks: Hydra's mpiexec has one proxy on a host, whose children they are."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with_parent = stat.read_text().rpartition(")")[2].split()
        children.setdefault(int(with_parent[1]), []).append(int(stat.parent.name))
    return sorted(child for proxy in children.get(mpiexec_process, []) for child in children.get(proxy, []))


@needs_mpi
def test_a_second_job_is_refused_and_sigterm_to_one_rank_or_to_mpiexec_ends_the_first_with_a_checkpoint(tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 60)
    how = "--hidden 4 --embedding 4 --batch 8 --window 8 --characters 100000000 --quiet --resume auto --out".split()
    command = ["-m", "tinygrad_gru", "train", "--text", tmp_path / "text.txt", *how, tmp_path / "run"]
    log, step = tmp_path / "run" / "log.jsonl", 0
    for whom in ("rank", "mpiexec"):
        with start(2, *command) as job:
            wait_for_steps(job, log)
            if whom == "rank":
                first, last = ranks_of(job.pid)
                for rank in (first, last):  # they need the time no more
                    os.kill(rank, signal.SIGSTOP)
                code, _, err = run(2, *command)
                assert code == 1 and err.count("error:") == 1 and "is in use by another run" in err
                for rank in (first, last):
                    os.kill(rank, signal.SIGCONT)
            os.kill(last if whom == "rank" else job.pid, signal.SIGTERM)
            assert job.wait(timeout=60) == 75
        found = json.loads((tmp_path / "run" / "heartbeat.json").read_text())
        saved = train.load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")["trainer"]["steps"]
        assert found["state"] == "stopped" and found["step"] == saved > step
        step = saved


@needs_mpi
def test_two_mpis_are_noticed():
    command = [sys.executable, "-c", "from tinygrad_gru import parallel; parallel.init()"]
    for rank, voice in (("0", "2 processes were started by Open MPI, but MPI knows of one"), ("1", "")):
        started = environment(OMPI_COMM_WORLD_RANK=rank, OMPI_COMM_WORLD_SIZE="2")
        found = subprocess.run(command, capture_output=True, text=True, env=started)
        assert found.returncode == 1 and voice in found.stderr and bool(voice) == bool(found.stderr)


@pytest.mark.parametrize("rank", [0, 1])
def test_commands_for_one_process_refuse_to_be_several(rank, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PMI_RANK", str(rank))
    monkeypatch.setenv("PMI_SIZE", "2")
    for command in (["export", "run"], ["reproduce", "adding", "--out"], ["predict", "run"]):
        assert main([*command, str(tmp_path / "run")]) == 1
        err = capsys.readouterr().err
        assert f"{command[0]} is for one process, and 2 were started by MPICH" in err if rank == 0 else err == ""
    assert not list(tmp_path.iterdir())


def test_without_mpi4py_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"pip install 'tinygrad_gru\[mpi\]'"):
        parallel.init("mpi")
