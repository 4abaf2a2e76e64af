"""The training loop: evaluations, a log, checkpoints to resume from, early stopping, and a clean stop at Ctrl-C."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

from ..io.checkpoint import CheckpointError, fingerprint, save_checkpoint
from ..io.schema import LOOP, check
from ..version import RenamedAttribute, renamed_arguments
from .callbacks import Callback
from .folder import Heartbeat, JsonLines, RunFolder, read_log
from .history import History
from .stopping import EarlyStop, StopRequest, check_end, diagnosis, losses_in
from .terminal import BestEffort, Progress
from .trainer import Trainer, check_positive

_SECONDS_BETWEEN_CHECKPOINTS = 60.0
_SECONDS_BETWEEN_REPORTS = 1.0
#: Of the 30 s that Kubernetes and Slurm leave a job by default.
GRACE = 25.0
_NOT_REPORTED = ("step", "epoch", "gradient_norm", "lr")


class Loop:
    """The training loop: `trainer.step()` until its end, with what happens around it.

    steps, epochs,   the end of the run: one of them. A run of `seconds` ends with the first step that is completed
    seconds          after so many, evaluations included
    evaluate         returns losses and metrics on validation data by name, the loss first; called before the first
                     step, after each epoch of a run of `epochs`, otherwise at `evaluations` even intervals
    callbacks        called at the events of `Callback`, in this order
    patience         early stopping: stop after more evaluations than this in a row without a better loss
    keep_best        keep the weights of the best evaluation, for `load_best`, also without a patience
    folder           for the log and the checkpoints; None: nothing is written. It belongs to one run: another one in
                     it, at the same time or finished, is an error (see RunFolder)
    keep_last        how many checkpoints to keep beside the best one; older ones have their step in their name
    grace            seconds after SIGTERM or SIGHUP until KeyboardInterrupt ends a step that takes longer; None: no end
    metadata         what else a checkpoint says about its run: dictionaries, lists, numbers, strings

    `stopped` says why a run ended before its last step, and `diagnosis` what is wrong with one that did not learn; both
    are None otherwise.

    >>> model = nn.Linear(1, 1)
    >>> trainer = train.Trainer(model, ops.mse, optim.Adam(model.parameters()), [(np.ones((4, 1)), np.ones((4, 1)))])
    >>> loop = train.Loop(trainer, steps=3)
    >>> loop.run(train.Progress()), loop.steps, loop.history["loss"].shape
    (True, 3, (3,))
    """

    #: How far a step advances the progress display.
    units_per_step = 1

    about, characters_per_second = RenamedAttribute("metadata"), RenamedAttribute("steps_per_second")

    @renamed_arguments(about="metadata")
    def __init__(
        self,
        trainer: Trainer,
        *,
        steps: int | None = None,
        epochs: int | None = None,
        seconds: float | None = None,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
        evaluations: int = 10,
        callbacks: Callback | Sequence[Callback] = (),
        patience: int | None = None,
        keep_best: bool = False,
        folder: str | os.PathLike[str] | RunFolder | None = None,
        keep_last: int = 1,
        grace: float | None = GRACE,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        check_end(steps=steps, epochs=epochs, seconds=seconds)
        if patience is not None and evaluate is None:
            raise ValueError("patience: early stopping compares losses on validation data: give validation=")
        check_positive("keep_last", keep_last)
        self.trainer, self.total_steps, self.epochs, self.seconds = trainer, steps, epochs, seconds
        self.evaluate, self.evaluations = evaluate, evaluations
        self.callbacks = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                hint = f", write {callback.__name__}()" if isinstance(callback, type) else ""
                raise TypeError(f"callbacks: expected Callback objects, got {callback!r}{hint}")
        self._called = [item for item in self.callbacks if item.on_all_ranks or trainer.ranks.rank == 0]
        self.early_stop = EarlyStop(patience)
        self.keep_best = patience is not None or (keep_best and evaluate is not None)
        self.folder = folder if isinstance(folder, RunFolder) or folder is None else RunFolder(folder)
        self.keep_last, self.grace = keep_last, grace
        self.metadata = dict(metadata or {})
        self.history = History()
        self.progress = Progress()
        self.stopped: str | None = None
        self.signal: int | None = None
        self.diagnosis: str | None = None
        self._epochs: list[dict[str, Any]] = []
        self._step_seconds = 0.0
        self._elapsed = 0.0  # seconds of this run, those before an interruption included, up to `_clock`
        self._clock = self._saved_at = 0.0
        self._reported_at = -_SECONDS_BETWEEN_REPORTS
        self._first_step = 0
        self._best_step: int | None = None
        self._best_weights: dict[str, Any] | None = None  # without a folder
        self._logged = 0
        self._run: str | None = None  # the fingerprint of its initial state; None before the first step
        self._saved_step: int | None = None
        self._heartbeat = Heartbeat(None if self.folder is None else self.folder.heartbeat)

    # -- what callbacks see --------------------------------------------------------------------------------------

    @property
    def model(self) -> Any:
        return self.trainer.model

    @property
    def optimizer(self) -> Any:
        return self.trainer.optimizer

    @property
    def steps(self) -> int:
        """The number of completed steps."""
        return self.trainer.steps

    @property
    def epoch(self) -> int:
        """The epoch of the last step, from 0."""
        return self.trainer.epoch

    def request_stop(self, reason: str) -> None:
        """End training after the current step."""
        self.stopped = self.stopped or reason

    @property
    def finished(self) -> bool:
        """Whether the run is at its end; an interrupted one is not."""
        if self.early_stop.due:
            return True
        if self.total_steps is not None:
            return self.steps >= self.total_steps
        if self.epochs is not None:
            return self.epoch >= self.epochs or (self.epoch + 1 == self.epochs and self.trainer.at_epoch_end)
        return self.seconds is not None and self._elapsed >= self.seconds

    @property
    def steps_per_second(self) -> float | None:
        """The speed of the steps of this object, without evaluations; None if it took none."""
        steps = self.steps - self._first_step
        return steps / self._step_seconds if steps else None

    # -- the run -------------------------------------------------------------------------------------------------

    def resume(self, state: Mapping[str, Any]) -> None:
        """Load the state of a checkpoint. Raises CheckpointError if it is not one of such a run."""
        check(state, {**LOOP, "trainer": self.trainer.state_schema})
        saved = state.get("callbacks", [{}] * len(self.callbacks))
        if len(saved) != len(self.callbacks):
            raise CheckpointError(
                f"the checkpoint was made with {len(saved)} callbacks, and now there are {len(self.callbacks)}"
            )
        try:
            self.trainer.load_state_dict(state["trainer"])
            for callback, part in zip(self.callbacks, saved):
                callback.load_state_dict(part)
            for record in state.get("epochs", []):
                self._add_epoch(record)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise CheckpointError(f"the checkpoint does not fit this run: {error}") from error
        self.early_stop.load_state_dict(state["early_stop"])
        self._run, self._best_step, self._logged = state["run"], state["best_step"], state["logged"]
        self._elapsed = state.get("seconds", 0.0)
        self._first_step = self._saved_step = self.steps

    def run(self, progress: Progress) -> bool:
        """Train; returns whether the run is finished: a signal stops it after the current step.

        In both cases the checkpoint then holds the last step. The signals are Ctrl-C, SIGTERM and SIGHUP (see
        StopRequest). A `progress` display that fails, such as one on a closed terminal, does not stop the run.
        """
        self.progress = BestEffort(progress)
        with ExitStack() as stack:
            if self.folder is not None:
                stack.enter_context(self.folder)
            stop = stack.enter_context(StopRequest(self.grace))
            log = None if self.folder is None else stack.enter_context(self._open_log(self.folder))
            stack.push(partial(self._end, stop))
            for callback in reversed(self._called):  # the stack calls all, whatever one of them raises
                stack.callback(callback.on_train_end, self)
            self.trainer.on_gradients = partial(self._call, "on_gradients") if self._called else None
            self.trainer.check_ranks(self.metadata)
            self._call("on_train_begin")
            if self.trainer.remark:
                self.progress.write(self.trainer.remark)
            if self._run is None:
                initial = self._fingerprint()
                if self.evaluate is not None:
                    self.report(self._evaluate(log, is_first=True))
                self._run = initial
            self._clock = self._saved_at = self.trainer.ranks.agreed(time.perf_counter())[0]
            while not self.finished and not self._is_stopped(stop):
                self._step(log)
            self.stopped = self.stopped or self._reason()
            if self.steps != self._saved_step:
                self._save(log)
        keeps_best = self.early_stop.patience is not None
        self.diagnosis = self.trainer.ranks.of_first(
            lambda: diagnosis(*losses_in(self.history, self.position()), self.trainer.targets_in_step, keeps_best)
        )
        self.history.stopped, self.history.diagnosis = self.stopped, self.diagnosis
        return self.finished

    def _is_stopped(self, stop: StopRequest) -> bool:
        """Whether a signal or a callback has ended the run: on any rank of a parallel one."""
        _, (number, is_stopped) = self.trainer.ranks.agreed(0, stop.number or 0, self.stopped is not None)
        self.signal = number or None  # `stop` keeps to this rank: its own signal may come while it waits, or later
        if is_stopped:
            self.request_stop("a callback on another rank has ended it")
        return bool(number or is_stopped)

    def _end(self, stop: StopRequest, error: type[BaseException] | None, *_: object) -> None:
        """Note the signal, also where it did not wait for the end of a step, and in the heartbeat how the run ended."""
        self.signal = self.signal or stop.number
        ended = error is None or (stop.number is not None and issubclass(error, KeyboardInterrupt))
        state = "failed" if not ended else "finished" if error is None and self.finished else "stopped"
        self._heartbeat.beat(state, self.steps)

    def _reason(self) -> str | None:
        """Why the run ends before its last step."""
        if self.early_stop.due:
            return self.early_stop.reason
        if self.signal is None or self.finished:
            return None
        return f"interrupted by {'Ctrl-C' if self.signal == signal.SIGINT else signal.Signals(self.signal).name}"

    def _fingerprint(self) -> str:
        if self.folder is None:
            return ""
        return fingerprint({"about": self.metadata, "trainer": self.trainer.state_dict()})

    def load_best(self) -> None:
        """Load the weights of the best evaluation into the model, if they were kept."""
        if self._best_step is not None:
            self.model.load_state_dict(self.trainer.ranks.of_first(self._best))

    def _best(self) -> dict[str, Any] | None:
        if self.folder is None or self._best_step is None:
            return self._best_weights
        return self.folder.load_best(self._run, self._best_step)["trainer"]["model"]

    def position(self) -> dict[str, int]:
        """The first fields of every record."""
        return {"step": self.steps, "epoch": self.epoch}

    def report(self, record: Mapping[str, Any]) -> None:
        """Print a record of an epoch or an evaluation, at most one a second."""
        now = time.monotonic()
        if now - self._reported_at < _SECONDS_BETWEEN_REPORTS and not self.finished:
            return
        self._reported_at = now
        values = "  ".join(f"{name} {value:.4g}" for name, value in record.items() if name not in _NOT_REPORTED)
        where = f"epoch {record['epoch'] + 1}, step {record['step']:,}" if record["step"] else "before training"
        self.progress.write(f"{where}: {values}")

    def _step(self, log: JsonLines | None) -> None:
        """A step, and what is due after it."""
        started = time.perf_counter()
        step = self.trainer.step()
        self._step_seconds += time.perf_counter() - started
        if self.steps == self._first_step + 1 and (words := self.trainer.compilations.words(self.trainer.mode())):
            self.progress.write(words)
        self._heartbeat.beat("training", self.steps, step.loss)
        record = {**self.position(), **step._asdict()}
        self._record(record, log)
        self.progress.advance(self.units_per_step, loss=step.loss)
        self._call("on_step_end", record)
        evaluation = {}
        before = self._count_seconds()  # once a step, so that the one that reaches the end is evaluated
        if self._evaluation_due(before):
            evaluation = self._evaluate(log)
            self._count_seconds()
        if self.trainer.at_epoch_end:
            means = self.trainer.epoch_means.compute()
            epoch = {**self.position(), "epoch": self.epoch, **means, **evaluation}
            self._add_epoch(epoch)
            self._call("on_epoch_end", epoch)
            self.report(epoch)
        elif evaluation:
            self.report(evaluation)
        if evaluation or self._clock - self._saved_at > _SECONDS_BETWEEN_CHECKPOINTS:
            self._save(log)

    def _call(self, event: str, *record: Mapping[str, Any]) -> None:
        for callback in self._called:
            getattr(callback, event)(self, *record)

    def _record(self, record: dict[str, Any], log: JsonLines | None) -> None:
        self.history.add(record)
        if log is not None:
            log.write(record)

    def _add_epoch(self, record: dict[str, Any]) -> None:
        self._epochs.append(record)
        self.history.add_epoch(record)

    def _count_seconds(self) -> float:
        """Add the time since the last call to those of the run; returns what they were before."""
        before, now = self._elapsed, self.trainer.ranks.agreed(time.perf_counter())[0]
        self._elapsed, self._clock = before + now - self._clock, now
        return before

    def _evaluation_due(self, before: float) -> bool:
        """Whether the last step ended an epoch, or completed one more of the equal parts of the run, up to rounding."""
        if self.evaluate is None:
            return False
        if self.epochs is not None:
            return self.trainer.at_epoch_end
        if self.seconds is not None:
            return self._elapsed * self.evaluations // self.seconds > before * self.evaluations // self.seconds
        steps, total = self.steps, self.total_steps
        assert total is not None
        return steps * self.evaluations // total > (steps - 1) * self.evaluations // total

    def _values(self) -> dict[str, np.ndarray]:
        assert self.evaluate is not None
        return {name: np.array(float(value)) for name, value in self.evaluate().items()}

    def _evaluate(self, log: JsonLines | None, is_first: bool = False) -> dict[str, Any]:
        self._heartbeat.beat("evaluating", self.steps)
        told = self.trainer.ranks.of_first(self._values)  # in arrays, for JSON has no NaN
        values = {name: float(value) for name, value in told.items()}
        if not values:
            raise ValueError("evaluate: it must return the loss on validation data by its name, and got no value")
        loss = next(iter(values.values()))
        record = {**self.position(), **values}
        self._record(record, log)
        if not is_first:
            self.trainer.evaluated(loss)
            if self.early_stop.update(loss) and self.keep_best:
                self._best_step = self.steps
                self._best_weights = self.model.state_dict() if self.folder is None else None
        self._call("on_evaluation_end", record)
        return record

    # -- files ---------------------------------------------------------------------------------------------------

    def _open_log(self, folder: RunFolder) -> JsonLines:
        """The log; of a resumed run, cut after its last step, and its records in the history."""
        if self._run is None:
            folder.check_free()
            return JsonLines(folder.log)
        self._check_folder(folder)
        log = JsonLines(folder.log, keep_until=self.steps)
        if log.records < self._logged:
            self.progress.write(f"{log.path} is damaged: it has {log.records:,} of {self._logged:,} records")
        for record in read_log(folder.log):
            self.history.add(record)
        self._heartbeat.beat("training", self.steps)  # no longer what the run before has left
        return log

    def _check_folder(self, folder: RunFolder) -> None:
        """Check, before a run is resumed, that the folder is its own and has the best weights that it will need."""
        folder.check_run(self._run)
        if self._best_step == self.steps:  # a kill may have come between the two files
            save_checkpoint(folder.best, self._state())
        elif self._best_step is not None:
            folder.load_best(self._run, self._best_step)

    def _save(self, log: JsonLines | None) -> None:
        self._saved_step, self._saved_at = self.steps, self._clock
        self.trainer.collect()
        if self.folder is None or log is None:
            return
        log.sync()  # before the checkpoint, so that the log always has the records that a resumed run needs
        self._logged = log.records
        state = self._state()
        save_checkpoint(self.folder.checkpoint, state)
        if self._best_step == self.steps:
            save_checkpoint(self.folder.best, state)
        if self.keep_last > 1:
            save_checkpoint(self.folder.numbered(self.steps), state)
            self.folder.remove_numbered(self.keep_last)

    def _state(self) -> dict[str, Any]:
        return {
            "about": self.metadata,
            "run": self._run,
            "trainer": self.trainer.state_dict(),
            "early_stop": self.early_stop.state_dict(),
            "best_step": self._best_step,
            "logged": self._logged,
            "epochs": self._epochs,
            "callbacks": [callback.state_dict() for callback in self.callbacks],
            **({} if self.seconds is None else {"seconds": self._elapsed}),  # a run of steps is the same at any speed
        }
