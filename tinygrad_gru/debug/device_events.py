"""What a piece of a program asks of a GPU: copies, waits and launches, by the op that asks and the line of the program.

    with sanitize() as report:
        trainer.step()
    print(report)

A step of a training should copy one thing to the host, its loss, and wait for nothing else: while the host waits it
cannot think of what the device is to do next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..backend import backend_of
from ..backend.events import ALONGSIDE, HOST_READ, LAUNCH, TO_DEVICE, TO_HOST, WAIT, event_listener, record_launches
from ..cotangents import Sparse
from ..inspector import Inspector
from ..ops.op import Op
from ..tape import Node, Variable, inspector
from .instrumented import InstrumentedArray, instrument, uninstrument


class Request(NamedTuple):
    """Something that was asked of the device: of which `kind`, by which op, and from which place in the program."""

    kind: str
    op: str
    place: str


class Report:
    """What was asked of the device, and how often. Prints as a table."""

    def __init__(self) -> None:
        self.counts: dict[Request, int] = defaultdict(int)
        self.bytes: dict[Request, int] = defaultdict(int)

    def __repr__(self) -> str:
        head = (
            f"{self.transfers} copies between host and device, {self.synchronizations} times the host waited, "
            f"{self.launches} launches"
        )
        if not self.counts:
            return head
        rows = sorted(self.counts.items(), key=lambda row: (_ORDER.index(row[0].kind), -row[1]))
        table = [("times", "what", "bytes", "op", "where")]
        table += [(f"{n:,}", r.kind, f"{self.bytes[r]:,}" if self.bytes[r] else "", r.op, r.place) for r, n in rows]
        times, what, size, op, _ = (max(map(len, column)) for column in zip(*table))
        lines = [f"{n:>{times}}  {k:{what}}  {b:>{size}}  {o:{op}}  {place}" for n, k, b, o, place in table]
        return "\n".join([head, *lines])

    def clear(self) -> None:
        """Forget what was counted: after a first step, which makes what the others use again."""
        self.counts.clear()
        self.bytes.clear()

    def count(self, *kinds: str) -> int:
        return sum(count for request, count in self.counts.items() if request.kind in kinds)

    @property
    def transfers(self) -> int:
        """Copies between host and device, in both directions."""
        return self.count(TO_HOST, ALONGSIDE, TO_DEVICE)

    @property
    def synchronizations(self) -> int:
        """How often the host waited for the device: for every value that was copied to it, and otherwise."""
        return self.count(TO_HOST, WAIT)

    @property
    def launches(self) -> int:
        """Kernels that were started: one for every function of arrays that was called, which may start more."""
        return self.count(LAUNCH)


#: What is looked for first.
_ORDER = (TO_HOST, WAIT, ALONGSIDE, TO_DEVICE, LAUNCH)


class Sanitizer(Inspector):
    """Takes the notes that backends make, and runs ops and their rules on arrays that make notes."""

    every_step = False

    def __init__(self, report: Report, rehearse: bool):
        super().__init__()
        self.report, self.rehearse = report, rehearse
        self.running: str | None = None  # the outermost op that runs, or whose rules do

    def take(self, kind: str, name: str, count: int, nbytes: int) -> None:
        """Count a note."""
        if kind == HOST_READ:
            if not self.rehearse:
                return
            kind = TO_HOST
        request = Request(kind, self.running or name, self.place())
        self.report.counts[request] += count
        self.report.bytes[request] += nbytes

    @contextmanager
    def inside(self, name: str, owner: Any = None) -> Iterator[None]:
        if owner is None:  # a step of a recurrence, which asks what the others ask
            yield
        else:
            with super().inside(name, owner):
                yield

    @contextmanager
    def _about(self, name: str) -> Iterator[None]:
        outermost = self.running is None
        self.running = self.running or name
        try:
            yield
        finally:
            if outermost:
                self.running = None

    def _counts(self, array: Any) -> bool:
        return not _is_symbolic(array) and (self.rehearse or not backend_of(array).is_host)

    def _watched(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return type(value)(map(self._watched, value))
        is_array = hasattr(value, "dtype") and not isinstance(value, Variable)
        return instrument(value) if is_array and self._counts(value) else value

    def run(self, op: Op, inputs: tuple, settings: dict[str, Any]) -> Any:
        if any(map(_is_symbolic, inputs)):
            return op.formula(*inputs, **settings)
        with self._about(op.__name__):
            result = op.formula(*map(self._watched, inputs), **settings)
        return result if any(isinstance(x, InstrumentedArray) for x in inputs) else uninstrument(result)

    def apply_vjp(
        self, record: Node, parents: tuple, saved: tuple, cotangent: Any, accumulate: Callable[[Node, Any], None]
    ) -> None:
        def give_bare(node: Node, gradient: Any) -> None:
            if type(gradient) is Sparse:
                gradient.pieces = uninstrument(gradient.pieces)
            accumulate(node, uninstrument(gradient))

        with self._about(f"{record.op.__name__}, backward"):
            recorded = isinstance(cotangent, Variable)  # its rules run as ops, which are seen
            if recorded or _is_symbolic(cotangent) or not hasattr(record.op, "formula"):
                record.op.apply_vjp(parents, saved, cotangent, accumulate)
            else:
                record.op.apply_vjp(parents, self._watched(saved), self._watched(cotangent), give_bare)

    def added(self, previous: Any, gradient: Any) -> None:
        if isinstance(gradient, Variable):  # added by an op, which is seen
            return
        arrays = [x.base if type(x) is Sparse else x for x in (previous, gradient)]
        known = [x for x in arrays if x is not None]
        # To a sparse gradient without one an array is added when it is made dense.
        is_sum = len(known) == 2 or (len(known) == 1 and type(previous) is not type(gradient))
        if is_sum and self._counts(known[0]):
            record_launches(1, "sum of gradients")

    def forward(self, op: Op, inputs: tuple, result: Variable) -> None:
        pass

    def backward(self, record: Node, cotangent: Any) -> None:
        pass


def _is_symbolic(value: Any) -> bool:
    """Whether it is an array without numbers, of which nothing is asked: a step is being compiled."""
    return hasattr(value, "__backend__") and not isinstance(value, InstrumentedArray)


@contextmanager
def sanitize(rehearse: bool = False) -> Iterator[Report]:
    """In this block count what is asked of a GPU; the report names the op and the line of the program.

    rehearse  count NumPy's arrays as if they were a GPU's: to learn of copies to the host before there is a GPU
    """
    report = Report()
    sanitizer = Sanitizer(report, rehearse)
    tokens = inspector.set(sanitizer), event_listener.set(sanitizer.take)
    try:
        yield report
    finally:
        inspector.reset(tokens[0])
        event_listener.reset(tokens[1])
