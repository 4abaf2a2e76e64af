"""Callback: base class of what a training loop calls at its events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...hints import did_you_mean
from ..hints import CALLBACK, check_event


class Callback:
    """Base class of callbacks, objects whose methods a training loop calls at its events; here they do nothing.

    Each is called with the loop, which has `model`, `optimizer`, `steps` (completed ones), `epoch` (from 0), `history`
    (all records so far), and `request_stop(reason)`, which ends training after the current step. A record is a
    dictionary of scalars by name: a step's has "step", "epoch", "loss", "gradient_norm", "lr"; an evaluation's "step",
    "epoch", "validation_loss" and the metrics, as "validation_accuracy".

    What later steps depend on goes into `state_dict`: checkpoints save it, and a resumed run loads it. A method that is
    called like an event, and is none, is a TypeError, for nothing would ever call it.

    In a run of several ranks each has its own callbacks, and calls them: `on_all_ranks = False` leaves those that write
    files to rank 0.

    >>> class Patience(train.Callback):
    ...     def on_evaluation_end(self, loop, record):
    ...         if record["validation_loss"] < 0.1:
    ...             loop.request_stop("good enough")
    """

    on_all_ranks = True

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for name, value in vars(cls).items():
            if name.startswith("on_"):
                if not hasattr(Callback, name):
                    raise unknown_event(cls.__name__, name)
                check_event(cls.__name__, name, value)

    def on_train_begin(self, loop: Any) -> None:
        """Before the first step, of a resumed run too."""

    def on_gradients(self, loop: Any) -> None:
        """After backward, before clipping and the optimizer's step: every parameter has its gradient."""

    def on_step_end(self, loop: Any, record: Mapping[str, Any]) -> None:
        """After each step of the optimizer and the schedule."""

    def on_evaluation_end(self, loop: Any, record: Mapping[str, Any]) -> None:
        """After each evaluation on the validation data."""

    def on_epoch_end(self, loop: Any, record: Mapping[str, Any]) -> None:
        """After each epoch; the record has the means of its steps, and those of the evaluation if there was one."""

    def on_train_end(self, loop: Any) -> None:
        """After the last step, also if training was interrupted or failed."""

    def state_dict(self) -> dict[str, Any]:
        """What later steps depend on: a tree of host arrays and JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""


#: The names of the events.
EVENTS = tuple(name for name, value in vars(Callback).items() if name.startswith("on_") and callable(value))


def unknown_event(owner: str, name: str) -> TypeError:
    """The error for an event that does not exist."""
    advice = f"; here it is {CALLBACK[name]}" if name in CALLBACK else did_you_mean(name, EVENTS)
    return TypeError(f"{owner}: there is no event {name!r}{advice}; there are {', '.join(EVENTS)}")
