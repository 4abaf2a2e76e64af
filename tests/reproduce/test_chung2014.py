"""chung2014 on pieces that are made here: what is averaged over what, the baselines, and files that are none."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from math import log

import numpy as np
import pytest

from tinygrad_gru import manual_seed, nn
from tinygrad_gru.io import FileFormatError
from tinygrad_gru.reproduce import STUDIES, Run, run_study
from tinygrad_gru.reproduce.studies.chung2014 import KEYS, Chung2014, independent_keys, markov_keys, nll, read_rolls
from tinygrad_gru.train import evaluate, predict

savemat = pytest.importorskip("scipy.io").savemat
KEYS_OF_SPLITS = {"traindata": 20, "validdata": 3, "testdata": 4}


def rolls(rng, count):
    return [(rng.random((int(steps), KEYS)) < 0.1).astype("uint8") for steps in rng.integers(4, 12, count)]


@pytest.fixture
def music(tmp_path, rng):
    """A study whose data are noise, and their file."""
    path = tmp_path / "JSB_Chorales.mat"
    content = {}
    for name, count in KEYS_OF_SPLITS.items():
        content[name] = np.empty((1, count), object)
        content[name][0, :] = rolls(rng, count)
    savemat(path, content)
    study = Chung2014()
    file = replace(study.tasks["jsb"].file, sha256=sha256(path.read_bytes()).hexdigest())
    study.tasks = {"jsb": replace(study.tasks["jsb"], file=file)}
    return study, path


def test_a_study_of_it_runs(music, monkeypatch):
    monkeypatch.setattr("tinygrad_gru.reproduce.running.step_times", lambda steps, *_: dict.fromkeys(steps, (1.0,) * 5))
    study, path = music
    outcome = run_study(study, data=path, seeds=1, quick=True, progress=False)
    (gru,) = outcome.results["jsb", "gru"]
    assert gru.parameters == 3 * (KEYS * 46 + 46 * 46 + 46) + 46 * KEYS + KEYS
    assert 0 < gru.quality < KEYS * log(2) and len(gru.curve) == 1 + study.quick["epochs"]
    assert gru.quality == gru.more["test"]


def test_the_nll_is_the_mean_over_all_predicted_steps(music):
    """Against a loop over the pieces, one at a time, without padding."""
    study, path = music
    data = study.load("jsb", path, {**study.settings})
    run = Run("jsb", "gru", 0, data, study.settings)
    manual_seed(3)
    model = study.model(run)
    found = evaluate(model, nll, study.batches(run, "test"))["loss"]
    total, steps = 0.0, 0
    for piece in data["test"]:
        logits = predict(model, [(piece[:-1, None], piece[1:, None])]).reshape(-1, KEYS).astype(float)
        p = 1 / (1 + np.exp(-logits))
        total += -(np.log(p) * piece[1:] + np.log(1 - p) * (1 - piece[1:])).sum()
        steps += len(piece) - 1
    np.testing.assert_allclose(found, total / steps, rtol=1e-5)


def test_baselines_are_counted_from_the_training_pieces():
    """One key of 88 changes; the others are never on, and cost little."""

    def piece(*on):
        roll = np.zeros((len(on), 1), "float32")
        roll[:, 0] = on
        return roll

    train, test = [piece(0, 1, 1, 0), piece(1, 1)], [piece(0, 1, 0)]
    p = (3 + 1) / (4 + 2)  # of steps 2 to T three of four are on, and one of each is added
    np.testing.assert_allclose(independent_keys(train, test), -(log(p) + log(1 - p)) / 2)
    after_off, after_on = (1 + 1) / (1 + 2), (2 + 1) / (3 + 2)
    np.testing.assert_allclose(markov_keys(train, test), -(log(after_off) + log(1 - after_on)) / 2)


def test_a_file_of_something_else_is_refused(tmp_path, rng):
    path = tmp_path / "JSB_Chorales.mat"
    savemat(path, {"traindata": rng.random((3, 3))})
    for content in (b"notes", path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="no file of piano rolls"):
            read_rolls(path)


def test_sizes_are_the_papers():
    study = STUDIES["chung2014"]
    units = [study.model(Run("jsb", cell, 0, {}, study.settings))[0].hidden_size for cell in ("rnn", "gru", "lstm")]
    assert units == [100, 46, 36] and isinstance(study.model(Run("jsb", "gru", 0, {}, study.settings))[0], nn.GRU)
