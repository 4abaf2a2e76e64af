"""Averages of the weights over training steps: EMA and SWA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...backend import as_array, astype, backend_of, copy_of, is_half, move, to_host
from ...contexts import block
from ...tensor import Tensor
from .base import Callback


class WeightAverage(Callback):
    """An average of the weights over the steps, which often generalises better than the last ones.

        EMA (Polyak averaging)      θ̄ ← decay · θ̄ + (1 − decay) · θ after each step
        SWA (Izmailov et al. 2018)  θ̄ ← θ̄ + (θ − θ̄) / (n + 1), the mean of all, with decay=None

    decay  of the exponential average; of 0.999 the last 1000 steps count most. None for SWA
    start  the step after which averaging begins, with the weights there: of SWA about three quarters of the run
    every  average after each so many steps

    Training goes on with its own weights. `with average.averaged():` the model has the averaged ones; `average.apply()`
    copies them into the model. Frozen parameters and buffers are not averaged. The average is part of checkpoints.

    >>> model, average = nn.Linear(2, 1), train.WeightAverage(decay=0.9)
    >>> _ = train.fit(model, ops.mse, (np.ones((8, 2)), np.ones((8, 1))), steps=50, lr=0.1, callbacks=[average],
    ...               progress=False)
    >>> with average.averaged():
    ...     losses = train.evaluate(model, ops.mse, (np.ones((8, 2)), np.ones((8, 1))))
    """

    def __init__(self, decay: float | None = 0.999, start: int = 0, every: int = 1) -> None:
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"decay: expected a number in [0, 1), or None for the mean of all, got {decay!r}")
        if start < 0 or every < 1:
            raise ValueError(f"expected start ≥ 0 and every ≥ 1, got {start!r} and {every!r}")
        self.decay, self.start, self.every = decay, start, every
        self.updates = 0
        self._average: dict[str, Any] = {}
        self._model: Any = None

    def on_train_begin(self, loop: Any) -> None:
        self._model = loop.model
        if not loop.steps:
            self.updates, self._average = 0, {}
        parameters = dict(loop.model.named_parameters())
        wrong = [name for name, value in self._average.items() if _shape(parameters.get(name)) != value.shape]
        if wrong:
            raise ValueError(f"the saved average of weights does not fit the model: {', '.join(wrong)}")

    def on_step_end(self, loop: Any, record: Mapping[str, Any]) -> None:
        if loop.steps <= self.start or (loop.steps - self.start - 1) % self.every:
            return
        self.updates += 1
        share = 1 / self.updates if self.decay is None else 1 - self.decay
        for name, parameter in loop.model.named_parameters():
            if not parameter.requires_grad:
                continue
            value = parameter.data
            value = astype(value, "float32") if is_half(value.dtype) else value
            if name in self._average:
                average = self._average[name] = move(self._average[name], backend_of(value))
                average += (value - average) * share
            else:
                self._average[name] = copy_of(value)

    @block
    def averaged(self) -> Iterator[None]:
        """Context manager in which the model has the averaged weights; afterwards it has its own again."""
        own = {name: copy_of(tensor.data) for name, tensor in self._tensors().items()}
        self.apply()
        try:
            yield
        finally:
            for name, tensor in self._tensors().items():
                _write(tensor, own[name])

    def apply(self) -> None:
        """Copy the averaged weights into the model."""
        for name, tensor in self._tensors().items():
            _write(tensor, self._average[name])

    def _tensors(self) -> dict[str, Tensor]:
        """The parameters that have an average, also those that are frozen by now."""
        if not self._average:
            raise ValueError(f"there is no average of weights yet: no step after step {self.start} has run")
        return {name: tensor for name, tensor in self._model.named_tensors() if name in self._average}

    def state_dict(self) -> dict[str, Any]:
        """The average, and of how many steps it is."""
        average = {name: copy_of(to_host(value)) for name, value in self._average.items()}
        return {"updates": self.updates, "average": average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.updates = int(state["updates"])
        self._average = {name: copy_of(as_array(value)) for name, value in state["average"].items()}


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tensor.shape


def _write(tensor: Tensor, value: Any) -> None:
    tensor.data[...] = astype(move(value, backend_of(tensor.data)), tensor.dtype)
    tensor.mark_changed()
