"""Module: parameters, the modules inside, and what one does to all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any

import numpy as np

from ..backend import Backend, backend_of, resolve, to_host
from ..contexts import block
from ..ops.op import unwrap
from ..tape import inspector
from ..tensor import Tensor
from ..trees import map_leaves
from .checks import converted


def Parameter(data: Any, dtype: Any = None, device: str | Backend | None = None) -> Tensor:  # noqa: N802
    """A tensor to be learned: a leaf that requires a gradient."""
    return Tensor(data, requires_grad=True, dtype=dtype, device=device)


class Module:
    """A part of a model: tensors and modules as attributes, and a `forward`.

    Attributes are the declaration: a Tensor, a Module, or a list of them. A tensor that requires a gradient is a
    parameter; one that does not is a constant that is saved and moved along. One that was computed is neither.
    """

    training = True

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        try:
            with self.in_reports():
                return self.forward(*inputs, **settings)
        except (IndexError, TypeError, ValueError) as error:
            self._say_where(error)
            raise

    def _say_where(self, error: Exception) -> None:
        """End the message of an error from inside with the path of the module in which it arose, as seen from here."""
        if len(error.args) != 1 or not isinstance(error.args[0], str):
            return
        origin, message = vars(error).setdefault("arose_in", (self, error.args[0]))
        path = next((name for name, module in self.named_modules() if module is origin), "")
        if path:
            error.args = (f"{message} (in {type(self).__name__}.{path})",)

    def in_reports(self) -> AbstractContextManager:
        """In this block the reports of anomaly mode name this module, as they do while it is called."""
        anomaly = inspector.get()
        return nullcontext() if anomaly is None else anomaly.scope(self._path_under(anomaly.modules), self)

    def _path_under(self, owners: list[Any]) -> str:
        """This module's name in the innermost module that runs and contains it; its class's name in none."""
        for owner in reversed(owners):
            for name, module in owner.named_modules():
                if module is self:
                    return name
        return type(self).__name__

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        for path, item in _numbered(name, value):
            if isinstance(item, Tensor):
                self._label(path, item)

    def _label(self, name: str, tensor: Tensor) -> None:
        """Tell the tape what to call a parameter, if nobody has."""
        if tensor.requires_grad and tensor.is_leaf and tensor.name is None:
            tensor.name = f"{type(self).__name__}.{name}"

    # -- what is inside ----------------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules right inside, by name, in the order of declaration; those of a list are numbered."""
        return ((name, value) for name, value in self._declared() if isinstance(value, Module))

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module (named "") and all inside, at any depth, each once."""
        return ((name, value) for name, value in self._contents("", set()) if isinstance(value, Module))

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors, each once, under the first of its names, in the order of declaration."""
        return ((name, value) for name, value in self._contents("", set()) if isinstance(value, Tensor))

    def _declared(self) -> Iterator[tuple[str, Module | Tensor]]:
        """The modules and tensors right inside."""
        for name, value in vars(self).items():
            for path, item in _numbered(name, value):
                if isinstance(item, Module) or (isinstance(item, Tensor) and item.is_leaf):
                    yield path, item

    def _contents(self, path: str, seen: set[int]) -> Iterator[tuple[str, Module | Tensor]]:
        """This module and all that is inside, at any depth, each once."""
        seen.add(id(self))
        yield path, self
        for name, value in self._declared():
            place = f"{path}.{name}" if path else name
            if id(value) in seen:
                continue
            if isinstance(value, Module):
                yield from value._contents(place, seen)
            else:
                seen.add(id(value))
                yield place, value

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

    @block
    def evaluating(self) -> Iterator[None]:
        """In this block this and all inside is in evaluation, and afterwards each again in the mode in which it was."""
        modes = [(module, module.training) for _, module in self.named_modules()]
        self.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training

    def freeze(self) -> Module:
        """Learn nothing here and inside until `unfreeze`."""
        for tensor in list(self.parameters()):
            tensor.requires_grad = False
        return self

    def unfreeze(self) -> Module:
        """Learn again what was frozen here and inside, by `freeze` or by `requires_grad = False`; constants stay so."""
        for _, tensor in self.named_tensors():
            if tensor.is_frozen:
                tensor.requires_grad = True
        return self

    def zero_grad(self) -> None:
        """Forget the gradients, those of frozen parameters too."""
        for _, tensor in self.named_tensors():
            tensor.zero_grad()

    def to(self, device: str | Backend) -> Module:
        """Move all tensors to a backend; they stay the same tensors, so that an optimiser keeps its hold on them."""
        target = resolve(device)
        for _, tensor in self.named_tensors():
            tensor.relocate(target)
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of the values of all tensors, on the host."""
        return {name: tensor.numpy() for name, tensor in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the values of `state_dict`. Nothing is changed unless all of them fit.

        Raises ValueError that lists every entry that is missing, unknown, of another shape, or of a dtype whose numbers
        cannot be converted: complex ones to real ones, fractions to integers, what is out of range.
        """
        tensors = dict(self.named_tensors())
        problems = [f"missing: {name} {tuple(t.shape)}" for name, t in tensors.items() if name not in state]
        problems += [f"unknown: {name} {np.shape(value)}" for name, value in state.items() if name not in tensors]
        problems += [
            f"{name}: expected shape {tuple(tensors[name].shape)}, got {np.shape(value)}"
            for name, value in state.items()
            if name in tensors and np.shape(value) != tuple(tensors[name].shape)
        ]
        values = {}
        for name in filter(state.__contains__, tensors):
            try:
                values[name] = converted(name, to_host(unwrap(state[name])), str(tensors[name].dtype))
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError(f"state does not fit {type(self).__name__}:\n  " + "\n  ".join(problems))
        for name, tensor in tensors.items():
            tensor.data[...] = backend_of(tensor.data).asarray(values[name])
            tensor.mark_changed()

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Module:
        """A module like this one that has other tensors in the places of those names; this one stays as it is.

        So a module becomes a function of its parameters: for `gradcheck`, for parameters that were computed.
        """
        own = dict(self.named_tensors())
        unknown = sorted(set(tensors) - set(own))
        if unknown:
            raise ValueError(f"{type(self).__name__} has no tensors {', '.join(unknown)}; it has {', '.join(own)}")
        return _replaced(self, {id(own[name]): tensor for name, tensor in tensors.items()})

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


def _numbered(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """An attribute by its name, or what is in it, if it is a list or tuple, by numbered names."""
    if isinstance(value, (list, tuple)):
        yield from ((f"{name}.{i}", item) for i, item in enumerate(value))
    else:
        yield name, value


def _replaced(value: Any, places: dict[int, Any]) -> Any:
    """What stands in the place of a value: places know what by its identity, and learn of modules that were copied."""
    if id(value) in places:
        return places[id(value)]
    if isinstance(value, Module):
        clone = places[id(value)] = copy(value)
        inside = {name: map_leaves(lambda leaf: _replaced(leaf, places), part) for name, part in vars(value).items()}
        vars(clone).update(inside)
        return clone
    return value


class Sequential(Module):
    """Modules one after the other: y = fₙ(… f₂(f₁(x)))"""

    def __init__(self, *layers: Any):
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:  # a layer may be any function
            x = layer(x)
        return x
