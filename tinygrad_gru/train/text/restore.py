"""Restoring a trained model from a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...backend import resolve
from ...data import CharacterVocabulary
from ...io.checkpoint import CheckpointError, load_checkpoint
from ...io.schema import check
from ..folder import BEST, CHECKPOINT
from .model import CharacterModel
from .run import TEXT_RUN, new_model
from .settings import TextSettings


class Restored(NamedTuple):
    """A model with its trained weights, its vocabulary, and the whole state of the checkpoint.

    >>> train.Restored._fields
    ('model', 'vocabulary', 'state')
    """

    model: CharacterModel
    vocabulary: CharacterVocabulary
    state: dict[str, Any]


def restore(path: str | os.PathLike[str], device: str | None = None) -> Restored:
    """The model in a checkpoint, or in a run's folder: its best checkpoint if it kept one, else its last.

    Raises CheckpointError if there is none, or if it is not of a text model.

    >>> model, vocabulary, state = train.restore("runs/gru-1")    # doctest: +SKIP
    """
    path = checkpoint_in(path)
    state = load_checkpoint(path)
    settings = settings_in(state, path)
    try:
        vocabulary = CharacterVocabulary.from_description(state["about"]["vocabulary"])
        model = new_model(settings, vocabulary)
        model.load_state_dict(state["trainer"]["model"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not hold a text model: {error}") from error
    model.to(resolve(device))
    return Restored(model, vocabulary, state)


def settings_in(state: Mapping[str, Any], path: Path) -> TextSettings:
    """The settings of the run whose `state` was read from `path`. Raises CheckpointError if it is not such a state.

    A model with these settings needs memory in proportion to the weights in the state.
    """
    try:
        check(state, TEXT_RUN)
        settings = TextSettings(**state["about"]["settings"])
    except (CheckpointError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not hold a text model: {error}") from error
    arrays = state["trainer"]["model"].values()
    symbols, embedding, hidden = len(state["about"]["vocabulary"]["symbols"]), settings.embedding, settings.hidden
    # Every cell has at least these: x W and h U of one gate. So nothing large is built before the shapes are compared.
    needed = symbols * (embedding + hidden) + embedding * hidden + settings.layers * hidden**2
    held = sum(array.size for array in arrays)
    if needed > held or settings.layers > len(arrays):
        raise CheckpointError(
            f"{path} does not hold a text model: with its settings one has at least {needed:,} parameters in "
            f"{settings.layers:,} layers, but it holds {held:,} in {len(arrays):,} arrays"
        )
    return settings


def checkpoint_in(path: str | os.PathLike[str]) -> Path:
    """`path` itself, or if it is a folder the best checkpoint in it."""
    path = Path(path)
    if not path.is_dir():
        return path
    return path / BEST if (path / BEST).exists() else path / CHECKPOINT
