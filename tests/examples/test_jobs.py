"""The job scripts: their syntax, the commands in them, and what the one for Slurm does with a signal."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tinygrad_gru.cli.main import _parse

ROOT = Path(__file__).parents[2]
SLURM, KUBERNETES = ROOT / "examples" / "jobs" / "slurm.sh", ROOT / "examples" / "jobs" / "kubernetes.yaml"
needs_bash = pytest.mark.skipif(sys.platform == "win32" or shutil.which("bash") is None, reason="a script for bash")


def lists_in_kubernetes():
    return re.findall(r"^ +(?:command|args): (\[.*?\])", KUBERNETES.read_text(), re.MULTILINE | re.DOTALL)


def test_the_commands_in_them_are_those_of_the_program():
    (line,) = re.findall(r"^tinygrad-gru (train .*) &$", SLURM.read_text(), re.MULTILINE)
    line = line.replace('"$CHARACTERS"', "20")
    command, arguments = map(json.loads, lists_in_kubernetes())
    assert command[0] == "tinygrad-gru"
    for given in (shlex.split(line), [*command[1:], *arguments]):
        options = _parse(given)
        assert options.name == "train" and options.resume == "auto" and options.out and options.text


def test_they_leave_time_to_save():
    slurm, kubernetes = SLURM.read_text(), KUBERNETES.read_text()
    warned, graced = (int(re.search(rf"{words}(\d+)", slurm)[1]) for words in ("B:TERM@", "--grace "))
    assert graced < warned
    given = int(re.search(r"terminationGracePeriodSeconds: (\d+)", kubernetes)[1])
    assert int(re.search(r'"--grace", "(\d+)"', kubernetes)[1]) < given


def test_the_one_for_kubernetes_is_a_job():
    if importlib.util.find_spec("yaml") is None:
        assert "\t" not in KUBERNETES.read_text()
        return
    import yaml

    job = yaml.safe_load(KUBERNETES.read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert job["kind"] == "Job" and pod["restartPolicy"] == "Never", "which podFailurePolicy needs"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert [rule.get("onExitCodes", {}).get("values") for rule in rules] == [[75], None, [2, 3]]
    assert [container["command"], container["args"]] == list(map(json.loads, lists_in_kubernetes()))


@needs_bash
@pytest.mark.parametrize(("age", "alive"), [(0, True), (1000, False), (None, True)])
def test_the_probe_tells_a_run_that_has_hung(tmp_path, age, alive):
    (probe,) = re.findall(r"- (test .*)$", KUBERNETES.read_text(), re.MULTILINE)
    if age is not None:
        (tmp_path / "heartbeat.json").touch()
        os.utime(tmp_path / "heartbeat.json", (time.time() - age,) * 2)
    if sys.platform == "linux":
        command = ["sh", "-c", probe.replace("/runs/gru", str(tmp_path))]
        assert (subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0) == alive


@needs_bash
def test_the_one_for_slurm_passes_the_signal_on_and_queues_the_job_again(tmp_path):
    assert subprocess.run(["bash", "-n", str(SLURM)], check=False).returncode == 0
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 200)
    programs = {
        "tinygrad-gru": f'exec "{sys.executable}" -m tinygrad_gru "$@" --hidden 8 --embedding 4',
        "scontrol": f'echo "$@" > "{tmp_path}/queued"',
    }
    for name, content in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{content}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "SLURM_JOB_ID": "17",
        "TEXT": str(tmp_path / "text.txt"), "RUN": str(tmp_path / "run"), "TINYGRAD_GRU_COMPILED": "numpy",
    }  # fmt: skip
    heartbeat = tmp_path / "run" / "heartbeat.json"
    with subprocess.Popen(["bash", str(SLURM)], env=environment) as job:
        for _ in range(600):
            if heartbeat.exists() and '"training"' in heartbeat.read_text():
                break
            time.sleep(0.05)
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=60) == 75
    assert (tmp_path / "queued").read_text() == "requeue 17\n"
    assert json.loads(heartbeat.read_text())["state"] == "stopped"
