"""The command line: its parser, and how its errors end."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from ..backend import BackendError, use, with_memory_report
from ..parallel import ParallelError, current, init, launched
from ..parallel.ranks import ALONE
from ..train import CheckpointError, PlotError, TrainingError
from ..train.terminal import discard_unwritten, open_standard_streams, try_print
from ..version import __version__
from . import cache, check, fit, learn, models, reproduce, show, train
from .arguments import INTERRUPTED, NOT_LEARNED, RESUMABLE, Parser, Terminated, raising_terminated

#: Commands whose work ranks share.
_OF_RANKS = ("train", "fit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for an error, or one of those in `arguments`."""
    open_standard_streams()
    options = _parse(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # so that a sample can be shown without Unicode
    try:
        if (job := launched()) is not None and options.name not in _OF_RANKS:
            rank, processes, launcher = job
            if rank:
                return 1  # the first one reports it
            raise ParallelError(
                f"{options.name} is for one process, and {processes} were started by {launcher}, which would do the "
                "same work: start it without mpiexec; `train`, `fit` and train.fit(…, parallel='mpi') share theirs"
            )
        if options.name in _OF_RANKS:  # before all that could fail on one of them alone
            options.ranks = ALONE if job is None else init(exact=False, timeout=options.timeout)
        with (
            nullcontext() if getattr(options, "goes_on", None) is None else raising_terminated(),
            nullcontext() if getattr(options, "backend", None) is None else use(options.backend),
        ):
            status = options.command(options)
        sys.stdout.flush()
        return status
    except Terminated as error:
        if (ranks := current()) is not None:
            ranks.transport.failed(error)
        if ranks is None or ranks.rank == 0:
            try_print(f"stopped by {error}; {options.goes_on} goes on", sys.stderr)
        return RESUMABLE
    except KeyboardInterrupt as error:
        if (ranks := current()) is not None:
            ranks.transport.failed(error)
        try_print("interrupted", sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # as in `generate … | head`
        return 1
    except (
        ValueError,
        KeyError,
        OSError,
        MemoryError,
        ImportError,
        BackendError,
        CheckpointError,
        TrainingError,
        PlotError,
        ParallelError,
    ) as error:
        if (ranks := current()) is not None and not ranks.transport.failed(error):
            return 1  # another rank reports it
        if options.traceback:
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else error  # its str() would be in quotes
        if isinstance(error, OSError) and error.strerror and error.filename is not None:
            text = f"{error.filename}: {error.strerror}"
        reason = str(with_memory_report(error) if isinstance(error, MemoryError) else text) or type(error).__name__
        lines = [line if len(line) <= 500 else f"{line[:300]} … {line[-100:]}" for line in reason.splitlines()]
        try_print("\n".join(["error: " + lines[0], *lines[1:]]), sys.stderr)
        return NOT_LEARNED if isinstance(error, TrainingError) else 1
    finally:
        discard_unwritten(sys.stdout)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("tinygrad-gru", description="Train recurrent networks on text and on tables, and inspect them.")
    parser.add_argument("--version", action="version", version=f"tinygrad_gru {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show the Python traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="command", dest="name")
    for module in (train, fit, models, show, check, learn, reproduce, cache):
        module.add_to(commands)
    options, unknown = parser.parse_known_args(arguments)
    options.owns_process = arguments is None
    if unknown:
        commands.choices[options.name].error(f"unrecognized arguments: {' '.join(unknown)}")
    return options
