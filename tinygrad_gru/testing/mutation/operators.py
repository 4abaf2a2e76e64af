"""Mutation operators: typical errors of a rule, each as a change to a right rule.

An operator is given one call of a rule and returns a wrong result. It works on all that rules work on: arrays, Tensors,
and Tensors of traced arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ... import ops
from ...backend import dtype_name, is_floating
from ...cotangents import Sparse
from ...ops.op import unwrap
from ...scan.tracing.traced_array import TracedArray
from ...tensor import Tensor


@dataclass(frozen=True)
class Call:
    """One call of a rule: its arguments, and `right`, the rule with them: another g is given by position, and other
    residuals by keyword, for one of them may be called g."""

    right: Callable[..., Any]
    g: Any
    residuals: dict[str, Any]
    shape: tuple[int, ...]  # of the input
    memory: dict[Any, Any] = field(default_factory=dict)  # of the operator, kept between calls

    @property
    def mode(self) -> str:
        """The mode in which the rule runs: executed, recorded or traced."""
        return (
            "traced"
            if isinstance(unwrap(self.g), TracedArray)
            else "recorded"
            if isinstance(self.g, Tensor)
            else "executed"
        )

    def changed(self, change: Callable[[Any], Any]) -> Any:
        """The right result, changed; each piece of a sparse one."""
        result = self.right()
        if isinstance(result, Sparse):
            pieces = [(index, change(value)) for index, value in result.pieces]
            return Sparse(result.shape, pieces, result.assemble, result.base)
        return change(result)

    def with_other_residuals(self, random: np.random.Generator) -> Call:
        """The same call with other values of the residuals."""

        def replaced(value: Any) -> Any:
            if not isinstance(value, np.ndarray) or not is_floating(value.dtype):
                return value
            return (value * random.uniform(0.3, 3.0, value.shape)).astype(value.dtype)

        residuals = {name: _each(value, replaced) for name, value in self.residuals.items()}
        return replace(self, right=partial(self.right, **residuals), residuals=residuals)

    def scaled(self, factor: float) -> Any:
        return self.changed(lambda r: r * factor)

    def scaled_if(self, condition: bool, factor: float) -> Any:
        return self.scaled(factor) if condition else self.right()


@dataclass
class Profile:
    """Properties of the calls of a rule while its op is checked: which operators can show."""

    calls: int = 0
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    dtypes: set[str] = field(default_factory=set)
    modes: set[str] = field(default_factory=set)
    layouts: set[str] = field(default_factory=set)  # of g
    residual_layouts: set[str] = field(default_factory=set)
    residuals: dict[str, str] = field(default_factory=dict)  # names of arrays, each "float" or "other"
    broadcast: bool = False  # whether a result is summed to its input's shape
    matrices: bool = False
    multi_element: bool = False  # whether a result has more than one element

    def add(self, call: Call, result: Any) -> None:
        self.calls += 1
        shape = tuple(call.g.shape)
        if shape not in self.shapes and 0 not in shape:
            self.shapes.append(shape)
        self.dtypes.add(dtype_name(unwrap(call.g).dtype))
        self.modes.add(call.mode)
        self.layouts.add(layout_of(call.g))
        for name, value in call.residuals.items():
            for part in parts_of(value):
                if hasattr(part, "dtype") and not isinstance(part, (float, np.generic)):
                    self.residuals[name] = "float" if is_floating(part.dtype) else "other"
                    self.residual_layouts.add(layout_of(part))
        if not isinstance(result, Sparse):
            self.broadcast |= tuple(result.shape) != call.shape
            self.matrices |= len(result.shape) > 1
            self.multi_element |= any(n > 1 for n in result.shape)


def parts_of(*values: Any) -> list[Any]:
    """The arrays of residuals, some of which are tuples."""
    return [part for value in values for part in (value if isinstance(value, tuple) else (value,))]


def layout_of(array: Any) -> str:
    """The memory layout of a NumPy array, in a word; others count as contiguous."""
    if not isinstance(array, np.ndarray) or array.flags.c_contiguous:
        return "contiguous"
    if any(s == 0 for s, n in zip(array.strides, array.shape) if n > 1):
        return "stride 0"
    return "negative strides" if any(s < 0 for s in array.strides) else "not contiguous"


@dataclass(frozen=True)
class MutationOperator:
    """A mutation operator: its name, the wrong result for a call, and whether it changes traced calls alone."""

    name: str
    mutate: Callable[[Call], Any]
    traced: bool = False


def mutation_operators(profile: Profile) -> Iterator[MutationOperator]:
    """The operators that can show in a rule with calls like these."""
    yield MutationOperator("wrong sign", lambda c: c.right(-c.g))
    for factor in (2.0, 1.001, 1.00001):
        yield MutationOperator(f"times {factor:g}", partial(Call.scaled, factor=factor))
    yield MutationOperator("zero", lambda c: c.scaled(0.0))
    yield MutationOperator("not linear in g", lambda c: c.right(c.g * c.g))
    yield MutationOperator("every second entry doubled", _every_second)
    if profile.matrices:
        yield MutationOperator("transposed", lambda c: c.changed(_transposed))
    if profile.multi_element:
        yield MutationOperator("reversed", lambda c: c.changed(_reversed))
    if profile.broadcast:
        yield MutationOperator("sum over a broadcast axis missing", _first_along_broadcast_axes)
        yield MutationOperator("mean over a broadcast axis", _mean_over_broadcast_axes)
    for name, kind in profile.residuals.items():
        yield from _residual_operators(name, kind)
    if "recorded" in profile.modes:
        yield MutationOperator("second order: g a constant", lambda c: c.right(_constant(c.g)))
        yield MutationOperator("times 1.001 when recorded", lambda c: c.scaled_if(c.mode == "recorded", 1.001))
    if "traced" in profile.modes:
        yield MutationOperator("times 1.5 when traced", lambda c: c.scaled_if(c.mode == "traced", 1.5), traced=True)
    if len(profile.shapes) > 1:
        first, last = profile.shapes[0], max(profile.shapes[1:], key=np.prod)
        yield MutationOperator(f"right at {first} only", lambda c: c.scaled_if(tuple(c.g.shape) != first, 1.01))
        yield MutationOperator(f"wrong at {last} only", lambda c: c.scaled_if(tuple(c.g.shape) == last, 1.01))
    for dtype, factor in (("float64", 1.001), ("float32", 1.001), ("float16", 1.1), ("bfloat16", 1.5)):
        if dtype in profile.dtypes:
            yield MutationOperator(f"times {factor} in {dtype}", partial(_wrong_in, dtype=dtype, factor=factor))
    if profile.dtypes & {"float32", "float16"}:
        yield MutationOperator("casts to float64", _cast_to_float64)
    for layout in sorted(profile.layouts - {"contiguous"}):
        yield MutationOperator(f"wrong for a cotangent: {layout}", _if_layout(lambda c: [c.g], layout))
    for layout in sorted(profile.residual_layouts - {"contiguous"}):
        yield MutationOperator(
            f"wrong for residuals: {layout}", _if_layout(lambda c: parts_of(*c.residuals.values()), layout)
        )
    if "executed" in profile.modes:
        yield MutationOperator("writes into g", _writes_into_g)


def _residual_operators(name: str, kind: str) -> Iterator[MutationOperator]:
    def change(function: Callable[[Any], Any]) -> Callable[[Call], Any]:
        return lambda c: c.right(**{name: _each(c.residuals[name], function)})

    yield MutationOperator(f"{name} in another order", change(_reversed))
    yield MutationOperator(f"{name} of the first call", lambda c: _of_first_call(c, name))
    if kind == "float":
        yield MutationOperator(f"{name} replaced by 0 (a term dropped)", change(lambda v: v * 0.0))
        yield MutationOperator(f"{name} replaced by 1 (a factor dropped)", change(lambda v: v * 0.0 + 1.0))
        yield MutationOperator(f"{name} off by 1 %", change(lambda v: v * 1.01))
        yield MutationOperator(f"second order: {name} a constant", change(_constant))


def _each(value: Any, function: Callable[[Any], Any]) -> Any:
    return tuple(function(part) for part in value) if isinstance(value, tuple) else function(value)


def _is(g: Any, dtype: str) -> bool:
    return dtype_name(unwrap(g).dtype) == dtype


def _if_layout(parts: Callable[[Call], list[Any]], layout: str) -> Callable[[Call], Any]:
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

    return call.changed(doubled) if any(n > 1 for n in call.shape) else call.right()


def _broadcast_axes(result: Any, shape: tuple[int, ...]) -> list[int]:
    extra = len(result.shape) - len(shape)
    return [a for a, n in enumerate(result.shape) if a < extra or (shape[a - extra] == 1 and n != 1)]


def _first_along_broadcast_axes(call: Call) -> Any:
    def first(r: Any) -> Any:
        axes = _broadcast_axes(r, call.shape)
        return r[tuple(slice(0, 1) if a in axes else slice(None) for a in range(len(r.shape)))] if axes else r

    return call.changed(first)


def _mean_over_broadcast_axes(call: Call) -> Any:
    def mean(r: Any) -> Any:
        lengths = [r.shape[a] for a in _broadcast_axes(r, call.shape)]
        return r * (1.0 / max(1, int(np.prod(lengths)))) if lengths else r

    return call.changed(mean)


def _cast_to_float64(call: Call) -> Any:
    def wide(r: Any) -> Any:
        return r if isinstance(unwrap(r), TracedArray) else ops.astype(r, dtype="float64")

    return call.changed(wide)


def _writes_into_g(call: Call) -> Any:
    if not isinstance(call.g, np.ndarray) or not call.g.flags.writeable:
        return call.right()
    result = call.changed(np.array)
    call.g[...] = 1.5
    return result


def _of_first_call(call: Call, name: str) -> Any:
    def first(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        return call.memory.setdefault((value.shape, value.dtype), np.array(value))

    return call.right(**{name: _each(call.residuals[name], first)}) if call.mode == "executed" else call.right()
