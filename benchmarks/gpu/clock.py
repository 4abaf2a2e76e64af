"""Timing on the device: between two CUDA events, without synchronization in between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from tinygrad_gru.backend import Backend, resolve

from ..timing import Clock, wall_clock
from .options import Options


def clock_for(options: Options) -> Clock:
    return wall_clock if options.rehearsal else DeviceClock(resolve(options.backend))


class DeviceClock:
    """A clock for calls that only launch work, ours or PyTorch's, on the default stream, on which the events are too.

    The number of calls per measurement is determined at the first one.
    """

    def __init__(self, backend: Backend):
        self.backend, self.cuda = backend, backend.xp.cuda
        self.calls: dict[Callable[[], object], int] = {}

    def __call__(self, run: Callable[[], object], min_run_time: float) -> float:
        if run not in self.calls:
            run()  # compiles and allocates
            self.calls[run] = max(1, math.ceil(min_run_time / self._seconds(run, 1)))
        return self._seconds(run, self.calls[run])

    def _seconds(self, run: Callable[[], object], calls: int) -> float:
        start, end = self.cuda.Event(), self.cuda.Event()
        self.backend.synchronize()
        start.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        seconds, ended = 1e-3 * self.cuda.get_elapsed_time(start, end), time.perf_counter()
        self.backend.synchronize()
        late = time.perf_counter() - ended
        if late > 1e-3 + 0.1 * seconds:
            raise RuntimeError(f"the device worked for {late:.3f} s after the last event: on another stream?")
        return seconds / calls


def host_seconds(run: Callable[[], object], options: Options, calls: int = 5) -> float:
    """Seconds that the host takes to launch a call, the minimum of some; the whole call if it synchronizes."""
    backend = resolve(options.backend)
    times = []
    for _ in range(calls):
        backend.synchronize()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    backend.synchronize()
    return min(times)
