"""Every kind of batches through `train.fit`, `evaluate` and `predict`."""

import numpy as np
import pytest

from tinygrad_gru import Tensor, manual_seed, nn, no_grad, ops, train
from tinygrad_gru.data import (
    ArrayBatches,
    SequenceBatch,
    SequenceBatches,
    Standardizer,
    StreamBatches,
    Table,
    pad_sequence,
    split_by_time,
    windows,
)


def parity_sequences(count, seed=0):
    """Ids 0 and 1, with whether the last one is 1, and at every step whether it differs from the one before."""
    random = np.random.default_rng(seed)
    sequences = [random.integers(0, 2, random.integers(2, 9)) for _ in range(count)]
    return sequences, [s[-1] for s in sequences], [abs(np.diff(s, prepend=s[0])) for s in sequences]


def classifier():
    return nn.Sequential(nn.Embedding(2, 4), nn.GRU(4, 12), nn.LastStep(), nn.Linear(12, 2))


def test_lists_of_ids_are_classified():
    sequences, labels, _ = parity_sequences(150)
    model = classifier()
    train.fit(
        model,
        ops.cross_entropy,
        SequenceBatches(sequences[:100], labels[:100], 20, seed=0, bucket=2),
        validation=SequenceBatches(sequences[100:], labels[100:]),
        epochs=15,
        lr=0.02,
        progress=False,
    )
    assert train.evaluate(model, ops.cross_entropy, SequenceBatches(sequences, labels), metrics=["accuracy"])[
        "accuracy"
    ] == pytest.approx(1)
    logits = train.predict(model, SequenceBatches(sequences, batch_size=40))
    assert logits.argmax(axis=-1).tolist() == labels


def test_the_batches_of_a_dataloader_with_padding_of_ones_own():
    torch = pytest.importorskip("torch")
    sequences, labels, _ = parity_sequences(96)

    def collate(pairs):
        inputs, targets = zip(*pairs)
        return SequenceBatch(pad_sequence(inputs), np.array([len(s) for s in inputs]), np.array(targets))

    generator = torch.Generator().manual_seed(0)
    loader = torch.utils.data.DataLoader(
        list(zip(sequences, labels)), batch_size=16, shuffle=True, collate_fn=collate, generator=generator
    )
    model = classifier()
    train.fit(model, ops.cross_entropy, loader, epochs=20, lr=0.02, progress=False)
    in_order = torch.utils.data.DataLoader(list(zip(sequences, labels)), batch_size=16, collate_fn=collate)
    assert train.evaluate(model, ops.cross_entropy, in_order, metrics=["accuracy"])["accuracy"] == 1


@pytest.mark.parametrize("kind", ["labels", "floats"])
def test_padding_counts_for_nothing_where_targets_are_per_step(kind):
    """The loss of padded batches is the mean over all steps of the sequences run one by one, without padding."""
    sequences, _, steps = parity_sequences(9)
    model = nn.Sequential(nn.Embedding(2, 4), nn.GRU(4, 5), nn.Linear(5, 2 if kind == "labels" else 1))
    loss = ops.cross_entropy if kind == "labels" else ops.mse
    targets = steps if kind == "labels" else [s.astype(float) for s in steps]
    found = train.evaluate(model, loss, SequenceBatches(sequences, targets, 4, per_step=True))
    with no_grad():
        losses = []
        for sequence, target in zip(sequences, targets):
            output = model(sequence[:, None])[:, 0]
            target = target if kind == "labels" else target[:, None].astype(np.float32)
            losses += loss(output, target, reduction="none").numpy().ravel().tolist()
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_every_step_of_a_sequence_is_labelled():
    sequences, _, steps = parity_sequences(120)
    model = nn.Sequential(nn.Embedding(2, 4), nn.GRU(4, 12), nn.Linear(12, 2))
    batches = SequenceBatches(sequences, steps, 20, seed=0, per_step=True, bucket=2)
    train.fit(model, ops.cross_entropy, batches, epochs=20, lr=0.02, progress=False)
    outputs = train.predict(model, SequenceBatches(sequences, steps, per_step=True))
    assert all(np.array_equal(output.argmax(axis=-1), labels) for output, labels in zip(outputs, steps))


class Carried(nn.Module):
    def __init__(self):
        self.gru, self.output = nn.GRU(1, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor, state=None):
        hidden, state = self.gru(x, state)
        return self.output(hidden), state


def test_a_long_series_with_a_state_that_is_carried():
    """The sign of the last pulse, which may lie before the window, so that a window by itself knows too little."""
    random = np.random.default_rng(0)
    pulse = np.where(np.arange(2000) % 15 == 0, random.choice([-1.0, 1.0], 2000), 0)
    targets = pulse[np.arange(2000) // 15 * 15]
    errors = {}
    for carry in (True, False):
        manual_seed(0)
        model = Carried()
        batches = StreamBatches(pulse, targets, window=5, batch_size=8)
        train.fit(model, ops.mse, batches, epochs=15, lr=0.02, carry_state=carry, progress=False)
        with no_grad():
            output, _ = model(pulse[:, None, None].astype(np.float32))
        errors[carry] = np.mean((output.numpy()[100:, 0, 0] - targets[100:]) ** 2)
    assert errors[True] < 0.1 < 0.3 < errors[False]


def test_windows_of_a_table_are_forecast():
    table = Table({"load": 5 + np.sin(np.arange(300) * 0.4), "hour": np.arange(300) % 24})
    training, test = split_by_time(table, 0.7)
    standardizer = Standardizer().fit(training)
    fitted, held_out = [
        (x, y[:, 0, :1]) for x, y in (windows(standardizer.transform(part), 8) for part in (training, test))
    ]
    model = nn.Sequential(nn.GRU(2, 12, batch_first=True), nn.LastStep(), nn.Linear(12, 1))
    train.fit(model, ops.mse, ArrayBatches(*fitted, batch_size=16, seed=0), epochs=15, lr=0.01, progress=False)
    assert train.evaluate(model, ops.mse, held_out)["loss"] < 0.02
    assert np.allclose(train.predict(model, held_out[0]), held_out[1], atol=0.5)


def test_frames_are_arrays_of_fit():
    pandas = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    x = np.linspace(-1, 1, 64)
    frame = pandas.DataFrame({"a": x, "b": x**2, "y": 3 * x + 1})
    model = nn.Linear(2, 1)
    train.fit(model, ops.mse, (frame[["a", "b"]], frame[["y"]]), epochs=100, lr=0.05, progress=False)
    assert np.allclose(train.predict(model, frame[["a", "b"]])[:, 0], frame["y"], atol=0.2)
