"""Faults: typical ways in which a rule is wrong, each as a change to a right one.

A fault sees one call of a rule and gives the wrong result in its place. It must work on whatever rules work on: arrays,
Tensors, and the symbols of a tracer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from .. import ops
from ..backend import dtype_name, is_floating
from ..cotangents import Sparse
from ..ops.op import unwrap
from ..scan.tracing.traced_array import TracedArray
from ..tensor import Tensor


@dataclass(frozen=True)
class Call:
    """One call of a rule: the right rule, which takes changes by name, and what it was called with."""

    right: Callable[..., Any]
    g: Any
    kept: dict[str, Any]
    shape: tuple[int, ...]  # of the input
    memory: dict[Any, Any] = field(default_factory=dict)  # of the fault, from call to call

    @property
    def form(self) -> str:
        """In which form the rule runs."""
        return (
            "traced" if isinstance(unwrap(self.g), TracedArray) else "recorded" if isinstance(self.g, Tensor) else "raw"
        )

    def altered(self, change: Callable[[Any], Any]) -> Any:
        """The right result, changed; of a sparse one each piece."""
        result = self.right()
        if isinstance(result, Sparse):
            pieces = [(place, change(value)) for place, value in result.pieces]
            return Sparse(result.shape, pieces, result.assemble, result.base)
        return change(result)

    def elsewhere(self, random: np.random.Generator) -> Call:
        """The same call with other numbers in the arrays that the rule keeps."""

        def moved(value: Any) -> Any:
            if not isinstance(value, np.ndarray) or not is_floating(value.dtype):
                return value
            return (value * random.uniform(0.3, 3.0, value.shape)).astype(value.dtype)

        kept = {name: _each(value, moved) for name, value in self.kept.items()}
        return replace(self, right=partial(self.right, **kept), kept=kept)

    def scaled(self, factor: float) -> Any:
        return self.altered(lambda r: r * factor)

    def scaled_if(self, condition: bool, factor: float) -> Any:
        return self.scaled(factor) if condition else self.right()


@dataclass
class Profile:
    """What the calls of a rule look like while its op is checked."""

    calls: int = 0
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    dtypes: set[str] = field(default_factory=set)
    forms: set[str] = field(default_factory=set)
    layouts: set[str] = field(default_factory=set)  # of g
    kept_layouts: set[str] = field(default_factory=set)
    kept: dict[str, str] = field(default_factory=dict)  # arrays that the rule keeps, and whether they are "float"
    broadcast: bool = False  # whether a result had to be summed to its input's shape
    matrices: bool = False
    several: bool = False  # whether a result had more than one element

    def see(self, call: Call, result: Any) -> None:
        self.calls += 1
        shape = tuple(call.g.shape)
        if shape not in self.shapes and 0 not in shape:
            self.shapes.append(shape)
        self.dtypes.add(dtype_name(unwrap(call.g).dtype))
        self.forms.add(call.form)
        self.layouts.add(layout_of(call.g))
        for name, value in call.kept.items():
            for part in value if isinstance(value, tuple) else (value,):
                if hasattr(part, "dtype") and not isinstance(part, (float, np.generic)):
                    self.kept[name] = "float" if is_floating(part.dtype) else "other"
                    self.kept_layouts.add(layout_of(part))
        if not isinstance(result, Sparse):
            self.broadcast |= tuple(result.shape) != call.shape
            self.matrices |= len(result.shape) > 1
            self.several |= any(n > 1 for n in result.shape)


def layout_of(array: Any) -> str:
    """In a word how an array lies in memory; only NumPy's are looked at."""
    if not isinstance(array, np.ndarray) or array.flags.c_contiguous:
        return "contiguous"
    if any(s == 0 for s, n in zip(array.strides, array.shape) if n > 1):
        return "stride 0"
    return "negative strides" if any(s < 0 for s in array.strides) else "not contiguous"


@dataclass(frozen=True)
class Fault:
    """A fault: what it is called, the wrong result of a call, and whether it changes traced calls alone."""

    name: str
    wrong: Callable[[Call], Any]
    traced: bool = False


def faults(profile: Profile) -> Iterator[Fault]:
    """The faults that can show in a rule whose calls look like that."""
    yield Fault("wrong sign", lambda c: c.right(g=-c.g))
    for factor in (2.0, 1.001, 1.00001):
        yield Fault(f"times {factor:g}", partial(Call.scaled, factor=factor))
    yield Fault("zero", lambda c: c.scaled(0.0))
    yield Fault("not linear in g", lambda c: c.right(g=c.g * c.g))
    yield Fault("every second entry doubled", _every_second)
    if profile.matrices:
        yield Fault("transposed", lambda c: c.altered(_transposed))
    if profile.several:
        yield Fault("reversed", lambda c: c.altered(_reversed))
    if profile.broadcast:
        yield Fault("sum over a broadcast axis missing", _unsummed)
        yield Fault("mean over a broadcast axis", _averaged)
    for name, kind in profile.kept.items():
        yield from _faults_of_kept(name, kind)
    if "recorded" in profile.forms:
        yield Fault("second order: g a constant", lambda c: c.right(g=_constant(c.g)))
        yield Fault("times 1.001 when recorded", lambda c: c.scaled_if(c.form == "recorded", 1.001))
    if "traced" in profile.forms:
        yield Fault("times 1.5 when traced", lambda c: c.scaled_if(c.form == "traced", 1.5), traced=True)
    if len(profile.shapes) > 1:
        first, last = profile.shapes[0], max(profile.shapes[1:], key=np.prod)
        yield Fault(f"right at {first} only", lambda c: c.scaled_if(tuple(c.g.shape) != first, 1.01))
        yield Fault(f"wrong at {last} only", lambda c: c.scaled_if(tuple(c.g.shape) == last, 1.01))
    for dtype, factor in (("float64", 1.001), ("float32", 1.001), ("float16", 1.1), ("bfloat16", 1.5)):
        if dtype in profile.dtypes:
            yield Fault(f"times {factor} in {dtype}", partial(_wrong_in, dtype=dtype, factor=factor))
    if profile.dtypes & {"float32", "float16"}:
        yield Fault("widens to float64", _widened)
    for layout in sorted(profile.layouts - {"contiguous"}):
        yield Fault(f"wrong for a cotangent: {layout}", _if_laid_out(lambda c: [c.g], layout))
    for layout in sorted(profile.kept_layouts - {"contiguous"}):
        yield Fault(f"wrong for what it keeps: {layout}", _if_laid_out(_kept_parts, layout))
    if "raw" in profile.forms:
        yield Fault("writes into g", _writes_into_g)


def _faults_of_kept(name: str, kind: str) -> Iterator[Fault]:
    def change(function: Callable[[Any], Any]) -> Callable[[Call], Any]:
        return lambda c: c.right(**{name: _each(c.kept[name], function)})

    yield Fault(f"{name} in another order", change(_reversed))
    yield Fault(f"{name} of the first call", lambda c: _stale(c, name))
    if kind == "float":
        yield Fault(f"{name} taken for 0 (a term dropped)", change(lambda v: v * 0.0))
        yield Fault(f"{name} taken for 1 (a factor dropped)", change(lambda v: v * 0.0 + 1.0))
        yield Fault(f"{name} off by 1 %", change(lambda v: v * 1.01))
        yield Fault(f"second order: {name} a constant", change(_constant))


def _each(value: Any, function: Callable[[Any], Any]) -> Any:
    return tuple(function(part) for part in value) if isinstance(value, tuple) else function(value)


def _is(g: Any, dtype: str) -> bool:
    return dtype_name(unwrap(g).dtype) == dtype


def _kept_parts(call: Call) -> list[Any]:
    return [part for value in call.kept.values() for part in (value if isinstance(value, tuple) else (value,))]


def _if_laid_out(parts: Callable[[Call], list[Any]], layout: str) -> Callable[[Call], Any]:
    return lambda c: c.scaled_if(any(layout_of(part) == layout for part in parts(c)), 1.01)


def _wrong_in(call: Call, dtype: str, factor: float) -> Any:
    return call.scaled_if(_is(call.g, dtype), factor)


def _constant(value: Any) -> Any:
    return Tensor.from_node(value.data, None) if isinstance(value, Tensor) else value


def _transposed(x: Any) -> Any:
    return ops.reshape(ops.matrix_transpose(x), shape=tuple(x.shape)) if len(x.shape) > 1 else x


def _reversed(x: Any) -> Any:
    """In the opposite order along the first axis that is longer than 1."""
    for axis, n in enumerate(getattr(x, "shape", ())):
        if n > 1:
            backwards = (*(slice(None),) * axis, slice(None, None, -1), ...)
            return x[backwards]
    return x


def _every_second(call: Call) -> Any:
    def doubled(r: Any) -> Any:
        factors = 1 + np.arange(np.prod(r.shape, dtype=int)).reshape(r.shape) % 2
        return r * factors.astype(np.float64 if _is(r, "float64") else np.float16)

    return call.altered(doubled) if any(n > 1 for n in call.shape) else call.right()


def _broadcast_axes(result: Any, shape: tuple[int, ...]) -> list[int]:
    extra = len(result.shape) - len(shape)
    return [a for a, n in enumerate(result.shape) if a < extra or (shape[a - extra] == 1 and n != 1)]


def _unsummed(call: Call) -> Any:
    def first(r: Any) -> Any:
        axes = _broadcast_axes(r, call.shape)
        return r[tuple(slice(0, 1) if a in axes else slice(None) for a in range(len(r.shape)))] if axes else r

    return call.altered(first)


def _averaged(call: Call) -> Any:
    def mean(r: Any) -> Any:
        lengths = [r.shape[a] for a in _broadcast_axes(r, call.shape)]
        return r * (1.0 / max(1, int(np.prod(lengths)))) if lengths else r

    return call.altered(mean)


def _widened(call: Call) -> Any:
    def wide(r: Any) -> Any:
        return r if isinstance(unwrap(r), TracedArray) else ops.astype(r, dtype="float64")

    return call.altered(wide)


def _writes_into_g(call: Call) -> Any:
    if not isinstance(call.g, np.ndarray) or not call.g.flags.writeable:
        return call.right()
    result = call.altered(np.array)
    call.g[...] = 1.5
    return result


def _stale(call: Call, name: str) -> Any:
    def first(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        return call.memory.setdefault((value.shape, value.dtype), np.array(value))

    return call.right(**{name: _each(call.kept[name], first)}) if call.form == "raw" else call.right()
