"""A fuzzing run: reads inputs one after another; anything but success or the documented error is a failure."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinygrad_gru.io import FileFormatError

from .target import Target

SECONDS = 2.0  # of CPU time for one input
_LIBRARIES = tuple({os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix)})
_PROJECT = os.path.realpath(Path(__file__).parents[2])
_FORBIDDEN = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.link", "os.symlink",
    "shutil.", "ctypes.dlopen", "pickle.find_class", "urllib.", "ftplib.", "winreg.", "code.__new__",
)  # fmt: skip
#: The number of paths among the arguments of an audit event.
_WITH_PATHS = {"os.chmod": 1, "os.remove": 1, "os.rename": 2, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1}


class Hang(BaseException):
    """An input took too long."""


class Report:
    """Counts by kind of input and outcome, and the failures."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.unexpected: Counter[str] = Counter()
        self.failures: list[tuple[int, str, str]] = []
        self.slowest = 0.0

    def add(self, number: int, kind: str, outcome: str, detail: str = "") -> None:
        self.counts[kind, outcome] += 1
        if outcome == "failure":
            self.failures.append((number, kind, detail))
        elif outcome == "unexpected":
            self.unexpected[detail] += 1


class _AuditHook:
    """An audit hook, which cannot be removed: it is active only while `folder` is set."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.others: set[str] = set()
        self.seen: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple) -> None:
        if self.folder is None:
            return
        if event == "open":
            wrong = not self._allowed(arguments[0])
        elif event in _WITH_PATHS:
            wrong = not all(map(self._inside, arguments[: _WITH_PATHS[event]]))
        elif event in ("exec", "compile"):
            wrong = not self._ours(arguments[0] if event == "exec" else arguments[1])
        else:
            wrong = event.startswith(_FORBIDDEN)
        if wrong:
            self.seen.append(f"{event}{arguments!r:.200}")

    def _allowed(self, path: Any) -> bool:
        if isinstance(path, int) or self._inside(path):
            return True
        path = os.path.realpath(os.fsdecode(path))
        return path in self.others or (
            path.startswith((*_LIBRARIES, _PROJECT)) and path.endswith((".py", ".pyc", ".so"))
        )

    def _inside(self, path: Any) -> bool:
        """Whether it is the input's folder, a file in it, or an open file."""
        if isinstance(path, int):
            return True
        return f"{os.path.realpath(os.fsdecode(path))}{os.sep}".startswith(f"{self.folder}{os.sep}")

    def _ours(self, code: Any) -> bool:
        """Whether code belongs to an installed module (which is imported late), or is the text of one of our ops."""
        name = getattr(code, "co_filename", code)
        return not isinstance(name, str) or name.startswith((*_LIBRARIES, _PROJECT, "<op ", "<frozen ", "<string>"))


_audit_hook: list[_AuditHook] = []


@contextmanager
def _audited(folder: Path, others: Sequence[Path]) -> Iterator[list[str]]:
    if not _audit_hook:
        _audit_hook.append(_AuditHook())
    audit = _audit_hook[0]
    audit.others = set(map(os.path.realpath, others))
    audit.seen, audit.folder = [], os.path.realpath(folder)
    try:
        yield audit.seen
    finally:
        audit.folder = None


@contextmanager
def _alarm() -> Iterator[None]:
    def hang(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, hang)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def read_one(target: Target, path: Path) -> tuple[str, str]:
    """(outcome, detail): "accepted", "refused", "unexpected" (refused by `untrusted`, by no check) or "failure"."""
    try:
        with _audited(path.parent, target.others) as touched, _alarm():
            result = target.read(path)
        outcome, detail = "accepted", ""
        target.check(result)
    except target.error as error:
        cause = error.__cause__
        expected = cause is None or isinstance(cause, (FileFormatError, target.error)) or "damaged: " not in str(error)
        outcome, detail = ("refused", "") if expected else ("unexpected", f"{type(cause).__name__} {_location(cause)}")
        try:
            str(error)
        except Exception as second:
            outcome, detail = "failure", f"the error cannot be printed: {second!r}"
    except Hang as error:
        outcome, detail = "failure", f"more than {SECONDS:g} s at {_location(error)}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        outcome, detail = "failure", f"{type(error).__name__}: {error!s:.200} at {_location(error)}"
    if touched:
        outcome, detail = "failure", f"touched {touched[0]}"
    return outcome, detail


def bound_memory() -> None:
    """Limit this process to 1 GiB of address space above its present size."""
    import resource  # not on Windows

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _location(error: BaseException | None) -> str:
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    ours = [frame for frame in frames if "tinygrad_gru" in frame.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"


def run(
    target: Target,
    folder: Path,
    count: int,
    seed: int = 0,
    first: int = 0,
    before: Callable[[int, str, Path], None] = lambda number, kind, path: None,
) -> Report:
    """Read `count` inputs from number `first` on. `before` is called with each before it is read."""
    report = Report()
    path = folder / f"input{target.suffix}"
    for number, kind, content in target.inputs(seed, first):
        if number >= first + count:
            break
        path.write_bytes(content)
        before(number, kind, path)
        began = time.process_time()
        report.add(number, kind, *read_one(target, path))
        report.slowest = max(report.slowest, time.process_time() - began)
    return report
