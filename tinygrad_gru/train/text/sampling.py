"""Sampling text from a trained model, one character at a time."""

from __future__ import annotations

import numpy as np

from ...contexts import no_grad
from ...data import CharacterVocabulary
from ...scan import compiling
from .model import CharacterModel


def generate(
    model: CharacterModel,
    vocabulary: CharacterVocabulary,
    length: int,
    prompt: str = "",
    temperature: float = 0.8,
    top_p: float = 0.95,
    seed: int = 0,
) -> str:
    """`length` characters that follow `prompt`; the same seed gives the same text.

    temperature   logits are divided by it: lower is safer, and 0 takes the likeliest character
    top_p         only the likeliest characters, those that together have this probability, are sampled from

    Both would make repetitions endless: a model that has learned to indent finds one more space likelier than all else,
    and sharpened at every step this becomes a certainty. So after two equal characters, whether a third follows is
    sampled from the unmodified distribution; temperature and top_p then apply to what comes instead.

    An empty prompt stands for a newline, or for the first symbol of a vocabulary without one. The random numbers are
    independent of the global ones, and the model's mode (`train` or `eval`) is restored afterwards.

    >>> vocabulary = data.CharacterVocabulary.from_text("to be or not")
    >>> len(train.generate(train.CharacterModel(len(vocabulary), 4, 8), vocabulary, length=20, prompt="to "))
    20
    """
    if length < 0 or not temperature >= 0 or not 0 < top_p <= 1:
        raise ValueError(
            "expected length and temperature of at least 0 and top_p in (0, 1], "
            f"got {length}, {temperature} and {top_p}"
        )
    random = np.random.default_rng(seed)
    ids = vocabulary.encode(prompt or ("\n" if "\n" in vocabulary.symbols else vocabulary.symbols[0])).tolist()
    given = len(ids)
    new, state = ids.copy(), None
    with model.evaluating(), no_grad(), compiling(False):  # one step runs faster than it is traced
        while len(ids) < given + length:
            logits, state = model(np.array(new)[:, None], state)
            in_a_row = len(ids) > 1 and ids[-1] == ids[-2]
            new = [draw(logits.numpy()[-1, 0], random, temperature, top_p, ids[-1] if in_a_row else None)]
            ids += new
    return vocabulary.decode(ids[given:])


def draw(
    logits: np.ndarray,
    random: np.random.Generator,
    temperature: float = 1.0,
    top_p: float = 1.0,
    as_is: int | None = None,
) -> int:
    """An index into `logits` (1-D), sampled from softmax(logits / temperature), cut to its likeliest `top_p`.

    The index `as_is` is sampled with its probability in softmax(logits), and the others as above if it is not.
    """
    logits = logits.astype(np.float64)
    if np.isnan(logits).any() or logits.max() == -np.inf:
        raise ValueError("the model's logits are not finite: it cannot be sampled from (did its training diverge?)")
    if as_is is not None:
        if random.random() < _softmax(logits)[as_is]:
            return as_is
        logits[as_is] = -np.inf
    order = np.argsort(-logits, kind="stable")
    if temperature == 0:
        return int(order[0])
    cumulative = np.cumsum(_softmax(logits[order], temperature))
    cumulative = cumulative[: np.searchsorted(cumulative, top_p) + 1]
    return int(order[np.searchsorted(cumulative, random.random() * cumulative[-1], side="right")])


def _softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """softmax(logits / temperature), in which infinite logits share all the probability."""
    top = logits.max()
    below = np.where(logits == top, 0.0, -np.inf) if np.isinf(top) else logits - top
    # What is infinitely less likely than the likeliest has probability 0, at an infinite temperature too.
    with np.errstate(over="ignore", invalid="ignore"):
        exponentials = np.where(below == -np.inf, 0.0, np.exp(below / temperature))
    return exponentials / exponentials.sum()
