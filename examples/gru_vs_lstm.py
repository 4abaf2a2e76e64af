"""GRU or LSTM? The same character model with either, at the same width and with as many parameters.

They learn the source of Python's standard library side by side, step by step in turn, so that whatever slows this
machine down slows all of them. A GRU has three sets of weights where an LSTM has four, and one state where it has two.

What one learns here: what a cell costs and what it gives; and that a loss means little without the characters and the
seconds that it took: the lead of the GRU is large at first, and shrinks as they go on (try --characters 3000000).

    python examples/gru_vs_lstm.py               # about a minute
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from pathlib import Path

from tinygrad_gru.train import TextRun, TextSettings, character_losses, excerpts, progress

GATES = {"gru": 3, "lstm": 4}


class Contestant:
    """A run, the time of each of its steps, and how well it did on held-out text on the way."""

    def __init__(self, name: str, settings: TextSettings):
        self.name, self.settings = name, settings
        self.run = TextRun(settings)
        self.seconds: list[float] = []
        self.course: list[tuple[int, float]] = []  # steps made, nats a character

    def step(self) -> float:
        began = time.perf_counter()
        loss = self.run.trainer.step().loss
        self.seconds.append(time.perf_counter() - began)
        return loss

    def judge(self) -> None:
        losses = character_losses(self.run.model, excerpts(self.run.held_out))
        self.course.append((len(self.seconds), float(losses.mean())))

    @property
    def seconds_per_step(self) -> float:
        return statistics.median(self.seconds)


def parameters(cell: str, hidden: int, embedding: int, symbols: int) -> int:
    """How many numbers a character model learns: E, then W, U and b of every gate, then the output's W and b."""
    recurrence = GATES[cell] * (embedding * hidden + hidden * hidden + hidden)
    return symbols * embedding + recurrence + hidden * symbols + symbols


def compare(gru: Contestant, lstm: Contestant) -> str:
    """How long the GRU needed to be as good as the LSTM was in the end."""
    slower = lstm.seconds_per_step / gru.seconds_per_step
    steps, goal = lstm.course[-1]
    reached = next((step for step, loss in gru.course if loss <= goal), None)
    if reached is None:
        return f"{lstm.name}: a step takes {slower:.2f} times as long, and the GRU was not as good in the end."
    share = reached / (steps * slower)
    return f"{lstm.name}: a step takes {slower:.2f} times as long; the GRU was as good after {share:.0%} of its time."


def draw(path: Path, contestants: list[Contestant]) -> None:
    """The held-out loss against characters and against seconds, as a PNG."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: matplotlib is not installed")
        return
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    by_characters, by_seconds = figure.subplots(1, 2, sharey=True)
    for contestant, style in zip(contestants, ("o-", "s-", "^--")):
        steps, losses = zip(*contestant.course)
        settings = contestant.settings
        characters = [step * settings.batch * settings.window / 1e6 for step in steps]
        by_characters.plot(characters, losses, style, label=contestant.name, markersize=4)
        by_seconds.plot([step * contestant.seconds_per_step for step in steps], losses, style, markersize=4)
    by_characters.set(xlabel="characters seen (millions)", ylabel="held-out loss (nats per character)")
    by_seconds.set(xlabel="seconds of training")
    for axes in (by_characters, by_seconds):
        axes.grid(alpha=0.2)
    by_characters.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"picture: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=128, help="width of the GRU (default: %(default)s)")
    parser.add_argument("--characters", type=int, default=1_000_000, help="for each to learn (default: %(default)s)")
    parser.add_argument("--text", help="a text file to learn in place of the standard library")
    parser.add_argument("--evaluations", type=int, default=8, help="on held-out text (default: %(default)s)")
    parser.add_argument(
        "--picture", type=Path, default=Path("runs/gru_vs_lstm.png"), help="where it goes (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    def contestant(name: str, cell: str, hidden: int) -> Contestant:
        shared = {"text": options.text, "characters": options.characters, "seed": options.seed}
        return Contestant(name, TextSettings(cell=cell, hidden=hidden, **shared))

    gru = contestant(f"GRU {options.hidden}", "gru", options.hidden)
    sizes = {"embedding": gru.settings.embedding, "symbols": len(gru.run.vocabulary)}
    budget = parameters("gru", options.hidden, **sizes)
    narrower = min(range(1, options.hidden + 1), key=lambda n: abs(parameters("lstm", n, **sizes) - budget))
    contestants = [
        gru,
        contestant(f"LSTM {options.hidden}, same width", "lstm", options.hidden),
        contestant(f"LSTM {narrower}, same parameters", "lstm", narrower),
    ]

    steps = gru.settings.steps
    due = {math.ceil(steps * (k + 1) / options.evaluations) for k in range(options.evaluations)}
    with progress(3 * steps, unit="steps") as display:
        display.write(f"{gru.run.corpus.name}, {options.characters:,} characters for each")
        for step in range(1, steps + 1):
            for one in contestants:
                loss = one.step()
                display.advance(1, loss=loss)
                if step in due:
                    one.judge()

    print(f"\n{'':27}{'parameters':>10}{'ms a step':>11}{'held out, nats a character':>29}")
    for one in contestants:
        milliseconds = 1e3 * one.seconds_per_step
        print(f"{one.name:27}{one.run.model.parameter_count():10,}{milliseconds:11.1f}{one.course[-1][1]:29.3f}")
    print("", *(compare(gru, lstm) for lstm in contestants[1:]), sep="\n")
    draw(options.picture, contestants)


if __name__ == "__main__":
    main()
