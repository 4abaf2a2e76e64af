"""Watch it learn: a character model that reads Python's standard library, as a moving picture.

Each frame shows the loss so far, and what the model writes at that moment when asked to continue "def ".

What one learns here: a loss of 3.2 nats per character knows how often each letter occurs, 2.4 which follows which; at
1.7 there are words, indentation and brackets that close.

    python examples/watch_it_learn.py            # half a minute; writes runs/watch_it_learn.gif
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from tinygrad_gru.train import TextRun, TextSettings, generate, progress

FRAMES, COLORS = 36, 32
MILLISECONDS, AT_END = 330, 3000
LINES, COLUMNS = 13, 58


def main() -> None:
    options = parse()
    run = TextRun(TextSettings(text=options.text, hidden=options.hidden, characters=options.characters))
    steps, per_step = run.settings.steps, run.settings.characters_per_step
    shown = set(np.geomspace(1, steps, FRAMES).astype(int))  # learning is fastest at first
    movie, losses = Movie(f"A GRU with {run.model.parameter_count():,} parameters reads", steps * per_step), []
    with progress(steps * per_step, unit="characters") as display:
        for step in range(1, steps + 1):
            losses.append(run.trainer.step().loss)
            display.advance(per_step, loss=losses[-1])
            if step in shown:
                text = "def " + generate(run.model, run.vocabulary, LINES * COLUMNS, "def ", temperature=0.6, seed=1)
                movie.draw(per_step * np.arange(1, step + 1), losses, text)
    movie.save(options.out)
    print(f"after {steps * per_step:,} characters, {losses[-1]:.2f} nats/char:\n\n{text}\n\nwrote {options.out}")


class Movie:
    """A figure with the loss curve on the left and a text on the right, drawn frame by frame."""

    def __init__(self, title: str, characters: int):
        self.figure = Figure(figsize=(8.4, 3.2), dpi=100, layout="constrained")
        self.canvas = FigureCanvasAgg(self.figure)
        self.axes, self.page = self.figure.subplots(1, 2, width_ratios=(2, 3))
        self.title, self.characters = title, characters
        self.frames: list[Image.Image] = []

    def draw(self, seen: np.ndarray, losses: list[float], text: str) -> None:
        self.axes.clear()
        self.axes.plot(seen / 1e6, losses, color="tab:blue", alpha=0.3, linewidth=0.8)
        self.axes.plot(seen / 1e6, running_mean(losses), color="tab:blue", linewidth=1.8)
        self.axes.set(xlim=(0, self.characters / 1e6), ylim=(1.0, 4.8))
        self.axes.set(xlabel="characters seen (millions)", ylabel="loss (nats/char)")
        self.axes.grid(alpha=0.2)
        self.page.clear()
        self.page.set_axis_off()
        self.page.text(0, 1, page_of(text), family="monospace", size=8, va="top", linespacing=1.4, parse_math=False)
        self.figure.suptitle(
            f"{self.title}: {seen[-1]:,} characters, {running_mean(losses)[-1]:.2f} nats/char", size=10
        )
        self.canvas.draw()
        self.frames.append(Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3]).quantize(COLORS))

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        first, *others = self.frames
        durations = [MILLISECONDS] * len(others) + [AT_END]
        first.save(path, save_all=True, append_images=others, duration=durations, loop=0, optimize=True)


def page_of(text: str) -> str:
    """The first lines of a text, long ones wrapped, without what a font cannot show."""
    lines = [line[k : k + COLUMNS] for line in text.splitlines() for k in range(0, max(len(line), 1), COLUMNS)]
    return "\n".join("".join(c if c.isascii() and c.isprintable() else "·" for c in line) for line in lines[:LINES])


def running_mean(losses: list[float]) -> np.ndarray:
    """The mean of each loss and of those before it, up to 24 and a fifth of all."""
    sums = np.cumsum([0.0, *losses])
    ends = np.arange(1, len(losses) + 1)
    begins = ends - np.minimum(25, 1 + ends // 5)
    return (sums[ends] - sums[begins]) / (ends - begins)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", help="a UTF-8 text file (default: the source of Python's standard library)")
    parser.add_argument("--characters", type=int, default=1_500_000, help="characters to train on (%(default)s)")
    parser.add_argument("--hidden", type=int, default=192, help="units (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/watch_it_learn.gif"), help="the picture (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
