"""Callbacks on a loop of the test's own: what they write, keep and restore."""

import csv
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, ops, optim, train


def a_loop(model=None, steps=0):
    return SimpleNamespace(model=model, steps=steps)


def step(loop, callback, **values):
    loop.steps += 1
    callback.on_step_end(loop, {"step": loop.steps, "epoch": 0, "loss": 10.0 - loop.steps, **values})


# -- functions -------------------------------------------------------------------------------------------------


def test_functions_are_called_at_their_events():
    calls = []
    callback = train.LambdaCallback(
        on_train_begin=lambda loop: calls.append(loop), on_epoch_end=lambda loop, record: calls.append(record)
    )
    callback.on_train_begin("loop")
    callback.on_step_end("loop", {})
    callback.on_epoch_end("loop", {"loss": 1})
    assert calls == ["loop", {"loss": 1}] and callback.state_dict() == {}


def test_unknown_events_are_refused():
    with pytest.raises(TypeError, match=r"there is no event 'on_step' \(did you mean 'on_step_end'\?\)"):
        train.LambdaCallback(on_step=print)
    with pytest.raises(TypeError, match="there is no event 'x'; there are on_train_begin, on_gradients"):
        train.LambdaCallback(x=print)
    with pytest.raises(TypeError, match="on_step_end: expected a function, got 3"):
        train.LambdaCallback(on_step_end=3)


def test_a_method_that_no_loop_would_call_is_refused():
    with pytest.raises(
        TypeError, match=r"Mine: there is no event 'on_batch_end'; here it is on_step_end\(self, loop, r"
    ):

        class Mine(train.Callback):
            def on_batch_end(self, batch, logs=None):
                pass

    class Good(train.Callback):
        def on_step_end(self, loop, record):
            pass

    class Better(Good):
        def on_train_end(self, loop):
            pass

    assert isinstance(Better(), train.Callback)


# -- CSV -------------------------------------------------------------------------------------------------------


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_for_each_record_of_its_kind(tmp_path):
    logs = {kind: train.CSVLog(tmp_path / f"{kind}.csv", every=kind) for kind in ("step", "evaluation", "epoch")}
    for log in logs.values():
        loop = a_loop()
        log.on_train_begin(loop)
        step(loop, log)
        step(loop, log, gradient_norm=None)
        log.on_evaluation_end(loop, {"step": 2, "epoch": 0, "validation_loss": 0.1 + 0.2})
        log.on_epoch_end(loop, {"step": 2, "epoch": 0, "loss": 8.5, "note": "a,b"})
        log.on_train_end(loop)
    assert rows(logs["step"].path) == [
        {"step": "1", "epoch": "0", "loss": "9.0", "gradient_norm": ""},
        {"step": "2", "epoch": "0", "loss": "8.0", "gradient_norm": ""},
    ]
    assert rows(logs["evaluation"].path) == [{"step": "2", "epoch": "0", "validation_loss": "0.30000000000000004"}]
    assert rows(logs["epoch"].path) == [{"step": "2", "epoch": "0", "loss": "8.5", "note": "a,b"}]
    with pytest.raises(ValueError, match="every: expected one of step, evaluation, epoch, got 'batch'"):
        train.CSVLog("x", every="batch")


def test_csv_is_continued_after_the_last_step_of_a_resumed_run(tmp_path):
    log = train.CSVLog(tmp_path / "log.csv", every="step")
    loop = a_loop()
    log.on_train_begin(loop)
    for _ in range(4):
        step(loop, log)
    with open(log.path, "a", encoding="utf-8") as file:
        file.write("half a ro")
    resumed = train.CSVLog(log.path, every="step")
    loop = a_loop(steps=2)
    resumed.on_train_begin(loop)
    step(loop, resumed, lr=0.5)
    assert [(row["step"], row["lr"]) for row in rows(log.path)] == [("1", ""), ("2", ""), ("3", "0.5")]
    for _ in range(2):
        new = train.CSVLog(log.path, every="evaluation")
        new.on_train_begin(a_loop())
        assert rows(log.path) == [], "a new run begins a new file"
        new.on_evaluation_end(a_loop(), {"step": 0, "epoch": 0, "validation_loss": 1.0})
    train.CSVLog(tmp_path / "none.csv").on_train_begin(a_loop(steps=3))


# -- TensorBoard -----------------------------------------------------------------------------------------------


def events(folder):
    """The events in the files of a folder, read by their format: length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            yield Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length


def test_tensorboard_files_have_scalars_and_histograms(tmp_path):
    pytest.importorskip("tensorboardX")
    model = nn.Sequential(nn.Linear(2, 3))
    loop, board = a_loop(model), train.TensorBoard(tmp_path, histograms=True)
    board.on_train_begin(loop)
    step(loop, board, lr=0.5, gradient_norm=None)
    step(loop, board, lr=0.25, gradient_norm=2.0)
    board.on_evaluation_end(loop, {"step": 2, "epoch": 0, "validation_loss": 1.5, "validation_accuracy": 0.75})
    board.on_epoch_end(loop, {"step": 2, "epoch": 0, "loss": 8.5, "lr": 0.4, "accuracy": 0.5, "validation_loss": 1.5})
    board.on_train_end(loop)
    values = {(value.tag, event.step): value for event in events(tmp_path) for value in event.summary.value}
    scalars = {key: value.simple_value for key, value in values.items() if value.WhichOneof("value") == "simple_value"}
    assert scalars == {
        ("loss/training", 1): 9.0, ("lr", 1): 0.5, ("loss/training", 2): 8.0, ("lr", 2): 0.25,
        ("gradient_norm", 2): 2.0, ("loss/validation", 2): 1.5, ("accuracy/validation", 2): 0.75,
        ("accuracy/training", 2): 0.5,
    }  # fmt: skip
    histograms = {tag: value.histo for (tag, _), value in values.items() if value.HasField("histo")}
    assert set(histograms) == {name.replace(".", "/") for name, _ in model.named_parameters()}
    weights = next(tensor for name, tensor in model.named_parameters() if tensor.ndim == 2).numpy()
    weight = next(histo for histo in histograms.values() if histo.num == 6)
    assert weight.sum == pytest.approx(weights.sum(), rel=1e-6) and weight.max == pytest.approx(weights.max())


def test_tensorboard_hides_what_a_resumed_run_repeats(tmp_path):
    pytest.importorskip("tensorboardX")
    loop, board = a_loop(steps=7), train.TensorBoard(tmp_path)
    board.on_train_end(loop)  # a run that failed before it began
    board.on_train_begin(loop)
    board.on_train_end(loop)
    assert [event.step for event in events(tmp_path) if event.HasField("session_log")] == [8]


def test_without_tensorboardx_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install 'tinygrad_gru\[tensorboard\]'"):
        train.TensorBoard(tmp_path)


# -- averages of weights ---------------------------------------------------------------------------------------


def training(callback, device="numpy", steps=12, dtype="float32"):
    """Train a small model; returns it, and its weights after every step."""
    rng = np.random.default_rng(0)
    model = nn.Linear(3, 2)
    for name, tensor in model.named_tensors():
        setattr(model, name, nn.Parameter(rng.standard_normal(tensor.shape), dtype=dtype, device=device))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x, y = (Tensor(rng.standard_normal(shape), dtype=dtype, device=device) for shape in ((5, 3), (5, 2)))
    loop, weights = a_loop(model), []
    callback.on_train_begin(loop)
    for _ in range(steps):
        optimizer.zero_grad()
        ops.mse(model(x), y).backward()
        optimizer.step()
        step(loop, callback)
        weights.append(model.state_dict())
    return model, weights


@pytest.mark.parametrize("decay", [0.9, None])
def test_averages_equal_those_of_torch(decay, device):
    torch = pytest.importorskip("torch")
    average = train.WeightAverage(decay)
    model, weights = training(average, device)
    swa = torch.optim.swa_utils
    theirs = torch.nn.Linear(3, 2)
    averaged = swa.AveragedModel(theirs, avg_fn=None if decay is None else swa.get_ema_avg_fn(decay))
    ours = dict(zip(sorted(weights[0], key=lambda name: weights[0][name].ndim), ("bias", "weight")))
    for state in weights:
        theirs.load_state_dict({ours[name]: torch.tensor(value.T.copy()) for name, value in state.items()})
        averaged.update_parameters(theirs)
    with average.averaged():
        for name, value in model.state_dict().items():
            np.testing.assert_allclose(value.T, averaged.module.state_dict()[ours[name]].numpy(), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("start, every, expected", [(0, 1, range(12)), (6, 1, range(6, 12)), (3, 4, (3, 7, 11))])
def test_the_mean_is_of_the_weights_after_these_steps(start, every, expected):
    average = train.WeightAverage(None, start=start, every=every)
    model, weights = training(average)
    average.apply()
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value, np.mean([weights[k][name] for k in expected], axis=0), rtol=1e-5)


def test_within_the_block_the_model_has_the_average_and_then_its_own_weights():
    average = train.WeightAverage(0.5)
    model, weights = training(average)
    x = Tensor(np.ones((1, 3), "float32"), requires_grad=True)
    old = model(x).sum()
    with pytest.raises(ZeroDivisionError), average.averaged():
        assert not np.array_equal(model.state_dict()["W"], weights[-1]["W"])
        raise ZeroDivisionError
    assert all(np.array_equal(value, weights[-1][name]) for name, value in model.state_dict().items())
    with pytest.raises(Exception, match="changed in place"):
        old.backward()


def test_a_resumed_average_is_bit_identical():
    average = train.WeightAverage(0.9, start=2)
    model, weights = training(average)
    resumed = train.WeightAverage(0.9, start=2)
    first, loop = train.WeightAverage(0.9, start=2), a_loop(nn.Linear(3, 2))
    first.on_train_begin(loop)
    for k, state in enumerate(weights):
        if k == 7:
            resumed.load_state_dict(first.state_dict())
            resumed.on_train_begin(loop)
        loop.model.load_state_dict(state)
        step(loop, first if k < 7 else resumed)
    first_state, second_state = average.state_dict(), resumed.state_dict()
    assert first_state["updates"] == second_state["updates"] == 10
    assert all(np.array_equal(value, second_state["average"][name]) for name, value in first_state["average"].items())
    average.on_train_begin(a_loop(model))
    assert average.updates == 0, "a new run begins a new average"


def test_a_saved_average_does_not_change_with_later_steps():
    average, loop = train.WeightAverage(0.5), a_loop(nn.Linear(3, 2))
    average.on_train_begin(loop)
    step(loop, average)
    saved, other = average.state_dict(), train.WeightAverage(0.5)
    other.load_state_dict(saved)
    before = {name: value.copy() for name, value in saved["average"].items()}
    loop.model.load_state_dict({name: value + 1 for name, value in loop.model.state_dict().items()})
    for callback in (average, other):
        step(loop, callback)
    assert all(np.array_equal(value, before[name]) for name, value in saved["average"].items())


def test_averages_of_half_precision_are_float32():
    average = train.WeightAverage(0.999)
    model, weights = training(average, dtype="float16")
    expected = weights[0]["W"].astype("float32")
    for state in weights[1:]:
        expected += (state["W"].astype("float32") - expected) * np.float32(0.001)
    np.testing.assert_allclose(average.state_dict()["average"]["W"], expected, rtol=1e-6)
    with average.averaged():
        assert model.W.dtype == "float16"


def test_frozen_parameters_are_not_averaged():
    average, model = train.WeightAverage(None), nn.Linear(3, 2)
    model.b.requires_grad = False
    loop = a_loop(model)
    average.on_train_begin(loop)
    step(loop, average)
    assert list(average.state_dict()["average"]) == ["W"]
    model.freeze()
    average.apply()


def test_errors_of_averages():
    with pytest.raises(ValueError, match="decay"):
        train.WeightAverage(1.0)
    with pytest.raises(ValueError, match="every"):
        train.WeightAverage(every=0)
    with pytest.raises(ValueError, match="no step after step 5 has run"):
        train.WeightAverage(start=5).apply()
    average = train.WeightAverage()
    average.load_state_dict({"updates": 1, "average": {"W": np.zeros((3, 3)), "x": np.zeros(1)}})
    with pytest.raises(ValueError, match="does not fit the model: W, x"):
        average.on_train_begin(a_loop(nn.Linear(3, 2), steps=1))
