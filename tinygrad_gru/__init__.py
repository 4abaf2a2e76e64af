"""tinygrad_gru: a mini deep-learning framework to read, and to use.

>>> from tinygrad_gru import Tensor
>>> x = Tensor(3.0, requires_grad=True)
>>> y = x * x.sin()
>>> y.backward()
>>> x.grad  # sin 3 + 3 cos 3
Tensor(-2.8288574, dtype=float32)
"""

from __future__ import annotations

from . import nn, ops, optim
from .backend import (
    BackendError,
    OutOfMemoryError,
    manual_seed,
    memory_limit,
    memory_report,
    random_state,
    set_random_state,
    tf32,
    tf32_allowed,
    use,
)
from .contexts import enable_grad, no_grad
from .debug import AnomalyError, detect_anomaly, sanitize
from .hints import PACKAGE, missing_name
from .ops import op
from .scan import compiling, explain, scan
from .tape import TapeError, tape
from .tensor import Tensor
from .transforms import checkpoint, grad, hessian, hvp, jacobian, jvp, remat, vjp
from .version import __version__

__all__ = [
    "AnomalyError", "BackendError", "OutOfMemoryError", "TapeError", "Tensor", "__version__", "checkpoint",
    "compiling", "detect_anomaly", "enable_grad", "explain", "grad", "hessian", "hvp", "jacobian", "jvp",
    "manual_seed", "memory_limit", "memory_report", "nn", "no_grad", "op", "ops", "optim", "random_state", "remat",
    "sanitize", "scan", "set_random_state", "tape", "tf32", "tf32_allowed", "use", "vjp",
]  # fmt: skip


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, PACKAGE, __all__)
