"""L-BFGS: a quasi-Newton method on all parameters together, with a line search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, isfinite, prod, sqrt
from typing import Any, ClassVar, NamedTuple

from ..backend import astype, backend_of, copy_of, dtype_name, to_host, xp_of
from ..contexts import enable_grad
from .groups import Parameters
from .optimizer import Optimizer

#: The constants of the strong Wolfe conditions: sufficient decrease, and how much of the slope may be left.
DECREASE, CURVATURE = 1e-4, 0.9
#: A pair (s, y) with less curvature yᵀs is not used, so that H stays positive definite.
LEAST_CURVATURE = 1e-10


class LBFGS(Optimizer):
    """Limited-memory BFGS (Nocedal 1980): few, expensive steps, for smooth losses of all data at once.

        d ← −H g        H approximates the inverse Hessian by the last `history_size` pairs s = Δx, y = Δg
        x ← x + t d     t from a line search for the strong Wolfe conditions, which starts at `lr`:
                        f(x + t d) ≤ f(x) + 10⁻⁴ t gᵀd  and  |∇f(x + t d)ᵀ d| ≤ 0.9 |gᵀd|

    x are the elements of all parameters, g their gradient, H₀ = yᵀs / yᵀy of the last pair. One `step(closure)` makes
    up to `max_iter` such iterations with up to `max_eval` (1.25 max_iter if None) evaluations in all; it ends when no
    |gᵢ| is above `tolerance_grad`, or no |t dᵢ| or the change of the loss above `tolerance_change`. The closure
    computes the loss and its gradients, and returns the loss; `step` returns that of its start. With
    `line_search_fn=None` t is `lr`. Settings are those of torch.optim.LBFGS, where `line_search_fn` is None by default.
    One group, on one backend.

    >>> x = Tensor([-1.2, 1.0], dtype="float64", requires_grad=True)
    >>> optimizer = optim.LBFGS([x], max_iter=100)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    ...     loss.backward()
    ...     return loss
    >>> loss = optimizer.step(closure)
    >>> x.numpy().round(3).tolist()
    [1.0, 1.0]
    """

    allowed: ClassVar = {
        "lr": (0, inf),
        "max_iter": int,
        "max_eval": int,
        "tolerance_grad": (0, inf),
        "tolerance_change": (0, inf),
        "history_size": int,
        "line_search_fn": object,
    }

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = "strong_wolfe",
    ):
        super().__init__(
            parameters,
            lr=lr,
            max_iter=max_iter,
            max_eval=max(2, max_iter * 5 // 4) if max_eval is None else max_eval,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
            history_size=history_size,
            line_search_fn=line_search_fn,
        )
        if len(self.groups) > 1:
            raise ValueError(
                f"LBFGS: expected one group of parameters, got {len(self.groups)}: they share one H and one t"
            )
        self.iterations = 0  # in all steps
        self.evaluations = 0
        self._pairs: list[tuple[Any, Any]] = []  # (s, y), the latest last
        self._displacement: Any = None  # of the last iteration, and the gradient before it
        self._gradient: Any = None

    def check(self, **settings: Any) -> None:
        for name, least in (("max_iter", 1), ("max_eval", 2), ("history_size", 1)):
            if settings[name] < least:
                raise ValueError(f"{name}: expected a number of at least {least}, got {settings[name]}")
        if settings["line_search_fn"] not in ("strong_wolfe", None):
            raise ValueError(f"line_search_fn: expected 'strong_wolfe' or None, got {settings['line_search_fn']!r}")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Up to `max_iter` iterations; returns the loss at the start, as the closure returned it.

        The parameters' `grad` is afterwards that of the last evaluation, which need not be where they are.
        """
        if closure is None:
            raise TypeError(
                "LBFGS.step: expected a closure, a function without arguments that sets the gradients to zero, "
                "computes the loss, calls its backward and returns it: optimizer.step(closure)"
            )
        settings = self._settings(self.groups[0], "group 0")
        most, smallest = settings["max_eval"], settings["tolerance_change"]
        losses = []

        def evaluate() -> tuple[float, Any]:
            with enable_grad():
                losses.append(closure())
            if losses[-1] is None or all(p.grad is None for p in self.parameters()):
                raise TypeError("LBFGS.step: the closure must call the loss's backward, and return the loss")
            self.evaluations += 1
            return float(losses[-1]), self._flat_gradient()

        loss, g = evaluate()
        for iteration in range(settings["max_iter"]):
            if not _largest(g) > settings["tolerance_grad"]:
                break
            d = self._direction(g, settings["history_size"])
            if any(p.grad is None for p in self.parameters()):  # they keep their values, though earlier pairs move them
                d = d * self._flat(xp_of(p.data).full_like(p.data, p.grad is not None) for p in self.parameters())
            start = Point(0.0, loss, g, float(g @ d))
            t = settings["lr"] * (1.0 if self.iterations else min(1.0, 1.0 / float(xp_of(g).sum(xp_of(g).abs(g)))))
            self._gradient, self._displacement = g, d * 0.0
            if not start.slope <= -smallest or t == 0:
                break
            self.iterations += 1
            x, width = self._flat(p.data for p in self.parameters()), _largest(d)

            def at(t: float, x: Any = x, d: Any = d) -> Point:
                self._move_to(x + t * d)
                value, gradient = evaluate()
                return Point(t, value, gradient, float(gradient @ d))

            if settings["line_search_fn"]:
                end = strong_wolfe(at, start, t, width, smallest, most - len(losses))
            elif iteration + 1 < settings["max_iter"]:
                end = at(t)
            else:  # without another evaluation, which on other data would say nothing
                end = Point(t, loss, g, start.slope)
            self._displacement = end.t * d
            self._move_to(x + self._displacement)
            loss, g = end.value, end.gradient
            if len(losses) >= most or end.t * width <= smallest or abs(loss - start.value) < smallest:
                break
        self.steps += 1
        return losses[0]

    def _direction(self, g: Any, history_size: int) -> Any:
        """−H g by the two loops over the pairs (Nocedal & Wright 2006, algorithm 7.4)."""
        if self._displacement is not None:
            s, y = self._displacement, g - self._gradient
            if float(y @ s) > LEAST_CURVATURE:
                self._pairs = [*self._pairs, (s, y)][-history_size:]
        d = -g
        if not self._pairs:
            return d
        coefficients = []
        for s, y in reversed(self._pairs):
            coefficients.append(float(s @ d) / float(y @ s))
            d = d - coefficients[-1] * y
        s, y = self._pairs[-1]
        d = d * (float(y @ s) / float(y @ y))
        for (s, y), a in zip(self._pairs, reversed(coefficients)):
            d = d + (a - float(y @ d) / float(y @ s)) * s
        return d

    def _flat(self, arrays: Any) -> Any:
        """The arrays of all parameters as one vector, float64 if a parameter is, else float32."""
        parameters = self.parameters()
        if len({p.device for p in parameters}) > 1:
            raise ValueError("LBFGS: the parameters are on several backends: move the model to one")
        dtype = "float64" if any(dtype_name(p.dtype) == "float64" for p in parameters) else "float32"
        xp = xp_of(parameters[0].data)
        return xp.concat([xp.reshape(astype(array, dtype), (-1,)) for array in arrays])

    def _flat_gradient(self) -> Any:
        """The gradient of all parameters, 0 where there is none."""
        return self._flat(
            xp_of(p.data).zeros_like(p.data) if p.grad is None else p.grad.data for p in self.parameters()
        )

    def _move_to(self, x: Any) -> None:
        """Write a vector into the parameters."""
        end = 0
        for p in self.parameters():
            begin, end = end, end + prod(p.shape)
            p.data[...] = astype(xp_of(x).reshape(x[begin:end], p.shape), p.dtype)
            p.mark_changed()

    def state_dict(self) -> dict[str, Any]:
        """As of other optimizers; the arrays are vectors of all parameters: the pairs, the last move and gradient."""
        saved = super().state_dict()
        saved["groups"][0] |= {"iterations": self.iterations, "evaluations": self.evaluations}
        arrays = {"displacement": self._displacement, "gradient": self._gradient} if self.iterations else {}
        arrays |= {f"{name}.{k}": x for k, pair in enumerate(self._pairs) for name, x in zip("sy", pair)}
        saved["state"] = {name: copy_of(to_host(array)) for name, array in arrays.items()}
        return saved

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Resume from a `state_dict`. ValueError, before anything is changed, if it does not fit."""
        groups = [dict(group) for group in saved.get("groups", [])]
        counts: list[Any] = [groups[0].pop(n, None) for n in ("iterations", "evaluations")] if groups else [None]
        arrays = dict(saved.get("state", {}))
        vector = self._flat(p.data for p in self.parameters())
        for name, array in arrays.items():
            if tuple(array.shape) != vector.shape:
                raise ValueError(f"saved optimizer: {name} must have shape {vector.shape}, got {tuple(array.shape)}")
        pairs = sum(name.startswith("s.") for name in arrays)
        needed = [f"{name}.{k}" for k in range(pairs) for name in "sy"]
        needed += ["displacement", "gradient"] if counts[0] else []
        if set(needed) != set(arrays) or None in counts:
            raise ValueError(f"saved optimizer: expected iterations, evaluations and {needed}, got {sorted(arrays)}")
        super().load_state_dict({**saved, "groups": groups, "state": {}})
        arrays = {name: astype(backend_of(vector).asarray(to_host(x)), vector.dtype) for name, x in arrays.items()}
        self.iterations, self.evaluations = counts
        self._displacement, self._gradient = arrays.get("displacement"), arrays.get("gradient")
        self._pairs = [(arrays[f"s.{k}"], arrays[f"y.{k}"]) for k in range(pairs)]


class Point(NamedTuple):
    """A point of a line x + t d: the loss there, its gradient, and its slope, the gradient's product with d."""

    t: float
    value: float
    gradient: Any
    slope: float


def strong_wolfe(
    at: Callable[[float], Point], start: Point, t: float, width: float, tolerance: float, most: int
) -> Point:
    """A point at which the strong Wolfe conditions hold, or the lowest after `most` evaluations.

    Bracketing, then zooming in (Nocedal & Wright 2006, algorithms 3.5 and 3.6), with the safeguards of Schmidt's
    minFunc (2005) that PyTorch uses too. NaN counts as too high. `width` is the largest |dᵢ|; a bracket in which no
    coordinate moves by more than `tolerance` is not divided further.
    """

    def is_too_high(point: Point) -> bool:
        return not point.value <= start.value + DECREASE * point.t * start.slope

    def is_flat(point: Point) -> bool:
        return abs(point.slope) <= -CURVATURE * start.slope

    previous, point, evaluations = start, at(t), 1
    while not (is_too_high(point) or (evaluations > 1 and point.value >= previous.value)):
        if is_flat(point) or evaluations >= most:
            return point
        if point.slope >= 0:
            break
        t = _minimum_of_cubic(previous, point, point.t + 0.01 * (point.t - previous.t), 10 * point.t)
        previous, point, evaluations = point, at(t), evaluations + 1

    low, high = (point, previous) if point.value < previous.value else (previous, point)
    stalled = False
    while evaluations < most and abs(high.t - low.t) * width >= tolerance:
        left, right = (low, high) if low.t <= high.t else (high, low)
        t = _minimum_of_cubic(left, right, left.t, right.t)
        margin = 0.1 * (right.t - left.t)
        is_near_end = min(right.t - t, t - left.t) < margin
        if is_near_end and (stalled or not left.t < t < right.t):
            t = right.t - margin if right.t - t < t - left.t else left.t + margin
            stalled = False
        else:
            stalled = is_near_end
        point, evaluations = at(t), evaluations + 1
        if is_too_high(point) or point.value >= low.value:
            low, high = (point, low) if point.value < low.value else (low, point)
        else:
            if is_flat(point):
                return point
            if point.slope * (high.t - low.t) >= 0:
                high = low
            low = point
    return low


def _minimum_of_cubic(left: Point, right: Point, least: float, most: float) -> float:
    """Where the cubic through both points with their slopes is least, within bounds; their middle if it has no minimum.

    Nocedal & Wright 2006, equation 3.59.
    """
    a = left.slope + right.slope - 3 * (left.value - right.value) / (left.t - right.t)
    square = a * a - left.slope * right.slope
    if square >= 0:
        root = sqrt(square)
        scale = right.slope - left.slope + 2 * root
        t = right.t - (right.t - left.t) * ((right.slope + root - a) / scale) if scale else inf
        if isfinite(t):
            return min(max(t, least), most)
    return (least + most) / 2


def _largest(x: Any) -> float:
    return float(xp_of(x).max(xp_of(x).abs(x))) if x.shape[0] else 0.0
