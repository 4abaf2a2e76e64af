"""GRU or LSTM? The same character model with either, at the same width and with as many parameters.

They are trained on the source of Python's standard library, alternating step by step, so that a busy machine slows all
of them alike. A GRU has three sets of weights where an LSTM has four, and one state where it has two.

What one learns here: the cost and the benefit of a cell; and that a loss means little without the number of characters
and the seconds: the GRU's lead is large at first, and shrinks with more training (try --characters 3000000).

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
    """A run with the time of each step, and its held-out losses during training."""

    def __init__(self, name: str, settings: TextSettings):
        self.name, self.settings = name, settings
        self.run = TextRun(settings)
        self.seconds: list[float] = []
        self.curve: list[tuple[int, float]] = []  # steps, nats/char

    def step(self) -> float:
        began = time.perf_counter()
        loss = self.run.trainer.step().loss
        self.seconds.append(time.perf_counter() - began)
        return loss

    def evaluate(self) -> None:
        losses = character_losses(self.run.model, excerpts(self.run.held_out))
        self.curve.append((len(self.seconds), float(losses.mean())))

    @property
    def seconds_per_step(self) -> float:
        return statistics.median(self.seconds)


def parameters(cell: str, hidden: int, embedding: int, symbols: int) -> int:
    """The parameter count of a character model: E, then W, U and b of every gate, then the output's W and b."""
    recurrence = GATES[cell] * (embedding * hidden + hidden * hidden + hidden)
    return symbols * embedding + recurrence + hidden * symbols + symbols


def compare(gru: Contestant, lstm: Contestant) -> str:
    """The share of the LSTM's time that the GRU took to reach the LSTM's final loss."""
    slower = lstm.seconds_per_step / gru.seconds_per_step
    steps, target = lstm.curve[-1]
    reached = next((step for step, loss in gru.curve if loss <= target), None)
    if reached is None:
        return f"{lstm.name}: a step takes {slower:.2f} times as long, and the GRU did not reach its final loss."
    share = reached / (steps * slower)
    return f"{lstm.name}: a step takes {slower:.2f} times as long; the GRU reached its loss in {share:.0%} of its time."


def plot(path: Path, contestants: list[Contestant]) -> None:
    """The held-out loss against characters and against seconds, as a PNG."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    by_characters, by_seconds = figure.subplots(1, 2, sharey=True)
    for contestant, style in zip(contestants, ("o-", "s-", "^--")):
        steps, losses = zip(*contestant.curve)
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
    print(f"plot: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=128, help="width of the GRU (default: %(default)s)")
    parser.add_argument(
        "--characters", type=int, default=1_000_000, help="of training text per network (default: %(default)s)"
    )
    parser.add_argument("--text", help="a text file to train on in place of the standard library")
    parser.add_argument(
        "--evaluations", type=int, default=8, help="number of evaluations on held-out text (default: %(default)s)"
    )
    parser.add_argument(
        "--picture", type=Path, default=Path("runs/gru_vs_lstm.png"), help="the file of the plot (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    def make(name: str, cell: str, hidden: int) -> Contestant:
        shared = {"text": options.text, "characters": options.characters, "seed": options.seed}
        return Contestant(name, TextSettings(cell=cell, hidden=hidden, **shared))

    gru = make(f"GRU {options.hidden}", "gru", options.hidden)
    sizes = {"embedding": gru.settings.embedding, "symbols": len(gru.run.vocabulary)}
    budget = parameters("gru", options.hidden, **sizes)
    narrower = min(range(1, options.hidden + 1), key=lambda n: abs(parameters("lstm", n, **sizes) - budget))
    contestants = [
        gru,
        make(f"LSTM {options.hidden}, same width", "lstm", options.hidden),
        make(f"LSTM {narrower}, same parameters", "lstm", narrower),
    ]

    steps = gru.settings.steps
    evaluated = {math.ceil(steps * (k + 1) / options.evaluations) for k in range(options.evaluations)}
    with progress(3 * steps, unit="steps") as display:
        display.write(f"{gru.run.corpus.name}, {options.characters:,} characters for each")
        for step in range(1, steps + 1):
            for contestant in contestants:
                loss = contestant.step()
                display.advance(1, loss=loss)
                if step in evaluated:
                    contestant.evaluate()

    print(f"\n{'':27}{'parameters':>10}{'ms per step':>13}{'held out, nats/char':>22}")
    for contestant in contestants:
        milliseconds = 1e3 * contestant.seconds_per_step
        model, loss = contestant.run.model, contestant.curve[-1][1]
        print(f"{contestant.name:27}{model.parameter_count():10,}{milliseconds:13.1f}{loss:22.3f}")
    print("", *(compare(gru, lstm) for lstm in contestants[1:]), sep="\n")
    plot(options.picture, contestants)


if __name__ == "__main__":
    main()
