import numpy as np
import pytest

from tinygrad_gru.train import CheckpointError, Progress, TextRun, load_checkpoint, restore, save_checkpoint
from tinygrad_gru.train.folder import BEST, CHECKPOINT


@pytest.fixture
def trained(small, tmp_path):
    run = TextRun(small(cell="lstm", layers=2))
    run.loop(tmp_path).run(Progress())
    return run


def test_the_model_is_read_back(trained, tmp_path):
    for path in (tmp_path, tmp_path / CHECKPOINT):
        model, vocabulary, state = restore(path)
        assert vocabulary == trained.vocabulary
        assert state["trainer"]["steps"] == 20
        ids = trained.held_out[:30, None]
        assert np.array_equal(model(ids)[0].numpy(), trained.model(ids)[0].numpy())


def test_a_folder_gives_its_best_checkpoint_if_it_has_one(trained, tmp_path):
    state = load_checkpoint(tmp_path / CHECKPOINT)
    state["trainer"]["steps"] = 3
    save_checkpoint(tmp_path / BEST, state)
    assert restore(tmp_path).state["trainer"]["steps"] == 3


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        restore(tmp_path)


def test_a_checkpoint_of_something_else_is_refused(trained, tmp_path):
    state = load_checkpoint(tmp_path / CHECKPOINT)
    wrong = [
        {"numbers": [1, 2]},
        {**state, "trainer": {"model": {}}},
        {**state, "about": {**state["about"], "settings": {"colour": "red"}}},
        {**state, "about": {**state["about"], "vocabulary": {"symbols": "ab", "other": None}}},
    ]
    for content in wrong:
        save_checkpoint(tmp_path / "wrong", content)
        with pytest.raises(CheckpointError, match="does not hold a model of text"):
            restore(tmp_path / "wrong")
