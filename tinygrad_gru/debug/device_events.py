"""Device events: the copies, waits and launches of a piece of a program, by op and source line.

    with sanitize() as report:
        trainer.step()
    print(report)

A training step should copy one thing to the host, its loss, and wait for nothing else: while the host waits, it
enqueues no work for the device.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..backend import backend_of
from ..backend.events import ALONGSIDE, HOST_READ, LAUNCH, TO_DEVICE, TO_HOST, WAIT, event_listener, record_launches
from ..contexts import setting
from ..cotangents import Sparse
from ..inspector import Inspector
from ..ops.op import Op
from ..tape import Node, Variable, inspector
from .instrumented import InstrumentedArray, instrument, uninstrument


class DeviceEvent(NamedTuple):
    """A copy, a wait or a launch (its `kind`), with the op and the source line that caused it."""

    kind: str
    op: str
    location: str


class Report:
    """How often each device event occurred, and its bytes. Prints as a table."""

    def __init__(self) -> None:
        self.counts: dict[DeviceEvent, int] = defaultdict(int)
        self.bytes: dict[DeviceEvent, int] = defaultdict(int)

    def __repr__(self) -> str:
        head = (
            f"{self.transfers} copies between host and device, {self.synchronizations} times the host waited, "
            f"{self.launches} launches"
        )
        if not self.counts:
            return head
        rows = sorted(self.counts.items(), key=lambda row: (_ORDER.index(row[0].kind), -row[1]))
        table = [("times", "what", "bytes", "op", "where")]
        table += [(f"{n:,}", e.kind, f"{self.bytes[e]:,}" if self.bytes[e] else "", e.op, e.location) for e, n in rows]
        times, what, size, op, _ = (max(map(len, column)) for column in zip(*table))
        lines = [f"{n:>{times}}  {k:{what}}  {b:>{size}}  {o:{op}}  {location}" for n, k, b, o, location in table]
        return "\n".join([head, *lines])

    def clear(self) -> None:
        """Reset all counts, as after a first step, whose one-time work does not count."""
        self.counts.clear()
        self.bytes.clear()

    def count(self, *kinds: str) -> int:
        return sum(count for event, count in self.counts.items() if event.kind in kinds)

    @property
    def transfers(self) -> int:
        """Copies between host and device, in both directions."""
        return self.count(TO_HOST, ALONGSIDE, TO_DEVICE)

    @property
    def synchronizations(self) -> int:
        """How often the host waited for the device, which it does for every value that is copied to it."""
        return self.count(TO_HOST, WAIT)

    @property
    def launches(self) -> int:
        """Kernel launches, counted as one for each array function that was called."""
        return self.count(LAUNCH)


#: The kinds in the order of the table: the most expensive first.
_ORDER = (TO_HOST, WAIT, ALONGSIDE, TO_DEVICE, LAUNCH)


class Sanitizer(Inspector):
    """The inspector that counts events: those of backends, and those of ops and rules, run on instrumented arrays."""

    every_step = False

    def __init__(self, report: Report, rehearse: bool):
        super().__init__()
        self.report, self.rehearse = report, rehearse
        self.running: str | None = None  # the outermost op, forward or backward

    def count(self, kind: str, name: str, count: int, nbytes: int) -> None:
        """Count an event (the `event_listener` of backends)."""
        if kind == HOST_READ:
            if not self.rehearse:
                return
            kind = TO_HOST
        event = DeviceEvent(kind, self.running or name, self.location())
        self.report.counts[event] += count
        self.report.bytes[event] += nbytes

    @contextmanager
    def scope(self, name: str, module: Any = None) -> Iterator[None]:
        if module is None:  # a time step: all have the same events, which are counted together
            yield
        else:
            with super().scope(name, module):
                yield

    @contextmanager
    def _attributed_to(self, name: str) -> Iterator[None]:
        outermost = self.running is None
        self.running = self.running or name
        try:
            yield
        finally:
            if outermost:
                self.running = None

    def _is_counted(self, array: Any) -> bool:
        return not _is_traced(array) and (self.rehearse or not backend_of(array).is_host)

    def _instrumented(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return type(value)(map(self._instrumented, value))
        is_array = hasattr(value, "dtype") and not isinstance(value, Variable)
        return instrument(value) if is_array and self._is_counted(value) else value

    def run(self, op: Op, inputs: tuple, settings: dict[str, Any]) -> Any:
        if any(map(_is_traced, inputs)):
            return op.formula(*inputs, **settings)
        with self._attributed_to(op.__name__):
            result = op.formula(*map(self._instrumented, inputs), **settings)
        return result if any(isinstance(x, InstrumentedArray) for x in inputs) else uninstrument(result)

    def apply_vjp(
        self, record: Node, parents: tuple, saved: tuple, cotangent: Any, accumulate: Callable[[Node, Any], None]
    ) -> None:
        def accumulate_uninstrumented(node: Node, gradient: Any) -> None:
            if type(gradient) is Sparse:
                gradient.pieces = uninstrument(gradient.pieces)
            accumulate(node, uninstrument(gradient))

        with self._attributed_to(f"{record.op.__name__}, backward"):
            recorded = isinstance(cotangent, Variable)  # its rules run as ops, which are counted themselves
            if recorded or _is_traced(cotangent) or not hasattr(record.op, "formula"):
                record.op.apply_vjp(parents, saved, cotangent, accumulate)
            else:
                saved, cotangent = self._instrumented(saved), self._instrumented(cotangent)
                record.op.apply_vjp(parents, saved, cotangent, accumulate_uninstrumented)

    def accumulating(self, previous: Any, cotangent: Any) -> None:
        if isinstance(cotangent, Variable):  # added by an op, which is counted itself
            return
        arrays = [x.base if type(x) is Sparse else x for x in (previous, cotangent)]
        dense = [x for x in arrays if x is not None]
        # A dense array is added to a sparse sum without a base when that is made dense.
        is_sum = len(dense) == 2 or (len(dense) == 1 and type(previous) is not type(cotangent))
        if is_sum and self._is_counted(dense[0]):
            record_launches(1, "sum of gradients")


def _is_traced(value: Any) -> bool:
    """Whether it is a traced array, on which nothing is computed: a step is being compiled."""
    return hasattr(value, "__backend__") and not isinstance(value, InstrumentedArray)


@contextmanager
def sanitize(rehearse: bool = False) -> Iterator[Report]:
    """A block in which device events are counted; the report names the op and the source line.

    rehearse  count NumPy's arrays as if they were a GPU's, to find copies to the host on a machine without one

    >>> with sanitize(rehearse=True) as report:
    ...     loss = Tensor([1.0, 2.0]).sum().item()
    >>> "item" in str(report) or "to_host" in str(report)
    True
    """
    report = Report()
    sanitizer = Sanitizer(report, rehearse)
    with setting(inspector, sanitizer), setting(event_listener, sanitizer.count):
        yield report
