"""Which backend: by the name that a user gives, by the array at hand, or the default."""

from __future__ import annotations

import os
from contextlib import suppress
from contextvars import ContextVar, Token
from threading import Lock
from typing import Any

import numpy as np

from .base import Backend, BackendError
from .cuda.backend import CuPyBackend
from .cuda.device import is_on_cuda
from .numpy import NumPyBackend

NUMPY = NumPyBackend()
_chosen: ContextVar[Backend | None] = ContextVar("backend", default=None)
ENVIRONMENT_VARIABLE = "TINYGRAD_GRU_BACKEND"


#: The GPUs that were asked for, by their numbers; there is one object for each, whatever thread asks first.
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
    raise BackendError(f"unknown backend {device!r}: expected 'numpy' or 'cupy' (or 'cupy:1' for the second GPU)")


def current() -> Backend:
    """The backend on which new values are made: that of `use`, else that of the environment variable, else NumPy."""
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    home = resolve(os.environ.get(ENVIRONMENT_VARIABLE) or "numpy")
    home.make_current()
    return home


class use:  # noqa: N801  (reads as a verb: `use("cupy")`)
    """Make a backend the default: `use("cupy")` from here on, `with use("cupy"):` for a block.

    It holds for this thread; a new one begins with the environment variable's, or NumPy. With several GPUs it also says
    on which of them this thread computes.
    """

    def __init__(self, device: str | Backend):
        home = resolve(device)
        self._token: Token = _chosen.set(home)
        self._put_back = home.make_current()

    def __enter__(self) -> Backend:
        return current()

    def __exit__(self, *_: object) -> None:
        self._put_back()
        _chosen.reset(self._token)


def available() -> list[str]:
    """Names of the backends that work on this machine."""
    names = ["numpy"]
    with suppress(BackendError):
        names.append(resolve("cupy").name)
    return names


def backend_of(array: Any) -> Backend:
    """The backend that holds this array; host scalars and lists belong to NumPy.

    An array type of one's own names its backend in `__backend__`.
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
    """The same values on another backend; the array itself if it is there already."""
    target, source = resolve(device), backend_of(array)
    if target.name == source.name:
        return array
    return target.asarray(array if target.owns(array) else source.to_host(array))
