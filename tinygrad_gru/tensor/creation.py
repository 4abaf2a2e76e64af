"""New Tensors by shape, range or chance, by the names of NumPy and PyTorch.

Common arguments: `requires_grad`, `dtype` (float32 unless said otherwise), and `device`, by default that of `use`.
Random numbers are drawn from the stream of `manual_seed`, and are the same on every device.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

from ..backend import as_dtype, astype, dtype_name, random_stream, resolve, xp_of
from ..tape import Variable, leaf
from .tensor import Tensor

__all__ = [
    "arange", "empty", "eye", "full", "full_like", "linspace", "ones", "ones_like", "rand", "randint", "randn",
    "tensor", "zeros", "zeros_like",
]  # fmt: skip


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None, device: Any = None) -> Tensor:
    """`Tensor(data)`: a copy of scalars, a nested list or an array; Python's floats become float32.

    >>> tensor([[1.0, 2.0]], requires_grad=True)
    Tensor([[1., 2.]], dtype=float32, requires_grad=True)
    """
    return Tensor(data, requires_grad=requires_grad, dtype=dtype, device=device)


def zeros(*shape: Any, dtype: Any = "float32", device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros: `zeros(2, 3)` or `zeros((2, 3))`.

    >>> zeros(2, 3).shape
    (2, 3)
    """
    return _new(resolve(device).zeros(_shape("zeros", shape), _dtype(dtype, device)), requires_grad)


def ones(*shape: Any, dtype: Any = "float32", device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones: `ones(2, 3)` or `ones((2, 3))`.

    >>> ones(3).tolist()
    [1.0, 1.0, 1.0]
    """
    return full(_shape("ones", shape), 1, dtype=dtype, device=device, requires_grad=requires_grad)


def empty(*shape: Any, dtype: Any = "float32", device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor whose values are not set.

    >>> empty(2, 3).shape
    (2, 3)
    """
    return _new(resolve(device).empty(_shape("empty", shape), _dtype(dtype, device)), requires_grad)


def full(shape: Any, value: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of one value, by default of its dtype: integers give int64, booleans bool, Python's floats float32.

    >>> full((2, 2), 7).tolist(), full((2,), 7.0).dtype
    ([[7, 7], [7, 7]], dtype('float32'))
    """
    if dtype is None:
        dtype = "float32" if isinstance(value, float) else dtype_name(Tensor(value).dtype)
    array = resolve(device).empty(_shape("full", (shape,)), _dtype(dtype, device))
    return _new(_filled(array, value), requires_grad)


def zeros_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the shape, dtype and device of a tensor or array.

    >>> zeros_like(Tensor([1, 2])).tolist()
    [0, 0]
    """
    return full_like(x, 0, dtype, requires_grad)


def ones_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of the shape, dtype and device of a tensor or array.

    >>> ones_like(Tensor([2.0, 3.0]))
    Tensor([1., 1.], dtype=float32)
    """
    return full_like(x, 1, dtype, requires_grad)


def full_like(x: Any, value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """One value, in the shape, dtype and device of a tensor or array.

    >>> full_like(Tensor([2.0, 3.0]), 9.0).tolist()
    [9.0, 9.0]
    """
    array = x.data if isinstance(x, Variable) else x  # type: ignore[attr-defined]
    target = xp_of(array).empty_like(array, dtype=array.dtype if dtype is None else as_dtype(array, dtype))
    return _new(_filled(target, value), requires_grad)


def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None, device: Any = None) -> Tensor:
    """start, start + step, … below stop; `arange(n)` counts from 0. Integers give int64, floats float32.

    >>> arange(3).tolist(), arange(1.0, 2.0, 0.5).tolist()
    ([0, 1, 2], [1.0, 1.5])
    """
    if stop is None:
        start, stop = 0, start
    if not step:
        raise ValueError("arange: step must not be 0")
    count = max(0, -int((start - stop) // step))
    array = resolve(device).arange(count)
    if any(isinstance(value, float) or not isinstance(value, Integral) for value in (start, stop, step)):
        return _new(astype(astype(array, "float64") * float(step) + float(start), dtype or "float32"), False)
    return _new(astype(array * int(step) + int(start), dtype or "int64"), False)


def linspace(start: float, stop: float, num: int, dtype: Any = "float32", device: Any = None) -> Tensor:
    """`num` values at equal distances, from start to stop, both included.

    >>> linspace(0, 1, 5).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if num < 0:
        raise ValueError(f"linspace: num must not be negative, got {num}")
    parts = astype(resolve(device).arange(num), "float64") / max(num - 1, 1)
    return _new(astype(parts * float(stop) + (1 - parts) * float(start), dtype), False)


def eye(n: int, m: int | None = None, dtype: Any = "float32", device: Any = None) -> Tensor:
    """The identity matrix (n, n), or (n, m) with ones on the diagonal.

    >>> eye(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    backend = resolve(device)
    return _new(astype(backend.arange(n)[:, None] == backend.arange(n if m is None else m)[None, :], dtype), False)


def rand(*shape: Any, dtype: Any = "float32", device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uniform random numbers in [0, 1).

    >>> rand(2, 3).shape
    (2, 3)
    """
    return _new(random_stream().uniform(_shape("rand", shape), dtype, device), requires_grad)


def randn(*shape: Any, dtype: Any = "float32", device: Any = None, requires_grad: bool = False) -> Tensor:
    """Random numbers of the standard normal distribution, drawn on the host: a seed gives the same on every device.

    >>> manual_seed(0)
    >>> first = randn(2, 3)
    >>> manual_seed(0)
    >>> bool((randn(2, 3) == first).all())
    True
    """
    return _new(random_stream().normal(_shape("randn", shape), dtype, device), requires_grad)


def randint(low: int, high: Any = None, shape: Any = None, dtype: Any = "int64", device: Any = None) -> Tensor:
    """Uniform random integers in low … high − 1; `randint(high, shape)` starts at 0.

    >>> dice = randint(1, 7, (2, 3))
    >>> dice.shape, bool((dice >= 1).all() & (dice <= 6).all())
    ((2, 3), True)
    """
    if shape is None and isinstance(high, (tuple, list)):
        high, shape = None, high
    low, high = (0, low) if high is None else (low, high)
    if not 0 < high - low < 2**53:
        raise ValueError(f"randint: expected low < high, less than 2⁵³ apart, got {low} and {high}")
    numbers = random_stream().uniform(_shape("randint", (() if shape is None else shape,)), "float64", device)
    return _new(astype(astype(numbers * (high - low), "int64") + low, dtype), False)


def _new(array: Any, requires_grad: bool) -> Tensor:
    return Tensor.from_node(array, leaf(array) if requires_grad else None)


def _filled(array: Any, value: Any) -> Any:
    array[...] = bool(value) if dtype_name(array.dtype) == "bool" else value
    return array


def _dtype(dtype: Any, device: Any) -> Any:
    return as_dtype(resolve(device).arange(0), dtype)


def _shape(name: str, shape: tuple) -> tuple[int, ...]:
    """`(2, 3)` of both `zeros(2, 3)` and `zeros((2, 3))`."""
    lengths = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    if not all(isinstance(n, Integral) and int(n) >= 0 for n in lengths):
        dtypes = [n for n in lengths if isinstance(n, (str, type))]
        hint = f"; a dtype is given by name, {name}(shape, dtype={dtypes[0]!r})" if dtypes else ""
        raise TypeError(f"{name}: expected a shape, integers ≥ 0, got {', '.join(map(repr, shape))}{hint}")
    return tuple(map(int, lengths))
