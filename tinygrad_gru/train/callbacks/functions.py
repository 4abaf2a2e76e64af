"""A callback of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..hints import check_event
from .base import EVENTS, Callback, unknown_event


class LambdaCallback(Callback):
    """A callback whose methods are the functions that are given by the names of events (see `Callback`).

    A function takes what the method does: the loop, and in on_step_end, on_evaluation_end and on_epoch_end the record.

    >>> losses = []
    >>> callback = train.LambdaCallback(on_step_end=lambda loop, record: losses.append(record["loss"]))
    >>> _ = train.fit(nn.Linear(2, 1), ops.mse, (np.ones((8, 2)), np.ones((8, 1))), steps=3, callbacks=[callback],
    ...               progress=False)
    >>> len(losses)
    3
    """

    def __init__(self, **functions: Callable[..., Any]) -> None:
        for name, function in functions.items():
            if name not in EVENTS:
                raise unknown_event("LambdaCallback", name)
            if not callable(function):
                raise TypeError(f"{name}: expected a function, got {function!r}")
            check_event("LambdaCallback", name, function)
            setattr(self, name, function)
