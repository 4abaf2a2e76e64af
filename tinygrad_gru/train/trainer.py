"""Trainer: one training step of any model, with all that the following steps depend on as its state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from typing import Any, NamedTuple

from .. import ops
from ..backend import random_state, set_random_state
from ..io.schema import ARRAY, COUNT, FLOAT_ARRAY, NUMBER, OBJECT, TEXT, ValueType, dict_of, list_of, optional
from ..nn import Module
from ..nn.states import restored, structure_of
from ..optim import Optimizer, ReduceOnPlateau, Schedule, clip_gradient_norm
from ..parallel.ranks import ALONE
from ..scan import compiling
from ..scan.explain import Compilations
from ..scan.modes import Mode, continued, mode_of
from ..tensor import Tensor
from ..trees import leaves, map_leaves
from .batches import ModelBatch, at_end, read_batch, reference_tensor, source_of
from .metrics import Metric
from .metrics.loss import check_logits, check_loss, loss_of, mean_count
from .precision import LossScaler, mixed_precision

_SCALE = ValueType(
    "a power of two from 1 to 2**24", lambda value: NUMBER.accepts(value) and value in [2**k for k in range(25)]
)
_GROUP = ValueType(
    "a group of an optimizer, with its updates",
    lambda value: type(value) is dict and list_of(COUNT).accepts(value.get("updates")),
)
_NOTHING = ValueType("null", lambda value: value is None)
TINY = 1e-300  # so that a step without a target that counts has the loss 0
#: The schema of a trainer's state, with a schedule. What it calls "stream" is the position in the data.
TRAINER_STATE: dict[str, Any] = {
    "model": dict_of(ARRAY),
    "loss?": dict_of(ARRAY),
    "optimizer": {"groups": list_of(_GROUP), "state": dict_of(FLOAT_ARRAY), "steps": COUNT},
    "schedule": {"schedule": TEXT, "steps": COUNT, "base_lrs": list_of(NUMBER)},
    "stream": {"epoch": COUNT, "index": COUNT, "arrangement": OBJECT},
    "precision?": TEXT,
    "compiled?": TEXT,
    "scaler?": {"scale": _SCALE, "good_steps": COUNT, "skipped": COUNT},
    "random": {"seed": COUNT, "position": COUNT},
    "steps": COUNT,
    "carried": optional(list_of(FLOAT_ARRAY)),
    "carried_structure?": OBJECT,
    "epoch_means?": {"sums": dict_of(NUMBER), "metrics": list_of(OBJECT)},
}


class TrainingError(RuntimeError):
    """Training has diverged: the loss or its gradient is not finite. The weights are those before the step.

    >>> x = np.full((8, 1), np.inf)
    >>> train.fit(nn.Linear(1, 1), ops.mse, (x, x), steps=1, progress=False)
    Traceback (most recent call last):
    tinygrad_gru.train.trainer.TrainingError: at step 1 the loss is inf ...
    """


class Step(NamedTuple):
    """The result of a training step: its `loss`, the gradient norm before clipping, the learning rate.

    `gradient_norm` is None if the gradient overflowed float16, so that the step was skipped.

    >>> train.Step(loss=0.5, gradient_norm=1.5, lr=0.001)._asdict()
    {'loss': 0.5, 'gradient_norm': 1.5, 'lr': 0.001}
    """

    loss: float
    gradient_norm: float | None
    lr: float


class EpochMeans:
    """Means over the steps of an epoch so far: of the loss over its targets; and the metrics of its outputs."""

    def __init__(self, metrics: Sequence[Metric] = ()) -> None:
        self.metrics = list(metrics)
        self.reset()

    def update(self, outputs: Tensor, targets: Any) -> None:
        """Count the outputs for a batch in the metrics."""
        for metric in self.metrics:
            metric.update(outputs.detach(), targets)

    def add(self, step: Step, targets: float) -> None:
        """Count a step, and its number of targets."""
        for name, value in step._asdict().items():
            weight = targets if name == "loss" else 1
            if value is not None:
                self._sums[name] = self._sums.get(name, 0.0) + weight * value
                self._sums[f"count of {name}"] = self._sums.get(f"count of {name}", 0) + weight

    def compute(self) -> dict[str, float]:
        counts = {name: self._sums.get(f"count of {name}") for name in Step._fields if name in self._sums}
        means = {name: self._sums[name] / count if count else math.nan for name, count in counts.items()}
        return {**means, **{metric.name: float(metric.compute()) for metric in self.metrics}}

    def reset(self) -> None:
        self._sums: dict[str, float] = {}
        for metric in self.metrics:
            metric.reset()

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "metrics": [metric.state_dict() for metric in self.metrics]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums = dict(state["sums"])
        for metric, saved in zip(self.metrics, state["metrics"], strict=True):
            metric.load_state_dict(saved)


class Trainer:
    """Trains `model` on the batches of `data`, one step of the optimizer after another.

        L = Σᵢ nᵢ lossᵢ / Σᵢ nᵢ over `accumulate` batches i with nᵢ targets;  g = ∂L/∂θ, clipped;  θ ← optimizer(θ, g)

    loss         (outputs, targets) → a scalar, the mean over the targets, as `ops.mse`
    data         anything that iterates batches (see `fit`)
    schedule     None: the learning rate stays as it is
    clip_norm    the largest global norm of a gradient; None: not clipped
    accumulate   batches per step; weighted by what their means are over (see `fit`) they equal one large batch, to
                 rounding. An epoch's last step may have fewer
    precision    "float16" or "bfloat16": the model runs in that dtype; parameters, optimizer, outputs and state stay
                 float32 (see `mixed_precision`), and in float16 the loss is scaled. A step that is skipped because a
                 gradient overflowed counts as any other
    compiled     recurrences run under `compiling(compiled)`; None leaves the current mode
    metrics      of the outputs in training, over each epoch (see `epoch_means`)
    carry_state  truncated backpropagation through time: model(inputs, state) → (output, state); the state is carried,
                 detached, to the next batch, and is None where a batch says `starts` or, of batches that do not say, at
                 the first of an epoch

    `on_gradients`, if it is set, is called in each step between backward and clipping.

    `state_dict` holds all that the following steps depend on, random numbers included: a run that is interrupted and
    resumed gives, bit for bit, the results of an uninterrupted one.

    >>> model, batches = nn.Linear(3, 1), [(np.ones((4, 3)), np.ones((4, 1)))]
    >>> trainer = train.Trainer(model, ops.mse, optim.SGD(model.parameters(), lr=0.1), batches)
    >>> trainer.step().loss > trainer.step().loss > trainer.step().loss
    True
    """

    def __init__(
        self,
        model: Module,
        loss: Callable[[Any, Any], Tensor],
        optimizer: Optimizer,
        data: Any,
        schedule: Schedule | None = None,
        *,
        clip_norm: float | None = None,
        accumulate: int = 1,
        precision: str = "float32",
        compiled: bool | str | None = None,
        carry_state: bool = False,
        metrics: Sequence[Metric] = (),
    ) -> None:
        check_loss(loss)
        check_logits(loss, model)
        check_positive("accumulate", accumulate)
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm: expected a number above 0, or None, got {clip_norm!r}")
        self._like = reference_tensor(model)
        _check_parameters(model, loss, optimizer)
        if schedule is not None and schedule.optimizer is not optimizer:
            raise ValueError("schedule: it is one of another optimizer than the one that trains the model")
        self.model, self.loss, self.optimizer, self.schedule = model, loss, optimizer, schedule
        self.source = source_of(data)
        self.ranks = ALONE
        self.clip_norm, self.accumulate, self.carry_state = clip_norm, accumulate, carry_state
        self.precision, self.compiled = precision, compiled
        self.network = mixed_precision(model, precision)
        self.scaler = LossScaler() if precision == "float16" else LossScaler(1, growth_interval=None)
        self.remark, self.compilations = "", Compilations()
        self.epoch_means = EpochMeans(metrics)
        self.on_gradients: Callable[[], None] | None = None
        self.steps = 0
        self.targets_in_step = 0.0
        self._carried: Any = None

    def compiling(self) -> AbstractContextManager:
        """The block in which its recurrences run."""
        return nullcontext() if self.compiled is None else compiling(self.compiled)

    def mode(self) -> Mode:
        return mode_of(self.compiled).on(self._like.data)

    @property
    def state_schema(self) -> Mapping[str, Any]:
        """The schema of `state_dict`."""
        return TRAINER_STATE if self.schedule is not None else {**TRAINER_STATE, "schedule": _NOTHING}

    @property
    def epoch(self) -> int:
        """The epoch of the last step, from 0."""
        return self.source.epoch

    @property
    def at_epoch_end(self) -> bool:
        """Whether the last step was the last one of its epoch."""
        return self.steps > 0 and at_end(self.source)

    def step(self) -> Step:
        """Train on the next batches. Raises TrainingError if the loss or the gradient is not finite.

        The weights are then those before the step.
        """
        if self.at_epoch_end:
            self.epoch_means.reset()
        batches = self._next_batches()
        lr = self.optimizer.groups[0]["lr"]
        self.model.zero_grad()  # also those of parameters that the optimizer does not have
        self.optimizer.zero_grad()
        with self.compiling():
            losses, total, state = self._gradients(batches)
        trained = self.optimizer.parameters()
        self.scaler.unscale(trained)
        if self.on_gradients is not None:
            self.on_gradients()
        norm = clip_gradient_norm(trained, math.inf if self.clip_norm is None else self.clip_norm)
        # Both in one copy: on a GPU this is where the host synchronizes.
        *values, norm = ops.stack([*losses, norm]).tolist()
        value, finite = math.fsum(values) if all(map(math.isfinite, values)) else sum(values), math.isfinite(norm)
        if not math.isfinite(value) or not (finite or self.scaler.can_shrink):
            raise TrainingError(self._diverged(value, norm, lr, batches))
        if self.scaler.update(finite):
            self.optimizer.step()
        if self.schedule is not None and not isinstance(self.schedule, ReduceOnPlateau):
            self.schedule.step()
        self._carried = state
        self.steps, self.targets_in_step = self.steps + 1, float(total)
        step = Step(value, norm if finite else None, lr)
        self.epoch_means.add(step, self.targets_in_step)
        return step

    def evaluated(self, loss: float) -> None:
        """Tell a schedule that depends on it the loss on validation data."""
        if isinstance(self.schedule, ReduceOnPlateau):
            self.schedule.step(loss)

    def _next_batches(self) -> list[ModelBatch]:
        """The batches of a step; without word from the data, an epoch's first one resets a carried state."""
        batches: list[ModelBatch] = []
        while not batches or (len(batches) < self.accumulate and not at_end(self.source)):
            batches.append(self._read(self._next_batch(), self.source.index == 1))
        return batches

    def _next_batch(self) -> Any:
        return self.source.next_batch()

    def _read(self, batch: Any, is_first: bool) -> ModelBatch:
        read = read_batch(batch, self._like)
        return read._replace(starts=is_first if read.starts is None else read.starts)

    def _gradients(self, batches: list[ModelBatch]) -> tuple[list[Tensor], Any, Any]:
        """Accumulate the gradient of a step; returns the parts of its loss, its number of targets, and the state."""
        counts = [mean_count(self.loss, batch.targets) for batch in batches]
        total, state, losses = sum(counts), self._carried, []
        for batch, count in zip(batches, counts):
            loss, state = self._loss(batch, None if batch.starts else state)
            losses.append(self._backward(loss, count / (total + TINY) if len(batches) > 1 else None))
        return losses, total, state

    def _backward(self, loss: Tensor, share: Any) -> Tensor:
        """Accumulate the gradient of a part of the step's loss, of which it is this share; returns that part."""
        if share is not None:
            loss = loss * (share.astype(loss.dtype) if isinstance(share, Tensor) else share)
        self.scaler.backward(loss)
        return loss.detach().astype("float64")

    def _loss(self, batch: ModelBatch, state: Any) -> tuple[Tensor, Any]:
        """The loss of a batch, and the state to carry to the next one, detached."""
        outputs, state = call_model(self.network, batch, state, self.carry_state)
        outputs = batch.select(outputs)
        loss = loss_of(self.loss, outputs, batch.targets)
        self.epoch_means.update(outputs, batch.targets)
        return loss, map_leaves(lambda part: None if part is None else part.detach(), state)

    def _diverged(self, loss: float, norm: float, lr: float, batches: list[ModelBatch]) -> str:
        if any(not batch.is_finite for batch in batches):
            cause = "there is a NaN or infinity in this step's data"
        elif self.steps == 0:
            cause = "very large numbers in the data? standardise them"
        elif self.clip_norm is None:
            cause = f"a learning rate of {lr:g} may be too high; clip_norm=1.0 limits a gradient that explodes"
        else:
            cause = f"a learning rate of {lr:g} may be too high"
        return (
            f"at step {self.steps + 1} the loss is {loss:g} and its gradient's norm {norm:g}, with a learning rate of "
            f"{lr:g}: training has diverged ({cause}). The weights are those before this step"
        )

    def check_ranks(self, metadata: Mapping[str, Any]) -> None:
        """Before the first step of a run: compare the ranks of a parallel one. Here there are none."""

    def collect(self) -> None:
        """Before a checkpoint, on all ranks of a parallel run: collect what `state_dict` needs of the others."""

    def state_dict(self) -> dict[str, Any]:
        """All that the following steps depend on: a tree of host arrays and JSON values."""
        carried = self._carried
        return {
            "model": self.model.state_dict(),
            **({"loss": self.loss.state_dict()} if isinstance(self.loss, Module) else {}),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "stream": self.source.state_dict(),
            "precision": self.precision,
            "compiled": self.mode().family,
            "scaler": self.scaler.state_dict(),
            "random": random_state(),
            "steps": self.steps,
            "carried": None if carried is None else [part.numpy() for _, part in leaves(carried, "state")],
            "carried_structure": {"tree": structure_of(carried)},
            "epoch_means": self.epoch_means.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state of `state_dict`, on whatever backend the model is now, and in whatever precision.

        Recurrences go on by that run's target; `remark` says so if another is asked for, or it is not installed. Raises
        ValueError if the state is of another model, optimizer, schedule or data.
        """
        parts = None if state["carried"] is None else [*state["carried"]]
        # An earlier version saved the parts alone: of a tuple if there are several.
        flat = [""] if parts is not None and len(parts) == 1 else ["tuple", *[[""]] * len(parts or ())]
        structure = state.get("carried_structure", {"tree": flat if parts else None})["tree"]
        self.model.load_state_dict(state["model"])
        if isinstance(self.loss, Module):
            self.loss.load_state_dict(state.get("loss", {}))
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.source.load_state_dict(state["stream"])
        self.compiled, self.remark = continued(state.get("compiled"), self.compiled, self.mode())
        if state.get("precision") == self.precision:  # the loss scale of another precision is of no use in this one
            self.scaler.load_state_dict(state["scaler"])
        set_random_state(state["random"])
        if "epoch_means" in state:
            self.epoch_means.load_state_dict(state["epoch_means"])
        self.steps = state["steps"]
        self._carried = restored(structure, [Tensor(part, device=self._like.device) for part in parts or ()])


def check_positive(name: str, value: Any) -> None:
    """Raise ValueError unless it is a whole number above 0."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: expected a whole number, 1 or more, got {value!r}")


def call_model(network: Module, batch: ModelBatch, state: Any, carry_state: bool) -> tuple[Any, Any]:
    """The output of a model for a batch, and the state to carry, if one is."""
    if not carry_state:
        outputs = network(*batch.arguments, **batch.keywords)
        return outputs[0] if isinstance(outputs, tuple) else outputs, None
    result = network(*batch.arguments, state, **batch.keywords)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            "carry_state=True: the model is called as model(inputs, state) and must return (output, state), got "
            f"{type(result).__name__}"
        )
    return result


def _check_parameters(model: Module, loss: Any, optimizer: Optimizer) -> None:
    own = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not own:
        raise ValueError(f"model: {type(model).__name__} has no parameters that require a gradient (all are frozen?)")
    taken = set(map(id, optimizer.parameters()))
    if not taken & own.keys():
        raise ValueError(
            "optimizer: none of its parameters is one of the model: make it from this model's parameters()"
        )
    known = {
        id(tensor) for module in (model, loss) if isinstance(module, Module) for _, tensor in module.named_tensors()
    }
    if own.keys() - taken and taken - known:
        missing = next(name for parameter, name in own.items() if parameter not in taken)
        raise ValueError(
            f"optimizer: it has not the parameter {missing} of the model, and has others that the model has not: if a "
            "layer was replaced after it was made, make it anew"
        )
