"""The contract that every op keeps, as one function to run on ours and on yours.

    print(check_op(tanh, oracle=np.tanh, shapes=[(3, 4)]))

checks the values against an oracle that is independent of us, first and second derivatives against finite differences,
and values and both derivatives in narrower dtypes against float64; that none of it depends on how arrays and
cotangents lie in memory, and nothing writes into them; that raw arrays and Tensors, and raw and recorded backward, give
the same bits; that dtypes are kept by the op and by each of its rules; that a write between forward and backward is
noticed where it matters; that a compiled scan agrees with an eager one; and for an elementwise op all of that for
arrays without axes, of size 0 and 1, and that broadcast. It returns a `Report` of how much was compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import Backend, dtype_name, is_floating, resolve, to_host
from ..contexts import no_grad
from ..ops import op as make_op
from ..tape import Node, TapeError, leaf, walk
from ..tensor import Tensor
from ..transforms import grad
from ..trees import leaves
from .comparison import disagreement, disagreement_in, epsilon, numpy_dtype
from .gradcheck import EPS, GradientError, gradcheck, gradgradcheck
from .layouts import LAYOUTS, contiguous, laid_out
from .recurrence import check_compiled
from .report import Report

#: The dtypes that are checked besides float64. Not bfloat16, which NumPy itself leaves beside a Python number.
DTYPES = ("float32", "float16")
#: Shapes that broadcast, for one input and for several: input k takes the k-th, and again from the first.
CORNERS: tuple[list[Any], list[list[Any]]] = (
    [(), (0, 3), (1,), (2, 1, 3)],
    [[()], [(2, 3), ()], [(0, 3), (3,)], [(1,)], [(3, 1), (1, 4)], [(4,), (2, 3, 4)], [(2, 1, 3), (4, 1)]],
)


class ContractError(AssertionError):
    """An op does not keep the contract."""


def check_op(
    op: Callable[..., Any],
    oracle: Callable[..., Any],
    shapes: Sequence[Any],
    domain: tuple[float, float] | Sequence[tuple[float, float]] = (-2.0, 2.0),
    *,
    elementwise: bool = False,
    differentiable: bool = True,
    dtypes: Sequence[str] = DTYPES,
    backend: str | Backend = "numpy",
    compiled: bool = True,
    quick: bool = False,
    empty: bool = False,
    seed: int = 0,
    rtol: float = 1e-10,
    **settings: Any,
) -> Report:
    """Check that `op` keeps the contract; raise ContractError or GradientError that says which clause fails, and where.

    op              the op, or any function of Tensors and settings
    oracle          the same on NumPy arrays, from another source than the op's own formula
    shapes          for each input its shape (it is filled at random from its domain), or an array to be used as it is
    domain          (low, high) for all inputs, or one for each: stay clear of kinks and poles
    elementwise     check arrays without axes, of size 0 and 1 and broadcasting ones as well
    differentiable  False for an op that has no gradient: it must then give constants
    dtypes          besides float64, those that the op must keep and be right in ("bfloat16" too, with ml_dtypes)
    backend         where to run; the oracle stays on NumPy
    compiled        whether a compiled scan must agree with the eager one (on NumPy)
    quick           random directions in the place of single entries of the Jacobian, and no memory layouts
    empty           True allows that there is nothing to compare but shapes, because every array is of size 0
    settings        passed to the op and to the oracle; to the op arrays among them on its backend
    """
    home, random = resolve(backend), np.random.default_rng(seed)
    moved = {key: _moved(value, home) for key, value in settings.items()}
    name = getattr(op, "__name__", repr(op))
    check = _Check(lambda *xs: op(*xs, **moved), lambda *xs: oracle(*xs, **settings), home, random, rtol)
    report = Report()
    for number, case in enumerate([list(shapes), *(_corners(len(shapes)) if elementwise else [])]):
        values = _values(case, domain, random)
        check.clause = f"{name} at {[v.shape for v in values]}"
        report += check.values(values)
        if not differentiable:
            check.gives_constants(values)
        else:
            check.backward(values)
            report += check.derivatives(values, full=home.name == "numpy" and not quick)
            if number == 0 and not quick:  # at another point: rules may remember what they saw first
                report += check.derivatives(_values(case, domain, random), full=False)
        if number == 0 and home.name in ("numpy", "cupy") and not quick:
            report += check.layouts(values, differentiable)
        for dtype in dtypes:
            report += check.dtype(values, dtype, differentiable)
        if number == 0 and home.name == "numpy":
            if differentiable:
                check.writes(values)
            if compiled:
                draws = [_values(case, domain, random) for _ in range(3)]
                report += check.compiled(draws, differentiable)
    if not (report or empty):
        raise ContractError(f"{name}: nothing was checked: every array was empty, or nothing came out")
    return report


def _corners(inputs: int) -> list[list[Any]]:
    if inputs == 1:
        return [[shape] for shape in CORNERS[0]]
    return [[pattern[k % len(pattern)] for k in range(inputs)] for pattern in CORNERS[1]]


def _values(case: list, domain: Any, random: np.random.Generator) -> list[np.ndarray]:
    domains = [domain] * len(case) if np.ndim(domain) == 1 else list(domain)
    if len(domains) != len(case):
        raise ValueError(f"domain: expected (low, high), or one for each of the {len(case)} inputs, got {domain!r}")
    return [
        shape if isinstance(shape, np.ndarray) else random.uniform(low, high, size=shape)
        for shape, (low, high) in zip(case, domains)
    ]


def _moved(value: Any, home: Backend) -> Any:
    """A setting with its arrays on a backend."""
    if isinstance(value, tuple):
        return tuple(_moved(part, home) for part in value)
    return home.asarray(value) if isinstance(value, np.ndarray) else value


@make_op
def _recorded(x):
    return x


_recorded.vjp(x=lambda g: g)


def _tensors(arrays: Sequence[Any]) -> list[Tensor]:
    # Not by the constructor, which may copy: the memory layout is to reach the op.
    return [Tensor.from_node(a, leaf(a) if is_floating(a.dtype) else None) for a in arrays]


def _all(result: Any) -> list:
    return [part for _, part in leaves(result, "output")]


def _host(array: Any) -> np.ndarray:
    """The values of a result on the host, in float64 if they are real."""
    values = np.asarray(to_host(array.data if isinstance(array, Tensor) else array))
    return values.astype(np.float64) if is_floating(values.dtype) else values


class _Check:
    """The clauses of the contract for one op on one backend; `clause` says what is being checked."""

    def __init__(
        self, run: Callable, oracle: Callable, home: Backend, random: np.random.Generator, rtol: float
    ) -> None:
        self.run, self.oracle, self.home, self.random, self.rtol = run, oracle, home, random, rtol
        self.clause = ""

    # -- values

    def values(self, values: list[np.ndarray]) -> Report:
        """The values are the oracle's, the same for arrays and Tensors, and inputs are left as they were."""
        arrays = [self.home.asarray(np.array(v)) for v in values]
        expected = [np.asarray(e) for e in _all(self.oracle(*values))]
        tensors, raw = _all(self.run(*_tensors(arrays))), _all(self.run(*arrays))
        for i, (a, v) in enumerate(zip(arrays, values)):
            self._require(_same_bits(a, v), f"the op wrote into its input {i}")
        self._require(len(tensors) == len(expected), f"{len(tensors)} outputs, the oracle has {len(expected)}")
        self._require(len(raw) == len(tensors), f"{len(raw)} outputs for arrays, {len(tensors)} for Tensors")
        for k, (y, r, e) in enumerate(zip(tensors, raw, expected)):
            self._require(isinstance(y, Tensor), f"Tensors must give a Tensor, got {type(y).__name__}")
            self._require(not isinstance(r, Tensor), "arrays must give an array, got a Tensor")
            self._require(tuple(y.shape) == e.shape, f"shape {tuple(y.shape)}, the oracle has {e.shape}")
            self._agree(f"output {k}", "the oracle", disagreement(_host(y), e, self.rtol, 64 * EPS))
            self._require(_same_bits(r, y), "arrays and Tensors give different values")
        return Report(values=sum(e.size for e in expected), dtypes=("float64",))

    def gives_constants(self, values: list[np.ndarray]) -> None:
        outputs = _all(self.run(*_tensors([self.home.asarray(v) for v in values])))
        self._require(not any(y.requires_grad for y in outputs), "no gradient was declared, but there is one")

    # -- derivatives

    def derivatives(self, values: list[np.ndarray], full: bool) -> Report:
        """First derivatives, entry by entry if `full`, and second ones in random directions."""
        arrays = [self.home.asarray(v) for v in values]
        if not any(v.size for v in values if is_floating(v.dtype)) or not any(y.size for y in _all(self.run(*arrays))):
            return Report()
        report = Report()
        for check, entries in ((gradcheck, full), (gradgradcheck, False)):
            try:
                report += check(self.run, arrays, full=entries)
            except GradientError as error:
                raise GradientError(f"{self.clause}: {error}") from None
        return report

    def backward(self, values: list[np.ndarray]) -> None:
        """Raw and recorded backward give the same bits, and write into nothing that they were given."""
        arrays = [self.home.asarray(v) for v in values]
        cotangents = self._cotangents(arrays)
        inputs = _tensors(arrays)
        outputs = _all(self.run(*inputs))
        given = [*(t.data for t in inputs), *(y.data for y in outputs), *cotangents]
        before = [np.array(to_host(a)) for a in given]
        wanted = [t for t in inputs if t.requires_grad]
        plain = grad(*_alive(outputs, cotangents, wanted), allow_unused=True)
        for a, b in zip(given, before):
            self._require(_same_bits(a, b), "a rule wrote into an array that it was given")
        inputs = _tensors(arrays)
        wanted = [t for t in inputs if t.requires_grad]
        recorded = grad(*_alive(_all(self.run(*inputs)), cotangents, wanted), create_graph=True, allow_unused=True)
        for p, r in zip(plain, recorded):
            same = (p is None and r is None) or (p is not None and r is not None and _same_bits(p, r))
            self._require(same, "raw and recorded backward give different bits")

    def _cotangents(self, arrays: list, seed: int | None = None) -> list:
        random = self.random if seed is None else np.random.default_rng(seed)
        return [
            self._array(random.standard_normal(y.shape), dtype_name(y.dtype) if is_floating(y.dtype) else "float64")
            for y in _all(self.run(*(Tensor.from_node(a, None) for a in arrays)))
        ]

    def _array(self, values: Any, dtype: str) -> Any:
        return self.home.asarray(np.asarray(values).astype(numpy_dtype(dtype)))

    def _gradients(self, arrays: list, cotangents: list, weights: list | None = None) -> list[tuple[str, Tensor, Any]]:
        """(what it is, with regard to what, the gradient or None): as the rules gave them, in the rules' dtype.

        With `weights` for the first derivatives also the second: of the weighed gradients, with regard to the inputs
        and to the cotangents.
        """
        twice = weights is not None
        # A record's gradient is not cast to the dtype of its values, as a leaf's is.
        inputs = [_recorded(t) if t.requires_grad else t for t in _tensors(arrays)]
        seeds = [_recorded(Tensor(c, requires_grad=True)) if twice else c for c in cotangents]
        wanted = [(f"input {i}", t) for i, t in enumerate(inputs) if t.requires_grad]
        outputs = _all(self.run(*inputs))
        found = _pulled(outputs, seeds, [t for _, t in wanted], create_graph=twice)
        results = [(f"the gradient of {name}", t, g) for (name, t), g in zip(wanted, found)]
        if weights is None:
            return results
        goals = [*wanted, *((f"the cotangent of output {k}", c) for k, c in enumerate(seeds))]
        again = _pulled(
            [Tensor.from_node(None, None) if g is None else g for g in found], weights, [t for _, t in goals]
        )
        return [*results, *((f"the second derivative by {name}", t, g) for (name, t), g in zip(goals, again))]

    # -- dtypes

    def dtype(self, values: list[np.ndarray], dtype: str, differentiable: bool) -> Report:
        """Values and derivatives in a narrower dtype are those of float64 at the same inputs, up to rounding."""
        if self.home.xp.__name__ == "array_api_strict" and dtype in ("float16", "bfloat16"):
            return Report()  # the standard has neither
        clause, self.clause = self.clause, f"{self.clause} in {dtype}"
        narrow = [self._array(v, dtype) if is_floating(v.dtype) else self.home.asarray(v) for v in values]
        wide = [_host(a) for a in narrow]
        eps = epsilon(dtype)
        shaken = [self._shaken(wide, eps) for _ in range(2)]
        expected = [np.asarray(e) for e in _all(self.oracle(*wide))]
        near = [[np.asarray(e) for e in _all(self.oracle(*values))] for values in shaken]
        # NumPy doesn't know bfloat16, and is only held to it where Tensors are.
        constants = [Tensor.from_node(a, None) for a in narrow]
        outputs = _all(self.run(*(constants if dtype == "bfloat16" else narrow)))
        for k, (y, e) in enumerate(zip(outputs, expected)):
            kept = not (differentiable and e.dtype.kind == "f") or dtype_name(y.dtype) == dtype
            self._require(kept, f"the output became {y.dtype}")
            found = disagreement_in(dtype, _host(y), e, [n[k] for n in near])
            self._agree(f"output {k}", "the oracle", found)
        report = Report(values=sum(e.size for e in expected), dtypes=(dtype,))
        if differentiable:
            report += self._gradients_in(narrow, eps, dtype)
        self.clause = clause
        return report

    def _gradients_in(self, narrow: list, eps: float, dtype: str) -> Report:
        cotangents = self._cotangents(narrow, seed=1)
        weights = [self._array(np.random.default_rng(2).standard_normal(a.shape), dtype) for a in narrow
                   if is_floating(a.dtype)]  # fmt: skip
        first = self._gradients(narrow, cotangents)
        both = self._gradients(narrow, cotangents, weights)
        for name, t, g in (*first, *both):
            if g is not None:
                self._require(g.dtype == t.dtype, f"{name}: the gradient became {g.dtype}")
                self._require(g.shape == t.shape, f"{name} has shape {g.shape} for an input {t.shape}")
        for (name, _, raw), (_, _, recorded) in zip(first, both):
            same = (raw is None) == (recorded is None) and (raw is None or _same_bits(raw, recorded))
            self._require(same, f"{name}: raw and recorded backward give different bits")

        def in_float64(values: list, gs: list, ws: list) -> list[np.ndarray]:
            found = self._gradients(*([self.home.asarray(a) for a in part] for part in (values, gs, ws)))
            return [np.zeros(t.shape) if g is None else _host(g) for _, t, g in found]

        wide = [[_host(a) for a in part] for part in (narrow, cotangents, weights)]
        expected = in_float64(*wide)
        near = [in_float64(*(self._shaken(part, eps) for part in wide)) for _ in range(2)]
        for k, ((name, t, g), e) in enumerate(zip(both, expected)):
            got = np.zeros(t.shape) if g is None else _host(g)
            # What is 0 to second order is a difference of what is not, of about the size of the first derivatives.
            size = max([float(np.max(abs(f), initial=0.0)) for f in expected[: len(first)]], default=0.0)
            more = 8 * eps * size if k >= len(first) else 0.0
            found = disagreement_in(dtype, got, e, [n[k] for n in near], more)
            self._agree(name, "that in float64", found)
        return Report(gradients=sum(e.size for e in expected), dtypes=(dtype,))

    def _shaken(self, values: list[np.ndarray], eps: float) -> list[np.ndarray]:
        """The same values up to a rounding: how far results move then is how far rounding may move them."""
        return [v * (1 + eps * self.random.choice([-1, 1], v.shape)) if v.dtype.kind == "f" else v for v in values]

    # -- memory

    def layouts(self, values: list[np.ndarray], differentiable: bool) -> Report:
        """Neither values nor gradients depend on how inputs and cotangents lie in memory; nothing writes into them."""
        usual: dict[str, float] = {}  # the largest of each result at values that aren't repeated
        with np.errstate(all="ignore"):  # equal numbers may be a pole
            for k, name in enumerate(names := list(LAYOUTS)):
                # Cotangents in another layout than inputs: they seldom come in the same.
                arrays = [self._placed(v, name) for v in values]
                plain = [contiguous(a, self.home) for a in arrays]
                shapes = [v.shape for _, v in self._values_and_gradients(plain, [], False)]
                cotangents = [self._placed(self.random.standard_normal(shape), names[k - 1]) for shape in shapes]
                flat = [contiguous(c, self.home) for c in cotangents]
                expected = self._values_and_gradients(plain, flat, differentiable)
                usual = usual or {label: float(np.max(abs(e), initial=0.0)) for label, e in expected if e.dtype != bool}
                for xs, gs, what in (
                    (arrays, flat, f"inputs {name}"),
                    (plain, cotangents, f"a cotangent {names[k - 1]}"),
                ):
                    found = self._values_and_gradients(xs, gs, differentiable)
                    for (label, got), (_, e) in zip(found, expected):
                        found_wrong = disagreement(got, e, 1e-11, 64 * EPS, 64 * EPS * usual.get(label, 0.0))
                        self._agree(f"{label} for {what}", "contiguous ones", found_wrong)
        return Report(layouts=2 * len(LAYOUTS))

    def _placed(self, values: np.ndarray, layout: str) -> Any:
        array = laid_out(values, layout)
        return array if self.home.name == "numpy" else self.home.asarray(array)

    def _values_and_gradients(
        self, arrays: list, cotangents: list, differentiable: bool
    ) -> list[tuple[str, np.ndarray]]:
        try:
            results = [(f"output {k}", _host(y)) for k, y in enumerate(_all(self.run(*arrays)))]
            if differentiable:
                for name, t, g in self._gradients(arrays, cotangents):
                    results.append((name, np.zeros(t.shape) if g is None else _host(g)))
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise ContractError(f"{self.clause}: the op or a rule wrote into what it was given: {error}") from error
        return results

    def writes(self, values: list[np.ndarray]) -> None:
        """A write into an input between forward and backward is an error, or the gradient doesn't depend on it."""
        places = [i for i, v in enumerate(values) if is_floating(v.dtype)]
        cotangents = self._cotangents([self.home.asarray(v) for v in values], seed=3)
        for written in places:
            inputs = _tensors([self.home.asarray(np.array(v)) for v in values])
            wanted = [inputs[i] for i in places]
            ys, _, cs = _alive(_all(self.run(*inputs)), cotangents, wanted)
            squares = [y * y for y in ys]  # so that somebody has saved the output
            expected = grad(squares, wanted, cs, retain_graph=True, allow_unused=True)
            with no_grad():
                inputs[written][...] = 0.5
            try:
                found = grad(squares, wanted, cs, allow_unused=True)
            except TapeError:
                continue
            self._require(
                all((e is None and f is None) or _same_bits(e, f) for e, f in zip(expected, found)),
                f"input {written} was written between forward and backward, and its gradient is another one without a "
                "word: does the op keep an array that no rule names?",
            )

    # -- recurrences

    def compiled(self, draws: list[list[np.ndarray]], differentiable: bool) -> Report:
        """The op inside a step: compiled and eager scans agree in values, first and second derivatives."""
        pairs, compiled = check_compiled(self.run, draws, differentiable)
        for name, got, expected in pairs:
            self._agree(f"{name} of a compiled scan", "the eager one", disagreement(got, expected, 1e-9, 1e-11))
        return Report(compiled=int(compiled))

    # -- comparisons

    def _require(self, holds: bool, message: str) -> None:
        if not holds:
            raise ContractError(f"{self.clause}: {message}")

    def _agree(self, what: str, reference: str, found: str | None) -> None:
        if found is not None:
            raise ContractError(f"{self.clause}: {what} differs from {reference}: {found}")


def _alive(outputs: list, cotangents: list, wanted: list) -> tuple[list, list, list]:
    pairs = [(y, c) for y, c in zip(outputs, cotangents) if y.requires_grad]
    return [y for y, _ in pairs], wanted, [c for _, c in pairs]


def _pulled(outputs: list, cotangents: list, goals: list[Tensor], create_graph: bool = False) -> list:
    """What the rules give for each goal, a record; None where nothing arrives."""
    start: dict[Node, Any] = {}
    for y, c in zip(outputs, cotangents):
        if y.node is not None:
            start[y.node] = start[y.node] + c if y.node in start else c
    nodes = [goal.node for goal in goals if goal.node is not None]
    found = walk(Tensor, start, frozenset(nodes), create_graph, create_graph) if start and nodes else {}
    return [found.get(node) for node in nodes]


def _same_bits(a: Any, b: Any) -> bool:
    a, b = (np.asarray(to_host(x.data if isinstance(x, Tensor) else x)) for x in (a, b))
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=is_floating(a.dtype))
