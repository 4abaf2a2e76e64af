"""JavaScript target: a plan as two plain functions on typed arrays, which run in Node.js and in a page.

    function forward(constants, carry, xs, length, reverse = false) {
      const w2 = constants[0];
      const V1 = xs[0];
      const V3 = new Float32Array(length * 64);
      product(length, 32, 64, V1, 0, 32, 1, w2, 0, 64, 1, V3, 0, 64);
      for (let step = 0; step < length; step++) {
        const t = reverse ? length - 1 - step : step;
        for (let j = 0; j < 64; j++) {
          const v4 = V0[t * 64 + j];
          …

They need the functions of products.js and nothing else. Names are those of the other targets
(`source.Names`). All steps are one chunk. Loop-invariant values are computed at every call, for constants may change.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...ir import Program, Value
from ...passes.plan import plan as planned
from ...passes.sink import sink_into_loop
from ...passes.storage import Plan
from ...tracing.traced_array import as_index
from ..source import Buffer, Calls, Rewrite, Source, Stages
from .operations import JavaScriptLayout, Operations, copied, loop, new_array

#: More rows than any sequence has, so that all steps are one chunk.
_CHUNK_ROWS = 2**53


def products() -> str:
    """The functions that the emitted source calls, for products of matrices and for integers."""
    path = os.path.join(os.path.dirname(__file__), "products.js")  # importlib.resources takes 7 ms to import
    with open(path, encoding="utf-8") as file:
        return file.read()


class JavaScriptTarget:
    """JavaScript: programs that can be printed and exported, but are not run by Python.

    No pass is worth it: an operation in a nest costs next to nothing, and products are loops whether merged or not.
    """

    def passes(self, name: str) -> Sequence[Rewrite]:
        return ()

    def plan(self, program: Program, kept: Collection[Value]) -> Plan:
        levels = sink_into_loop(program, products=False)
        return planned(program, kept, levels, chunk_rows=_CHUNK_ROWS, copies_views=True, shares_scratch=())

    def emit(self, plan: Plan, name: str) -> Source:
        return Emitter(plan, name).emit()

    def load(self, source: Source, stages: Stages) -> JavaScriptExecutable:
        return JavaScriptExecutable(source, stages)


class JavaScriptExecutable:
    """A source that is run elsewhere."""

    def __init__(self, source: Source, stages: Stages):
        self.source, self.stages = source, stages

    def workspace(self, length: int, reverse: bool, given: Mapping[Value, Any], fresh: Collection[Value] = ()) -> Any:
        raise NotImplementedError("a JavaScript program is run by Node.js or by a page")

    def run(self, constants: Sequence[Any], workspace: Any) -> list[Any]:
        raise NotImplementedError("a JavaScript program is run by Node.js or by a page")


class Emitter:
    """Writes the function of a plan.

    (constants, carry, xs, length, reverse) → {carry, states, ys, sums}: the last carry; of each part of the carry its
    values before every step, null where only two are kept; the outputs of every step; and the sums over all steps.
    """

    def __init__(self, plan: Plan, name: str):
        self.plan, self.name = plan, name
        self.layout = JavaScriptLayout(plan)
        self.names, self.operations = self.layout.names, Operations(self.layout)
        self.buffers = self.operations.buffers

    def emit(self) -> Source:
        operations, program = self.operations, self.plan.program
        carry = [self._carry(i, value) for i, value in enumerate(program.carry)]
        invariant = operations.invariant()
        before = operations.over_time("hoisted")
        steps = operations.in_loop()
        after = [*operations.over_time("sunk"), *operations.sums_over_time()]
        ys = [self._output(i, value, after) for i, value in enumerate(program.ys)]
        sums = [self._share(i, *share, after) for i, share in enumerate(operations.sums.shares)]
        for memory in operations.totals:
            self.buffers.declare(memory.buffer)
        lines = [
            *self._declarations(),
            *(line for part in carry for line in part[0]),
            *invariant,
            *before,
            *self._steps(steps),
            *after,
            "return {",
            f"  carry: [{', '.join(part[1] for part in carry)}], states: [{', '.join(part[2] for part in carry)}],",
            f"  ys: [{', '.join(ys)}], sums: [{', '.join(sums)}],",
            "};",
        ]
        return Source(
            name=self.name, plan=self.plan, buffers=self.buffers, sums=operations.sums, namespace={},
            lines=[
                f"function {self.name}(constants, carry, xs, length, reverse = false) {{",
                *(f"  {line}" for line in lines), "}",
            ],
            calls=Calls(0, 0, 0),
            per_step="loops in JavaScript, and products of matrices (product is c = a b, addProduct c += a b)",
        )  # fmt: skip

    def _steps(self, lines: list[str]) -> list[str]:
        """The loop over the steps."""
        if not lines:
            return []
        versions = ", now = step % 2, then = 1 - now" if self.plan.double_buffered else ""
        return loop("step", "length", [f"const t = reverse ? length - 1 - step : step{versions};", *lines])

    def _carry(self, position: int, value: Value) -> tuple[list[str], str, str]:
        """The statements that allocate a part of the carry, and the texts of the last one and of those before steps."""
        size, name = math.prod(value.shape), f"C{position}"
        if position in self.plan.double_buffered:
            first, last = "0", f"length % 2 * {size}"
            lines = [f"const {name} = {new_array(value, '2')};"]
            states = "null"
        else:
            first, last = f"reverse ? length * {size} : 0", f"reverse ? 0 : length * {size}"
            states, following = self.names.at_chunk(value).name, f"n{position}"
            lines = [
                f"const {name} = {new_array(value, '(length + 1)')};",
                f"const {states} = {name}.subarray(reverse ? {size} : 0), "
                f"{following} = {name}.subarray(reverse ? 0 : {size});",
            ]
            states = f"{states}.slice(0, length * {size})"
        lines.append(f"{name}.set(carry[{position}], {first});")
        start = f"({last})" if "?" in last else last
        return lines, f"{name}.slice({start}, {start} + {size})", states

    def _output(self, position: int, value: Value, after: list[str]) -> str:
        """The text of an output of every step; where it is no array of its own, it is copied `after` the steps."""
        if position not in self.names.output_copies():
            memory = self.layout.memory(value)
            self.buffers.declare(memory.buffer)
            name = memory.buffer.name
            if value in self.plan.program.carry or self.plan.storage_of(value) == "carry":
                return f"{name}.slice(0, length * {math.prod(value.shape)})"
            return name
        memory = self.layout.allocated(Buffer(f"E{position}", "chunk", "output", value, position))
        source = self.layout.memory(value)
        self.operations.declare(source, memory)
        after += loop("t", "length", copied(source, memory))
        return memory.buffer.name

    def _share(self, position: int, total: int, index: tuple | None, after: list[str]) -> str:
        """The text of a sum over time, which is a total or a slice of one."""
        memory = self.operations.totals[total]
        if index is None:
            return memory.buffer.name
        value = self.plan.program.sums[position]
        target = self.layout.allocated(Buffer(f"R{position}", "static", "value", value))
        self.operations.declare(target)
        after += copied(memory.with_view(memory.view[as_index(index) + (...,)]), target)
        return target.buffer.name

    def _declarations(self) -> list[str]:
        """The statements that name the arguments and allocate arrays."""
        program = self.plan.program
        of_xs = {self.names.at_chunk(value).name: f"xs[{i}]" for i, value in enumerate(program.xs)}
        lines = []
        for name, buffer in self.buffers.items():
            value = buffer.value
            if buffer.kind in ("carry", "next carry") or (buffer.kind == "value" and value in program.carry):
                continue  # these are allocated by `_carry`
            if name in of_xs:
                text = of_xs[name]
            elif value.op == "constant" and buffer.kind == "value":
                text = f"constants[{value['position']}]"
            else:
                text = new_array(value, "length" if buffer.scope == "chunk" else "")
            lines.append(f"const {name} = {text};")
        return lines
