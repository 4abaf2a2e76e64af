"""What a run on text is to be."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from numbers import Integral, Real

from .model import CELLS
from .precision import PRECISIONS

#: Settings that a run may change when it is resumed: what a checkpoint holds is the same with any of their values, or,
#: where the text is now, is looked at apart from the settings.
CHANGEABLE = frozenset({"text", "precision", "compiled"})

#: Whole numbers and what they may be. More layers than these would be made for hours before memory ran out, more
#: characters are not counted exactly by a float, and seeds end where the random numbers end.
_WHOLE = {
    "embedding": (1, 2**31 - 1),
    "hidden": (1, 2**31 - 1),
    "layers": (1, 1000),
    "batch": (1, 2**31 - 1),
    "window": (1, 2**31 - 1),
    "characters": (1, 2**53),
    "seed": (0, 2**63 - 1),
    "patience": (0, 2**53),
}


_HIGHEST_RATE = 3.4e38  # there weights are float32


@dataclass(frozen=True)
class TextSettings:
    """All that decides the outcome of a run; its defaults are the main job's.

    text         a text file to learn, or None for the standard library's source
    cell         "gru", "lstm" or "rnn"
    embedding    numbers that stand for a character
    hidden       width of the recurrent state
    layers       recurrent layers
    dropout      probability of dropping a hidden unit
    batch        lanes of text that are read side by side
    window       characters of each lane that one step learns from
    characters   how many characters to train on in all; a text that is shorter is read again
    precision    "float32"; or "float16" or "bfloat16", in which the model then works while its weights stay float32
    compiled     how recurrences run while training: "yes", "no" for the plain loop, "numba" or "numba:2" if installed
    lr           the highest learning rate: it rises for the first twentieth of the steps, then falls to 0
    seed         of the first weights, of the order of the text, and of dropout
    patience     evaluations without a better one before training stops; None never stops early
    """

    text: str | None = None
    cell: str = "gru"
    embedding: int = 64
    hidden: int = 192
    layers: int = 1
    dropout: float = 0.0
    batch: int = 32
    window: int = 64
    characters: int = 3_200_000
    precision: str = "float32"
    compiled: str = "yes"
    lr: float = 6e-3
    seed: int = 0
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"cell: unknown cell {self.cell!r}, expected one of {', '.join(CELLS)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if not re.fullmatch("yes|no|numba(:[1-9][0-9]*)?", self.compiled):
            raise ValueError(f"compiled: expected yes, no, numba, or numba:2 for two threads, got {self.compiled!r}")
        for name, (least, most) in _WHOLE.items():
            value: int = getattr(self, name)
            if value is None and name == "patience":
                continue
            if not isinstance(value, Integral) or isinstance(value, bool) or not least <= value <= most:
                raise ValueError(f"{name} must be a whole number from {least} to {most}, got {_shown(value)}")
        if not isinstance(self.dropout, Real) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a probability below 1, got {self.dropout!r}")
        if not isinstance(self.lr, Real) or not 0 < self.lr <= _HIGHEST_RATE:
            raise ValueError(f"lr must be a positive number that float32 has, got {self.lr!r}")

    @property
    def reading(self) -> bool | str | None:
        """What `compiling` is told; None for nothing."""
        return {"yes": None, "no": False}.get(self.compiled, self.compiled)

    @property
    def steps(self) -> int:
        """How many windows of all lanes fit into the characters; at least one."""
        return max(1, self.characters // (self.batch * self.window))


def _shown(value: object) -> str:
    """A value in a message, which is to be read: not with 400 digits."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"a number of about {int(value.bit_length() * 0.30103)} digits"
    return repr(value)


SETTING_NAMES = tuple(field.name for field in fields(TextSettings))
