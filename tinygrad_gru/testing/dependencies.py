"""Which ops an op calls: if one of them is wrong, so may it be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from ..backend import is_floating
from ..contexts import enable_grad, setting
from ..hints import did_you_mean
from ..inspector import Inspector
from ..tape import inspector
from ..tensor import Tensor
from ..transforms import grad
from ..trees import leaves
from .contract import values_of
from .op_specs import OP_SPECS, function_of


class _Calls(Inspector):
    """The inspector that notes the names of the ops that run, those that formulas and rules call included."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def run(self, op: Any, inputs: tuple, settings: dict[str, Any]) -> Any:
        self.names.add(op.__name__)
        return super().run(op, inputs, settings)


def ops_called(name: str) -> set[str]:
    """The names of the ops that the op of that name calls in its formula and its rules, in its first spec.

    >>> sorted(testing.ops_called("gelu"))
    ['add', 'clip', ...'sigmoid', ...]
    """
    calls = _Calls()
    if name in OP_SPECS:
        case = OP_SPECS[name][0]
        values = values_of(case.shapes, case.domain, np.random.default_rng(0))
        inputs = [Tensor(v, requires_grad=is_floating(v.dtype)) for v in values]
        # A broken op may raise anything; what it had called by then counts.
        with suppress(Exception), setting(inspector, calls), enable_grad():
            outputs = [y for _, y in leaves(function_of(name, case)(*inputs, **case.settings), "output")]
            if differentiable := [y for y in outputs if y.requires_grad]:
                ones = [np.ones(y.shape) for y in differentiable]
                with_gradient = [x for x in inputs if x.requires_grad]
                grad(differentiable, with_gradient, ones, create_graph=True, allow_unused=True)
    return calls.names - {name}


def with_causes(failed: Mapping[str, str]) -> list[str]:
    """A line for each op that failed, from the messages by name: causes first, and what calls them by its cause.

    >>> for line in testing.with_causes({"gelu": "off by a factor of 2", "sigmoid": "off by a factor of 2"}):
    ...     print(line)
    sigmoid...
    gelu: probably because sigmoid...
    """
    causes = {name: sorted(ops_called(name) & failed.keys()) for name in failed}
    lines = [f"{name}: {message}" for name, message in failed.items() if not causes[name]]
    return lines + [
        f"{name}: probably because {' and '.join(called)}, which it calls, {'fails' if len(called) == 1 else 'fail'}"
        for name, called in causes.items()
        if called
    ]


def check_names(names: Iterable[str]) -> None:
    """Raise ValueError for a name that is not an op's.

    >>> testing.check_names(["tahn"])
    Traceback (most recent call last):
    ValueError: there is no op 'tahn'...
    """
    for name in names:
        if name not in OP_SPECS:
            raise ValueError(f"there is no op {name!r}{did_you_mean(name, OP_SPECS)}; there are: {', '.join(OP_SPECS)}")
