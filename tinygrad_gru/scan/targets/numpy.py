"""Emit: the plan as Python source for NumPy.

The source is straight-line: every operation writes into an array that is there already. Whatever view of an array an
operation needs at a step is made once, when the workspace is, and handed to the loop in a tuple a step.

Names: `w3` is the same at all steps, `v3` is value v3 at one step, `V3` at all steps of a chunk.
"""

from __future__ import annotations

import linecache
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...backend import is_half, record_launches
from ..ir import Program, Value
from ..passes.schedule import ELEMENTWISE, VIEWS, Level
from ..passes.storage import Plan
from ..tracing.traced_array import as_index
from .views import index_text, view_text
from .workspace import Workspace

#: Operations that NumPy has under the same name and that write into an array they are given.
_UFUNCS = ELEMENTWISE - {"where", "astype"}
_OTHERS = ("ascontiguousarray", "broadcast_to", "concatenate", "copyto", "matmul", "where", "zeros")
FUNCTIONS: dict[str, Any] = {name: getattr(np, name) for name in (*_UFUNCS, *_OTHERS)}

#: Half precision is added up in float32: it would stop counting at 2048.
_WIDE = {"sum": ", dtype='float32'", "max": "", "min": ""}


def _is_half(value: Value) -> bool:
    return is_half(np.dtype(value.dtype))


class Emitted:
    """A program ready to run: `source`, and the function that it defines, which `run` calls.

    stages  the program as it was traced and after every pass, with their names
    """

    step_count = "len(steps)"  # in the source, how many steps a chunk has
    most_steps = sys.maxsize  # that a chunk may have
    zeros: Callable[..., Any] = staticmethod(np.zeros)
    broadcast_to: Callable[..., Any] = staticmethod(np.broadcast_to)

    def __init__(self, plan: Plan, name: str, stages: Sequence[tuple[str, Program]] = ()):
        self.plan = plan
        self.name = name
        self.stages = stages
        self.given = frozenset(plan.program.carry) | frozenset(plan.program.xs)
        self.static: dict[str, Value] = {}  # names bound once a workspace
        self.batch: dict[str, Value] = {}  # names bound once a chunk
        self.steps: dict[str, Value] = {}  # names bound at every step
        self.namespace: dict[str, Any] = dict(FUNCTIONS)
        self.users: dict[Value, list[Value]] = defaultdict(list)
        for value in plan.program.values():
            for i in value.inputs if value not in self.given else ():
                self.users[i].append(value)
        wholes = list(map(self._total_of, plan.program.sums))
        self.totals = list(dict.fromkeys(wholes))
        self.total_forms = [(v.shape, np.promote_types(v.dtype, np.float32)) for v in self.totals]
        self.shares = [
            (self.totals.index(whole), None if whole is value else as_index(value["index"]))
            for whole, value in zip(wholes, plan.program.sums)
        ]
        self.lines: list[str] = []
        self.loop_lines: list[str] = []  # the source of a loop that is a function of its own
        self.invariant_calls = self.chunk_calls = self.loop_calls = 0  # array calls a run, a chunk and a step
        self._write()
        self.source = "\n".join(self.lines) + "\n"
        filename = f"<scan {name}>"
        linecache.cache[filename] = (len(self.source), None, self.source.splitlines(keepends=True), filename)
        exec(compile(self.source, filename, "exec"), self.namespace)
        self.function = self.namespace[name]

    def workspace(self, length: int, reverse: bool, given: Mapping[Value, Any]) -> Workspace:
        """The arrays in which it runs so many steps; `given` are those that are there already."""
        return Workspace(self, length, reverse, given)

    def run(self, constants: Sequence[Any], workspace: Any) -> list[Any]:
        """Run the program on the arrays from outside and those of the workspace; return its sums over time."""
        # Half precision is added up in float32.
        totals = [np.zeros(shape, dtype) for shape, dtype in self.total_forms]
        self.function(constants, totals, workspace)
        self._note(len(workspace.chunks), workspace.length)
        return [
            totals[place] if index is None else np.ascontiguousarray(totals[place][index])
            for place, index in self.shares
        ]

    def _calls_once(self) -> int:
        """How many array calls make what is the same at all steps."""
        free = VIEWS | {"constant", "scalar"}
        return sum(self._is_invariant(value) and value.op not in free for value in self.plan.program.values())

    def _note(self, chunks: int, steps: int) -> None:
        """Note what a run has asked of the library."""
        record_launches(
            self.invariant_calls + chunks * self.chunk_calls + steps * self.loop_calls, f"scan, {self.name}"
        )

    # -- names -------------------------------------------------------------------------------------------------

    def _is_invariant(self, value: Value) -> bool:
        return self.plan.levels.get(value) == "invariant"

    def step_name(self, value: Value) -> str:
        """The name of a value at one step."""
        if self._is_invariant(value):
            return f"w{value.number}"
        if self.plan.storage_of(value) == "step":  # the same array at every step
            name = f"s{self.plan.storage[value][1]}" if value in self.plan.storage else f"v{value.number}"
            self.static[name] = value
        else:
            name = f"v{value.number}"
            self.steps[name] = value
        return name

    def batch_name(self, value: Value) -> str:
        """The name of a value at all steps of a chunk."""
        if self._is_invariant(value):
            return f"w{value.number}"
        storage = self.plan.storage.get(value)
        name = f"V{value.number}"
        if storage is not None and storage[0] == "batch":
            name = f"B{storage[1]}"
        self.batch[name] = value
        return name

    def constant(self, value: Value, like: Any) -> str:
        """A number as an array without axes, of the dtype of what it meets: NumPy takes that faster than a number."""
        name = f"k{value.number}_{np.dtype(like).name}"
        self.namespace[name] = np.array(value["value"], like)
        return name

    # -- the function --------------------------------------------------------------------------------------------

    def _write(self) -> None:
        plan, body, sums = self.plan, [], self.totals
        before = self._region("hoisted")
        loop = self._loop()
        after = self._region("sunk")
        rest = [i for i, v in enumerate(sums) if not self._is_contracted(v)]
        after += [line for i in rest for line in self._sum(i, sums[i])]
        after += self._view_outputs()
        constants = [line for v in plan.program.values() if self._is_invariant(v) for line in self._invariant_lines(v)]
        self.invariant_calls, self.chunk_calls = self._calls_once(), len(before) + len(after)
        body += [f"({self._tuple(self.static)}) = workspace.static"] if self.static else []
        body += constants
        body += [f"for first, ({self._tuple(self.batch)}), steps in workspace.chunks:"]
        body += [f"    {line}" for line in before + loop + after] or ["    pass"]
        self.lines = [f"def {self.name}(constants, totals, workspace):", *(f"    {line}" for line in body)]

    def _loop(self) -> list[str]:
        """The lines that run the steps of a chunk one after the other."""
        lines = [line for v in self.plan.operations("loop") for line in self._operation(v, batch=False)]
        lines += self._carry_copies()
        self.loop_calls = len(lines)
        return [f"for ({self._tuple(self.steps)}) in steps:", *(f"    {line}" for line in lines)] if lines else []

    def steps_of(self, view: Callable[[str, Value, int], np.ndarray], places: range) -> Any:
        """What the loop is given for the steps at these places: the views of all that it names, step by step."""
        names = self.steps.items()
        return [tuple(view(name, value, t) for name, value in names) or (None,) for t in places]

    def in_words(self) -> str:
        """What a step takes."""
        return f"{self.loop_calls} array calls a step"

    def _region(self, level: Level) -> list[str]:
        """The lines for a chunk. What is summed over time without being made is summed where it would be made."""
        lines = []
        for value in self.plan.operations(level):
            if self._is_contracted(value):
                lines += self._sum(self.totals.index(value), value)
            else:
                lines += self._operation(value, batch=True)
        return lines

    @staticmethod
    def _tuple(names: dict[str, Value]) -> str:
        return "".join(f"{name}, " for name in names) or "_, "

    def _operand(self, value: Value, batch: bool, like: Value) -> str:
        if value.op == "scalar":
            dtype = like.dtype
            if np.dtype(dtype) == np.bool_:
                dtype = np.result_type(*(i["value"] if i.op == "scalar" else i.dtype for i in like.inputs))
            return self.constant(value, dtype)
        if not batch or self._is_invariant(value):
            return self.step_name(value)
        name = self.batch_name(value)
        missing = len(like.shape) - len(value.shape)
        if missing > 0 and like.op in ELEMENTWISE | {"matmul"}:
            return f"{name}[:{', None' * missing}, ...]"
        return name

    def _operation(self, value: Value, batch: bool) -> list[str]:
        out = self.batch_name(value) if batch else self.step_name(value)
        operands = [self._operand(i, batch, value) for i in value.inputs]
        if value.op in _UFUNCS:
            # By position where NumPy allows it, which is faster; maximum and minimum want the word.
            place = f"out={out}" if value.op in ("maximum", "minimum") else out
            return [f"{value.op}({', '.join([*operands, place])})"]
        if value.op == "matmul":
            return [self._matmul(value, operands, out, batch)]
        if value.op in ("sum", "max", "min"):
            axes = tuple(a + 1 for a in value["axis"]) if batch else value["axis"]
            if _is_half(value):
                return [
                    f"copyto({out}, {operands[0]}.{value.op}({axes}, keepdims={value['keepdims']}{_WIDE[value.op]}))"
                ]
            return [f"{operands[0]}.{value.op}({axes}, out={out}, keepdims={value['keepdims']})"]
        if value.op == "where":
            condition, a, b = operands
            over = [] if value in self.plan.overwrites else [f"copyto({out}, {b})"]
            return [*over, f"copyto({out}, {a}, where={condition})"]
        if value.op == "astype":
            return [f"copyto({out}, {operands[0]}, 'unsafe')"]  # as an array's own astype does
        if value.op == "rearrange":
            return [f"copyto({out}, {operands[0]}.reshape({out}.shape))"]
        if value.op == "concat":
            if batch:  # what is the same at all steps is there once
                operands = [
                    f"broadcast_to({text}, {out}.shape[:1] + {i.shape})" if self._is_invariant(i) else text
                    for text, i in zip(operands, value.inputs)
                ]
            return [f"concatenate(({', '.join(operands)},), {value['axis'] + batch}, {out})"]
        if value.op == "scatter":
            lines = [f"{out}.fill(0)"]
            for operand, index in zip(operands, value["indices"]):
                text = index_text(index, batch)
                lines.append(f"{out}[{text}] += {operand}")
            return lines
        raise AssertionError(f"no emitter for {value.op}")

    def _matmul(self, value: Value, operands: list[str], out: str, batch: bool) -> str:
        left, right = value.inputs
        flat = batch and self._is_invariant(right) and len(right.shape) == 2 and len(left.shape) == 2
        if flat:  # one product over the rows of all steps
            k, n = right.shape
            return f"matmul({operands[0]}.reshape(-1, {k}), {operands[1]}, {out}.reshape(-1, {n}))"
        plain = len(left.shape) == len(right.shape) == 2 and left.dtype == right.dtype
        if plain and not batch and value not in self.plan.parts:
            # For one row half the time of matmul; it needs an `out` that is contiguous.
            return f"{operands[0]}.dot({operands[1]}, {out})"
        return f"matmul({operands[0]}, {operands[1]}, {out})"

    def _left_to_copy(self) -> dict[int, Value]:
        """The next parts of the carry that no operation writes in their place, by their positions."""
        return {
            i: value
            for i, value in enumerate(self.plan.program.new_carry)
            if self.plan.carried.get(value) != i and not self._is_never_read(i, value)
        }

    def _carry_copies(self) -> list[str]:
        """The next parts of the carry that no operation writes in their place."""
        lines = []
        for position, value in self._left_to_copy().items():
            name = f"n{position}"
            self.steps[name] = value
            lines.append(f"copyto({name}, {self.step_name(value)})")
        return lines

    def _is_never_read(self, position: int, value: Value) -> bool:
        """Whether that part of the carry is and stays zero, and so was written out of the program."""
        carry = self.plan.program.carry[position]
        return value.op == "zeros" and not self.users.get(carry) and carry not in self.plan.program.outputs

    # -- sums over time -------------------------------------------------------------------------------------------

    def _is_contracted(self, value: Value) -> bool:
        """Whether the value is only there to be summed over time, and is so without being made at every step."""
        return value in self.totals and self._contraction(value) is not None and not self._used(value)

    def _used(self, value: Value) -> bool:
        """Whether somebody needs the value itself: not its sum over time, nor a slice of that."""
        users = self.users.get(value, ())
        outputs = (*self.plan.program.new_carry, *self.plan.program.ys)
        return value in outputs or any(not self._is_share(user) for user in users)

    def _is_share(self, value: Value) -> bool:
        return value.op == "getitem" and value in self.plan.program.sums and not self.users.get(value)

    def _total_of(self, value: Value) -> Value:
        """What is added up over time to get the sum of this value: itself, or what it is a slice of."""
        if not self._is_share(value) or value in self.given:
            return value
        whole = value.inputs[0]
        return whole if self._contraction(whole) is not None and not self._used(whole) else value

    def _contraction(self, value: Value) -> str | None:
        if self.plan.levels.get(value) not in ("hoisted", "sunk"):
            return None
        if value.op == "matmul":
            left, right = value.inputs
            transposed = left.op == "transpose" and left["axes"] == (1, 0) and left not in self.given
            if (
                transposed
                and len(right.shape) == 2
                and not self._is_invariant(left.inputs[0])
                and not self._is_invariant(right)
            ):
                return "product"
        if value.op == "sum" and not self._is_invariant(value.inputs[0]):
            return "sum"
        return None

    def _sum(self, position: int, value: Value) -> list[str]:
        total = f"totals[{position}]"
        if self._is_invariant(value):
            return [f"add({total}, w{value.number} * {self.step_count}, {total})"]
        kind = self._contraction(value) if not self._used(value) else None
        wide = _WIDE["sum"] if _is_half(value) else ""
        if kind == "product":
            a, b = value.inputs[0].inputs[0], value.inputs[1]
            left, right = (
                f"{self.batch_name(a)}.reshape(-1, {a.shape[1]}).T",
                f"{self.batch_name(b)}.reshape(-1, {b.shape[1]})",
            )
            return [
                f"if first: matmul({left}, {right}, {total})",
                f"else: add({total}, matmul({left}, {right}), {total})",
            ]
        if kind == "sum":
            axes = (0, *(a + 1 for a in value["axis"]))
            operand = self.batch_name(value.inputs[0])
            summed = f"{operand}.sum({axes}, keepdims={value['keepdims']}{wide})"
            return [f"add({total}, {summed}.reshape({total}.shape), {total})"]
        return [f"add({total}, {self.batch_name(value)}.sum(0{wide}), {total})"]

    def _view_outputs(self) -> list[str]:
        """Outputs of every step that are views, or come from elsewhere: they are copied to where they are wanted."""
        lines = []
        for position, value in enumerate(self.plan.program.ys):
            if self.plan.is_view_of_stack(value):
                continue
            name = f"E{position}"
            self.batch[name] = value
            lines.append(f"copyto({name}, {self.batch_name(value)})")
        return lines

    def _invariant_lines(self, value: Value) -> list[str]:
        name = f"w{value.number}"
        if value.op == "constant":
            return [f"{name} = constants[{value['position']}]"]
        if value.op == "scalar":
            return []
        if value.op == "zeros":
            return [f"{name} = zeros({value.shape}, '{np.dtype(value.dtype).name}')"]
        names = [self._operand(i, False, value) for i in value.inputs]
        if value.op in VIEWS:
            # A product reads a weight the way it lies in memory, so a transposed one is laid out anew, once.
            text = view_text(value, names[0], lead=False)
            laid_out = value.op == "transpose" and any(user.op != "concat" for user in self.users[value])
            return [f"{name} = ascontiguousarray({text})" if laid_out else f"{name} = {text}"]
        if value.op in _UFUNCS:
            return [f"{name} = {value.op}({', '.join(names)})"]
        if value.op == "matmul":
            return [f"{name} = matmul({', '.join(names)})"]
        if value.op in ("sum", "max", "min"):
            return [f"{name} = {names[0]}.{value.op}({value['axis']}, keepdims={value['keepdims']})"]
        if value.op == "where":
            return [f"{name} = where({', '.join(names)})"]
        if value.op == "astype":
            return [f"{name} = {names[0]}.astype('{np.dtype(value.dtype).name}')"]
        if value.op == "rearrange":
            return [f"{name} = {names[0]}.reshape({value.shape})"]
        if value.op == "concat":
            return [f"{name} = concatenate(({', '.join(names)},), {value['axis']})"]
        lines = [f"{name} = zeros({value.shape}, '{np.dtype(value.dtype).name}')"]
        return lines + [f"{name}[{index_text(index, False)}] += {n}" for n, index in zip(names, value["indices"])]
