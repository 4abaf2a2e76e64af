"""How well counting alone predicts a text: the floors that a trained model has to get under."""

from __future__ import annotations

import numpy as np


def ngram_losses(
    training: np.ndarray, held_out: np.ndarray, num_symbols: int, order: int = 2, strength: float = 10.0
) -> list[float]:
    """Mean loss on `held_out` (nats a character) of n-gram models counted on `training`, for n = 1 to `order`.

    Each model is smoothed by the one below it, and the lowest by the uniform distribution:

        p_n(x | context) = (count(context, x) + s · p_{n-1}(x | shorter context)) / (count(context) + s),  p_0 = 1 / V

    with s the `strength` of the lower model, counted in characters. `training` and `held_out` are ids, 1-D, below
    V = `num_symbols`. All orders are scored on the same characters: those with `order - 1` others before them.
    """
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    if num_symbols**order > np.iinfo(np.int64).max:
        raise ValueError(f"order {order} is too high for {num_symbols} symbols: their n-grams overflow 64 bits")
    for name, ids in (("training", training), ("held_out", held_out)):
        if len(ids) < order:
            raise ValueError(f"{name} has {len(ids)} characters, but n-grams of order {order} need at least {order}")
    scored = len(held_out) - order + 1
    probability = np.full(scored, 1.0 / num_symbols)
    grams, asked = (np.zeros(len(ids) + 1, dtype=np.int64) for ids in (training, held_out))
    losses = []
    for _ in range(order):
        contexts, asked_contexts = grams[:-1], asked[:-1]
        grams = contexts * num_symbols + training[-len(contexts) :]
        asked = asked_contexts * num_symbols + held_out[-len(asked_contexts) :]
        count = _occurrences(grams, asked[-scored:])
        context_count = _occurrences(contexts, asked_contexts[-scored:])
        probability = (count + strength * probability) / (context_count + strength)
        losses.append(float(-np.log(probability).mean()))
    return losses


def _occurrences(counted: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """How often each value of `asked` occurs in `counted`."""
    values, counts = np.unique(counted, return_counts=True)
    places = np.minimum(np.searchsorted(values, asked), len(values) - 1)
    return np.where(values[places] == asked, counts[places], 0)
