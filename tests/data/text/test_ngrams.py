import math
from collections import Counter

import numpy as np
import pytest

from tinygrad_gru.data import ngram_losses


def smoothed(training, context, symbol, num_symbols, strength):
    """The docstring's recursion, one probability at a time."""
    if context is None:
        return 1 / num_symbols
    order = len(context) + 1
    grams = Counter(tuple(training[i : i + order]) for i in range(len(training) - order + 1))
    together = grams[(*context, symbol)]
    alone = sum(count for gram, count in grams.items() if gram[:-1] == context)
    lower = smoothed(training, context[1:] if context else None, symbol, num_symbols, strength)
    return (together + strength * lower) / (alone + strength)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_losses_follow_the_recursion_in_the_docstring(order):
    random = np.random.default_rng(3)
    training, held_out = random.integers(0, 4, 60), random.integers(0, 5, 25)
    for n, loss in enumerate(ngram_losses(training, held_out, 5, order, strength=2.0), start=1):
        logs = [
            math.log(smoothed(training.tolist(), tuple(held_out[i - n + 1 : i].tolist()), held_out[i], 5, 2.0))
            for i in range(order - 1, len(held_out))
        ]
        assert loss == pytest.approx(-np.mean(logs), rel=1e-12)


def test_probabilities_sum_to_one_over_the_symbols():
    training = np.random.default_rng(0).integers(0, 4, 50)
    loss_of = [ngram_losses(training, np.array([2, symbol]), 5, 2)[1] for symbol in range(5)]
    assert sum(math.exp(-loss) for loss in loss_of) == pytest.approx(1.0)


def test_the_bigram_loss_of_a_regular_text_is_almost_zero():
    text = np.tile(np.arange(3), 10_000)
    unigram, bigram = ngram_losses(text, text[:300], 3)
    assert unigram == pytest.approx(math.log(3), abs=1e-3)
    assert bigram < 0.01


@pytest.mark.parametrize(("order", "message"), [(0, "at least 1"), (40, "too high"), (4, "held_out has 3")])
def test_wrong_orders_are_refused(order, message):
    with pytest.raises(ValueError, match=message):
        ngram_losses(np.arange(9), np.arange(3), 9, order)
