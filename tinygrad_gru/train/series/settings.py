"""Settings of a training run on the rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

from ...nn import GRU, LSTM, MGU, RNN

CELLS = {"gru": GRU, "lstm": LSTM, "rnn": RNN, "mgu": MGU}
FILLS = ("forward", "interpolate")
TASKS = ("forecast", "classify")

_LEAST = {"window": 1, "horizon": 1, "hidden": 1, "layers": 1, "batch": 1, "epochs": 1, "patience": 0, "seed": 0}


@dataclass(frozen=True)
class SeriesSettings:
    """The settings that determine a run; the defaults are those of `tinygrad-gru fit`.

    target       the column to forecast, or whose class is to be told
    task         "forecast" the next rows of a number, or "classify" the last row of a window; None: as the column is
    window       rows that the network reads
    horizon      rows ahead that it forecasts
    features     columns that it reads; None: all that are numbers, booleans or of few categories, of a forecast the
                 target too
    fill         how missing values are filled, "forward" or "interpolate"; None: they are an error
    cell, hidden, layers, dropout    the recurrent layers: "gru", "lstm", "rnn" or "mgu"
    epochs, batch, lr, patience      passes over the training rows at most; windows per step; learning rate of Adam;
                 epochs without a better loss before training stops
    validation, test    the shares of the rows, in the order of time, that say when to stop, and on which the results
                 are measured; those before them are for training
    seed         of the weights and of shuffling
    shards       micro-shards of a batch, which one process or several ranks compute with the same results (see
                 `parallel.init`); None: the batch as a whole; 0: a part for each rank, by `exact=False`

    >>> train.SeriesSettings("load", window=24, horizon=6).fractions
    (0.7, 0.15, 0.15)
    """

    target: str
    task: str | None = None
    window: int = 48
    horizon: int = 1
    features: tuple[str, ...] | None = None
    fill: str | None = None
    cell: str = "gru"
    hidden: int = 32
    layers: int = 1
    dropout: float = 0.0
    epochs: int = 30
    batch: int = 32
    lr: float = 3e-3
    patience: int = 5
    validation: float = 0.15
    test: float = 0.15
    seed: int = 0
    shards: int | None = None

    def __post_init__(self) -> None:
        for name, known in (("task", (None, *TASKS)), ("fill", (None, *FILLS)), ("cell", tuple(CELLS))):
            if getattr(self, name) not in known:
                expected = ", ".join(str(value) for value in known if value is not None)
                raise ValueError(f"{name}: expected one of {expected}, got {getattr(self, name)!r}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be a whole number, {least} or more, got {value!r}")
        shards = self.shards or 0
        if not isinstance(shards, Integral) or not 0 <= shards <= self.batch or shards & (shards - 1):
            raise ValueError(
                f"shards: expected a power of two, at most the batch of {self.batch} windows, got {self.shards!r}"
            )
        for name in ("validation", "test"):
            if not isinstance(getattr(self, name), Real) or not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be a share between 0 and 1, got {getattr(self, name)!r}")
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} and test {self.test} leave no rows for training")

    @property
    def fractions(self) -> tuple[float, float, float]:
        """The shares of training, validation and test."""
        return 1 - self.validation - self.test, self.validation, self.test
