"""Nested containers: lists, tuples, named tuples, mappings and dataclasses, walked in one order and by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Everything in `value` that is no container, each with the path that leads to it; None is nothing."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from leaves(part, f"{name}[{key!r}]")
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for field, part in zip(value._fields, value):
            yield from leaves(part, f"{name}.{field}")
    elif isinstance(value, (tuple, list)):
        for i, part in enumerate(value):
            yield from leaves(part, f"{name}[{i}]")
    elif is_dataclass(value) and not isinstance(value, type):
        for entry in fields(value):
            yield from leaves(getattr(value, entry.name), f"{name}.{entry.name}")
    elif isinstance(value, (set, frozenset)):
        raise TypeError(f"{name}: a set has no order in which its parts could be compared; use a list, tuple or dict")
    elif value is not None:
        yield name, value


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """The same containers with `function` applied to everything in them that is no container."""
    if isinstance(value, Mapping):
        return type(value)({key: map_leaves(function, part) for key, part in value.items()})  # type: ignore[call-arg]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_leaves(function, part) for part in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_leaves(function, part) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{entry.name: map_leaves(function, getattr(value, entry.name)) for entry in fields(value)}
        )
    return value if value is None else function(value)
