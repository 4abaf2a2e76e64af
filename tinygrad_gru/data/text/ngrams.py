"""n-gram baselines: the losses that a trained model has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np

_BLOCK = 2**20


def ngram_losses(
    training: Any, held_out: np.ndarray, num_symbols: int, order: int = 2, strength: float = 10.0
) -> list[float]:
    """Mean loss on `held_out` (nats/char) of n-gram models fitted on `training`, for n = 1 to `order`.

    Each model is smoothed by the one of the next lower order, the unigram model by the uniform distribution:

        p_n(x | context) = (count(context, x) + s · p_{n-1}(x | shorter context)) / (count(context) + s),  p_0 = 1 / V

    s is the `strength` of the lower-order model, as a count of characters. `training` and `held_out` are 1-D ids below
    V = `num_symbols`; `training` may be larger than memory (a `ShardedArray`). All orders are scored on the same
    characters: those with at least `order - 1` before them.

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
    losses = []
    for n in range(1, order + 1):
        grams, contexts = (
            _grams(part, k, num_symbols)[-scored:] for part, k in ((held_out, n), (held_out[:-1], n - 1))
        )
        count = _occurrences(training, n, num_symbols, grams)
        context_count = len(training) if n == 1 else _occurrences(training[:-1], n - 1, num_symbols, contexts)
        probability = (count + strength * probability) / (context_count + strength)
        losses.append(float(-np.log(probability).mean()))
    return losses


def _grams(ids: np.ndarray, n: int, num_symbols: int) -> np.ndarray:
    """The n-grams of a text as numbers: int64, shape (len(ids) − n + 1,)."""
    grams = np.zeros(len(ids) - n + 1, dtype=np.int64)
    for k in range(n):
        grams *= num_symbols
        grams += ids[k : len(ids) - n + 1 + k]
    return grams


def _occurrences(ids: Any, n: int, num_symbols: int, queries: np.ndarray) -> np.ndarray:
    """How often each n-gram in `queries` occurs in a text, which is read by blocks."""
    size = num_symbols**n
    is_small = size <= _BLOCK
    wanted = np.arange(size) if is_small else np.unique(queries)
    counts = np.zeros(len(wanted), dtype=np.int64)
    for start in range(0, len(ids) - n + 1, _BLOCK):
        grams = _grams(np.asarray(ids[start : start + _BLOCK + n - 1]), n, num_symbols)
        if is_small:
            counts += np.bincount(grams, minlength=size)
        else:
            values, found = np.unique(grams, return_counts=True)
            places = np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)
            is_wanted = wanted[places] == values
            counts[places[is_wanted]] += found[is_wanted]
    return counts[queries if is_small else np.searchsorted(wanted, queries)]
