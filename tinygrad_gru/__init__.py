"""tinygrad_gru: a mini deep-learning framework to read, and to use.

>>> from tinygrad_gru import Tensor
>>> x = Tensor(3.0, requires_grad=True)
>>> y = x * x.sin()
>>> y.backward()
>>> x.grad  # sin 3 + 3 cos 3
Tensor(-2.8288574, dtype=float32)
"""

from __future__ import annotations

from importlib import import_module

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
from .hints import OPS, PACKAGE, missing_name, numpys
from .ops import op
from .scan import NotCompiledError, NotCompiledWarning, compiling, explain, scan
from .tape import TapeError, tape
from .tensor import Tensor
from .tensor.creation import (
    arange,
    empty,
    eye,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    rand,
    randint,
    randn,
    tensor,
    zeros,
    zeros_like,
)
from .transforms import checkpoint, grad, hessian, hvp, jacobian, jvp, remat, vjp
from .version import __version__

__all__ = [
    "AnomalyError", "BackendError", "NotCompiledError", "NotCompiledWarning", "OutOfMemoryError", "TapeError", "Tensor",
    "__version__", "arange", "checkpoint", "compiling", "detect_anomaly", "empty", "enable_grad", "explain", "eye",
    "full", "full_like", "grad", "hessian", "hvp", "jacobian", "jvp", "linspace", "load", "manual_seed", "memory_limit",
    "memory_report", "nn", "no_grad", "ones", "ones_like", "op", "ops", "optim", "rand", "randint", "randn",
    "random_state", "remat", "sanitize", "save", "scan", "set_random_state", "tape", "tensor", "tf32", "tf32_allowed",
    "use", "vjp", "zeros", "zeros_like",
]  # fmt: skip

#: What is imported when it is first named: packages, and names of modules.
_LAZY = dict.fromkeys(("data", "debug", "interop", "io", "parallel", "show", "testing", "train"), "") | {
    "load": "tensor.saving",
    "save": "tensor.saving",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        elsewhere = {n: f"{m}.{n}" for m, names in (("optim", optim), ("nn", nn), ("ops", ops)) for n in names.__all__}
        raise missing_name(__name__, name, numpys(name) | elsewhere | OPS | PACKAGE, (*__all__, *_LAZY))
    module = import_module(f".{_LAZY[name] or name}", __name__)
    return getattr(module, name) if _LAZY[name] else module


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
