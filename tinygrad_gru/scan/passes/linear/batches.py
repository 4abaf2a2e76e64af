"""Batches: what is computed for many steps at once around the scans of a linear recurrence, and in what order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ...ir import LinearPart, Value
from ..schedule import VIEWS, base_of
from ..storage import Plan


class Batches(NamedTuple):
    """The operations of the loop, and those of later levels that coefficients need, for all steps of a chunk.

    before  for each linear part, the values that its coefficients need and that no earlier batch has computed
    after   the rest of the loop's values that are used outside of it
    """

    before: list[tuple[list[Value], LinearPart]]
    after: list[Value]


def batches_of(plan: Plan) -> Batches:
    """The batches of a plan whose program is linear."""
    program, levels = plan.program, plan.levels
    known = {value for value in program.values() if levels.get(value, "hoisted") in ("invariant", "hoisted")}

    def missing(roots: Iterable[Value]) -> list[Value]:
        """The operations that these need and whose results are not known, in order; these become known."""
        found: set[Value] = set()
        stack = [root for root in roots if root not in known]
        while stack:
            value = stack.pop()
            if value not in found:
                found.add(value)
                stack += [i for i in value.inputs if i not in known]
        known.update(found)
        return [
            value
            for value in program.values()
            if value in found and value.op not in VIEWS and value not in plan.concats
        ]

    before = []
    for part in program.linear:
        before.append((missing((*part.a, *part.b)), part))
        for position in part.positions:
            known.add(program.carry[position])
            if plan.carried.get(program.new_carry[position]) == position:  # it is there after the scan
                known.add(program.new_carry[position])
    sunk = [value for value in program.values() if levels.get(value) == "sunk"]
    used = {base_of(i, program.inputs) for value in sunk for i in value.inputs}
    used |= {base_of(value, program.inputs) for value in (*program.ys, *program.sums)}
    return Batches(before, missing(value for value in used if levels.get(value) == "loop"))
