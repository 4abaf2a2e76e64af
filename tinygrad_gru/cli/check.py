"""The command `check`: the contract of every op, and mutation testing of that contract."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ..backend import resolve
from ..testing import OP_SPECS, check_all, check_names, mutation_scores, ops_called, with_causes
from .arguments import add_backend, count


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("check", help="check the values and gradients of every op")
    command.set_defaults(command=check)
    command.add_argument("ops", nargs="*", metavar="op", help="the ops to check, such as tanh (default: all of them)")
    command.add_argument("--mutants", action="store_true", help="mutation testing: does the check notice wrong rules?")
    command.add_argument("--processes", type=count, default=None, help="for --mutants (default: one per core)")
    add_backend(command)


def check(options: argparse.Namespace) -> int:
    """Check the values and gradients of every op, or of some, or this check itself by mutation testing."""
    check_names(options.ops)
    if options.mutants:
        if options.backend is not None:
            raise ValueError("--mutants runs on NumPy: leave --backend out")
        return _check_mutants(options.processes, options.ops)
    backend, failed, count = resolve(options.backend), {}, 0
    names: Any = options.ops or None  # None is all of them
    while names is None or names:
        for name, passed, message in check_all(backend, names):
            count += 1
            if not passed:
                failed[name] = message
            print(f"{'ok  ' if passed else 'FAIL'}  {name}  {message}".rstrip(), flush=True)
        called = set().union(*map(ops_called, failed)) if names is options.ops else set()
        names = [name for name in OP_SPECS if name in called.difference(options.ops)]  # one of them may be the cause
    print("\n  ".join([f"{len(failed)} of {count} failed", *with_causes(failed)]) if failed else "all passed")
    return 1 if failed else 0


def _check_mutants(processes: int | None, names: Sequence[str]) -> int:
    scores = []
    for score in mutation_scores(processes, names):
        scores.append(score)
        print(f"{'ok  ' if score.perfect else 'FAIL'}  {score}", flush=True)
    killed, survived = sum(s.killed for s in scores), sum(len(s.survived) for s in scores)
    print(f"{killed} of {killed + survived} mutants of {len(scores)} ops killed")
    if failed := [score.op for score in scores if not score.perfect]:
        print(f"not all of {', '.join(failed)}")
    return 0 if all(score.perfect for score in scores) else 1
