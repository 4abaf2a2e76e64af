"""`show.gradient_reach`: how far back in time the gradient of a loss reaches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import ops
from ..contexts import enable_grad
from ..scan import compiling
from ..tensor import Tensor
from .figures import new_figure, save_figure
from .graph.collect import cotangents_of
from .states import Inputs, inputs_of, pick_cell, recording


def gradient_reach(
    models: Any, text: Any, vocabulary: Any = None, *, cell: int = 0, path: str | os.PathLike[str] | None = None
) -> Any:
    """Draw ‖∂L/∂hₜ‖, L the loss at the last step T, over the steps back in time, T − t: a matplotlib figure.

    models      a model as for `show.gates`, or several by name: {"GRU": gru, "LSTM": lstm}
    text        as for `show.gates`. L is the cross-entropy of its last character, which the model has not read; of a
                model of numbers, half the sum of squares of its last output
    vocabulary, cell, path  as for `show.gates`

    A line that falls straight is a gradient that vanishes exponentially: each step multiplies it by less than 1. Of a
    cell with several states each has a line; that of an LSTM's c counts its way through h too. (Recurrences run in
    eager mode, for the gradient inside them is needed.)

    >>> layers = {"GRU": nn.GRU(3, 8), "LSTM": nn.LSTM(3, 8)}
    >>> figure = show.gradient_reach(layers, np.ones((20, 4, 3)))
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['GRU, h', 'LSTM, h', 'LSTM, c']
    """
    if (isinstance(models, (list, tuple)) and not hasattr(models, "model")) or models == {}:
        raise TypeError(f"models: expected a model, or several by name, {{'GRU': gru}}, got {models!r:.60}")
    if not isinstance(models, Mapping):
        models = {type(getattr(models, "model", models)).__name__: models}
    figure = new_figure("the reach of the gradient")
    (axes,) = figure.axes
    for name, model in models.items():
        for state, norms in reach(inputs_of(model, text, vocabulary), cell).items():
            known = np.where((norms > 0) & np.isfinite(norms), norms, np.nan)
            axes.plot(np.arange(len(norms)), known, label=f"{name}, {state}", linewidth=1.5)
    axes.set(xlabel="steps back in time", ylabel="norm of ∂L/∂(state)", yscale="log")
    axes.set(title="How far back the gradient of the last loss reaches")
    axes.set_xlim(left=0)
    axes.legend()
    return save_figure(figure, path)


def reach(inputs: Inputs, cell: int = 0) -> dict[str, np.ndarray]:
    """By the name of a state ‖∂L/∂(state)‖ after steps T, T − 1, …, 1; 0 where the gradient does not arrive."""
    model, x = inputs.model, inputs.x
    if inputs.text is not None and len(x) < 2:
        raise ValueError(f"text: expected two characters or more, one to read and one to predict, got {inputs.text!r}")
    with model.evaluating(), enable_grad(), compiling(False), recording(model, lambda one: one.states) as found:
        output = model(x if inputs.text is None else x[:-1])
    output = output[0] if isinstance(output, tuple) else output
    states = pick_cell(found, cell).values
    loss = _last_loss(output, inputs)
    if loss.node is None:
        raise ValueError("model: its parameters are frozen, so no gradient is recorded: model.unfreeze()")
    cotangents = cotangents_of({loss.node: np.ones((), loss.dtype)})
    result = {}
    for state, values in states.items():
        nodes = _steps(values)
        result[state] = np.array([_norm(cotangents.get(node)) for node in reversed(nodes)])
    return result


def _last_loss(output: Tensor, inputs: Inputs) -> Tensor:
    if inputs.text is not None:
        return ops.cross_entropy(output[-1], inputs.x[-1])
    last = output[-1] if len(output.shape) == 3 else output
    return 0.5 * ops.square(last).sum()


def _steps(values: Tensor) -> tuple:
    """The nodes of a record at every step: what was stacked."""
    assert values.node is not None
    return values.node.parents


def _norm(cotangent: Any) -> float:
    return 0.0 if cotangent is None else float(np.linalg.norm(Tensor.from_node(cotangent, None).numpy()))
