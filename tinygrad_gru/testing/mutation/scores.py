"""Mutation testing of the op contract: each rule of an op is mutated on purpose, and `check_op` must fail.

    print(mutants(cube, oracle=lambda x: np.power(x, 3), shapes=[(3, 4)], elementwise=True))

A mutant is the op with one of its rules changed by a mutation operator while it is checked. It is killed if the check
fails. One that survives shows what the check lacks: a shape, a dtype, a domain. A mutant that gives the same values and
derivatives in every call of the check (a symmetric matrix transposed, say) is equivalent, and counts as neither.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, Signature, signature
from multiprocessing import get_context
from types import FunctionType
from typing import Any

import numpy as np

from ... import ops
from ...backend import is_floating, to_host
from ...cotangents import Sparse
from ...ops.op import unwrap
from ...tensor import Tensor
from ...transforms import grad
from ...version import RenamedAttribute
from ..comparison import epsilon
from ..contract import check_op
from ..op_specs import CHECKED_BY, OP_SPECS, check_case
from .operators import Call, MutationOperator, Profile, mutation_operators, parts_of

#: Ops without mutants, for specs are too small to call their rules: the blocks of `linear_cross_entropy`, which keep
#: the contract in tests/ops/test_linear_cross_entropy.py, to rounding.
_BEYOND_SPECS = frozenset({"_log_likelihoods"})


@dataclass(frozen=True)
class Mutant:
    """A mutated rule: of which input, by which mutation operator, and the error of the check that killed it, if any.

    `equivalent` says why it cannot be killed, if it is an equivalent mutant.

    >>> testing.mutants(ops.negative).mutants[0].killed_by is not None
    True
    """

    input: str
    operator: str
    killed_by: str | None
    equivalent: str | None = None


@dataclass(frozen=True)
class MutationScore:
    """The mutants of an op, and how many a check killed. Prints which survived, or why the unchanged op fails.

    >>> score = testing.mutants(ops.negative)
    >>> score.perfect, len(score.survived)
    (True, 0)
    """

    op: str
    mutants: tuple[Mutant, ...]
    failure: str | None = None

    noticed, survivors = RenamedAttribute("killed"), RenamedAttribute("survived")

    @property
    def killed(self) -> int:
        return sum(m.killed_by is not None for m in self.mutants)

    @property
    def equivalent(self) -> list[Mutant]:
        return [m for m in self.mutants if m.equivalent is not None]

    @property
    def survived(self) -> list[Mutant]:
        """The mutants that were not killed and are not equivalent."""
        return [m for m in self.mutants if m.killed_by is None and m.equivalent is None]

    @property
    def perfect(self) -> bool:
        """Whether there are mutants, and none survived."""
        return self.killed > 0 and not self.survived

    def __str__(self) -> str:
        if self.failure is not None:
            return f"{self.op}: the check of its unchanged rules fails, so mutants prove nothing: {self.failure}"
        count = len(self.mutants) - len(self.equivalent)
        equivalent = f", {len(self.equivalent)} more are equivalent" if self.equivalent else ""
        lines = [f"{self.op}: {self.killed} of {count} mutants killed{equivalent}"]
        return "\n".join([*lines, *(f"  survived: rule of {m.input}, {m.operator}" for m in self.survived)])


def mutants(
    op: Any,
    oracle: Callable[..., Any] | None = None,
    shapes: Sequence[Any] | None = None,
    domain: Any = (-2.0, 2.0),
    **how: Any,
) -> MutationScore:
    """Mutate each rule of `op` by every mutation operator that applies, and count which mutants `check_op` kills.

    The arguments after the op are those of `check_op`; without them an op of the framework is checked by its op specs.
    The check must pass for the unchanged op.

    >>> print(testing.mutants(ops.negative))
    negative: ... mutants killed...
    """
    if not any(_rules(op).values()):
        raise TypeError(f"op: expected an op with rules, got {op!r}")
    checks = _checks(op, oracle, shapes, domain, how)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of the wrong values
        profiles, checks = _profiles(op, checks)
        results = [
            _run(op, name, operator, checks)
            for name, profile in profiles.items()
            if profile.calls
            for operator in mutation_operators(profile)
        ]
    return MutationScore(op.__name__, tuple(results))


def ops_with_rules() -> dict[str, Any]:
    """All ops of the framework that have a rule, by the name of their formula."""
    # Not the attributes of the package, where an op may hide the module of its name.
    modules = [module for name, module in sys.modules.items() if name.startswith(ops.__name__)]
    values = [value for module in modules for value in vars(module).values()]
    found: list[Any] = [v for v in values if isinstance(v, FunctionType) and any(_rules(v).values())]
    return {v.formula.__name__: v for v in found}


def _rules(function: Any) -> dict[str, Any]:
    return getattr(function, "rules", None) or {}


def mutation_scores(processes: int | None = None, names: Collection[str] = ()) -> Iterator[MutationScore]:
    """The score of every op of the framework, or of those of these names; by default a process for each core.

    Left out are `_log_likelihoods`, the blocks of `linear_cross_entropy`, which the specs are too small for.

    >>> [score.op for score in testing.mutation_scores(names=["negative"])]      # doctest: +SKIP
    ['negative']
    """
    found = [name for name in ops_with_rules() if name not in _BEYOND_SPECS]
    names = [name for name in found if not names or CHECKED_BY.get(name, name) in names]
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
        raise TypeError(f"{op.__name__}: give oracle and shapes to check it by, as for check_op")
    return [partial(check_case, name, case, **how) for case in OP_SPECS[name]]


@contextmanager
def _with_rules(op: Any, changed: dict[str, Callable]) -> Iterator[None]:
    rules = dict(op.rules)
    op.vjp(**{**rules, **changed})
    try:
        yield
    finally:
        op.vjp(**rules)


def _intercepted(op: Any, name: str, respond: Callable[[Call], Any]) -> Callable:
    """A rule with the parameters of the op's rule of that input, and the input's shape; it returns respond(call)."""
    rule, variadic = op.rules[name], len(op.rules) == 1 and _is_variadic(op)
    names = list(signature(rule).parameters)
    first, parameters = names[: 1 + variadic], names[1 + variadic :]
    extended = parameters if f"{name}_shape" in parameters else [*parameters, f"{name}_shape"]
    memory: dict[Any, Any] = {}

    def intercepted(*arguments: Any) -> Any:
        own_g, *rest = arguments
        position = rest[: len(first) - 1]
        named = dict(zip(extended, rest[len(first) - 1 :]))
        shape = named[f"{name}_shape"]

        def right(g: Any = own_g, /, **changes: Any) -> Any:
            values = {**named, **changes}
            return rule(g, *position, *(values[n] for n in parameters))

        shape = tuple(shape[position[0]] if variadic else shape)
        return respond(Call(right, own_g, {n: named[n] for n in parameters}, shape, memory))

    intercepted.__wrapped__ = rule  # type: ignore[attr-defined]  # whose line errors name
    intercepted.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in (*first, *extended)]
    )
    return intercepted


def _is_variadic(op: Any) -> bool:
    return any(p.kind is Parameter.VAR_POSITIONAL for p in signature(op.formula).parameters.values())


def _profiles(op: Any, checks: Sequence[Callable]) -> tuple[dict[str, Profile], list[Callable]]:
    """Profiles of the calls of an op's rules while it is checked, and the checks that call them, which alone can tell
    a mutant. Raises what the check raises."""
    calling = []
    profiles = {name: Profile() for name, rule in op.rules.items() if rule is not None}

    def recorder(name: str) -> Callable[[Call], Any]:
        def respond(call: Call) -> Any:
            result = call.right()
            profiles[name].add(call, result)
            return result

        return respond

    with _with_rules(op, {name: _intercepted(op, name, recorder(name)) for name in profiles}):
        for check in checks:
            before = sum(profile.calls for profile in profiles.values())
            check(compiled=False)
            if sum(profile.calls for profile in profiles.values()) > before:
                calling.append(check)
        shapes = {name: list(profile.shapes) for name, profile in profiles.items()}
        for check in calling:
            check()
    for name, profile in profiles.items():
        profile.shapes = shapes[name]  # those inside a scan are only compared with themselves
    return profiles, calling


def _run(op: Any, name: str, operator: MutationOperator, checks: Sequence[Callable]) -> Mutant:
    try:
        with _with_rules(op, {name: _intercepted(op, name, operator.mutate)}):
            for check in checks:
                check()
    except Exception as error:  # a mutant may make anything fail, and any failure kills it
        return Mutant(name, operator.name, f"{type(error).__name__}: {error}")
    return Mutant(name, operator.name, None, None if operator.traced else _equivalence(op, name, operator, checks))


def _equivalence(op: Any, name: str, operator: MutationOperator, checks: Sequence[Callable]) -> str | None:
    """Why a mutant that was not killed is equivalent: it gives what the right rule gives in every call of the check,
    and with other residuals too, for else the check might only lack an input. None if it is not."""
    same: list[bool] = []
    random = np.random.default_rng(0)

    def respond(call: Call) -> Any:
        result = call.right()
        if call.mode != "traced":
            same.append(_same(call, result, operator.mutate(call)))
        if call.mode == "executed":
            other = call.with_other_residuals(random)
            same.append(_same(other, other.right(), operator.mutate(other)))
        return result

    with _with_rules(op, {name: _intercepted(op, name, respond)}):
        for check in checks:
            check()
    return f"the same values and derivatives in all {len(same)} calls" if same and all(same) else None


def _same(call: Call, right: Any, mutated: Any) -> bool:
    """Whether two results of a rule are the same in value and, if they are recorded, in their derivatives."""
    if isinstance(right, Sparse):
        return all(_same(call, a, b) for (_, a), (_, b) in zip(right.pieces, mutated.pieces))
    if right.shape != mutated.shape or right.dtype != mutated.dtype or not _close([right], [mutated]):
        return False
    if not isinstance(right, Tensor) or (right.node is None and mutated.node is None):
        return True
    parts = parts_of(call.g, *call.residuals.values())
    targets = [p for p in parts if isinstance(p, Tensor) and p.node is not None]
    cotangent = np.linspace(0.5, 1.5, right.size).reshape(right.shape).astype(right.dtype)

    def derivatives(y: Tensor) -> Sequence[Any]:
        if y.node is None:
            return [np.zeros(t.shape) for t in targets]
        found = grad(y, targets, cotangent, retain_graph=True, allow_unused=True)
        return [np.zeros(t.shape) if g is None else g for t, g in zip(targets, found)]

    return _close(derivatives(right), derivatives(mutated))


def _close(right: Sequence[Any], mutated: Sequence[Any]) -> bool:
    """Whether the values agree up to rounding, relative to the largest."""
    xs, ys = ([np.asarray(to_host(unwrap(v))) for v in part] for part in (right, mutated))
    eps = max((epsilon(x.dtype.name) for x in xs if is_floating(x.dtype)), default=0.0)
    xs, ys = ([v.astype(np.float64) for v in part] for part in (xs, ys))
    largest = max((float(np.max(abs(x), initial=0.0, where=np.isfinite(x))) for x in xs), default=0.0)
    bound = (32 if eps > 1e-4 else 256) * eps * largest
    return all(np.allclose(y, x, rtol=0.0, atol=bound, equal_nan=True) for x, y in zip(xs, ys))
