"""fit, evaluate, predict: train any model on batches or arrays, measure it, and apply it."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import wraps
from inspect import signature
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from .. import optim
from ..contexts import no_grad
from ..hints import did_you_mean
from ..io.checkpoint import CheckpointError, load_checkpoint
from ..nn import Module
from ..optim import Optimizer, ReduceOnPlateau, Schedule
from ..parallel import Ranks
from ..scan import compiling
from ..tensor import Tensor
from .batches import ModelBatch, batches_in_epoch, batches_of, one_pass, read_batch, reference_tensor, rewind, source_of
from .callbacks import Callback
from .folder import RunFolder
from .hints import APPLY, FIT, check_schedule
from .history import History
from .loop import GRACE, Loop
from .metrics import Metric, metric
from .metrics.loss import check_loss, loss_of, mean_count
from .sharded import make_trainer, ranks_of
from .terminal import Progress
from .terminal import progress as progress_display
from .trainer import Step, call_model

_LR = 1e-3

#: The optimizers by their names in lower case.
OPTIMIZERS = {cls.__name__.lower(): cls for cls in (optim.Adam, optim.AdamW, optim.Adagrad, optim.RMSprop, optim.SGD)}


Function = TypeVar("Function", bound=Callable)


def _hinting(function: Function) -> Function:
    """A decorator: an unknown argument, or targets beside the data, is answered with what to write."""
    known, called = signature(function).parameters, function.__name__
    hints = FIT if called == "fit" else APPLY
    positional = [name for name, parameter in known.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]

    @wraps(function)
    def call(*given: Any, **settings: Any) -> Any:
        for name in settings:
            if name not in known:
                hint = f": write {hints[name]}" if name in hints else did_you_mean(name, known)
                raise TypeError(f"{called}: there is no argument {name!r}{hint}")
        if len(given) > len(positional):
            names = " and ".join([", ".join(positional[:-1]), positional[-1]])
            raise TypeError(f"{called}: takes {names} by position; arrays are given together, as (x, y)")
        return function(*given, **settings)

    return call  # type: ignore[return-value]


@_hinting
def fit(
    model: Module,
    loss: Callable[[Any, Any], Tensor],
    data: Any,
    *,
    validation: Any = None,
    epochs: int | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    optimizer: str | Optimizer | type[Optimizer] = "adam",
    lr: float | None = None,
    schedule: Schedule | Callable[[Optimizer, int], Schedule] | None = None,
    batch_size: int = 32,
    seed: int | None = 0,
    metrics: Iterable[Metric | str] = (),
    clip_norm: float | None = None,
    accumulate: int = 1,
    precision: str = "float32",
    compiled: bool | str | None = None,
    carry_state: bool = False,
    callbacks: Callback | Sequence[Callback] = (),
    patience: int | None = None,
    folder: str | os.PathLike[str] | RunFolder | None = None,
    parallel: str | Ranks | None = None,
    resume: bool = False,
    keep_last: int = 1,
    grace: float | None = GRACE,
    progress: bool | Progress = True,
) -> History:
    """Train `model`, in place and in training mode, and return the history of its losses.

    loss         (outputs, targets) → a scalar, the mean over the targets: `ops.mse`, `ops.cross_entropy`, any function.
                 Batches count by their targets; those that an `ignore_index` leaves out, and class weights, are known
                 of nn.CrossEntropyLoss(…) and functools.partial(ops.cross_entropy, …), not of a function of one's own
    data         arrays (x, y), whose first axis counts the examples; or anything that iterates batches: `data.
                 SequenceBatches`, a list, a DataLoader of PyTorch. A batch is (inputs, targets), or an object with
                 these and maybe `lengths`, `starts` and `per_step`. Floats are converted to the model's dtype, and all
                 is moved to its device. A tuple of inputs is called as model(*inputs), a dict as model(**inputs). If
                 the model returns a tuple, as a recurrent layer does, its first part is the output. Batches with a
                 position (`data.Epochs`) are read from the start of their first epoch, wherever they were
    validation   the same; or a fraction of the arrays, which is their end, as they are given and not shuffled: right
                 for a series in time. Shuffle examples that are sorted, by class for instance, before
    epochs, steps, seconds   the length of the run: exactly one of them. An epoch is a pass over the data, a step is one
                 of the optimizer; a run of `seconds` ends with the first step that is completed after so many. The
                 validation data are evaluated before the first step, and after each epoch, or of `steps` and `seconds`
                 ten times
    optimizer    "adam", "adamw", "sgd", "rmsprop" or "adagrad", or its class, with `lr` (default 0.001); or an
                 optimizer of the model's parameters
    schedule     None: lr stays as it is; a class such as `optim.WarmupCosine`, or another function (optimizer,
                 total_steps) → schedule; or a schedule of the optimizer. `ReduceOnPlateau` is told the validation loss
    batch_size, seed   of arrays: they are shuffled anew in every epoch, or with None never. `seed` is not that of
                 weights and dropout (see `manual_seed`)
    metrics      names or `Metric` objects: "accuracy" in the records of epochs is that of the outputs in training,
                 while the weights changed; "validation_accuracy" that of the validation data
    clip_norm    the largest global norm of the gradient; None: not clipped
    accumulate   batches per step: their gradients are averaged over all their targets, as of one large batch
    precision    "float16" or "bfloat16": the model runs in that dtype, its parameters stay as they are
    compiled     how recurrences run (see `compiling`); a resumed run goes on as it began
    carry_state  truncated backpropagation through time: model(inputs, state) → (output, state), where the state goes
                 detached to the next batch; it is None at the start of an epoch, and where a batch has `starts`
    callbacks    objects whose methods are called at the events of training (see `Callback`)
    patience     stop after more evaluations than this in a row without a better validation loss; the weights in the end
                 are those of the best evaluation
    folder       for the log (log.jsonl) and checkpoints, the last one and the best one; None: nothing is written
    parallel     "mpi": this process is one of several that mpiexec has started, which share each batch; or what
                 `parallel.init` has returned, for other settings than its own. The weights are the same on any number
                 of ranks, and a run may be resumed on another one. Rank 0 evaluates and writes files. Of arrays,
                 batches of `data`, and a DataLoader of a map-style data set with PyTorch's own collate_fn each rank
                 reads its own rows alone; of anything else the whole batches, which are compared in each step
    resume       go on from the checkpoint in `folder`, if there is one, bit for bit as if never interrupted; of data
                 without a position (see `data.Epochs`) if each pass has the same order. CheckpointError if it is of a
                 run with another optimizer, lr, clip_norm, accumulate, carry_state or other metrics
    keep_last    checkpoints to keep, if more than one with their step in their name
    grace        seconds after SIGTERM or SIGHUP (see below) until KeyboardInterrupt ends a step or an evaluation that
                 takes longer, so that the last checkpoint is what remains; None: it waits for them
    progress     True: a bar, or lines where there is no terminal; False: nothing; or a Progress, which stays open

    Ctrl-C ends training after the current step, saves, and `fit` returns; history.stopped says why a run ended before
    its time, and history.diagnosis what is wrong with one that has not learned. Raises TrainingError if the loss is not
    finite; the weights are then those before the step.

    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> model = nn.Linear(1, 1)
    >>> history = train.fit(model, ops.mse, (x, 3 * x + 1), epochs=100, lr=0.05, progress=False)
    >>> train.predict(model, np.array([[2.0]])).round(1).tolist()
    [[7.0]]
    """
    if seconds is not None and schedule is not None and not isinstance(schedule, Schedule):
        raise ValueError(
            "schedule: with seconds= the number of steps is not known in advance; give steps= or epochs=, or a "
            "schedule object that needs none, as optim.StepDecay(optimizer, every=100)"
        )
    training, held_out = batches_of(model, data, validation, batch_size, seed)
    rewind(training)  # an earlier run, or a look at the first batch, may have moved it
    chosen = _metrics(metrics)
    optimizer = optimizer_of(optimizer, lr, model, loss)
    #: What a run must have in common with one that it resumes, besides its model and its data.
    settings: dict[str, Any] = {
        "accumulate": accumulate, "carry_state": carry_state, "clip_norm": clip_norm and float(clip_norm),
        "optimizer": type(optimizer).__name__, "lr": lr and float(lr), "metrics": [item.name for item in chosen],
    }  # fmt: skip
    ranks = ranks_of(parallel)
    if ranks is not None:
        settings["parallel"] = ranks.settings
    is_first = ranks is None or ranks.rank == 0
    if schedule is not None and not callable(schedule) and not isinstance(schedule, Schedule):
        raise TypeError(f"schedule: expected a class such as optim.WarmupCosine, or a schedule, got {schedule!r}")
    if schedule is ReduceOnPlateau:
        schedule = ReduceOnPlateau(optimizer)  # which needs no number of steps
    if callable(schedule) and not isinstance(schedule, Schedule):
        check_schedule(schedule)
        schedule = schedule(optimizer, _total_steps(training, epochs, steps, accumulate))
    if isinstance(schedule, ReduceOnPlateau) and held_out is None:
        raise ValueError("schedule: ReduceOnPlateau depends on the validation loss: give validation=")
    trainer = make_trainer(
        ranks, model, loss, optimizer, training, schedule, clip_norm=clip_norm, accumulate=accumulate,
        precision=precision, compiled=compiled, carry_state=carry_state, metrics=deepcopy(chosen),
    )  # fmt: skip

    def evaluation() -> dict[str, float]:
        values = evaluate(model, loss, held_out, metrics=chosen, carry_state=carry_state, compiled=trainer.compiled)
        return {f"validation_{name}": value for name, value in values.items()}

    loop = Loop(
        trainer, steps=steps, epochs=epochs, seconds=seconds, evaluate=None if held_out is None else evaluation,
        callbacks=callbacks, patience=patience, keep_best=folder is not None, folder=folder if is_first else None,
        keep_last=keep_last, grace=grace, metadata={"fit": settings},
    )  # fmt: skip
    if resume and folder is None:
        raise ValueError("resume=True needs the folder of the run: give folder=")
    if resume and (state := trainer.ranks.of_first(lambda: _to_resume(loop))) is not None:
        loop.resume(state)
    if not model.training:
        model.train()
    left_out = _left_out(model, optimizer)
    with _display(progress if is_first else False, loop, training, accumulate) as display:
        if left_out:
            display.write(f"not trained, for the optimizer does not have them: {', '.join(left_out)}")
        loop.run(display)
        if patience is not None:
            loop.load_best()
        for message in filter(None, (loop.stopped, loop.diagnosis)):
            loop.progress.write(message)
    if loop.signal not in (None, signal.SIGINT):
        signal.raise_signal(loop.signal)  # all is saved: let it do what it does elsewhere
    return loop.history


@_hinting
def evaluate(
    model: Module,
    loss: Callable[[Any, Any], Tensor],
    data: Any,
    *,
    metrics: Iterable[Metric | str] = (),
    batch_size: int = 32,
    carry_state: bool = False,
    compiled: bool | str | None = None,
) -> dict[str, float]:
    """The loss and the metrics of `model` on `data`, arrays or batches as `fit` takes them: a dictionary by name.

    The model is in evaluation mode, and nothing is recorded. Means are over all targets, not means of the batches'.

    >>> model = nn.Sequential(lambda x: x, nn.Linear(1, 1))
    >>> sorted(train.evaluate(model, ops.mse, (np.ones((5, 1)), np.ones((5, 1))), metrics=["mae"]))
    ['loss', 'mae']
    """
    check_loss(loss)
    chosen = _metrics(metrics)
    total: Any = 0.0  # stays on the device until the end
    count: Any = 0.0
    for item in chosen:
        item.reset()
    for outputs, batch in _outputs(model, data, batch_size, carry_state, compiled):
        outputs, targets = batch.select(outputs), mean_count(loss, batch.targets)
        total = total + targets * loss_of(loss, outputs, batch.targets).astype("float64")
        count = count + targets
        for item in chosen:
            item.update(outputs, batch.targets)
    mean = float(total) / float(count) if float(count) else math.nan
    return {"loss": mean, **{item.name: float(item.compute()) for item in chosen}}


@_hinting
def predict(
    model: Module, data: Any, *, batch_size: int = 32, carry_state: bool = False, compiled: bool | str | None = None
) -> Any:
    """The outputs of `model` for `data`, an array x, arrays (x, y) or batches as `fit` takes them: a NumPy array.

    Targets are ignored. The model is in evaluation mode. Of batches with targets per step it is a list, for each
    sequence its outputs at its own steps. Raises ValueError for data that are shuffled: predictions come in the order
    of the batches.

    >>> train.predict(nn.Linear(3, 2), np.zeros((5, 3))).shape
    (5, 2)
    """
    for name in ("seed", "bucket"):
        if getattr(data, name, None) is not None:
            raise ValueError(
                f"data: its batches are in another order than the data, and predictions would be: leave out {name}="
            )
    if isinstance(data, list) and data and isinstance(data[0], (list, Real)):
        data = np.asarray(data)
    if isinstance(data, (np.ndarray, Tensor, Mapping)) or hasattr(data, "__array__"):
        data = (data, None)
    results: list[Any] = []
    for outputs, batch in _outputs(model, data, batch_size, carry_state, compiled, with_targets=False):
        values, lengths = outputs.numpy(), batch.keywords.get("lengths")
        if not batch.per_step:
            if lengths is not None and len(values) != len(lengths):
                raise ValueError(
                    f"the output of shape {values.shape} is not one for each of {len(lengths)} sequences: put "
                    "nn.LastStep() after the recurrent layer; for outputs at every step the batches need per_step=True"
                )
            results.append(values)
            continue
        lengths = [len(values)] * values.shape[1] if lengths is None else lengths
        results += [values[:length, column] for column, length in enumerate(lengths)]
    return results if batch.per_step else np.concatenate(results)


def _outputs(
    model: Module, data: Any, batch_size: int, carry_state: bool, compiled: bool | str | None, with_targets: bool = True
) -> Iterator[tuple[Any, ModelBatch]]:
    """The outputs for all batches of an epoch, in evaluation mode, with the batches."""
    like, state = reference_tensor(model), None
    data, _ = batches_of(model, data, None, batch_size, seed=None)
    with model.evaluating(), no_grad(), nullcontext() if compiled is None else compiling(compiled):
        for item in one_pass(data):
            batch = read_batch(item, like, with_targets)
            outputs, state = call_model(model, batch, None if batch.starts else state, carry_state)
            yield outputs, batch


def _metrics(given: Any) -> list[Metric]:
    """The metrics, each by a name of its own."""
    chosen = [metric(item) for item in ([given] if isinstance(given, (str, Metric)) else given)]
    taken = {"step", "epoch", *Step._fields}
    for name in (item.name for item in chosen):
        if name in taken:
            raise ValueError(f"metrics: {name!r} would be two values of one record: give a metric another name")
        taken.add(name)
    return chosen


def optimizer_of(optimizer: str | Optimizer | type[Optimizer], lr: float | None, model: Module, loss: Any) -> Optimizer:
    """The optimizer itself, or by its name or class one of the parameters of the model and of the loss."""
    if isinstance(optimizer, Optimizer):
        if lr is not None:
            raise ValueError("lr: the optimizer that was given has its own; lr is for one by its name")
        return optimizer
    cls: Any = OPTIMIZERS.get(optimizer.lower()) if isinstance(optimizer, str) else optimizer
    if not (isinstance(cls, type) and issubclass(cls, Optimizer)):
        advice = did_you_mean(str(optimizer).lower(), OPTIMIZERS)
        names = ", ".join(OPTIMIZERS)
        raise ValueError(f"optimizer: expected one of {names}, or an Optimizer, got {optimizer!r}{advice}")
    parameters = list(model.parameters())
    if not any(parameter.requires_grad for parameter in parameters):
        raise ValueError(f"model: {type(model).__name__} has no parameters that require a gradient (all are frozen?)")
    if isinstance(loss, Module):
        known = set(map(id, parameters))
        parameters += [parameter for parameter in loss.parameters() if id(parameter) not in known]
    return cls(parameters, lr=_LR if lr is None else lr)


def _left_out(model: Module, optimizer: Optimizer) -> list[str]:
    """The parameters of the model that the optimizer does not have, and that are not frozen either."""
    own = set(map(id, optimizer.parameters()))
    return [name for name, tensor in model.named_parameters() if tensor.requires_grad and id(tensor) not in own]


def _total_steps(batches: Any, epochs: int | None, steps: int | None, accumulate: int) -> int:
    """The number of steps that a schedule is made for."""
    if steps is not None:
        return steps
    length = batches_in_epoch(source_of(batches))
    if length is None or epochs is None:
        raise ValueError(
            "schedule: the number of steps is not known in advance, for the data have no len(): give steps= instead of "
            "epochs=, or a schedule object that needs none, as optim.StepDecay(optimizer, every=100)"
        )
    return epochs * -(-length // accumulate)


def _to_resume(loop: Loop) -> dict[str, Any] | None:
    """The state in the checkpoint of the loop's folder, if there is one."""
    assert loop.folder is not None
    if not loop.folder.checkpoint.exists():
        return None
    state = load_checkpoint(loop.folder.checkpoint)
    saved = state.get("about")
    if saved != loop.metadata:
        raise CheckpointError(
            f"{loop.folder.checkpoint} is of a run with other settings, and cannot be resumed exactly: {saved}, now "
            f"{loop.metadata}"
        )
    return state


def _display(progress: bool | Progress, loop: Loop, batches: Any, accumulate: int) -> AbstractContextManager[Progress]:
    if isinstance(progress, Progress):
        return nullcontext(progress)  # who opened it closes it: it may serve several runs
    total, length = loop.total_steps, batches_in_epoch(source_of(batches))
    if loop.epochs is not None and length is not None:
        total = loop.epochs * -(-length // accumulate)
    return progress_display(total, loop.steps, "steps", quiet=not progress)
