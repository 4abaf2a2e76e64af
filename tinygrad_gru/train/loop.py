"""A whole training run: from the first step, or from a checkpoint, to the last, with all that one wants on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from .checkpoint import CheckpointError, fingerprint, load_checkpoint, save_checkpoint
from .early_stop import EarlyStop
from .folder import RunFolder
from .interrupt import StopRequest
from .log import JsonLines
from .schema import LOOP, check
from .terminal import Guarded, Progress
from .trainer import Trainer

_SECONDS_BETWEEN_CHECKPOINTS = 60.0


class Loop:
    """Runs `trainer` until it has made `steps` steps, and keeps in `folder` a log and a checkpoint to go on from.

    The folder is this run's alone: another one there, at the same time or finished, is an error (see RunFolder).

    evaluate        gives the held-out loss; called `evaluations` times in a run, and once before the first step
    on_evaluation   called after that, for instance to print a sample
    patience        stop after more evaluations than this without a better one, and keep the best checkpoint too
    about           what else a checkpoint should tell its readers: dictionaries, lists, numbers, strings
    """

    def __init__(
        self,
        trainer: Trainer,
        steps: int,
        folder: str | os.PathLike[str] | RunFolder,
        evaluate: Callable[[], float],
        on_evaluation: Callable[[Progress], None] = lambda display: None,
        patience: int | None = None,
        about: Mapping[str, Any] | None = None,
        evaluations: int = 10,
    ) -> None:
        self.trainer, self.steps = trainer, steps
        self.folder = folder if isinstance(folder, RunFolder) else RunFolder(folder)
        self.evaluate, self.on_evaluation = evaluate, on_evaluation
        self.evaluations = evaluations
        self.early_stop = EarlyStop(patience)
        self.about = dict(about or {})
        self._seconds = 0.0
        self._characters_before = 0
        self._best_step: int | None = None
        self._logged = 0
        self._run: str | None = None  # known by how it began; None before that
        self._saved_step: int | None = None
        self._saved_at = time.monotonic()

    @property
    def finished(self) -> bool:
        return self.trainer.steps >= self.steps or self.early_stop.due

    @property
    def characters_per_second(self) -> float | None:
        """The speed of the steps made here, without evaluations; None if there were none."""
        made_here = self.trainer.characters - self._characters_before
        return made_here / self._seconds if made_here else None

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go to the state of a checkpoint. Raises CheckpointError if it is not one of such a run."""
        check(state, LOOP)
        try:
            self.trainer.load_state_dict(state["trainer"])
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise CheckpointError(f"the checkpoint does not fit this run: {error}") from error
        self.early_stop.load_state_dict(state["early_stop"])
        self._run, self._best_step, self._logged = state["run"], state["best_step"], state["logged"]
        self._characters_before = self.trainer.characters
        self._saved_step = self.trainer.steps

    def run(self, display: Progress) -> bool:
        """Train, and return whether the run came to its end: a signal ends it after the step under way.

        Either way the checkpoint then holds the last step. Ctrl-C, SIGTERM and SIGHUP are such signals (see
        StopRequest). A `display` that fails, as one whose terminal is gone, ends nothing.
        """
        display = Guarded(display)
        with self.folder, StopRequest() as stop:
            goes_on = self._run is not None
            if goes_on:
                self._check_what_is_there()
            else:
                self.folder.check_free()
            with JsonLines(self.folder.log, keep_until=self.trainer.steps if goes_on else None) as log:
                if log.records < self._logged:
                    display.say(f"{log.path} had {log.records:,} of the {self._logged:,} records to go on from")
                if not goes_on:
                    began = fingerprint({"about": self.about, "trainer": self.trainer.state_dict()})
                    self._evaluate(log, display)
                    self._run = began
                while not self.finished and not stop.requested:
                    self._step(log, display)
                    if self._evaluation_due():
                        better = self.early_stop.update(self._evaluate(log, display))
                        if better and self.early_stop.patience is not None:
                            self._best_step = self.trainer.steps
                        self._save(log)
                    elif time.monotonic() - self._saved_at > _SECONDS_BETWEEN_CHECKPOINTS:
                        self._save(log)
                if self.trainer.steps != self._saved_step:
                    self._save(log)
        return self.finished

    def load_best(self) -> None:
        """Give the model the weights of its best evaluation, if early stopping kept them."""
        if self._best_step is not None:
            self.trainer.model.load_state_dict(self._best()["trainer"]["model"])

    def _best(self) -> dict[str, Any]:
        best = load_checkpoint(self.folder.best)
        if (best.get("run"), best["trainer"]["steps"]) != (self._run, self._best_step):
            raise CheckpointError(f"{self.folder.best} does not hold step {self._best_step}, the best one, of this run")
        return best

    def _check_what_is_there(self) -> None:
        """Look, before the run goes on, whether the folder is its own and has the best weights that it will need."""
        for path in (self.folder.checkpoint, self.folder.best):
            with suppress(CheckpointError):  # not there, or damaged: the run goes on from something else
                if load_checkpoint(path).get("run") != self._run:
                    raise FileExistsError(f"{path} is of another run than the one to go on with: give another folder")
        if self._best_step is None:
            return
        if self._best_step == self.trainer.steps:  # a kill may have come between the two files
            save_checkpoint(self.folder.best, self._state())
        else:
            self._best()

    def _step(self, log: JsonLines, display: Progress) -> None:
        began = time.perf_counter()
        before = self.trainer.characters
        step = self.trainer.step()
        self._seconds += time.perf_counter() - began
        log.write({"step": self.trainer.steps, "characters": self.trainer.characters, **step._asdict()})
        display.advance(self.trainer.characters - before, loss=step.loss)

    def _evaluation_due(self) -> bool:
        """Whether the last step completed one more of the equal parts of the run, up to rounding."""
        done = self.trainer.steps
        return done * self.evaluations // self.steps > (done - 1) * self.evaluations // self.steps

    def _evaluate(self, log: JsonLines, display: Progress) -> float:
        loss = self.evaluate()
        log.write({"step": self.trainer.steps, "characters": self.trainer.characters, "held_out": loss})
        display.say(f"{self.trainer.characters:,} characters: {loss:.3f} nats a character on held-out text")
        self.on_evaluation(display)
        return loss

    def _save(self, log: JsonLines) -> None:
        log.sync()  # before the checkpoint, which then finds in the log what it goes on from
        self._logged = log.records
        state = self._state()
        save_checkpoint(self.folder.checkpoint, state)
        if self._best_step == self.trainer.steps:
            save_checkpoint(self.folder.best, state)
        self._saved_step, self._saved_at = self.trainer.steps, time.monotonic()

    def _state(self) -> dict[str, Any]:
        return {
            "about": self.about,
            "run": self._run,
            "trainer": self.trainer.state_dict(),
            "early_stop": self.early_stop.state_dict(),
            "best_step": self._best_step,
            "logged": self._logged,
        }
