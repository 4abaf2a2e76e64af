"""Signals that reach the ranks at different moments: all stop after the same step, and none is taken for two."""

import signal
import sys

import numpy as np
import pytest

from tinygrad_gru import nn, ops, optim, parallel, train
from tinygrad_gru.parallel.transport import Single

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def heard():
    """Also where what has started the tests ignores Ctrl-C, as a shell does of a job in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Two(Single):
    """A transport whose other rank sends the same, `while_waiting` (values of both ranks) for the second gather: that
    is the first one about signals."""

    size, gathers = 2, 0

    def __init__(self, while_waiting):
        self.while_waiting = while_waiting

    def gather(self, values):
        self.gathers += 1
        rows = np.stack([values, values])
        if self.gathers == 2:
            self.while_waiting(rows)
        return rows

    def gather_bytes(self, content):
        return [content, content]


def run(while_waiting, **settings):
    model = nn.Linear(1, 1)
    trainer = train.Trainer(model, ops.mse, optim.SGD(model.parameters(), lr=0.1), [(np.ones((4, 1)), np.ones((4, 1)))])
    trainer.ranks = parallel.Ranks(Two(while_waiting), 2, exact=False)
    loop = train.Loop(trainer, steps=5, **settings)
    assert not loop.run(train.Progress())
    return loop


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_comes_while_a_rank_waits_is_not_lost(number):
    loop = run(lambda rows: signal.raise_signal(number))
    assert (loop.steps, loop.signal) == (1, number), "after the step that the other rank makes, too"


class OwnSignal(train.Callback):
    def __init__(self, number):
        self.number = number

    def on_train_end(self, loop):
        signal.raise_signal(self.number)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_own_signal_after_that_of_another_rank_is_not_a_second_one(number):
    """A launcher sends it to all ranks, one after another: it must not end the checkpoint that is written meanwhile."""

    def other(rows):
        rows[1, 1] = number

    loop = run(other, callbacks=OwnSignal(number))
    assert (loop.steps, loop.signal) == (0, number) and "interrupted by" in loop.stopped
