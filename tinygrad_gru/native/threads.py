"""Threads: the tasks of one call, side by side in the calling thread and in a few that wait for work.

Whoever is free takes the next task. So a call waits for no thread that the system keeps from running: what that would
have done the calling thread does; at worst it waits for the one task that a thread has begun. A thread sleeps between
calls, for one that waits busily takes its core from others. When it is woken, some schedulers put it on the core of
the thread that woke it, where both take turns; so it is told to run on any other.
"""

from __future__ import annotations

import _thread
import ctypes
import os
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue

Task = Callable[[], object]


class _Job:
    """The tasks of one call.

    inside  has an item for each worker that may run a task
    left    gets one when a worker leaves
    """

    def __init__(self, tasks: Sequence[Task]):
        self.tasks = list(reversed(tasks))
        self.inside: list[None] = []
        self.left = SimpleQueue[None]()
        self.error: BaseException | None = None

    def run(self) -> None:
        while True:
            try:
                task = self.tasks.pop()
            except IndexError:
                return
            task()

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

    def run(self, tasks: Sequence[Task], threads: int) -> None:
        """Run the tasks in so many threads, of which the calling one is the first. Raises the first error of a task."""
        if threads < 2 or len(tasks) < 2:
            for task in tasks:
                task()
            return
        error, job = None, _Job(tasks)
        try:
            for _ in range(self._ready(min(threads, len(tasks)) - 1)):
                self.jobs.put((job, copy_context()))
            job.run()
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
        try:
            os.sched_setaffinity(thread, others)
        except OSError:  # it is not allowed; the thread runs anyway
            pass


_team = Team()
#: Run tasks in so many threads, of which the calling one is the first: each task once, in any order.
run_together = _team.run

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_team.stop, after_in_child=_team.reset)
