"""Step protocol: `step(carry, x) -> carry` or `(carry, y)`, and the structures of carry, xs and ys.

A structure is a Tensor, a tuple of Tensors, or None where there is nothing: JAX's pytrees, one level deep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    lengths = set(map(len, tree_leaves(xs)))
    if length is not None:
        lengths.add(length)
        if length < 0:
            raise ValueError(f"scan: length must not be negative, got {length}")
    if len(lengths) != 1:
        raise ValueError(
            "scan: the number of steps is unknown; give xs or length" if not lengths
            else f"scan: xs and length must agree on the number of steps, got {sorted(lengths)}"
        )  # fmt: skip
    return lengths.pop()


def check_carry(carry: Any) -> None:
    """Raise TypeError unless it is a Tensor or a tuple of Tensors."""
    for part in carry if isinstance(carry, tuple) else (carry,):
        if not isinstance(part, Tensor):
            raise TypeError(f"scan: carry must be a Tensor or a tuple of Tensors, got {_described(carry)}")


def check_carry_type(old: Any, new: Any, t: int) -> None:
    """Raise ValueError unless step t returned a carry with the parts, shapes and dtypes of the one it was given."""
    same_type = isinstance(old, tuple) == isinstance(new, tuple)
    if not same_type or list(map(_type_of, tree_leaves(old))) != list(map(_type_of, tree_leaves(new))):
        raise ValueError(
            f"scan: the carry must keep its parts, shapes and dtypes; step {t} was given {_described(old)} and "
            f"returned {_described(new)} (a state without the batch axis, or broadcast? an x of another dtype?)"
        )


def _type_of(part: Any) -> Any:
    return (part.shape, part.dtype) if isinstance(part, Tensor) else type(part)


def _described(carry: Any) -> str:
    parts = carry if isinstance(carry, tuple) else (carry,)
    texts = [f"{tuple(c.shape)} {c.dtype}" if isinstance(c, Tensor) else type(c).__name__ for c in parts]
    return f"({', '.join(texts)})" if isinstance(carry, tuple) else texts[0]
