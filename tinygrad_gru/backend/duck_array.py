"""Duck arrays (NEP 22): stand-ins for the array of a Tensor, with their own namespace (NEP 47).

Formulas and rules of ops are written against operators and the array API standard alone, so they run on any type that
has these. `DuckArray` knows the operators: each is the function of that name in the array's namespace. `DuckNamespace`
derives functions from a few primitives. What a function does is up to derived classes: add a value to a graph IR
(`scan.tracing`), add a node to an ONNX graph (`interop.onnx`), compute and record a device event (`debug`), or record
an operation of an update rule (`optim`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .cuda.device import is_on_cuda
from .dtypes import is_floating

#: Functions of the array API standard that are operators of Python.
OPERATORS: dict[str, Callable] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv,
    "power": operator.pow, "matmul": operator.matmul, "bitwise_and": operator.and_, "bitwise_or": operator.or_,
    "less": operator.lt, "less_equal": operator.le, "greater": operator.gt, "greater_equal": operator.ge,
    "equal": operator.eq, "not_equal": operator.ne,
}  # fmt: skip
COMPARISONS = frozenset({"less", "less_equal", "greater", "greater_equal", "equal", "not_equal"})
_SCALARS_AND_ARRAYS = (bool, int, float, np.ndarray, np.generic)
#: Functions of NumPy that the array API standard calls otherwise.
_STANDARD_NAMES = {"absolute": "abs", "fabs": "abs", "concatenate": "concat", "invert": "bitwise_invert"}
#: Those that take more than two arguments by position: what stands third for others is another setting in the standard.
_WITH_THREE_ARGUMENTS = frozenset({"clip", "moveaxis", "where"})
#: Ufuncs that give other numbers, or another dtype, for integers than the functions that stand for them.
_OF_FLOATS = frozenset({np.fabs, np.reciprocal})


def _operator(function: str, reflected: bool = False) -> Callable[[Any, Any], Any]:
    def method(self: DuckArray, other: Any) -> Any:
        if type(other) is type(self) or isinstance(other, _SCALARS_AND_ARRAYS) or self.accepts(other):
            call = getattr(self.namespace, function)
            return call(other, self) if reflected else call(self, other)
        return NotImplemented

    return method


def _standard(function: Any, array: DuckArray) -> Callable[..., Any]:
    """The function of an array's namespace that is this one of NumPy."""
    return getattr(array.namespace, _STANDARD_NAMES.get(function.__name__, function.__name__))


def _array_ufunc(array: DuckArray, ufunc: np.ufunc, method: str, *inputs: Any, **settings: Any) -> Any:
    if method != "__call__" or settings:
        what = f"np.{ufunc.__name__}" + (f".{method}" if method != "__call__" else "")
        raise TypeError(
            f"{what} with {', '.join(settings) or 'this method'} is for NumPy's own arrays: write functions of "
            "xp_of(x) without it, and a = a + x for a += x"
        )
    if ufunc in _OF_FLOATS and not is_floating(getattr(array, "dtype", np.float64)):
        raise TypeError(f"np.{ufunc.__name__} of integers is for NumPy's own arrays: write abs(x), or 1 / x")
    return _standard(ufunc, array)(*inputs)


class ArrayUfunc:
    """`__array_ufunc__`: NumPy looks it up on the type; CuPy on the instance, where None leaves `array * t` to t."""

    def __init__(self, function: Callable):
        self.function = function

    def __get__(self, instance: Any, owner: type) -> Callable | None:
        return self.function if instance is None else None


def _conversion(to: type) -> Callable[..., Any]:
    return lambda self, *_, **__: self.concretize(to)


class DuckArray:
    """Base of the arrays that belong to no library. Derived classes define the attributes, and `concretize`.

    namespace    the functions on such arrays
    __backend__  the Backend to which they belong
    """

    __slots__ = ()
    __array_ufunc__ = ArrayUfunc(_array_ufunc)
    __hash__ = object.__hash__

    namespace: Any
    __backend__: Any
    shape: Any
    dtype: Any

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return self.namespace

    def accepts(self, other: Any) -> bool:
        """Whether operators compute with an operand beyond scalars, NumPy's arrays and this type, or leave it to it."""
        return is_on_cuda(other)

    def __array_function__(self, function: Callable, types: Any, inputs: tuple, settings: dict[str, Any]) -> Any:
        name = function.__name__
        if len(inputs) > 2 and name not in _WITH_THREE_ARGUMENTS:
            raise TypeError(f"np.{name}: write what follows the second argument by keyword")
        return _standard(function, self)(*inputs, **settings)

    def concretize(self, conversion: type) -> Any:
        """The values as a bool, int, float or np.ndarray. Raises where they are not known."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def mT(self) -> Any:  # noqa: N802
        return self.namespace.matrix_transpose(self)

    def astype(self, dtype: Any) -> Any:
        return self.namespace.astype(self, dtype)

    def reshape(self, *shape: Any) -> Any:
        return self.namespace.reshape(self, shape[0] if isinstance(shape[0], (tuple, list)) else shape)

    def __getitem__(self, index: Any) -> Any:
        return self.namespace.getitem(self, index)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __neg__(self) -> Any:
        return self.namespace.negative(self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self.namespace.abs(self)

    def __invert__(self) -> Any:
        return self.namespace.bitwise_invert(self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    __bool__, __int__, __float__ = _conversion(bool), _conversion(int), _conversion(float)
    __index__, __array__ = _conversion(int), _conversion(np.ndarray)
    __add__, __radd__ = _operator("add"), _operator("add", reflected=True)
    __sub__, __rsub__ = _operator("subtract"), _operator("subtract", reflected=True)
    __mul__, __rmul__ = _operator("multiply"), _operator("multiply", reflected=True)
    __truediv__, __rtruediv__ = _operator("divide"), _operator("divide", reflected=True)
    __pow__, __rpow__ = _operator("power"), _operator("power", reflected=True)
    __matmul__, __rmatmul__ = _operator("matmul"), _operator("matmul", reflected=True)
    __floordiv__, __rfloordiv__ = _operator("floor_divide"), _operator("floor_divide", reflected=True)
    __mod__, __rmod__ = _operator("remainder"), _operator("remainder", reflected=True)
    __and__, __rand__ = _operator("bitwise_and"), _operator("bitwise_and", reflected=True)
    __or__, __ror__ = _operator("bitwise_or"), _operator("bitwise_or", reflected=True)
    __xor__, __rxor__ = _operator("bitwise_xor"), _operator("bitwise_xor", reflected=True)
    __lt__, __le__ = _operator("less"), _operator("less_equal")
    __gt__, __ge__ = _operator("greater"), _operator("greater_equal")
    __eq__, __ne__ = _operator("equal"), _operator("not_equal")  # type: ignore[assignment]


def _elementwise(function: str) -> Callable[..., Any]:
    def call(self: DuckNamespace, *operands: Any) -> Any:
        return self.elementwise(function, *operands)

    return call


def _reduction(function: str) -> Callable[..., Any]:
    def call(self: DuckNamespace, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return self.reduction(function, x, tuple(range(x.ndim)) if axis is None else as_tuple(axis), keepdims)

    return call


class DuckNamespace:
    """Base of a namespace: derives functions of the array API from the primitives that a derived class defines.

    elementwise  (function, *operands): the elementwise function of that name
    reduction    (function, x, axes, keepdims): the sum, max or min over these axes
    others       the functions of these names; `getitem` indexes with integers, slices, None and an ellipsis
    """

    elementwise: Callable[..., Any]
    reduction: Callable[..., Any]
    getitem: Callable[..., Any]
    reshape: Callable[..., Any]
    permute_dims: Callable[..., Any]
    concat: Callable[..., Any]

    float16, float32, float64 = np.float16, np.float32, np.float64

    def lift(self, arrays: Sequence[Any]) -> Sequence[Any]:
        """The arrays, with others converted to duck arrays where the primitives need them."""
        return arrays

    add, subtract, multiply, divide = map(_elementwise, ("add", "subtract", "multiply", "divide"))
    power, maximum, minimum = map(_elementwise, ("power", "maximum", "minimum"))
    less, less_equal, greater = map(_elementwise, ("less", "less_equal", "greater"))
    greater_equal, equal, not_equal = map(_elementwise, ("greater_equal", "equal", "not_equal"))
    exp, expm1, log, log1p, sqrt = map(_elementwise, ("exp", "expm1", "log", "log1p", "sqrt"))
    tanh, sin, cos, abs, sign = map(_elementwise, ("tanh", "sin", "cos", "abs", "sign"))
    negative = _elementwise("negative")

    def square(self, x: Any) -> Any:
        return self.multiply(x, x)

    def reciprocal(self, x: Any) -> Any:
        return self.divide(1, x)

    sum, max, min = map(_reduction, ("sum", "max", "min"))

    def clip(self, x: Any, min: Any = None, max: Any = None) -> Any:
        x = x if min is None else self.maximum(x, min)
        return x if max is None else self.minimum(x, max)

    def matrix_transpose(self, x: Any) -> Any:
        n = x.ndim
        return self.permute_dims(x, (*range(n - 2), n - 1, n - 2))

    def moveaxis(self, x: Any, source: Any, destination: Any) -> Any:
        sources, destinations = ([a % x.ndim for a in as_tuple(axes)] for axes in (source, destination))
        order = [axis for axis in range(x.ndim) if axis not in sources]
        for to, axis in sorted(zip(destinations, sources)):
            order.insert(to, axis)
        return self.permute_dims(x, tuple(order))

    def expand_dims(self, x: Any, axis: int = 0) -> Any:
        axis %= x.ndim + 1
        return self.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))

    def squeeze(self, x: Any, axis: Any) -> Any:
        axes = {a % x.ndim for a in as_tuple(axis)}
        return self.reshape(x, tuple(n for a, n in enumerate(x.shape) if a not in axes))

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        axis %= arrays[0].ndim + 1
        return self.concat([self.expand_dims(x, axis) for x in self.lift(arrays)], axis)

    def flip(self, x: Any, axis: Any = None) -> Any:
        axes = range(x.ndim) if axis is None else {a % x.ndim for a in as_tuple(axis)}
        return self.getitem(x, tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(x.ndim)))

    def isdtype(self, dtype: Any, kind: Any) -> bool:
        return is_floating(dtype) if kind == "real floating" else np.isdtype(dtype, kind)


setattr(DuckNamespace, "bool", np.bool_)  # noqa: B010  (in the class's body it would hide the type from annotations)


def as_tuple(axis: Any) -> tuple[int, ...]:
    """One axis or several as a tuple."""
    return tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
