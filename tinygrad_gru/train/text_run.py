"""The main job: a recurrent network learns a text, character by character."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..backend import manual_seed, resolve
from ..data import CharacterVocabulary, TextStream, standard_library, text_corpus
from ..optim import Adam, WarmupLinear
from .checkpoint import CheckpointError
from .evaluate import character_losses, excerpts
from .folder import RunFolder
from .loop import Loop
from .model import CharacterModel
from .sampling import generate
from .schema import TEXT_RUN, check
from .settings import CHANGEABLE, TextSettings
from .terminal import Progress
from .trainer import Trainer
from .versions import versions

_CHUNK = 1024
_WARMUP = 0.05
_MAX_NORM = 1.0
_SAMPLE_LENGTH = 200
_WARMING_STEPS = 3
_MEASURED_SECONDS = 2.0
_LONGEST_RUN = 1e9  # seconds, thirty years


class TextRun:
    """All that `settings` say, put together: corpus, vocabulary, and a trainer that has not yet made a step.

    Building one seeds the random numbers, so that equal settings give equal runs.
    """

    def __init__(self, settings: TextSettings, device: str | None = None) -> None:
        self.settings = settings
        backend = resolve(device)
        if settings.text is None:
            self.corpus = standard_library()
            self.vocabulary = CharacterVocabulary.code()
        else:
            self.corpus = text_corpus(settings.text)
            self.vocabulary = CharacterVocabulary.from_text(self.corpus.training + self.corpus.held_out)
        self.training = self.vocabulary.encode(self.corpus.training)
        self.held_out = self.vocabulary.encode(self.corpus.held_out)
        manual_seed(settings.seed)
        self.model = new_model(settings, self.vocabulary)
        self.model.to(backend)
        optimizer = Adam(self.model.parameters(), lr=settings.lr)
        schedule = WarmupLinear(optimizer, settings.steps, warmup=_WARMUP)
        stream = TextStream(self.training, settings.window, settings.batch, _CHUNK, settings.seed)
        self.trainer = Trainer(self.model, optimizer, schedule, stream, _MAX_NORM, settings.precision, settings.reading)

    def loop(self, folder: str | os.PathLike[str] | RunFolder, state: Mapping[str, Any] | None = None) -> Loop:
        """The run from its beginning, or from the `state` of a checkpoint; its files go to `folder`.

        Raises CheckpointError if the checkpoint is of something else, of another text, or of other settings than may be
        changed.
        """
        about = self.about()
        loop = Loop(self.trainer, self.settings.steps, folder, self._judge, self._sample, self.settings.patience, about)
        if state is not None:
            check(state, TEXT_RUN)
            chosen = {name: about["settings"][name] for name in CHANGEABLE}
            began = {**state["about"], "settings": {**state["about"]["settings"], **chosen}}
            changed = None
            if began["settings"] != about["settings"]:
                changed = "settings", "other settings"
            elif began["corpus"]["sha256"] != about["corpus"]["sha256"]:  # its name may have: it was moved
                changed = "corpus", "a text that has changed since"
            if changed is not None:
                part, reason = changed
                raise CheckpointError(
                    f"the checkpoint was made with {reason}, so that its run cannot be continued exactly: "
                    f"{part} was {began[part]} and is {about[part]}"
                )
            loop.resume(state)
        return loop

    def about(self) -> dict[str, Any]:
        """What a checkpoint tells of its run."""
        corpus = self.corpus
        return {
            "settings": asdict(self.settings),
            "vocabulary": self.vocabulary.description(),
            "corpus": {
                "name": corpus.name,
                "files": corpus.files,
                "training_characters": len(corpus.training),
                "held_out_characters": len(corpus.held_out),
                "sha256": corpus.digest,
            },
            "versions": versions(resolve(self.model.device).xp),
        }

    def _judge(self) -> float:
        return float(character_losses(self.model, excerpts(self.held_out)).mean())

    def _sample(self, display: Progress) -> None:
        prompt = "def " if self.settings.text is None else ""
        text = prompt + generate(self.model, self.vocabulary, _SAMPLE_LENGTH, prompt, seed=self.trainer.steps)
        display.say("".join(f"    | {line}\n" for line in text.splitlines()))


def new_model(settings: TextSettings, vocabulary: CharacterVocabulary) -> CharacterModel:
    return CharacterModel(
        len(vocabulary), settings.embedding, settings.hidden, settings.layers, settings.dropout, settings.cell
    )


def characters_in(seconds: float, settings: TextSettings, device: str | None = None) -> int:
    """About how many characters a run with these settings would train on in that time.

    The number is found before the run, by a short one that is thrown away: the learning rate's course needs the number
    of steps in advance, and a run must not depend on the clock if it is to be repeated.
    """
    if not 0 < seconds <= _LONGEST_RUN:
        raise ValueError(f"seconds must be positive and at most {_LONGEST_RUN:.0e}, got {seconds}")
    trainer = TextRun(settings, device).trainer
    for _ in range(_WARMING_STEPS):
        trainer.step()
    seen, began = trainer.characters, time.perf_counter()
    spent = 0.0
    while spent < min(_MEASURED_SECONDS, seconds):
        trainer.step()
        spent = time.perf_counter() - began
    return max(1, int((trainer.characters - seen) / spent * seconds))
