"""Truncated backpropagation through time: one training step of a character model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

from ...backend import random_state, set_random_state
from ...data import TextStream
from ...ops import stack
from ...optim import Optimizer, clip_gradient_norm
from ...scan import compiling
from ...scan.protocol import tree_leaves, tree_structure, tree_unflatten
from ...tensor import Tensor
from ...trees import map_leaves
from ..precision import LossScaler, mixed_precision
from ..schema import ARRAY, COUNT, FLOAT_ARRAY, NUMBER, OBJECT, TEXT, ValueType, dict_of, list_of, optional
from .model import CharacterModel, prediction_loss

_SCALE = ValueType(
    "a power of two from 1 to 2**24", lambda value: NUMBER.accepts(value) and value in [2**k for k in range(25)]
)
_GROUP = ValueType(
    "a group of an optimizer, with its updates",
    lambda value: type(value) is dict and list_of(COUNT).accepts(value.get("updates")),
)
TRAINER_STATE: dict[str, Any] = {
    "model": dict_of(ARRAY),
    "optimizer": {"groups": list_of(_GROUP), "state": dict_of(FLOAT_ARRAY), "steps": COUNT},
    "schedule": {"schedule": TEXT, "steps": COUNT, "base_lrs": list_of(NUMBER)},
    "stream": {"epoch": COUNT, "index": COUNT, "arrangement": OBJECT},
    "precision?": TEXT,
    "scaler?": {"scale": _SCALE, "good_steps": COUNT, "skipped": COUNT},
    "random": {"seed": COUNT, "position": COUNT},
    "steps": COUNT,
    "carried": optional(list_of(FLOAT_ARRAY)),
}


class TrainingError(RuntimeError):
    """Training has diverged."""


class Step(NamedTuple):
    """The result of a training step: its `loss` (nats/char), the gradient norm before clipping, the learning rate.

    `gradient_norm` is None if the gradient overflowed float16, so that the step was skipped.
    """

    loss: float
    gradient_norm: float | None
    lr: float


class Trainer:
    """Trains `model` on the text of `stream`, one window per step.

    The recurrent state is carried from each window to the next, detached: backpropagation is truncated at the beginning
    of the window. Gradients are clipped to `max_norm` between backward and the optimizer's step.

    With a `precision` of "float16" or "bfloat16" the model runs in that dtype; parameters, optimizer, logits and state
    stay float32 (see `mixed_precision`), and in float16 the loss is scaled. A step that is skipped because a gradient
    overflowed counts as any other: its window is used up, and the learning-rate schedule advances.

    Recurrences run under `compiling(compiled)`; None leaves the current mode.

    `state_dict` holds all that the following steps depend on, random numbers included: a run that is interrupted and
    resumed gives, bit for bit, the results of an uninterrupted one.
    """

    unit, loss_unit = "characters", "nats/char"
    state_schema: Mapping[str, Any] = TRAINER_STATE

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
    def units_per_step(self) -> int:
        return self.stream.window * self.stream.batch_size

    @property
    def characters(self) -> int:
        """The number of characters that the model has been trained on."""
        return self.steps * self.units_per_step

    def step(self) -> Step:
        """Train on the next window. Raises TrainingError if the loss or the gradient is not finite.

        The weights are then those before the step.
        """
        window = self.stream.next_batch()
        lr = self.optimizer.groups[0]["lr"]
        state = None if window.starts else self._carried
        with nullcontext() if self.compiled is None else compiling(self.compiled):
            loss, state = prediction_loss(self.network, window.inputs, window.targets, state)
            self.optimizer.zero_grad()
            self.scaler.backward(loss)
        self.scaler.unscale(self.model.parameters())
        norm = clip_gradient_norm(self.model.parameters(), self.max_norm)
        # Both in one copy: on a GPU this is where the host synchronizes.
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
        self._carried = map_leaves(Tensor.detach, state)
        self.steps += 1
        return Step(value, norm if finite else None, lr)

    def state_dict(self) -> dict[str, Any]:
        """All that the following steps depend on: a tree of host arrays and JSON values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "stream": self.stream.state_dict(),
            "precision": self.precision,
            "scaler": self.scaler.state_dict(),
            "random": random_state(),
            "steps": self.steps,
            "carried": None if self._carried is None else [part.numpy() for part in tree_leaves(self._carried)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state of `state_dict`, on whatever backend the model is now, and in whatever precision.

        Raises ValueError if it is of another model, optimizer, schedule or text.
        """
        carried = state["carried"]
        initial = self.model.recurrence.initial_state(self.stream.batch_size)
        parts_of_both = tree_leaves(initial), carried or ()
        expected, got = ([(part.shape, str(part.dtype)) for part in parts] for parts in parts_of_both)
        if carried is not None and got != expected:
            raise ValueError(f"carried: expected states of {expected}, got {got}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.stream.load_state_dict(state["stream"])
        if state.get("precision") == self.precision:  # the loss scale of another precision is of no use in this one
            self.scaler.load_state_dict(state["scaler"])
        set_random_state(state["random"])
        self.steps = state["steps"]
        parts = [Tensor(part, device=self.model.device) for part in carried or ()]
        self._carried = None if carried is None else tree_unflatten(tree_structure(initial), parts)
