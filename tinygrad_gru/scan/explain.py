"""Explain: what became of a step, in words and as source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .compiled import CompiledStep
from .emit import Emitted
from .symbols import Untraceable
from .trace import trace_forward


def explain(step: Callable[[Any, Any], Any], carry: Any, xs: Any = None) -> str:
    """How `scan(step, carry, xs)` would be run: what is computed when, what is stored, and the source for NumPy.

    The arguments are those of `scan`. For a step that cannot be compiled, the reason.
    """
    try:
        forward = trace_forward(step, carry, xs)
    except Untraceable as reason:
        return f"This step runs plainly, every op at every step: {reason}."
    lines = ["The step, traced:", *(f"    {value!r}" for value in forward.listing.values), ""]
    wanted = tuple(True for _ in forward.xs)
    compiled = CompiledStep(forward, wanted if forward.captured or any(t.node for t in forward.inputs) else None)
    lines += _described(compiled.forward, "Forward")
    if compiled.backward is not None:
        stored = ", ".join(value.name for value in compiled.stored)
        lines += [f"Stored at every step for backward: {stored}", ""]
        lines += _described(compiled.backward, "Backward, from the last step to the first")
    return "\n".join(lines)


def _described(emitted: Emitted, title: str) -> list[str]:
    plan = emitted.plan
    names = {
        "fixed": "once",
        "before": "for a chunk of steps at once, before the loop (hoisted)",
        "loop": "in the loop",
        "after": "for a chunk of steps at once, after the loop (sunk)",
    }
    lines = [f"{title}: {emitted.loop_calls} array calls a step"]
    for level, words in names.items():
        operations = [value for value in plan.at(level) if value.op not in ("fixed", "scalar")]
        if operations:
            kinds = [value.op for value in operations]
            counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
            lines.append(f"    {words}: {counts}")
    return [*lines, "", *(f"    {line}" for line in emitted.lines), ""]
