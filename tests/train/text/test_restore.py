import copy

import numpy as np
import pytest

from tinygrad_gru.train import (
    CharacterModel,
    CheckpointError,
    Progress,
    TextRun,
    load_checkpoint,
    restore,
    save_checkpoint,
)
from tinygrad_gru.train.folder import BEST, CHECKPOINT
from tinygrad_gru.train.text.restore import settings_in


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
        with pytest.raises(CheckpointError, match="does not hold a text model"):
            restore(tmp_path / "wrong")


def changed(state, path, value):
    """A copy of the state with another value at a dotted path."""
    state = copy.deepcopy(state)
    *holders, last = path.split(".")
    holder = state
    for name in holders:
        holder = holder[int(name) if isinstance(holder, list) else name]
    if value is DELETED:
        del holder[last]
    else:
        holder[last] = value
    return state


IGNORED = {"about.vocabulary", "about.vocabulary.other", "about.settings.compiled"}  # by a run that is resumed
DELETED = object()
ODD = {
    "trainer": [DELETED, None, [], 3],
    "trainer.model": [DELETED, [], {}, {"embedding.W": 3}, {"embedding.W": np.zeros((3, 3), "f4")}],
    "trainer.steps": [DELETED, -1, 1.5, "3", None, True, 2**70, np.zeros(2)],
    "trainer.carried": [DELETED, 3, [], [np.zeros((1, 4, 10), "f4")], [np.zeros((2, 4, 10), "f8")] * 2],
    "trainer.random": [DELETED, {}, {"seed": -1, "position": 0}, {"seed": 2**70, "position": 0}],
    "trainer.optimizer.groups": [DELETED, {}, [], [3], [{}], [{"updates": "many"}]],
    "trainer.optimizer.state": [DELETED, [], {}, {"0.m": 3}, {"0.m": np.zeros(2)}],
    "trainer.schedule": [DELETED, {}, {"schedule": "WarmupLinear", "steps": 1, "base_lrs": ["x"]}],
    "trainer.schedule.base_lrs": [[], [1.0, 2.0], [float("nan")], 3, [None]],
    "trainer.stream.arrangement": [DELETED, [], {}, 3],
    "trainer.stream.index": [DELETED, -1, 1.5, "x"],
    "trainer.scaler": [{}, {"scale": 0.0, "good_steps": 0, "skipped": 0}, 3],
    "early_stop": [DELETED, 3, {"best": "low", "since_best": 0}, {"best": None, "since_best": -1}],
    "about.settings": [DELETED, [], {}],
    "about.settings.cell": ["transformer", 3, None, ["gru"]],
    "about.settings.hidden": [0, -1, 10.0, "10", True, 2**70, 10**7],
    "about.settings.layers": [0, 10**7, 3],
    "about.settings.embedding": [10**9],
    "about.settings.text": [0, ["x"]],
    "about.settings.compiled": [None, "sometimes", 1],
    "about.settings.dropout": [1.0, float("nan"), "x"],
    "about.vocabulary": [DELETED, {}, {"symbols": "aa", "other": None}, {"symbols": [], "other": None}],
    "about.vocabulary.other": ["ab", 3],
    "about.corpus": [DELETED, [], {}],
    "about.corpus.sha256": [DELETED, 3, None],
    "about.versions": [DELETED, {"python": [1]}],
}


def test_every_edited_state_is_refused(trained, tmp_path):
    state = load_checkpoint(tmp_path / CHECKPOINT)
    for path, value in [(path, value) for path, values in ODD.items() for value in values]:
        edited = changed(state, path, value)
        save_checkpoint(tmp_path / "edited", edited)
        if path not in IGNORED:
            with pytest.raises(CheckpointError, match=r"."):
                trained.loop(tmp_path, edited)
        with pytest.raises(CheckpointError, match=r"."):
            restore(tmp_path / "edited")
            trained.loop(tmp_path, load_checkpoint(tmp_path / "edited"))
            pytest.fail(f"{path} was taken to be {value!r}")


def test_a_model_is_restored_from_a_checkpoint_that_cannot_be_resumed(trained, tmp_path):
    state = load_checkpoint(tmp_path / CHECKPOINT)
    del state["logged"]
    save_checkpoint(tmp_path / "earlier", state)
    assert restore(tmp_path / "earlier").state["trainer"]["steps"] == 20
    with pytest.raises(CheckpointError, match="logged is missing"):
        trained.loop(tmp_path, load_checkpoint(tmp_path / "earlier"))


def test_shapes_are_compared_before_the_model_is_built(trained, tmp_path, monkeypatch):
    state = load_checkpoint(tmp_path / CHECKPOINT)
    monkeypatch.setattr(CharacterModel, "__init__", None)
    for name, value in (("hidden", 5000), ("layers", 900), ("embedding", 5000)):
        save_checkpoint(tmp_path / "large", changed(state, f"about.settings.{name}", value))
        with pytest.raises(CheckpointError, match=r"one has at least [\d,]+ parameters in [\d,]+ layers, but it holds"):
            restore(tmp_path / "large")


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("sizes", [(1, 1), (1, 9), (9, 1)])
def test_no_model_is_too_small_for_its_settings(small, tmp_path, cell, layers, sizes):
    """The lower bound of the number of weights holds for every model."""
    settings = small(cell=cell, layers=layers, embedding=sizes[0], hidden=sizes[1])
    run = TextRun(settings)
    loop = run.loop(tmp_path)
    state = {"about": loop.metadata, "trainer": run.trainer.state_dict(), "early_stop": loop.early_stop.state_dict()}
    assert settings_in({**state, "best_step": None, "logged": 0}, tmp_path) == settings


def test_loading_a_state_without_a_carried_one_resets_it(small):
    trainer = TextRun(small()).trainer
    first = trainer.state_dict()
    trainer.step()
    trainer.load_state_dict(first)
    assert trainer.state_dict()["carried"] is None
