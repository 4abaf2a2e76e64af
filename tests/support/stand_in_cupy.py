"""A stand-in for CuPy on machines without a GPU: NumPy behind CuPy's manners.

Arrays that do not become NumPy arrays unless asked with `asnumpy`, that refuse to be mixed with them, have no
`__array_namespace__`, and whose indices wrap around in silence; creation without `device=`; no NumPy scalars, arrays
without axes instead. It shows what our CuPy backend would do, not how CuPy computes.
"""

from __future__ import annotations

import operator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np
from support.stand_in_cuda import Stream, add_cuda, launched

FUNCTIONS = (
    "abs add all arange argmax argmin asarray ascontiguousarray astype broadcast_to clip concat concatenate "
    "copyto cos count_nonzero cumulative_sum divide einsum empty equal exp expand_dims expm1 flip full_like "
    "greater greater_equal isfinite less less_equal log log1p logical_not matmul max maximum min minimum moveaxis "
    "multiply negative nonzero not_equal permute_dims power repeat reshape sign sin sqrt squeeze stack subtract "
    "sum take tanh where zeros"
).split()


def inner(value):
    """The NumPy array of a stand-in; a NumPy array itself is refused, as CuPy refuses it."""
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (tuple, list)):
        return type(value)(map(inner, value))
    return value


def outer(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(np.asarray(value))
    return tuple(map(outer, value)) if isinstance(value, tuple) else value


class ndarray:  # noqa: N801
    __slots__ = ("host",)
    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, host):
        self.host = host

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    mT = property(lambda self: ndarray(self.host.mT))  # noqa: N815
    device = property(lambda self: Device(0))
    T = property(lambda self: ndarray(self.host.T))
    data = property(lambda self: SimpleNamespace(ptr=self.host.__array_interface__["data"][0]))
    flags = property(lambda self: self.host.flags)
    strides = property(lambda self: self.host.strides)
    itemsize = property(lambda self: self.host.itemsize)
    nbytes = property(lambda self: self.host.nbytes)
    base = property(lambda self: self.host.base)

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def copy(self):
        return ndarray(self.host.copy())

    def reshape(self, *shape):
        return ndarray(self.host.reshape(*shape))

    def transpose(self, axes):
        return ndarray(self.host.transpose(axes))

    def fill(self, value):
        launched(lambda: self.host.fill(value), (self,))

    def sum(self, axis, keepdims=False):
        return ndarray(np.asarray(self.host.sum(axis, keepdims=keepdims)))

    def max(self, axis, keepdims=False):
        return ndarray(np.asarray(self.host.max(axis, keepdims=keepdims)))

    def min(self, axis, keepdims=False):
        return ndarray(np.asarray(self.host.min(axis, keepdims=keepdims)))

    def astype(self, dtype):
        return ndarray(self.host.astype(dtype))

    def __getitem__(self, index):
        return ndarray(np.asarray(self.host[self._wrapped(index)]))

    def __setitem__(self, index, value):
        self.host[self._wrapped(index)] = inner(value)

    def _wrapped(self, index):
        """An index whose arrays of integers wrap around at the end of their axis."""
        parts, axis = [], 0
        consumed = sum(
            1 for p in (index if isinstance(index, tuple) else (index,)) if p is not None and p is not Ellipsis
        )
        for part in index if isinstance(index, tuple) else (index,):
            if isinstance(part, ndarray) and part.dtype.kind in "iu":
                parts.append(part.host.astype(np.int64) % max(self.shape[axis], 1))
            else:
                parts.append(part.host if isinstance(part, ndarray) else part)
            if part is Ellipsis:
                axis += self.ndim - consumed
            elif part is not None:
                axis += part.ndim if isinstance(part, ndarray) and part.dtype.kind == "b" else 1
        return tuple(parts)

    def __len__(self):
        return len(self.host)

    def __bool__(self):
        return bool(self.host)

    def __int__(self):
        return int(self.host)

    def __float__(self):
        return float(self.host)

    def __neg__(self):
        return ndarray(np.asarray(-self.host))

    def __iadd__(self, other):
        self.host += inner(other)
        return self


def _operator(operate, swapped):
    def method(self, other):
        if not isinstance(other, ndarray) and getattr(other, "__array_ufunc__", 0) is None:
            return NotImplemented  # as CuPy leaves it to the other operand
        a, b = self.host, inner(other)
        return ndarray(np.asarray(operate(b, a) if swapped else operate(a, b)))

    return method


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or"):
    _operate = getattr(operator, _name if _name not in ("and", "or") else f"{_name}_")
    setattr(ndarray, f"__{_name}__", _operator(_operate, swapped=False))
    setattr(ndarray, f"__r{_name}__", _operator(_operate, swapped=True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{_name}__", _operator(getattr(operator, _name), swapped=False))


class Device:
    def __init__(self, index):
        self.id = index
        self.waits = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def synchronize(self):
        self.waits += 1


class Generator:
    def __init__(self, bits):
        self.generator = np.random.Generator(np.random.Philox(key=bits))

    def random(self, size, dtype):
        return ndarray(self.generator.random(size, dtype=dtype))

    def standard_normal(self, size, dtype):
        return ndarray(self.generator.standard_normal(size, dtype=dtype))


class CUDARuntimeError(RuntimeError):
    pass


def _function(function):
    def call(*arguments, **settings):
        assert "device" not in settings, "CuPy's functions know no device="
        if function is np.asarray and isinstance(arguments[0], np.ndarray):
            return ndarray(np.array(arguments[0], **settings))
        if function is np.copyto:
            return launched(lambda: np.copyto(*map(inner, arguments), **settings), arguments)
        assert Stream.capturing is None, "a captured function may not allocate"
        return outer(function(*map(inner, arguments), **{key: inner(value) for key, value in settings.items()}))

    return call


def make_cupy(devices=1):
    """The module, for `sys.modules["cupy"]`; with `devices=None` CUDA finds no driver."""
    cupy = ModuleType("cupy")
    for name in FUNCTIONS:
        setattr(cupy, name, _function(getattr(np, name)))
    for name in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool", "isdtype", "finfo"):
        setattr(cupy, name, getattr(np, name))
    cupy.add.at = lambda target, index, values: np.add.at(target.host, target._wrapped(index), inner(values))
    cupy.ndarray = ndarray
    cupy.asnumpy = lambda array: array.host.copy() if isinstance(array, ndarray) else np.asarray(array)
    cupy.random = SimpleNamespace(Generator=Generator, Philox4x3210=lambda seed: seed)

    def count():
        if devices is None:
            raise CUDARuntimeError("cudaErrorInsufficientDriver")
        return devices

    runtime = SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError)
    cupy.cuda = SimpleNamespace(Device=Device, runtime=runtime)
    return cupy


@contextmanager
def stand_in_cupy(monkeypatch, devices=1):
    """`import cupy` finds the stand-in within this block."""
    import sys

    from tinygrad_gru.backend import select

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cupy", make_cupy(devices))
        add_cuda(sys.modules["cupy"], patch)
        patch.setattr("importlib.metadata.distributions", list)
        select._cupy.cache_clear()
        try:
            yield sys.modules["cupy"]
        finally:
            select._cupy.cache_clear()
