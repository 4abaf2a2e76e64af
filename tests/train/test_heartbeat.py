import json
import os
import time

import numpy as np
import pytest

from tinygrad_gru import nn, ops, optim
from tinygrad_gru.train import Loop, Progress, Trainer, load_checkpoint
from tinygrad_gru.train.folder import Heartbeat

X = np.ones((4, 1))


def loop_in(folder, **settings):
    model = nn.Linear(1, 1)
    trainer = Trainer(model, ops.mse, optim.Adam(model.parameters()), [(X, X)])
    return Loop(trainer, steps=3, folder=folder, **settings)


def content(folder):
    return json.loads((folder / "heartbeat.json").read_text())


def test_it_says_how_far_the_run_is(tmp_path):
    loop, seen = loop_in(tmp_path), []
    step = loop.trainer.step
    loop.trainer.step = lambda: seen.append(content(tmp_path)["step"] if loop.steps else None) or step()
    assert loop.run(Progress())
    assert seen == [None, 1, 1], "at most every ten seconds"
    last = content(tmp_path)
    assert (last["state"], last["step"], last["process"]) == ("finished", 3, os.getpid())
    assert abs(last["time"] - time.time()) < 60 and last["loss"] == loop.history["loss"][-1]
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_it_is_as_old_as_the_last_step(tmp_path):
    heartbeat = Heartbeat(tmp_path / "heartbeat.json", seconds=0.05)
    heartbeat.beat("training", 1, 2.5)
    heartbeat.beat("training", 2, 2.0)
    assert content(tmp_path)["step"] == 1
    time.sleep(0.06)
    heartbeat.beat("training", 3, float("nan"))
    assert (content(tmp_path)["step"], content(tmp_path)["loss"]) == (3, None)


def test_an_evaluation_is_told_at_its_beginning(tmp_path):
    seen = []
    loop_in(tmp_path, evaluate=lambda: seen.append(content(tmp_path)["state"]) or {"loss": 1.0}).run(Progress())
    assert set(seen) == {"evaluating"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_run_that_fails_says_so(tmp_path, error):
    def evaluate():
        raise error

    with pytest.raises(error):
        loop_in(tmp_path, evaluate=evaluate).run(Progress())
    assert content(tmp_path)["state"] == "failed"


def test_a_stopped_run_says_so(tmp_path):
    loop = loop_in(tmp_path)
    loop.request_stop("enough")
    loop.run(Progress())
    assert content(tmp_path)["state"] == "stopped"


def test_a_resumed_run_says_so_before_its_first_step(tmp_path):
    loop = loop_in(tmp_path, evaluate=lambda: (loop.steps and loop.request_stop("enough")) or {"loss": 1.0})
    loop.run(Progress())
    assert (content(tmp_path)["state"], loop.steps) == ("stopped", 1)
    again, seen = loop_in(tmp_path, evaluate=lambda: {"loss": 1.0}), []
    again.resume(load_checkpoint(tmp_path / "checkpoint.safetensors"))
    step = again.trainer.step
    again.trainer.step = lambda: seen.append(content(tmp_path)) or step()
    assert again.run(Progress())
    assert (seen[0]["state"], seen[0]["step"]) == ("training", 1)


def test_a_disk_that_is_full_does_not_end_the_run(tmp_path, monkeypatch):
    def replace(source, target):
        raise OSError(28, "No space left on device")

    heartbeat = Heartbeat(tmp_path / "heartbeat.json")
    monkeypatch.setattr(os, "replace", replace)
    heartbeat.beat("training", 1, 1.0)


def test_a_folder_in_use_keeps_the_heartbeat_of_its_run(tmp_path):
    loop_in(tmp_path).run(Progress())
    before = content(tmp_path)
    with pytest.raises(FileExistsError):
        loop_in(tmp_path).run(Progress())
    assert content(tmp_path) == before
