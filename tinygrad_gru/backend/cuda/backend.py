"""The CuPy backend: arrays on a CUDA GPU. CuPy is imported when the backend is first requested."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

from ..base import Backend, BackendError, byte_range
from ..dtypes import bfloat16
from ..events import TO_HOST, WAIT, record_event, record_launches, record_upload
from ..indexing import index_parts, is_mask
from ..memory import IDLE_POOL, MemoryReport, with_memory_report
from .index_checks import DeferredIndexChecks, checks_are_immediate
from .random import Draw, draw_kernel

INSTALL = (
    "install exactly one of `pip install 'tinygrad_gru[cuda13]'` or `pip install 'tinygrad_gru[cuda12]'`, to match the "
    "driver"
)
TF32_VARIABLE = "TINYGRAD_GRU_TF32"
#: Compute capability of the first GPUs that have TF32 (Ampere).
_FIRST_WITH_TF32 = 80


class _CurrentDevice:
    """A block in which a GPU is the current one. An out-of-memory error in it lists the largest arrays."""

    def __init__(self, device: Any):
        self.device = device

    def __enter__(self) -> None:
        self.device.__enter__()

    def __exit__(self, error_type: Any, error: Any, trace: Any) -> None:
        self.device.__exit__(error_type, error, trace)
        if isinstance(error, MemoryError):
            raise with_memory_report(error) from error


def _launches(method: Callable) -> Callable:
    """A method of the backend that runs with its GPU as the current one and records a launch."""

    @wraps(method)
    def run(self: CuPyBackend, *arguments: Any) -> Any:
        record_launches(1, method.__name__)
        with self.as_current():
            return method(self, *arguments)

    return run


class CuPyBackend(Backend):
    """CuPy arrays on the GPU with that index.

    CuPy's functions, and so formulas, run on the thread's current GPU; the methods here run on this GPU.
    """

    def __init__(self, index: int = 0):
        cupy = _import_cupy()
        count = _device_count(cupy)  # first: without a driver or a GPU no library of CUDA would help
        _check_libraries(cupy)
        if not 0 <= index < count:
            raise BackendError(f"device 'cupy:{index}' was requested, but this machine has {count} CUDA device(s)")
        super().__init__("cupy" if index == 0 else f"cupy:{index}", cupy, cupy.cuda.Device(index))
        self.index = index
        try:
            with self.as_current():
                self._index_checks = DeferredIndexChecks(cupy)  # the first use of this GPU
        except (cupy.cuda.runtime.CUDARuntimeError, MemoryError) as error:
            raise BackendError(_cuda_problem(cupy, self.name, error)) from error
        self._draw_kernel = draw_kernel(cupy)
        if os.environ.get(TF32_VARIABLE, "") not in ("", "0"):
            self.allow_tf32(True)

    def as_current(self) -> _CurrentDevice:
        """A context manager in which this GPU is the current one."""
        # A new one each time: it remembers which device was current before, in its thread.
        return _CurrentDevice(self.xp.cuda.Device(self.index))

    def make_current(self) -> Callable[[], None]:
        runtime = self.xp.cuda.runtime
        before = runtime.getDevice()
        runtime.setDevice(self.index)
        return lambda: runtime.setDevice(before)

    def device_hint(self) -> str:
        if self.xp.cuda.runtime.getDevice() == self.index:
            return ""
        return f"; the current GPU is another: say use({self.name!r}) or `with use({self.name!r}):`"

    # -- arrays ------------------------------------------------------------------------------------------------------

    def dtype(self, name: str) -> Any:
        return bfloat16() if name == "bfloat16" else super().dtype(name)

    def owns(self, value: Any) -> bool:
        return isinstance(value, self.xp.ndarray)

    def asarray(self, value: Any, dtype: Any = None) -> Any:
        """As in `Backend`. CuPy copies host arrays to pinned memory first, so that the host does not wait and may
        overwrite `value` at once."""
        if self.owns(value):
            if dtype is None and value.device.id == self.index:
                return value
        else:
            record_upload(value)
        with self.as_current():
            return self.xp.asarray(value, dtype=dtype)

    def to_host(self, array: Any) -> Any:
        record_event(TO_HOST, "to_host", nbytes=array.nbytes)
        with self.as_current(), self._index_checks.raise_after():
            return self.xp.asnumpy(array)

    @_launches
    def copy(self, array: Any) -> Any:
        return array.copy()

    @_launches
    def astype(self, array: Any, dtype: Any) -> Any:
        return array.astype(dtype)

    def memory_range(self, array: Any) -> tuple[int, int]:
        return byte_range(array.data.ptr, array)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        with self.as_current():
            return self.xp.empty(shape, dtype=dtype)

    @_launches
    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.xp.zeros(shape, dtype=dtype)

    @_launches
    def arange(self, n: int) -> Any:
        return self.xp.arange(n)

    def function_with_out(self, function: str) -> Callable[..., Any]:
        return getattr(self.xp, function)

    # -- indices -----------------------------------------------------------------------------------------------------

    def check_within(self, index: Any, low: int, high: int, message: str) -> None:
        if low >= high or checks_are_immediate():
            record_event(WAIT, "check of an index", count=2)
            with self.as_current():
                super().check_within(index, low, high, message)
        else:
            with self.as_current():
                self._index_checks.check(index, low, high, message)

    def check_index(self, index: Any, shape: tuple[int, ...]) -> None:
        super().check_index(index, shape)  # CuPy itself would wrap around silently
        if any(map(is_mask, index_parts(index))):
            record_event(WAIT, "counting of a mask")  # which gives the size of the result

    @_launches
    def advanced_index(self, array: Any, index: Any) -> Any:
        self.check_index(index, array.shape)
        return array[index]

    @_launches
    def scatter_add(self, target: Any, index: Any, values: Any) -> None:
        self.check_index(index, target.shape)
        self.xp.add.at(target, index, values)

    # -- random numbers ----------------------------------------------------------------------------------------------

    def random(self, seed: int, position: int) -> Draw:
        return Draw(self, self._draw_kernel, seed, position)

    def synchronize(self) -> None:
        record_event(WAIT, "synchronize")
        with self.as_current(), self._index_checks.raise_after():
            self.device.synchronize()

    # -- settings ----------------------------------------------------------------------------------------------------

    def memory(self) -> MemoryReport:
        pool = self.xp.get_default_memory_pool()
        with self.as_current():
            free, total = self.xp.cuda.runtime.memGetInfo()
            used, held, limit = pool.used_bytes(), pool.total_bytes(), pool.get_limit() or None
            return MemoryReport(self.name, used, held, free, total, limit, IDLE_POOL.bytes)

    def limit_memory(self, limit: int | float | None) -> None:
        pool = self.xp.get_default_memory_pool()
        with self.as_current():
            if isinstance(limit, float):
                pool.set_limit(fraction=limit)
            else:
                pool.set_limit(size=limit or 0)

    @property
    def allows_tf32(self) -> bool:
        products = self.xp._core._routines_linalg
        with self.as_current():
            return products.get_compute_type(self.xp.float32) == products.COMPUTE_TYPE_TF32

    def allow_tf32(self, on: bool) -> None:
        capability = self.device.compute_capability
        if on and int(capability) < _FIRST_WITH_TF32:
            raise BackendError(
                f"TF32 needs a GPU of compute capability 8.0 (Ampere) or later, and {self.name!r} has "
                f"{capability[:-1]}.{capability[-1]}"
            )
        products = self.xp._core._routines_linalg
        with self.as_current():
            products.set_compute_type(
                self.xp.float32, products.COMPUTE_TYPE_TF32 if on else products.COMPUTE_TYPE_DEFAULT
            )


def _import_cupy() -> Any:
    wheels = _wheels()
    if len(wheels) > 1:
        raise BackendError(
            f"several CuPy packages are installed and overwrite each other: {', '.join(wheels)}; "
            f"uninstall all of them, then {INSTALL}"
        )
    try:
        import cupy
    except ImportError as error:
        if wheels:
            raise BackendError(f"{wheels[0]} is installed but cannot be imported ({error}); {INSTALL}") from error
        raise BackendError(f"the backend 'cupy' was requested, but CuPy is not installed: {INSTALL}") from error
    if not hasattr(cupy, "ndarray"):
        folder = getattr(cupy, "__file__", None) or next(iter(getattr(cupy, "__path__", [])), "?")
        raise BackendError(
            f"the backend 'cupy' was requested, but what Python imports as cupy is not CuPy: {folder} is found first, "
            "on sys.path. Rename it, or start elsewhere"
        )
    return cupy


def _wheels() -> list[str]:
    """The names of the CuPy packages that are installed."""
    import importlib.metadata  # slow to import, needed only here

    names = {distribution.metadata["Name"] or "" for distribution in importlib.metadata.distributions()}
    return sorted(name for name in names if name.startswith("cupy"))


def _check_libraries(cupy: Any) -> None:
    """Raise BackendError unless the libraries of CUDA that CuPy loads when it first needs them are there."""
    try:
        cupy.cuda.nvrtc.getVersion()
        cupy.cuda.cublas  # noqa: B018
    except (ImportError, RuntimeError) as error:
        wheel = next(iter(_wheels()), "cupy-cuda12x")
        raise BackendError(
            f"CuPy is installed, but not the libraries of CUDA that it needs ({str(error).splitlines()[0]}): "
            f"`pip install '{wheel}[ctk]'` brings them"
        ) from error


def _device_count(cupy: Any) -> int:
    try:
        return cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(_cuda_problem(cupy, "cupy", error)) from error


def _cuda_problem(cupy: Any, name: str, error: Exception) -> str:
    """The message for an error of CUDA at the first use of a GPU: the cause and the remedy."""
    runtime = cupy.cuda.runtime
    problem = f"the backend {name!r} was requested, but "
    if "InsufficientDriver" in str(error):
        has, needs = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        if has:
            return problem + (
                f"the NVIDIA driver is too old: it knows CUDA up to {_version(has)}, and this CuPy was made for "
                f"{_version(needs)}; update the driver, or {INSTALL}"
            )
        return problem + f"there is no NVIDIA driver here ({error}): look at `nvidia-smi`, or use the backend 'numpy'"
    if "NoDevice" in str(error):
        return problem + (
            f"the NVIDIA driver finds no GPU ({error}): look at `nvidia-smi` and at CUDA_VISIBLE_DEVICES, or use the "
            "backend 'numpy'"
        )
    if "DevicesUnavailable" in str(error) or "AlreadyInUse" in str(error):
        return problem + (
            f"the GPU is taken by another process ({error}): `nvidia-smi` shows by which, and whether it lets in more "
            "than one (its compute mode)"
        )
    if "MemoryAllocation" in str(error) or isinstance(error, MemoryError):
        return problem + f"the GPU has no memory left ({error}): `nvidia-smi` shows which processes hold it"
    return problem + f"CUDA finds no usable GPU here ({error}): look at `nvidia-smi`, or use the backend 'numpy'"


def _version(version: int) -> str:
    """A version of CUDA as text: 12.9 for 12090."""
    return f"{version // 1000}.{version % 1000 // 10}"
