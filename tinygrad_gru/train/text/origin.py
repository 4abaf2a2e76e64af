"""A run that starts from the weights of another: known characters keep their rows, new ones are appended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ...data import CharacterVocabulary
from ...io.checkpoint import CheckpointError, fingerprint
from .model import CharacterModel
from .settings import TextSettings

#: The settings that must be those of the run that the weights are from.
ARCHITECTURE = ("cell", "embedding", "hidden", "layers")


class Origin(NamedTuple):
    """What a run starts from.

    vocabulary   its symbols keep their ids; those of the new text follow
    weights      by name, None if the run is resumed, whose checkpoint has them
    description  for the checkpoint: where they are from

    >>> from tinygrad_gru.data import CharacterVocabulary
    >>> origin = train.Origin(CharacterVocabulary("ab"), None, {})
    >>> origin.vocabulary_for("abcab").symbols
    'abc'
    """

    vocabulary: CharacterVocabulary
    weights: Mapping[str, np.ndarray] | None
    description: dict[str, Any]

    @classmethod
    def of(cls, model: CharacterModel, vocabulary: CharacterVocabulary, state: Mapping[str, Any]) -> Origin:
        """The origin of a run that starts from a model and a vocabulary, restored from the `state` of a checkpoint."""
        weights = model.state_dict()
        corpus = state["about"]["corpus"]["name"]
        return cls(vocabulary, weights, {"corpus": corpus, "sha256": fingerprint(weights)})

    def vocabulary_for(self, text: str) -> CharacterVocabulary:
        """The vocabulary with the characters of `text`; without change if it has one that stands for all others."""
        if self.vocabulary.other is not None:
            return self.vocabulary
        known = self.vocabulary.symbols
        return CharacterVocabulary(known + "".join(sorted(set(text) - set(known))))

    def copy_weights(self, model: CharacterModel) -> None:
        """Copy the weights into a model that may have a larger vocabulary; the rows of new characters stay."""
        for name, tensor in model.named_tensors():
            old = (self.weights or {}).get(name)
            if old is not None:
                tensor.data[tuple(slice(size) for size in old.shape)] = old
                tensor.mark_changed()


def settings_like(state: Mapping[str, Any], given: Mapping[str, Any]) -> TextSettings:
    """The settings that were given, on the architecture in a checkpoint. ValueError if one of them is another."""
    saved = state["about"]["settings"]
    for name in ARCHITECTURE:
        if name in given and given[name] != saved[name]:
            raise ValueError(
                f"--{name} {given[name]} differs from the run whose weights are the start, which has {saved[name]}: "
                "leave it out"
            )
    return TextSettings(**{**given, **{name: saved[name] for name in ARCHITECTURE if name in saved}})


def origin_in(state: Mapping[str, Any]) -> Origin | None:
    """The origin of the run in a checkpoint, for resuming it; None if it started from random weights."""
    description = state["about"].get("started_from")
    if description is None:
        return None
    try:
        return Origin(CharacterVocabulary.from_description(state["about"]["vocabulary"]), None, dict(description))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint does not hold a text model: {error}") from error
