"""gradcheck and gradgradcheck: gradients against finite differences.

Each derivative is compared on its own scale: a small one isn't hidden by a large one beside it. The numerical
derivative is the central difference at a step relative to the coordinate, extrapolated (Richardson) from two steps,
whose disagreement, with the rounding of the function's values, bounds its error. That bound is the tolerance; where
it is too wide to tell right from wrong, other steps are tried, and if none will do, that is an error too.

Small problems are checked entry by entry. In large ones a random direction is weighted by a random cotangent in which
every output counts the same, and then again in a direction in which every coordinate of the inputs counts the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..backend import backend_of, dtype_name, is_floating, to_host
from ..contexts import enable_grad
from ..tensor import Tensor
from ..transforms import grad
from ..trees import leaves
from .comparison import likely_cause
from .report import Report

EPS = float(np.finfo(np.float64).eps)
#: The most evaluations for which the default is to check entry by entry.
SMALL = 128
#: The most evaluations spent on finding the entry at which a derivative in a random direction is wrong.
AFFORDABLE = 6000
#: The largest relative error of a numerical derivative that still tells right from wrong.
DECIDED = 1e-3


class GradientError(AssertionError):
    """A gradient disagrees with finite differences, or none was compared."""


def gradcheck(
    function: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    full: bool | None = None,
    step: float = 1e-4,
    rtol: float = 1e-6,
    atol: float = 0.0,
    seed: int = 0,
) -> Report:
    """Check the first derivatives of `function` at `inputs`; return a Report, or raise GradientError that says where.

    function  of as many Tensors as there are inputs; returns a Tensor or a nested container of Tensors
    inputs    arrays or Tensors; those of float64 are differentiated, others (integers, booleans) are passed on.
              Lower-precision floats are refused: their differences would be noise
    full      True: every input element and output element; False: random directions and cotangents, a few evaluations
              for inputs of any size; None: True for small problems
    step      of the central differences, relative to |x| of each coordinate (to 1 at 0)
    rtol      relative tolerance of a derivative, besides the error of the difference itself
    atol      absolute tolerance of a derivative, for functions that are not smooth to rounding
    """
    tensors = _float64_leaves(inputs)
    with enable_grad():
        names = [f"inputs[{i}]" for i in range(len(tensors))]
        return _Problem(function, tensors, names, 1, step, rtol, atol).check(full, np.random.default_rng(seed))


def gradgradcheck(
    function: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    full: bool | None = None,
    step: float = 1e-4,
    rtol: float = 1e-6,
    atol: float = 0.0,
    seed: int = 0,
) -> Report:
    """Check the second derivatives of `function` at `inputs`: gradcheck of its recorded gradient.

    The gradient is a function of the inputs and the cotangents, so that both of its arguments are checked.
    The arguments are those of `gradcheck`.
    """
    tensors = _float64_leaves(inputs)
    differentiated = [i for i, t in enumerate(tensors) if t.requires_grad]
    random = np.random.default_rng(seed + 1)

    def gradient(*arguments: Tensor) -> dict[str, Tensor]:
        primals, cotangents = arguments[: len(tensors)], arguments[len(tensors) :]
        with_gradient = [(y, c) for (_, y), c in zip(_outputs(function, primals), cotangents) if y.requires_grad]
        found: Sequence[Any] = [None] * len(differentiated)
        if with_gradient:
            ys, cs = zip(*with_gradient)
            found = grad(ys, [primals[i] for i in differentiated], cs, create_graph=True, allow_unused=True)
        return {f"inputs[{i}]": _zeros_like(primals[i]) if g is None else g for i, g in zip(differentiated, found)}

    with enable_grad():
        inputs_named = [f"inputs[{i}]" for i in range(len(tensors))]
        first = _Problem(function, tensors, inputs_named, 1, step, rtol, atol)
        if not first.outputs:
            raise GradientError("nothing was checked: the function has no output")
        # Outputs add up in one gradient, so each is weighted by its size there: a large one must not hide a small one.
        numbers = random.standard_normal(sum(first.sizes)) / first.row_sizes()
        weights = [_like(part.reshape(y.shape), y) for part, (_, y) in zip(first.parts(numbers), first.outputs)]
        names = [*inputs_named, *(f"the cotangent of {name}" for name, _ in first.outputs)]
        return _Problem(gradient, [*tensors, *weights], names, 2, step, rtol, atol).check(full, random)


def _float64_leaves(inputs: Sequence[Any]) -> list[Tensor]:
    """New leaves with the values of the float64 inputs; the others as constants."""
    tensors = []
    for i, x in enumerate(inputs):
        array = x.data if isinstance(x, Tensor) else x if hasattr(x, "dtype") else np.asarray(x)
        dtype = dtype_name(array.dtype)
        if is_floating(array.dtype) and dtype != "float64":
            raise TypeError(f"inputs[{i}]: finite differences need float64, got {dtype}: convert the inputs first")
        tensors.append(Tensor(array, requires_grad=dtype == "float64"))
    if not any(t.requires_grad for t in tensors):
        raise ValueError("inputs: none is of float64, so there is nothing to differentiate")
    return tensors


def _outputs(function: Callable, arguments: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
    outputs = list(leaves(function(*arguments), "output"))
    for name, y in outputs:
        if not isinstance(y, Tensor):
            raise TypeError(f"{name}: expected a Tensor, got {type(y).__name__}: it cannot be differentiated")
    return outputs


def _like(values: np.ndarray, tensor: Tensor) -> Tensor:
    return Tensor(backend_of(tensor.data).asarray(values), requires_grad=True)


def _zeros_like(tensor: Tensor) -> Tensor:
    return Tensor(backend_of(tensor.data).zeros(tensor.shape, tensor.dtype))


class _Problem:
    """A function at a point; its outputs are concatenated into one vector."""

    def __init__(
        self, function: Callable, tensors: list[Tensor], names: list[str], order: int, step: float, rtol: float,
        atol: float,
    ):  # fmt: skip
        self.function, self.tensors, self.names, self.order = function, tensors, names, order
        self.step, self.rtol, self.atol = step, rtol, atol
        self.differentiated = [i for i, t in enumerate(tensors) if t.requires_grad]
        self.point = [to_host(t.data) for t in tensors]
        self.outputs = _outputs(function, tensors)
        self.sizes = [y.size for _, y in self.outputs]
        self.at_point = self.values()
        first = _flat(self.outputs)
        if not np.array_equal(first, self.at_point, equal_nan=True):
            raise GradientError(
                "two calls of the function at the same point differ: it has a state, or is random (manual_seed helps)"
            )

    def values(self, moves: dict[int, np.ndarray] | None = None) -> np.ndarray:
        """The outputs, with some inputs replaced. Recorded: the function may itself take gradients."""
        moved = list(self.tensors)
        for i, array in (moves or {}).items():
            moved[i] = _like(array, moved[i])
        with np.errstate(all="ignore"):
            values = _flat(_outputs(self.function, moved))
        if len(values) != sum(self.sizes):
            raise GradientError(f"the function gives {sum(self.sizes)} values here and {len(values)} one step away")
        return values

    def parts(self, vector: np.ndarray) -> list[np.ndarray]:
        """A vector with an entry for every output element, split by output."""
        return np.split(vector, np.cumsum(self.sizes)[:-1])

    def row_sizes(self) -> np.ndarray:
        """The size of the gradient of each output element, or of each output where there are many; 1 where it is 0."""
        count = sum(self.sizes)
        owners = np.arange(count) if count <= SMALL // 2 else np.repeat(np.arange(len(self.sizes)), self.sizes)
        sizes = np.ones(count)
        for owner in range(int(owners[-1]) + 1 if count else 0):
            found = self.gradients((owners == owner).astype(np.float64))
            sizes[owners == owner] = max(np.max(abs(g), initial=0.0, where=np.isfinite(g)) for g in found) or 1.0
        return sizes

    def gradients(self, weights: np.ndarray) -> list[np.ndarray]:
        """weightsᵀ · Jacobian, for each differentiated input; zeros where no output depends on it."""
        with_gradient = [(y, w) for (_, y), w in zip(self.outputs, self.parts(weights)) if y.requires_grad and w.any()]
        inputs = [self.tensors[i] for i in self.differentiated]
        if not with_gradient:
            return [np.zeros(x.shape) for x in inputs]
        cotangents = [backend_of(y.data).asarray(w.reshape(y.shape)) for y, w in with_gradient]
        with np.errstate(all="ignore"):
            found = grad([y for y, _ in with_gradient], inputs, cotangents, retain_graph=True, allow_unused=True)
        return [np.zeros(x.shape) if g is None else to_host(g.data) for x, g in zip(inputs, found)]

    def derivative(self, direction: dict[int, np.ndarray], step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The numerical derivative of every output along a direction (given for each input), a bound of its error, and
        the share of rounding in that bound."""

        def central(h: float) -> tuple[np.ndarray, np.ndarray]:
            up, down = (self.values({i: self.point[i] + s * d for i, d in direction.items()}) for s in (h, -h))
            return (up - down) / (2 * h), 4 * EPS * np.maximum(abs(up), abs(down)) / h

        with np.errstate(all="ignore"):
            (coarse, _), (fine, noise) = central(step), central(step / 2)
            return (4 * fine - coarse) / 3, abs(fine - coarse) + noise, noise

    def check(self, full: bool | None, random: np.random.Generator) -> Report:
        inputs = sum(self.tensors[i].size for i in self.differentiated)
        if not inputs * sum(self.sizes):
            raise GradientError(
                f"nothing was checked: {len(self.outputs)} outputs of {sum(self.sizes)} elements in all, inputs of "
                f"{inputs} elements"
            )
        if full is None:
            full = 4 * inputs + sum(self.sizes) <= SMALL
        if full:
            self._check_entries(self.differentiated, random)
            count = inputs * sum(self.sizes)
        else:
            count = self._check_directions(self.differentiated, random)
        return Report(derivatives=count, orders=(self.order,), dtypes=("float64",))

    # -- entry by entry

    def _check_entries(self, differentiated: Sequence[int], random: np.random.Generator) -> None:
        weights = random.choice([-1.0, 1.0], sum(self.sizes)) * random.uniform(0.5, 1.5, sum(self.sizes))
        rows, joint = [self.gradients(one) for one in np.diag(weights)], self.gradients(weights)
        for row_of_input, i in enumerate(self.differentiated):
            if i not in differentiated:
                continue
            jacobian = np.stack([row[row_of_input].ravel() for row in rows]) / weights[:, None]
            self._check_linear(i, jacobian * weights[:, None], joint[row_of_input].ravel())
            floor = 64 * EPS * np.max(abs(jacobian), axis=1, initial=0.0, where=np.isfinite(jacobian)) + self.atol
            for e in range(jacobian.shape[1]):
                column = jacobian[:, e]
                wrong, best, error = self._compare_column(i, e, column, floor)
                if wrong.any():
                    k = int(np.argmax(wrong))
                    raise GradientError(self._entry_is_wrong(i, e, k, jacobian, best[k], error[k]))

    def _check_linear(self, i: int, parts: np.ndarray, joint: np.ndarray) -> None:
        """The gradient for several outputs is the sum of the gradients for each."""
        with np.errstate(invalid="ignore"):
            wrong = ~(abs(parts.sum(0) - joint) <= 1e-9 * abs(parts).sum(0)) & np.isfinite(parts).all(0)
        if wrong.any():
            e = int(np.argmax(wrong))
            raise GradientError(
                f"the gradient of {self.names[i]}{_index(e, self.tensors[i].shape)} for all outputs is {joint[e]:.9g}, "
                f"the sum of those for each output {parts.sum(0)[e]:.9g}: a rule is not linear in its cotangent"
            )

    def _compare_column(
        self, i: int, e: int, column: np.ndarray, floor: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which entries of a column of the Jacobian are wrong at every step that was tried; the best differences and
        their errors."""
        wrong = np.ones(len(column), bool)
        best, error = np.full(len(column), np.nan), np.full(len(column), np.inf)
        for length in self._lengths(i, e):
            value, bound, noise = self._entry(i, e, length)
            better = bound < error
            best, error = np.where(better, value, best), np.where(better, bound, error)
            scale = np.maximum(abs(column), abs(value))
            with np.errstate(invalid="ignore"):
                # A NaN on either side must fail: hence `<=`, never `not >`.
                decided = bound <= DECIDED * scale + floor + 1e-6 * abs(self.at_point) / length
                allowed = self.rtol * scale + floor + np.where(decided, 2 * bound, noise)
                wrong &= ~(abs(column - value) <= allowed)
            if not wrong.any():
                break
        return wrong, best, error

    def _lengths(self, i: int, e: int) -> Iterator[float]:
        """Scales of a step: the coordinate, then 1, the largest of the array, and less than any of them."""
        point = self.point[i]
        x, largest = abs(float(point.flat[e])), float(np.max(abs(point)))
        yield from dict.fromkeys([x or 1.0, 1.0, largest or 1.0, 1e-2 * (x or 1.0)])

    def _entry(self, i: int, e: int, length: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        direction = np.zeros(self.tensors[i].shape)
        direction.flat[e] = length
        value, bound, noise = self.derivative({i: direction}, self.step)
        return value / length, bound / length, noise / length

    def _entry_is_wrong(self, i: int, e: int, k: int, jacobian: np.ndarray, value: float, error: float) -> str:
        output, first = self._output_of(k)
        shape, into = self.outputs[output][1].shape, self.tensors[i].shape
        got = jacobian[k, e]
        what = (
            f"{self._called(output)}{_index(k - first, shape)} / ∂{self.names[i]}{_index(e, into)}: "
            f"the rules give {got:.9g}, finite differences {value:.9g}"
        )
        if not error <= DECIDED * max(abs(got), abs(value)) + 1e-6 * abs(self.at_point[k]):
            return f"{what} ± {error:.2g}, which decides nothing: is there a kink, a pole, or noise at this point?"
        block = jacobian[first : first + self.sizes[output]]
        numeric = np.stack([self._entry(i, c, next(self._lengths(i, c)))[0] for c in range(block.shape[1])], 1)
        numeric = numeric[first : first + self.sizes[output]]
        cause = likely_cause(block.reshape((*shape, *into)), numeric.reshape((*shape, *into)), len(shape))
        return f"{what} (they differ by {abs(got - value):.3g}); {cause}"

    def _called(self, output: int) -> str:
        name = self.outputs[output][0]
        return f"∂{name}" if self.order == 1 else f"∂(gradient of {name.removeprefix('output')[2:-2]})"

    def _output_of(self, k: int) -> tuple[int, int]:
        """The output to which an entry of the vector belongs, and its first entry."""
        ends = np.cumsum(self.sizes)
        output = int(np.searchsorted(ends, k, side="right"))
        return output, int(ends[output] - self.sizes[output])

    # -- in random directions

    def _check_directions(self, differentiated: Sequence[int], random: np.random.Generator) -> int:
        """Check the derivatives with respect to these inputs in two directions; return how many were compared."""
        reach = {i: np.where(self.point[i] == 0, 1.0, abs(self.point[i])) for i in differentiated}
        for _ in range(2):
            direction = {i: size * random.standard_normal(size.shape) for i, size in reach.items()}
            signs = random.choice([-1.0, 1.0], sum(self.sizes)) * random.uniform(0.5, 1.5, sum(self.sizes))
            for step in (self.step, 1e-2 * self.step, 10 * self.step):
                agrees, message, terms = self._direction_agrees(direction, signs, step)
                if agrees:
                    break
            else:
                self._narrow_down(differentiated, random, message)
            typical = np.median(np.concatenate([term.ravel() for term in terms.values()]))
            for i, term in terms.items():
                reach[i] = reach[i] * np.minimum(1.0, typical / np.where(term == 0, 1.0, term) if typical else 1.0)
        return 2

    def _narrow_down(self, differentiated: Sequence[int], random: np.random.Generator, message: str) -> None:
        """Raise an error that says which input is wrong and where; if none is, the direction only crossed a kink."""
        if len(differentiated) > 1:
            for i in differentiated:
                self._check_directions([i], random)
        elif self.tensors[differentiated[0]].size * 4 + sum(self.sizes) <= AFFORDABLE:
            self._check_entries(differentiated, random)
        else:
            raise GradientError(message)

    def _direction_agrees(
        self, direction: dict[int, np.ndarray], signs: np.ndarray, step: float
    ) -> tuple[bool, str, dict[int, np.ndarray]]:
        value, bound, _ = self.derivative(direction, step)
        size = abs(value) + 1e6 * bound
        largest = np.max(size, initial=0.0, where=np.isfinite(size)) or 1.0
        weights = signs / np.where(np.isfinite(size) & (size > 0), size, largest)
        gradients = dict(zip(self.differentiated, self.gradients(weights)))
        terms = {i: gradients[i] * d for i, d in direction.items()}
        analytic, numeric = sum(float(np.sum(term)) for term in terms.values()), float(weights @ value)
        scale, error = float(abs(weights) @ abs(value)), float(abs(weights) @ bound)
        terms = {i: abs(term) for i, term in terms.items()}
        slack = 64 * EPS * sum(float(np.sum(term)) for term in terms.values()) + self.atol * float(np.sum(abs(weights)))
        # With these weights an output that cannot be decided counts a millionth, and every other about 1.
        decided = error <= DECIDED * scale + slack + 1e-6 * len(weights)
        agrees = decided and abs(analytic - numeric) <= self.rtol * max(scale, abs(analytic)) + 2 * error + slack
        names = " and ".join(f"{self.names[i]} {self.tensors[i].shape}" for i in direction)
        message = (
            f"a derivative of order {self.order} with respect to {names}, along a random direction and weighted by a "
            f"random cotangent: the rules give {analytic:.9g}, finite differences {numeric:.9g} ± {error:.2g}; "
            "full=True would say which entry it is"
        )
        return bool(agrees), message, terms


def _flat(outputs: list[tuple[str, Tensor]]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(to_host(y.data).astype(np.float64).ravel() for _, y in outputs)])


def _index(flat: int, shape: tuple[int, ...]) -> str:
    return str([int(n) for n in np.unravel_index(flat, shape)]) if shape else ""
