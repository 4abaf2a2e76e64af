"""n-gram baselines: the losses that a trained model has to beat."""

from __future__ import annotations

import numpy as np


def ngram_losses(
    training: np.ndarray, held_out: np.ndarray, num_symbols: int, order: int = 2, strength: float = 10.0
) -> list[float]:
    """Mean loss on `held_out` (nats/char) of n-gram models fitted on `training`, for n = 1 to `order`.

    Each model is smoothed by the one of the next lower order, the unigram model by the uniform distribution:

        p_n(x | context) = (count(context, x) + s · p_{n-1}(x | shorter context)) / (count(context) + s),  p_0 = 1 / V

    s is the `strength` of the lower-order model, as a count of characters. `training` and `held_out` are 1-D ids below
    V = `num_symbols`. All orders are scored on the same characters: those with at least `order - 1` before them.

    >>> ids = np.tile([0, 1, 2], 100)
    >>> [round(loss, 2) for loss in data.ngram_losses(ids[:200], ids[200:], num_symbols=3, order=2)]
    [1.1, 0.09]
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
    grams, scored_grams = (np.zeros(len(ids) + 1, dtype=np.int64) for ids in (training, held_out))
    losses = []
    for _ in range(order):
        contexts, scored_contexts = grams[:-1], scored_grams[:-1]
        grams = contexts * num_symbols + training[-len(contexts) :]
        scored_grams = scored_contexts * num_symbols + held_out[-len(scored_contexts) :]
        count = _occurrences(grams, scored_grams[-scored:])
        context_count = _occurrences(contexts, scored_contexts[-scored:])
        probability = (count + strength * probability) / (context_count + strength)
        losses.append(float(-np.log(probability).mean()))
    return losses


def _occurrences(array: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The number of occurrences of each query in `array`."""
    values, counts = np.unique(array, return_counts=True)
    indices = np.minimum(np.searchsorted(values, queries), len(values) - 1)
    return np.where(values[indices] == queries, counts[indices], 0)
