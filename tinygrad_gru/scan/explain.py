"""Explain: a report of how a step is compiled, ending with its source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ..native import Function
from ..trees import flatten
from ..writes import tick
from . import passes
from .fallback import Remark
from .modes import Mode, mode_of
from .names import closed_over_tensors
from .passes.linear import why_not_linear
from .passes.schedule import VIEWS, Level, schedule
from .plan_cache import CompiledStep, compiled_steps
from .protocol import check_carry, check_step, checked_xs
from .targets.blocked_scan import FEWEST_STEPS
from .targets.source import Executable
from .tracing.repeated import Repetition
from .tracing.trace import Trace
from .tracing.trace_cache import why_traced_anew
from .tracing.traced_array import Untraceable
from .tracing.tracer import trace_with_names

LEVELS: dict[Level, str] = {
    "invariant": "once, before the loop (loop-invariant)",
    "hoisted": "for a chunk of steps at once, before the loop (hoisted)",
    "loop": "in the loop",
    "sunk": "for a chunk of steps at once, after the loop (sunk)",
}


def explain(step: Callable[[Any, Any], Any], carry: Any, xs: Any = None, *, compiled: bool | str | None = None) -> str:
    """How `scan(step, carry, xs)` runs: by which target and why, the graph of the step, each pass's effect, the source.

    The arguments are those of `scan`; compiled="llvm" shows the loop that LLVM compiles, "cuda" the source for a GPU,
    "javascript" that for Node.js or a page. Says what is loop-invariant, hoisted and sunk, what is concatenated, and
    the residuals; values have the names of the step's variables. For a step that cannot be compiled, the reason.

    >>> W = Tensor([[2.0]], requires_grad=True)
    >>> "tanh" in explain(lambda h, x: ops.tanh(h @ W + x), zeros(1, 1), zeros(5, 1, 1))
    True
    """
    check_step(step, "explain")
    if xs is None and hasattr(step, "named_tensors"):
        raise TypeError(
            f"explain: step must be a function step(carry, x), got the module {type(step).__name__} and its input. Of "
            "a recurrent layer in it: explain(layer.cells[0].step, layer.cells[0].initial_state(batch), x)"
        )
    check_carry(carry)
    xs = checked_xs(xs)
    mode = mode_of(compiled)
    shown = (mode if mode.target else mode_of(True)).on(flatten(carry)[0].data)
    try:
        forward, found = trace_with_names(step, carry, xs)
        differentiable = forward.closed_over or any(t.node for t in forward.inputs)
        trace = Trace.of(forward, [True for _ in forward.xs] if differentiable else None)
        Repetition().check(None, trace, step, carry, xs)
        compiled_step = CompiledStep(trace, shown.target)
        backward = compiled_step.backward()
    except Untraceable as reason:
        text = Remark.of(step, reason).text
        return f"{text[0].upper()}{text[1:]}."
    constants, values = _names(trace, step), {value.number: name for value, name in found.of().items()}
    traced = [f"    {value!r}" for value in forward.graph.values[: forward.size] if value.op != "scalar"]
    lines = [
        *_how(mode, shown, compiled_step),
        "",
        _reuse(why_traced_anew(step, carry, xs, trace)),
        "",
        "The step, traced:",
        *traced,
        "",
    ]
    if forward.draws:
        count = len(forward.draws)
        values |= {value.number: f"draw {i} of the step" for i, value in enumerate(forward.xs[-count:], start=1)}
        lines += [f"Random numbers: {count} draws per step, made before the loop; the same as in eager mode.", ""]
    lines += _described(compiled_step.forward, "Forward")
    if backward is not None:
        residuals = ", ".join(value.name for value in compiled_step.residuals)
        lines += [f"Residuals, stored at every step for backward: {residuals}", ""]
        lines += _described(backward, "Backward, from the last step to the first")
    return "\n".join(_named(line, constants, values) for line in lines)


TARGETS = {
    "numpy": "a program of NumPy's functions", "llvm": "machine code, compiled by LLVM",
    "cuda": "kernels and a graph of them on a GPU", "javascript": "a program for Node.js or a page",
}  # fmt: skip


def _how(mode: Mode, shown: Mode, step: CompiledStep) -> list[str]:
    """The target, what decides it, and where its machine code is from."""
    lines = [] if mode.target else [f"Eager mode: every op runs at every step ({mode.reason}). In compiled mode:"]
    lines.append(f"Target {shown.target}: {TARGETS[shown.family]} ({shown.reason}).")
    if step.fallback:
        lines.append(f"llvm does not compile all of it: {step.fallback}. So its target is numpy: {TARGETS['numpy']}.")
    elif functions := step.native_functions:
        lines.append(f"Machine code: {origin(functions)}. `tinygrad-gru cache` says where it is kept.")
    return lines


def _reuse(reason: str) -> str:
    """How often the step is traced."""
    if reason:
        return f"Traced at every call of scan: {reason}."
    return "Traced once: the trace is used again as long as nothing that the step reads is replaced."


def origin(functions: Sequence[Function]) -> str:
    """Where the machine code of these functions is from."""
    compiled, loaded = ([f.seconds for f in functions if f.is_compiled is which] for which in (True, False))
    texts = [f"{len(seconds)} function{'' if len(seconds) == 1 else 's'} {words} in {sum(seconds):.3f} s"
             for seconds, words in ((compiled, "compiled by this process"), (loaded, "loaded from the cache on disk"))
             if seconds]  # fmt: skip
    return ", ".join(texts)


class Compilations:
    """The steps of `scan` that are compiled after this object was made."""

    def __init__(self) -> None:
        self._since = tick()

    def words(self, mode: Mode) -> str:
        """By which target they run, and where their machine code is from; "" if there are none."""
        steps = [step for step in compiled_steps() if step.born > self._since]
        families = sorted({"numpy" if step.fallback else step.target.partition(":")[0] for step in steps})
        functions = [function for step in steps for function in step.native_functions]
        words = " and ".join(TARGETS[family] for family in families)
        return words and f"recurrences: {words} ({origin(functions) if functions else mode.reason})"


def _described(executable: Executable, title: str) -> list[str]:
    source, plan = executable.source, executable.source.plan
    lines = [f"{title}: {source.per_step}", *_scan_remark(executable), ""]
    for name, program in executable.stages:
        levels = schedule(program)
        in_loop = [v for v, level in levels.items() if level == "loop" and v.op not in VIEWS and v.op != "concat"]
        lines.append(f"    {len(in_loop):>3} operations in the loop after {name}: {_summary(name)}")
    lines.append("")
    for level, words in LEVELS.items():
        operations = [value for value in plan.operations(level) if value.op not in ("constant", "scalar")]
        if operations:
            counts = Counter(value.op for value in operations)
            lines.append(f"    {words}: {', '.join(f'{count} {op}' for op, count in counts.items())}")
    lines += [
        f"    computed into slices of one array: {', '.join(part.name for part in concat.inputs)}"
        for concat in sorted(plan.concats, key=lambda v: v.number)
    ]
    return [*lines, "", *(f"    {line}" for line in (*source.loop_lines, *source.lines)), ""]


def _scan_remark(executable: Executable) -> list[str]:
    """Whether a target that knows scans runs the program as one, or why not if it is close to one."""
    name, program = executable.stages[-1]
    if name != passes.mark_linear.__name__:
        return []
    if program.linear:
        words = "Linear and diagonal in its state: run as a scan of logarithmic depth"
        return [f"    {words} (from {FEWEST_STEPS} steps on, unless coefficients grow beyond 1)"]
    reason = why_not_linear(program)
    return [f"    Not run as a scan: {reason}"] if reason else []


def _summary(name: str) -> str:
    """The first line of a pass's docstring."""
    rewrite = getattr(passes, name, None)
    text = "the ops, one by one" if rewrite is None else rewrite.__doc__ or ""
    return text.partition("\n")[0].rstrip(".")


def _names(trace: Trace, step: Callable) -> dict[int, str]:
    """The names that the step has for its closed-over constants, by their position."""
    names = {id(tensor.data): name for name, tensor in closed_over_tensors(step).items()}
    return {i: names[id(array)] for i, array in enumerate(trace.constants) if id(array) in names}


def _named(line: str, constants: dict[int, str], values: dict[int, str]) -> str:
    """The line, with the name of the constant in it, or of the value that it defines, as a comment."""
    constant = re.search(r"constants\[(\d+)\]|constant\(position=(\d+)\)", line)
    value = re.match(r"\s*(?:const (?:\w+ )?)?v(\d+) = ", line)
    name = constants.get(int(constant[1] or constant[2])) if constant else values.get(int(value[1])) if value else None
    return f"{line}  {'//' if line.endswith(';') else '#'} {name}" if name else line
