"""Trees: nested lists, tuples, named tuples, mappings and dataclasses; leaves are all that is not a container.

None is no leaf: it stands where there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping
from copy import copy
from dataclasses import fields, is_dataclass
from functools import lru_cache
from itertools import islice
from operator import is_
from typing import Any


def _kind(cls: type) -> type | None:
    """What kind of container a class is: tuple, list, Mapping or the dataclass that it is; None if its objects are
    leaves."""
    kinds = (kind for kind in (tuple, list, Mapping) if issubclass(cls, kind))
    return next(kinds, cls if is_dataclass(cls) else None)


kind_of: Callable[[type], type | None] = lru_cache(maxsize=256)(_kind)


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The leaves of a tree, each with its path."""
    if isinstance(value, (set, frozenset)):
        raise TypeError(f"{name}: a set has no order in which its items could be compared; use a list, tuple or dict")
    if kind_of(type(value)) is not None:
        for key, item in _items(value).items():
            yield from leaves(item, _path(name, value, key))
    elif value is not None:
        yield name, value


def flatten(tree: Any) -> list[Any]:
    """The leaves of a tree, in the order of `leaves`."""
    kind = kind_of(type(tree))
    if kind is None:
        return [] if tree is None else [tree]
    found: list[Any] = []
    for item in tree if kind is tuple or kind is list else _items(tree).values():
        if kind_of(type(item)) is not None:
            found += flatten(item)
        elif item is not None:
            found.append(item)
    return found


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """The tree with `function` applied to its leaves; containers in which nothing changes stay the same objects."""
    kind = kind_of(type(value))
    if kind is None:
        return None if value is None else function(value)
    items = value if kind is tuple or kind is list else _items(value).values()
    mapped = [map_leaves(function, item) for item in items]
    return value if all(map(is_, mapped, items)) else _with_items(value, mapped)


def with_leaves(tree: Any, new: Iterable[Any]) -> Any:
    """The tree with other leaves, in the order of `leaves`."""
    remaining, kind = iter(new), kind_of(type(tree))
    if kind is tuple:  # such as (h, c), at every call of a layer
        types = list(map(type, tree))
        if type(None) not in types and not any(map(kind_of, types)):
            return _with_items(tree, list(islice(remaining, len(tree))))
    if kind is not None:
        return map_leaves(lambda _: next(remaining), tree)
    return None if tree is None else next(remaining)


def structure(tree: Any) -> Hashable:
    """What a tree is but for its leaves: equal for two of the same containers with the same keys in the same order."""
    kind = kind_of(type(tree))
    if kind is None:
        return tree is None
    if kind is tuple or kind is list:
        return type(tree), getattr(tree, "_fields", None), tuple(map(structure, tree))
    items = _items(tree)
    return type(tree), tuple(items), tuple(map(structure, items.values()))


def leaves_like(tree: Any, other: Any) -> list[Any] | None:
    """The leaves of `other` in the order of those of `tree`; None if it has another structure, see `mismatch`.

    Of the same structure are trees with None and leaves at the same places. Keys may come in another order, and a plain
    tuple is as good as a named one.
    """
    kind = kind_of(type(tree))
    if kind is None:
        same = kind_of(type(other)) is None and (tree is None) == (other is None)
        return None if not same else [] if tree is None else [other]
    if not _have_same_keys(tree, other):
        return None
    pairs = zip(tree, other) if kind is tuple or kind is list else _pairs(tree, other)
    found: list[Any] = []
    for item, of_other in pairs:
        if type(item) is type(of_other) and kind_of(type(item)) is None and item is not None:
            found.append(of_other)
        elif (parts := leaves_like(item, of_other)) is not None:
            found += parts
        else:
            return None
    return found


def mismatch(tree: Any, other: Any, name: str) -> tuple[str, Any, Any] | None:
    """The first place at which `other` has another structure: its path, and what the two have there."""
    if kind_of(type(tree)) is None or not _have_same_keys(tree, other):
        return None if leaves_like(tree, other) is not None else (name, tree, other)
    paths = (_path(name, tree, key) for key in _items(tree))
    places = (mismatch(item, of_other, path) for path, (item, of_other) in zip(paths, _pairs(tree, other)))
    return next(filter(None, places), None)


def _have_same_keys(tree: Any, other: Any) -> bool:
    """Whether two trees are containers of one kind with the same keys, in any order."""
    kind = kind_of(type(tree))
    if kind is not kind_of(type(other)):
        return False
    return len(tree) == len(other) if kind is tuple or kind is list else _items(tree).keys() == _items(other).keys()


def _pairs(tree: Any, other: Any) -> list[tuple[Any, Any]]:
    """The items of two containers with the same keys."""
    items = _items(other)
    return [(item, items[key]) for key, item in _items(tree).items()]


def _path(name: str, container: Any, key: Any) -> str:
    """The path of an item: name[0], name['key'] or name.field."""
    if isinstance(container, tuple):
        names = getattr(container, "_fields", ())
        return f"{name}.{names[key]}" if names else f"{name}[{key}]"
    return f"{name}[{key!r}]" if isinstance(container, (list, Mapping)) else f"{name}.{key}"


def _items(container: Any) -> dict[Any, Any]:
    """The items of a container by key, index or name."""
    kind = kind_of(type(container))
    if kind is tuple or kind is list:
        return dict(enumerate(container))
    if kind is Mapping:
        return dict(container)
    return {field.name: getattr(container, field.name) for field in fields(container)}


def _with_items(value: Any, new: list[Any]) -> Any:
    """A container of the same type with other items, in the same order."""
    if type(value) is tuple:
        return tuple(new)
    if isinstance(value, tuple):
        return value._make(new) if hasattr(value, "_make") else type(value)(new)
    items = dict(zip(_items(value), new))
    if isinstance(value, Mapping) and not isinstance(value, MutableMapping):
        return type(value)(items)  # type: ignore[call-arg]
    clone = copy(value)
    for key, item in items.items():
        if isinstance(clone, (list, MutableMapping)):
            clone[key] = item
        else:
            object.__setattr__(clone, key, item)  # a dataclass may be frozen
    return clone
