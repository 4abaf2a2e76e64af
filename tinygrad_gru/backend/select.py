"""Selection of a backend: by name, by array, or the default."""

from __future__ import annotations

import os
from contextlib import suppress
from contextvars import ContextVar, Token
from threading import Lock
from typing import Any

import numpy as np

from ..hints import did_you_mean
from .base import Backend, BackendError
from .cuda.backend import CuPyBackend
from .cuda.device import is_on_cuda
from .numpy import NumPyBackend

NUMPY = NumPyBackend()
_default: ContextVar[Backend | None] = ContextVar("backend", default=None)
ENVIRONMENT_VARIABLE = "TINYGRAD_GRU_BACKEND"


#: The backends of GPUs by index, one for all threads, created on first use.
_gpus: dict[int, CuPyBackend] = {}
_lock = Lock()


def _cupy(index: int) -> CuPyBackend:
    if index not in _gpus:
        with _lock:
            if index not in _gpus:
                _gpus[index] = CuPyBackend(index)
    return _gpus[index]


def resolve(device: str | Backend | None) -> Backend:
    """The backend of that name: 'numpy' (or 'cpu'), 'cupy' (or 'cuda'), 'cupy:1'; None means the default.

    Raises BackendError for an unknown name, and where CuPy or a GPU is missing, with what to install.
    """
    if device is None:
        return current()
    if isinstance(device, Backend):
        return device
    name, _, index = str(device).partition(":")
    if name in ("numpy", "cpu") and not index:
        return NUMPY
    if name in ("cupy", "cuda") and (not index or index.isdigit()):
        return _cupy(int(index or 0))
    known = ("numpy", "cupy", "cuda")
    hint = "" if name in known else did_you_mean(name, known)
    raise BackendError(f"unknown backend {device!r}{hint}: expected 'numpy' or 'cupy' (or 'cupy:1' for the second GPU)")


def current() -> Backend:
    """The default backend, for new values: that of `use`, else that of the environment variable, else NumPy."""
    selected = _default.get()
    if selected is not None:
        return selected
    backend = resolve(os.environ.get(ENVIRONMENT_VARIABLE) or "numpy")
    backend.make_current()
    return backend


class use:  # noqa: N801  (reads as a verb: `use("cupy")`)
    """Make a backend the default: `use("cupy")` from here on, `with use("cupy"):` for a block.

    It applies to this thread; a new one starts with the environment variable's, or NumPy. With several GPUs it also
    selects this thread's current one.

    >>> with use("numpy"):
    ...     Tensor([1.0]).device
    'numpy'
    """

    def __init__(self, device: str | Backend):
        backend = resolve(device)
        self._token: Token = _default.set(backend)
        self._restore = backend.make_current()

    def __enter__(self) -> Backend:
        return current()

    def __exit__(self, *_: object) -> None:
        self._restore()
        _default.reset(self._token)


def available() -> list[str]:
    """Names of the backends that work on this machine."""
    names = ["numpy"]
    with suppress(BackendError):
        names.append(resolve("cupy").name)
    return names


def backend_of(array: Any) -> Backend:
    """The backend of an array; that of host scalars and lists is NumPy.

    An array type of other code gives its backend as the attribute `__backend__`.
    """
    if type(array) is np.ndarray:
        return NUMPY
    if is_on_cuda(array):
        return _cupy(array.device.id)
    if hasattr(array, "__backend__"):
        return array.__backend__
    if hasattr(array, "__array_namespace__") and not isinstance(array, (np.ndarray, np.generic)):
        return Backend(
            array.__array_namespace__().__name__, array.__array_namespace__(), getattr(array, "device", None)
        )
    return NUMPY


def move(array: Any, device: str | Backend | None) -> Any:
    """The array on another backend; the array itself if it is there already."""
    target, source = resolve(device), backend_of(array)
    if target.name == source.name:
        return array
    return target.asarray(array if target.owns(array) else source.to_host(array))
