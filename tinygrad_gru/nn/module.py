"""Module: parameters, the modules inside, and what one does to all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..backend import Backend, backend_of, move, resolve, to_host
from ..tape import inspector
from ..tensor import Tensor


def Parameter(data: Any, dtype: Any = None, device: str | Backend | None = None) -> Tensor:  # noqa: N802
    """A tensor to be learned: a leaf that requires a gradient."""
    return Tensor(data, requires_grad=True, dtype=dtype, device=device)


class Module:
    """A part of a model: tensors and modules as attributes, and a `forward`.

    Attributes are the declaration: a Tensor, a Module, or a list of Modules. A tensor that requires a gradient is a
    parameter; one that does not is a constant that is saved and moved along.
    """

    training = True

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        anomaly = inspector.get()
        if anomaly is None:
            return self.forward(*inputs, **settings)
        with anomaly.inside(self._path_under(anomaly.owners), self):
            return self.forward(*inputs, **settings)

    def _path_under(self, owners: list[Any]) -> str:
        """This module's name in the innermost module that runs and contains it; its class's name in none."""
        for owner in reversed(owners):
            for name, module in owner.named_modules():
                if module is self:
                    return name
        return type(self).__name__

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if isinstance(value, Tensor) and value.requires_grad and value.is_leaf and value.name is None:
            value.name = f"{type(self).__name__}.{name}"  # how the tape calls it

    # -- what is inside ----------------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules right inside, by name, in the order of declaration; those of a list are numbered."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple)):
                yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, Module))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module (named "") and all inside, at any depth, each once."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors, each once, under the first of its names, in the order of declaration."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor) and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors that require a gradient: what an optimiser is given."""
        return ((name, tensor) for name, tensor in self.named_tensors() if tensor.requires_grad)

    def parameters(self) -> Iterator[Tensor]:
        return (tensor for _, tensor in self.named_parameters())

    def parameter_count(self) -> int:
        """How many numbers are learned."""
        return sum(tensor.size for tensor in self.parameters())

    # -- what one does to all of it ----------------------------------------------------------------------------

    def train(self, on: bool = True) -> Module:
        """Switch dropout and the like on, here and in all modules inside."""
        for _, module in self.named_modules():
            module.training = on
        return self

    def eval(self) -> Module:
        """Switch dropout and the like off."""
        return self.train(False)

    def freeze(self) -> Module:
        """Learn nothing here and inside until `unfreeze`."""
        return self._set_requires_grad(False)

    def unfreeze(self) -> Module:
        """Learn all floating-point tensors here and inside."""
        return self._set_requires_grad(True)

    def _set_requires_grad(self, on: bool) -> Module:
        for _, tensor in self.named_tensors():
            tensor.requires_grad = on
        return self

    def zero_grad(self) -> None:
        for tensor in self.parameters():
            tensor.zero_grad()

    def to(self, device: str | Backend) -> Module:
        """Move all tensors to a backend; they stay the same tensors, so that an optimiser keeps its hold on them."""
        target = resolve(device)
        for _, tensor in self.named_tensors():
            gradient = tensor.grad
            tensor.data = move(tensor.data, target)
            if gradient is not None:
                tensor.grad = Tensor(gradient.data, device=target)
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of the values of all tensors, on the host."""
        return {name: tensor.numpy() for name, tensor in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the values of `state_dict`. Nothing is changed unless all of them fit.

        Raises ValueError that lists every entry that is missing, unknown or of another shape.
        """
        tensors = dict(self.named_tensors())
        problems = [f"missing: {name} {tuple(t.shape)}" for name, t in tensors.items() if name not in state]
        problems += [f"unknown: {name} {np.shape(value)}" for name, value in state.items() if name not in tensors]
        problems += [
            f"{name}: expected shape {tuple(tensors[name].shape)}, got {np.shape(value)}"
            for name, value in state.items()
            if name in tensors and np.shape(value) != tuple(tensors[name].shape)
        ]
        if problems:
            raise ValueError(f"state does not fit {type(self).__name__}:\n  " + "\n  ".join(problems))
        for name, tensor in tensors.items():
            value = to_host(getattr(state[name], "_data", state[name]))
            tensor.data[...] = backend_of(tensor.data).asarray(value.astype(str(tensor.dtype)))
            tensor.mark_changed()

    # -- how it prints -----------------------------------------------------------------------------------------

    def describe(self) -> str:
        """The settings that are worth printing, such as "3, 4"."""
        return ""

    def __repr__(self) -> str:
        learned, total = self.parameter_count(), sum(t.size for _, t in self.named_tensors())
        frozen = "" if learned == total else f", {total - learned:,} frozen"
        head = f"{type(self).__name__}({self.describe()})  {learned:,} parameters{frozen}"
        lines = [f"{name}: {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        return "\n  ".join([head, *lines])


class Sequential(Module):
    """Modules one after the other: y = fₙ(… f₂(f₁(x)))"""

    def __init__(self, *layers: Any):
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:  # a layer may be any function
            x = layer(x)
        return x
