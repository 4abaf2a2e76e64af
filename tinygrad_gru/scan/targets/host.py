"""Host code generation, shared by targets whose programs are run by a Python function: names, views and copies."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from ...native.blas import dot, matmul
from ..ir import Value
from ..passes.schedule import ELEMENTWISE, VIEWS
from ..tracing.traced_array import as_index
from . import indexing
from .source import Buffer, Buffers, Names, Source

#: Operations that NumPy has under the same name and that write into an array they are given.
UFUNCS = ELEMENTWISE - {"where", "astype"}
#: The functions that sources call, by name.
FUNCTIONS = (
    *UFUNCS, "arange", "argmax", "argmin", "ascontiguousarray", "broadcast_to", "concatenate", "copyto", "empty",
    "matmul", "take", "where", "zeros",
)  # fmt: skip


def add_products(total: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """total += Σₜ leftₜ rightₜ, products of several matrices, as one product of each: [left₀, left₁, …] [right₀; …]."""
    left, right = np.moveaxis(left, 0, -2), np.moveaxis(right, 0, -3)
    *several, steps, inner, columns = right.shape
    left = left.reshape(*several, -1, steps * inner)
    total += matmul(left, right.reshape(*several, steps * inner, columns))


_NUMPY = {name: getattr(np, name) for name in FUNCTIONS} | {"dot": dot, "matmul": matmul, "add_products": add_products}


def scalar_dtype(like: Value) -> Any:
    """The dtype in which an operation takes its scalar operand."""
    if np.dtype(like.dtype) != np.bool_:
        return like.dtype
    return np.result_type(*(i["value"] if i.op == "scalar" else i.dtype for i in like.inputs))


def invariant_lines(
    names: Names,
    buffers: Buffers,
    scalar: Callable[[Value, Any], str],
    contiguous: Collection[Value] = (),
    others: Collection[Value] = (),
) -> list[str]:
    """The lines that compute the invariant values of a plan, once per run.

    scalar      the text of a Python scalar that meets arrays of a dtype
    contiguous  views that are copied, and concatenations that are C-contiguous even if their parts are transposed: a
                product reads a weight fastest in the layout in which it is used
    others      the values that are computed elsewhere, or not needed
    """
    lines: list[str] = []
    for value in names.plan.program.values():
        if value in names.invariant and value not in others:
            operands = [
                scalar(i, scalar_dtype(value)) if i.op == "scalar" else names.at_step(i).name for i in value.inputs
            ]
            lines += _lines(value, buffers.declare(names.at_step(value)), operands, value in contiguous)
    return lines


def _lines(value: Value, name: str, operands: list[str], is_contiguous: bool) -> list[str]:
    if value.op == "constant":
        return [f"{name} = constants[{value['position']}]"]
    if value.op == "zeros":
        return [f"{name} = zeros({value.shape}, '{np.dtype(value.dtype).name}')"]
    if value.op == "arange":
        return [f"{name} = arange({value.shape[0]})"]
    if value.op in VIEWS:
        text = view_text(value, operands[0], lead=False)
        return [f"{name} = ascontiguousarray({text})" if is_contiguous else f"{name} = {text}"]
    if value.op == "materialized":
        return [f"copyto({name}, {operands[0]})"]
    if value.op == "packed":
        return [f"pack({operands[0]}.reshape({value.shape[1]}, -1), {name})"]
    if value.op in UFUNCS or value.op in ("matmul", "where"):
        return [f"{name} = {value.op}({', '.join(operands)})"]
    if value.op in ("sum", "max", "min"):
        return [f"{name} = {operands[0]}.{value.op}({value['axis']}, keepdims={value['keepdims']})"]
    if value.op == "astype":
        return [f"{name} = {operands[0]}.astype('{np.dtype(value.dtype).name}')"]
    if value.op == "rearrange":
        return [f"{name} = {operands[0]}.reshape({value.shape})"]
    if value.op == "concat":
        out = f", empty({value.shape}, '{np.dtype(value.dtype).name}')" if is_contiguous else ""
        return [f"{name} = concatenate(({', '.join(operands)},), {value['axis']}{out})"]
    if value.op in ("argmax", "argmin"):
        return [f"{name} = {value.op}({operands[0]}, {value['axis']})"]
    if value.op == "gather":
        return [f"{name} = take({', '.join(operands)}, {value['axis']})"]
    if value.op == "scatter_add":
        return [f"{name} = added_at_rows({', '.join(operands)}, {value['axis']}, {value.shape})"]
    assert value.op == "scatter", f"no emitter for {value.op}"
    lines = [f"{name} = zeros({value.shape}, '{np.dtype(value.dtype).name}')"]
    return lines + [f"{name}[{index_text(index, False)}] += {text}" for text, index in zip(operands, value["indices"])]


def output_copies(names: Names, buffers: Buffers) -> list[str]:
    """The lines that copy outputs of every step to where they leave, which are views, or slices of other arrays."""
    lines = []
    for position, value in names.output_copies().items():
        out = buffers.declare(Buffer(f"E{position}", "chunk", "output", value, position))
        lines.append(f"copyto({out}, {buffers.declare(names.at_chunk(value))})")
    return lines


def view_text(value: Value, source: str, lead: bool) -> str:
    """The expression for a view of `source`; with `lead` its first axis is the step."""
    if value.op == "reshape":
        shape = f"{source}.shape[:1] + {value.shape}" if lead else f"{value.shape}"
        return f"{source}.reshape({shape})"
    if value.op == "transpose":
        axes = (0, *(a + 1 for a in value["axes"])) if lead else value["axes"]
        return f"{source}.transpose({axes})"
    if value.op == "getitem":
        return f"{source}[{index_text(value['index'], lead)}]"
    missing = len(value.shape) - len(value.inputs[0].shape)  # broadcast_to
    if lead:
        aligned = f"{source}[:{', None' * missing}, ...]" if missing else source
        return f"broadcast_to({aligned}, {source}.shape[:1] + {value.shape})"
    return f"broadcast_to({source}, {value.shape})"


def index_text(index: tuple, lead: bool) -> str:
    """The text between the brackets of an index."""
    parts = [":"] if lead else []
    for p in as_index(index):
        parts.append(str(p) if isinstance(p, int) else f"{p.start}:{'' if p.stop is None else p.stop}:{p.step}")
    return ", ".join([*parts, "..."])  # a view also where every axis has an integer


def compiled(source: Source, others: Mapping[str, Any] | None = None, xp: Any = np) -> dict[str, Any]:
    """The namespace of a source after its text has run, on the functions of `xp`; a debugger shows the text."""
    namespace = dict(_NUMPY) if xp is np else {name: getattr(xp, name) for name in FUNCTIONS}
    namespace |= {**indexing.FUNCTIONS, **source.namespace, **(others or {})}
    filename = f"<scan {source.name}>"
    linecache.cache[filename] = (len(source.text), None, source.text.splitlines(keepends=True), filename)
    exec(compile(source.text, filename, "exec"), namespace)
    return namespace
