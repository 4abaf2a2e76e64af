"""Threads that share the tasks of a call: each task once, whatever the system does with the threads."""

import os
import subprocess
import sys
import threading
import time
import weakref
from _thread import interrupt_main
from functools import partial

import numpy as np
import pytest

from tinygrad_gru.native import threads as module
from tinygrad_gru.native.threads import Team


@pytest.fixture
def team():
    team = Team()
    yield team
    team.stop()


class Tasks:
    """Tasks that count how often each has run, and in which threads."""

    def __init__(self, count, seconds=0.0):
        self.ran, self.seen, self.seconds = [0] * count, set(), seconds

    def run(self, index):
        self.ran[index] += 1
        self.seen.add(threading.get_ident())
        time.sleep(self.seconds)

    @property
    def list(self):
        return [partial(self.run, i) for i in range(len(self.ran))]


@pytest.mark.parametrize(("count", "number"), [(0, 2), (1, 2), (2, 1), (2, 2), (5, 2), (3, 8), (40, 4)])
def test_each_task_runs_once(count, number, team):
    for _ in range(5):
        tasks = Tasks(count)
        team.run(tasks.list, number)
        assert tasks.ran == [1] * count
    assert len(team.workers) == max(0, min(count, number) - 1)


def test_tasks_run_side_by_side_in_threads_that_no_program_sees(team):
    before, both = threading.active_count(), threading.Barrier(2)
    team.run([lambda: both.wait(20)] * 2, 2)
    assert threading.active_count() == before, "then side effects of a step would not be undone"


def test_workers_that_never_come_cost_nothing(team, monkeypatch):
    monkeypatch.setattr(team, "_ready", lambda count: count)  # nobody takes what is given to them
    tasks = Tasks(6)
    listed = tasks.list
    watched = [weakref.ref(task) for task in listed]
    team.run(listed, 3)
    assert tasks.ran == [1] * 6
    del listed
    assert not any(reference() for reference in watched), "the job that waits for workers holds no memory"


def test_after_a_slow_worker_some_calls_have_one_thread(team):
    caller, both = threading.get_ident(), threading.Barrier(2)

    def slow_in(thread):
        both.wait(20)
        if (threading.get_ident() == caller) == (thread == "caller"):
            time.sleep(0.05)

    def threads_of_a_call():
        tasks = Tasks(2)
        team.run(tasks.list, 2)
        return len(tasks.seen)

    team.run([partial(slow_in, "worker")] * 2, 2)
    assert (team.alone, threads_of_a_call(), team.alone) == (1, 1, 0)
    team.run([partial(slow_in, "worker")] * 2, 2)
    assert team.alone == 3, "and more of them if it happens again"
    assert [threads_of_a_call() for _ in range(3)] == [1, 1, 1]
    team.run([partial(slow_in, "caller")] * 2, 2)
    assert (team.alone, team.next_alone) == (0, 0)


@pytest.mark.parametrize("fails_in", ["caller", "worker"])
def test_an_error_of_a_task_is_raised_when_no_task_runs_any_more(fails_in, team):
    caller, running, ended = threading.get_ident(), threading.Event(), []

    def task():
        if (threading.get_ident() == caller) == (fails_in == "caller"):
            running.wait(20)
            raise ValueError("of a task")
        running.set()
        time.sleep(0.03)
        ended.append(True)

    with pytest.raises(ValueError, match="of a task"):
        team.run([task] * 2, 2)
    assert ended == [True]
    tasks = Tasks(4)
    team.run(tasks.list, 2)
    assert tasks.ran == [1] * 4


def test_after_ctrl_c_no_worker_uses_memory_of_the_call(team):
    caller, ended, both = threading.get_ident(), [], threading.Barrier(2)

    def task():
        both.wait(20)
        if threading.get_ident() != caller:
            interrupt_main()
            time.sleep(0.05)
            ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        team.run([task] * 2, 2)
    assert ended == [True]


def test_numpys_error_handling_is_the_callers(team):
    big, caller, both = np.full((20, 20), 1e200), threading.get_ident(), threading.Barrier(2)

    def task():
        both.wait(20)
        if threading.get_ident() != caller:
            big @ big

    with np.errstate(all="ignore"):  # a warning would be an error
        team.run([task] * 2, 2)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        team.run([task] * 2, 2)


def test_several_python_threads_at_once(team):
    jobs = [[Tasks(4, 0.0002) for _ in range(20)] for _ in range(6)]

    def call(mine):
        for tasks in mine:
            team.run(tasks.list, 3)

    callers = [threading.Thread(target=call, args=(mine,)) for mine in jobs]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(tasks.ran == [1] * 4 for mine in jobs for tasks in mine)


def test_a_system_without_more_threads(team, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module._thread, "start_new_thread", refuse)
    tasks = Tasks(3)
    team.run(tasks.list, 2)
    assert (tasks.ran, team.workers) == ([1] * 3, [])


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system keeps no thread off a core")
def test_a_worker_is_kept_off_the_callers_core(team):
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one core")
    one = min(allowed)
    try:
        os.sched_setaffinity(0, {one})
        module._keep_off(one, module._thread.get_native_id())
        assert os.sched_getaffinity(0) == {one}, "there is no other"
    finally:
        os.sched_setaffinity(0, allowed)
    team.run(Tasks(2).list, 2)
    assert os.sched_getaffinity(team.workers[0]) == allowed - {team.away_from}
    assert os.sched_getaffinity(0) == allowed


PROGRAM = """
import os, threading
from tinygrad_gru.native.threads import _team, run_together

def check():
    both = threading.Barrier(2)
    run_together([lambda: both.wait(20)] * 2, 2)
    return len(_team.workers) == 1

assert check()
child = os.fork()
if not child:
    os._exit(0 if not _team.workers and check() else 1)
assert os.waitpid(child, 0)[1] == 0
assert check()
print("done")  # and exits, with a thread that waits
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_and_the_end_of_the_interpreter():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
