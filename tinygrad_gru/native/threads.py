"""Threads: the tasks of one call, side by side in the calling thread and in a few that wait for work.

Whoever is free takes the next task. So a call waits for no thread that the system keeps from running: what that would
have done the calling thread does; at worst it waits for the one task that a thread has begun. Where that takes long,
since the other core is busy, the next calls have one thread, and the more of them, the more often it happens.

A thread sleeps between calls, for one that waits busily takes its core from others. When it is woken, some schedulers
put it on the core of the thread that woke it, where both take turns; so it is told to run on any other. The calling
thread waits busily for the last task, for half a millisecond at most, where native code is at hand: if it slept, it
might have to wait for its core.
"""

from __future__ import annotations

import _thread
import ctypes
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from time import perf_counter

import numpy as np

from . import compiler_is_loaded, function

Task = Callable[[], object]

#: How often the end of a call is looked for: some 0.5 ms.
_LOOKS = 2**20
#: Of the time that the calling thread works, how long it then waits for a worker that shares its core with others; and
#: after how many jobs without workers they are tried again, if that happens again and again.
_LATE, _MOST_ALONE = 0.5, 63
_TEXT = """\
def loop(steps):
    wait_for_change(steps, 0, steps[1])
"""


class _Job:
    """The tasks of one call.

    inside  has an item for each worker that may run a task
    left    gets one when a worker leaves
    flag    its first number is not 0 when the last one has left
    """

    def __init__(self, tasks: Sequence[Task]):
        self.tasks = list(reversed(tasks))
        self.inside: list[None] = []
        self.left = SimpleQueue[None]()
        self.flag = np.array((0, _LOOKS))
        self.error: BaseException | None = None

    def run(self) -> None:
        while True:
            try:
                task = self.tasks.pop()
            except IndexError:
                return
            task()

    def look(self) -> None:
        """Wait busily, for a short time, until the workers have left."""
        if self.inside and compiler_is_loaded():
            function(_TEXT)(self.flag)  # without the GIL

    def work(self, context: Context) -> None:
        """Run tasks, in a worker: in the context of the caller, of which NumPy's error handling is a part."""
        self.inside.append(None)
        try:
            context.run(self.run)
        except BaseException as error:
            self.tasks.clear()
            self.error = error
        finally:
            self.inside.pop()
            self.left.put(None)
            if not self.inside:
                self.flag[0] = 1

    def close(self) -> None:
        """Leave the rest, and wait until no worker is inside."""
        self.tasks.clear()
        while self.inside:
            self.left.get()


class Team:
    """Threads that wait for jobs, started when they are first needed. Several threads may call it at once."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the threads, which a forked process has none of."""
        self.jobs, self.ended = SimpleQueue[tuple[_Job, Context] | None](), SimpleQueue[None]()
        self.workers: list[int] = []  # their numbers to the system
        self.away_from = -1  # the core that they avoid
        self.alone = self.next_alone = 0  # jobs that the calling thread will run alone

    def run(self, tasks: Sequence[Task], threads: int) -> None:
        """Run the tasks in so many threads, of which the calling one is the first. Raises the first error of a task."""
        threads = min(threads, len(tasks))
        if threads > 1 and self.alone:
            threads, self.alone = 1, self.alone - 1
        if threads < 2:
            for task in tasks:
                task()
            return
        error, job, begin = None, _Job(tasks), perf_counter()
        end = begin
        try:
            for _ in range(self._ready(threads - 1)):
                self.jobs.put((job, copy_context()))
            job.run()
            end = perf_counter()
            job.look()
        except BaseException as raised:  # of Ctrl-C, too: workers still use the memory of the caller
            error = raised
        while True:
            try:
                job.close()
                break
            except BaseException as raised:
                error = raised
        if error := error or job.error:
            raise error
        is_slow = perf_counter() - end > _LATE * (end - begin)
        self.alone = self.next_alone = min(2 * self.next_alone + 1, _MOST_ALONE) if is_slow else 0

    def _ready(self, count: int) -> int:
        """Start threads up to this number, and keep them off the core of the caller; returns how many there are."""
        core = _core()
        while len(self.workers) < count:
            started = SimpleQueue[int]()
            try:
                _thread.start_new_thread(self._work, (started,))
            except RuntimeError:  # the system allows no more
                break
            self.workers.append(started.get())
            self.away_from = -1
        if core != self.away_from:
            self.away_from = core
            for worker in list(self.workers):
                _keep_off(core, worker)
        return min(count, len(self.workers))

    def _work(self, started: SimpleQueue[int]) -> None:
        # Not a threading.Thread: what asks whether a program has threads means its own.
        started.put(_thread.get_native_id())
        while (job := self.jobs.get()) is not None:
            job[0].work(job[1])
            del job  # a thread that waits keeps nothing alive
        self.ended.put(None)

    def stop(self) -> None:
        """End the threads; the next job starts new ones."""
        while self.workers:
            self.workers.pop()
            self.jobs.put(None)
            try:
                self.ended.get(timeout=1)
            except Empty:  # it runs a task that forks
                return


def _of_c() -> Callable[[], int]:
    """The function that says on which core the calling thread is; −1 where there is none."""
    try:
        if hasattr(os, "sched_setaffinity"):
            return ctypes.PyDLL(None).sched_getcpu
    except (AttributeError, OSError, TypeError):
        pass
    return lambda: -1


_core = _of_c()


def _keep_off(core: int, thread: int) -> None:
    """Let a thread run on all cores of the calling one but this."""
    others = os.sched_getaffinity(0) - {core}
    if others:
        with suppress(OSError):  # where it is not allowed the thread runs anyway
            os.sched_setaffinity(thread, others)


_team = Team()
#: Run tasks in so many threads, of which the calling one is the first: each task once, in any order.
run_together = _team.run

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_team.stop, after_in_child=_team.reset)
