"""Training beside PyTorch, Keras and autograd: a few of the runs of benchmarks/training_agreement.py, shortened."""

from __future__ import annotations

import pytest

from tinygrad_gru import optim

for peer in ("torch", "keras", "autograd"):
    pytest.importorskip(peer)

from benchmarks import training_agreement, training_programs  # noqa: E402
from benchmarks.training_peers import Keras, Rule  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras itself


RUNS = [
    ("PyTorch", "LSTM, both directions, masked", "AMSGrad"),
    ("PyTorch", "GRU, reset after, both directions, masked", "RMSprop, centered, momentum"),
    ("Keras", "LSTM, both directions, masked", "AdamW"),
    ("Keras", "GRU, reset after", "RMSprop"),
    ("Keras", "GRU, reset before, both directions, masked", "Nesterov"),
]


@pytest.mark.parametrize(("peer", "layer", "rule"), RUNS, ids=map(", ".join, RUNS))
def test_layers_train_as_the_peer_does(peer, layer, rule):
    found = training_agreement.agreement(peer, layer, rule, steps=12)
    assert max(found.ours) < 1e-13 and max(found.held) < 1e-13
    losses = [theirs for theirs, _, _ in found.losses]
    assert len(losses) == 12 and max(losses[-2:]) < max(losses[:2])


def test_the_divergence_from_autograd_is_that_of_autograd_from_itself():
    """Equal to nine decimals at first, and then not; reset to autograd's weights before each step, always."""
    found = training_agreement.characters_beside_autograd(seed=2, steps=30)
    assert found.ours[4] < 1e-9 and found.growth[4] < 1e-9 and found.growth[-1] > 1e-5
    assert max(found.held) < 1e-10 and found.holds


def test_another_epsilon_is_detected(monkeypatch):
    """Adam as we and PyTorch define it, beside Keras's: the losses hardly differ."""
    adam = Rule(lambda p: optim.Adam(p, lr=2**-7, eps=1e-7), Keras.rules["Adam"].theirs)
    monkeypatch.setitem(Keras.rules, "Adam", adam)
    found = training_agreement.agreement("Keras", "LSTM", "Adam", steps=8)
    assert not found.holds and max(abs(ours - theirs) for theirs, ours, _ in found.losses) < 1e-4


def test_fitting_masked_sequences_agrees_with_keras(monkeypatch):
    """The losses that `fit` reports, in float64; another ε shows in the first epoch."""
    monkeypatch.setattr(training_programs, "COUNT", 64)
    theirs, _, ours, from_logits, other_eps = training_programs.keras_program("float64", epochs=2).values()
    assert ours == pytest.approx(theirs, abs=1e-13) and from_logits == pytest.approx(theirs, abs=1e-13)
    assert other_eps != pytest.approx(theirs, abs=1e-9)
