"""A program: a listing that is run once for every step of time, in either direction.

The forward pass is a program whose carry is the state; the backward pass is one whose carry is the state's cotangent,
which reads what the forward pass has stored and runs from the last step to the first. All passes serve both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from .ir import Graph, Value


@dataclass(frozen=True)
class Program:
    """carry → new_carry at every step, from `xs`; `ys` are wanted of every step, `sums` added up over all steps.

    Every value that is neither made by an operation nor among `carry` and `xs` is the same at all steps.
    """

    graph: Graph
    carry: tuple[Value, ...]
    xs: tuple[Value, ...]
    new_carry: tuple[Value, ...]
    ys: tuple[Value, ...]
    sums: tuple[Value, ...]

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (*self.new_carry, *self.ys, *self.sums)

    def values(self) -> list[Value]:
        """All values that the outputs need, in an order in which they can be computed; reads and carry included."""
        given = set(self.carry) | set(self.xs)
        found: set[Value] = set()
        stack = list(self.outputs)
        while stack:
            value = stack.pop()
            if value not in found:
                found.add(value)
                if value not in given:
                    stack.extend(value.inputs)
        return sorted(found, key=lambda value: value.number)

    def rewritten(self, rewrite: Callable[[Value], Value]) -> Program:
        """The program with each output replaced by what `rewrite` makes of it."""
        return replace(
            self,
            new_carry=tuple(map(rewrite, self.new_carry)),
            ys=tuple(map(rewrite, self.ys)),
            sums=tuple(map(rewrite, self.sums)),
        )

    def rebuilt(
        self, rule: Callable[[Value, Mapping[Value, Value]], Value | None], zeros: Collection[Value] = ()
    ) -> Program:
        """The program with what `rule` makes of a value, given what is made of others; None leaves it as it is.

        zeros  parts of the carry that are taken for zeros
        """
        done = _Rebuilding(self, rule)
        done.update({value: self.graph.zeros(value) for value in zeros})
        for value in self.values():
            done[value]
        return self.rewritten(done.__getitem__)

    def depending_on(self, sources: Sequence[Value]) -> set[Value]:
        """The values that change if one of the sources does."""
        given, changing = set(self.carry) | set(self.xs), set(sources)
        for value in self.values():
            if value not in given and any(i in changing for i in value.inputs):
                changing.add(value)
        return changing


class _Rebuilding(dict):
    """What is made of each value, made when somebody first asks."""

    def __init__(self, program: Program, rule: Callable[[Value, Mapping[Value, Value]], Value | None]):
        super().__init__({value: value for value in (*program.carry, *program.xs)})
        self.graph, self.rule = program.graph, rule

    def __missing__(self, value: Value) -> Value:
        made = self.rule(value, self)
        if made is None:
            made = value.with_inputs(self.graph, [self[i] for i in value.inputs])
        self[value] = made
        return made


_CHEAP = frozenset({"add", "subtract", "multiply", "negative"})


def stored_values(graph: Graph, forward_size: int, outputs: Sequence[Value]) -> list[Value]:
    """The values of the forward pass that a backward pass with these outputs reads.

    Those are the values of the first `forward_size` lines that change with time. What is made of weights and numbers
    alone is made again, and so is 1 − z: one cheap operation on what others need too, for all steps at once.
    """
    forward = graph.values[:forward_size]
    changing: set[Value] = set()
    for value in forward:
        if value.op in ("carry", "x") or any(i in changing for i in value.inputs):
            changing.add(value)
    uses = Counter(i for value in forward for i in value.inputs)

    def is_cheap(value: Value) -> bool:
        operands = [i for i in value.inputs if i.op != "scalar"]
        return value.op in _CHEAP and len(operands) == 1 and uses[operands[0]] > 1

    stored: set[Value] = set()
    stack, seen = list(outputs), set(outputs)
    while stack:
        value = stack.pop()
        if value in changing and not is_cheap(value):
            stored.add(value)
            continue
        for i in value.inputs:
            if i not in seen:
                seen.add(i)
                stack.append(i)
    return sorted(stored, key=lambda v: v.number)
