"""States of recurrent layers and cells: a Tensor, or a `State` with several; what is accepted as one, and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..backend import Backend
from ..tensor import Tensor
from .checks import as_input


class State(tuple):
    """The state of a cell that has several, such as an LSTM's (h, c): a tuple of Tensors with names.

    parts  the Tensors; of a Sequential the state of each recurrent layer
    names  what they are called: those in `states` of the cell

    A plain tuple or list is accepted wherever a State is; this one has the methods that a Tensor, the state of a GRU,
    has too.

    >>> output, state = nn.LSTM(3, 8)(np.ones((5, 4, 3)))
    >>> h, c = state
    >>> state.c is c
    True
    >>> state = state.detach()     # carried on to the next sequence, whose backward ends here
    >>> state
    State(h=(1, 4, 8) float32, c=(1, 4, 8) float32)
    """

    _fields: tuple[str, ...]

    def __new__(cls, parts: Iterable[Any], names: tuple[str, ...] = ()) -> State:
        state = tuple.__new__(cls, parts)
        state._fields = names
        return state

    def __getattr__(self, name: str) -> Any:
        names = vars(self).get("_fields", ())
        if name in names:
            return self[names.index(name)]
        raise AttributeError(f"a State of {', '.join(names)} has no attribute {name!r}")

    def _make(self, parts: Iterable[Any]) -> State:
        """A State with other parts and these names."""
        return State(parts, self._fields)

    def _each(self, function: Callable[[Any], Any]) -> State:
        return self._make([function(part) for part in self])

    def detach(self) -> State:
        """The same values as constants, at which backward ends: for truncated backpropagation through time."""
        return self._each(lambda part: part.detach())

    def numpy(self) -> State:
        """NumPy copies of the values."""
        return self._each(lambda part: part.numpy())

    def to(self, device: str | Backend) -> State:
        """The State on another backend (see `Tensor.to`)."""
        return self._each(lambda part: part.to(device))

    def __repr__(self) -> str:
        parts = [f"{part.shape} {part.dtype}" if hasattr(part, "shape") else repr(part) for part in self]
        names = [f"{name}=" for name in self._fields] or [""] * len(self)
        return f"State({', '.join(map(str.__add__, names, parts))})"


def joined(parts: Iterable[Any], names: tuple[str, ...]) -> Any:
    """A state of these parts: the Tensor itself if it has one name."""
    if len(names) == 1:
        (part,) = parts
        return part
    return State(parts, names)


def state_parts(layer: str, names: tuple[str, ...], state: Any, weight: Tensor) -> tuple[Tensor, ...]:
    """The Tensors of a state: one if it has one name, else a tuple or list of one for each name. Or TypeError.

    NumPy arrays become Tensors of the dtype and on the device of a weight.
    """
    parts = state if len(names) > 1 else (state,)
    is_laid_out = isinstance(parts, (tuple, list)) and len(parts) == len(names)
    if is_laid_out and {*map(type, parts)} == {Tensor} and {part.dtype for part in parts} == {weight.dtype}:
        return tuple(parts)  # as in every step of a loop
    if is_laid_out and all(hasattr(part, "shape") for part in parts):
        return tuple([as_input(layer, part, weight, f"state {name}") for name, part in zip(names, parts)])
    expected = f"the tuple ({', '.join(names)})" if len(names) > 1 else "a tensor"
    inside = f" of {', '.join(type(part).__name__ for part in state)}" if isinstance(state, (tuple, list)) else ""
    raise TypeError(f"state: {layer} needs {expected}, got {type(state).__name__}{inside} (None: its initial state)")


def check_state_part(name: str, part: Tensor, shape: tuple[int, ...], layout: str, cause: str) -> None:
    """Raise ValueError unless a Tensor of a state has that shape: it is never broadcast."""
    if part.shape != shape:
        raise ValueError(f"state {name}: expected {layout} = {shape}, got {tuple(part.shape)} ({cause})")


def structure_of(tree: Any) -> Any:
    """The containers of a tree in JSON: None, [""] for a leaf, a dictionary, or a list with its kind and its items.

    The kinds are "tuple", "list" and, of a State, "state" with the names of its parts.
    """
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {name: structure_of(part) for name, part in tree.items()}
    if isinstance(tree, State):
        return [f"state {','.join(tree._fields)}", *map(structure_of, tree)]
    if isinstance(tree, (tuple, list)):
        return ["tuple" if isinstance(tree, tuple) else "list", *map(structure_of, tree)]
    return [""]


def restored(structure: Any, parts: list[Tensor]) -> Any:
    """The tree of this structure; takes its leaves from the front of `parts`."""
    if structure is None:
        return None
    if isinstance(structure, dict):
        return {name: restored(part, parts) for name, part in structure.items()}
    kind, *inner = structure
    if kind == "":
        return parts.pop(0)
    items = [restored(part, parts) for part in inner]
    if kind in ("tuple", "list"):
        return tuple(items) if kind == "tuple" else items
    if not str(kind).startswith("state "):
        raise ValueError(f"carried_structure: expected the structure of a state, got {structure!r:.100}")
    return State(items, tuple(filter(None, kind.removeprefix("state ").split(","))))
