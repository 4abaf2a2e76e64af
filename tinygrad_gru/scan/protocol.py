"""Step protocol: `step(carry, x) -> carry` or `(carry, y)`, where carry, xs and ys are trees, as JAX's pytrees.

A tree is a Tensor, or tuples, lists, dictionaries, named tuples and dataclasses of trees, with None where there is
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from types import MethodType
from typing import Any

from ..backend import copy_of
from ..closures import cell_contents, definition_line, is_library
from ..contexts import recording
from ..tensor import Tensor
from ..trees import flatten, leaves, leaves_like, map_leaves, mismatch, with_leaves

_TREES = "a tuple, list or dictionary of them"
_TREE = f"a Tensor or {_TREES}"


def split_output(output: Any, carry: Any) -> tuple[Any, Any]:
    """The output of a step as (carry, y). Of a carry alone, y is its first leaf.

    An output with the structure of the carry is a carry; so is the first of a pair, the second of which is y. The two
    exclude each other. Whatever is neither is an error, which `check_carry_type` explains.
    """
    if isinstance(output, Tensor) and isinstance(carry, Tensor):
        return output, output
    if (parts := leaves_like(carry, output)) is not None:
        return with_leaves(carry, parts), parts[0] if parts else None
    if not isinstance(output, tuple) or len(output) != 2:
        if isinstance(carry, Tensor) and isinstance(output, tuple):
            raise ValueError(
                f"scan: step must return carry or (carry, y), got a tuple of {len(output)} (a tuple of y?)"
            )
        return output, None
    new, y = output
    if (parts := leaves_like(carry, new)) is not None:
        return with_leaves(carry, parts), y
    is_pair = not isinstance(carry, tuple) or (isinstance(new, tuple) and leaves_like(carry[:1], (new,)) is None)
    return output if is_pair else (output, None)


def scan_length(xs: Any, length: int | None) -> int:
    """The number of steps T, from xs and `length`, which must agree."""
    lengths = {x.shape[0] for x in flatten(xs)}
    if length is not None:
        if not isinstance(length, Integral):
            raise TypeError(f"scan: length must be a number of steps, got {length!r}")
        lengths.add(int(length))
        if length < 0:
            raise ValueError(f"scan: length must not be negative, got {length}")
    if not lengths:
        raise ValueError("scan: the number of steps is unknown; give xs or length")
    if len(lengths) > 1:
        found = [(path, x.shape[0]) for path, x in leaves(xs, "xs")] + [("length", length)] * (length is not None)
        got = ", ".join(f"{steps} ({path})" for path, steps in found)
        raise ValueError(f"scan: xs and length must agree on the number of steps, got {got}")
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
    """Raise TypeError unless it is a tree of Tensors."""
    if isinstance(carry, Tensor):  # the common case, at every call
        return
    if not all(isinstance(part, Tensor) for part in flatten(carry)):
        path, part = next((path, part) for path, part in leaves(carry, "carry") if not isinstance(part, Tensor))
        raise TypeError(f"scan: carry must be {_TREE}, got {_found(path, part, 'carry')}")
    if carry is None:
        raise TypeError(f"scan: carry must be {_TREE}, got None (of a step without a carry, write ())")


def checked_xs(xs: Any) -> Any:
    """The xs, arrays among them as constants. Raises TypeError unless it is a tree of Tensors with an axis of time.

    Arrays that backward may read are copied: nobody logs what is written into them until then.
    """
    if isinstance(xs, Tensor) and xs.shape:
        return xs
    xs = map_leaves(partial(constant, copies=recording.get()), xs)
    for path, part in leaves(xs, "xs"):
        if not isinstance(part, Tensor):
            raise TypeError(f"scan: xs must be a Tensor (T, …), {_TREES}, or None, got {_found(path, part, 'xs')}")
        if not part.shape:
            raise TypeError(f"scan: xs must have a first axis of time, (T, …); {path} is a Tensor without axes")
    return xs


def constant(x: Any, copies: bool = False) -> Any:
    """An array, or a copy of it, as a constant Tensor; anything else as it is."""
    if isinstance(x, Tensor) or not hasattr(x, "dtype"):
        return x
    return Tensor.from_node(copy_of(x) if copies else x, None)


def y_leaves(ys: Sequence[Any]) -> list[list[Any]]:
    """The leaves of the y of every step. Raises TypeError unless they stack: Tensors in trees like the first."""
    for path, part in leaves(ys[0], "y"):
        if not hasattr(part, "dtype"):
            raise TypeError(f"scan: the y of a step must be {_TREE}, or None, got {_found(path, part, 'y')}")
    found = []
    for y in ys:
        if (parts := leaves_like(ys[0], y)) is None:
            path, before, after = mismatch(ys[0], y, "y") or ("y", ys[0], y)
            got = f"{_described(before)} and {_described(after)} as {path}"
            raise TypeError(f"scan: the y of all steps must have one structure, got {got}")
        found.append(parts)
    return found


def check_carry_type(old: Any, new: Any, t: int, step: Callable) -> None:
    """Raise ValueError unless step t returned a carry with the structure, shapes and dtypes of the one it was given."""
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        same = old.shape == new.shape and old.dtype == new.dtype
    else:
        parts = leaves_like(old, new)
        same = parts is not None and list(map(_type_of, flatten(old))) == list(map(_type_of, parts))
    if not same:
        raise ValueError(
            f"scan: the carry must keep its structure, shapes and dtypes; step {t} was given {_described(old)} and "
            f"returned {_described(new)} ({_cause(old, new)}); the step is {definition_line(users_function(step))}"
        )


def _cause(old: Any, new: Any) -> str:
    """The likely cause of a carry of another type, and what to write."""
    if new is None:
        return "is a `return` missing?"
    if found := mismatch(old, new, "carry"):
        path, before, after = found
        return f"{path}: expected {_described(before)}, got {_described(after)}; {_advice(before, after)}"
    parts = zip(leaves(old, "carry"), leaves_like(old, new) or ())
    path, part, got = next((path, a, b) for (path, a), b in parts if _type_of(a) != _type_of(b))
    where = "" if path == "carry" else f"{path}: "
    if not isinstance(got, Tensor):
        return f"{where}return a Tensor, for gradients flow through Tensors alone"
    if got.shape != part.shape:
        return f"{where}a state without the batch axis, or broadcast?"
    return f"{where}an x of another dtype? `.astype({str(part.dtype)!r})` converts it"


def _advice(before: Any, after: Any) -> str:
    """What to return, of two trees that have different containers, or one."""
    if before is None:
        return "a part that comes later begins as zeros"
    if isinstance(before, Tensor):
        return "a step returns carry or the tuple (carry, y)" if isinstance(after, list) else "return the Tensor itself"
    if type(after) in (list, tuple) and not isinstance(before, type(after)):
        return f"return a {'list' if isinstance(before, list) else _kind(before)}, not a {_kind(after)}"
    return f"all {len(flatten(before))} parts of it are returned, and one that does not change is returned as it is"


def _type_of(part: Any) -> Any:
    return (part.shape, part.dtype) if isinstance(part, Tensor) else type(part)


def _described(tree: Any) -> str:
    """The shapes and dtypes of the Tensors of a tree, in its containers."""
    if isinstance(tree, Tensor):
        return f"{tuple(tree.shape)} {tree.dtype}"
    if isinstance(tree, Mapping):
        return f"{{{', '.join(f'{key!r}: {_described(part)}' for key, part in tree.items())}}}"
    if isinstance(tree, (list, tuple)):
        text = ", ".join(map(_described, tree))
        return f"[{text}]" if isinstance(tree, list) else f"({text})"
    return "None" if tree is None else _kind(tree)


def _kind(thing: Any) -> str:
    return type(thing).__name__


def _found(path: str, part: Any, name: str) -> str:
    """A leaf that is no Tensor, and where it is in the argument of that name."""
    return _kind(part) if path == name else f"{_kind(part)} as {path}"
