"""The transport on MPI, by mpi4py: collectives that do not wait for ever, and word of ranks that have failed.

MPI says nothing when a rank hangs, and what it does when one dies depends on its launcher: MPICH's mpiexec kills the
others at once, and with -disable-auto-cleanup lets them run. So every wait here polls. Meanwhile it listens to what
other ranks say on a communicator of their own, looks whether those on the same host still exist, and when its time is
up calls the roll: the ranks that wait too answer, and those that don't are named.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any

import numpy as np

from .sums import tree_sum
from .transport import ParallelError

#: Number and size of a job's ranks, as launchers tell their processes.
_LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "Open MPI"),
    ("PMI_RANK", "PMI_SIZE", "MPICH, or another launcher that speaks PMI"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS", "Slurm's srun with PMIx"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MVAPICH"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "Slurm's srun"),
)
_WORD, _ROLL = 1, 2  # tags of messages: "I have failed, for this reason"; "I am here, and wait"
_DIRECT = (2, 4, 8)  # numbers of ranks that sum by sending all to all, which is faster here than Allreduce
_SPIN_SECONDS, _SLEEP_SECONDS = 2e-3, 1e-4
_SECONDS_BETWEEN_ADVANCES = 5e-4
_SECONDS_BETWEEN_LOOKS = 0.5  # at the processes of other ranks
_ROLL_SECONDS, _WORDS_SECONDS, _LEAVE_SECONDS = 2.0, 1.0, 3.0


def launched() -> tuple[int, int, str] | None:
    """The rank and the number of processes, and the launcher that started this one as one of several; None if none did.

    >>> parallel.launched() is None    # but under mpiexec -n 2
    True
    """
    for rank, size, launcher in _LAUNCHERS:
        if os.environ.get(rank, "").isdecimal() and os.environ.get(size, "").isdecimal():
            return (int(os.environ[rank]), int(os.environ[size]), launcher) if int(os.environ[size]) > 1 else None
    return None


class Mpi:
    """The transport on the communicator of all processes that mpiexec has started.

    timeout   seconds that a wait for another rank may take

    Raises ImportError without mpi4py, and ParallelError if a launcher has started several processes and MPI knows of
    one: it is another MPI than the one that mpi4py is built for.
    """

    name = "MPI"

    def __init__(self, timeout: float) -> None:
        self.MPI = _mpi()
        self.timeout = timeout
        world = self.MPI.COMM_WORLD
        self.rank, self.size = world.Get_rank(), world.Get_size()
        _check_launcher(self.size, self.MPI)
        # One for each kind of operation, for MPI pairs them by the order on their communicator.
        self._comm, self._words, self.sums, self.results = (world.Dup() for _ in range(4))
        for comm in (self._comm, self._words, self.sums, self.results):
            comm.Set_errhandler(self.MPI.ERRORS_RETURN)
        self._at_start, self._speaks, self._error = True, True, ""
        self._heard: dict[int, str] = {}
        self._answered: set[int] = set()
        self._calling = False
        self._kept: list[Any] = []  # messages on their way, which must not be freed
        self._half: deque[_Sum] = deque()  # sums of which the second exchange has not begun
        self._advanced = 0.0  # when it last looked
        self._under_way: dict[object, tuple] = {}  # operations: what MPI still writes and reads
        self.spare: dict[Any, list[np.ndarray]] = {}  # arrays to receive in, by size and type: new memory is slow
        self._processes: dict[int, int] = {}
        self._looked = time.monotonic()
        self._processes = self._neighbours()
        if self.size > 1:
            self._install()

    # -- collectives ---------------------------------------------------------------------------------------------

    def gather(self, values: np.ndarray) -> np.ndarray:
        values = np.ascontiguousarray(values)
        received = np.empty((self.size, *values.shape), values.dtype)
        return self._pending([self._comm.Iallgather(values, received)], received, values)()

    def gather_bytes(self, content: bytes) -> list[bytes]:
        lengths = self.gather(np.array([len(content)]))[:, 0]
        padded = np.zeros(lengths.max(), np.uint8)
        padded[: len(content)] = np.frombuffer(content, np.uint8)
        return [row[:length].tobytes() for row, length in zip(self.gather(padded), lengths.tolist())]

    def sum(self, values: np.ndarray, exact: bool) -> Callable[[], np.ndarray]:
        self._under_way = {key: kept for key, kept in self._under_way.items() if not self._test(kept[0])}
        if not exact and self.size not in _DIRECT:
            received = np.empty_like(values)
            return self._pending([self.sums.Iallreduce(values, received)], received, values)
        total = _Sum(self, values)
        self._half.append(total)

        def result() -> np.ndarray:
            while not total.is_halfway:
                self._half.popleft().go_on(wait=True)
            return total.pending()

        return result

    def advance(self) -> None:
        if time.monotonic() < self._advanced + _SECONDS_BETWEEN_ADVANCES:
            return
        self._words.Iprobe(self.MPI.ANY_SOURCE, self.MPI.ANY_TAG)  # MPI makes progress in its calls alone
        while self._half and self._half[0].go_on(wait=False):
            self._half.popleft()
        self._advanced = time.monotonic()

    def exchange(self, comm: Any, sent: Sequence[np.ndarray], received: Sequence[np.ndarray]) -> _Pending:
        """Send an array to each other rank, and receive one from it. MPI pairs them by their order on `comm`."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        requests = [comm.Irecv(received[rank], rank) for rank in others]
        return self._pending(requests + [comm.Isend(sent[rank], rank) for rank in others], received, sent)

    def _pending(self, requests: list[Any], received: Any, sent: Any) -> _Pending:
        """A function of what is received; until then MPI writes that, and reads what is `sent`."""
        key = object()
        self._under_way[key] = requests, received, sent

        def result(wait: bool = True) -> Any:
            if wait:
                self._wait(requests)
            elif not self._test(requests):
                return None
            self._under_way.pop(key, None)
            return received

        return result

    def _wait(self, requests: list[Any]) -> None:
        """Wait for requests. Raises ParallelError that names the rank if one fails or does not answer."""
        started = None
        while not self._test(requests):
            now = time.monotonic()
            started = now if started is None else started
            if now - started < _SPIN_SECONDS:
                os.sched_yield() if hasattr(os, "sched_yield") else time.sleep(0)
                continue
            self._listen()
            self._look(now)
            if now - started > self.timeout:
                self._call_the_roll()
            time.sleep(_SLEEP_SECONDS)

    def _test(self, requests: list[Any]) -> bool:
        try:
            return self.MPI.Request.Testall(requests)
        except self.MPI.Exception as error:
            self._listen()
            raise ParallelError(f"parallel: MPI has failed: {error.Get_error_string()} (a rank that died?)") from error

    # -- ranks that fail -----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Read what other ranks have said. Raises ParallelError if one has failed."""
        self._receive()
        if self._heard:
            rank, reason = min(self._heard.items())
            raise self._failure(f"rank {rank} of {self.size} has ended with {reason}")
        if self._answered and not self._calling:  # another rank calls the roll
            self._call_the_roll()

    def _receive(self) -> None:
        status = self.MPI.Status()
        while self._words.Iprobe(self.MPI.ANY_SOURCE, self.MPI.ANY_TAG, status):
            content = np.empty(status.Get_count(self.MPI.BYTE), np.uint8)
            source, tag = status.Get_source(), status.Get_tag()
            self._words.Recv([content, self.MPI.BYTE], source, tag)
            if tag == _WORD:
                self._heard[source] = content.tobytes().decode()
            else:
                self._answered.add(source)

    def _call_the_roll(self) -> None:
        """Raise ParallelError that names the ranks that do not answer: the others wait, and do."""
        self._calling = True
        self._say(_ROLL, "")
        until = time.monotonic() + _ROLL_SECONDS
        others = set(range(self.size)) - {self.rank}
        while time.monotonic() < until and self._answered != others:
            self._listen()
            time.sleep(_SLEEP_SECONDS)
        missing = others - self._answered
        if missing:
            raise self._failure(
                f"{listed(missing)} of {self.size} did not answer within {self.timeout:g} s (a process that hangs, or "
                "that does other work for longer: set timeout=)"
            )
        raise self._failure(
            f"all {self.size} ranks wait for one another since {self.timeout:g} s: do all of them make the same calls?"
        )

    def _look(self, now: float) -> None:
        """Raise ParallelError if the process of a rank on this host has ended."""
        if now - self._looked < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked = now
        gone = {rank for rank, process in self._processes.items() if not _exists(process)}
        if gone:
            self._listen()  # it may have said why
            processes = ", ".join(str(self._processes[rank]) for rank in sorted(gone))
            raise self._failure(f"{listed(gone)} of {self.size} (process {processes}) is gone: killed, or crashed")

    def _failure(self, text: str) -> ParallelError:
        return _Told(f"parallel: {text}. The job ends; its last checkpoint is whole")

    def _neighbours(self) -> dict[int, int]:
        """The process ids of the other ranks on this host."""
        own = json.dumps([socket.gethostname(), os.getpid()])
        hosts = [json.loads(content) for content in self.gather_bytes(own.encode())]
        self.about = ", ".join(f"{rank} is process {process} on {host}" for rank, (host, process) in enumerate(hosts))
        self.hosts = len({host for host, _ in hosts})
        same = {rank: process for rank, (host, process) in enumerate(hosts) if host == hosts[self.rank][0]}
        return {rank: process for rank, process in same.items() if rank != self.rank and _exists(process)}

    def _say(self, tag: int, text: str) -> None:
        content = np.frombuffer(text.encode(errors="replace") + b" ", np.uint8)
        for rank in range(self.size):
            if rank != self.rank:
                self._kept.append((self._words.Isend([content, self.MPI.BYTE], rank, tag), content))

    # -- the end -------------------------------------------------------------------------------------------------

    def started(self) -> None:
        self._at_start = False

    def failed(self, error: BaseException) -> bool:
        """Tell the other ranks. An error at the start that several ranks have is reported by the first of them."""
        if self.size == 1:
            return True
        if self._error:  # told already
            return self._speaks
        self._error = reason = f"{type(error).__name__}: {error}"[:2000]
        self._speaks = not (self._at_start and isinstance(error, _Told))
        if isinstance(error, _Told):
            return self._speaks
        self._say(_WORD, reason)
        if self._at_start:
            until = time.monotonic() + _WORDS_SECONDS
            while time.monotonic() < until and len(self._heard) < self.size - 1:
                self._receive()
                time.sleep(_SLEEP_SECONDS)
            same = [rank for rank, other in self._heard.items() if other.strip() == reason.strip()]
            self._speaks = self.rank < min(same, default=self.size)
        return self._speaks

    def _install(self) -> None:
        """An error that nothing catches, and the end of a process that has failed, end the whole job."""
        before = sys.excepthook

        def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            if not self.failed(error):
                return
            if before is sys.__excepthook__:  # in one piece, for mpiexec may pass on no more than the first
                sys.stderr.write("".join(traceback.format_exception(kind, error, trace)))
            else:
                before(kind, error, trace)

        sys.excepthook = hook
        # MPICH's mpiexec, with -disable-auto-cleanup, tells by it that a rank has ended; by default it ends this one.
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and hasattr(signal, "SIGUSR1") and signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
            signal.signal(signal.SIGUSR1, lambda *_: None)
        atexit.register(self._leave)

    def _leave(self) -> None:
        """At the end of a process that has failed: give the others the time to speak, then end all of them."""
        if not self._error:
            return
        sys.stdout.flush()
        sys.stderr.flush()
        until = time.monotonic() + _LEAVE_SECONDS
        barrier = self._words.Ibarrier()
        while time.monotonic() < until:
            if barrier.Test():
                if not self._under_way:
                    return  # all have failed by themselves: MPI can end as usual
                break
            time.sleep(_SLEEP_SECONDS)
        time.sleep(0.2)  # mpiexec passes on what was written before, which it does not after an abort
        self.MPI.COMM_WORLD.Abort(1)


#: Waits for the result of an operation; with `wait=False` returns None if it is not there yet.
_Pending = Callable[..., Any]


class _Sum:
    """A sum in a tree over the ranks: each rank gets a segment of all vectors, and sends its sum to all.

    All ranks begin the second exchanges in the order of the sums, for MPI pairs messages by it.
    """

    def __init__(self, transport: Mpi, values: np.ndarray) -> None:
        self._transport, self._values, self.is_halfway = transport, values, False
        rows = values.reshape(transport.size, -1)
        self._key = rows.shape, rows.dtype
        spare = transport.spare.setdefault(self._key, [])
        self._received = spare.pop() if spare else np.empty_like(rows)
        self.pending = transport.exchange(transport.sums, list(rows), list(self._received))

    def go_on(self, wait: bool) -> bool:
        """Begin the second exchange if the first is over. Returns whether it has begun."""
        if self.pending(wait) is None:
            return False
        transport, parts = self._transport, list(self._received)
        total = np.empty_like(self._values)
        segments = total.reshape(transport.size, -1)
        own = segments[transport.rank]
        parts[transport.rank] = self._values.reshape(transport.size, -1)[transport.rank]
        tree_sum(parts, out=own)
        transport.spare[self._key].append(self._received)
        pending = transport.exchange(transport.results, [own] * transport.size, list(segments))

        def result() -> np.ndarray:
            pending()
            return total

        self.pending, self.is_halfway = result, True
        return True


class _Told(ParallelError):
    """A ParallelError that other ranks have told of, or have too."""


def _mpi() -> Any:
    try:
        module = import_module("mpi4py")
    except ImportError as error:
        raise ImportError(
            "parallel='mpi' needs mpi4py and an MPI: pip install 'tinygrad_gru[mpi]' installs mpi4py and MPICH"
        ) from error
    module.rc.thread_level = "funneled"
    try:
        with warnings.catch_warnings():  # that another MPI has started this process: see below
            warnings.simplefilter("ignore", RuntimeWarning)
            return import_module("mpi4py.MPI")
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"parallel='mpi': mpi4py finds no MPI library: pip install mpich, or load the module of a cluster ({error})"
        ) from error


def _check_launcher(size: int, MPI: Any) -> None:  # noqa: N803
    """Raise ParallelError, on the first of the processes, if they do not know of one another."""
    job = launched()
    if job is None or size > 1:
        return
    rank, processes, launcher = job
    library = MPI.Get_library_version().strip().splitlines()[0].rstrip("\0")
    error = ParallelError(
        f"parallel: {processes} processes were started by {launcher}, but MPI knows of one: mpi4py uses {library}, "
        "which is another MPI. Start them by the mpiexec of that one (beside Python, if pip installed it)"
    )
    if rank == 0:
        raise error
    raise SystemExit(1)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except OSError:  # of another user, or a system without /proc
        return True


def listed(numbers: Iterable[int]) -> str:
    """Ranks for a message: "rank 1", or "ranks 0, 2"."""
    numbers = sorted(numbers)
    return f"rank{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
