"""Arguments of ops as people type them: settings by PyTorch's names, misspelt ones, and lists for arrays.

And the errors for arguments with which an op fails, and for what its rules return.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from inspect import signature, unwrap
from numbers import Number
from typing import Any

import numpy as np

from .backend import astype, backend_of, is_floating, with_memory_report
from .closures import definition_line
from .hints import did_you_mean
from .tape import Node, Variable

#: PyTorch's and NumPy's names of settings, by ours.
_ALIASES = {"dim": "axis", "keepdim": "keepdims", "ddof": "correction"}
#: Settings of NumPy's functions that no op has, and what to write instead.
_FOREIGN = {
    "out": "an op gives a new array: write t[...] = result, or t.data[...] = result.data",
    "where": "write ops.where(condition, a, b) around it",
    "dtype": "write x.astype(dtype) before or after it",
    "initial": "write the combination with that value after it",
    "from_logits": "leave it out, losses take logits: no softmax or sigmoid before them",
    "unbiased": "write correction=1 for True, correction=0 for False",
    **dict.fromkeys(["keepdim", "keepdims"], "write ops.expand_dims(…, axis) of the result"),
    "ord": "of another norm write the formula, such as abs(x).sum(axis)",
}
#: What PyTorch's users must say when they use its names, since its function does something else.
_SAY = {
    "correction": "PyTorch's default is correction=1, here and in NumPy it is 0: say which",
    "return_indices": "PyTorch's gives (values, indices) along dim: write axis=… for the values alone, or "
    "return_indices=True for both",
    "sections": "PyTorch's split takes the length of each part, this one the number of parts, or where they end: write "
    "axis=…",
}


def respelt(function: Callable, settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a call, with `others` by the names that they have here; TypeError for one that is unknown."""
    name, known = function.__name__, signature(function).parameters
    result = dict(settings)
    for other, value in others.items():
        alias = _ALIASES.get(other, "")
        if alias not in known:
            hint = f": {_FOREIGN[other]}" if other in _FOREIGN else did_you_mean(other, known)
            accepted = [n for n, p in known.items() if n in settings or p.default is not p.empty]
            raise TypeError(f"{name}: there is no setting {other!r}{hint}; it has {', '.join(accepted)}")
        if alias in settings and settings[alias] is not known[alias].default:
            raise TypeError(f"{name}: {other} is {alias}, which was given, too")
        for setting in _SAY.keys() & known.keys() - settings.keys() - {alias}:
            raise TypeError(f"{name}: {_SAY[setting]}")
        result[alias] = value
    return result


def respelling(function: Callable) -> Any:
    """Decorator for a function of ops: its settings, too, have PyTorch's names, and a list of numbers is an array.

    The latter only as first argument, and not where that is `arrays`.
    """
    code = unwrap(function).__code__  # `signature` would take as long as the rest of the import
    names = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    takes_arrays, gives_pairs = "arrays" in names, "return_indices" in names

    @wraps(function)
    def call(*inputs: Any, **settings: Any) -> Any:
        if not names.issuperset(settings):
            ours = {name: value for name, value in settings.items() if name in names}
            settings = respelt(function, ours, {name: settings[name] for name in settings if name not in names})
        if gives_pairs and len(inputs) == 2 and "return_indices" not in settings:  # `x.max(1)[1]` is indices there
            raise TypeError(f"{function.__name__}: {_SAY['return_indices']}")
        if inputs and isinstance(inputs[0], (list, tuple)) and not takes_arrays:
            inputs = (*arrays_of(inputs[:1]), *inputs[1:])
        try:
            return function(*inputs, **settings)
        except (AttributeError, TypeError) as error:
            if wrong := _wrong_input(inputs[:1], error):
                raise TypeError(f"{function.__name__}: {wrong}") from error
            raise

    return call


def any_list(inputs: Iterable[Any]) -> bool:
    """Whether an input is a list of numbers, for which `arrays_of` has an array."""
    return any(isinstance(x, (list, tuple)) and all(isinstance(part, Number) for part in _parts(x)) for x in inputs)


def arrays_of(inputs: Iterable[Any]) -> tuple:
    """The inputs of an op with lists of numbers as arrays: floats in the dtype of the arrays beside them."""
    inputs = tuple(inputs)
    if not any(isinstance(x, (list, tuple)) for x in inputs):
        return inputs
    beside = [x._data if isinstance(x, Variable) else x for x in inputs]
    beside = [x for x in beside if hasattr(x, "dtype") and not isinstance(x, np.generic)]
    floating = [x.dtype for x in beside if is_floating(x.dtype)]

    def array_of(x: Any) -> Any:
        if not isinstance(x, (list, tuple)):
            return x
        parts = list(_parts(x))
        if any(isinstance(part, Variable) for part in parts):
            raise TypeError("a list of Tensors is not a Tensor: write ops.stack([…])")
        if not all(isinstance(part, Number) for part in parts):
            return x
        array = backend_of(beside[0]).asarray(np.asarray(x)) if beside else np.asarray(x)
        return astype(array, floating[0]) if floating and is_floating(array.dtype) else array

    return tuple(map(array_of, inputs))


def _parts(x: Any) -> Iterator[Any]:
    if isinstance(x, (list, tuple)):
        for part in x:
            yield from _parts(part)
    else:
        yield x


# -- errors ------------------------------------------------------------------------------------------------------------

#: The errors to which the name and the inputs of the op are added.
ERROR_TYPES = (ValueError, TypeError, IndexError, AttributeError)


def add_op_context(op: Any, error: Exception, inputs: tuple) -> Exception:
    """The error with the name and inputs of the op, or, if memory has run out, with a memory report."""
    if isinstance(error, MemoryError):
        return with_memory_report(error)
    if wrong := _wrong_input(inputs, error):
        return TypeError(f"{op.__name__}: {wrong}")
    error_type = next(base for base in ERROR_TYPES if isinstance(error, base))
    described = ", ".join(f"{tuple(x.shape)} {x.dtype}" if hasattr(x, "dtype") else type(x).__name__ for x in inputs)
    backends = {backend.name: backend for backend in (backend_of(x) for x in inputs if hasattr(x, "dtype"))}
    if len(backends) > 1:
        other = next((name for name in sorted(backends) if name.startswith("cupy")), "numpy")
        hint = f"; the inputs are on {' and '.join(sorted(backends))}: move one with .to({other!r})"
    else:
        hint = "".join(backend.device_hint() for backend in backends.values())
    if "to Python scalars" in str(error):
        hint += "; functions of `math` take a number: for math.fabs(x) write xp_of(x).abs(x)"
    for x in inputs:
        library = type(x).__module__.partition(".")[0]
        if library in ("torch", "tensorflow", "keras", "mlx"):
            hint = f"; for a tensor of {library} write Tensor(x)"
    return error_type(f"{op.__name__}: {error} (inputs: {described}{hint})")


def _wrong_input(inputs: Iterable[Any], error: Exception) -> str:
    """What is wrong with the input that is no array and that the error is about, or nothing."""
    is_missing = isinstance(error, AttributeError)  # of an attribute of arrays, which a number has not, either
    for position, x in enumerate(inputs if is_missing or isinstance(error, TypeError) else ()):
        may_be = hasattr(x, "dtype") or isinstance(x, (list, tuple)) or (isinstance(x, Number) and not is_missing)
        if not may_be and repr(type(x).__name__) in str(error):
            got = f"the number {x!r}" if isinstance(x, Number) else "None" if x is None else f"a {type(x).__name__}"
            return f"input {position} must be a Tensor or an array, got {got}"
    return ""


def misfit(op: Any, name: str, cotangent: Any, node: Node) -> Exception:
    """The error for a rule that returned something else than a cotangent of its input: which rule, and where it is."""
    line = definition_line((op.rules or {}).get(name))
    where = f" ({line})" if line else ""
    if not hasattr(cotangent, "shape"):
        what = "None" if cotangent is None else f"a {type(cotangent).__name__}"
        hint = f"; `{name}=None` declares that {name} has no gradient" if cotangent is None else ""
        return TypeError(
            f"{op.__name__}: the rule of {name} returned {what}, expected an array of shape {node.shape}, that of "
            f"{name}{where}{hint}"
        )
    return ValueError(
        f"{op.__name__}: the rule of {name} returned shape {tuple(cotangent.shape)}, expected {node.shape}, that of "
        f"{name}, or one to which it is broadcast{where}"
    )


def no_complex(op: Any) -> None:
    """Raise the error for an input of complex numbers, whose gradients no rule would get right."""
    raise TypeError(
        f"{op.__name__}: an input has complex numbers: expected real ones; give the real and imaginary parts, z.real "
        "and z.imag, as two tensors"
    )


def no_rules(op: Any) -> None:
    """Raise the error for an op that is to be differentiated before it has rules."""
    raise TypeError(
        f"{op.__name__} has no rules yet, so it cannot be differentiated: give one for each input with "
        f"{op.__name__}.vjp(...), or None to declare that an input has no gradient"
    )
