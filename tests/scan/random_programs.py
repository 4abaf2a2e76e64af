"""Random programs, for passes, plans and emitters: also those that no traced step would give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.scan.programs import LENGTH, Example
from tinygrad_gru.scan.ir import Graph, Program
from tinygrad_gru.scan.tracing.traced_array import NAMESPACE, TracedArray

xp = NAMESPACE
DOUBLE, SQUARE = np.dtype("float64"), (3, 3)


def draw_program(seed: int) -> Example:
    """A program of up to forty operations on arrays of a few shapes, with carries, ys and sums."""
    random = np.random.default_rng(seed)
    return _Drawing(random).example()


class _Drawing:
    def __init__(self, random: np.random.Generator):
        self.random = random
        self.graph = Graph()
        carry_shapes = [SQUARE] * random.integers(1, 4) + [(3,), (1, 3), ()][: random.integers(0, 4)]
        x_shapes = [SQUARE] * random.integers(0, 3) + [(3,), (3, 1), (), (2, 3, 3)][: random.integers(0, 5)]
        self.carry = [self.input("carry", i, shape) for i, shape in enumerate(carry_shapes)]
        self.xs = [self.input("x", i, shape) for i, shape in enumerate(x_shapes)]
        constants = [random.standard_normal(shape) for shape in (SQUARE, SQUARE, (3,), (3, 1), (2, 3, 3))]
        self.constants = [TracedArray(self.graph, self.graph.capture(array)) for array in constants]
        self.pool = [*self.carry, *self.xs, *self.constants]

    def input(self, source: str, position: int, shape: tuple[int, ...]) -> TracedArray:
        return TracedArray(self.graph, self.graph.add(source, (), shape, DOUBLE, position=position))

    def pick(self, fits: Callable[[TracedArray], bool] = lambda x: True) -> TracedArray:
        """One of the values, preferably a late one."""
        choices = [x for x in self.pool if fits(x)]
        return choices[max(self.random.integers(len(choices), size=2))]

    def matrix(self) -> TracedArray:
        return self.pick(lambda x: x.shape == SQUARE)

    def condition(self) -> TracedArray:
        a, b = self.pick(), self.number_or(self.pick)
        return [lambda: a > b, lambda: a <= b, lambda: a == a][self.random.integers(3)]()

    def number_or(self, pick: Callable) -> TracedArray | float:
        return float(self.random.integers(1, 4)) if self.random.random() < 0.2 else pick()

    def grow(self) -> None:
        a, b, m = self.pick(), self.number_or(self.pick), self.matrix()
        z = self.matrix()
        makers: list[Callable[[], TracedArray]] = [
            lambda: a + b, lambda: a + b, lambda: a - b, lambda: a * b, lambda: a * b, lambda: b * a, lambda: -a,
            lambda: a / (1.0 + b * b), lambda: xp.tanh(a), lambda: xp.maximum(a, b), lambda: a**2,
            lambda: xp.where(self.condition(), a, b), lambda: xp.astype(self.condition(), DOUBLE) * a,
            lambda: xp.astype(xp.astype(xp.tanh(a), "float32"), DOUBLE), lambda: (1 - z) * m + z * self.matrix(),
            lambda: m @ self.matrix(), lambda: m @ self.matrix(), lambda: m.mT @ self.matrix(), lambda: m @ z.mT,
            lambda: a @ m, lambda: m @ a, lambda: xp.sum(a, axis=-1, keepdims=True), lambda: xp.sum(a, axis=0),
            lambda: xp.max(a, axis=0), lambda: xp.sum(a), lambda: m.mT, lambda: xp.permute_dims(a, range(a.ndim)[::-1]),
            lambda: m[:, 1:], lambda: m[::-1], lambda: a[0], lambda: a[..., :1], lambda: m[1, ::2],
            lambda: xp.reshape(m, (9,))[:3], lambda: xp.reshape(m, (1, 3, 3)), lambda: xp.expand_dims(a, 0),
            lambda: xp.broadcast_to(a, np.broadcast_shapes(a.shape, SQUARE)), lambda: xp.concat([m[:2], z[:1]], 0),
            lambda: xp.concat([m[:, :2], z[:, :1]], 1), lambda: xp.stack([m, z], 0),
            lambda: self.scatter(SQUARE, [(slice(1, 3), slice(None)), (slice(0, 2),)], [m[1:], z[:2]]),
            lambda: self.scatter(SQUARE, [(slice(None), 2), (0, slice(None, None, -1))], [m[:, 1], z[0]]),
            lambda: self.select(m, self.row()), lambda: self.select(m, slice(None), self.row()),
            lambda: self.select(m, self.row(), self.row()),
            lambda: self.select(m[1:], slice(None, None, -1), self.row()),
            lambda: self.scatter(SQUARE, [(self.row(),)], [z]),
            lambda: self.scatter(SQUARE, [(slice(1), self.row())], [z[:1]]),
            lambda: self.scatter(SQUARE, [(self.row(), self.row()), (0,)], [m[0], z[1]]),
            lambda: xp.astype(self.row(), DOUBLE) * 0.5,
            lambda: xp.astype(self.row()[:, None] == self.row(), DOUBLE) @ m,
            lambda: xp.astype(xp.sum(xp.astype(m > 0, np.int32), axis=0), DOUBLE),
        ]  # fmt: skip
        if self.random.random() < 0.1:
            makers = [self.gates]
        try:
            made = makers[self.random.integers(len(makers))]()
        except ValueError:  # shapes that do not go together
            return
        if made.dtype == DOUBLE and made.ndim <= 3 and made.size <= 27:
            self.pool.append(xp.tanh(made) if self.random.random() < 0.4 else made)  # so that all stays finite

    def scatter(self, shape: tuple[int, ...], indices: list, arrays: list) -> TracedArray:
        return arrays[0].__backend__.scatter(shape, indices, arrays)

    def select(self, x: TracedArray, *index: Any) -> TracedArray:
        return x.__backend__.advanced_index(x, index)

    def row(self) -> TracedArray:
        """Three positions on an axis of three: argmax of values, a constant, or computed from these."""
        m = self.matrix()
        backend = m.__backend__
        constant = TracedArray(self.graph, self.graph.capture(self.random.integers(-3, 3, 3)))
        makers = [
            lambda: xp.argmax(m, axis=0), lambda: xp.argmin(m, axis=1), lambda: constant,
            lambda: 2 - xp.argmax(m, axis=1),
            lambda: xp.where(m[0] > 0, backend.arange(3), -1), lambda: xp.astype(xp.argmax(m, axis=0), "int32"),
        ]  # fmt: skip
        return makers[self.random.integers(len(makers))]()

    def gates(self) -> TracedArray:
        """A pattern to merge: products with one left operand, activations, products of these, and their sum."""
        left, count = self.matrix(), self.random.integers(2, 4)
        activations = [xp.tanh, lambda x: 0.5 + 0.5 * xp.tanh(0.5 * x), lambda x: x * x]
        gates = [left @ self.weight() + self.number_or(self.matrix) for _ in range(count)]
        gates = [activations[self.random.integers(len(activations))](gate) for gate in gates]
        self.pool += gates[: self.random.integers(count)]
        if self.random.random() < 0.5:
            gates = [gate @ self.weight() for gate in gates]
        return sum(gates[1:], start=gates[0])

    def weight(self) -> TracedArray:
        """A new constant matrix, or a shared one."""
        if self.random.random() < 0.5:
            return self.constants[self.random.integers(2)]
        return TracedArray(self.graph, self.graph.capture(self.random.standard_normal(SQUARE)))

    def some(self, most: int) -> list:
        return [self.pick().value for _ in range(self.random.integers(0, most))]

    def summed(self) -> tuple:
        """Any values, and products like the gradients of weights."""
        lefts = [self.matrix().mT for _ in range(2)]
        products = [lefts[self.random.integers(2)] @ self.matrix() for _ in range(self.random.integers(4))]
        biases = [xp.sum(self.matrix(), axis=0) for _ in range(self.random.integers(3))]
        return (*self.some(4), *(x.value for x in products + biases))

    def example(self) -> Example:
        for _ in range(self.random.integers(3, 40)):
            self.grow()
        new = tuple(self.next_carry(part).value for part in self.carry)
        inputs = [tuple(array.value for array in arrays) for arrays in (self.carry, self.xs)]
        program = Program(self.graph, *inputs, new, tuple(self.some(5)), self.summed())
        carry = [self.random.standard_normal(x.shape) for x in self.carry]
        xs = [self.random.standard_normal((LENGTH, *x.shape)) for x in self.xs]
        return Example(program, carry, xs, bool(self.random.integers(2)))

    def next_carry(self, part: TracedArray) -> TracedArray:
        """A bounded value, since it is fed back: an input, a constant, a tanh, or a view of one."""
        new = self.pick(lambda x: x.shape == part.shape)
        source = new.value
        while source.op in ("getitem", "transpose", "reshape"):
            (source,) = source.inputs
        return new if source.op in ("carry", "x", "constant", "tanh") else xp.tanh(new)
