"""The plot of an elementwise op and its derivative."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..tensor import Tensor
from ..transforms import grad
from .figures import new_figure, save_figure

_POINTS = 801


def plot_op(
    op: Callable[..., Any],
    domain: tuple[float, float] = (-4.0, 4.0),
    *,
    at: float = 2.0,
    path: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Any:
    """Plot an elementwise op and its derivative, which is that of its rules: a matplotlib figure, shown by notebooks.

    op        an op of one or more inputs, or a function of ops; with several inputs there is a panel for each
    domain    (low, high) of the input that varies; where the op is not finite nothing is drawn
    at        the value of the other inputs
    path      where to save it, too
    settings  passed to the op

    A derivative that no rule gives, as that of `sign`, is not drawn. Raises ValueError for an op that is not
    elementwise, and PlotError if matplotlib is not installed.

    >>> figure = show.plot_op(ops.tanh)
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['y', '∂y/∂x']
    >>> len(show.plot_op(ops.hadamard, at=3.0).axes)
    2
    """
    if not callable(op) or isinstance(op, np.ufunc):
        hint = f"; NumPy's functions are not recorded: ops.{op.__name__}" if isinstance(op, np.ufunc) else ""
        raise TypeError(f"op: expected an op, or a function of ops, got {op!r:.60}{hint}")
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(getattr(op, "formula", op)).parameters.values()
    names = [p.name for p in parameters if p.kind in kinds]
    low, high = domain if np.shape(domain) == (2,) else (np.nan, np.nan)
    if not names or not low < high:
        raise ValueError(f"op, domain: expected a function of arrays and low < high, got {op!r:.60} and {domain!r}")
    called, x = getattr(op, "__name__", repr(op)), np.linspace(low, high, _POINTS)
    figure = new_figure(called, len(names))
    for axes, varied in zip(figure.axes, names):
        with np.errstate(all="ignore"):
            y, derivative = _curves(op, x, [x if name == varied else at for name in names], settings)
        others = "".join(f", {name} = {at:g}" for name in names if name != varied)
        axes.plot(x, y, color="tab:blue", label="y")
        if derivative is not None:
            axes.plot(x, derivative, color="tab:orange", linestyle="--", label=f"∂y/∂{varied}")
        axes.set(title=f"{called}{others}", xlabel=varied, ylim=_limits([y, derivative]))
        axes.legend()
    return save_figure(figure, path)


def _curves(op: Any, x: np.ndarray, inputs: list[Any], settings: dict[str, Any]) -> tuple[np.ndarray, Any]:
    """The values at x and the derivative, None if there is none; NaN where they are not finite."""
    variable = Tensor(x, requires_grad=True)
    y = op(*(variable if value is x else value for value in inputs), **settings)
    once = op(*(Tensor(x[-1:]) if value is x else value for value in inputs), **settings)
    same = isinstance(y, Tensor) and y.shape == x.shape and once.shape == (1,)
    if not (same and np.array_equal(once.numpy(), y.numpy()[-1:], equal_nan=True)):
        name = getattr(op, "__name__", op)
        raise ValueError(
            f"op: expected an elementwise op, got {name}, of which an output is not of its own input alone"
        )
    derivative = grad(y.sum(), variable).numpy() if y.requires_grad else None
    return _finite(y.numpy()), None if derivative is None else _finite(derivative)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan).astype(float)


def _limits(curves: list[Any]) -> tuple[float, float] | None:
    """Limits of the vertical axis that a pole does not stretch; None for matplotlib's own."""
    values = np.concatenate([c[np.isfinite(c)] for c in curves if c is not None])
    if not values.size or np.ptp(values) < 30:
        return None
    low, high = np.quantile(values, (0.1, 0.9))
    reach = high - low
    return max(float(low - reach), float(values.min())), min(float(high + reach), float(values.max()))
