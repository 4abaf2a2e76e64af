"""The inspected form of a step: JavaScript that keeps every value, forward and backward record by record.

    // r = sigmoid(v3)
    for (let j = 0; j < 192; j++) {
      …
      V4[t * 192 + j] = v9;
    }
    if (observe) observe(4, t, V4, t * 192, 192);

    // r = sigmoid(v3), backward
    if (M4 !== G4) hide(changes[4], G4, M4, t * 192, 192);
    for (let j = 0; j < 192; j++) {
      …

V4 is record 4 at all steps, G4 its cotangent, M4 what of that passes on: all, unless an element was changed by hand.
R4 is V4 without such changes. H0 is a part of the carry, from before the first step to after the last, and X the input.
The statements are those of the compiler's JavaScript target, for programs of one record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...backend import is_floating
from ...scan.ir import Program, Value
from ...scan.passes.plan import plan
from ...scan.passes.schedule import VIEWS, Level, schedule
from ...scan.targets.javascript.operations import JavaScriptLayout, Operations, added, copied, new_array
from ...scan.targets.loops import Memory
from ...scan.targets.source import Buffer
from ...scan.tracing.traced_array import as_index
from .records import Record, Ref, Step


def functions(step: Step, number: int) -> str:
    """The functions `forward<number>` and `backward<number>` of a step.

    forward(weights, constants, X, initial, length, observe) → {values, carry, output}
    backward(weights, constants, run, changes, GY, gradients) → {cotangents, carry, x}, and adds the gradients of
    parameters to those in `gradients`
    """
    return "\n".join([*_Forward(step).lines(f"forward{number}"), "", *_Backward(step).lines(f"backward{number}"), ""])


class _Statements(NamedTuple):
    """The statements of a record: once before the steps, at each step, and after the steps."""

    once: list[str]
    step: list[str]
    after: list[str]


class _Function:
    """One of the functions of a step.

    scratch  the declarations of arrays that are needed besides the values and the cotangents
    """

    def __init__(self, step: Step):
        self.step = step
        self.parameters = {name: f"p{i}" for i, name in enumerate(step.parameters)}
        self.scratch: dict[str, str] = {}

    def inputs(self) -> list[str]:
        """The statements that name parameters and constants."""
        lines = [f"const {name} = weights[{json.dumps(path)}];" for path, name in self.parameters.items()]
        return lines + [f"const c{i} = constants[{i}];" for i in range(len(self.step.constants))]

    def varies(self, ref: Ref) -> bool:
        """Whether an operand changes with time."""
        return ref.kind in ("carry", "x") or (ref.kind == "record" and not self.step.records[ref.key].invariant)

    def memory(self, ref: Ref, like: Value, cotangent: bool = False) -> Memory:
        """The memory of an operand, or of its cotangent."""
        g = "G" if cotangent else ""
        names = {"record": f"{g or 'V'}{ref.key}", "carry": f"{g}H{ref.key}", "x": f"{g}X", "constant": f"c{ref.key}"}
        name = f"{g.lower()}{self.parameters[ref.key]}" if ref.kind == "parameter" else names[ref.kind]
        return known(name, like, "t" if self.varies(ref) else "")

    def operations(self, record: Record, program: Program, levels: Mapping[Value, Level], memory: dict) -> Operations:
        """The writer of the statements of a program, in which these values have that memory."""
        planned = plan(program, (), levels, copies_views=True, shares_scratch=())
        return Operations(JavaScriptLayout(planned, memory, f"_{record.index}"))

    def declare(self, operations: Operations) -> None:
        """Declare the arrays of a program that are its own."""
        taken = {memory.pointer for memory in operations.layout.known.values()}
        for name, buffer in operations.buffers.items():
            if name not in taken:
                steps = "length" if buffer.scope == "chunk" else ""
                self.scratch[name] = f"const {name} = {new_array(buffer.value, steps)};"

    def varying(self, record: Record) -> list[Value]:
        """The operands that are inputs of the record's program: all of a record that is computed once."""
        return [value for value, ref in record.operands if record.invariant or self.varies(ref)]

    def comment(self, record: Record) -> str:
        text = f"{record.name or f'v{record.index}'} = {self.step.text(record)}"
        return f"// {' '.join(text.split())}"


class _Forward(_Function):
    """The function that computes every record, record by record and step by step."""

    def lines(self, name: str) -> list[str]:
        step, once, steps = self.step, list[str](), list[str]()
        for record in step.records:
            of_record = self._record(record)
            t, start = ("-1", "0") if record.invariant else ("t", f"t * {record.size}")
            observed = f"if (observe) observe({record.index}, {t}, V{record.index}, {start}, {record.size});"
            once += of_record.once
            (once if record.invariant else steps).extend([self.comment(record), *of_record.step, observed])
        for i, (ref, (part, like)) in enumerate(zip(step.next, step.carry)):
            steps += [f"// the next {part}", *copied(self.memory(ref, like), known(f"H{i}", like, "(t + 1)"))]
        output = self.step.like(step.output)
        steps += ["// the output", *copied(self.memory(step.output, output), known("Y", output, "t"))]
        carry = [f"H{i}" for i in range(len(step.carry))]
        return _function(name, "weights, constants, X, initial, length, observe", [
            *self.inputs(),
            *(f"const V{r.index} = {new_array(r.result, '' if r.invariant else 'length')};" for r in step.records),
            f"const Y = {new_array(output, 'length')};",
            *(f"const {h} = {new_array(like, '(length + 1)')};" for h, (_, like) in zip(carry, step.carry)),
            *(f"{h}.set(initial[{i}]);" for i, h in enumerate(carry)),
            *self.scratch.values(),
            *once,
            *_block("for (let t = 0; t < length; t++)", steps),
            f"return {{values: [{', '.join(f'V{r.index}' for r in step.records)}], carry: [{', '.join(carry)}], "
            "output: Y};",
        ])  # fmt: skip

    def _record(self, record: Record) -> _Statements:
        program = Program(record.graph, (), tuple(dict.fromkeys(self.varying(record))), (), (record.result,), ())
        levels = _in_loop(program)
        memory = {value: self.memory(ref, value) for value, ref in record.operands}
        target, result = self.memory(Ref("record", record.index), record.result), record.result
        is_computed = levels.get(result) == "loop" and result.op not in VIEWS
        operations = self.operations(record, program, levels, memory | ({result: target} if is_computed else {}))
        once, steps = operations.invariant(), operations.in_loop()
        if not is_computed:
            source = operations.layout.memory(result)
            operations.declare(source)
            steps += copied(source, target)
        self.declare(operations)
        return _Statements(once, steps, [])


class _Backward(_Function):
    """The function that applies the rules of every record, from the last one of the last step to the first.

    Cotangents of what changes with time are added up at each step; those of parameters for all steps at once, after.
    """

    def lines(self, name: str) -> list[str]:
        step, once, steps, after = self.step, list[str](), list[str](), list[str]()
        output = self.step.like(step.output)
        steps += self._passed("the output", known("GY", output, "t"), step.output)
        for i, (ref, (part, like)) in enumerate(zip(step.next, step.carry)):
            steps += self._passed(f"the next {part}", known(f"GH{i}", like, "(t + 1)"), ref)
        of_invariant = list[str]()
        records = [record for record in step.records if record.cotangent is not None]
        for record in reversed(records):
            of_record = self._record(record)
            once += of_record.once
            after += of_record.after
            (of_invariant if record.invariant else steps).extend(of_record.step)
        values = ", ".join(f"V{r.index}" for r in step.records)
        cotangents = ", ".join("null" if r.cotangent is None else f"G{r.index}" for r in step.records)
        carry = ", ".join(f"GH{i}" for i in range(len(step.carry)))
        return _function(name, "weights, constants, run, changes, GY, gradients", [
            *self.inputs(),
            *(f"const g{name} = gradients[{json.dumps(path)}];" for path, name in self.parameters.items()),
            "const length = run.length, X = run.x;",
            f"const [{values}] = run.values;",
            f"const [{values.replace('V', 'R')}] = run.values.map((values, i) => unchanged(values, changes[i]));",
            f"const [{carry.replace('G', '')}] = run.carry;",
            *(line for r in records for line in self._arrays(r)),
            f"const GX = {new_array(step.x[1], 'length')};",
            *(f"const GH{i} = {new_array(like, '(length + 1)')};" for i, (_, like) in enumerate(step.carry)),
            *self.scratch.values(),
            *once,
            *_block("for (let t = length - 1; t >= 0; t--)", steps),
            *after,
            *of_invariant,
            f"return {{cotangents: [{cotangents}], carry: [{carry}], x: GX}};",
        ])  # fmt: skip

    @staticmethod
    def _arrays(record: Record) -> list[str]:
        array, index = new_array(record.result, "" if record.invariant else "length"), record.index
        return [f"const G{index} = {array};", f"const M{index} = changes[{index}] ? {array} : G{index};"]

    def cotangent(self, ref: Ref, like: Value) -> Memory | None:
        """The memory of the cotangent of an operand; None where it has none."""
        if ref.kind in ("constant", "scalar") or not is_floating(like.dtype):
            return None
        if ref.kind == "record" and self.step.records[ref.key].cotangent is None:
            return None
        return self.memory(ref, like, cotangent=True)

    def _passed(self, what: str, source: Memory, ref: Ref) -> list[str]:
        """The statements that pass a cotangent on to what its value was copied from."""
        target = None if ref.kind in ("constant", "scalar") else self.cotangent(ref, self.step.like(ref))
        return [] if target is None else [f"// {what}", *added(source, target)]

    def _record(self, record: Record) -> _Statements:
        pairs = [(g, ref) for g, (_, ref) in zip(record.gradients, record.operands) if g is not None]
        found = [(g, self.cotangent(ref, g), ref) for g, ref in pairs]
        targets = [(g, target, record.invariant or self.varies(ref)) for g, target, ref in found if target is not None]
        passed = [(g, target) for g, target, in_step in targets if in_step]
        summed = [(g, target) for g, target, in_step in targets if not in_step]
        cotangent, result, index = record.cotangent, record.result, record.index
        assert cotangent is not None
        program = Program(
            record.graph, (), tuple(dict.fromkeys((cotangent, *self.varying(record), result))), (),
            tuple(dict.fromkeys(g for g, _ in passed)), tuple(g for g, _ in summed),
        )  # fmt: skip
        levels, time = _in_loop(program), "" if record.invariant else "t"
        memory = {result: known(f"R{index}", result, time), cotangent: known(f"M{index}", cotangent, time)}
        memory = {value: self.memory(ref, value) for value, ref in record.operands} | memory
        for n, value in enumerate(program.ys):
            if levels.get(value) == "loop" and value.op not in VIEWS:
                memory[value] = known(f"D{index}_{n}", value, "")
                self.scratch[f"D{index}_{n}"] = f"const D{index}_{n} = {new_array(value)};"
        operations = self.operations(record, program, levels, memory)
        once, steps = operations.invariant(), operations.in_loop()
        for g, target in passed:
            steps += self._added(operations, operations.layout.memory(g), target)
        after = [*operations.over_time("sunk"), *operations.sums_over_time()]
        for (total, part), (_, target) in zip(operations.sums.shares, summed):
            source = operations.totals[total]
            if part is not None:
                source = source.with_view(source.view[as_index(part) + (...,)])
            after += self._added(operations, source, target)
        self.declare(operations)
        start = f"t * {record.size}" if time else "0"
        hide = f"if (M{index} !== G{index}) hide(changes[{index}], G{index}, M{index}, {start}, {record.size});"
        comment = f"{self.comment(record)}, backward"
        return _Statements(once, [comment, hide, *steps], [comment, *after] if after else [])

    @staticmethod
    def _added(operations: Operations, source: Memory, target: Memory) -> list[str]:
        operations.declare(source)
        return added(source, target)


def known(name: str, like: Value, time: str) -> Memory:
    """The memory of an array that the functions have declared: of one value, or of one for each step at a `time`."""
    array = np.empty(like.shape, like.dtype)
    return Memory(Buffer(name, "known", "value", like), time, array, array)


def _in_loop(program: Program) -> dict[Value, Level]:
    """The levels of a program without a carry: in the loop is what the outputs of a step need, and sums are sunk."""
    needed: set[Value] = set()
    stack = list(program.ys)
    while stack:
        value = stack.pop()
        if value not in needed and value not in program.inputs:
            needed.add(value)
            stack += value.inputs
    levels: dict[Value, Level] = {}
    for value, level in schedule(program).items():
        levels[value] = level if level == "invariant" else "loop" if value in needed else "sunk"
    return levels


def _block(head: str, lines: Sequence[str]) -> list[str]:
    return [f"{head} {{", *(f"  {line}" for line in lines), "}"]


def _function(name: str, arguments: str, lines: Sequence[str]) -> list[str]:
    return _block(f"function {name}({arguments})", lines)
