"""Operators and methods of Tensors: each is an op."""

from __future__ import annotations

from typing import Any

from . import ops


class Operators:
    """The base class of Tensor that gives it Python's operators and NumPy's methods."""

    __slots__ = ()

    __add__ = ops.add
    __sub__ = ops.subtract
    __mul__ = ops.hadamard
    __truediv__ = ops.divide
    __matmul__ = ops.matmul
    __pow__ = ops.power
    __neg__ = ops.negative
    __abs__ = ops.absolute
    __lt__ = ops.less
    __le__ = ops.less_equal
    __gt__ = ops.greater
    __ge__ = ops.greater_equal
    __eq__ = ops.equal
    __ne__ = ops.not_equal
    __radd__ = __add__
    __rmul__ = __mul__
    __hash__ = object.__hash__  # which a class with an `__eq__` would lose

    def __rsub__(self, other: Any) -> Any:
        return ops.subtract(other, self)

    def __rtruediv__(self, other: Any) -> Any:
        return ops.divide(other, self)

    def __rmatmul__(self, other: Any) -> Any:
        return ops.matmul(other, self)

    def __rpow__(self, other: Any) -> Any:
        return ops.power(other, self)

    def __getitem__(self, index: Any) -> Any:
        return ops.getitem(self, index=index)

    exp = ops.exp
    log = ops.log
    sqrt = ops.sqrt
    square = ops.square
    abs = ops.absolute
    sin = ops.sin
    cos = ops.cos
    tanh = ops.tanh
    sigmoid = ops.sigmoid
    relu = ops.relu

    @property
    def T(self) -> Any:  # noqa: N802  (NumPy's name)
        return ops.transpose(self)

    @property
    def mT(self) -> Any:  # noqa: N802
        return ops.matrix_transpose(self)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return ops.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        return ops.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        return ops.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        return ops.min(self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Any = None, keepdims: bool = False) -> Any:
        return ops.prod(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Any = None, keepdims: bool = False, correction: int = 0) -> Any:
        return ops.var(self, axis=axis, keepdims=keepdims, correction=correction)

    def std(self, axis: Any = None, keepdims: bool = False, correction: int = 0) -> Any:
        return ops.std(self, axis=axis, keepdims=keepdims, correction=correction)

    def norm(self, axis: Any = None, keepdims: bool = False) -> Any:
        return ops.norm(self, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: int) -> Any:
        return ops.cumsum(self, axis=axis)

    def argmax(self, axis: int | None = None) -> Any:
        return ops.argmax(self, axis=axis)

    def argmin(self, axis: int | None = None) -> Any:
        return ops.argmin(self, axis=axis)

    def clip(self, low: Any = None, high: Any = None) -> Any:
        return ops.clip(self, low=low, high=high)

    def reshape(self, *shape: Any) -> Any:
        return ops.reshape(self, shape=_unpacked(shape))

    def transpose(self, *axes: Any) -> Any:
        return ops.transpose(self, axes=_unpacked(axes) or None)

    def moveaxis(self, source: Any, destination: Any) -> Any:
        return ops.moveaxis(self, source=source, destination=destination)

    def expand_dims(self, axis: Any) -> Any:
        return ops.expand_dims(self, axis=axis)

    def squeeze(self, axis: Any = None) -> Any:
        return ops.squeeze(self, axis=axis)

    def broadcast_to(self, shape: tuple[int, ...]) -> Any:
        return ops.broadcast_to(self, shape=shape)

    def astype(self, dtype: Any) -> Any:
        return ops.astype(self, dtype=dtype)

    def softmax(self, axis: int = -1) -> Any:
        return ops.softmax(self, axis=axis)

    def log_softmax(self, axis: int = -1) -> Any:
        return ops.log_softmax(self, axis=axis)


def _unpacked(arguments: tuple) -> tuple:
    """`(2, 3)` of both `f(2, 3)` and `f((2, 3))`."""
    return tuple(arguments[0]) if len(arguments) == 1 and isinstance(arguments[0], (tuple, list)) else arguments
