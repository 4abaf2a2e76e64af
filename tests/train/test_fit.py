"""train.fit against loops written by hand, PyTorch, and its own interruptions."""

import itertools
import signal

import numpy as np
import pytest

from tinygrad_gru import Tensor, data, manual_seed, nn, no_grad, ops, optim, train
from tinygrad_gru.train import Callback, CheckpointError, TrainingError, load_checkpoint

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


# -- against a loop by hand, and against PyTorch -------------------------------------------------------------------


def test_fit_is_the_loop_that_one_writes_by_hand():
    fitted, by_hand = network(), network()
    manual_seed(7)
    history = quiet(
        fitted, ops.mse, (X, Y), epochs=3, lr=0.01, clip_norm=0.5, batch_size=16, schedule=optim.WarmupCosine
    )

    manual_seed(7)
    optimizer = optim.Adam(by_hand.parameters(), lr=0.01)
    schedule = optim.WarmupCosine(optimizer, 3 * 4)
    losses = []
    for epoch in range(3):
        order = np.random.default_rng((0, epoch)).permutation(50)
        for start in range(0, 50, 16):
            rows = order[start : start + 16]
            loss = ops.mse(by_hand(Tensor(X[rows].astype("float32"))), Y[rows].astype("float32"))
            optimizer.zero_grad()
            loss.backward()
            optim.clip_gradient_norm(by_hand.parameters(), 0.5)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    assert_identical(fitted, by_hand)
    assert history["loss"].tolist() == losses
    assert [epoch["step"] for epoch in history.epochs] == [4, 8, 12]
    weights = [16, 16, 16, 2]
    assert history.epochs[2]["loss"] == pytest.approx(np.dot(losses[8:], weights) / 50, rel=1e-12)


def test_fit_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    model = nn.Sequential(nn.Linear(3, 6), ops.tanh, nn.Linear(6, 2))
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    x = SEQUENCES[:, 0].astype("float32")
    for ours, other in ((model.layers[0], theirs[0]), (model.layers[2], theirs[2])):
        with torch.no_grad():
            other.weight[:] = torch.from_numpy(ours.W.numpy().T)
            other.bias[:] = torch.from_numpy(ours.b.numpy())
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(LABELS))
    loader = torch.utils.data.DataLoader(dataset, batch_size=8)  # PyTorch's loader feeds both
    history = quiet(model, ops.cross_entropy, loader, epochs=4, optimizer="adam", lr=0.02)
    optimizer, losses = torch.optim.Adam(theirs.parameters(), lr=0.02), []
    for _ in range(4):
        for inputs, targets in loader:
            loss = torch.nn.functional.cross_entropy(theirs(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_allclose(history["loss"], losses, rtol=2e-5)
    np.testing.assert_allclose(model.layers[2].W.numpy().T, theirs[2].weight.detach().numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulated_gradients_are_those_of_one_large_batch(accumulate):
    parts, whole = network(0), network(0)
    sizes = [5, 1, 8, 3, 4, 2][: 2 * accumulate]
    ends = np.cumsum([0, *sizes])
    batches = [(X[a:b], Y[a:b]) for a, b in itertools.pairwise(ends)]
    large = [(X[ends[k] : ends[k + accumulate]], Y[ends[k] : ends[k + accumulate]]) for k in (0, accumulate)]
    first = quiet(parts, ops.mse, batches, epochs=1, optimizer="sgd", lr=0.1, accumulate=accumulate)
    second = quiet(whole, ops.mse, large, epochs=1, optimizer="sgd", lr=0.1)
    for name, value in parts.state_dict().items():
        np.testing.assert_allclose(value, whole.state_dict()[name], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-6)
    np.testing.assert_allclose(first["gradient_norm"], second["gradient_norm"], rtol=1e-6)


def test_the_last_step_of_an_epoch_takes_the_batches_that_are_left():
    history = quiet(network(), ops.mse, (X, Y), epochs=2, batch_size=10, accumulate=2)
    assert history["epoch"].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_data_take_the_dtype_of_the_model(dtype):
    model = nn.Linear(3, 2, dtype=dtype)
    quiet(model, ops.mse, (X.tolist(), Y.astype("float32")), epochs=1)
    assert str(model.W.dtype) == dtype
    assert train.predict(model, X).dtype == dtype


# -- sequences -----------------------------------------------------------------------------------------------------


def test_a_classifier_of_sequences_learns():
    manual_seed(0)
    model = Classifier()
    history = quiet(
        model, ops.cross_entropy, (SEQUENCES, LABELS), epochs=30, lr=0.02, validation=0.25, metrics=["accuracy"]
    )
    assert history["validation_accuracy"][-1] >= 0.8
    assert train.evaluate(model, ops.cross_entropy, (SEQUENCES, LABELS), metrics=["accuracy"])["accuracy"] >= 0.8
    assert history.diagnosis is None and history.stopped is None


def test_targets_per_step_count_only_the_valid_steps():
    lengths = [4, 1, 6]
    sequences = [SEQUENCES[k, :n] for k, n in enumerate(lengths)]
    targets = [SEQUENCES[k, :n, :1] for k, n in enumerate(lengths)]
    batches = data.SequenceBatches(sequences, targets, batch_size=3, per_step=True)
    manual_seed(0)
    model = nn.Sequential(nn.GRU(3, 4), nn.Linear(4, 1))
    loss = train.evaluate(model, ops.mse, batches, metrics=["mae"])
    with no_grad():
        outputs = [model(Tensor(sequence[:, None].astype("float32"))).numpy()[:, 0] for sequence in sequences]
    errors = np.concatenate([output - target for output, target in zip(outputs, targets)])
    assert loss["loss"] == pytest.approx(np.mean(errors**2), rel=1e-5)
    assert loss["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-5)
    predicted = train.predict(model, batches)
    for got, expected in zip(predicted, outputs, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)
    quiet(model, ops.mse, batches, epochs=30, lr=0.02)
    assert train.evaluate(model, ops.mse, batches)["loss"] < 0.5 * loss["loss"]


def test_lengths_are_passed_to_the_model():
    sequences = [SEQUENCES[k, : 2 + k % 5] for k in range(20)]
    batches = data.SequenceBatches(sequences, LABELS[:20], batch_size=8)
    manual_seed(0)
    model = Classifier(batch_first=False)
    got = train.predict(model, batches)
    alone = [train.predict(model, data.SequenceBatches([s], batch_size=1)) for s in sequences]
    np.testing.assert_allclose(got, np.concatenate(alone), atol=1e-6)


def test_arrays_are_refused_by_a_model_that_would_take_their_examples_for_time():
    with pytest.raises(ValueError, match=r"gru is time-major .* nn\.GRU\(3, 5, batch_first=True\)"):
        quiet(Classifier(batch_first=False), ops.cross_entropy, (SEQUENCES, LABELS), epochs=1)


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_several_inputs(kind):
    class Sum(nn.Module):
        def __init__(self):
            self.left, self.right = nn.Linear(3, 2), nn.Linear(2, 2)

        def forward(self, a, b):
            return self.left(a) + self.right(b)

    manual_seed(0)
    model = Sum()
    inputs = (X, Y) if kind == "tuple" else {"a": X, "b": Y}
    history = quiet(model, ops.mse, (inputs, Y), epochs=40, lr=0.05)
    assert history["loss"][-1] < 0.1 * history["loss"][0]


# -- resuming ------------------------------------------------------------------------------------------------------


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


JOBS = {
    "shuffled arrays": (network, ops.mse, lambda: (X, Y), {"batch_size": 8, "epochs": 4, "validation": (X, Y)}),
    "accumulated": (network, ops.mse, lambda: (X, Y), {"batch_size": 8, "epochs": 4, "accumulate": 3}),
    "float16": (network, ops.mse, lambda: (X, Y), {"batch_size": 8, "steps": 17, "precision": "float16"}),
    "a carried state": (Stateful, ops.mse, lambda: STREAM, {"carry_state": True, "epochs": 2, "clip_norm": 1.0}),
    "a generator": (network, ops.mse, lambda: iter([(X, Y)] * 12), {"epochs": 1}),
    "sequences": (
        lambda: nn.Sequential(nn.GRU(3, 4), nn.LastStep(), nn.Linear(4, 2)), ops.cross_entropy,
        lambda: data.SequenceBatches([s[: 2 + k % 5] for k, s in enumerate(SEQUENCES)], LABELS, 8, seed=3),
        {"epochs": 3, "patience": 5, "validation": [(SEQUENCES.transpose(1, 0, 2), LABELS)]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("stop_at", [1, 7, 10])
def test_an_interrupted_and_resumed_run_is_bit_identical(job, stop_at, tmp_path):
    build, loss, make_data, settings = JOBS[job]

    def run(folder, counter, seed=5):
        manual_seed(seed)
        model = build()
        history = quiet(
            model, loss, make_data(), **settings, schedule=optim.WarmupLinear if job != "a generator" else None,
            callbacks=[counter], folder=tmp_path / folder, resume=True,
        )  # fmt: skip
        return model, history

    whole, expected = run("whole", uninterrupted := Counter())
    _, history = run("parts", Counter(stop_at))
    assert history.stopped == "interrupted by Ctrl-C" and history["loss"].size == stop_at
    resumed, history = run("parts", counter := Counter(), seed=99)
    assert_identical(resumed, whole)
    assert counter.count == uninterrupted.count
    assert history.records == expected.records
    assert history.epochs[-1] == expected.epochs[-1]
    left, right = (load_checkpoint(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "parts"))
    assert left["early_stop"] == right["early_stop"] and left["epoch_sums"] == right["epoch_sums"]


def test_a_finished_run_goes_on_for_more_epochs(tmp_path):
    whole, longer = network(), network()
    manual_seed(2)
    quiet(whole, ops.mse, (X, Y), epochs=5, folder=tmp_path / "whole")
    manual_seed(2)
    quiet(longer, ops.mse, (X, Y), epochs=2, folder=tmp_path / "longer")
    history = quiet(longer, ops.mse, (X, Y), epochs=5, folder=tmp_path / "longer", resume=True)
    assert_identical(longer, whole)
    assert len(history.epochs) == 5


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    quiet(network(), ops.mse, (X, Y), steps=2, folder=tmp_path)
    with pytest.raises(FileExistsError, match="holds a run already: resume it"):
        quiet(network(), ops.mse, (X, Y), steps=2, folder=tmp_path)


def test_a_run_with_other_settings_is_not_resumed(tmp_path):
    quiet(network(), ops.mse, (X, Y), steps=2, folder=tmp_path)
    for change, message in (({"accumulate": 2}, "other settings"), ({"seed": 3}, "saved with seed 0 is invalid")):
        with pytest.raises(CheckpointError, match=message):
            quiet(network(), ops.mse, (X, Y), steps=3, folder=tmp_path, resume=True, **change)


def test_the_last_checkpoints_are_kept(tmp_path):
    quiet(network(), ops.mse, (X, Y), epochs=5, validation=(X, Y), folder=tmp_path, keep_last=2)
    names = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert names == [
        "best.safetensors", "checkpoint-000000008.safetensors", "checkpoint-000000010.safetensors",
        "checkpoint.safetensors",
    ]  # fmt: skip
    assert load_checkpoint(tmp_path / names[1])["trainer"]["steps"] == 8


def test_sigterm_saves_and_then_does_what_it_does(tmp_path):
    received = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        history = quiet(network(), ops.mse, (X, Y), steps=9, folder=tmp_path, callbacks=[Counter(4, signal.SIGTERM)])
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert received == [signal.SIGTERM]
    assert history.stopped == "interrupted by SIGTERM"
    assert load_checkpoint(tmp_path / "checkpoint.safetensors")["trainer"]["steps"] == 4


# -- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_folder", [False, True])
def test_early_stopping_restores_the_best_weights(tmp_path, monkeypatch, with_folder):
    losses, seen = iter([9.0, 3.0, 2.0, 2.5, 2.5, 1.0]), []

    def evaluate(model, *given, **settings):
        seen.append(model.state_dict())
        return {"loss": next(losses)}

    monkeypatch.setattr("tinygrad_gru.train.loop.Loop.report", lambda loop, record: None)
    monkeypatch.setitem(train.fit.__globals__, "evaluate", evaluate)
    model = network()
    history = quiet(
        model, ops.mse, (X, Y), epochs=9, patience=1, validation=(X, Y), folder=tmp_path if with_folder else None
    )
    assert history.stopped == "early stopping: no better loss than 2 in 2 evaluations"
    assert history["validation_loss"].tolist() == [9, 3, 2, 2.5, 2.5]
    for name, value in model.state_dict().items():
        assert np.array_equal(value, seen[2][name])


def test_a_callback_sees_every_event_and_can_end_the_run():
    events = []

    class Watch(Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                return lambda loop, *record: (
                    events.append((name, loop.steps)),
                    loop.steps == 3 and loop.request_stop("enough"),
                )
            return super().__getattribute__(name)

    history = quiet(network(), ops.mse, [(X, Y)] * 2, epochs=9, validation=(X, Y), callbacks=[Watch()])
    assert history.stopped == "enough"
    assert events == [
        ("on_train_begin", 0), ("on_evaluation_end", 0),
        ("on_gradients", 0), ("on_step_end", 1),
        ("on_gradients", 1), ("on_step_end", 2), ("on_evaluation_end", 2), ("on_epoch_end", 2),
        ("on_gradients", 2), ("on_step_end", 3), ("on_train_end", 3),
    ]  # fmt: skip


def test_a_run_of_seconds_ends_in_time_and_is_evaluated_at_its_end():
    history = quiet(network(), ops.mse, (X, Y), seconds=0.5, validation=(X, Y))
    steps = history["step"]
    assert history.records[-1]["step"] == steps[-1] and "validation_loss" in history.records[-1]
    assert 2 <= history["validation_loss"].size <= 11


@pytest.mark.parametrize("make", [lambda: (batch for batch in [(X, Y)] * 7), lambda: [(X, Y)] * 7])
def test_an_epoch_is_a_pass_over_anything_that_iterates(make):
    history = quiet(network(), ops.mse, make(), epochs=1)
    assert history["step"].size == 7 and len(history.epochs) == 1


def test_a_schedule_that_waits_for_a_plateau_is_told_the_validation_loss():
    optimizer = optim.SGD((model := network()).parameters(), lr=1e-9)
    schedule = optim.ReduceOnPlateau(optimizer, patience=1, decay=0.5)
    history = quiet(
        model, ops.mse, (X, Y), epochs=6, batch_size=50, validation=(X, Y), optimizer=optimizer, schedule=schedule
    )
    assert history["lr"].tolist() == [1e-9, 1e-9, 1e-9, 5e-10, 5e-10, 2.5e-10]


def test_divergence_names_what_happened_and_keeps_the_weights():
    model = nn.Linear(3, 2)
    before = []

    class Remember(Callback):
        def on_gradients(self, loop):
            before[:] = [loop.model.state_dict()]

    message = r"at step \d+ the loss is .* learning rate of 1e\+15 .* clip_norm=1.0"
    with pytest.raises(TrainingError, match=message), np.errstate(all="ignore"):
        quiet(model, ops.mse, (X, Y), steps=100, optimizer="sgd", lr=1e15, callbacks=[Remember()])
    for name, value in model.state_dict().items():
        assert np.array_equal(value, before[0][name])


@pytest.mark.parametrize("validation", [None, 0.2])
def test_a_run_that_did_not_learn_has_a_diagnosis(validation):
    model = network(0)
    history = quiet(model, ops.mse, (X, Y), epochs=20, lr=50.0, validation=validation)
    assert "has not learned" in history.diagnosis


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("validation", [None, 0.5])
@pytest.mark.parametrize(("steps", "batch_size"), [(1, 32), (3, 1), (12, 16), (40, 2)])
def test_short_runs_on_noise_have_none(seed, validation, steps, batch_size):
    """There is nothing to learn, and few steps, but nothing is wrong."""
    random = np.random.default_rng(seed)
    manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 4), ops.tanh, nn.Linear(4, 1))
    noise = random.normal(size=(40, 2)), random.normal(size=(40, 1))
    history = quiet(model, ops.mse, noise, steps=steps, batch_size=batch_size, validation=validation)
    assert history.diagnosis is None


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "loss", "given", "settings", "message"),
    [
        (network(), ops.mse, (X, Y), {}, "exactly one of epochs, steps and seconds.* none"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "steps": 2}, "got steps and epochs"),
        (network(), ops.mse, (X, Y), {"epochs": 0}, "epochs: expected a whole number, 1 or more, got 0"),
        (network(), ops.mse, (X, Y[:, 0]), {"epochs": 1}, "same shape"),
        (nn.Linear(3, 1), ops.mse, (X, Y[:, 0]), {"epochs": 1}, r"give targets\[\.\.\., None\], as y\[:, None\]"),
        (network(), lambda p, t: p - t, (X, Y), {"epochs": 1}, "must be a scalar, got shape"),
        (network(), lambda p, t: ops.mse(p, t).item(), (X, Y), {"epochs": 1}, "returns a Tensor.* got a float"),
        (nn.Sequential(ops.tanh), ops.mse, (X, Y), {"epochs": 1}, "has no parameters"),
        (network().freeze(), ops.mse, (X, Y), {"epochs": 1}, "all are frozen"),
        (lambda x: x, ops.mse, (X, Y), {"epochs": 1}, "expected a Module"),
        (network(), ops.mse, [], {"epochs": 1}, "there are no batches"),
        (network(), ops.mse, (X[:0], Y[:0]), {"epochs": 1}, "there are no examples"),
        (network(), ops.mse, [X], {"epochs": 1}, r"a batch must be \(inputs, targets\)"),
        (network(), ops.mse, 3, {"epochs": 1}, "expected arrays .* got int"),
        (network(), ops.mse, ([["a"]], [[1.0]]), {"epochs": 1}, "must hold numbers"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "optimizer": "addam"}, "did you mean 'adam'"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "metrics": ["acuracy"]}, "did you mean 'accuracy'"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "validation": 1.5}, "a fraction between 0 and 1, got 1.5"),
        (network(), ops.mse, [(X, Y)], {"epochs": 1, "validation": 0.5}, "a fraction is of arrays"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "patience": 3}, "give validation="),
        (network(), ops.mse, (X, Y), {"epochs": 1, "resume": True}, "give folder="),
        (network(), ops.mse, (X, Y), {"seconds": 1, "schedule": optim.WarmupCosine}, "not known in advance"),
        (network(), ops.mse, iter([(X, Y)]), {"epochs": 1, "schedule": optim.WarmupCosine}, "give steps="),
        (network(), ops.mse, iter([(X, Y)]), {"epochs": 2}, "can be passed over once"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "carry_state": True}, "positional argument|carry_state"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "accumulate": 0}, "accumulate: expected a whole number"),
        (network(), ops.mse, (X, Y), {"epochs": 1, "precision": "int8"}, "precision: expected one of"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(model, loss, given, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        quiet(model, loss, given, **settings)


def test_an_optimizer_or_schedule_of_another_model_is_refused():
    other = optim.SGD(network().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="none of its parameters is one of the model"):
        quiet(network(), ops.mse, (X, Y), epochs=1, optimizer=other)
    with pytest.raises(ValueError, match="one of another optimizer"):
        quiet(network(), ops.mse, (X, Y), epochs=1, schedule=optim.StepDecay(other, every=3))
    with pytest.raises(ValueError, match="lr: the optimizer that was given has its own"):
        quiet(network(), ops.mse, (X, Y), epochs=1, optimizer=other, lr=0.1)


def test_a_fraction_of_sorted_examples_is_refused():
    labels = np.repeat([0, 1], [24, 16])
    with pytest.raises(ValueError, match="the examples are sorted"):
        quiet(Classifier(), ops.cross_entropy, (SEQUENCES, labels), epochs=1, validation=0.4)


def test_predictions_of_shuffled_batches_are_refused():
    with pytest.raises(ValueError, match="shuffled, and predictions would come in that order"):
        train.predict(network(), data.ArrayBatches(X, Y, seed=0))


def test_evaluation_leaves_positions_modes_and_random_numbers_as_they_are():
    batches = data.ArrayBatches(X, Y, batch_size=8, seed=0)
    batches.next_batch()
    model = network()
    first = train.evaluate(model, ops.mse, batches)
    assert batches.state_dict()["index"] == 1 and model.training
    assert first == train.evaluate(model, ops.mse, batches)
    expected = np.mean((train.predict(model, X) - Y) ** 2)
    assert first["loss"] == pytest.approx(expected, rel=1e-5)
