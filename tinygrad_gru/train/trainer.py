"""Truncated backpropagation through time, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

from ..backend import random_state, set_random_state
from ..data import TextStream
from ..ops import stack
from ..optim import Optimizer, clip_gradient_norm
from ..scan import compiling
from ..tensor import Tensor
from .loss_scaler import LossScaler
from .model import CharacterModel, prediction_loss
from .precision import mixed_precision


class TrainingError(RuntimeError):
    """Training cannot go on."""


class Step(NamedTuple):
    """What one step found: its `loss` (nats a character), the gradient's norm before clipping, the learning rate.

    `gradient_norm` is None where the gradient left the range of float16, so that the weights stayed as they were.
    """

    loss: float
    gradient_norm: float | None
    lr: float


class Trainer:
    """Teaches `model` the text of `stream`, one window a step.

    The recurrent state is carried from each window to the next as a plain value: a gradient goes back to the beginning
    of its window and no further. Gradients are clipped to `max_norm` between backward and the optimiser's step.

    With a `precision` of "float16" or "bfloat16" the model works in that dtype; parameters, optimiser, logits and state
    stay float32 (see `mixed_precision`), and in float16 the loss is scaled. A step that is left out because a gradient
    overflowed counts as any other: its text has been read, and the learning rate goes on with the text.

    Recurrences run as `compiling(compiled)` has it, or as they would anyway if that is None.

    `state_dict` holds all that the following steps depend on, random numbers included: a run that is interrupted and
    resumed gives, bit for bit, what it would have given undisturbed.
    """

    def __init__(
        self,
        model: CharacterModel,
        optimizer: Optimizer,
        schedule: Any,
        stream: TextStream,
        max_norm: float = 1.0,
        precision: str = "float32",
        compiled: bool | str | None = None,
    ) -> None:
        self.model, self.optimizer, self.schedule, self.stream = model, optimizer, schedule, stream
        self.max_norm, self.precision, self.compiled = max_norm, precision, compiled
        self.network = mixed_precision(model, precision)
        self.scaler = LossScaler() if precision == "float16" else LossScaler(1, growth_interval=None)
        self.steps = 0
        self._carried: Any = None

    @property
    def characters(self) -> int:
        """How many characters the model has been trained on."""
        return self.steps * self.stream.window * self.stream.lanes

    def step(self) -> Step:
        """Learn from the next window. Raises TrainingError if the loss or the gradient is no longer a finite number.

        The weights then are what they were before the step.
        """
        with nullcontext() if self.compiled is None else compiling(self.compiled):
            return self._step()

    def _step(self) -> Step:
        window = self.stream.next_batch()
        lr = self.optimizer.groups[0]["lr"]
        state = None if window.starts else self._carried
        loss, state = prediction_loss(self.network, window.inputs, window.targets, state)
        self.optimizer.zero_grad()
        self.scaler.backward(loss)
        self.scaler.unscale(self.model.parameters())
        norm = clip_gradient_norm(self.model.parameters(), self.max_norm)
        # Both in one copy: on a GPU all before was only asked for, and this is where the host waits for it.
        value, norm = stack([loss.detach().astype("float64"), norm]).tolist()
        finite = math.isfinite(norm)
        if not math.isfinite(value) or not (finite or self.scaler.can_shrink):
            raise TrainingError(
                f"at step {self.steps + 1} the loss is {value:g} and its gradient's norm {norm:g}: training has "
                f"diverged (a learning rate of {lr:g} may be too high)"
            )
        if self.scaler.update(finite):
            self.optimizer.step()
        self.schedule.step()
        self._carried = _detach(state)
        self.steps += 1
        return Step(value, norm if finite else None, lr)

    def state_dict(self) -> dict[str, Any]:
        """All that the following steps depend on: a tree of host arrays and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "stream": self.stream.state_dict(),
            "precision": self.precision,
            "scaler": self.scaler.state_dict(),
            "random": random_state(),
            "steps": self.steps,
            "carried": None if self._carried is None else [part.numpy() for part in _parts(self._carried)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`, on whatever backend the model is now, and in whatever precision.

        Raises ValueError if it is of another model, optimizer, schedule or text.
        """
        carried = state["carried"]
        first = _parts(self.model.recurrence.initial_state(self.stream.lanes))
        expected, got = ([(part.shape, str(part.dtype)) for part in parts] for parts in (first, carried or ()))
        if carried is not None and got != expected:
            raise ValueError(f"carried: expected states of {expected}, got {got}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.stream.load_state_dict(state["stream"])
        if state.get("precision") == self.precision:  # else how the loss was scaled says nothing of how to go on
            self.scaler.load_state_dict(state["scaler"])
        set_random_state(state["random"])
        self.steps = state["steps"]
        parts = tuple(Tensor(part, device=self.model.device) for part in carried or ())
        self._carried = None if carried is None else parts if len(parts) > 1 else parts[0]


def _parts(state: Any) -> tuple[Tensor, ...]:
    """A GRU's state is a tensor, an LSTM's a pair of them."""
    return state if isinstance(state, tuple) else (state,)


def _detach(state: Any) -> Any:
    """The state as constants: a GRU's is a tensor, an LSTM's a pair of them."""
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
