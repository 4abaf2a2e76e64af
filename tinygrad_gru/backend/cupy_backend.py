"""CuPy: the same arrays on a CUDA GPU. Imported only when somebody asks for it."""

from __future__ import annotations

from typing import Any

from .base import Backend, BackendError
from .places import check_bounds

INSTALL = "install exactly one of `pip install cupy-cuda12x` or `pip install cupy-cuda13x`, to match the driver"


class CuPyBackend(Backend):
    def __init__(self, index: int = 0):
        cupy = _import_cupy()
        count = _device_count(cupy)
        if not 0 <= index < count:
            raise BackendError(f"device 'cupy:{index}' was asked for, but this machine has {count} CUDA device(s)")
        super().__init__("cupy" if index == 0 else f"cupy:{index}", cupy, cupy.cuda.Device(index))

    def asarray(self, value: Any, dtype: Any = None) -> Any:
        with self.device:
            return self.xp.asarray(value, dtype=dtype)

    def to_host(self, array: Any) -> Any:
        return self.xp.asnumpy(array)

    def copy(self, array: Any) -> Any:
        with self.device:
            return array.copy()

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        with self.device:
            return self.xp.zeros(shape, dtype=dtype)

    def arange(self, n: int) -> Any:
        with self.device:
            return self.xp.arange(n)

    def pick(self, array: Any, index: Any) -> Any:
        check_bounds(self.xp, index, array.shape)  # CuPy itself would wrap around in silence
        return array[index]

    def scatter_add(self, target: Any, index: Any, values: Any) -> None:
        check_bounds(self.xp, index, target.shape)
        self.xp.add.at(target, index, values)

    def random(self, seed: int, position: int) -> Any:
        # A plain sum of the two would let neighbouring seeds share draws; the odd constant keeps them apart.
        mixed = (seed * 0x9E3779B97F4A7C15 + position) % 2**63
        return self.xp.random.Generator(self.xp.random.Philox4x3210(mixed))

    def synchronize(self) -> None:
        self.device.synchronize()


def _import_cupy() -> Any:
    import importlib.metadata  # slow to import, and only needed here

    wheels = sorted(
        {
            d.metadata["Name"]
            for d in importlib.metadata.distributions()
            if (d.metadata["Name"] or "").startswith("cupy")
        }
    )
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
        raise BackendError(f"the backend 'cupy' was asked for, but CuPy is not installed: {INSTALL}") from error
    return cupy


def _device_count(cupy: Any) -> int:
    try:
        return cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(
            f"the backend 'cupy' was asked for, but CUDA finds no usable GPU or driver here ({error}); "
            "look at `nvidia-smi`, or use the backend 'numpy'"
        ) from error
