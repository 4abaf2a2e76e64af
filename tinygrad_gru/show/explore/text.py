"""The symbols that a model reads, and the text with which a page begins."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ...data import CharacterVocabulary
from ...nn import Embedding, Module

LONGEST = 1000  # symbols of a text that the page reads, as its script says too

CODE = '''def mean(values):
    """The mean of a list of numbers."""
    total = 0
    for value in values:
        total += value
    return total / len(values)
'''
PROSE = "the cat sat on the mat and the dog sat on the cat "


class Symbols(NamedTuple):
    """What a text of a model is made of.

    known    the symbols, by id
    other    the id that stands for those that are not known; None: such are left out
    is_text  whether a symbol is a character; else a text is ids with spaces between

    >>> from tinygrad_gru.show.explore.text import Symbols
    >>> Symbols("abc", None, True).encode("a bad cab")
    [0, 1, 0, 2, 0, 1]
    >>> Symbols("012", None, False).encode("2 1 7 0")
    [2, 1, 0]
    """

    known: Any
    other: int | None
    is_text: bool

    @classmethod
    def of(cls, model: Module, vocabulary: Any) -> Symbols:
        """Those of a vocabulary, or of a model without one."""
        if isinstance(vocabulary, CharacterVocabulary):
            other = None if vocabulary.other is None else vocabulary.symbols.index(vocabulary.other)
            return cls(vocabulary.symbols, other, True)
        if vocabulary is not None:
            return cls(list(vocabulary), None, True)
        embedding = next((module for module in model.modules() if isinstance(module, Embedding)), None)
        return cls([*map(str, range(embedding.W.shape[0]))] if embedding is not None else [], None, False)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, as the page reads it."""
        ids = {symbol: i for i, symbol in enumerate(self.known)}
        given = text if self.is_text else list(filter(None, re.split(r"[\s,;]+", text)))
        found = [ids.get(symbol, self.other) for symbol in given[:LONGEST]]
        return [i for i in found if i is not None]

    def first_text(self) -> str:
        """Code or prose, if all of its characters are known; else the known symbols in a row."""
        for text in (CODE, PROSE):
            if self.is_text and set(text) <= set(self.known):
                return text
        few = self.known[:40]
        return ("" if self.is_text else " ").join([*few] * max(1, 24 // max(len(few), 1)))
