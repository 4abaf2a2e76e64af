"""A function at a point, whose derivatives are compared with finite differences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from inspect import Parameter, signature, unwrap
from typing import Any

import numpy as np

from ..backend import backend_of, to_host
from ..closures import definition_line
from ..ops.op import is_op
from ..tensor import Tensor
from ..transforms import grad
from ..trees import leaves
from .comparison import bisected, likely_cause, only_where
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


def outputs_of(function: Callable, arguments: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
    outputs = list(leaves(function(*arguments), "output"))
    for name, y in outputs:
        if not isinstance(y, Tensor):
            raise TypeError(f"{name}: expected a Tensor, got {type(y).__name__}: it cannot be differentiated")
    return outputs


def like(values: np.ndarray, tensor: Tensor) -> Tensor:
    return Tensor(backend_of(tensor.data).asarray(values), requires_grad=True)


def rule_of(function: Callable, position: int) -> str:
    """The rule of an op's input, with its line; nothing for a function that isn't an op."""
    while isinstance(function, partial):
        function = function.func
    if not is_op(function):
        return ""
    *named, last = [p for p in signature(function).parameters.values() if p.kind is not Parameter.KEYWORD_ONLY]
    name = [*named, last][min(position, len(named))].name
    op: Any = function
    if not op.rules or not op.rules[name]:
        return ""
    rule, inputs = op.rules[name], [p.name for p in (*named, last)]
    first = next(iter(signature(unwrap(rule)).parameters), "g")
    forgets_g = first in (*inputs, "y")
    hint = f"; its first parameter is {first}, it does not take g: is g missing?" if forgets_g else ""
    return f"the rule of {name} in {op.__name__} ({definition_line(rule)}){hint}"


class Problem:
    """A function at a point; its outputs are concatenated into one vector.

    names  of the inputs
    order  1, or 2 for a function that is itself a gradient
    op     the function, or the one whose gradient it is
    """

    def __init__(
        self, function: Callable, tensors: list[Tensor], names: list[str], order: int, step: float, rtol: float,
        atol: float, op: Callable,
    ):  # fmt: skip
        self.op = op
        self.function, self.tensors, self.names, self.order = function, tensors, names, order
        self.step, self.rtol, self.atol = step, rtol, atol
        self.differentiated = [i for i, t in enumerate(tensors) if t.requires_grad]
        self.point = [to_host(t.data) for t in tensors]
        self.outputs = outputs_of(function, tensors)
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
            moved[i] = like(array, moved[i])
        with np.errstate(all="ignore"):
            values = _flat(outputs_of(self.function, moved))
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
                f"{self._rule(0, i) if self.order == 1 else ''}"
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

        def cause() -> str:
            block = jacobian[first : first + self.sizes[output]]
            numeric = np.stack([self._entry(i, c, next(self._lengths(i, c)))[0] for c in range(block.shape[1])], 1)
            numeric = numeric[first : first + self.sizes[output]]
            found = likely_cause(block.reshape((*shape, *into)), numeric.reshape((*shape, *into)), len(shape))
            with np.errstate(invalid="ignore"):
                largest = np.max(abs(numeric), initial=0.0)
                wrong = ~(abs(block - numeric) <= DECIDED * (abs(numeric) + DECIDED * largest)).all(0)
            return found + only_where(wrong, self.point[i].ravel(), self.names[i])

        return self._message(i, e, k, jacobian[k, e], value, error, cause)

    def _message(self, i: int, e: int, k: int, got: float, value: float, error: float, cause: Callable[[], str]) -> str:
        """The message for a wrong entry of the Jacobian: ∂output k / ∂input i at e."""
        output, first = self._output_of(k)
        what = (
            f"{self._called(output)}{_index(k - first, self.outputs[output][1].shape)} / "
            f"∂{self.names[i]}{_index(e, self.tensors[i].shape)}: "
            f"the rules give {got:.9g}, finite differences {value:.9g}"
        )
        if not error <= DECIDED * max(abs(got), abs(value)) + 1e-6 * abs(self.at_point[k]):
            return f"{what} ± {error:.2g}, which decides nothing: is there a kink, a pole, or noise at this point?"
        if kink := self._kink(i, e, k):
            return f"{what}, but {kink}{self._rule(output, i)}"
        return f"{what} (they differ by {abs(got - value):.3g}); {cause()}{self._rule(output, i)}"

    def _kink(self, i: int, e: int, k: int) -> str:
        """That the function has a kink at the point, if the one-sided differences of an entry disagree."""

        def one_sided(step: float) -> tuple[float, float]:
            direction = np.zeros(self.tensors[i].shape)
            direction.flat[e] = step
            below, above = (self.values({i: self.point[i] + s * direction})[k] for s in (-1, 1))
            return (self.at_point[k] - below) / step, (above - self.at_point[k]) / step

        length = next(self._lengths(i, e))
        (left, right), (wide_left, wide_right) = (one_sided(step * length) for step in (self.step / 10, self.step))
        gap = abs(right - left)  # of a smooth function a tenth of the one at the wider step
        rounding = 1e-6 * abs(self.at_point[k]) / length
        if not gap > max(0.5 * abs(wide_right - wide_left), DECIDED * max(abs(left), abs(right)), rounding):
            return ""
        return (
            f"the slope is {left:.6g} below and {right:.6g} above: the function has a kink here, and no derivative; "
            "check it at another point"
        )

    def _rule(self, output: int, i: int) -> str:
        """The end of a message: the order of the derivative, and the rule that gave it."""
        if self.order == 1:
            rule = rule_of(self.op, i)
            return f". First derivative, by {rule}" if rule else ". First derivative"
        found = re.search(r"inputs\[(\d+)\]", self.outputs[output][0])
        rule = rule_of(self.op, int(found[1])) if found else ""
        return f". Second derivative: that of {rule}, or of an op in it" if rule else ". Second derivative"

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
            self._locate(differentiated[0], random)
            raise GradientError(message)

    def _locate(self, i: int, random: np.random.Generator) -> None:
        """Find a wrong entry by bisection, first of the coordinates of an input, then of the outputs, and raise.

        Raises nothing if it loses track: then no part of the direction is wrong by itself.
        """
        size, count = self.tensors[i].size, sum(self.sizes)
        reach = np.where(self.point[i] == 0, 1.0, abs(self.point[i])) * random.standard_normal(self.point[i].shape)
        signs = random.choice([-1.0, 1.0], count) * random.uniform(0.5, 1.5, count)

        at = self.differentiated.index(i)
        joint = self.gradients(signs)[at].ravel()

        def coordinates_agree(part: np.ndarray) -> bool:
            direction = np.zeros(size)
            direction[part] = reach.flat[part]
            value, bound, _ = self.derivative({i: direction.reshape(reach.shape)}, self.step)
            allowed = 2 * abs(signs) @ bound + self.rtol * abs(signs) @ abs(value)
            return bool(abs(joint @ direction - signs @ value) <= allowed)

        e = bisected(size, coordinates_agree)
        if e is None:
            return
        value, error, _ = self._entry(i, e, next(self._lengths(i, e)))

        def given(part: np.ndarray, weights: np.ndarray, e: int = e) -> float:
            """The weighted sum of ∂output / ∂input e over these outputs."""
            return float(self.gradients(np.where(np.isin(np.arange(count), part), weights, 0.0))[at].flat[e])

        def outputs_agree(part: np.ndarray) -> bool:
            allowed = 2 * abs(signs) @ error + self.rtol * abs(signs[part]) @ abs(value[part])
            return bool(abs(given(part, signs) - signs[part] @ value[part]) <= allowed)

        k = bisected(count, outputs_agree)
        if k is None:
            return

        def cause() -> str:
            tried = [e, *(int(c) for c in random.choice(size, min(size, 16), replace=False) if c != e)]
            numeric = np.array([signs @ self._entry(i, c, next(self._lengths(i, c)))[0] for c in tried])
            return f"{likely_cause(joint[tried], numeric)} (compared at {len(tried)} of {size:,} coordinates)"

        got = given(np.array([k]), np.ones(count))
        raise GradientError(self._message(i, e, k, got, value[k], error[k], cause))

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
