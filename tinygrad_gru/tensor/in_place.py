"""In-place operators of Tensors, `x += y` and its kind, and `x[index] = y`: what is written, and what is refused.

A leaf is written in its memory, under no_grad alone, and the write is logged. Constants and records are never written
where a record may have saved them: the tensor gets another array.
"""

from __future__ import annotations

from collections.abc import Callable
from opcode import opmap
from sys import _getframe, getrefcount
from types import FrameType
from typing import Any

from .. import ops
from ..backend import copy_of, dtype_name, is_floating
from ..contexts import recording
from ..ops.op import unwrap
from ..tape import TapeError, Variable, name_of
from .operators import Operators


def _in_place(operator: str, op: Callable) -> Any:
    def operate(self: Any, other: Any) -> Any:
        return self._update(operator, op, other)

    return operate


class InPlace:
    """The base class of Tensor that gives it Python's in-place operators."""

    __slots__ = ()

    __iadd__ = _in_place("+", ops.add)
    __isub__ = _in_place("-", ops.subtract)
    __imul__ = _in_place("*", ops.hadamard)
    __itruediv__ = _in_place("/", ops.divide)
    __ifloordiv__ = _in_place("//", ops.floor_divide)
    __imod__ = _in_place("%", ops.remainder)
    __ipow__ = _in_place("**", ops.power)
    __imatmul__ = _in_place("@", ops.matmul)
    __iand__ = _in_place("&", Operators.__and__)
    __ior__ = _in_place("|", Operators.__or__)
    __ixor__ = _in_place("^", Operators.__xor__)

    def _update(self: Any, operator: str, op: Callable, other: Any) -> Any:
        """`x += other`, and so on: this very tensor, under all of its names, has the result from now on.

        A leaf is written in place, under no_grad alone. A constant or a record takes the result's array and its place
        on the tape, so that nothing is written that a record may have saved, and gradients are right.
        """
        written, is_leaf = f"`x {operator}= …`", _is_leaf_in_memory(self.node)
        if is_leaf and recording.get():
            raise TapeError(
                f"{written} would write into a leaf that requires a gradient ({name_of(self.node)} {self.shape}), "
                f"where backward cannot follow: write it in `with no_grad():`, or `x = x {operator} …` for a new tensor"
            )
        if self.node is not None and self.node.op is not None and not recording.get():
            raise TapeError(
                f"{written} under no_grad: this tensor was computed by {self.node!r}, which would not know; write "
                f"`x = x {operator} …`, or detach it first"
            )
        result = op(self, other)
        if result is NotImplemented:
            return result
        if result.shape != self.shape:
            raise ValueError(
                f"{written}: the result has shape {result.shape}, and this tensor {self.shape}; write "
                f"`x = x {operator} …` for a new tensor"
            )
        if result.dtype != self.dtype:
            if not is_floating(self.dtype) and dtype_name(result.dtype) != dtype_name(self.dtype):
                raise TypeError(
                    f"{written}: the result is {dtype_name(result.dtype)}, and this tensor {dtype_name(self.dtype)}; "
                    f"write `x = x {operator} …` for a new tensor"
                )
            result = result.astype(self.dtype)
        if is_leaf:
            self._data[...] = result._data
            self.mark_changed()
        elif self.is_frozen and result.node is not None:
            raise TapeError(f"{written}: a recorded value cannot be written into a frozen parameter: detach it first")
        else:
            self._rebind(result._data)
            self.node = result.node
        return self

    def __setitem__(self: Any, index: Any, value: Any) -> None:
        """Write into a constant (into a copy, as records may have saved the array), or under no_grad into a leaf."""
        if self.node is not None and (self.node.op is not None or recording.get()):
            raise TapeError(
                "a tensor that requires a gradient cannot be written in place: use where or scatter_add, which are "
                "recorded" + ("" if self.node.op is not None else ", or write under no_grad()")
            )
        if isinstance(value, Variable) and value.node is not None and recording.get():
            raise TapeError("a recorded value cannot be written into a tensor: its gradient would be lost (see where)")
        if getrefcount(self) <= _OF_A_TEMPORARY and _is_a_statement(_getframe(1)):
            raise ValueError(
                "written into a tensor that has no name, so that it would be lost: x[i], x.view(…) and x.T give new "
                "tensors, not views of x; write x[i, j] = … for x[i][j] = …"
            )
        if self.node is None:
            self._rebind(copy_of(self._data))
        self._data[tuple(map(unwrap, index)) if isinstance(index, tuple) else unwrap(index)] = unwrap(value)
        if self.node is not None:
            self.mark_changed()


class _Counter:
    """What `getrefcount(self)` is in `__setitem__` of an object that has a name, and of one that has none."""

    def __setitem__(self, counts: list[int], value: Any) -> None:
        counts.append(getrefcount(self))


def _of_a_temporary() -> int:
    """The number of references to an object that only `__setitem__` still holds; 0 where Python does not count so."""
    counts: list[int] = []
    named = _Counter()
    named[counts] = None
    _Counter()[counts] = None
    return counts[1] if counts[1] < counts[0] else 0


_OF_A_TEMPORARY = _of_a_temporary()


def _is_a_statement(caller: FrameType) -> bool:
    """Whether `x[index] = value` calls, rather than `x.__setitem__(index, value)`, which counts differently."""
    return caller.f_lasti >= 0 and caller.f_code.co_code[caller.f_lasti] == opmap["STORE_SUBSCR"]


def _is_leaf_in_memory(node: Any) -> bool:
    """Whether this is a leaf, and not the input of a step that is being traced."""
    return node is not None and node.op is None and node.grad_state.array is not None
