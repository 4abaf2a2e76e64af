"""train.fit, evaluate and predict against loops written by hand and PyTorch."""

import itertools

import numpy as np
import pytest
from fit_case import LABELS, SEQUENCES, STREAM, Classifier, Stateful, X, Y, assert_identical, network, quiet
from support.stand_in_cupy import stand_in_cupy

from tinygrad_gru import Tensor, data, manual_seed, nn, no_grad, ops, optim, train
from tinygrad_gru.scan import compiling


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


def test_metrics_in_training_are_of_the_outputs_while_the_weights_change(monkeypatch):
    model, seen = network(0), []

    def loss(outputs, targets):
        seen.append(np.abs(outputs.numpy() - targets.numpy()))
        return ops.mse(outputs, targets)

    monkeypatch.setitem(train.fit.__globals__, "evaluate", lambda *given, metrics, **settings: evaluated(metrics))

    def evaluated(metrics):
        for metric in metrics:
            metric.update(np.zeros((9, 2)), np.full((9, 2), 50.0))
        return {"loss": 1.0}

    history = quiet(model, loss, (X, Y), epochs=2, batch_size=16, metrics=["mae"], validation=(X, Y))
    for k, epoch in enumerate(history.epochs):
        assert epoch["mae"] == pytest.approx(np.concatenate(seen[4 * k : 4 * k + 4]).mean(), rel=1e-6)


def test_a_model_in_evaluation_mode_is_trained_in_training_mode():
    models = network(), network()
    models[1].eval()
    for model in models:
        manual_seed(3)
        quiet(model, ops.mse, (X, Y), steps=3)
    assert_identical(*models)


def test_a_model_on_a_gpu_gets_its_batches_there(monkeypatch):
    def run(device):
        manual_seed(0)
        model = nn.Sequential(nn.GRU(3, 4), nn.Linear(4, 1)).to(device)
        settings = {"metrics": ["mae"], "validation": STREAM, "accumulate": 2}
        return model, quiet(model, ops.mse, STREAM, epochs=2, **settings)

    _, expected = run("numpy")
    with stand_in_cupy(monkeypatch) as cupy, compiling(False):
        model, history = run("cupy")
        before = cupy.machine.count("to host")
        quiet(model, ops.mse, STREAM, epochs=1)
        assert cupy.machine.count("to host") - before == len(STREAM), "a step waits for the device once, for the loss"
        before = cupy.machine.count("to host")
        train.evaluate(model, ops.mse, STREAM)
        assert cupy.machine.count("to host") - before == 1
        predicted = train.predict(model, STREAM)
    assert isinstance(predicted, np.ndarray)
    for name in ("loss", "validation_mae"):
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-4)


def test_the_last_step_of_an_epoch_takes_the_batches_that_are_left():
    history = quiet(network(), ops.mse, (X, Y), epochs=2, batch_size=10, accumulate=2)
    assert history["epoch"].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_parameters_that_the_optimizer_does_not_have_are_as_if_frozen(precision):
    """Their gradients are not clipped with those of the others, and do not add up from step to step."""
    models = [network(0), network(0)]
    models[1].layers[0].freeze()
    histories = []
    for model in models:
        given = optim.SGD(model.layers[3].parameters(), lr=0.1)
        settings = {"optimizer": given, "clip_norm": 0.1, "precision": precision}
        histories.append(quiet(model, ops.mse, (X, Y), epochs=2, **settings))
    assert np.array_equal(*(history["gradient_norm"] for history in histories))
    assert_identical(*models)
    gradients = []
    for _ in range(2):
        given = optim.SGD(models[0].layers[3].parameters(), lr=0)
        quiet(models[0], ops.mse, (X, Y), steps=1, optimizer=given, batch_size=50, seed=None)
        gradients.append(models[0].layers[0].W.grad.numpy())
    assert np.array_equal(*gradients)


def test_a_run_does_not_depend_on_what_read_the_batches_before():
    batches = data.ArrayBatches(X, Y, batch_size=16, seed=0)
    models, histories = [network(0) for _ in range(3)], []
    for k, model in enumerate(models):
        if k == 2:
            next(iter(batches))  # a look at the first one
        histories.append(quiet(model, ops.mse, batches, epochs=2))
    for model, history in zip(models, histories):
        assert [epoch["step"] for epoch in history.epochs] == [4, 8]
        assert_identical(model, models[0])


def test_a_display_that_is_given_serves_several_runs():
    class Display(train.Progress):
        steps = closed = 0

        def advance(self, amount, **values):
            self.steps += amount

        def close(self):
            self.closed += 1

    with Display() as display:
        for _ in range(2):
            train.fit(network(0), ops.mse, (X, Y), steps=3, progress=display)
        assert (display.steps, display.closed) == (6, 0)
    assert display.closed == 1


def test_parameters_that_the_optimizer_does_not_have_are_named():
    """Those that are frozen are not."""
    lines = []

    class Display(train.Progress):
        def write(self, text):
            lines.append(text)

    model = network()
    model.layers[0].freeze()
    optimizer = optim.SGD(model.layers[3].parameters(), lr=0.1)
    train.fit(model, ops.mse, (X, Y), steps=1, optimizer=optimizer, progress=Display())
    assert not any("not trained" in line for line in lines)
    model.unfreeze()
    train.fit(model, ops.mse, (X, Y), steps=1, optimizer=optimizer, progress=Display())
    assert "not trained, for the optimizer does not have them: layers.0.W, layers.0.b" in lines


def test_truncated_backpropagation_is_the_loop_that_one_writes_by_hand():
    """The state goes on from batch to batch, detached, and begins anew in each epoch."""
    models = []
    for _ in range(2):
        manual_seed(0)
        models.append(Stateful())
    fitted, by_hand = models
    manual_seed(4)
    quiet(fitted, ops.mse, STREAM, epochs=2, optimizer="sgd", lr=0.1, carry_state=True)
    manual_seed(4)
    optimizer = optim.SGD(by_hand.parameters(), lr=0.1)
    for _ in range(2):
        state = None
        for x, y in STREAM:
            outputs, (first, (h, c)) = by_hand(Tensor(x.astype("float32")), state)
            optimizer.zero_grad()
            ops.mse(outputs, y.astype("float32")).backward()
            optimizer.step()
            state = first.detach(), (h.detach(), c.detach())
    assert_identical(fitted, by_hand)


def test_a_batch_says_where_a_carried_state_begins_anew():
    class Batch:
        def __init__(self, batch, starts):
            self.inputs, self.targets, self.starts = *batch, starts

    batches = [Batch(batch, k in (0, 4)) for k, batch in enumerate(STREAM)]
    manual_seed(0)
    model = Stateful()
    got = train.predict(model, batches, carry_state=True)
    parts = [train.predict(model, STREAM[rows], carry_state=True) for rows in (slice(4), slice(4, None))]
    np.testing.assert_array_equal(got, np.concatenate(parts))


def test_a_carried_state_is_restored_as_it_was():
    manual_seed(0)
    model = Stateful()
    trainers = [
        train.Trainer(model, ops.mse, optim.SGD(model.parameters(), lr=0.1), STREAM, carry_state=True) for _ in range(2)
    ]
    trainers[0].step()
    trainers[1].load_state_dict(trainers[0].state_dict())
    left, right = (trainer._carried for trainer in trainers)
    assert type(right) is tuple and type(right[1]) is nn.State and right[1].c is right[1][1]
    assert np.array_equal(left[1][1].numpy(), right[1][1].numpy())


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 8), (3, 4)])
def test_a_schedule_is_made_for_the_steps_of_the_run(accumulate, steps):
    given = []

    def schedule(optimizer, total_steps):
        given.append(total_steps)
        return optim.WarmupLinear(optimizer, total_steps)

    history = quiet(network(), ops.mse, (X, Y), epochs=2, batch_size=16, accumulate=accumulate, schedule=schedule)
    assert given == [steps] == [history["step"].size]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_data_take_the_dtype_of_the_model(dtype):
    model = nn.Linear(3, 2, dtype=dtype)
    quiet(model, ops.mse, (X.tolist(), Y.astype("float32")), epochs=1)
    assert str(model.W.dtype) == dtype
    assert train.predict(model, X).dtype == dtype


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


@pytest.mark.parametrize("kind", ["tuple", "dict", "loader of PyTorch"])
def test_several_inputs(kind):
    class Sum(nn.Module):
        def __init__(self):
            self.left, self.right = nn.Linear(3, 2), nn.Linear(2, 2)

        def forward(self, a, b):
            return self.left(a) + self.right(b)

    manual_seed(0)
    model = Sum()
    given = ({"a": X, "b": Y} if kind == "dict" else (X, Y)), Y
    if kind == "loader of PyTorch":
        given = pytest.importorskip("torch").utils.data.DataLoader([((x, y), y) for x, y in zip(X, Y)], batch_size=32)
        assert isinstance(next(iter(given))[0], list)
    history = quiet(model, ops.mse, given, epochs=40, lr=0.05)
    assert history["loss"][-1] < 0.1 * history["loss"][0]


def test_predictions_for_lists_arrays_and_batches_are_the_same():
    model = network()
    expected = train.predict(model, X)
    with model.evaluating(), no_grad():
        np.testing.assert_allclose(expected, model(Tensor(X.astype("float32"))).numpy(), rtol=1e-5)
    for given in (X.tolist(), (X, Y), Tensor(X), [(X[:20], None), (X[20:], None)], data.ArrayBatches(X, batch_size=7)):
        np.testing.assert_allclose(train.predict(model, given), expected, rtol=1e-5)


def test_a_carried_state_makes_windows_of_a_sequence_the_whole():
    manual_seed(0)
    model = Stateful()
    windows = np.concatenate([x for x, _ in STREAM])
    with model.evaluating(), no_grad():
        expected = model(Tensor(windows.astype("float32")))[0].numpy()
    got = train.predict(model, STREAM, carry_state=True)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    targets = np.concatenate([y for _, y in STREAM])
    loss = train.evaluate(model, ops.mse, STREAM, carry_state=True)["loss"]
    assert loss == pytest.approx(np.mean((expected - targets) ** 2), rel=1e-5)


def test_evaluation_leaves_positions_modes_and_random_numbers_as_they_are():
    batches = data.ArrayBatches(X, Y, batch_size=8, seed=0)
    batches.next_batch()
    model = network()
    first = train.evaluate(model, ops.mse, batches)
    assert batches.state_dict()["index"] == 1 and model.training
    assert first == train.evaluate(model, ops.mse, batches)
    mae = train.metric("mae")
    assert len({train.evaluate(model, ops.mse, batches, metrics=[mae])["mae"] for _ in range(2)}) == 1
    assert train.evaluate(model, ops.mse, (X[:9], Y[:9]), metrics=[mae])["mae"] == pytest.approx(
        np.abs(train.predict(model, X[:9]) - Y[:9]).mean(), rel=1e-5
    )
    expected = np.mean((train.predict(model, X) - Y) ** 2)
    assert first["loss"] == pytest.approx(expected, rel=1e-5)
