"""Vocabularies: characters to ids and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

_UNKNOWN = -1


class CharacterVocabulary:
    """A fixed list of characters; the id of a character is its index in the list.

    `symbols` holds each character once. `other`, one of the symbols, stands for every character that is not listed;
    without it such a character is an error.

    >>> vocabulary = data.CharacterVocabulary.from_text("banana")
    >>> vocabulary.symbols, vocabulary.encode("nab").tolist(), vocabulary.decode([1, 0])
    ('abn', [2, 0, 1], 'ba')
    """

    def __init__(self, symbols: str, other: str | None = None) -> None:
        if not symbols:
            raise ValueError("symbols is empty: a vocabulary needs at least one character (was the text empty?)")
        if len(set(symbols)) != len(symbols):
            repeated = sorted(symbol for symbol, count in Counter(symbols).items() if count > 1)[:20]
            raise ValueError(f"symbols must hold each character once, but repeats {repeated}")
        if other is not None and (len(other) != 1 or other not in symbols):
            raise ValueError(f"other must be None or one of the symbols, got {other!r}")
        self.symbols = symbols
        self.other = other
        self._code_points = code_points(symbols)
        # One entry per code point up to the largest symbol, and a last one that all larger code points share.
        unlisted = _UNKNOWN if other is None else symbols.index(other)
        self._id_of = np.full(int(self._code_points.max()) + 2, unlisted, dtype=np.int32)
        self._id_of[self._code_points] = np.arange(len(symbols), dtype=np.int32)

    @classmethod
    def from_text(cls, text: str) -> CharacterVocabulary:
        """The characters that occur in `text`, in the order of their code points."""
        return cls("".join(sorted(set(text))))

    @classmethod
    def code(cls) -> CharacterVocabulary:
        """97 symbols for source code: newline, printable ASCII (32 to 126), and U+FFFD for all other characters."""
        printable = "".join(map(chr, range(32, 127)))
        return cls("\n" + printable + "\ufffd", other="\ufffd")

    def __len__(self) -> int:
        return len(self.symbols)

    def __repr__(self) -> str:
        return f"CharacterVocabulary({len(self)} symbols, other={self.other!r})"

    def __eq__(self, value: object) -> bool:
        if not isinstance(value, CharacterVocabulary):
            return NotImplemented
        return (self.symbols, self.other) == (value.symbols, value.other)

    def __hash__(self) -> int:
        return hash((self.symbols, self.other))

    def encode(self, text: str) -> np.ndarray:
        """The ids of the characters of `text`: int32, shape (len(text),).

        Raises ValueError, which names the first unlisted character, if there is no `other` to stand for it.
        """
        points = code_points(text)
        ids = self._id_of[np.minimum(points, len(self._id_of) - 1)]
        if self.other is None and (ids == _UNKNOWN).any():
            position = int(np.argmax(ids == _UNKNOWN))
            raise ValueError(
                f"text has the character {text[position]!r} at position {position}, which is not among the "
                f"{len(self)} symbols of this vocabulary (was the vocabulary made from another text?)"
            )
        return ids

    def decode(self, ids: Any) -> str:
        """The text of `ids` (integers of any shape, in row-major order)."""
        ids = np.asarray(ids).reshape(-1)
        if ids.size == 0:
            return ""
        if ids.dtype.kind not in "iu":
            raise TypeError(f"ids must be integers, got {ids.dtype} (logits need an argmax or a sample first)")
        if ids.min() < 0 or ids.max() >= len(self):
            wrong = ids[(ids < 0) | (ids >= len(self))][0]
            raise ValueError(f"ids must be from 0 to {len(self) - 1}, got {wrong}")
        return self._code_points[ids].astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def description(self) -> dict[str, Any]:
        """The argument of `from_description` for an equal vocabulary, JSON-serializable."""
        return {"symbols": self.symbols, "other": self.other}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> CharacterVocabulary:
        try:
            return cls(description["symbols"], description["other"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"expected a description with 'symbols' and 'other', got {description!r:.80}") from error


def code_points(text: str) -> np.ndarray:
    """The code points of the characters of a text: uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint32)
