"""Mutation: every rule of an op is made wrong on purpose, one fault at a time, and the contract must notice each.

    print(mutants(cube, oracle=lambda x: np.power(x, 3), shapes=[(3, 4)], elementwise=True))

A mutant is the op itself with one of its rules wrapped, for as long as it is checked. What survives shows a hole in the
check: a shape, a dtype, a domain that it lacks. A mutant that gives the same values and the same derivatives in every
call of the check is no fault (a symmetric thing transposed, say): it counts as equivalent, not as noticed.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, Signature, signature
from multiprocessing import get_context
from types import FunctionType
from typing import Any

import numpy as np

from .. import ops
from ..backend import is_floating, to_host
from ..cotangents import Sparse
from ..ops.op import unwrap
from ..tensor import Tensor
from ..transforms import grad
from .comparison import epsilon
from .contract import check_op
from .faults import Call, Fault, Profile, faults
from .op_specs import CHECKED_BY, OP_SPECS, check_case


@dataclass(frozen=True)
class Mutant:
    """One wrong rule: of which input, its fault, and the message with which the check noticed it, if it did.

    `equivalent` says why it is no fault, if it is none.
    """

    input: str
    fault: str
    noticed: str | None
    equivalent: str | None = None


@dataclass(frozen=True)
class MutationScore:
    """How many of an op's wrong rules a check noticed. Prints what survived, or why the op itself does not pass."""

    op: str
    mutants: tuple[Mutant, ...]
    failure: str | None = None

    @property
    def noticed(self) -> int:
        return sum(m.noticed is not None for m in self.mutants)

    @property
    def equivalent(self) -> list[Mutant]:
        return [m for m in self.mutants if m.equivalent is not None]

    @property
    def survivors(self) -> list[Mutant]:
        """The mutants that are wrong and were not noticed."""
        return [m for m in self.mutants if m.noticed is None and m.equivalent is None]

    @property
    def perfect(self) -> bool:
        """Whether there was something to notice, and all of it was noticed."""
        return self.noticed > 0 and not self.survivors

    def __str__(self) -> str:
        if self.failure is not None:
            return f"{self.op}: its own rules do not pass, which says nothing of wrong ones: {self.failure}"
        faulty = len(self.mutants) - len(self.equivalent)
        same = f", {len(self.equivalent)} more make no difference" if self.equivalent else ""
        lines = [f"{self.op}: {self.noticed} of {faulty} wrong rules are noticed{same}"]
        return "\n".join([*lines, *(f"  not noticed: rule of {m.input}, {m.fault}" for m in self.survivors)])


def mutants(
    op: Any,
    oracle: Callable[..., Any] | None = None,
    shapes: Sequence[Any] | None = None,
    domain: Any = (-2.0, 2.0),
    **how: Any,
) -> MutationScore:
    """Make each rule of `op` wrong in every typical way and count what `check_op` notices.

    The arguments after the op are those of `check_op`; without them an op of the framework is checked by its op
    specs. The op must pass unchanged.
    """
    if not any(_rules(op).values()):
        raise TypeError(f"op: expected an op with rules, got {op!r}")
    checks = _checks(op, oracle, shapes, domain, how)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of the wrong values that are made on purpose
        profiles = _profiles(op, checks)
        found = [
            _fate(op, name, fault, checks)
            for name, profile in profiles.items()
            if profile.calls
            for fault in faults(profile)
        ]
    return MutationScore(op.__name__, tuple(found))


def ops_with_rules() -> dict[str, Any]:
    """All ops of the framework that have a rule, by the name of their formula."""
    # Not the attributes of the package, where an op may hide the module of its name.
    modules = [module for name, module in sys.modules.items() if name.startswith(ops.__name__)]
    values = [value for module in modules for value in vars(module).values()]
    made: list[Any] = [v for v in values if isinstance(v, FunctionType) and any(_rules(v).values())]
    return {v.formula.__name__: v for v in made}


def _rules(function: Any) -> dict[str, Any]:
    return getattr(function, "rules", None) or {}


def mutation_scores(processes: int | None = None) -> Iterator[MutationScore]:
    """The score of every op of the framework, by so many processes (as many as there are cores), in order."""
    names = list(ops_with_rules())
    with ProcessPoolExecutor(processes or os.cpu_count(), get_context("spawn")) as pool:
        yield from pool.map(_score_of, names)


def _score_of(name: str) -> MutationScore:
    try:
        return mutants(ops_with_rules()[name])
    except Exception as error:  # a broken op may raise anything; the others are still to be checked
        return MutationScore(name, (), f"{type(error).__name__}: {error}")


def _checks(op: Any, oracle: Any, shapes: Any, domain: Any, how: dict[str, Any]) -> list[Callable[..., Any]]:
    if oracle is not None and shapes is not None:
        return [partial(check_op, op, oracle, shapes, domain, **how)]
    name = CHECKED_BY.get(op.formula.__name__, op.__name__)
    if oracle is not None or shapes is not None or name not in OP_SPECS:
        raise TypeError(f"{op.__name__}: say by what it is to be checked: oracle and shapes, as for check_op")
    return [partial(check_case, name, case, **how) for case in OP_SPECS[name]]


@contextmanager
def _replaced(op: Any, changed: dict[str, Callable]) -> Iterator[None]:
    rules = dict(op.rules)
    op.vjp(**{**rules, **changed})
    try:
        yield
    finally:
        op.vjp(**rules)


def _wrapped(op: Any, name: str, answer: Callable[[Call], Any]) -> Callable:
    """A rule that asks for the same as the op's own rule of that input, and for the input's shape."""
    rule, variadic = op.rules[name], len(op.rules) == 1 and _is_variadic(op)
    first = ["g", "i"] if variadic else ["g"]
    asked = list(signature(rule).parameters)[len(first) :]
    wanted = asked if f"{name}_shape" in asked else [*asked, f"{name}_shape"]
    memory: dict[Any, Any] = {}

    def wrong(*arguments: Any) -> Any:
        g, *rest = arguments
        position = rest[: len(first) - 1]
        named = dict(zip(wanted, rest[len(first) - 1 :]))
        shape = named[f"{name}_shape"]

        def right(**changes: Any) -> Any:
            values = {**named, **changes}
            return rule(changes.get("g", g), *position, *(values[n] for n in asked))

        shape = tuple(shape[position[0]] if variadic else shape)
        return answer(Call(right, g, {n: named[n] for n in asked}, shape, memory))

    parameters = [Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in (*first, *wanted)]
    wrong.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return wrong


def _is_variadic(op: Any) -> bool:
    return any(p.kind is Parameter.VAR_POSITIONAL for p in signature(op.formula).parameters.values())


def _profiles(op: Any, checks: Sequence[Callable]) -> dict[str, Profile]:
    """How the rules of an op are called while it is checked. Raises what the check raises."""
    profiles = {name: Profile() for name, rule in op.rules.items() if rule is not None}

    def seen(name: str) -> Callable[[Call], Any]:
        def answer(call: Call) -> Any:
            result = call.right()
            profiles[name].see(call, result)
            return result

        return answer

    with _replaced(op, {name: _wrapped(op, name, seen(name)) for name in profiles}):
        for check in checks:
            check(compiled=False)
        shapes = {name: list(profile.shapes) for name, profile in profiles.items()}
        for check in checks:
            check()
    for name, profile in profiles.items():
        profile.shapes = shapes[name]  # what a scan makes of them is only compared with itself
    return profiles


def _fate(op: Any, name: str, fault: Fault, checks: Sequence[Callable]) -> Mutant:
    try:
        with _replaced(op, {name: _wrapped(op, name, fault.wrong)}):
            for check in checks:
                check()
    except Exception as error:  # a wrong rule may make anything fail, and every failure is noticed
        return Mutant(name, fault.name, f"{type(error).__name__}: {error}")
    return Mutant(name, fault.name, None, None if fault.traced else _equivalence(op, name, fault, checks))


def _equivalence(op: Any, name: str, fault: Fault, checks: Sequence[Callable]) -> str | None:
    """Why a mutant that survived is no fault: it gives what the right rule gives in every call of the check, and with
    other numbers in the place of those that the rule keeps, for else it would only be the check that lacks an input."""
    same: list[bool] = []
    random = np.random.default_rng(0)

    def answer(call: Call) -> Any:
        result = call.right()
        if call.form != "traced":
            same.append(_same(call, result, fault.wrong(call)))
        if call.form == "raw":
            other = call.elsewhere(random)
            same.append(_same(other, other.right(), fault.wrong(other)))
        return result

    with _replaced(op, {name: _wrapped(op, name, answer)}):
        for check in checks:
            check()
    return f"the same values and derivatives in all {len(same)} calls" if same and all(same) else None


def _same(call: Call, right: Any, wrong: Any) -> bool:
    """Whether two results of a rule are the same in value and, if they are recorded, in their derivatives."""
    if isinstance(right, Sparse):
        return all(_same(call, a, b) for (_, a), (_, b) in zip(right.pieces, wrong.pieces))
    if right.shape != wrong.shape or right.dtype != wrong.dtype or not _close([right], [wrong]):
        return False
    if not isinstance(right, Tensor) or (right.node is None and wrong.node is None):
        return True
    parts = [p for v in (call.g, *call.kept.values()) for p in (v if isinstance(v, tuple) else (v,))]
    goals = [p for p in parts if isinstance(p, Tensor) and p.node is not None]
    cotangent = np.linspace(0.5, 1.5, right.size).reshape(right.shape).astype(right.dtype)

    def derivatives(y: Tensor) -> Sequence[Any]:
        if y.node is None:
            return [np.zeros(goal.shape) for goal in goals]
        found = grad(y, goals, cotangent, retain_graph=True, allow_unused=True)
        return [np.zeros(goal.shape) if g is None else g for goal, g in zip(goals, found)]

    return _close(derivatives(right), derivatives(wrong))


def _close(right: Sequence[Any], wrong: Sequence[Any]) -> bool:
    """Whether the numbers are the same up to rounding, by the largest of them."""
    xs, ys = ([np.asarray(to_host(unwrap(v))) for v in part] for part in (right, wrong))
    eps = max((epsilon(x.dtype.name) for x in xs if is_floating(x.dtype)), default=0.0)
    xs, ys = ([v.astype(np.float64) for v in part] for part in (xs, ys))
    largest = max((float(np.max(abs(x), initial=0.0, where=np.isfinite(x))) for x in xs), default=0.0)
    bound = (32 if eps > 1e-4 else 256) * eps * largest
    return all(np.allclose(y, x, rtol=0.0, atol=bound, equal_nan=True) for x, y in zip(xs, ys))
