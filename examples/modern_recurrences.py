"""What do the recurrent cells of today give, and what do they give up? Two figures of papers, and a claim, made small.

minGRU (Feng et al. 2024) takes the state out of a GRU's gates. What is left is linear in the state, unit by unit, with
fewer parameters, and can be computed for all steps in parallel. Three questions:

1. How much faster is that? The paper's Figure 1: time of a training pass against the length of the sequences. Its
   abstract (of version 2) has 175 times the speed of a GRU at length 512.
2. What does it cost? The paper's Table 1, selective copying: four letters stand anywhere among blanks, and are to be
   named in their order. A gate that sees one input at a time does not know which of the letters it sees, so one layer
   must fail, and a second layer, which sees what the first has counted, must not. The paper's networks, on much
   longer sequences, are right on few letters with one layer, and on nearly all with two and three.
3. What can no linear recurrence of that kind do? Parity: is the number of ones so far odd? Beck et al. 2024 find that
   sLSTM, whose gates see the state, learns it and goes on where sequences are longer than in training, and that
   recurrences without such gates do not (their Figure 4, state tracking).

What one learns here: another cell is another name, `nn.MinGRU` for `nn.GRU`; what a recurrence can compute follows from
what its gates see; and that a figure from a GPU need not hold on another machine.

    python examples/modern_recurrences.py        # two minutes
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from tinygrad_gru import Tensor, grad, manual_seed, nn, no_grad, ops
from tinygrad_gru.optim import Adam, clip_gradient_norm
from tinygrad_gru.train import progress

LETTERS, BLANK, ASK = 8, 8, 9
#: The steps at which the share of right parities is printed.
SHOWN = (4, 16, 64, 256)
#: The width and the batch of the passes that are timed.
WIDTH, BATCH = 64, 8
#: Their gates see the state, or do not: then the recurrence is linear.
NONLINEAR = {"GRU": nn.GRU, "LSTM": nn.LSTM, "sLSTM": nn.SLSTM}
LINEAR = {"minGRU": nn.MinGRU, "minLSTM": nn.MinLSTM, "LRU": nn.LRU}
TRACKERS = {**NONLINEAR, **LINEAR}


class Copier(nn.Module):
    """Residual blocks: a normalization, a minGRU, and a linear map."""

    def __init__(self, layers: int, hidden: int = 64, width: int = 32):
        self.embedding = nn.Embedding(LETTERS + 2, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(layers)])
        self.recurrences = nn.ModuleList([nn.MinGRU(width, hidden) for _ in range(layers)])
        self.maps = nn.ModuleList([nn.Linear(hidden, width) for _ in range(layers)])
        self.output = nn.Linear(width, LETTERS)

    def forward(self, ids: np.ndarray) -> Tensor:
        x = self.embedding(ids)
        for norm, recurrence, linear in zip(self.norms, self.recurrences, self.maps):
            x = x + linear(recurrence(norm(x))[0])
        return self.output(x)


class Tracker(nn.Module):
    """One recurrent layer, then a layer that is not linear, so that no cell lacks one."""

    def __init__(self, layer: type[nn.Recurrent], hidden: int = 32):
        self.embedding = nn.Embedding(2, hidden)
        self.recurrence = layer(hidden, hidden)
        self.hidden, self.output = nn.Linear(hidden, hidden), nn.Linear(hidden, 2)

    def forward(self, bits: np.ndarray) -> Tensor:
        return self.output(ops.gelu(self.hidden(self.recurrence(self.embedding(bits))[0])))


def copying(random: np.random.Generator, count: int, length: int, letters: int) -> tuple[np.ndarray, np.ndarray]:
    """Letters among blanks, then as many questions; the answers are those letters, at the questions."""
    places = np.sort(random.random((length, count)).argsort(axis=0)[:letters], axis=0)
    answers = random.integers(0, LETTERS, (letters, count))
    ids = np.full((length + letters, count), BLANK)
    ids[places, np.arange(count)] = answers
    ids[length:] = ASK
    return ids, answers


def parity(random: np.random.Generator, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Bits, and at every step whether the number of ones so far is odd."""
    bits = random.integers(0, 2, (length, count))
    return bits, bits.cumsum(axis=0) % 2


def train(model: nn.Module, batches, steps: int, lr: float, display) -> None:
    optimizer = Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        ids, answers = batches()
        loss = ops.cross_entropy(model(ids)[-len(answers) :], answers)
        optimizer.zero_grad()
        loss.backward()
        clip_gradient_norm(model.parameters(), 1.0)
        optimizer.step()
        display.advance(1, loss=loss.item())


def right(model: nn.Module, ids: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """The percentage of right answers at each of the last steps."""
    with no_grad(), model.evaluating():
        logits = model(ids)[-len(answers) :].numpy()
    return 100 * (logits.argmax(axis=-1) == answers).mean(axis=1)


def copies(options: argparse.Namespace, display) -> dict[str, list[float]]:
    """The percentage of letters that are named right, in every run, by the number of layers."""
    results = {}
    for layers in (1, 2, 3):
        results[f"{layers} layer{'s' * (layers > 1)}"] = shares = []
        for seed in range(options.runs):
            manual_seed(seed)
            random, model = np.random.default_rng(seed), Copier(layers)
            shape = options.length, options.letters
            train(model, lambda r=random, s=shape: copying(r, 32, *s), options.steps, 0.005, display)
            shares.append(float(right(model, *copying(np.random.default_rng(1000), 500, *shape)).mean()))
    return results


def tracks(options: argparse.Namespace, display) -> dict[str, list[np.ndarray]]:
    """By cell, in every run the percentage of right parities at every step, after training on sequences of 16."""
    results = {}
    for name, layer in TRACKERS.items():
        results[name] = shares = []
        for seed in range(options.runs):
            manual_seed(seed)
            random, model = np.random.default_rng(seed), Tracker(layer)
            train(model, lambda r=random: parity(r, 32, 16), options.steps // 2, 0.005, display)
            shares.append(right(model, *parity(np.random.default_rng(1000), 500, SHOWN[-1])))
    return results


def speeds(options: argparse.Namespace, display) -> dict[str, list[float]]:
    """Milliseconds of a training pass at every length, by cell: the least of several, taking turns."""
    results: dict[str, list[float]] = {"GRU": [], "minGRU": []}
    for length in options.timed:
        x = Tensor(np.random.default_rng(0).standard_normal((length, BATCH, WIDTH)), dtype="float32")
        layers = {"GRU": nn.GRU(WIDTH, WIDTH), "minGRU": nn.MinGRU(WIDTH, WIDTH)}
        seconds: dict[str, list[float]] = {name: [] for name in layers}
        for _ in range(1 + options.repetitions):  # the first compiles
            for name, layer in layers.items():
                began = time.perf_counter()
                grad(layer(x)[0].sum(), list(layer.parameters()))
                seconds[name].append(time.perf_counter() - began)
        for name in layers:
            results[name].append(1e3 * min(seconds[name][1:]))
        display.advance(1)
    return results


def spread(values: list[float]) -> str:
    """The mean, and the range over the runs."""
    return f"{statistics.mean(values):5.1f} %  ({min(values):.1f} to {max(values):.1f})"


def plot(path: Path, options: argparse.Namespace, seconds: dict, copied: dict, tracked: dict) -> None:
    """The three figures side by side, as a PNG."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    speed, copy, track = figure.subplots(1, 3)
    for (name, milliseconds), style in zip(seconds.items(), ("o-", "s-")):
        speed.loglog(options.timed, milliseconds, style, label=name)
    speed.set(title="training pass", xlabel="length", ylabel="milliseconds")
    copy.boxplot(list(copied.values()), whis=(0, 100))
    copy.set_xticklabels(list(copied))
    copy.axhline(100 / LETTERS, color="gray", linestyle=":", label="guessing")
    copy.set(title="selective copying, minGRU", ylabel="% right", ylim=(0, 103))
    steps = np.arange(1, SHOWN[-1] + 1)
    for k, (name, runs) in enumerate(tracked.items()):
        style = {"linestyle": "-" if name in NONLINEAR else "--", "linewidth": 5 - 2 * k if name in NONLINEAR else 1.5}
        track.semilogx(steps, np.mean(runs, axis=0), base=2, label=name, **style)
    track.axhline(50, color="gray", linestyle=":")
    track.axvline(16, color="gray", linestyle=":")
    track.set(title="parity, trained on 16 steps", xlabel="step", ylabel="% right", ylim=(0, 103))
    for axes in (speed, copy, track):
        axes.grid(alpha=0.2)
        axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"plot: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="of every network, with other seeds (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=800, help="training steps of a copier (default: %(default)s)")
    parser.add_argument("--length", type=int, default=32, help="of the sequences to copy from (default: %(default)s)")
    parser.add_argument("--letters", type=int, default=4, help="to copy (default: %(default)s)")
    parser.add_argument(
        "--timed", type=int, nargs="+", default=[64, 256, 1024, 4096], help="lengths to time (default: %(default)s)"
    )
    parser.add_argument("--repetitions", type=int, default=5, help="of what is timed (default: %(default)s)")
    parser.add_argument(
        "--picture",
        type=Path,
        default=Path("runs/modern_recurrences.png"),
        help="the file of the plot (default: %(default)s)",
    )
    options = parser.parse_args()

    trained = options.runs * (3 * options.steps + len(TRACKERS) * (options.steps // 2))
    with progress(trained + len(options.timed), unit="steps") as display:
        seconds = speeds(options, display)
        copied = copies(options, display)
        tracked = tracks(options, display)

    print(f"\n1. A training pass, batch {BATCH}, {WIDTH} units: milliseconds\n")
    print(f"{'length':>8}{'GRU':>10}{'minGRU':>10}{'GRU over minGRU':>18}")
    for length, slow, fast in zip(options.timed, seconds["GRU"], seconds["minGRU"]):
        print(f"{length:8,}{slow:10.2f}{fast:10.2f}{slow / fast:18.1f}")
    print(f"\n2. Selective copying, {options.letters} letters among {options.length} steps, guessing 12.5 %\n")
    for name, shares in copied.items():
        print(f"minGRU, {name:10}{spread(shares)}")
    print(f"\n3. Parity, trained on 16 steps: right, mean over {options.runs} runs (range)\n")
    print(f"{'':10}" + "".join(f"  {f'step {step}':26}" for step in SHOWN).rstrip())
    for name, runs in tracked.items():
        columns = ([float(run[step - 1]) for run in runs] for step in SHOWN)
        print(f"{name:10}" + "".join(f"{spread(column):28}" for column in columns).rstrip())
    plot(options.picture, options, seconds, copied, tracked)


if __name__ == "__main__":
    main()
