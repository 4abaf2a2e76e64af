"""Character models as ONNX files with their vocabulary, so that any runtime can generate text."""

from __future__ import annotations

import json
import os

import numpy as np

from ....data import CharacterVocabulary
from ....train import CharacterModel
from .save import save


def save_text_model(model: CharacterModel, vocabulary: CharacterVocabulary, path: str | os.PathLike[str]) -> None:
    """Write a character model, with its vocabulary in the metadata: any ONNX runtime can continue a text.

    The graph reads `ids` (time, batch), int64, and `state` (layers, batch, hidden), zeros at first; it returns
    `logits` (time, batch, symbols) and `next_state`, the final state. An LSTM's state is `state_0` and
    `state_1`, h and c, and is returned as `next_state_0` and `next_state_1`. The metadata entry "vocabulary" is what
    `CharacterVocabulary.from_description` reads, as JSON.
    """
    batch, symbols = 2, model.embedding.W.shape[0]
    ids = np.arange(3 * batch).reshape(3, batch) % symbols
    state = model.recurrence.initial_state(batch)
    parts = [f"state_{k}" for k in range(len(state))] if isinstance(state, tuple) else ["state"]
    save(
        model, path, (ids.astype(np.int64), state),
        axes={"ids": ("time", "batch"), **dict.fromkeys(parts, (None, "batch", None))},
        output_names=("logits", *(f"next_{part}" for part in parts)),
        metadata={"vocabulary": json.dumps(vocabulary.description())},
    )  # fmt: skip
