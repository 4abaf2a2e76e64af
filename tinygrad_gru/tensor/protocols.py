"""Protocols of Tensors: those of Python's numbers and sequences, and NumPy's, by which `np.sin(tensor)` is `ops.sin`.

A function of NumPy that has an op runs it, and so is recorded. One that has none runs on the values of constants; it is
an error for a tensor that requires a gradient, which it would lose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .. import ops
from ..backend import dtype_name, is_floating, to_host, xp_of
from ..backend.duck_array import ArrayUfunc
from ..hints import did_you_mean, missing_attribute
from ..tape import Variable, inspector
from ..trees import leaves, map_leaves
from .hints import TENSOR
from .operators import Operators


class _Foreign:
    """A name that Tensor has not: an AttributeError with its hint. (A `__getattr__` would slow down all attributes.)"""

    def __init__(self, name: str):
        self.error = partial(missing_attribute, "Tensor", name, TENSOR)
        self.__doc__ = f"Not here: {TENSOR[name]}"

    def __get__(self, instance: Any, owner: type) -> Any:
        raise self.error()


class ForeignNames:
    """The base class of Tensor that answers names of PyTorch's that Tensor has not with what to write."""

    __slots__ = ()

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in TENSOR]


for _name in TENSOR:
    setattr(ForeignNames, _name, _Foreign(_name))


def _array_ufunc(tensor: Any, ufunc: np.ufunc, method: str, *inputs: Any, **settings: Any) -> Any:
    op, is_call = _UFUNCS.get(ufunc), method == "__call__"
    if op is not None and is_call and not settings:
        return op(*inputs)
    name = ufunc.__name__
    if (is_call and not settings) or not _require_gradients(inputs):
        result = _on_values(getattr(ufunc, method), inputs, settings, name)
        is_own = isinstance(result, (np.ndarray, np.generic)) and "out" not in settings
        return type(tensor)(result) if is_own else result
    if not is_call:
        instead = _METHODS.get((name, method), "it with ops, or on tensor.numpy()")
        raise TypeError(f"np.{name}.{method} of a Tensor: write {instead}")
    if "out" in settings:
        raise TypeError(
            f"np.{name}: a Tensor that requires a gradient cannot be written into a NumPy array, where it would be "
            "lost: write a = a + tensor for a += tensor, and array[...] = tensor.detach().numpy() for values"
        )
    raise TypeError(f"np.{name} of a Tensor takes no {', '.join(settings)}: write ops.where around it, or astype")


def values_of(array: Any) -> Any:
    """The array on the host, where its values leave the tape: an inspector is told."""
    if (observer := inspector.get()) is not None:
        observer.reading(array)
    return to_host(array)


def node_of(tensor: Any) -> Any:
    """The node of a tensor, where the program asks for it: an inspector is told."""
    if (observer := inspector.get()) is not None:
        observer.asking(tensor)
    return tensor.node


class Protocols(ForeignNames):
    """The base class of Tensor that gives it Python's protocols and NumPy's."""

    __slots__ = ()
    __array_ufunc__ = ArrayUfunc(_array_ufunc)

    def __len__(self: Any) -> int:
        if not self.shape:
            raise TypeError("a tensor without axes has no length (for PyTorch: torch.from_numpy(t.numpy()))")
        return self.shape[0]

    def __iter__(self: Any) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __bool__(self: Any) -> bool:
        if self.data.size != 1:
            raise ValueError(
                f"a tensor of shape {self.shape} is neither true nor false: ops.any(x) or ops.all(x) says it of all "
                "elements, and ops.where(x, a, b) chooses for each"
            )
        return bool(self.item())

    def __float__(self: Any) -> float:
        return float(self.item())

    def __int__(self: Any) -> int:
        return int(self.item())

    def __index__(self: Any) -> int:
        if is_floating(self.dtype):
            raise TypeError(f"expected an integer, got a tensor of {dtype_name(self.dtype)}: int(tensor) cuts it off")
        return int(self.item())

    def __format__(self: Any, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __array__(self: Any, dtype: Any = None, copy: bool | None = None) -> Any:
        if self.requires_grad:
            raise TypeError("NumPy would lose this tensor's gradient: say tensor.detach().numpy() if that is meant")
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def __array_function__(self, function: Callable, types: Any, inputs: tuple, settings: dict[str, Any]) -> Any:
        op = _FUNCTIONS.get(function)
        on_values = op is None or (function is np.where and len(inputs) == 1)
        if on_values or (not _SETTINGS.isdisjoint(settings) and not _require_gradients(inputs)):
            return _on_values(function, inputs, settings)
        return op(*inputs, **settings)  # type: ignore[misc]


def _require_gradients(inputs: Any) -> bool:
    """Whether one of the Tensors in these inputs requires a gradient."""
    return any(isinstance(x, Variable) and x.node is not None for _, x in leaves(inputs, ""))


def _on_values(function: Any, inputs: tuple, settings: dict[str, Any], name: str = "") -> Any:
    """What NumPy gives for the values of constants."""
    name = name or function.__name__

    def values(x: Any) -> Any:
        if not isinstance(x, Variable):
            return x
        if x.node is not None and name not in _WITHOUT_GRADIENT:
            raise TypeError(
                f"np.{name}: no op does it, and NumPy would lose the gradient{did_you_mean(name, ops.__all__)}: "
                "write it with ops, define an op with @op, or say tensor.detach() if the values alone are meant"
            )
        return x.numpy()  # type: ignore[attr-defined]

    return function(*map_leaves(values, inputs), **map_leaves(values, settings))


def _reduction(op: Callable) -> Callable:
    """A reduction by NumPy's signature, of which the settings after `axis` are given by name."""

    def reduce(x: Any, axis: Any = None, *unnamed: Any, **settings: Any) -> Any:
        if unnamed:
            raise TypeError(f"np.{op.__name__} of a Tensor: give the settings after axis by name")
        return op(x, axis=axis, **settings)

    return reduce


def _flat(op: Callable, others: int) -> Callable:
    """A function of x and so many other inputs along an axis, the flattened array if that is None, as NumPy's."""

    def run(x: Any, *inputs: Any, axis: Any = None) -> Any:
        if len(inputs) > others:
            *inputs, axis = inputs  # type: ignore[assignment]
        return op(ops.reshape(x, (-1,)), *inputs, axis=0) if axis is None else op(x, *inputs, axis=axis)

    return run


def _clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    return ops.clip(x, min if a_min is None else a_min, max if a_max is None else a_max)


def _dot(a: Any, b: Any) -> Any:
    if not np.ndim(a) or not np.ndim(b):
        return ops.hadamard(a, b)
    if np.ndim(b) > 2:
        raise TypeError("np.dot of a Tensor with more than two axes: write a @ b, or ops.einsum")
    return ops.matmul(a, b)


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord is not None:
        raise TypeError("np.linalg.norm of a Tensor is the Euclidean norm: write others with ops")
    return ops.norm(x, axis=axis, keepdims=keepdims)


def _take_along_axis(x: Any, indices: Any, axis: int = -1) -> Any:
    shape = list(x.shape)
    shape[axis] = np.shape(indices)[axis]
    return ops.gather(x, ops.broadcast_to(indices, shape=tuple(shape)), axis)


def _like(name: str) -> Callable:
    def make(x: Any, *values: Any, dtype: Any = None) -> Any:
        return type(x).from_node(getattr(xp_of(x.data), name)(x.data, *values, dtype=dtype or x.dtype), None)

    return make


#: The ops that ufuncs of NumPy run on Tensors.
_UFUNCS: dict[Any, Callable] = {
    **{getattr(np, name): getattr(ops, name) for name in ops.__all__ if isinstance(getattr(np, name, None), np.ufunc)},
    np.bitwise_and: Operators.__and__,
    np.bitwise_or: Operators.__or__,
    np.bitwise_xor: Operators.__xor__,
    np.invert: Operators.__invert__,
    np.positive: lambda x: x,
    np.fabs: ops.absolute,
    np.float_power: ops.power,
    np.reciprocal: lambda x: 1 / x,
}
#: What to write for methods of ufuncs.
_METHODS = {
    ("add", "reduce"): "ops.sum(tensor, axis)",
    ("multiply", "reduce"): "ops.prod(tensor, axis)",
    ("maximum", "reduce"): "ops.max(tensor, axis)",
    ("minimum", "reduce"): "ops.min(tensor, axis)",
    ("add", "accumulate"): "ops.cumsum(tensor, axis)",
    ("add", "at"): "ops.scatter_add(tensor, values, index), which gives a new tensor",
    ("multiply", "outer"): "a[:, None] * b",
}
#: The functions of NumPy beside ufuncs that run ops on Tensors.
_FUNCTIONS: dict[Any, Callable] = {
    **{getattr(np, op.__name__): _reduction(op) for op in (ops.sum, ops.mean, ops.prod, ops.var, ops.std)},
    **{getattr(np, op.__name__): _reduction(op) for op in (ops.any, ops.all, ops.argmax, ops.argmin)},
    **{function: _reduction(ops.max) for function in (np.max, np.amax)},
    **{function: _reduction(ops.min) for function in (np.min, np.amin)},
    **{
        getattr(np, name): getattr(ops, name)
        for name in (
            "argsort", "broadcast_to", "concatenate", "einsum", "expand_dims", "flip", "moveaxis", "reshape", "sort",
            "split", "squeeze", "stack", "transpose", "where",
        )
    },
    np.cumsum: _flat(ops.cumsum, 0),
    np.take: _flat(ops.take, 1),
    np.repeat: _flat(ops.repeat, 1),
    np.take_along_axis: _take_along_axis,
    np.swapaxes: lambda x, first, second: x.swapaxes(first, second),
    np.ravel: lambda x: x.flatten(),
    np.copy: lambda x: x.clone(),
    np.clip: _clip,
    np.dot: _dot,
    np.linalg.norm: _norm,
    np.zeros_like: _like("zeros_like"),
    np.ones_like: _like("ones_like"),
    np.full_like: _like("full_like"),
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x, axis=None: x.numel() if axis is None else x.shape[axis],
}  # fmt: skip
#: Settings of NumPy's functions that ops do not have: with one of them NumPy itself runs on the values of constants.
_SETTINGS = frozenset({"casting", "dtype", "initial", "order", "out", "subok", "where"})
#: Functions without an op whose results have no gradient.
_WITHOUT_GRADIENT = frozenset({
    "allclose", "argwhere", "array_equal", "array_equiv", "count_nonzero", "flatnonzero", "isclose", "isinf", "isnan",
    "nonzero", "result_type", "searchsorted", "signbit",
})  # fmt: skip
