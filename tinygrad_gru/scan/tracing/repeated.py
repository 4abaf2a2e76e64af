"""Repetition: a step whose trace is new is traced once more, and must give the same graph on equal constants.

`effects` finds what changes in the places that it looks at. A step may count, or draw numbers, in others: in a module,
far down in an object, in a library. Then it computes something else each time it is called, and its two traces differ:
in a number, in the values of an array that it makes, or in what is computed. Such a step runs eagerly. Of arrays that a
step makes nobody knows how they were made, so a trace with such constants is new at every call.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import nullcontext, redirect_stdout
from typing import Any
from weakref import ref

import numpy as np

from ...backend import random_state, set_random_state
from .trace import Trace
from .traced_array import Untraceable
from .tracer import trace_forward

#: How many traces are remembered that need not be repeated: as many as there are plans, some times over.
_REMEMBERED = 256


class Repetition:
    """Which traces of which code were repeated, and found to be the same; and with which arrays as constants."""

    def __init__(self) -> None:
        self._found: OrderedDict[Hashable, list[ref]] = OrderedDict()

    def check(self, code: Hashable, trace: Trace, step: Callable, carry: Any, xs: Any) -> None:
        """Raise Untraceable unless the step, traced again, gives the same program on equal constants.

        code  that of the step: what it closes over, and its arguments, are in the trace
        """
        key = (code, trace.key)
        arrays = [array for array in trace.constants if isinstance(array, np.ndarray)]
        known = self._found.get(key)
        if known is not None and all(kept() is array for kept, array in zip(known, arrays)):
            return
        before, alone = random_state(), threading.active_count() == 1
        try:
            with redirect_stdout(io.StringIO()) if alone else nullcontext():  # what a step prints is seen once
                other = Trace.of(trace_forward(step, carry, xs), trace.xs_need_grad)
        finally:
            if random_state() != before:
                set_random_state(before)
        if other.key != trace.key or not all(map(_is_equal, trace.constants, other.constants)):
            raise Untraceable(
                "it computes something else each time it is called: it counts, draws numbers, or reads a clock (it was "
                "called twice to see that, and where it counts is not known, so nothing there is undone)",
                "a value that the next step needs is a part of the carry; `randn` and `rand` of tinygrad_gru draw at "
                "every step, or numbers drawn before are an x",
            )
        self._found[key] = list(map(ref, arrays))
        if len(self._found) > _REMEMBERED:
            self._found.popitem(last=False)


def _is_equal(one: Any, other: Any) -> bool:
    """Whether two constants are one array, or hold the same bits. Of arrays on a GPU nothing is read."""
    return one is other or not isinstance(one, np.ndarray) or one.tobytes() == other.tobytes()
