"""What came of a run, in numbers and in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data import ngram_losses
from .evaluate import character_losses, leading_spaces
from .loop import Loop
from .text_run import TextRun


def summarize(run: TextRun, loop: Loop) -> dict[str, Any]:
    """Judge the run's model on all held-out text, beside models that only count; can be written as JSON.

    Losses are nats a character. The first character is not judged, having none before it. A text of leading spaces
    alone has no loss without them: None.
    """
    losses = character_losses(run.model, run.held_out)
    visible = losses[~leading_spaces(run.held_out, run.vocabulary)[1:]]
    unigram, bigram = ngram_losses(run.training, run.held_out, len(run.vocabulary))
    return {
        "parameters": run.model.parameter_count(),
        "characters_seen": run.trainer.characters,
        "characters_per_second": loop.characters_per_second,
        "held_out": float(losses.mean()),
        "held_out_without_leading_spaces": float(visible.mean()) if visible.size else None,
        "unigram": unigram,
        "bigram": bigram,
        "skipped_steps": run.trainer.scaler.skipped,
        "backend": run.model.device,
        **run.about(),
    }


def in_words(summary: dict[str, Any], folder: Path) -> str:
    """A few lines for the terminal."""
    corpus, settings = summary["corpus"], summary["settings"]
    rate = summary["characters_per_second"]
    speed = f"at {rate:,.0f} a second" if rate else "with no step left to make"
    source = corpus["name"] if corpus["files"] == 1 else f"{corpus['name']} ({corpus['files']} files)"
    skipped = f", {summary['skipped_steps']:,} steps skipped" if summary["skipped_steps"] else ""
    place = f"{summary['backend']}, {settings['precision']}{skipped}"
    visible = summary["held_out_without_leading_spaces"]
    without = "" if visible is None else f", {visible:.3f} without leading spaces"
    return f"""\
{settings["cell"].upper()}, hidden {settings["hidden"]}: {summary["parameters"]:,} parameters on {place}
{summary["characters_seen"]:,} characters seen, {speed}, of {source}
held-out loss:  {summary["held_out"]:.3f} nats a character{without}
by counting:    {summary["unigram"]:.3f} (unigram), {summary["bigram"]:.3f} (bigram)
files of this run: {folder}"""
