"""Module: base class of layers and models, with parameters and submodules."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any

import numpy as np

from ..backend import Backend, astype, backend_of, is_floating, resolve
from ..contexts import block
from ..tape import inspector
from ..tensor import Tensor
from ..trees import map_leaves
from .base.display import repr_lines
from .base.names import ForeignNames
from .base.replacement import check_replacement, is_parameter
from .base.state import LoadedKeys, fitting_values
from .base.summary import module_html


def Parameter(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = True) -> Tensor:  # noqa: N802
    """A trainable tensor: a leaf that requires a gradient.

    data           an array, a nested list or a scalar; copied
    dtype          by default that of the array; that of lists and scalars is float32
    device         by default that of the array
    requires_grad  False: it is frozen, until this is set

    >>> nn.Parameter(np.zeros(2), dtype="float32")
    Tensor([0., 0.], dtype=float32, requires_grad=True)
    """
    return Tensor(data, requires_grad=True, dtype=dtype, device=device).requires_grad_(requires_grad)


class Module(ForeignNames):
    """Base class of layers and models: tensors and submodules are attributes, and `forward` computes the output.

    Assigning an attribute registers it: a Tensor, a Module, or a list, tuple or dict of them, however nested; those in
    a list are `name.0`, `name.1`, …, those in a dict `name.key`. A leaf tensor that requires a gradient is a parameter;
    one that does not is a buffer, which is saved and moved along. A computed tensor is neither. `super().__init__()` is
    not needed.

    Two attributes may be one tensor or one module (tied weights): it is listed, saved, moved and updated once, under
    the first of its names. A parameter is replaced by a parameter or by None, a submodule by a module or by None, and
    by anything else after `del`.

    >>> class Scale(nn.Module):
    ...     def __init__(self, features):
    ...         self.factor = nn.Parameter(np.ones(features), dtype="float32")
    ...
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> model = nn.Sequential(nn.Linear(3, 2), Scale(2))
    >>> [name for name, _ in model.named_parameters()]
    ['layers.0.W', 'layers.0.b', 'layers.1.factor']
    >>> model.parameter_count()
    10
    """

    training = True
    #: For Sequential: whether `forward` returns (output, state), and which of its keywords it takes (None: it may ask).
    returns_state = False
    sequence_keywords: tuple[str, ...] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, value in vars(cls).items():
            if isinstance(value, Module) or (isinstance(value, Tensor) and is_parameter(value)):
                raise TypeError(
                    f"{cls.__name__}.{name}: in the body of a class it would not be registered, and belong to all "
                    f"objects of the class: assign self.{name} in __init__"
                )

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        """Compute the output. A subclass defines it; `module(…)` calls it."""
        hint = "; it has a method call, which is Keras's name for it" if hasattr(type(self), "call") else ""
        raise NotImplementedError(f"{type(self).__name__} has no forward{hint}")

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
        self._reword(error)
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
        replaced = vars(self).get(name)
        if replaced is not None and isinstance(replaced, (Module, Tensor)):
            check_replacement(f"{type(self).__name__}.{name}", replaced, value)
        object.__setattr__(self, name, value)
        for path, item in _registered(name, value):
            if isinstance(item, Tensor):
                self._label(path, item)

    def _label(self, name: str, tensor: Tensor) -> None:
        """Name a parameter after its attribute, unless it has a name."""
        if tensor.node is not None and tensor.node.op is None and tensor.name is None:
            tensor.name = f"{type(self).__name__}.{name}"

    # -- submodules and tensors --------------------------------------------------------------------------------

    def children(self) -> Iterator[Module]:
        """Yield the immediate submodules, in order of assignment."""
        return (module for _, module in self.named_children())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) for the immediate submodules; those in a list are numbered."""
        return ((name, value) for name, value in self._declared() if isinstance(value, Module))

    def modules(self) -> Iterator[Module]:
        """Yield this module and all submodules, each once."""
        return (module for _, module in self.named_modules())

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Yield (path, module) for this module, whose path is "", and all submodules, each once."""
        return ((name, value) for name, value in self._contents("", set()) if isinstance(value, Module))

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (path, tensor) for all parameters and buffers, each once, under its first path.

        Raises ValueError if a path would name two of them.
        """
        paths: set[str] = set()
        for path, value in self._contents("", set()):
            if isinstance(value, Tensor):
                if path in paths:
                    raise ValueError(
                        f"{type(self).__name__}: two tensors would be saved as {path!r} (keys such as 1 and '1' in one "
                        "dict, or a key with a dot?); rename one of them"
                    )
                paths.add(path)
                yield path, value

    def _declared(self) -> Iterator[tuple[str, Module | Tensor]]:
        """The immediate submodules, parameters and buffers."""
        for name, value in vars(self).items():
            for path, item in _registered(name, value):
                if isinstance(item, Module) or item.is_leaf:
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

    def _all_paths(self, path: str = "", within: tuple[int, ...] = ()) -> Iterator[tuple[str, Tensor]]:
        """All paths of all parameters and buffers: several for a tensor that is tied, or in a shared module."""
        for name, value in self._declared():
            inner = f"{path}.{name}" if path else name
            if isinstance(value, Tensor):
                yield inner, value
            elif value is not self and id(value) not in within:
                yield from value._all_paths(inner, (*within, id(self)))

    def tied_paths(self) -> dict[str, str]:
        """The further paths of tensors that have several, each with the first path, under which it is saved.

        >>> model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        >>> model.layers[1].W = model.layers[0].W
        >>> model.tied_paths()
        {'layers.1.W': 'layers.0.W'}
        """
        first = {id(tensor): path for path, tensor in self.named_tensors()}
        return {path: first[id(tensor)] for path, tensor in self._all_paths() if path != first[id(tensor)]}

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (path, tensor) for all parameters, frozen ones too.

        >>> [(name, p.shape) for name, p in nn.Linear(3, 2).named_parameters()]
        [('W', (3, 2)), ('b', (2,))]
        """
        return ((name, tensor) for name, tensor in self.named_tensors() if is_parameter(tensor))

    def parameters(self) -> Iterator[Tensor]:
        """Yield all parameters, frozen ones too, as an optimizer takes them."""
        return (tensor for _, tensor in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (path, tensor) for all buffers: leaf tensors that are not parameters, frozen or not."""
        return ((name, tensor) for name, tensor in self.named_tensors() if not is_parameter(tensor))

    def parameter_count(self) -> int:
        """The number of elements of all parameters that are not frozen."""
        return sum(tensor.size for tensor in self.parameters() if tensor.requires_grad)

    # -- modes, devices, state ---------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Set this module and all submodules to training mode (dropout is active), or to evaluation mode."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Set this module and all submodules to evaluation mode."""
        return self.train(False)

    @block
    def evaluating(self) -> Iterator[None]:
        """Context manager: evaluation mode for this module and all submodules; the modes are restored afterwards.

        >>> layer = nn.Dropout(0.5)
        >>> with layer.evaluating():
        ...     layer(Tensor([1.0, 2.0])).tolist()
        [1.0, 2.0]
        """
        modes = [(module, module.training) for _, module in self.named_modules()]
        self.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training

    def freeze(self) -> Module:
        """Set `requires_grad = False` for all parameters, until `unfreeze`. Returns the module.

        >>> nn.Sequential(nn.Linear(3, 2).freeze(), nn.Linear(2, 1)).parameter_count()
        3
        """
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

    def to(self, device: str | Backend | None = None, dtype: Any = None) -> Module:
        """Move all parameters and buffers to a device (a backend), in place: an optimizer of these Tensors stays
        valid. Returns the module. A floating dtype is taken too, alone or after the device: see `astype`."""
        if dtype is not None:
            self.astype(dtype)
        if device is None or is_floating(device):
            return self if device is None else self.astype(device)
        target = resolve(device)
        for _, tensor in self.named_tensors():
            tensor.relocate(target)
        return self

    def astype(self, dtype: Any) -> Module:
        """Convert the floating-point parameters and buffers to another dtype, in place; their gradients are dropped.

        Returns the module. Do it before an optimizer is made, which keeps its state in the former dtype.

        >>> nn.Linear(3, 2).astype("float64").W.dtype
        dtype('float64')
        """
        for _, tensor in self.named_tensors():
            if is_floating(tensor.dtype):
                tensor.zero_grad()
                tensor._rebind(astype(tensor.data, dtype))
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """All parameters and buffers by path, as copies on the host; a tied tensor once, under its first path.

        >>> list(nn.Sequential(nn.Linear(3, 2)).state_dict())
        ['layers.0.W', 'layers.0.b']
        """
        return {name: tensor.numpy() for name, tensor in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadedKeys:
        """Copy the values of a `state_dict` into the parameters and buffers: all of them, or none if there is an error.

        state   arrays of any backend, Tensors, tensors of PyTorch or lists, by path; a tied tensor under any of its
                paths, and under several if they hold the same values
        strict  False copies what fits by name, and returns the rest: `missing_keys, unexpected_keys`

        Raises ValueError that lists every entry that is missing, unknown, of another shape, or of a dtype whose values
        cannot be converted: complex to real, fractions to integers, out of range.

        >>> model = nn.Linear(3, 2)
        >>> model.load_state_dict({"W": np.ones((3, 2))}, strict=False)
        LoadedKeys(missing_keys=['b'], unexpected_keys=[])
        """
        tensors = dict(self.named_tensors())
        values, keys = fitting_values(type(self).__name__, tensors, self.tied_paths(), state, strict)
        for name, value in values.items():
            tensor = tensors[name]
            tensor.data[...] = backend_of(tensor.data).asarray(value)
            tensor.mark_changed()
        return keys

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Module:
        """A copy of the module with other tensors at these paths; this one is not changed.

        It makes the module a function of its parameters, as `torch.func.functional_call` does, for `gradcheck` and for
        computed parameters. A tied tensor is replaced everywhere, by any of its paths.

        >>> layer = nn.Linear(2, 2, bias=False)
        >>> layer.with_tensors({"W": Tensor(np.eye(2), dtype="float32")})([[3.0, 4.0]]).tolist()
        [[3.0, 4.0]]
        """
        named = dict(self.named_tensors())
        if not tensors.keys() <= named.keys():
            named = dict(self._all_paths())
        unknown = sorted(set(tensors) - set(named))
        if unknown:
            raise ValueError(f"{type(self).__name__} has no tensors {', '.join(unknown)}; it has {', '.join(named)}")
        return substitute(self, {id(named[name]): tensor for name, tensor in tensors.items()})

    # -- repr --------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """The settings that `repr` shows, such as "3, 4"."""
        return self.extra_repr()

    def _shown(self) -> Iterator[tuple[str, Any]]:
        """What `repr` shows: submodules, tensors and texts, by name."""
        return self._declared()

    def __repr__(self) -> str:
        return "\n  ".join(repr_lines(self))

    def _repr_html_(self) -> str:
        return module_html(self)


_OTHER_CONTAINERS: Any = (set, frozenset, deque, type({}.values()))


def _registered(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The modules and tensors in an attribute: itself, or those in a list, tuple or dict, nested ones too.

    Their paths are `name`, `name.0`, `name.key`, `name.key.0`, ….
    """
    if isinstance(value, (Module, Tensor)):
        yield name, value
    elif isinstance(value, (list, tuple, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(item, (Module, Tensor, list, tuple, dict)):
                yield from _registered(f"{name}.{key}", item)
    elif isinstance(value, _OTHER_CONTAINERS) and any(isinstance(item, (Module, Tensor)) for item in value):
        raise TypeError(f"{name}: modules in a {type(value).__name__} would not be registered; use a list or a dict")


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
