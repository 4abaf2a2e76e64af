"""Nested containers (trees): lists, tuples, named tuples, mappings and dataclasses, and what is in them (leaves)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """All in `value` that is no container, each with the path that leads to it; None is nothing."""
    if isinstance(value, (set, frozenset)):
        raise TypeError(f"{name}: a set has no order in which its parts could be compared; use a list, tuple or dict")
    parts = _parts(value)
    if parts is None:
        if value is not None:
            yield name, value
        return
    fields_of = getattr(value, "_fields", None) if isinstance(value, tuple) else None
    by_name = fields_of is not None or is_dataclass(value)
    for key, part in parts.items():
        yield from leaves(part, f"{name}.{fields_of[key] if fields_of else key}" if by_name else f"{name}[{key!r}]")


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """The same containers with `function` applied to all in them that is no container; those in which nothing changes
    are left as they are."""
    parts = _parts(value)
    if parts is None:
        return function(value)
    mapped = {key: map_leaves(function, part) for key, part in parts.items()}
    return value if all(mapped[key] is part for key, part in parts.items()) else _with_parts(value, mapped)


def _parts(value: Any) -> dict[Any, Any] | None:
    """What is in a container, by key, place or name; None for what is no container."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return None


def _with_parts(value: Any, parts: dict[Any, Any]) -> Any:
    """A container like this one with other parts."""
    if isinstance(value, tuple):
        return value._make(parts.values()) if hasattr(value, "_make") else type(value)(parts.values())
    if isinstance(value, Mapping) and not isinstance(value, MutableMapping):
        return type(value)(parts)  # type: ignore[call-arg]
    clone = copy(value)
    for key, part in parts.items():
        if isinstance(clone, (list, MutableMapping)):
            clone[key] = part
        else:
            object.__setattr__(clone, key, part)  # a dataclass may be frozen
    return clone
