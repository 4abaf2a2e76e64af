"""Training runs on text: settings become a corpus, a vocabulary, a model, a trainer, and in the end a summary."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...backend import manual_seed, resolve
from ...data import CharacterVocabulary, TextStream, ngram_losses, standard_library, text_corpus
from ...io.checkpoint import CheckpointError
from ...io.schema import COUNT, EARLY_STOP, NUMBER, TEXT, check, dict_of, optional
from ...ops import cross_entropy
from ...optim import Adam, WarmupLinear
from ...trees import leaves
from ...version import RenamedAttribute, __version__
from ..folder import RunFolder
from ..loop import Loop
from ..trainer import TRAINER_STATE, Trainer
from .evaluate import character_losses, excerpts, leading_spaces
from .model import CharacterModel
from .sampling import generate
from .settings import CHANGEABLE, TextSettings

_CHUNK = 1024
_WARMUP = 0.05
_MAX_NORM = 1.0
_SAMPLE_LENGTH = 200
_WARMUP_STEPS = 3
_MEASURED_SECONDS = 2.0
_MAX_SECONDS = 1e9  # thirty years

_SETTINGS: dict[str, Any] = {  # those that are missing have their defaults
    "text?": optional(TEXT),
    **dict.fromkeys(("cell?", "precision?", "compiled?"), TEXT),
    **dict.fromkeys(("embedding?", "hidden?", "layers?", "batch?", "window?", "characters?", "seed?"), COUNT),
    **dict.fromkeys(("dropout?", "lr?"), NUMBER),
    "patience?": optional(COUNT),
}
#: The schema of a checkpoint that a model can be restored from, written by any version; a Loop saves more.
TEXT_RUN: dict[str, Any] = {
    "trainer": TRAINER_STATE,
    "early_stop": EARLY_STOP,
    "about": {
        "settings": _SETTINGS,
        "vocabulary": {"symbols": TEXT, "other": optional(TEXT)},
        "corpus": {
            "name": TEXT,
            "files": COUNT,
            "sha256": TEXT,
            "training_characters": COUNT,
            "held_out_characters": COUNT,
        },
        "versions": dict_of(TEXT),
    },
}


class TextRun:
    """A training run as `settings` describe it: corpus, vocabulary, model, and a trainer at its first step.

    The constructor seeds the random numbers, so that equal settings give equal runs.
    """

    about = RenamedAttribute("metadata")

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
        self.trainer = Trainer(
            self.model, cross_entropy, optimizer, stream, schedule, clip_norm=_MAX_NORM, precision=settings.precision,
            compiled=settings.compile_mode, carry_state=True,
        )  # fmt: skip

    @property
    def characters(self) -> int:
        """The number of characters that the model has been trained on."""
        return self.trainer.steps * self.settings.characters_per_step

    def loop(self, folder: str | os.PathLike[str] | RunFolder, state: Mapping[str, Any] | None = None) -> TextLoop:
        """The training loop, from the first step or from the `state` of a checkpoint; it writes into `folder`.

        Raises CheckpointError if the checkpoint is of something else, of another text, or of other settings than may be
        changed.
        """
        metadata = self.metadata()
        loop = TextLoop(self, folder, metadata)
        if state is not None:
            check(state, TEXT_RUN)
            changeable = {name: metadata["settings"][name] for name in CHANGEABLE}
            saved = {**state["about"], "settings": {**state["about"]["settings"], **changeable}}
            changed = None
            if saved["settings"] != metadata["settings"]:
                changed = "settings", "other settings"
            elif saved["corpus"]["sha256"] != metadata["corpus"]["sha256"]:  # its name may differ: it was moved
                changed = "corpus", "a text that has changed since"
            if changed is not None:
                part, reason = changed
                raise CheckpointError(
                    f"the checkpoint was made with {reason}, so that its run cannot be resumed exactly: "
                    f"{part} was {saved[part]} and is {metadata[part]}"
                )
            self._check_carried(state["trainer"]["carried"])
            loop.resume(state)
        return loop

    def _check_carried(self, carried: list[np.ndarray] | None) -> None:
        initial = self.model.recurrence.initial_state(self.settings.batch)
        both = [part for _, part in leaves(initial, "state")], carried or ()
        expected, got = ([(tuple(part.shape), str(part.dtype)) for part in parts] for parts in both)
        if carried is not None and got != expected:
            raise CheckpointError(
                f"the checkpoint does not fit this run: carried: expected states of {expected}, got {got}"
            )

    def metadata(self) -> dict[str, Any]:
        """What a checkpoint says about its run: settings, vocabulary, corpus and versions."""
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

    def evaluate(self) -> dict[str, float]:
        """The loss on excerpts of the held-out text, in nats/char."""
        return {"held_out": float(character_losses(self.model, excerpts(self.held_out)).mean())}

    def sample(self) -> str:
        """A text that the model writes, other in each step, indented for the terminal."""
        prompt = "def " if self.settings.text is None else ""
        text = prompt + generate(self.model, self.vocabulary, _SAMPLE_LENGTH, prompt, seed=self.trainer.steps)
        return "".join(f"    | {line}\n" for line in text.splitlines())


class TextLoop(Loop):
    """The training loop of a text run: it counts characters, and prints a sample after each evaluation."""

    def __init__(self, run: TextRun, folder: str | os.PathLike[str] | RunFolder, metadata: Mapping[str, Any]) -> None:
        settings = run.settings
        super().__init__(
            run.trainer, steps=settings.steps, evaluate=run.evaluate, patience=settings.patience, folder=folder,
            metadata=metadata,
        )  # fmt: skip
        self.text_run = run
        self.units_per_step = settings.characters_per_step

    def position(self) -> dict[str, int]:
        return {"step": self.steps, "characters": self.text_run.characters}

    def report(self, record: Mapping[str, Any]) -> None:
        if "held_out" in record:
            loss, characters = record["held_out"], self.text_run.characters
            self.progress.write(f"{characters:,} characters: held-out loss {loss:.3f} nats/char")
            self.progress.write(self.text_run.sample())


def new_model(settings: TextSettings, vocabulary: CharacterVocabulary) -> CharacterModel:
    """An untrained model with these settings."""
    return CharacterModel(
        len(vocabulary), settings.embedding, settings.hidden, settings.layers, settings.dropout, settings.cell
    )


def characters_in(seconds: float, settings: TextSettings, device: str | None = None) -> int:
    """The approximate number of characters that a run with these settings trains on in `seconds`.

    It is measured by a short run, which is discarded: the learning-rate schedule needs the number of
    steps in advance, and a run that depends on the clock could not be repeated.
    """
    if not 0 < seconds <= _MAX_SECONDS:
        raise ValueError(f"seconds must be positive and at most {_MAX_SECONDS:.0e}, got {seconds}")
    run = TextRun(settings, device)
    for _ in range(_WARMUP_STEPS):
        run.trainer.step()
    before, started = run.characters, time.perf_counter()
    elapsed = 0.0
    while elapsed < min(_MEASURED_SECONDS, seconds):
        run.trainer.step()
        elapsed = time.perf_counter() - started
    return max(1, int((run.characters - before) / elapsed * seconds))


def summarize(run: TextRun, loop: Loop) -> dict[str, Any]:
    """The results of a run: the loss on all held-out text beside n-gram baselines, JSON-serializable.

    Losses are in nats/char. The first character has no context and is not predicted. The loss without leading spaces is
    None for a text of nothing else.
    """
    losses = character_losses(run.model, run.held_out)
    visible = losses[~leading_spaces(run.held_out, run.vocabulary)[1:]]
    unigram, bigram = ngram_losses(run.training, run.held_out, len(run.vocabulary))
    speed = loop.steps_per_second
    return {
        "parameters": run.model.parameter_count(),
        "characters_seen": run.characters,
        "characters_per_second": None if speed is None else speed * run.settings.characters_per_step,
        "held_out": float(losses.mean()),
        "held_out_without_leading_spaces": float(visible.mean()) if visible.size else None,
        "unigram": unigram,
        "bigram": bigram,
        "skipped_steps": run.trainer.scaler.skipped,
        "backend": run.model.device,
        **run.metadata(),
    }


def format_summary(summary: dict[str, Any], folder: Path) -> str:
    """The summary as a few lines for the terminal."""
    corpus, settings = summary["corpus"], summary["settings"]
    speed = summary["characters_per_second"]
    speed = f", at {speed:,.0f} characters/s" if speed else ", with no step left"
    source = corpus["name"] if corpus["files"] == 1 else f"{corpus['name']} ({corpus['files']} files)"
    skipped = f", {summary['skipped_steps']:,} steps skipped" if summary["skipped_steps"] else ""
    where = f"{summary['backend']}, {settings['precision']}{skipped}"
    visible = summary["held_out_without_leading_spaces"]
    without = "" if visible is None else f", {visible:.3f} without leading spaces"
    return f"""\
{settings["cell"].upper()}, hidden {settings["hidden"]}: {summary["parameters"]:,} parameters on {where}
{summary["characters_seen"]:,} characters seen of {source}{speed}
held-out loss:     {summary["held_out"]:.3f} nats/char{without}
n-gram baselines:  {summary["unigram"]:.3f} (unigram), {summary["bigram"]:.3f} (bigram)
files of this run: {folder}"""


def versions(namespace: Any = np) -> dict[str, str]:
    """Versions of this package, of Python, of NumPy, and of the array library with this namespace."""
    return {
        "tinygrad_gru": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        namespace.__name__: namespace.__version__,
    }
