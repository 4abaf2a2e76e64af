"""Random recurrent cells, on which both modes of `scan` must agree.

`python -m tests.scan.random_cells 5000` tries that many and prints the first that differ. `… 500 llvm` lets llvm
compile their loops, and prints how many it refused and why.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_gru import Tensor, arange, explain, ops, scan

WIDTH, READ = 4, 5


@dataclass
class Cell:
    """A step drawn from a seed: its parameters, how many parts its carry has, and what it returns."""

    seed: int
    batch: int
    parts: int
    xs: int
    outputs: int  # 0: the carry alone is returned
    parameters: list[Tensor]
    device: str = "numpy"

    def step(self, carry: Any, x: Any) -> Any:
        drawing = _Drawing(self, carry, x)
        output = drawing.result()
        first, last = drawing.pool[drawing.random.integers(len(drawing.pool))], drawing.pool[-1]  # noqa: F841
        return output

    @property
    def record(self) -> tuple[str, ...] | None:
        """Local variables of the step that are recorded, in a third of the cells."""
        return ("last", "first")[: 1 + self.seed % 2] if self.seed % 3 == 0 else None


class _Drawing:
    """One run of a step; the same seed draws the same operations every time."""

    def __init__(self, cell: Cell, carry: Any, x: Any):
        self.cell = cell
        self.random = np.random.default_rng(cell.seed)
        self.carry = list(carry) if isinstance(carry, tuple) else [carry]
        self.xs = [] if x is None else list(x) if isinstance(x, tuple) else [x]
        self.pool = [*self.carry]

    def weight(self, rows: int) -> Tensor:
        choices = [p for p in self.cell.parameters if p.shape == (rows, WIDTH)]
        return choices[self.random.integers(len(choices))]

    def vector(self) -> Tensor:
        batch = self.cell.batch
        choices = [p for p in self.cell.parameters if p.shape in ((WIDTH,), (1, WIDTH), (batch, 1), (batch, WIDTH))]
        return choices[self.random.integers(len(choices))]

    def pick(self) -> Tensor:
        return self.pool[self.random.integers(len(self.pool))]

    def grow(self) -> None:
        """Add a value of shape (batch, WIDTH), computed from those in the pool."""
        a, b = self.pick(), self.pick()
        makers = [
            lambda: a + b, lambda: a - b, lambda: a * b, lambda: -a, lambda: ops.tanh(a), lambda: ops.sigmoid(a),
            lambda: (1 - ops.sigmoid(a)) * b, lambda: a @ self.weight(WIDTH),
            lambda: a @ self.weight(WIDTH) + self.vector(),
            lambda: a * self.vector(), lambda: a + self.vector(), lambda: 0.5 * a, lambda: a / (2.0 + ops.square(b)),
            lambda: ops.relu(a) - 0.1 * b, lambda: ops.where(a > b, a, 0.3 * b), lambda: ops.maximum(a, b),
            lambda: a - ops.mean(a, axis=1, keepdims=True), lambda: ops.sigmoid(a[:, :1]) * b,
            lambda: ops.concatenate([a[:, 2:], b[:, :2]], axis=1), lambda: ops.sin(a) * ops.cos(b),
            lambda: ops.softmax(a), lambda: ops.exp(-ops.absolute(a)), lambda: ops.layer_norm(a),
            lambda: a.detach() * b,
            lambda: ops.sum(a * b, axis=1, keepdims=True) * 0.2 + a, lambda: ops.clip(a, low=-0.7, high=0.9),
            lambda: (ops.tanh(a @ self.weight(WIDTH)) + self.read()) * 0.5, lambda: ops.log(1.5 + ops.square(a)),
            lambda: self.read() + a, lambda: ops.tanh(self.read()) * a,
            lambda: ops.reshape(a, shape=(WIDTH, self.cell.batch)).T,
            lambda: ops.max(a, axis=1, keepdims=True) + b, lambda: self.gates(a, b), lambda: self.gates(a, b),
            lambda: ops.where(self.mask(), ops.where(self.mask(), ops.tanh(a), b), a), lambda: self.masked(a, b),
            lambda: self.weight(WIDTH)[self.ids()] * 0.5 + b, lambda: ops.embedding(self.weight(READ), self.ids()) + a,
            lambda: ops.gather(a, ops.expand_dims(self.ids(), axis=1), axis=1) * b,
            lambda: a[:, (self.ids()[0] + self.positions()) % WIDTH - WIDTH],
            lambda: ops.one_hot(self.ids(), depth=WIDTH, dtype="float64") * a - b,
            lambda: ops.scatter_add(a, 0.5 * b, index=(self.ids() % self.cell.batch,)),
            lambda: b + 0.1 * ops.expand_dims(ops.cross_entropy(a, self.ids(), reduction="none"), axis=1),
            lambda: self.attended(a, b), lambda: self.attended(a, b),
        ]  # fmt: skip
        self.pool.append(makers[self.random.integers(len(makers))]())

    def positions(self) -> Tensor:
        return arange(WIDTH, device=self.cell.device)

    def attended(self, a: Tensor, b: Tensor) -> Tensor:
        """Products of a matrix for each row of the batch, or of one that is broadcast."""
        weight, column, row = self.weight(WIDTH), ops.expand_dims(a, axis=2), ops.expand_dims(a, axis=1)
        memory = [ops.expand_dims(b, axis=2) * weight, ops.expand_dims(weight, axis=0)][self.random.integers(2)]
        makers = [
            lambda: ops.squeeze(memory @ column, axis=2), lambda: ops.squeeze(row @ memory, axis=1),
            lambda: ops.squeeze(row @ memory.mT, axis=1) * b, lambda: ops.squeeze(memory.mT @ column, axis=2) - b,
            lambda: 0.3 * ops.mean((column @ row) @ memory, axis=1), lambda: (row * memory) @ weight[0] + b,
            lambda: ops.mean((row * memory) @ weight, axis=1), lambda: ops.mean(memory @ memory.mT, axis=2) * a,
            lambda: ops.squeeze(ops.softmax(row @ memory) @ memory.mT, axis=1),
            lambda: ops.einsum("bi,bij->bj", a, memory), lambda: ops.einsum("ji,bi->bj", weight, a),
            lambda: ops.einsum("bi,ckj->bj", b, memory),
        ]  # fmt: skip
        return 0.5 * makers[self.random.integers(len(makers))]()

    def ids(self) -> Tensor:
        """A position in 0 … WIDTH − 1 for each row, computed from a value of the pool."""
        find = ops.argmax if self.random.random() < 0.7 else ops.argmin
        return find(self.pick(), axis=1)

    def gates(self, a: Tensor, b: Tensor) -> Tensor:
        """Gates as a GRU or an LSTM has them: several products with one left operand, and functions of them."""
        functions = [ops.sigmoid, ops.sigmoid, ops.tanh, ops.square]
        gates = [
            functions[self.random.integers(len(functions))](self.read() + a @ self.weight(WIDTH) + self.vector())
            for _ in range(self.random.integers(2, 5))
        ]
        if self.random.random() < 0.5:
            gates[0] = gates[0] @ self.weight(WIDTH) + (gates[1] * b) @ self.weight(WIDTH)
        return 0.4 * sum((gate * b for gate in gates[1:]), start=gates[0])

    def mask(self) -> Tensor:
        """A random condition: on an x, a parameter, or the carry."""
        makers = (self.read, self.vector, self.pick)
        return makers[self.random.integers(3)]() > 0

    def masked(self, a: Tensor, b: Tensor) -> Tensor:
        """A value that is kept where a mask says so."""
        return ops.where(self.mask(), ops.tanh(a * b), self.carry[0])

    def read(self) -> Tensor:
        """An x, projected to the width of the carry."""
        if not self.xs:
            return self.pick()
        x = self.xs[self.random.integers(len(self.xs))]
        return x @ self.weight(READ) if self.random.random() < 0.7 else x[:, :WIDTH]

    def result(self) -> Any:
        for _ in range(self.random.integers(2, 9)):
            self.grow()
        new = []
        for part in self.carry:
            choice = self.random.random()
            # Most parts are bounded, so that long runs stay finite; a few are passed through, swapped, or an x.
            if choice < 0.08:
                new.append(part)
            elif choice < 0.16:
                new.append(self.carry[self.random.integers(len(self.carry))])
            elif choice < 0.22 and self.xs:
                new.append(self.xs[0][:, :WIDTH])
            else:
                new.append(ops.tanh(self.pick()))
        carry = tuple(new) if len(new) > 1 else new[0]
        if self.cell.outputs == 0:
            return carry
        ys = tuple(
            self.pick() if self.random.random() < 0.7 else ops.sum(self.pick(), axis=1)
            for _ in range(self.cell.outputs)
        )
        return carry, ys if self.cell.outputs > 1 else ys[0]


def draw(seed: int) -> Cell:
    random = np.random.default_rng(seed)
    batch = int(random.choice([1, 3]))
    shapes = [(WIDTH, WIDTH)] * 3 + [(READ, WIDTH)] * 2 + [(WIDTH,), (1, WIDTH), (batch, 1), (batch, WIDTH)]
    parameters = [Tensor(0.6 * random.standard_normal(s), requires_grad=random.random() < 0.85) for s in shapes]
    return Cell(
        seed, batch, int(random.integers(1, 4)), int(random.integers(0, 3)), int(random.integers(0, 3)), parameters
    )


def run(
    cell: Cell, length: int, reverse: bool, compiled: bool | str, nudge: float = 0.0, device: str = "numpy"
) -> list[np.ndarray | None]:
    """All values and all gradients of one run; `nudge` changes the inputs by that much of themselves."""
    random, noise = np.random.default_rng(cell.seed + 1), np.random.default_rng(cell.seed + 2)

    def leaves(count: int, *shape: int) -> list[Tensor]:
        return [
            Tensor(
                random.standard_normal(shape) * (1 + nudge * noise.standard_normal(shape)),
                random.random() < 0.8,
                device=device,
            )
            for _ in range(count)
        ]

    cell.device = device
    cell.parameters = [Tensor(p.numpy(), p.requires_grad, device=device) for p in cell.parameters]
    carry, xs = leaves(cell.parts, cell.batch, WIDTH), leaves(cell.xs, length, cell.batch, READ)
    last, ys, *records = scan(
        cell.step, tuple(carry) if cell.parts > 1 else carry[0],
        None if not xs else tuple(xs) if len(xs) > 1 else xs[0], length=length, reverse=reverse, compiled=compiled,
        record=cell.record,
    )  # fmt: skip
    outputs = [*(last if isinstance(last, tuple) else [last]), *(ys if isinstance(ys, tuple) else [ys])]
    outputs += [value for found in records for value in found.values()]
    used = [y for y in outputs if random.random() < 0.8] or outputs[:1]
    cotangents = [Tensor(random.standard_normal(y.shape), device=device) for y in used]
    loss = sum(((y * g).sum() for y, g in zip(used, cotangents)), start=Tensor(0.0, dtype="float64", device=device))
    if loss.requires_grad:
        loss.backward()
    gradients = [t.grad for t in [*carry, *xs, *cell.parameters]]
    return [y.numpy() for y in outputs] + [None if g is None else g.numpy() for g in gradients]


def difference(
    cell: Cell, length: int, reverse: bool, mode: bool | str = True, device: str = "numpy", times: int = 1
) -> float:
    """The difference between the two modes, relative to the size of each result; infinite if only one has a gradient.

    device, times  where compiled mode runs, and how often: a CUDA graph is captured first and replayed later

    A few cells amplify rounding errors. For them the difference is 0 if it is no larger than what a change of the
    inputs in their last digits makes in eager mode.
    """
    with np.errstate(all="ignore"):
        eager = run(cell, length, reverse, False)
        for _ in range(times):
            compiled = run(cell, length, reverse, mode, device=device)
        found = _apart(eager, compiled)
        if 1e-10 < found < np.inf and found < 100 * _apart(eager, run(cell, length, reverse, False, nudge=1e-15)):
            return 0.0
    return found


def refusal(cell: Cell, mode: bool | str) -> str:
    """Why the cell, or a part of it, is not compiled in this mode; empty if it is."""
    carry = [Tensor(np.zeros((cell.batch, WIDTH)), requires_grad=True) for _ in range(cell.parts)]
    xs = [Tensor(np.zeros((1, cell.batch, READ)), requires_grad=True) for _ in range(cell.xs)]
    text = explain(
        cell.step, tuple(carry) if cell.parts > 1 else carry[0],
        None if not xs else tuple(xs) if len(xs) > 1 else xs[0], compiled=mode,
    )  # fmt: skip
    reasons = (line for line in text.splitlines() if "runs eagerly" in line or line.startswith("llvm does not"))
    return next(reasons, "")


def _apart(eager: list, compiled: list) -> float:
    worst = 0.0
    for p, c in zip(eager, compiled):
        if p is None and c is None:
            continue
        if p is None or c is None:
            present = p if c is None else c
            worst = max(worst, 0.0 if not np.any(present) else np.inf)
            continue
        if p.size:
            worst = max(worst, float(np.max(np.abs(p - c))) / max(1.0, float(np.max(np.abs(p)))))
    return worst


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    mode = sys.argv[2] if len(sys.argv) > 2 else True
    first = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    bad = 0
    refusals: Counter[str] = Counter()
    for seed in range(first, first + count):
        cell = draw(seed)
        for length, reverse in ((1, False), (2, True), (7, False)):
            try:
                found = difference(cell, length, reverse, mode)
            except Exception as error:
                found, reason = np.inf, f"{type(error).__name__}: {error}"
            else:
                reason = ""
            if not found < 1e-10:
                bad += 1
                print(f"seed {seed}, length {length}, reverse {reverse}: {found:.3g} {reason}", flush=True)
                break
        refusals[refusal(cell, mode)] += 1
        if bad >= 10:
            break
    print(f"{count} cells, {bad} differ")
    for reason, times in refusals.most_common():
        if reason:
            print(f"{times} cells: {reason}")
