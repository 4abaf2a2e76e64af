"""The clauses of the op contract: what `check_op` checks of one op on one backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import Backend, dtype_name, is_floating, to_host
from ..contexts import no_grad
from ..cotangents import summed_by_node
from ..ops import op as make_op
from ..tape import TapeError, leaf, walk
from ..tensor import Tensor
from ..transforms import grad
from ..trees import leaves
from .comparison import disagreement, disagreement_in, epsilon, numpy_dtype
from .finite_differences import EPS, GradientError, rule_of
from .gradcheck import gradcheck, gradgradcheck
from .layouts import LAYOUTS, contiguous, with_layout
from .recurrence import check_compiled
from .report import Report


class ContractError(AssertionError):
    """An op does not keep the contract."""


class Clauses:
    """The clauses of the contract for one op on one backend; errors begin with `clause`."""

    def __init__(
        self, run: Callable, oracle: Callable, backend: Backend, random: np.random.Generator, rtol: float
    ) -> None:
        self.run, self.oracle, self.backend, self.random, self.rtol = run, oracle, backend, random, rtol
        self.clause = ""

    # -- values

    def values(self, values: list[np.ndarray]) -> Report:
        """Values agree with the oracle, are the same for arrays and Tensors, and inputs are not written."""
        arrays = [self.backend.asarray(np.array(v)) for v in values]
        expected = [np.asarray(e) for e in _outputs(self.oracle(*values))]
        tensors, executed = _outputs(self.run(*_tensors(arrays))), _outputs(self.run(*arrays))
        for i, (a, v) in enumerate(zip(arrays, values)):
            self._require(_same_bits(a, v), f"the op wrote into its input {i}")
        self._require(len(tensors) == len(expected), f"{len(tensors)} outputs, the oracle has {len(expected)}")
        self._require(len(executed) == len(tensors), f"{len(executed)} outputs for arrays, {len(tensors)} for Tensors")
        for k, (y, r, e) in enumerate(zip(tensors, executed, expected)):
            self._require(isinstance(y, Tensor), f"Tensors must give a Tensor, got {type(y).__name__}")
            self._require(not isinstance(r, Tensor), "arrays must give an array, got a Tensor")
            self._require(tuple(y.shape) == e.shape, f"shape {tuple(y.shape)}, the oracle has {e.shape}")
            self._agree(f"output {k}", "the oracle", disagreement(_host(y), e, self.rtol, 64 * EPS))
            self._require(_same_bits(r, y), "arrays and Tensors give different values")
        return Report(values=sum(e.size for e in expected), dtypes=("float64",))

    def outputs_are_constants(self, values: list[np.ndarray]) -> None:
        outputs = _outputs(self.run(*_tensors([self.backend.asarray(v) for v in values])))
        self._require(not any(y.requires_grad for y in outputs), "no gradient was declared, but there is one")

    # -- derivatives

    def derivatives(self, values: list[np.ndarray], full: bool) -> Report:
        """First derivatives (each entry, if `full`) and second ones (in random directions) agree with differences."""
        arrays = [self.backend.asarray(v) for v in values]
        outputs = _outputs(self.run(*arrays))
        if not any(v.size for v in values if is_floating(v.dtype)) or not any(y.size for y in outputs):
            return Report()
        report = Report()
        for check, entries in ((gradcheck, full), (gradgradcheck, False)):
            try:
                report += check(self.run, arrays, full=entries)
            except GradientError as error:
                raise GradientError(f"{self.clause}: {error}") from None
        return report

    def backward(self, values: list[np.ndarray]) -> None:
        """Backward with and without `create_graph` gives the same bits, and writes into none of its inputs."""
        arrays = [self.backend.asarray(v) for v in values]
        cotangents = self._cotangents(arrays)
        inputs = _tensors(arrays)
        outputs = _outputs(self.run(*inputs))
        given = [*(t.data for t in inputs), *(y.data for y in outputs), *cotangents]
        before = [np.array(to_host(a)) for a in given]
        differentiated = [t for t in inputs if t.requires_grad]
        executed = grad(*_with_gradient(outputs, cotangents, differentiated), allow_unused=True)
        for a, b in zip(given, before):
            self._require(_same_bits(a, b), "a rule wrote into an array that it was given")
        inputs = _tensors(arrays)
        differentiated = [t for t in inputs if t.requires_grad]
        recorded = grad(
            *_with_gradient(_outputs(self.run(*inputs)), cotangents, differentiated),
            create_graph=True,
            allow_unused=True,
        )
        for p, r in zip(executed, recorded):
            same = (p is None and r is None) or (p is not None and r is not None and _same_bits(p, r))
            self._require(same, "executed and recorded backward give different bits")

    def _cotangents(self, arrays: list, seed: int | None = None) -> list:
        random = self.random if seed is None else np.random.default_rng(seed)
        return [
            self._array(random.standard_normal(y.shape), dtype_name(y.dtype) if is_floating(y.dtype) else "float64")
            for y in _outputs(self.run(*(Tensor.from_node(a, None) for a in arrays)))
        ]

    def _array(self, values: Any, dtype: str) -> Any:
        return self.backend.asarray(np.asarray(values).astype(numpy_dtype(dtype)))

    def _gradients(self, arrays: list, cotangents: list, weights: list | None = None) -> list[tuple[str, Tensor, Any]]:
        """(name, tensor, its gradient or None), gradients in the dtype that the rules returned.

        With `weights` for the first derivatives the second ones too: of the weighted gradients, with respect to the
        inputs and the cotangents.
        """
        twice = weights is not None
        # Of records: a leaf's gradient is cast to the dtype of its values.
        inputs = [_recorded(t) if t.requires_grad else t for t in _tensors(arrays)]
        seeds = [_recorded(Tensor(c, requires_grad=True)) if twice else c for c in cotangents]
        differentiated = [(f"input {i}", t) for i, t in enumerate(inputs) if t.requires_grad]
        outputs = _outputs(self.run(*inputs))
        found = _vjp(outputs, seeds, [t for _, t in differentiated], create_graph=twice)
        results = [(f"the gradient of {name}", t, g) for (name, t), g in zip(differentiated, found)]
        if weights is None:
            return results
        targets = [*differentiated, *((f"the cotangent of output {k}", c) for k, c in enumerate(seeds))]
        again = _vjp(
            [Tensor.from_node(None, None) if g is None else g for g in found], weights, [t for _, t in targets]
        )
        return [*results, *((f"the second derivative by {name}", t, g) for (name, t), g in zip(targets, again))]

    # -- dtypes

    def dtype(self, values: list[np.ndarray], dtype: str, differentiable: bool) -> Report:
        """Values and derivatives in a lower precision are those of float64 at the same inputs, up to rounding."""
        if self.backend.xp.__name__ == "array_api_strict" and dtype in ("float16", "bfloat16"):
            return Report()  # the standard has neither
        clause, self.clause = self.clause, f"{self.clause} in {dtype}"
        low = [self._array(v, dtype) if is_floating(v.dtype) else self.backend.asarray(v) for v in values]
        high = [_host(a) for a in low]
        eps = epsilon(dtype)
        perturbed = [self._perturbed(high, eps) for _ in range(2)]
        expected = [np.asarray(e) for e in _outputs(self.oracle(*high))]
        nearby = [[np.asarray(e) for e in _outputs(self.oracle(*values))] for values in perturbed]
        # NumPy has no bfloat16 and promotes it beside scalars; Tensors must not.
        constants = [Tensor.from_node(a, None) for a in low]
        outputs = _outputs(self.run(*(constants if dtype == "bfloat16" else low)))
        for k, (y, e) in enumerate(zip(outputs, expected)):
            kept = not (differentiable and e.dtype.kind == "f") or dtype_name(y.dtype) == dtype
            self._require(kept, f"the output became {y.dtype}")
            found = disagreement_in(dtype, _host(y), e, [n[k] for n in nearby])
            self._agree(f"output {k}", "the oracle", found)
        report = Report(values=sum(e.size for e in expected), dtypes=(dtype,))
        if differentiable:
            report += self._gradients_in(low, eps, dtype)
        self.clause = clause
        return report

    def _gradients_in(self, low: list, eps: float, dtype: str) -> Report:
        cotangents = self._cotangents(low, seed=1)
        weights = [self._array(np.random.default_rng(2).standard_normal(a.shape), dtype) for a in low
                   if is_floating(a.dtype)]  # fmt: skip
        first = self._gradients(low, cotangents)
        both = self._gradients(low, cotangents, weights)
        for name, t, g in (*first, *both):
            if g is not None:
                self._require(g.dtype == t.dtype, f"{name}: the gradient became {g.dtype}{self._by(name)}")
                self._require(g.shape == t.shape, f"{name} has shape {g.shape} for an input {t.shape}{self._by(name)}")
        for (name, _, executed), (_, _, recorded) in zip(first, both):
            same = (executed is None) == (recorded is None) and (executed is None or _same_bits(executed, recorded))
            self._require(same, f"{name}: executed and recorded backward give different bits")

        def in_float64(values: list, gs: list, ws: list) -> list[np.ndarray]:
            found = self._gradients(*([self.backend.asarray(a) for a in part] for part in (values, gs, ws)))
            return [np.zeros(t.shape) if g is None else _host(g) for _, t, g in found]

        high = [[_host(a) for a in part] for part in (low, cotangents, weights)]
        expected = in_float64(*high)
        nearby = [in_float64(*(self._perturbed(part, eps) for part in high)) for _ in range(2)]
        for k, ((name, t, g), e) in enumerate(zip(both, expected)):
            got = np.zeros(t.shape) if g is None else _host(g)
            # A second derivative of 0 is a difference of terms about as large as the first derivatives.
            size = max([float(np.max(abs(f), initial=0.0)) for f in expected[: len(first)]], default=0.0)
            more = 8 * eps * size if k >= len(first) else 0.0
            found = disagreement_in(dtype, got, e, [n[k] for n in nearby], more)
            self._agree(name, "that in float64", found)
        return Report(gradients=sum(e.size for e in expected), dtypes=(dtype,))

    def _perturbed(self, values: list[np.ndarray], eps: float) -> list[np.ndarray]:
        """The values with random rounding errors: rounding may move results as far as these move them."""
        return [v * (1 + eps * self.random.choice([-1, 1], v.shape)) if v.dtype.kind == "f" else v for v in values]

    # -- memory

    def layouts(self, values: list[np.ndarray], differentiable: bool) -> Report:
        """No result depends on the memory layout of inputs and cotangents, and nothing writes into them."""
        largest: dict[str, float] = {}  # of each result, at values that aren't repeated
        with np.errstate(all="ignore"):  # equal values may be a pole
            for k, name in enumerate(names := list(LAYOUTS)):
                # Cotangents in another layout than inputs, as is usual.
                arrays = [self._with_layout(v, name) for v in values]
                executed = [contiguous(a, self.backend) for a in arrays]
                shapes = [v.shape for _, v in self._values_and_gradients(executed, [], False)]
                cotangents = [self._with_layout(self.random.standard_normal(shape), names[k - 1]) for shape in shapes]
                flat = [contiguous(c, self.backend) for c in cotangents]
                expected = self._values_and_gradients(executed, flat, differentiable)
                largest = largest or {
                    label: float(np.max(abs(e), initial=0.0)) for label, e in expected if e.dtype != bool
                }
                for xs, gs, what in (
                    (arrays, flat, f"inputs {name}"),
                    (executed, cotangents, f"a cotangent {names[k - 1]}"),
                ):
                    found = self._values_and_gradients(xs, gs, differentiable)
                    for (label, got), (_, e) in zip(found, expected):
                        found_wrong = disagreement(got, e, 1e-11, 64 * EPS, 64 * EPS * largest.get(label, 0.0))
                        self._agree(f"{label} for {what}", "contiguous ones", found_wrong)
        return Report(layouts=2 * len(LAYOUTS))

    def _with_layout(self, values: np.ndarray, layout: str) -> Any:
        array = with_layout(values, layout)
        return array if self.backend.name == "numpy" else self.backend.asarray(array)

    def _values_and_gradients(
        self, arrays: list, cotangents: list, differentiable: bool
    ) -> list[tuple[str, np.ndarray]]:
        try:
            results = [(f"output {k}", _host(y)) for k, y in enumerate(_outputs(self.run(*arrays)))]
            if differentiable:
                for name, t, g in self._gradients(arrays, cotangents):
                    results.append((name, np.zeros(t.shape) if g is None else _host(g)))
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise ContractError(f"{self.clause}: the op or a rule wrote into what it was given: {error}") from error
        return results

    def writes(self, values: list[np.ndarray]) -> None:
        """A write into an input between forward and backward raises, unless the gradient doesn't depend on it."""
        real = [i for i, v in enumerate(values) if is_floating(v.dtype)]
        cotangents = self._cotangents([self.backend.asarray(v) for v in values], seed=3)
        for written in real:
            inputs = _tensors([self.backend.asarray(np.array(v)) for v in values])
            differentiated = [inputs[i] for i in real]
            ys, _, cs = _with_gradient(_outputs(self.run(*inputs)), cotangents, differentiated)
            squares = [y * y for y in ys]  # so that a record saves the output
            expected = grad(squares, differentiated, cs, retain_graph=True, allow_unused=True)
            with no_grad():
                inputs[written][...] = 0.5
            try:
                found = grad(squares, differentiated, cs, allow_unused=True)
            except TapeError:
                continue
            self._require(
                all((e is None and f is None) or _same_bits(e, f) for e, f in zip(expected, found)),
                f"input {written} was written between forward and backward, and its gradient is another one without an "
                "error: does the op keep an array that no rule names?",
            )

    # -- recurrences

    def compiled(self, samples: list[list[np.ndarray]], differentiable: bool) -> Report:
        """The op inside a step: compiled and eager scans agree in values, first and second derivatives."""
        pairs, reason = check_compiled(self.run, samples, differentiable)
        for name, got, expected in pairs:
            self._agree(f"{name} of a compiled scan", "the eager one", disagreement(got, expected, 1e-9, 1e-11))
        return Report(not_compiled=(reason,)) if reason else Report(compiled=1)

    def _by(self, name: str) -> str:
        """The rule that gave "the gradient of input 1", if it is known."""
        rule = rule_of(self.run, int(name.rpartition(" ")[2])) if name.startswith("the gradient of input") else ""
        return f", by {rule}" if rule else ""

    # -- comparisons

    def _require(self, holds: bool, message: str) -> None:
        if not holds:
            raise ContractError(f"{self.clause}: {message}")

    def _agree(self, what: str, reference: str, found: str | None) -> None:
        if found is not None:
            raise ContractError(f"{self.clause}: {what} differs from {reference}: {found}")


def _with_gradient(outputs: list, cotangents: list, differentiated: list) -> tuple[list, list, list]:
    pairs = [(y, c) for y, c in zip(outputs, cotangents) if y.requires_grad]
    return [y for y, _ in pairs], differentiated, [c for _, c in pairs]


def _vjp(outputs: list, cotangents: list, inputs: list[Tensor], create_graph: bool = False) -> list:
    """The gradient of each input, a record, as the rules returned it; None where there is none."""
    start = summed_by_node([(y.node, c) for y, c in zip(outputs, cotangents) if y.node is not None], create_graph)
    nodes = [x.node for x in inputs if x.node is not None]
    found = walk(Tensor, start, frozenset(nodes), create_graph, create_graph) if start and nodes else {}
    return [found.get(node) for node in nodes]


def _same_bits(a: Any, b: Any) -> bool:
    a, b = (np.asarray(to_host(x.data if isinstance(x, Tensor) else x)) for x in (a, b))
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=is_floating(a.dtype))


@make_op
def _recorded(x):
    return x


_recorded.vjp(x=lambda g: g)


def _tensors(arrays: Sequence[Any]) -> list[Tensor]:
    # Not by the constructor, which may copy: the op must get this memory layout.
    return [Tensor.from_node(a, leaf(a) if is_floating(a.dtype) else None) for a in arrays]


def _outputs(result: Any) -> list:
    return [part for _, part in leaves(result, "output")]


def _host(array: Any) -> np.ndarray:
    """The values of a result on the host, in float64 if they are real."""
    values = np.asarray(to_host(array.data if isinstance(array, Tensor) else array))
    return values.astype(np.float64) if is_floating(values.dtype) else values
