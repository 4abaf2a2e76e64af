"""One computation on two backends, op by op: the first result that differs is named.

    print(lockstep(model, ids))                                    # a module, on NumPy and on CuPy
    lockstep(lambda x, w: tanh(x @ w), x, w, backends=("numpy", mine))

The first backend runs the computation, forward and backward, and everything that it gives is kept: the result of every
op, every cotangent, the outputs and the gradients. The second runs it as well, and each of its results is compared as
it comes. So an error shows at the op that made it, before others have carried it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import Backend, backend_of, is_floating, manual_seed, random_state, resolve, set_random_state, to_host
from ..contexts import enable_grad
from ..cotangents import Sparse
from ..inspector import Inspector
from ..nn import Module
from ..ops.op import unwrap
from ..tape import Node, Variable, inspector
from ..tensor import Tensor
from ..transforms import grad
from ..trees import leaves, map_leaves

#: By how much results in that dtype may differ, relative to the largest of their values.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}


class DivergenceError(AssertionError):
    """Two backends gave different results."""


@dataclass(frozen=True)
class Agreement:
    """What two backends agreed in: of every kind of result how often it came and by how much it differed at most.

    Differences are relative to the largest value of the result. Prints as a table.
    """

    backends: tuple[str, str]
    kinds: dict[str, tuple[int, float]]

    @property
    def results(self) -> int:
        """How many results were compared."""
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

    function   of Tensors and modules, or a module; it returns Tensors, arrays or numbers, alone or in containers
    inputs     arrays and Tensors, alone or in containers: floats are differentiated. A Module is moved to each backend,
               its parameters are differentiated, and then it is moved back. Other values are handed on
    backends   the one that is believed, and the one that is compared with it
    order      2 compares the second derivatives as well
    every_op   False compares outputs and gradients alone. Recurrences then run as they do otherwise, compiled, while op
               by op they run plainly
    tolerance  relative to the largest value of a result; by its dtype if None (`TOLERANCES`)
    seed       of the cotangents that weigh the outputs, the same on both
    Nothing random may happen in between, for backends draw different numbers. Raises DivergenceError that names the op,
    its number in the run, its record on the tape, shapes, the largest difference, the place in the program, and by how
    much the results before it differed; or that says where the two backends ran different ops, or that nothing was
    compared.
    """
    first, second = map(resolve, backends)
    log: list[_Result] = []
    comparison = _Comparison((first.name, second.name), log, tolerance)
    _Run(log.append, every_op).over(function, inputs, first, order, seed)
    _Run(comparison.see, every_op).over(function, inputs, second, order, seed)
    return comparison.agreement()


@dataclass(frozen=True)
class _Result:
    """Something that a backend gave: what it is, of which kind, and where it comes from, in lines for a report."""

    what: str
    kind: str
    value: np.ndarray
    origin: Sequence[str] = ()


class _Run(Inspector):
    """One backend's run, each of whose results goes to `see`."""

    def __init__(self, see: Callable[[_Result], None], every_op: bool):
        super().__init__()
        self.see, self.every_op = see, every_op
        self.ops = 0
        self.made: dict[int, tuple[str, str]] = {}  # what a record is called here, and its place, by its number
        self.users: dict[int, list[str]] = {}  # the ops that read a node's value, by its number

    def over(self, function: Callable, inputs: Sequence[Any], backend: Backend, order: int, seed: int) -> None:
        state = random_state()
        modules = {part: _home(part) for part in (function, *inputs) if isinstance(part, Module)}
        token = inspector.set(self) if self.every_op else None
        try:
            manual_seed(seed)
            for module in modules:
                module.to(backend)
            arguments = [map_leaves(lambda leaf: _moved(leaf, backend), x) for x in inputs]
            with enable_grad():
                self._differentiate(function, arguments, modules, backend, order, seed)
        finally:
            if token is not None:
                inspector.reset(token)
            for module, home in modules.items():
                module.to(home)
            set_random_state(state)

    def _differentiate(
        self, function: Callable, arguments: list, modules: Iterable[Module], backend: Backend, order: int, seed: int
    ) -> None:
        random = np.random.default_rng(seed)
        wanted_leaves = dict(_differentiated(arguments, modules))
        results = dict(leaves(function(*arguments), "output"))
        for name, value in results.items():
            self._give(name, "output", _comparable(value, name))
        outputs = {name: y for name, y in results.items() if isinstance(y, Tensor)}
        for level in range(1, order + 1):
            wanted = [y for y in outputs.values() if y.requires_grad]
            if not wanted or not wanted_leaves:
                return
            cotangents = [backend.asarray(random.standard_normal(y.shape)) for y in wanted]
            found = grad(
                wanted, list(wanted_leaves.values()), cotangents, create_graph=level < order, allow_unused=True
            )
            kind = "gradient" if level == 1 else f"order {level} derivative"
            outputs = {}
            for (name, leaf), gradient in zip(wanted_leaves.items(), found):
                if gradient is not None:
                    outputs[name] = gradient
                    self._give(f"{kind} of {name}", kind, gradient, self._rules_of(leaf.node))

    def forward(self, op: Any, inputs: tuple, result: Variable) -> None:
        self.ops += 1
        what, place, origin = f"op {self.ops}, {op.__name__}", self.place(), []
        if result.node is not None:
            self.made[result.node.number] = what, place
            for parent in {p.number for p in result.node.parents if p is not None}:
                self.users.setdefault(parent, []).append(what)
            origin.append(f"on the tape: {result.node!r}")
        self._give(what, op.__name__, result, [*origin, place])

    def backward(self, record: Node, cotangent: Any) -> None:
        what, origin = self._known(record)
        for g in cotangent if isinstance(cotangent, list) else [cotangent]:
            if g is not None:
                kind = f"{record.op.__name__}, cotangent"
                self._give(f"the cotangent that reaches {what}", kind, g, [*origin, *self._rules_of(record)])

    def apply_vjp(self, record: Node, parents: tuple, saved: tuple, cotangent: Any, accumulate: Callable) -> None:
        what, origin = self._known(record)

        def seen(node: Node, gradient: Any) -> None:
            pieces = [value for _, value in gradient.pieces] if isinstance(gradient, Sparse) else [gradient]
            for piece in pieces:
                name = f"the cotangent that {what} gives to its input {parents.index(node)}"
                self._give(name, f"{record.op.__name__}, rule", piece, origin)
            accumulate(node, gradient)

        super().apply_vjp(record, parents, saved, cotangent, seen)

    def _known(self, record: Node) -> tuple[str, list[str]]:
        """What a record is called here, and where it comes from."""
        what, place = self.made.get(record.number, (record.op.__name__, ""))
        return what, [f"on the tape: {record!r}", *([f"it ran {place}"] if place else [])]

    def _rules_of(self, node: Node | None) -> list[str]:
        """By whose rules the cotangent at a node was given, if it is the sum that is wrong."""
        users = self.users.get(node.number, []) if node is not None else []
        shown = users if len(users) <= 4 else [*users[:2], f"… ({len(users)} in all)", users[-1]]
        return [f"summed from: {'; '.join(shown)}"] if users else []

    def _give(self, what: str, kind: str, value: Any, origin: Sequence[str] = ()) -> None:
        self.see(_Result(what, kind, np.array(_on_host(unwrap(value))), origin))


class _Comparison:
    """Compares results, as they come, with those of another run."""

    def __init__(self, backends: tuple[str, str], expected: list[_Result], tolerance: float | None):
        self.backends, self.expected, self.tolerance = backends, expected, tolerance
        self.seen = 0
        self.kinds: dict[str, tuple[int, float]] = {}

    def see(self, result: _Result) -> None:
        known = self.expected[self.seen] if self.seen < len(self.expected) else None
        self.seen += 1
        form, known_form = _form(result), _form(known)
        if form != known_form:
            self._differ(result, [f"{known_form} on {self.backends[0]}, {form} on {self.backends[1]}"])
        assert known is not None
        difference, place = _distance(result.value, known.value)
        allowed = TOLERANCES.get(result.value.dtype.name, 0.0) if self.tolerance is None else self.tolerance
        if difference > allowed:
            at = f"at {tuple(map(int, place))} " if place else ""
            pair = (f"{x[place].item()!r:.12} on {name}" for x, name in zip((known.value, result.value), self.backends))
            self._differ(result, [
                f"by {difference:.2g} of the largest value, {allowed:.2g} is allowed",
                f"{result.value.shape} {result.value.dtype}, {at}most: {', '.join(pair)}",
            ])  # fmt: skip
        count, largest = self.kinds.get(result.kind, (0, 0.0))
        self.kinds[result.kind] = count + 1, max(largest, difference)

    def _differ(self, result: _Result, lines: list[str]) -> None:
        head = f"{result.what}: {' and '.join(self.backends)} differ"
        before = Agreement(self.backends, self.kinds)
        history = [f"the {before.results} results before it agree to {before.largest:.1e}"] if self.kinds else []
        raise DivergenceError("\n  ".join([head, *lines, *result.origin, *history]))

    def agreement(self) -> Agreement:
        if self.seen < len(self.expected):
            missing = self.expected[self.seen]
            self._differ(missing, [f"{_form(missing)} came on {self.backends[0]} alone"])
        if not any(result.value.size for result in self.expected):
            raise DivergenceError(
                f"nothing was compared on {' and '.join(self.backends)}: the function gave no value, or only empty ones"
            )
        return Agreement(self.backends, self.kinds)


def _form(result: _Result | None) -> str:
    """What must be the same, apart from the values."""
    return "nothing" if result is None else f"{result.what} {result.value.shape} {result.value.dtype}"


def _distance(value: np.ndarray, expected: np.ndarray) -> tuple[float, tuple]:
    """The largest difference of two arrays, relative to the largest of the expected values, and its place.

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
    place = np.unravel_index(np.argmax(gaps), gaps.shape)
    return float(gaps[place] / scale), place


def _on_host(value: Any) -> Any:
    return to_host(value) if hasattr(value, "dtype") else value


def _home(module: Module) -> Backend:
    """Where a module is now."""
    return next((backend_of(tensor.data) for _, tensor in module.named_tensors()), resolve("numpy"))


def _moved(value: Any, backend: Backend) -> Any:
    """An input on a backend: floats as leaves, other arrays as constants, anything else as it is."""
    if isinstance(value, Module) or not hasattr(value, "dtype"):
        return value
    array = to_host(unwrap(value))
    return Tensor(array, requires_grad=is_floating(array.dtype), device=backend)


def _comparable(value: Any, name: str) -> Any:
    if isinstance(value, (Tensor, bool, int, float)) or hasattr(value, "dtype"):
        return value
    raise TypeError(f"{name}: a {type(value).__name__} cannot be compared; return Tensors, arrays or numbers")


def _differentiated(arguments: Iterable[Any], modules: Iterable[Module]) -> Iterator[tuple[str, Tensor]]:
    """What is differentiated, by name."""
    for i, argument in enumerate(arguments):
        for name, x in leaves(argument, f"inputs[{i}]"):
            if isinstance(x, Tensor) and x.requires_grad:
                yield name, x
    for module in modules:
        yield from ((f"{type(module).__name__}.{name}", x) for name, x in module.named_parameters())
