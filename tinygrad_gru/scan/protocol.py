"""Step protocol: `step(carry, x) -> carry` or `(carry, y)`, and the structures of carry, xs and ys.

A structure is a Tensor, a tuple of Tensors, or None where there is nothing: JAX's pytrees, one level deep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral
from types import MethodType
from typing import Any

from ..closures import cell_contents, definition_line, is_library
from ..tensor import Tensor

#: Of a tuple, which of its parts are not None; of a single Tensor, or of nothing, None.
Structure = tuple[bool, ...] | None


def tree_leaves(tree: Any) -> tuple:
    """The parts of a structure: of a tuple its items, of a Tensor itself, of None nothing."""
    return tree if isinstance(tree, tuple) else () if tree is None else (tree,)


def tree_structure(tree: Any) -> Structure:
    return tuple([part is not None for part in tree]) if isinstance(tree, tuple) else None


def tree_unflatten(structure: Structure, leaves: Sequence[Any]) -> Any:
    """A tree of this structure, of leaves that are not None."""
    if structure is None:
        return leaves[0] if leaves else None
    remaining = iter(leaves)
    return tuple([next(remaining) if present else None for present in structure])


def split_output(output: Any, carry: Any) -> tuple[Any, Any]:
    """The output of a step as (carry, y); where it returned a carry alone, y is its first part."""
    if isinstance(carry, tuple):
        pair = isinstance(output, tuple) and len(output) == 2 and isinstance(output[0], tuple)
        if pair:
            return output  # type: ignore[return-value]
        return output, None if isinstance(output, tuple) and not output else output[0]
    if not isinstance(output, tuple):
        return output, output
    if len(output) != 2:
        raise ValueError(f"scan: step must return carry or (carry, y), got a tuple of {len(output)} (a tuple of y?)")
    return output


def scan_length(xs: Any, length: int | None) -> int:
    """The number of steps T, from xs and `length`, which must agree."""
    lengths = {x.shape[0] for x in tree_leaves(xs)}
    if length is not None:
        if not isinstance(length, Integral):
            raise TypeError(f"scan: length must be a number of steps, got {length!r}")
        lengths.add(int(length))
        if length < 0:
            raise ValueError(f"scan: length must not be negative, got {length}")
    if len(lengths) != 1:
        raise ValueError(
            "scan: the number of steps is unknown; give xs or length" if not lengths
            else f"scan: xs and length must agree on the number of steps, got {sorted(lengths)}"
        )  # fmt: skip
    return lengths.pop()


class StepWrapper:
    """A step of ours that calls a user's; errors and effects are those of the user's."""

    def __init__(self, step: Callable):
        self.step = step


def users_function(step: Any) -> Any:
    """The function that a user wrote, where the step is one of ours that calls it: a cell's `masked_step`."""
    return owner_and_function(step)[1]


def owner_and_function(step: Any) -> tuple[Any, Any]:
    """The object whose method `users_function` is, None if it is no method, and that function."""
    function, owner = step.step if isinstance(step, StepWrapper) else step, None
    while isinstance(function, (partial, MethodType)):
        owner = getattr(function, "__self__", owner)
        function = function.func if isinstance(function, partial) else function.__func__
    if not hasattr(function, "__code__"):
        owner, function = (
            function,
            getattr(type(function), "forward", None) or vars(type(function)).get("__call__", function),
        )
    if is_library(getattr(function, "__module__", None)) and hasattr(function, "__code__"):
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            owner = cell_contents(cell) if name == "self" else owner
        return owner, getattr(type(owner), "step", function)
    return owner, function


def check_step(step: Any, caller: str) -> None:
    """Raise TypeError unless it can be a step; for a cell or a layer the error says how it is used."""
    name = type(step).__name__
    if hasattr(step, "cell_type"):
        raise TypeError(
            f"{caller}: step must be a function step(carry, x), got the layer {name}, which is called: layer(x). The "
            f"step in it is layer.cells[0].step: {caller}(layer.cells[0].step, layer.cells[0].initial_state(batch), x)"
        )
    if hasattr(step, "scan_arguments"):
        raise TypeError(
            f"{caller}: step must be a function step(carry, x), got the cell {name}: "
            f"{caller}(cell.step, cell.initial_state(batch), x)"
        )
    if not callable(step):
        raise TypeError(f"{caller}: step must be a function step(carry, x), got {_described(step)}")


def check_carry(carry: Any) -> None:
    """Raise TypeError unless it is a Tensor or a tuple of Tensors."""
    for part in carry if isinstance(carry, tuple) else (carry,):
        if not isinstance(part, Tensor):
            hint = " (write a tuple)" if isinstance(carry, list) else ""
            raise TypeError(f"scan: carry must be a Tensor or a tuple of Tensors, got {_described(carry)}{hint}")


def check_xs(xs: Any) -> None:
    """Raise TypeError unless it is a Tensor with an axis of time, a tuple of them, or None."""
    for part in tree_leaves(xs):
        if not isinstance(part, Tensor) or not part.shape:
            hint = ": write a tuple of several inputs, or ops.stack(xs) of the steps of one" * isinstance(xs, list)
            got = "a Tensor without axes" if isinstance(part, Tensor) else _described(xs)
            raise TypeError(f"scan: xs must be a Tensor (T, …), a tuple of such Tensors, or None, got {got}{hint}")


def check_y(y: Any) -> None:
    """Raise TypeError unless it can be stacked: a Tensor, a tuple of Tensors, or None."""
    for part in tree_leaves(y):
        if part is not None and not hasattr(part, "dtype"):
            raise TypeError(f"scan: the y of a step must be a Tensor, a tuple of Tensors, or None, got {_described(y)}")


def check_carry_type(old: Any, new: Any, t: int, step: Callable) -> None:
    """Raise ValueError unless step t returned a carry with the parts, shapes and dtypes of the one it was given."""
    same_type = isinstance(old, tuple) == isinstance(new, tuple)
    if not same_type or list(map(_type_of, tree_leaves(old))) != list(map(_type_of, tree_leaves(new))):
        raise ValueError(
            f"scan: the carry must keep its parts, shapes and dtypes; step {t} was given {_described(old)} and "
            f"returned {_described(new)} ({_cause(old, new)}); the step is {definition_line(users_function(step))}"
        )


def _cause(old: Any, new: Any) -> str:
    """The likely cause of a carry of another type, and what to write."""
    if new is None:
        return "is a `return` missing?"
    if isinstance(new, list):
        return "return a tuple, not a list"
    before, after = tree_leaves(old), tree_leaves(new)
    if len(before) != len(after):
        return f"all {len(before)} parts of the carry are returned, and one that does not change is returned as it is"
    i, part, got = next((i, a, b) for i, (a, b) in enumerate(zip(before, after)) if _type_of(a) != _type_of(b))
    where = f"part {i} of the carry: " if isinstance(old, tuple) else ""
    if not isinstance(got, Tensor):
        return f"{where}return a Tensor, for gradients flow through Tensors alone"
    if got.shape != part.shape:
        return f"{where}a state without the batch axis, or broadcast?"
    return f"{where}an x of another dtype? `.astype({str(part.dtype)!r})` converts it"


def _type_of(part: Any) -> Any:
    return (part.shape, part.dtype) if isinstance(part, Tensor) else type(part)


def _described(carry: Any) -> str:
    parts = carry if isinstance(carry, tuple) else (carry,)
    texts = [f"{tuple(c.shape)} {c.dtype}" if isinstance(c, Tensor) else type(c).__name__ for c in parts]
    return f"({', '.join(texts)})" if isinstance(carry, tuple) else texts[0]
