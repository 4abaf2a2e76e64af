"""Operators and methods of Tensors: each is an op, by NumPy's name and, where it costs a line, by PyTorch's."""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from ..backend import dtype_name
from ..ops.movement.shape import normalize_axis


class Operators:
    """The base class of Tensor that gives it Python's operators and NumPy's methods."""

    __slots__ = ()

    __add__ = ops.add
    __sub__ = ops.subtract
    __mul__ = ops.hadamard
    __truediv__ = ops.divide
    __floordiv__ = ops.floor_divide
    __mod__ = ops.remainder
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

    def __rfloordiv__(self, other: Any) -> Any:
        return ops.floor_divide(other, self)

    def __rmod__(self, other: Any) -> Any:
        return ops.remainder(other, self)

    def __rmatmul__(self, other: Any) -> Any:
        return ops.matmul(other, self)

    def __rpow__(self, other: Any) -> Any:
        return ops.power(other, self)

    def __pos__(self) -> Any:
        return self

    def __and__(self, other: Any) -> Any:
        return ops.logical_and(_booleans(self, "&"), _booleans(other, "&"))

    def __or__(self, other: Any) -> Any:
        return ops.logical_or(_booleans(self, "|"), _booleans(other, "|"))

    def __xor__(self, other: Any) -> Any:
        return ops.logical_xor(_booleans(self, "^"), _booleans(other, "^"))

    def __invert__(self) -> Any:
        return ops.logical_not(_booleans(self, "~"))

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __getitem__(self, index: Any) -> Any:
        return ops.getitem(self, index=index)

    exp = ops.exp
    log = ops.log
    sqrt = ops.sqrt
    square = ops.square
    abs = ops.absolute
    sin = ops.sin
    cos = ops.cos
    sign = ops.sign
    tanh = ops.tanh
    sigmoid = ops.sigmoid
    relu = ops.relu
    softmax = ops.softmax
    log_softmax = ops.log_softmax
    sum = ops.sum
    mean = ops.mean
    max = ops.max
    min = ops.min
    prod = ops.prod
    var = ops.var
    std = ops.std
    norm = ops.norm
    any = ops.any
    all = ops.all
    cumsum = ops.cumsum
    logsumexp = ops.logsumexp
    argmax = ops.argmax
    argmin = ops.argmin
    argsort = ops.argsort
    topk = ops.topk
    clip = ops.clip
    moveaxis = ops.moveaxis
    expand_dims = ops.expand_dims
    broadcast_to = ops.broadcast_to
    astype = ops.astype
    take = ops.take
    masked_fill = ops.masked_fill
    chunk = ops.chunk
    flip = ops.flip

    @property
    def T(self) -> Any:  # noqa: N802  (NumPy's name)
        """The tensor with its axes in reverse order."""
        return ops.transpose(self)

    @property
    def mT(self) -> Any:  # noqa: N802
        """The tensor with its last two axes exchanged."""
        return ops.matrix_transpose(self)

    def reshape(self, *shape: Any) -> Any:
        """The tensor in row-major order at another shape; one length may be −1. `view` is another name for it.

        >>> Tensor([[1, 2, 3], [4, 5, 6]]).reshape(3, -1)
        Tensor([[1, 2],
                [3, 4],
                [5, 6]], dtype=int64)
        """
        return ops.reshape(self, _unpacked(shape))

    view = reshape

    def transpose(self, *axes: Any) -> Any:
        """The tensor with its axes in the order `axes`, reversed without: NumPy's transpose.

        Two axes of more are exchanged by `swapaxes`.

        >>> Tensor(np.zeros((2, 3, 4))).transpose(2, 0, 1).shape
        (4, 2, 3)
        """
        ndim = len(self._shape())
        if len(axes) == 2 and (ndim > 2 or (ndim == 2 and [axis % 2 for axis in axes] == [0, 1])):
            raise ValueError(
                f"transpose{axes} of {ndim} axes: NumPy's takes all axes in their new order; to exchange two, as "
                f"PyTorch's does, write swapaxes{axes}"
            )
        return self.permute(*axes)

    def permute(self, *axes: Any) -> Any:
        """The tensor with its axes in the order `axes`.

        >>> Tensor(np.zeros((2, 3, 4))).permute(2, 0, 1).shape
        (4, 2, 3)
        """
        return ops.transpose(self, _unpacked(axes) or None)

    def swapaxes(self, first: int, second: int) -> Any:
        """The tensor with two axes exchanged.

        >>> Tensor(np.zeros((2, 3, 4))).swapaxes(0, 2).shape
        (4, 3, 2)
        """
        order = list(range(len(self._shape())))
        first, second = (normalize_axis(axis, len(order)) for axis in (first, second))
        order[first], order[second] = second, first
        return ops.transpose(self, tuple(order))

    def squeeze(self, axis: Any = None, dim: Any = None) -> Any:
        """The tensor without the axes `axis` of length 1 (all of them if None)."""
        return ops.squeeze(self, dim if axis is None else axis)

    def unsqueeze(self, dim: Any) -> Any:
        """`expand_dims`, by PyTorch's name.

        >>> Tensor([1.0, 2.0]).unsqueeze(0).shape
        (1, 2)
        """
        return ops.expand_dims(self, dim)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Any:
        """The tensor with the axes from `start_dim` to `end_dim`, by default all, as one.

        >>> Tensor(np.zeros((2, 3, 4))).flatten(1).shape
        (2, 12)
        """
        shape = self._shape() or (1,)
        first, last = (normalize_axis(axis, len(shape)) for axis in (start_dim, end_dim))
        return ops.reshape(self, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))

    def expand(self, *shape: Any) -> Any:
        """`broadcast_to`, by PyTorch's name; −1 leaves an axis as it is.

        >>> Tensor([[1], [2]]).expand(-1, 3).shape
        (2, 3)
        """
        target, own = _unpacked(shape), self._shape()
        padded = (-1,) * (len(target) - len(own)) + own
        return ops.broadcast_to(self, tuple(own if n == -1 else n for n, own in zip(target, padded)))

    def clamp(self, min: Any = None, max: Any = None) -> Any:
        """`clip`, by PyTorch's name.

        >>> Tensor([-2, 0, 2]).clamp(min=-1, max=1).tolist()
        [-1, 0, 1]
        """
        return ops.clip(self, min, max)

    def clone(self) -> Any:
        """A copy in memory of its own; gradients flow through it.

        >>> weight = Tensor([1.0], requires_grad=True)
        >>> before = weight.detach().clone()
        >>> with no_grad():
        ...     weight += 1
        >>> before.tolist(), weight.tolist()
        ([1.0], [2.0])
        """
        return ops.stack([self])[0]

    def gather(self, indices: Any, axis: Any) -> Any:
        """yᵢⱼ = x at index indicesᵢⱼ along `axis`: `ops.gather`; PyTorch's order (dim, indices) is understood, too.

        >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).gather(1, Tensor([[1], [0]])).tolist()
        [[2.0], [3.0]]
        """
        return ops.gather(self, axis, indices) if isinstance(indices, int) else ops.gather(self, indices, axis)

    def cpu(self) -> Any:
        """`to("numpy")`."""
        return self.to("numpy")  # type: ignore[attr-defined]

    def cuda(self) -> Any:
        """`to("cupy")`."""
        return self.to("cupy")  # type: ignore[attr-defined]

    def contiguous(self) -> Any:
        """The tensor itself: here no op depends on the order in memory."""
        return self

    @property
    def size(self) -> Size:
        """The number of elements, as in NumPy; called, as in PyTorch: `t.size()` is the shape, `t.size(0)` a length.

        >>> t = Tensor([[1.0, 2.0, 3.0]])
        >>> t.size, t.size(), t.size(-1)
        (3, (1, 3), 3)
        """
        size = Size(math.prod(self._shape()))
        size._axes = self._shape()
        return size

    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self._shape())

    def float(self) -> Any:
        """`astype("float32")`."""
        return ops.astype(self, "float32")

    def double(self) -> Any:
        """`astype("float64")`."""
        return ops.astype(self, "float64")

    def half(self) -> Any:
        """`astype("float16")`."""
        return ops.astype(self, "float16")

    def long(self) -> Any:
        """`astype("int64")`; integers have no gradient."""
        return ops.astype(self, "int64")

    def bool(self) -> Any:
        """`astype("bool")`; booleans have no gradient."""
        return ops.astype(self, "bool")

    def _shape(self) -> tuple:
        return self.shape  # type: ignore[attr-defined]


class Size(int):
    """The number of elements, `t.size` in NumPy; called, the shape or the length of an axis, `t.size()` in PyTorch."""

    _axes: tuple[int, ...]  # not `shape`: a number has none

    def __call__(self, axis: int | None = None) -> Any:
        return self._axes if axis is None else self._axes[axis]


def _unpacked(arguments: tuple) -> tuple:
    """`(2, 3)` of both `f(2, 3)` and `f((2, 3))`."""
    return tuple(arguments[0]) if len(arguments) == 1 and isinstance(arguments[0], (tuple, list)) else arguments


def _booleans(x: Any, operator: str) -> Any:
    """x, if it is boolean: on integers the operator would work bit by bit, for which there is no op."""
    dtype = getattr(x, "dtype", None)
    if isinstance(x, bool) or (dtype is not None and dtype_name(dtype) == "bool"):
        return x
    raise TypeError(f"{operator}: expected booleans, such as x > 0, got {dtype or type(x).__name__} (x != 0?)")
