"""Agreement of training with PyTorch, Keras and autograd: same weights, same batches, 100 steps in float64.

Where training amplifies rounding, two runs of one program diverge by themselves, so a difference at the end proves
nothing, nor does its absence. Each run is compared with two others:

    growth  the peer against itself, from weights that differ in the last bit
    held    ours, reset to the peer's weights before every step: the error of one step, with the optimizer's state of
            all steps before

A run agrees if it ends within 1e-8 of the peer's, or if it diverges from it no more than the peer from itself; and in
both cases only if the error of every held step is at most 1e-8.

    python -m benchmarks.training_agreement             # 6 minutes
    python -m benchmarks.training_agreement --quick     # fewer and shorter; writes no results
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .timing import RESULTS, report, row
from .training_peers import PEERS, Batch, Ours, PyTorch, Trainer, Weights
from .training_programs import AutogradCharacters, OurCharacters, characters, keras_program, lines_of

#: Differences up to this count as equal.
TOLERANCE = 1e-8
#: And so do those of the peer from itself, one bit apart, times a factor: that bit is not our rounding.
FACTOR = 1000


@dataclass
class Agreement:
    """Per step: the losses of the peer, of ours and of the peer one bit apart; the largest differences of a weight."""

    losses: list[tuple[float, float, float]] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    growth: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether the run agrees; False for NaN."""
        alike = all(ours <= max(TOLERANCE, FACTOR * growth) for ours, growth in zip(self.ours, self.growth))
        return alike and all(step <= TOLERANCE for step in self.held)

    def cells(self) -> list[str]:
        return [
            f"{self.losses[0][0]:.4f} → {self.losses[-1][0]:.4f}", f"{max(self.ours):.0e}", f"{max(self.growth):.0e}",
            f"{max(self.held):.0e}", "yes" if self.holds else "**no**",
        ]  # fmt: skip


def difference(left: Weights, right: Weights) -> float:
    """The largest difference of any weight; NaN if there is one."""
    if left.keys() != right.keys():
        raise ValueError(f"left and right: expected the same weights, got {sorted(left)} and {sorted(right)}")
    return float(np.max([np.max(np.abs(left[name] - right[name]), initial=0) for name in right]))


def compare(ours: Callable[[], Trainer], theirs: Callable[[], Trainer], batches: Sequence[Any]) -> Agreement:
    """Train a peer and three others: ours, the peer from weights one bit apart, and ours held to the peer."""
    peer, apart, free, held = theirs(), theirs(), ours(), ours()
    start = peer.weights()
    apart.set({name: np.nextafter(value, np.inf, where=value != 0, out=value.copy()) for name, value in start.items()})
    free.set(start)
    found = Agreement()
    for batch in batches:
        held.set(peer.weights())
        found.losses.append((peer.step(batch), free.step(batch), apart.step(batch)))
        held.step(batch)
        now = peer.weights()
        for trainer, differences in ((free, found.ours), (apart, found.growth), (held, found.held)):
            differences.append(difference(trainer.weights(), now))
    return found


def sequences(steps: int, masked: bool, holes: bool) -> list[Batch]:
    """Ten batches, repeated; the targets are the sine of the first feature's cumulative sum, and tanh of the second."""
    random = np.random.default_rng(0)
    batches = []
    for _ in range(min(steps, 10)):
        x = random.standard_normal((5, 7, 3))
        present = np.arange(7) < random.integers(1, 8, 5)[:, None]
        if holes:
            present &= random.random((5, 7)) < 0.8
            present[:, 0] |= ~present.any(axis=1)
        target = np.stack([np.sin(np.cumsum(x[..., 0], axis=1)), np.tanh(x[..., 1])], axis=-1)
        batches.append(Batch(x, target, present if masked else None))
    return [batches[step % len(batches)] for step in range(steps)]


#: The layers that are compared: our class and its settings.
LAYERS = {
    "LSTM": ("LSTM", {}),
    "LSTM, both directions, masked": ("LSTM", {"bidirectional": True}),
    "GRU, reset after": ("GRU", {"reset_after": True}),
    "GRU, reset after, both directions, masked": ("GRU", {"reset_after": True, "bidirectional": True}),
    "GRU, reset before": ("GRU", {}),
    "GRU, reset before, both directions, masked": ("GRU", {"bidirectional": True}),
}


def agreement(peer: str, layer: str, rule: str, steps: int = 100) -> Agreement:
    """The agreement of a layer of `LAYERS` with that peer's layer, with its optimizer of that name."""
    kind, settings = LAYERS[layer]
    theirs = PEERS[peer]
    batches = sequences(steps, "masked" in layer, holes=peer == "Keras")
    return compare(lambda: Ours(theirs, kind, settings, rule), lambda: theirs(kind, settings, rule), batches)


def characters_beside_autograd(seed: int, steps: int = 100) -> Agreement:
    """The agreement of the character RNN, trained on the text of our license."""
    text, start = lines_of(RESULTS.parents[1] / "LICENSE"), characters(seed)
    return compare(lambda: OurCharacters(start), lambda: AutogradCharacters(start), [text] * steps)


def table_of_layers(quick: bool) -> Iterator[str]:
    yield row(["peer", "layer", "optimizer", "loss", "ours", "growth", "held", "agrees"])
    yield row(["---"] * 8)
    for peer, trainer in PEERS.items():
        for layer in LAYERS:
            if peer == "PyTorch" and "before" in layer:
                continue  # it has none
            for rule in ["Adam"] if quick else trainer.rules:
                yield row([peer, layer, rule, *agreement(peer, layer, rule, 20 if quick else 100).cells()])


def table_of_characters(quick: bool) -> Iterator[str]:
    yield row(
        ["seed", "step", "loss: autograd", "ours", "autograd, one bit apart", "weights: ours", "growth", "held so far"]
    )
    yield row(["---"] * 8)
    for seed in range(1 if quick else 4):
        found = characters_beside_autograd(seed)
        for step in (10, 20, 40, 60, 100):
            losses = [f"{loss:.9f}" for loss in found.losses[step - 1]]
            weights = [f"{differences[step - 1]:.0e}" for differences in (found.ours, found.growth)]
            yield row([str(seed), str(step), *losses, *weights, f"{max(found.held[:step]):.0e}"])


def table_of_epochs(dtype: str, epochs: int) -> Iterator[str]:
    curves = keras_program(dtype, epochs)
    yield row(["epoch", *curves])
    yield row(["---"] * (1 + len(curves)))
    for epoch, (theirs, *others) in enumerate(zip(*curves.values()), 1):
        yield row([str(epoch), f"{theirs:.5f}", *(f"{loss:.5f} ({abs(loss - theirs):.0e})" for loss in others)])


def two_biases(steps: int = 100) -> str:
    """How far a GRU ends from PyTorch's if PyTorch trains both biases."""
    kind, settings = LAYERS["GRU, reset after"]
    found = compare(
        lambda: Ours(PyTorch, kind, settings, "Adam"),
        lambda: PyTorch(kind, settings, "Adam", both_biases=True),
        sequences(steps, masked=False, holes=False),
    )
    theirs, ours, _ = found.losses[-1]
    return f"after {steps} steps of Adam the loss of a GRU is {theirs:.4f} there and {ours:.4f} here"


EXPLANATION = f"""\
Weights and batches are the same, float64. **ours** is the largest difference of any weight after any step between us
and the peer; **growth**, between the peer and itself from weights that differ in the last bit; **held**, between one
step of ours and one of the peer, from the peer's weights. A run agrees if the difference is at most {TOLERANCE:.0e}, or
{FACTOR} times the growth at that step, and that of every held step at most {TOLERANCE:.0e}."""

LAYERS_AND_OPTIMIZERS = """\
## Layers and optimizers

100 steps on ten batches in turn, masked ones with sequences of 1 to 7 steps, for Keras with gaps too. The rules are the
peer's: PyTorch's are ours, and those in which Keras differs are in `benchmarks/training_peers.py`.
"""

CHARACTERS = """\
## A character RNN beside HIPS autograd

40 tanh units and Adam with a learning rate of 0.1, trained on the text of our license. Losses are those before the
step; the other columns are as above.
"""

KERAS = """\
## A bidirectional LSTM with masks, fitted by Keras

The losses that `fit` reports, one per epoch, and in parentheses their distance from Keras's."""

CONCLUSIONS = """\
## Why a port ends with other weights

- **Rounding, amplified.** The character RNN is equal to nine decimals for ten steps and then diverges, but so does
  autograd from itself, one bit apart; reset to autograd's weights before every step, the error of ours is never more
  than in the last column. The LSTM with masks, in float32, is equal to five decimals for some epochs and then diverges
  from Keras, but so does Keras from itself; in float64, where rounding starts at 1e-16, all three are equal to nine
  decimals.
- **Adam's ε.** Keras adds it before the second moment is corrected, we and PyTorch after. Where gradients are small,
  that is a difference in every step, and `eps=1e-7` alone does not remove it. `KerasAdam` in
  `benchmarks/training_peers.py` does. Keras's RMSprop and Adagrad have their ε under the root.
- **Losses from probabilities.** Keras clips probabilities to 1e-7 from 0 and 1, where the gradient is zero. From the
  first prediction on that is clipped, a loss from logits differs.
- **A learning rate in float32.** Keras keeps the learning rate in float32 when all else is float64: 0.01 is off by
  2e-10 there. The rates here are powers of two.
- **Two biases.** PyTorch's GRU, LSTM and RNN, and Keras's GRU with `reset_after`, add two biases where the equations
  have one, and train both, so that their sum takes twice the step: {two_biases}.
  Here the second one is held at zero.
"""


def main(quick: bool = False) -> None:
    lines = [EXPLANATION, "", LAYERS_AND_OPTIMIZERS, *table_of_layers(quick)]
    lines += ["", CHARACTERS, *table_of_characters(quick), "", KERAS]
    for dtype in ("float64", "float32"):
        lines += ["", f"### {dtype}", "", *table_of_epochs(dtype, 2 if quick else 12)]
    lines += ["", CONCLUSIONS.format(two_biases=two_biases()).rstrip()]
    if quick:
        print("\n".join(lines))
        return
    command = "OMP_NUM_THREADS=1 python -m benchmarks.training_agreement"
    report("training_agreement", "Training beside peers", command, lines, packages=("torch", "keras", "autograd"))


if __name__ == "__main__":
    main("--quick" in sys.argv)
