"""Loops: where a value lies in memory, and the text of what is done to each of its elements.

The text is Python and C++ alike; the functions in it, such as `select`, are defined for each target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...backend import is_half
from ...backend.duck_array import COMPARISONS
from ..ir import Value
from ..tracing.traced_array import Untraceable

AXES = ("i", "j", "k", "l", "m", "n")

_OPERATORS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "less": "<", "less_equal": "<=", "greater": ">",
    "greater_equal": ">=", "equal": "==", "not_equal": "!=",
}  # fmt: skip
#: What can be computed of whole numbers and of truth values.
_ON_KIND = {
    "i": {"add", "subtract", "multiply", "negative", "maximum", "minimum", "abs", "where", "astype"},
    "b": {"where", "astype", "logical_not"},
}


@dataclass(frozen=True)
class Memory:
    """Where a value lies: behind a pointer to arrays like `whole`, in that of a moment, seen through a view.

    moment  the variable that counts the arrays, such as the step t; empty if there is only one
    whole, view  show how the value lies in its array; their numbers are never read
    """

    pointer: str
    moment: str
    whole: np.ndarray
    view: np.ndarray

    @property
    def offset(self) -> int:
        return (address(self.view) - address(self.whole)) // self.whole.itemsize

    @property
    def start(self) -> str:
        """The place of its first element."""
        terms = [f"{self.moment} * {self.whole.size}"] if self.moment else []
        return " + ".join([*terms, f"{self.offset}"] if self.offset or not terms else terms)

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(stride // self.whole.itemsize for stride in self.view.strides)

    def element(self, axes: Sequence[str]) -> str:
        """The element at these indices; where there is only one along an axis, that."""
        terms = [self.start] if self.start != "0" else []
        for axis, n, stride in zip(axes[len(axes) - self.view.ndim :], self.view.shape, self.strides):
            if n > 1 and stride:
                terms.append(axis if stride == 1 else f"{axis} * {stride}")
        return f"{self.pointer}[{' + '.join(terms) or '0'}]"

    def read(self, axes: Sequence[str]) -> str:
        return self.element(axes) + (" != 0" if self.whole.dtype == np.bool_ else "")

    def seen(self, view: np.ndarray) -> Memory:
        if not np.may_share_memory(view, self.whole):
            raise Untraceable("it looks at an array in an order in which it does not lie in memory")
        return replace(self, view=view)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def nest(shape: Sequence[int], lines: Sequence[str]) -> list[str]:
    """The lines, done at every index of that shape."""
    result = list(lines)
    for axis, n in reversed(list(zip(AXES, shape))):
        result = [f"for {axis} in range({n}):", *(f"    {line}" for line in result)]
    return result


def number(value: Any, dtype: Any) -> str:
    return f"{np.dtype(dtype).name}({value!r})"


def in_register(dtype: Any) -> np.dtype:
    """The dtype in which a number is computed with: half precision is only stored."""
    dtype = np.dtype(dtype)
    return np.dtype(np.float32) if is_half(dtype) else dtype


def expression(value: Value, names: Sequence[str]) -> str:
    """What makes an element of the value from those of its operands, which have these names; a number needs none."""
    op, dtype = value.op, in_register(value.dtype)
    if op not in COMPARISONS and op not in _ON_KIND.get(dtype.kind, (op,)):
        raise Untraceable(f"it computes {op} in {dtype.name}")
    common = dtype
    if op in COMPARISONS:
        common = in_register(np.result_type(*(i["value"] if i.op == "scalar" else i.dtype for i in value.inputs)))

    def operand(position: int, wanted: np.dtype = common) -> str:
        i = value.inputs[position]
        if i.op == "scalar":
            return number(i["value"], wanted)
        return names[position] if in_register(i.dtype) == wanted else f"{wanted.name}({names[position]})"

    if op in _OPERATORS:
        text = f"{operand(0)} {_OPERATORS[op]} {operand(1)}"
        if op == "power" and value.inputs[1].op == "scalar" and value.inputs[1]["value"] == 2:
            text = f"{operand(0)} * {operand(0)}"
    elif op == "where":
        text = f"select({operand(0, np.dtype(bool))}, {operand(1)}, {operand(2)})"
    elif op == "astype":
        text = operand(0)
    elif op in ("negative", "logical_not"):
        text = f"-{operand(0)}" if op == "negative" else f"not {operand(0)}"
    else:
        name = f"{op}_{dtype.name}" if op in ("exp", "tanh") else op
        text = f"{name}({', '.join(operand(i) for i in range(len(names)))})"
    return f"{dtype.name}({text})" if dtype.kind == "i" else text
