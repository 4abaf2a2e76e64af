"""Lockstep: run one computation on two backends, op by op, and name the first result that differs.

    print(lockstep(model, ids))                                    # a module, on NumPy and on CuPy
    lockstep(lambda x, w: tanh(x @ w), x, w, backends=("numpy", mine))

The first backend runs the computation, forward and backward, and all its results are kept: those of every op, every
cotangent, the outputs and the gradients. The second runs it as well, and each of its results is compared at once, so
that an error shows at the op that caused it, before it has spread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from ..backend import Backend, backend_of, is_floating, manual_seed, random_state, resolve, set_random_state, to_host
from ..contexts import enable_grad, setting
from ..cotangents import Sparse
from ..inspector import Inspector
from ..nn import Module
from ..ops.op import unwrap
from ..tape import Node, Variable, inspector
from ..tensor import Tensor
from ..transforms import grad
from ..trees import leaves, map_leaves

#: The tolerance of each dtype, relative to the largest value of a result.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}


class DivergenceError(AssertionError):
    """Two backends gave different results."""


class Agreement(NamedTuple):
    """The results that two backends agree in: the number of each kind, and the largest difference.

    Differences are relative to the largest value of the result. Prints as a table.

    >>> print(debug.lockstep(ops.tanh, np.ones(3), backends=("numpy", "numpy")))
    5 results of numpy and numpy agree:...
    """

    backends: tuple[str, str]
    kinds: dict[str, tuple[int, float]]

    @property
    def results(self) -> int:
        """The number of results that were compared."""
        return sum(count for count, _ in self.kinds.values())

    @property
    def largest(self) -> float:
        """The largest difference."""
        return max((difference for _, difference in self.kinds.values()), default=0.0)

    def __str__(self) -> str:
        width = max(map(len, self.kinds), default=0)
        lines = [f"{kind:{width}}  {count:6}  {difference:.1e}" for kind, (count, difference) in self.kinds.items()]
        return "\n".join([f"{self.results} results of {' and '.join(self.backends)} agree:", *lines])


def lockstep(
    function: Callable[..., Any],
    *inputs: Any,
    backends: tuple[str | Backend, str | Backend] = ("numpy", "cupy"),
    order: int = 1,
    every_op: bool = True,
    tolerance: float | None = None,
    seed: int = 0,
) -> Agreement:
    """Run `function(*inputs)` and its gradients on two backends; raise DivergenceError at the first difference.

    function   of Tensors and modules, or a module; it returns Tensors, arrays or scalars, alone or in containers
    inputs     arrays and Tensors, alone or in containers: floats are differentiated. A Module is moved to each backend,
               its parameters are differentiated, and then it is moved back. Other values are passed unchanged
    backends   the reference, and the one that is compared with it
    order      2 compares the second derivatives as well
    every_op   False compares outputs and gradients alone; recurrences are then compiled, and else run in eager mode
    tolerance  relative to the largest value of a result; by its dtype if None (`TOLERANCES`)
    seed       of the cotangents of the outputs, the same on both
    Nothing may be random, for backends draw different numbers. DivergenceError names the op, its number in the run, its
    record on the tape, shapes, the largest difference, the source line, and how far the results before it agree; or it
    says where the two backends ran different ops, or that nothing was compared.

    >>> agreement = debug.lockstep(nn.Linear(3, 2), np.ones((4, 3), "float32"), backends=("numpy", "numpy"))
    >>> agreement.backends
    ('numpy', 'numpy')
    """
    first, second = map(resolve, backends)
    log: list[_Result] = []
    comparison = _Comparison((first.name, second.name), log, tolerance)
    _Run(log.append, every_op).run_on(first, function, inputs, order, seed)
    _Run(comparison.compare, every_op).run_on(second, function, inputs, order, seed)
    return comparison.agreement()


class _Result(NamedTuple):
    """A result of a run: its name, its kind, its value, and its origin in lines for a report."""

    name: str
    kind: str
    value: np.ndarray
    origin: Sequence[str] = ()


class _Run(Inspector):
    """The inspector of one backend's run, which passes each result to `receive`."""

    def __init__(self, receive: Callable[[_Result], None], every_op: bool):
        super().__init__()
        self.receive, self.every_op = receive, every_op
        self.ops = 0
        self.recorded: dict[int, tuple[str, str]] = {}  # the name and location of a record, by its number
        self.uses: dict[int, list[str]] = {}  # the ops that use a node's value, by its number

    def run_on(self, backend: Backend, function: Callable, inputs: Sequence[Any], order: int, seed: int) -> None:
        state = random_state()
        modules_at = {part: _backend_of_module(part) for part in (function, *inputs) if isinstance(part, Module)}
        try:
            with setting(inspector, self) if self.every_op else nullcontext(), enable_grad():
                manual_seed(seed)
                for module in modules_at:
                    module.to(backend)
                arguments = [map_leaves(lambda leaf: _moved(leaf, backend), x) for x in inputs]
                self._differentiate(function, arguments, modules_at, backend, order, seed)
        finally:
            for module, original in modules_at.items():
                module.to(original)
            set_random_state(state)

    def _differentiate(
        self, function: Callable, arguments: list, modules: Iterable[Module], backend: Backend, order: int, seed: int
    ) -> None:
        random = np.random.default_rng(seed)
        inputs = dict(_differentiated(arguments, modules))
        results = dict(leaves(function(*arguments), "output"))
        for name, value in results.items():
            self._emit(name, "output", _comparable(value, name))
        outputs = {name: y for name, y in results.items() if isinstance(y, Tensor)}
        for level in range(1, order + 1):
            ys = [y for y in outputs.values() if y.requires_grad]
            if not ys or not inputs:
                return
            cotangents = [backend.asarray(random.standard_normal(y.shape)) for y in ys]
            gradients = grad(ys, list(inputs.values()), cotangents, create_graph=level < order, allow_unused=True)
            kind = "gradient" if level == 1 else f"order {level} derivative"
            outputs = {}
            for (name, x), gradient in zip(inputs.items(), gradients):
                if gradient is not None:
                    outputs[name] = gradient
                    self._emit(f"{kind} of {name}", kind, gradient, self._terms_of(x.node))

    def forward(self, op: Any, inputs: tuple, result: Variable) -> None:
        self.ops += 1
        name, location, origin = f"op {self.ops}, {op.__name__}", self.location(), []
        if result.node is not None:
            self.recorded[result.node.number] = name, location
            for parent in {p.number for p in result.node.parents if p is not None}:
                self.uses.setdefault(parent, []).append(name)
            origin.append(f"on the tape: {result.node!r}")
        self._emit(name, op.__name__, result, [*origin, location])

    def backward(self, record: Node, cotangent: Any) -> None:
        name, origin = self._name_and_origin(record)
        for g in cotangent if isinstance(cotangent, list) else [cotangent]:
            if g is not None:
                kind = f"{record.op.__name__}, cotangent"
                self._emit(f"the cotangent that reaches {name}", kind, g, [*origin, *self._terms_of(record)])

    def apply_vjp(self, record: Node, parents: tuple, saved: tuple, cotangent: Any, accumulate: Callable) -> None:
        name, origin = self._name_and_origin(record)

        def accumulate_and_emit(node: Node, gradient: Any) -> None:
            pieces = [value for _, value in gradient.pieces] if isinstance(gradient, Sparse) else [gradient]
            for piece in pieces:
                share = f"the cotangent that {name} gives to its input {parents.index(node)}"
                self._emit(share, f"{record.op.__name__}, rule", piece, origin)
            accumulate(node, gradient)

        super().apply_vjp(record, parents, saved, cotangent, accumulate_and_emit)

    def _name_and_origin(self, record: Node) -> tuple[str, list[str]]:
        name, location = self.recorded.get(record.number, (record.op.__name__, ""))
        return name, [f"on the tape: {record!r}", *([f"it ran {location}"] if location else [])]

    def _terms_of(self, node: Node | None) -> list[str]:
        """The ops whose rules gave the terms of the sum at a node, for it may be the sum that is wrong."""
        uses = self.uses.get(node.number, []) if node is not None else []
        shown = uses if len(uses) <= 4 else [*uses[:2], f"… ({len(uses)} in all)", uses[-1]]
        return [f"summed from: {'; '.join(shown)}"] if uses else []

    def _emit(self, name: str, kind: str, value: Any, origin: Sequence[str] = ()) -> None:
        array = unwrap(value)
        self.receive(_Result(name, kind, np.array(to_host(array) if hasattr(array, "dtype") else array), origin))


class _Comparison:
    """Compares the results of a run, one by one, with those of the reference."""

    def __init__(self, backends: tuple[str, str], expected: list[_Result], tolerance: float | None):
        self.backends, self.expected, self.tolerance = backends, expected, tolerance
        self.count = 0
        self.kinds: dict[str, tuple[int, float]] = {}

    def compare(self, result: _Result) -> None:
        expected = self.expected[self.count] if self.count < len(self.expected) else None
        self.count += 1
        signature, expected_signature = _signature(result), _signature(expected)
        if signature != expected_signature:
            self._fail(result, [f"{expected_signature} on {self.backends[0]}, {signature} on {self.backends[1]}"])
        assert expected is not None
        difference, index = _distance(result.value, expected.value)
        allowed = TOLERANCES.get(result.value.dtype.name, 0.0) if self.tolerance is None else self.tolerance
        if difference > allowed:
            at = f"at {tuple(map(int, index))} " if index else ""
            values = zip((expected.value, result.value), self.backends)
            pair = (f"{value[index].item()!r:.12} on {name}" for value, name in values)
            self._fail(result, [
                f"by {difference:.2g} of the largest value, {allowed:.2g} is allowed",
                f"{result.value.shape} {result.value.dtype}, {at}most: {', '.join(pair)}",
            ])  # fmt: skip
        count, largest = self.kinds.get(result.kind, (0, 0.0))
        self.kinds[result.kind] = count + 1, max(largest, difference)

    def _fail(self, result: _Result, lines: list[str]) -> None:
        head = f"{result.name}: {' and '.join(self.backends)} differ"
        before = Agreement(self.backends, self.kinds)
        history = [f"the {before.results} results before it agree to {before.largest:.1e}"] if self.kinds else []
        raise DivergenceError("\n  ".join([head, *lines, *result.origin, *history]))

    def agreement(self) -> Agreement:
        if self.count < len(self.expected):
            missing = self.expected[self.count]
            self._fail(missing, [f"{_signature(missing)} on {self.backends[0]} alone"])
        if not any(result.value.size for result in self.expected):
            raise DivergenceError(
                f"nothing was compared on {' and '.join(self.backends)}: the function gave no value, or only empty ones"
            )
        return Agreement(self.backends, self.kinds)


def _signature(result: _Result | None) -> str:
    """Name, shape and dtype, which must be equal."""
    return "nothing" if result is None else f"{result.name} {result.value.shape} {result.value.dtype}"


def _distance(value: np.ndarray, expected: np.ndarray) -> tuple[float, tuple]:
    """The largest difference of two arrays, relative to the largest of the expected values, and its index.

    NaN agrees with NaN, an infinity with itself, and neither with anything else. Integers agree if they are equal.
    """
    if not value.size:
        return 0.0, ()
    if value.dtype.kind in "biu":
        gaps = np.where(value == expected, 0.0, np.inf)
        scale = 1.0
    else:
        a, b = value.astype(np.float64), expected.astype(np.float64)
        with np.errstate(invalid="ignore"):
            gaps = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        gaps = np.where(np.isfinite(gaps), gaps, np.inf)
        scale = np.max(np.abs(b), where=np.isfinite(b), initial=0.0) or 1.0
    index = np.unravel_index(np.argmax(gaps), gaps.shape)
    return float(gaps[index] / scale), index


def _backend_of_module(module: Module) -> Backend:
    return next((backend_of(tensor.data) for _, tensor in module.named_tensors()), resolve("numpy"))


def _moved(value: Any, backend: Backend) -> Any:
    """An input on a backend: floats as leaves, other arrays as constants, anything else unchanged."""
    if isinstance(value, Module) or not hasattr(value, "dtype"):
        return value
    array = to_host(unwrap(value))
    return Tensor(array, requires_grad=is_floating(array.dtype), device=backend)


def _comparable(value: Any, name: str) -> Any:
    if isinstance(value, (Tensor, bool, int, float)) or hasattr(value, "dtype"):
        return value
    raise TypeError(f"{name}: a {type(value).__name__} cannot be compared; return Tensors, arrays or scalars")


def _differentiated(arguments: Iterable[Any], modules: Iterable[Module]) -> Iterator[tuple[str, Tensor]]:
    """The differentiated tensors, by name."""
    for i, argument in enumerate(arguments):
        for name, x in leaves(argument, f"inputs[{i}]"):
            if isinstance(x, Tensor) and x.requires_grad:
                yield name, x
    for module in modules:
        found = module.named_parameters()
        yield from ((f"{type(module).__name__}.{name}", x) for name, x in found if x.requires_grad)
