"""Lists and dicts of modules that are modules themselves."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, MutableSequence, ValuesView
from typing import Any

from ...tensor import Tensor
from ..module import Module


def _checked(owner: str, key: Any, module: Any) -> Module:
    if not isinstance(module, Module):
        raise TypeError(f"{owner}: expected a module at {key!r}, got {type(module).__name__} (a list keeps anything)")
    return module


class ModuleList(Module, MutableSequence):
    """List of modules that is a module: `append`, `extend`, indices and slices are those of a list

    The modules are named "0", "1", …. As an attribute, a plain list of modules is registered just so.

    >>> layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])
    >>> layers.append(nn.Linear(3, 1))
    >>> [name for name, _ in layers.named_parameters()]
    ['0.W', '0.b', '1.W', '1.b', '2.W', '2.b']
    """

    def __init__(self, modules: Iterable[Module] = ()):
        self._list: list[Module] = []
        self.extend(modules)

    def _declared(self) -> Iterator[tuple[str, Module | Tensor]]:
        for name, value in super()._declared():
            yield name.removeprefix("_list."), value

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        """NotImplementedError: a list has no order of calls; that of a Sequential is its own."""
        raise NotImplementedError("ModuleList has no forward: nn.Sequential(*layers) calls them one after another")

    def insert(self, index: int, module: Module) -> None:
        self._list.insert(index, _checked("ModuleList", index, module))

    def __getitem__(self, index: Any) -> Any:
        return ModuleList(self._list[index]) if isinstance(index, slice) else self._list[index]

    def __setitem__(self, index: Any, module: Any) -> None:
        if isinstance(index, slice):
            self._list[index] = [_checked("ModuleList", index, one) for one in module]
        else:
            self._list[index] = _checked("ModuleList", index, module)

    def __delitem__(self, index: Any) -> None:
        del self._list[index]

    def __len__(self) -> int:
        return len(self._list)


class ModuleDict(Module):
    """Dict of modules that is a module: keys, `items()`, `in`, `update` are those of a dict

    The modules are named by their keys. As an attribute, a plain dict of modules is registered just so.

    >>> heads = nn.ModuleDict({"policy": nn.Linear(3, 2), "value": nn.Linear(3, 1)})
    >>> [name for name, _ in heads.named_parameters()]
    ['policy.W', 'policy.b', 'value.W', 'value.b']
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()):
        self._dict: dict[str, Module] = {}
        self.update(modules)

    def _declared(self) -> Iterator[tuple[str, Module | Tensor]]:
        for name, value in super()._declared():
            yield name.removeprefix("_dict."), value

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Set the modules of a dict, or of pairs (key, module)."""
        for key, module in dict(modules).items():
            self[key] = module

    def pop(self, key: str) -> Module:
        """Remove a module and return it."""
        return self._dict.pop(key)

    def keys(self) -> KeysView[str]:
        """The keys."""
        return self._dict.keys()

    def values(self) -> ValuesView[Module]:
        """The modules."""
        return self._dict.values()

    def items(self) -> ItemsView[str, Module]:
        """Pairs (key, module)."""
        return self._dict.items()

    def __getitem__(self, key: str) -> Module:
        return self._dict[key]

    def __setitem__(self, key: str, module: Module) -> None:
        if not isinstance(key, str) or not key or "." in key:
            raise ValueError(f"ModuleDict: expected a key without a dot, which is part of a name, got {key!r}")
        self._dict[key] = _checked("ModuleDict", key, module)

    def __delitem__(self, key: str) -> None:
        del self._dict[key]

    def __contains__(self, key: object) -> bool:
        return key in self._dict

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict)

    def __len__(self) -> int:
        return len(self._dict)
