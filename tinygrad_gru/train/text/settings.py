"""Settings of a training run on text."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

from ...scan.modes import is_word
from ...version import RenamedAttribute
from ..precision import PRECISIONS
from .model import CELLS

#: Settings that may change when a run is resumed: a checkpoint's content does not depend on them; whether the text is
#: the same is checked by its hash, and other characters than before extend the run.
CHANGEABLE = frozenset({"text", "precision", "compiled", "characters"})

#: The ranges of the integers. More layers would take hours to build before memory ran out, more characters are not
#: counted exactly by a float, and the random numbers take no larger seeds.
_RANGES = {
    "embedding": (1, 2**31 - 1),
    "hidden": (1, 2**31 - 1),
    "layers": (1, 1000),
    "batch": (1, 2**31 - 1),
    "window": (1, 2**31 - 1),
    "characters": (1, 2**53),
    "seed": (0, 2**63 - 1),
    "patience": (0, 2**53),
    "evaluations": (1, 2**31 - 1),
    "shards": (0, 2**16),
}


_MAX_LR = 3.4e38  # of float32, the dtype of the weights


@dataclass(frozen=True)
class TextSettings:
    """The settings that determine a run; the defaults are those of `tinygrad-gru train`.

    text         a text to learn (see `data.encoded_text`), or None for the standard library's source
    cell         "gru", "lstm" or "rnn"
    embedding    width of the character embedding
    hidden       width of the recurrent state
    layers       recurrent layers
    dropout      probability of dropping a hidden unit
    batch        streams of text per batch
    window       characters of each stream per step: the length of truncated backpropagation through time
    characters   total number of characters to train on; a shorter text is repeated
    precision    "float32"; or "float16" or "bfloat16", in which the model then runs while its weights stay float32
    compiled     how recurrences run: "yes", "no" for eager mode, or a word of `compiling`, as "numpy", "llvm", "llvm:2"
    lr           the peak learning rate: linear warm-up over the first twentieth of the steps, then linear decay to 0
    seed         of the initial weights, of shuffling the text, and of dropout
    patience     number of evaluations without a better one before training stops; None: no early stopping
    evaluations  on held-out text, after equal numbers of steps, besides the one before the first step
    shards       micro-shards of a batch, a power of two, which one process or several ranks compute with the same
                 results (see `parallel.init`); None: the batch as a whole; 0: a part for each rank, by
                 `exact=False`

    >>> train.TextSettings(batch=32, window=64, characters=1_000_000).steps
    488
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
    evaluations: int = 10
    shards: int | None = None

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"cell: unknown cell {self.cell!r}, expected one of {', '.join(CELLS)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.compiled not in ("yes", "no") and not is_word(self.compiled):
            raise ValueError(
                f"compiled: expected yes, no, numpy, llvm, or llvm:2 for two threads, got {self.compiled!r}"
            )
        for name, (low, high) in _RANGES.items():
            value: int = getattr(self, name)
            if value is None and name in ("patience", "shards"):
                continue
            if not isinstance(value, Integral) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}, got {_shown(value)}")
        if self.shards and (self.shards & (self.shards - 1) or self.shards > self.batch):
            raise ValueError(
                f"shards: expected a power of two, at most the batch of {self.batch} streams, got {self.shards}"
            )
        if not isinstance(self.dropout, Real) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected a probability in [0, 1), got {self.dropout!r}")
        if not isinstance(self.lr, Real) or not 0 < self.lr <= _MAX_LR:
            raise ValueError(f"lr must be a positive number within the range of float32, got {self.lr!r}")

    reading = RenamedAttribute("compile_mode")

    @property
    def compile_mode(self) -> bool | str | None:
        """The argument of `compiling`; None leaves the mode as it is."""
        return {"yes": None, "no": False}.get(self.compiled, self.compiled)

    @property
    def characters_per_step(self) -> int:
        """Those of a window of all streams."""
        return self.batch * self.window

    @property
    def steps(self) -> int:
        """The number of training steps: windows of all streams that fit into the characters, at least one."""
        return max(1, self.characters // self.characters_per_step)


def _shown(value: object) -> str:
    """A value for an error message: without hundreds of digits."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"a number of about {int(value.bit_length() * 0.30103)} digits"
    return repr(value)
