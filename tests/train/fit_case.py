"""Data, models and callbacks for the tests of train.fit."""

import signal

import numpy as np

from tinygrad_gru import manual_seed, nn, ops, train
from tinygrad_gru.train import Callback

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(50, 3)), RANDOM.normal(size=(50, 2))
SEQUENCES = RANDOM.normal(size=(40, 6, 3))
LABELS = (SEQUENCES[:, :, 0].sum(axis=1) > 0).astype(int)


def network(dropout=0.3):
    manual_seed(1)
    return nn.Sequential(nn.Linear(3, 8), ops.tanh, nn.Dropout(dropout), nn.Linear(8, 2))


class Classifier(nn.Module):
    def __init__(self, batch_first=True):
        self.gru, self.output = nn.GRU(3, 5, batch_first=batch_first), nn.Linear(5, 2)

    def forward(self, x, lengths=None):
        return self.output(self.gru(x, lengths=lengths)[1][-1])


class Stateful(nn.Module):
    """An output at every step, and the state of two different layers."""

    def __init__(self):
        self.gru, self.lstm, self.output = nn.GRU(3, 4), nn.LSTM(4, 4), nn.Linear(4, 1)

    def forward(self, x, state=None):
        first, second = (None, None) if state is None else state
        y, first = self.gru(x, first)
        y, second = self.lstm(ops.dropout(y, p=0.2, training=self.training), second)
        return self.output(y), (first, second)


def stream():
    """Windows of two streams of a series."""
    x = RANDOM.normal(size=(60, 2, 3))
    return [(x[k : k + 5], x[k : k + 5].cumsum(axis=0)[..., :1]) for k in range(0, 60, 5)]


STREAM = stream()


def assert_identical(left, right):
    left, right = left.state_dict(), right.state_dict()
    assert left.keys() == right.keys()
    for name in left:
        assert np.array_equal(left[name], right[name]), name


def quiet(model, loss, given, **settings):
    return train.fit(model, loss, given, progress=False, **settings)


class Counter(Callback):
    """Stops at a step by Ctrl-C; its count is part of the state."""

    def __init__(self, stop_at=None, number=None):
        self.stop_at, self.number, self.count = stop_at, number, 0

    def on_step_end(self, loop, record):
        self.count += 1
        if loop.steps == self.stop_at:
            signal.raise_signal(self.number or signal.SIGINT)

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]
