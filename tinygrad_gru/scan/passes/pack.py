"""Packing: loop-invariant operands are copied, once per run, into the layout in which a compiled loop reads them.

The right operand of a product is packed into panels of a few columns, as in BLIS and OpenBLAS, which do it at every
product; a right operand that changes from step to step is packed at every step. Other operands become contiguous.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ... import native
from ..ir import Graph, Program, Value
from .schedule import VIEWS, Level
from .sink import sink_into_loop


def pack_operands(program: Program) -> Program:
    """x W in the loop as product(x, packed(W)), other invariant operands of the loop as contiguous copies.

    v0 = carry(position=0)                       (2, 4) float32
    v1 = constant(position=0)                    (4, 4) float32
    v2 = constant(position=1)                    (4,) float32
    v3 = matmul(v0, v1)                          (2, 4) float32
    v4 = add(v3, v2)                             (2, 4) float32
    carry v0 -> v4
      =>
    v0 = carry(position=0)                       (2, 4) float32
    v1 = constant(position=0)                    (4, 4) float32
    v2 = constant(position=1)                    (4,) float32
    v5 = packed(v1)                              (1, 4, 4) float32
    v6 = product(v0, v5, sizes=(2, 4, 4))        (2, 4) float32
    v7 = materialized(v2)                        (4,) float32
    v8 = add(v6, v7)                             (2, 4) float32
    carry v0 -> v8
    """
    graph, levels = program.graph, sink_into_loop(program)

    def product(value: Value, done: Mapping[Value, Value]) -> Value:
        left, right = value.inputs
        inner, columns = right.shape if len(right.shape) == 2 else (right.shape[0], 1)
        rows = left.shape[0] if len(left.shape) == 2 else 1
        panel = native.panel_width(rows, inner, columns, np.dtype(value.dtype).itemsize)
        packed = graph.add("packed", (done[right],), (-(-columns // panel), inner, panel), right.dtype)
        operands = (_materialized(graph, done[left], levels), packed)
        return graph.add("product", operands, value.shape, value.dtype, sizes=(rows, inner, columns))

    def with_packed_operands(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if levels.get(value) != "loop" or value.op in VIEWS:
            return None
        if value.op == "matmul" and max(len(i.shape) for i in value.inputs) <= 2:
            return product(value, done)
        return value.with_inputs(graph, [_materialized(graph, done[i], levels) for i in value.inputs])

    rebuilt = program.rebuilt(with_packed_operands)
    return replace(rebuilt, new_carry=tuple(_materialized(graph, v, levels) for v in rebuilt.new_carry))


def materialize_operands(program: Program) -> Program:
    """Invariant operands of all operations at steps as copies: a captured graph of launches finds them at one address.

    v0 = carry(position=0)                       (2, 4) float32
    v1 = constant(position=0)                    (4, 4) float32
    v2 = constant(position=1)                    (4,) float32
    v3 = matmul(v0, v1)                          (2, 4) float32
    v4 = add(v3, v2)                             (2, 4) float32
    carry v0 -> v4
      =>
    v0 = carry(position=0)                       (2, 4) float32
    v1 = constant(position=0)                    (4, 4) float32
    v2 = constant(position=1)                    (4,) float32
    v5 = materialized(v1)                        (4, 4) float32
    v6 = matmul(v0, v5)                          (2, 4) float32
    v7 = materialized(v2)                        (4,) float32
    v8 = add(v6, v7)                             (2, 4) float32
    carry v0 -> v8
    """
    graph, levels = program.graph, sink_into_loop(program, products=False)

    def with_materialized_operands(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if levels.get(value, "invariant") == "invariant" or value.op in VIEWS:
            return None
        return value.with_inputs(graph, [_materialized(graph, done[i], levels) for i in value.inputs])

    rebuilt = program.rebuilt(with_materialized_operands)
    new_carry, ys = (
        tuple(_materialized(graph, value, levels) for value in values) for values in (rebuilt.new_carry, rebuilt.ys)
    )
    return replace(rebuilt, new_carry=new_carry, ys=ys)


def _materialized(graph: Graph, value: Value, levels: Mapping[Value, Level]) -> Value:
    """A value, or a copy of it if it is loop-invariant."""
    if levels.get(value) != "invariant":
        return value
    if value.op == "transpose" and len(value.shape) > 2:  # loops read it in any order, and others may read it as it is
        return value.with_inputs(graph, [_materialized(graph, value.inputs[0], levels)])
    return graph.add("materialized", (value,), value.shape, value.dtype)
