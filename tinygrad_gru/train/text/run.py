"""Training runs on text: settings become a corpus, a vocabulary, a model, a trainer, and in the end a summary."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...backend import manual_seed, resolve
from ...data import CharacterVocabulary, TextStream, encoded_text, ngram_losses, standard_library
from ...io.checkpoint import CheckpointError
from ...io.schema import COUNT, EARLY_STOP, NUMBER, OBJECT, TEXT, check, dict_of, list_of, optional
from ...native import cache as native_cache
from ...ops import cross_entropy
from ...optim import Adam, WarmupLinear
from ...parallel import Ranks
from ...parallel.ranks import ALONE
from ...scan.modes import mode_of
from ...trees import leaves
from ...version import RenamedAttribute, __version__
from ..folder import RunFolder
from ..loop import GRACE, Loop
from ..sharded import make_trainer, ranks_for
from ..trainer import TRAINER_STATE, TrainingError
from .evaluate import character_losses, excerpts, leading_spaces
from .model import CharacterModel
from .origin import Origin
from .sampling import generate
from .settings import CHANGEABLE, TextSettings

_CHUNK = 1024
_WARMUP = 0.05
_MAX_NORM = 1.0
_SAMPLE_LENGTH = 200

_SETTINGS: dict[str, Any] = {  # those that are missing have their defaults
    "text?": optional(TEXT),
    **dict.fromkeys(("cell?", "precision?", "compiled?"), TEXT),
    **dict.fromkeys(
        ("embedding?", "hidden?", "layers?", "batch?", "window?", "characters?", "seed?", "evaluations?"), COUNT
    ),
    **dict.fromkeys(("dropout?", "lr?"), NUMBER),
    **dict.fromkeys(("patience?", "shards?"), optional(COUNT)),
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
        "started_from?": OBJECT,
        "extended_from?": list_of(COUNT),
    },
}


class TextRun:
    """A training run as `settings` describe it: corpus, vocabulary, model, and a trainer at its first step.

    The constructor seeds the random numbers, so that equal settings give equal runs.

    origin   the run whose weights are the start; None: random weights
    ranks    the job that it is a part of (see `parallel.init`); with `shards` in the settings one process alone

    >>> with open("text.txt", "w") as file:
    ...     _ = file.write("the cat sat on the mat. " * 40)
    >>> run = train.TextRun(train.TextSettings("text.txt", embedding=4, hidden=8, batch=4, window=16, characters=640))
    >>> loop = run.loop("run")
    >>> loop.run(train.Progress()), run.characters
    (True, 640)
    >>> sorted(train.summarize(run, loop))[:3]
    ['backend', 'bigram', 'characters_per_second']
    >>> train.restore("run").model.parameter_count() == run.model.parameter_count()
    True
    """

    about = RenamedAttribute("metadata")

    def __init__(
        self,
        settings: TextSettings,
        device: str | None = None,
        origin: Origin | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.settings, self.origin = settings, origin
        ranks = ranks or ALONE
        shared = ranks_for(ranks, settings.shards)
        self.extended_from: list[int] = []  # the numbers of characters with which it was to end before
        backend = resolve(device)
        self.corpus = (
            standard_library()
            if settings.text is None
            else ranks.first_alone(partial(encoded_text, settings.text, texts_folder()))  # one writes what all read
        )
        self.vocabulary = self._vocabulary()
        self.training: Any
        self.training, self.held_out = self.corpus.encode(self.vocabulary)
        manual_seed(settings.seed)
        self.model = new_model(settings, self.vocabulary)
        if origin is not None:
            origin.copy_weights(self.model)
        self.model.to(backend)
        optimizer = Adam(self.model.parameters(), lr=settings.lr)
        schedule = WarmupLinear(optimizer, settings.steps, warmup=_WARMUP)
        stream = TextStream(self.training, settings.window, settings.batch, _CHUNK, settings.seed)
        self.trainer = make_trainer(
            shared, self.model, character_loss, optimizer, stream, schedule, clip_norm=_MAX_NORM,
            precision=settings.precision, compiled=settings.compile_mode, carry_state=True,
        )  # fmt: skip

    def _vocabulary(self) -> CharacterVocabulary:
        if self.origin is not None:
            return self.origin.vocabulary_for(self.corpus.symbols)
        return CharacterVocabulary.code() if self.settings.text is None else CharacterVocabulary(self.corpus.symbols)

    @property
    def characters(self) -> int:
        """The number of characters that the model has been trained on."""
        return self.trainer.steps * self.settings.characters_per_step

    def loop(
        self,
        folder: str | os.PathLike[str] | RunFolder | None,
        state: Mapping[str, Any] | None = None,
        grace: float | None = GRACE,
    ) -> TextLoop:
        """The training loop, from the first step or from the `state` of a checkpoint; it writes into `folder`.

        With more characters than in the checkpoint the run is extended: its learning rate then follows the schedule of
        the new length from here on. Raises CheckpointError if the checkpoint is of something else, of another text, or
        of other settings than may be changed; ValueError if it has already seen more characters.
        """
        is_extended = False
        if state is not None:
            check(state, TEXT_RUN)
            is_extended = self._extend(state)
        metadata = self.metadata()
        loop = TextLoop(self, folder, metadata, is_extended, grace)
        if state is not None:
            changeable = {name: metadata["settings"][name] for name in CHANGEABLE}
            known = {**asdict(TextSettings()), **state["about"]["settings"]}
            saved = {**state["about"], "settings": {**known, **changeable}}
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
            if known["compiled"] != self.settings.compiled == "yes":  # it is asked for, where the run had another mode
                self.trainer.compiled = mode_of().target or False
            loop.resume(state)
            self.trainer.remark = "\n".join(filter(None, [self.trainer.remark, _of_other_versions(state, metadata)]))
            if is_extended:
                loop.early_stop.since_best = 0
        return loop

    def _extend(self, state: Mapping[str, Any]) -> bool:
        """Whether the run is to end with other characters than that of a checkpoint was to; notes the former number."""
        about, steps = state["about"], state["trainer"]["steps"]
        self.extended_from = [*about.get("extended_from", [])]
        before = about["settings"].get("characters", TextSettings.characters)
        if self.settings.characters == before:
            return False
        if self.settings.steps < steps:
            seen = steps * self.settings.characters_per_step
            raise ValueError(f"characters: the run has already seen {seen:,}, got {self.settings.characters:,}")
        self.extended_from.append(before)
        return True

    def _check_carried(self, carried: list[np.ndarray] | None) -> None:
        ranks, batch = self.trainer.ranks, self.settings.batch
        rows = [part.stop - part.start for part in ranks.cut(batch)] if self.settings.shards is not None else [batch]
        initial = [*map(self.model.recurrence.initial_state, rows)]
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
                "training_characters": len(self.training),
                "held_out_characters": len(self.held_out),
                "sha256": corpus.digest,
            },
            "versions": versions(resolve(self.model.device).xp),
            **({} if self.origin is None else {"started_from": self.origin.description}),
            **({"extended_from": self.extended_from} if self.extended_from else {}),
        }

    def evaluate(self) -> dict[str, float]:
        """The loss on excerpts of the held-out text, in nats/char."""
        with self.trainer.compiling():
            return {"held_out": float(character_losses(self.model, excerpts(self.held_out)).mean())}

    def sample(self) -> str:
        """A text that the model writes, other in each step, indented for the terminal."""
        prompt = "def " if self.settings.text is None else ""
        text = prompt + generate(self.model, self.vocabulary, _SAMPLE_LENGTH, prompt, seed=self.trainer.steps)
        return "".join(f"    | {line}\n" for line in text.splitlines())


class TextLoop(Loop):
    """The training loop of a text run: it counts characters, and prints a sample after each evaluation."""

    def __init__(
        self,
        run: TextRun,
        folder: str | os.PathLike[str] | RunFolder | None,
        metadata: Mapping[str, Any],
        is_extended: bool = False,
        grace: float | None = GRACE,
    ) -> None:
        settings = run.settings
        super().__init__(
            run.trainer, steps=settings.steps, evaluate=run.evaluate, evaluations=settings.evaluations,
            patience=settings.patience, folder=folder, metadata=metadata, grace=grace,
        )  # fmt: skip
        self.text_run, self.is_extended = run, is_extended
        self.units_per_step = settings.characters_per_step

    def position(self) -> dict[str, int]:
        return {"step": self.steps, "characters": self.text_run.characters}

    def report(self, record: Mapping[str, Any]) -> None:
        if "held_out" in record:
            loss, characters = record["held_out"], self.text_run.characters
            self.progress.write(f"{characters:,} characters: held-out loss {loss:.3f} nats/char")
            try:
                self.progress.write(self.text_run.sample())
            except ValueError as error:  # logits that are not finite, although the loss was
                raise TrainingError(f"step {self.steps:,}: {error}") from error


def texts_folder() -> Path | None:
    """The folder in which large texts are kept as ids, beside the compiled code; None if there is no such folder."""
    compiled = native_cache.folder()
    return None if compiled is None else compiled.parent / "texts"


def character_loss(logits: Any, ids: Any) -> Any:
    """Cross-entropy in nats/char. A text may be of one character: there `cross_entropy` itself would be refused."""
    return cross_entropy(logits, ids)


def new_model(settings: TextSettings, vocabulary: CharacterVocabulary) -> CharacterModel:
    """An untrained model with these settings."""
    return CharacterModel(
        len(vocabulary), settings.embedding, settings.hidden, settings.layers, settings.dropout, settings.cell
    )


def summarize(run: TextRun, loop: Loop) -> dict[str, Any]:
    """The results of a run: the loss on all held-out text beside n-gram baselines, JSON-serializable.

    Losses are in nats/char. The first character has no context and is not predicted. The loss without leading spaces is
    None for a text of nothing else.

    >>> print(train.summarize(run, loop)["held_out"])             # doctest: +SKIP
    """
    with run.trainer.compiling():
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


def _of_other_versions(state: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """A remark on a run that goes on with other versions than those of its checkpoint; empty if they are the same."""
    saved = state["about"]["versions"]
    found = [
        f"{name} {saved.get(name)}, now {now}" for name, now in metadata["versions"].items() if saved.get(name) != now
    ]
    if not found:
        return ""
    return (
        f"the checkpoint was made with {'; '.join(found)}: the run goes on, but maybe not bit for bit as it would have"
    )


def versions(namespace: Any = np) -> dict[str, str]:
    """Versions of this package, of Python, of NumPy, and of the array library with this namespace."""
    return {
        "tinygrad_gru": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        namespace.__name__: namespace.__version__,
    }
