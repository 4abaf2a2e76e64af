"""Trees: nested lists, tuples, named tuples, mappings and dataclasses; leaves are all that is not a container."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The leaves of a tree, each with its path; None is not a leaf."""
    if isinstance(value, (set, frozenset)):
        raise TypeError(f"{name}: a set has no order in which its items could be compared; use a list, tuple or dict")
    items = _items(value)
    if items is None:
        if value is not None:
            yield name, value
        return
    fields_of = getattr(value, "_fields", None) if isinstance(value, tuple) else None
    by_name = fields_of is not None or is_dataclass(value)
    for key, item in items.items():
        yield from leaves(item, f"{name}.{fields_of[key] if fields_of else key}" if by_name else f"{name}[{key!r}]")


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """The tree with `function` applied to its leaves; containers in which nothing changes stay the same objects."""
    items = _items(value)
    if items is None:
        return function(value)
    mapped = {key: map_leaves(function, item) for key, item in items.items()}
    return value if all(mapped[key] is item for key, item in items.items()) else _with_items(value, mapped)


def _items(value: Any) -> dict[Any, Any] | None:
    """The items of a container by key, index or name; None for a leaf."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return None


def _with_items(value: Any, items: dict[Any, Any]) -> Any:
    """A container of the same type with other items."""
    if isinstance(value, tuple):
        return value._make(items.values()) if hasattr(value, "_make") else type(value)(items.values())
    if isinstance(value, Mapping) and not isinstance(value, MutableMapping):
        return type(value)(items)  # type: ignore[call-arg]
    clone = copy(value)
    for key, item in items.items():
        if isinstance(clone, (list, MutableMapping)):
            clone[key] = item
        else:
            object.__setattr__(clone, key, item)  # a dataclass may be frozen
    return clone
