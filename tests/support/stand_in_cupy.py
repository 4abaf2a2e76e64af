"""A stand-in for CuPy on machines without a GPU: NumPy with CuPy's interface and restrictions.

Its arrays become NumPy arrays only by `asnumpy` or `get`, cannot be mixed with NumPy arrays or with those of another
GPU than the current one, have no `__array_namespace__`, and wrap around indices silently. Creation has no `device=`,
results are 0-d arrays rather than NumPy scalars, and copies to pinned memory arrive when the host waits. Memory is
counted, and so are launches, copies and waits. It tests what our CuPy backend does, not how CuPy computes.
"""

from __future__ import annotations

import operator
import re
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np
from support.stand_in_cuda import Stream, add_cuda, forget_cuda, launched

FUNCTIONS = (
    "abs add all any argmax argmin argsort ascontiguousarray astype broadcast_to clip concat concatenate "
    "copyto cos count_nonzero cumulative_sum divide einsum empty_like equal exp expand_dims expm1 flip floor_divide "
    "full_like greater greater_equal isfinite less less_equal log log1p logical_not matmul max maximum min "
    "minimum moveaxis multiply negative nonzero not_equal ones_like permute_dims positive power remainder "
    "repeat reshape sign sin sqrt squeeze stack subtract sum take tanh where zeros_like"
).split()
CREATION = ("empty", "zeros", "ones", "full", "arange")
DTYPES = ("float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool", "isdtype", "finfo")


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


OutOfMemoryError.__module__ = "cupy.cuda.memory"


class Machine:
    """The GPUs and their memory; `calls` counts launches, copies and waits by kind and name."""

    def __init__(self, devices, capability="80", memory=2**30, driver=13000, refuses=None):
        self.devices, self.capability, self.memory, self.driver = devices, capability, memory, driver
        self.refuses = refuses  # the name of CUDA's error at the first use of a GPU
        self.calls = Counter()
        self.used, self.limit = Counter(), {}
        self.unfinished = []  # asynchronous copies, which are finished when the host waits
        self.thread = threading.local()
        self.tf32 = False

    @property
    def current(self):
        return getattr(self.thread, "current", 0)

    def count(self, kind):
        return sum(count for (of, _), count in self.calls.items() if of == kind)

    def note(self, kind, name):
        self.calls[kind, name] += 1

    def wait(self):
        for finish in self.unfinished:
            finish()
        self.unfinished.clear()

    def allocate(self, nbytes):
        if self.refuses:
            raise CUDARuntimeError(self.refuses)
        held, limit = self.used[self.current], self.limit.get(self.current) or self.memory
        if held + nbytes > limit:
            raise OutOfMemoryError(f"Out of memory allocating {nbytes:,} bytes (allocated so far: {held:,} bytes).")
        self.used[self.current] += nbytes


machine = Machine(0)


def inner(value):
    """The NumPy array of a stand-in array; NumPy arrays themselves are refused, as by CuPy."""
    if isinstance(value, ndarray):
        if value.index != machine.current:
            raise ValueError(
                f"The device where the array resides ({value.index}) is different from the current device "
                f"({machine.current}). Peer access is unavailable between these devices."
            )
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (tuple, list)):
        return type(value)(map(inner, value))
    return value


def outer(value, base=None):
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(np.asarray(value), base)
    return tuple(map(outer, value)) if isinstance(value, tuple) else value


class ndarray:  # noqa: N801
    __slots__ = ("base", "host", "index", "memory")
    __array_ufunc__ = None
    __hash__ = None

    def __new__(cls, host, base=None):
        if base is None:
            machine.allocate(host.nbytes)
        array = super().__new__(cls)
        array.host, array.base = host, base
        array.index, array.memory = (machine.current, machine.used) if base is None else (base.index, None)
        return array

    def __reduce__(self):
        return ndarray, (self.host.copy(),)

    def __del__(self):
        if self.memory is not None:
            self.memory[self.index] -= self.host.nbytes

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    itemsize = property(lambda self: self.host.itemsize)
    strides = property(lambda self: self.host.strides)
    flags = property(lambda self: self.host.flags)
    data = property(lambda self: SimpleNamespace(ptr=self.host.__array_interface__["data"][0]))
    T = property(lambda self: ndarray(self.host.T, self))
    mT = property(lambda self: ndarray(self.host.mT, self))  # noqa: N815
    device = property(lambda self: Device(self.index))

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def copy(self):
        machine.note("launch", "copy")
        return ndarray(self.host.copy())

    def reshape(self, *shape):
        return _call(np.reshape, "reshape", self, shape[0] if len(shape) == 1 else shape)

    def astype(self, dtype):
        return _call(np.astype, "astype", self, dtype)

    def transpose(self, axes):
        return ndarray(self.host.transpose(axes), self)

    def sum(self, axis, keepdims=False):
        return _call(np.sum, "sum", self, axis=axis, keepdims=keepdims)

    def max(self, axis, keepdims=False):
        return _call(np.max, "max", self, axis=axis, keepdims=keepdims)

    def min(self, axis, keepdims=False):
        return _call(np.min, "min", self, axis=axis, keepdims=keepdims)

    def fill(self, value):
        launched("fill", lambda: self.host.fill(inner(value)), (self,))

    def get(self, out=None, blocking=True):
        machine.note("to host", "get")
        there = self.host.copy()
        if out is None:
            out = np.empty_like(there)
        machine.unfinished.append(lambda: np.copyto(out, there))
        if blocking:
            machine.wait()
        return out

    def __getitem__(self, index):
        wrapped = self._wrapped(index)
        result = np.asarray(self.host[wrapped])
        if any(isinstance(part, np.ndarray) for part in wrapped):
            machine.note("launch", "getitem")
            return ndarray(result)
        return ndarray(self.host[(*wrapped, ...) if Ellipsis not in wrapped else wrapped], self)

    def __setitem__(self, index, value):
        machine.note("launch", "setitem")
        self.host[self._wrapped(index)] = inner(value)

    def _wrapped(self, index):
        """An index whose integer arrays wrap around."""
        parts, axis = [], 0
        consumed = sum(
            1 for p in (index if isinstance(index, tuple) else (index,)) if p is not None and p is not Ellipsis
        )
        for part in index if isinstance(index, tuple) else (index,):
            if isinstance(part, ndarray) and part.dtype.kind in "iu":
                parts.append(inner(part).astype(np.int64) % max(self.shape[axis], 1))
            else:
                if isinstance(part, ndarray):
                    machine.note("wait", "mask")
                parts.append(inner(part))
            if part is Ellipsis:
                axis += self.ndim - consumed
            elif part is not None:
                axis += part.ndim if isinstance(part, ndarray) and part.dtype.kind == "b" else 1
        return tuple(parts)

    def __len__(self):
        return len(self.host)

    def __bool__(self):
        return bool(self._fetched("bool"))

    def __int__(self):
        return int(self._fetched("int"))

    def __float__(self):
        return float(self._fetched("float"))

    def _fetched(self, name):
        machine.note("to host", name)
        machine.wait()
        return self.host

    def __neg__(self):
        return _call(np.negative, "negative", self)


def _operator(operate, name, swapped):
    def method(self, other):
        if not isinstance(other, ndarray) and getattr(other, "__array_ufunc__", 0) is None:
            return NotImplemented  # like CuPy, leave it to the other operand
        a, b = inner(self), inner(other)
        if name == "matmul" and max(a.ndim, b.ndim) > 2 and "bfloat16" in (a.dtype.name, b.dtype.name):
            raise TypeError("data type 'E' not understood")  # CuPy 14.2 has no batches of such products
        machine.note("launch", name)
        result = np.asarray(operate(b, a) if swapped else operate(a, b))
        keeps_dtype = name == "matmul" and a.dtype == b.dtype  # NumPy would make float32 of bfloat16
        return ndarray(result.astype(a.dtype, copy=False) if keeps_dtype else result)

    return method


def _in_place(operate, name):
    def method(self, other):
        machine.note("launch", name)
        operate(inner(self), inner(other))
        return self

    return method


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or"):
    _operate = getattr(operator, _name if _name not in ("and", "or") else f"{_name}_")
    setattr(ndarray, f"__{_name}__", _operator(_operate, _name, swapped=False))
    setattr(ndarray, f"__r{_name}__", _operator(_operate, _name, swapped=True))
for _name in ("add", "sub", "mul", "truediv"):
    setattr(ndarray, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}"), _name))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{_name}__", _operator(getattr(operator, _name), _name, swapped=False))


class Device:
    def __init__(self, index=None):
        self.id = machine.current if index is None else index
        self.before = []

    def __eq__(self, other):
        return isinstance(other, Device) and other.id == self.id

    def __enter__(self):
        self.before.append(machine.current)
        machine.thread.current = self.id
        return self

    def __exit__(self, *_):
        machine.thread.current = self.before.pop()

    def synchronize(self):
        machine.note("wait", "device")
        machine.wait()

    @property
    def compute_capability(self):
        return machine.capability


class ElementwiseKernel:
    """Interprets a kernel that is one `if (condition) array[index] = value;`. KERNELS has the others, by name."""

    def __init__(self, inputs, outputs, text, name, preamble="", no_return=False):
        self.names = [parameter.split()[-1] for parameter in f"{inputs}, {outputs}".split(",") if parameter.strip()]
        self.name, self.text = name, text

    def __call__(self, *arguments, size=None):
        machine.note("launch", self.name)
        arguments = [inner(argument) for argument in arguments]
        names = dict(zip(self.names, arguments))
        found = re.fullmatch(r"if \((.*)\) (\w+)\[(\w+)\] = (\w+);", self.text)
        if self.name in KERNELS:
            KERNELS[self.name](*arguments)
        elif found:
            condition, array, index, value = found.groups()
            condition = condition.replace("(long long)", "").replace("||", "or")
            for element in np.asarray(arguments[0]).ravel().tolist():
                names[self.names[0]] = element
                if eval(condition, names):
                    names[array][names[index]] = names[value]
        else:
            raise NotImplementedError(self.text)


def _draw_uniform(seed, position, n, numbers):
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, position, 0]))
    numbers.reshape(-1)[...] = generator.random(n, numbers.dtype)


#: Kernels that are not interpreted, by name.
KERNELS = {"draw_uniform": _draw_uniform}


def _call(function, name, *arguments, **settings):
    assert "device" not in settings, "CuPy's functions know no device="
    if name == "copyto":
        target, source = map(inner, arguments)
        return launched(name, lambda: np.copyto(target, source), arguments)
    given = [x for x in (*arguments, *settings.values()) if isinstance(x, (ndarray, tuple, list))]
    arrays = [x for value in given for x in (value if isinstance(value, (tuple, list)) else (value,))]
    arrays = [x for x in arrays if isinstance(x, ndarray)]
    result = function(*map(inner, arguments), **{key: inner(value) for key, value in settings.items()})
    if "out" in settings:
        machine.note("launch", name)
        return settings["out"]
    if name == "where" and result.dtype.name == "bfloat16":
        result = result.astype("float32")  # CuPy 14.2 has no such choice in bfloat16
    if name == "isdtype" or not isinstance(result, (np.ndarray, np.generic, tuple)):
        return result
    seen = [x for x in arrays if isinstance(result, np.ndarray) and np.may_share_memory(result, x.host)]
    if not seen and name != "empty":
        assert Stream.capturing is None, "what is captured may not allocate"
        machine.note("launch", name)
    return outer(result, seen[0] if seen else None)


def _function(name):
    def call(*arguments, **settings):
        return _call(getattr(np, name), name, *arguments, **settings)

    return call


def asarray(value, dtype=None):
    if isinstance(value, ndarray):
        if value.index != machine.current:
            return ndarray(np.array(value.host, dtype=dtype))
        same = dtype is None or value.dtype == dtype
        return value if same else value.astype(dtype)
    host = np.array(value, dtype=dtype)
    machine.note("to device" if host.ndim else "launch", "asarray")
    return ndarray(host)


def asnumpy(array):
    if not isinstance(array, ndarray):
        return np.asarray(array)
    return array.get()


def make_cupy():
    """The module, for `sys.modules["cupy"]`."""
    cupy = ModuleType("cupy")
    cupy.__version__ = "14.2.0"
    for name in (*FUNCTIONS, *CREATION):
        setattr(cupy, name, _function(name))
    for name in DTYPES:
        setattr(cupy, name, getattr(np, name))
    cupy.add.at = _add_at
    cupy.ndarray, cupy.asarray, cupy.asnumpy, cupy.ElementwiseKernel = ndarray, asarray, asnumpy, ElementwiseKernel
    pool = SimpleNamespace(
        used_bytes=lambda: machine.used[machine.current],
        total_bytes=lambda: machine.used[machine.current] + 512,
        get_limit=lambda: machine.limit.get(machine.current, 0),
        set_limit=_set_limit,
    )
    cupy.get_default_memory_pool = lambda: pool
    cupy._core = SimpleNamespace(_routines_linalg=SimpleNamespace(
        COMPUTE_TYPE_DEFAULT=1, COMPUTE_TYPE_TF32=7,
        get_compute_type=lambda dtype: 7 if machine.tf32 else 1,
        set_compute_type=lambda dtype, kind: setattr(machine, "tf32", kind == 7),
    ))  # fmt: skip
    runtime = SimpleNamespace(
        getDeviceCount=_device_count, CUDARuntimeError=CUDARuntimeError,
        getDevice=lambda: machine.current, setDevice=lambda index: setattr(machine.thread, "current", index),
        memGetInfo=lambda: (machine.memory - machine.used[machine.current], machine.memory),
        driverGetVersion=lambda: machine.driver, runtimeGetVersion=lambda: 12090,
    )  # fmt: skip
    cupy.cuda = SimpleNamespace(
        Device=Device, runtime=runtime, cublas=None, nvrtc=SimpleNamespace(getVersion=lambda: (12, 9)),
        alloc_pinned_memory=lambda size: bytearray(b"\xab" * size),  # uninitialised memory is not 0
    )  # fmt: skip
    return cupy


def _add_at(target, index, values):
    machine.note("launch", "add.at")
    np.add.at(target.host, target._wrapped(index), inner(values))


def _set_limit(size=None, fraction=None):
    machine.limit[machine.current] = size if fraction is None else int(fraction * machine.memory)


def _device_count():
    if machine.devices is None:
        raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
    if not machine.devices:
        raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    return machine.devices


@contextmanager
def stand_in_cupy(monkeypatch, devices=1, **properties):
    """`import cupy` finds the stand-in within this block; its `machine` counts. `devices=None`: there is no driver."""
    from tinygrad_gru.backend import select

    global machine
    before = globals().get("machine")
    with monkeypatch.context() as patch:
        machine = Machine(devices, **properties)
        cupy = make_cupy()
        cupy.machine = machine
        patch.setitem(sys.modules, "cupy", cupy)
        add_cuda(cupy, patch)
        patch.setattr("importlib.metadata.distributions", list)
        select._gpus.clear()
        try:
            yield cupy
        finally:
            select._gpus.clear()
            forget_cuda()
            machine = before
