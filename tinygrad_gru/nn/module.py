"""Module: base class of layers and models, with parameters and submodules."""

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
from .checks import convert


def Parameter(data: Any, dtype: Any = None, device: str | Backend | None = None) -> Tensor:  # noqa: N802
    """A trainable tensor: a leaf that requires a gradient."""
    return Tensor(data, requires_grad=True, dtype=dtype, device=device)


class Module:
    """Base class of layers and models: tensors and submodules are attributes, and `forward` computes the output.

    Assigning an attribute registers it: a Tensor, a Module, or a list of them. A leaf tensor that requires a gradient
    is a parameter; one that does not is a buffer, which is saved and moved along. A computed tensor is neither.
    """

    training = True

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        try:
            if inspector.get() is None:
                return self.forward(*inputs, **settings)
            with self.anomaly_scope():
                return self.forward(*inputs, **settings)
        except (IndexError, TypeError, ValueError) as error:
            self._add_path(error)
            raise

    def _add_path(self, error: Exception) -> None:
        """Append to an error's message the path from this module to the submodule that raised it."""
        if len(error.args) != 1 or not isinstance(error.args[0], str):
            return
        origin, message = vars(error).setdefault("raised_in", (self, error.args[0]))
        path = next((name for name, module in self.named_modules() if module is origin), "")
        if path:
            error.args = (f"{message} (in {type(self).__name__}.{path})",)

    def anomaly_scope(self) -> AbstractContextManager:
        """Context manager in which reports of anomaly mode name this module, as they do while it is called."""
        anomaly = inspector.get()
        return nullcontext() if anomaly is None else anomaly.scope(self._path_under(anomaly.modules), self)

    def _path_under(self, running: list[Any]) -> str:
        """This module's path in the innermost running module that contains it, or else its class's name."""
        for outer in reversed(running):
            for name, module in outer.named_modules():
                if module is self:
                    return name
        return type(self).__name__

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        for path, item in _numbered(name, value):
            if isinstance(item, Tensor):
                self._label(path, item)

    def _label(self, name: str, tensor: Tensor) -> None:
        """Name a parameter after its attribute, unless it has a name."""
        if tensor.requires_grad and tensor.is_leaf and tensor.name is None:
            tensor.name = f"{type(self).__name__}.{name}"

    # -- submodules and tensors --------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) for the immediate submodules, in order of assignment; those of a list are numbered."""
        return ((name, value) for name, value in self._declared() if isinstance(value, Module))

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Yield (path, module) for this module, whose path is "", and all submodules, each once."""
        return ((name, value) for name, value in self._contents("", set()) if isinstance(value, Module))

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (path, tensor) for all parameters and buffers, each once, under its first path."""
        return ((name, value) for name, value in self._contents("", set()) if isinstance(value, Tensor))

    def _declared(self) -> Iterator[tuple[str, Module | Tensor]]:
        """The immediate submodules, parameters and buffers."""
        for name, value in vars(self).items():
            for path, item in _numbered(name, value):
                if isinstance(item, Module) or (isinstance(item, Tensor) and item.is_leaf):
                    yield path, item

    def _contents(self, path: str, seen: set[int]) -> Iterator[tuple[str, Module | Tensor]]:
        """This module, and all submodules, parameters and buffers, each once."""
        seen.add(id(self))
        yield path, self
        for name, value in self._declared():
            inner = f"{path}.{name}" if path else name
            if id(value) in seen:
                continue
            if isinstance(value, Module):
                yield from value._contents(inner, seen)
            else:
                seen.add(id(value))
                yield inner, value

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (path, tensor) for all parameters."""
        return ((name, tensor) for name, tensor in self.named_tensors() if tensor.requires_grad)

    def parameters(self) -> Iterator[Tensor]:
        """Yield all parameters, as an optimizer takes them. Frozen ones are left out."""
        return (tensor for _, tensor in self.named_parameters())

    def parameter_count(self) -> int:
        """The number of elements of all parameters."""
        return sum(tensor.size for tensor in self.parameters())

    # -- modes, devices, state ---------------------------------------------------------------------------------

    def train(self, on: bool = True) -> Module:
        """Set this module and all submodules to training mode (dropout is active), or to evaluation mode."""
        for _, module in self.named_modules():
            module.training = on
        return self

    def eval(self) -> Module:
        """Set this module and all submodules to evaluation mode."""
        return self.train(False)

    @block
    def evaluating(self) -> Iterator[None]:
        """Context manager: evaluation mode for this module and all submodules; the modes are restored afterwards."""
        modes = [(module, module.training) for _, module in self.named_modules()]
        self.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training

    def freeze(self) -> Module:
        """Set `requires_grad = False` for all parameters, until `unfreeze`."""
        for tensor in list(self.parameters()):
            tensor.requires_grad = False
        return self

    def unfreeze(self) -> Module:
        """Set `requires_grad = True` for all frozen parameters, also those frozen one by one; not for buffers."""
        for _, tensor in self.named_tensors():
            if tensor.is_frozen:
                tensor.requires_grad = True
        return self

    def zero_grad(self) -> None:
        """Reset the gradients of all parameters to None, frozen ones too."""
        for _, tensor in self.named_tensors():
            tensor.zero_grad()

    def to(self, device: str | Backend) -> Module:
        """Move all parameters and buffers to a device (a backend), in place: an optimizer of these Tensors stays
        valid. Returns the module."""
        target = resolve(device)
        for _, tensor in self.named_tensors():
            tensor.relocate(target)
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """All parameters and buffers by path, as copies on the host."""
        return {name: tensor.numpy() for name, tensor in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy the values of a `state_dict` into the parameters and buffers: all of them, or none if there is an error.

        Raises ValueError that lists every entry that is missing, unknown, of another shape, or of a dtype whose values
        cannot be converted: complex to real, fractions to integers, out of range.
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
                values[name] = convert(name, to_host(unwrap(state[name])), str(tensors[name].dtype))
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError(f"state does not fit {type(self).__name__}:\n  " + "\n  ".join(problems))
        for name, tensor in tensors.items():
            tensor.data[...] = backend_of(tensor.data).asarray(values[name])
            tensor.mark_changed()

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Module:
        """A copy of the module with other tensors at these paths; this one is not changed.

        It makes the module a function of its parameters, as `torch.func.functional_call` does, for `gradcheck` and for
        computed parameters.
        """
        named = dict(self.named_tensors())
        unknown = sorted(set(tensors) - set(named))
        if unknown:
            raise ValueError(f"{type(self).__name__} has no tensors {', '.join(unknown)}; it has {', '.join(named)}")
        return substitute(self, {id(named[name]): tensor for name, tensor in tensors.items()})

    # -- repr --------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """The settings that `repr` shows, such as "3, 4" (`extra_repr` in PyTorch)."""
        return ""

    def __repr__(self) -> str:
        trainable, total = self.parameter_count(), sum(t.size for _, t in self.named_tensors())
        frozen = "" if trainable == total else f", {total - trainable:,} frozen"
        head = f"{type(self).__name__}({self.describe()})  {trainable:,} parameters{frozen}"
        lines = [f"{name}: {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        return "\n  ".join([head, *lines])


def _numbered(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The items of an attribute, `name.0`, `name.1`, …, if it is a list or tuple; otherwise the attribute itself."""
    if isinstance(value, (list, tuple)):
        yield from ((f"{name}.{i}", item) for i, item in enumerate(value))
    else:
        yield name, value


def substitute(value: Any, substitutes: dict[int, Any]) -> Any:
    """The substitute of a value, by its identity; a module is copied, once, and so becomes a substitute."""
    if id(value) in substitutes:
        return substitutes[id(value)]
    if isinstance(value, Module):
        clone = substitutes[id(value)] = copy(value)
        for name, part in vars(value).items():
            vars(clone)[name] = map_leaves(lambda leaf: substitute(leaf, substitutes), part)
        return clone
    return value
