"""Evaluation of a character model on held-out text."""

from __future__ import annotations

import numpy as np

from ...contexts import no_grad
from ...data import CharacterVocabulary
from .model import CharacterModel, prediction_loss

_MAX_STREAMS = 128
_MIN_STREAM_LENGTH = 1024


def character_losses(model: CharacterModel, ids: np.ndarray, window: int = 64) -> np.ndarray:
    """The loss (nats) on each character of a text but the first, given those before it: shape (len(ids) - 1,).

    The text is evaluated as a batch of up to 128 streams of at least 1024 characters each, so that few characters have
    little context. Dropout is off; the model's mode (`train` or `eval`) is restored afterwards.

    >>> train.character_losses(train.CharacterModel(5, 2, 3), np.array([0, 1, 2, 3, 4, 0])).shape
    (5,)
    """
    count = len(ids) - 1
    if count < 1:
        raise ValueError(f"a text of {len(ids)} characters leaves nothing to predict: give at least 2")
    streams = max(1, min(_MAX_STREAMS, count // _MIN_STREAM_LENGTH))
    padding = -count % streams
    inputs = np.pad(ids[:-1], (0, padding)).reshape(streams, -1).T
    targets = np.pad(ids[1:], (0, padding)).reshape(streams, -1).T
    losses, state = [], None
    with model.evaluating(), no_grad():
        for start in range(0, len(inputs), window):
            part = slice(start, start + window)
            loss, state = prediction_loss(model, inputs[part], targets[part], state, reduction="none")
            losses.append(loss.numpy())
    return np.concatenate(losses).T.reshape(-1)[:count]


def excerpts(ids: np.ndarray, count: int = 64, length: int = 1024) -> np.ndarray:
    """`count` evenly spaced pieces of a text, concatenated: enough to evaluate on during training.

    A text that is no longer than that is returned whole.

    >>> train.excerpts(np.arange(100), count=3, length=2)
    array([ 0,  1, 49, 50, 98, 99])
    """
    if len(ids) <= count * length:
        return ids
    starts = np.linspace(0, len(ids) - length, count).astype(int)
    return ids[starts[:, None] + np.arange(length)].reshape(-1)


def leading_spaces(ids: np.ndarray, vocabulary: CharacterVocabulary) -> np.ndarray:
    """A mask of the spaces at the beginning of a line: one boolean per character.

    >>> text = "a b\\n  c"
    >>> vocabulary = data.CharacterVocabulary.from_text(text)
    >>> train.leading_spaces(vocabulary.encode(text), vocabulary).nonzero()[0]
    array([4, 5])
    """
    is_space = ids == vocabulary.symbols.find(" ")
    # The index of the last character that was not a space; the text counts as preceded by a newline.
    last = np.maximum.accumulate(np.where(is_space, -1, np.arange(len(ids))))
    after_newline = (last < 0) | (ids[last] == vocabulary.symbols.find("\n"))
    return is_space & after_newline
