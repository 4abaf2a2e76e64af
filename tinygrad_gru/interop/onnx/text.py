"""The main job's model as an ONNX file that says by itself how to write with it."""

from __future__ import annotations

import json
import os

import numpy as np

from ...data import CharacterVocabulary
from ...train import CharacterModel
from .export import save


def save_text_model(model: CharacterModel, vocabulary: CharacterVocabulary, path: str | os.PathLike[str]) -> None:
    """Write a model of text, with its vocabulary in the metadata: any ONNX runtime can go on with a text.

    The graph reads `ids` (time, batch), int64, and `state` (layers, batch, hidden), zeros in the beginning; it returns
    `logits` (time, batch, symbols) and `next_state`, that after the last step. An LSTM's state is `state_0` and
    `state_1`, h and c, and comes out as `next_state_0` and `next_state_1`. The metadata entry "vocabulary" is what
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
