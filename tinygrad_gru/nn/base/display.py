"""The lines of a module's `repr`."""

from __future__ import annotations

from typing import Any

from ...tensor import Tensor


def repr_lines(module: Any, path: str = "", first: dict[int, str] | None = None) -> list[str]:
    """The lines of a module's `repr`. `first` has the paths of the modules and tensors above, by identity."""
    first = {} if first is None else first
    first[id(module)] = path or "the whole module"
    lines, ties = [], []
    for name, value in module._shown():
        inner = f"{path}.{name}" if path else name
        if isinstance(value, Tensor):
            known = first.setdefault(id(value), inner)
            ties += [f", {name} tied to {known}"] if known != inner else []
        elif isinstance(value, str):
            lines.append(f"{name}: {value}")
        elif id(value) in first:
            lines.append(f"{name}: {first[id(value)]} again")
        else:
            is_default = type(value).__repr__.__qualname__ == "Module.__repr__"
            shown = repr_lines(value, inner, first) if is_default else repr(value).split("\n")
            lines += [f"{name}: {shown[0]}", *(f"  {line}" for line in shown[1:])]
    trainable, total = module.parameter_count(), sum(t.size for _, t in module.named_tensors())
    frozen = "" if trainable == total else f", {total - trainable:,} frozen"
    return [f"{type(module).__name__}({module.describe()})  {trainable:,} parameters{frozen}{''.join(ties)}", *lines]
