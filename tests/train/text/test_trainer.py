import json

import numpy as np
import pytest
from support.stand_in_cupy import stand_in_cupy

from tinygrad_gru.scan import compiling
from tinygrad_gru.train import LossScaler, TextRun, TrainingError
from tinygrad_gru.train import trainer as module

CELLS = ["gru", "lstm", "rnn"]
PRECISIONS = ["float32", "float16"]


def weights(trainer):
    return trainer.model.state_dict()


def assert_identical(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert np.array_equal(left[name], right[name]), name


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("interrupted_after", [0, 3, 11])
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(small, cell, interrupted_after):
    settings = small(cell=cell, layers=2, dropout=0.3)
    undisturbed = TextRun(settings).trainer
    expected = [undisturbed.step() for _ in range(14)]

    interrupted = TextRun(settings).trainer
    for _ in range(interrupted_after):
        interrupted.step()
    state = interrupted.state_dict()
    resumed = TextRun(settings).trainer
    resumed.load_state_dict(state)
    assert [resumed.step() for _ in range(14 - interrupted_after)] == expected[interrupted_after:]
    assert_identical(weights(resumed), weights(undisturbed))


@pytest.mark.parametrize("interrupted_after", [2, 7])
def test_a_resumed_run_in_float16_is_bit_identical_too(small, interrupted_after):
    def trainer():
        built = TextRun(small(precision="float16", dropout=0.3)).trainer
        built.scaler = LossScaler(2.0**20, growth_interval=3)  # now and then too high
        return built

    undisturbed = trainer()
    expected = [undisturbed.step() for _ in range(12)]
    assert {step.gradient_norm is None for step in expected[interrupted_after:]} == {True, False}
    interrupted = trainer()
    for _ in range(interrupted_after):
        interrupted.step()
    state = interrupted.state_dict()
    resumed = trainer()
    resumed.load_state_dict(state)
    assert [resumed.step() for _ in range(12 - interrupted_after)] == expected[interrupted_after:]
    assert_identical(weights(resumed), weights(undisturbed))
    assert vars(resumed.scaler) == vars(undisturbed.scaler)


@pytest.mark.parametrize("forgotten", ["scaler", "model", "optimizer", "schedule", "stream", "random", "carried"])
def test_every_part_of_the_state_matters(small, forgotten):
    """The test above can fail: it depends on each part of the state."""
    settings = small(dropout=0.3, precision="float16" if forgotten == "scaler" else "float32")
    undisturbed, resumed = TextRun(settings).trainer, TextRun(settings).trainer
    if forgotten == "scaler":
        undisturbed.scaler, resumed.scaler = LossScaler(2.0**24), LossScaler(2.0**24)
    fresh = resumed.state_dict()
    for _ in range(3):
        undisturbed.step()
    parts = ("carried", "carried_structure") if forgotten == "carried" else (forgotten,)
    resumed.load_state_dict({**undisturbed.state_dict(), **{part: fresh[part] for part in parts}})
    assert [undisturbed.step() for _ in range(3)] != [resumed.step() for _ in range(3)]


def test_training_lowers_the_loss(small):
    trainer = TextRun(small(characters=150 * 64)).trainer
    losses = [trainer.step().loss for _ in range(150)]
    assert np.mean(losses[-10:]) < losses[0] - 0.5


@pytest.mark.parametrize("cell", CELLS)
def test_no_gradient_goes_back_beyond_the_window(small, cell):
    """The carried state is a constant."""
    trainer = TextRun(small(cell=cell)).trainer
    trainer.step()
    carried = trainer._carried
    for part in carried if isinstance(carried, tuple) else (carried,):
        assert not part.requires_grad


def test_the_state_is_carried_within_an_epoch_and_not_into_the_next(small, monkeypatch):
    trainer = TextRun(small()).trainer
    states = []
    original = module.call_model
    monkeypatch.setattr(module, "call_model", lambda *given: states.append(given[2]) or original(*given))
    for _ in range(len(trainer.source) + 2):
        trainer.step()
    begins = [number for number, state in enumerate(states) if state is None]
    assert begins == [0, len(trainer.source)]


def test_gradients_are_clipped_before_the_step(small):
    trainer = TextRun(small()).trainer
    trainer.clip_norm = 1e-3
    norm = trainer.step().gradient_norm
    assert norm > 1e-3
    squares = sum(float((parameter.grad.numpy() ** 2).sum()) for parameter in trainer.model.parameters())
    assert squares**0.5 == pytest.approx(1e-3, rel=1e-3)


def test_the_learning_rate_rises_and_falls(small):
    trainer = TextRun(small(characters=100 * 64, lr=0.01)).trainer
    rates = [trainer.step().lr for _ in range(100)]
    peak = int(np.argmax(rates))
    assert rates[peak] == pytest.approx(0.01)
    assert 4 <= peak <= 6
    assert all(np.diff(rates[: peak + 1]) > 0) and all(np.diff(rates[peak:]) < 0)
    assert 0 < rates[-1] < 0.001


def test_characters_are_counted(small):
    run = TextRun(small())
    run.trainer.step()
    run.trainer.step()
    assert run.characters == 2 * 4 * 16


@pytest.mark.parametrize("spoil", ["weights", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_training_before_the_weights_change(small, spoil):
    trainer = TextRun(small()).trainer
    weight = next(iter(trainer.model.parameters()))
    if spoil == "weights":
        weight.data[...] = np.nan
    else:
        weight.register_hook(lambda gradient: gradient * float("inf"))
    before = weights(trainer)
    with pytest.raises(TrainingError, match=r"at step 1 .* a learning rate of .* diverged"), np.errstate(all="ignore"):
        trainer.step()
    assert all(np.array_equal(array, before[name], equal_nan=True) for name, array in weights(trainer).items())


@pytest.mark.parametrize("cell", CELLS)
def test_float16_learns_as_float32_does(small, cell):
    settings = {precision: small(cell=cell, characters=60 * 64, precision=precision) for precision in PRECISIONS}
    losses = {}
    for precision, setting in settings.items():
        trainer = TextRun(setting).trainer
        losses[precision] = np.array([trainer.step().loss for _ in range(60)])
        assert {array.dtype for array in weights(trainer).values()} == {np.dtype("float32")}
        assert {array.dtype for array in trainer.state_dict()["carried"]} == {np.dtype("float32")}
    assert losses["float16"][-1] < losses["float16"][0] - 0.2
    np.testing.assert_allclose(losses["float16"], losses["float32"], atol=2e-3)
    assert not np.array_equal(losses["float16"], losses["float32"])


def test_a_step_whose_gradient_overflows_is_skipped_and_its_window_is_used_up(small):
    trainer, calm = (TextRun(small(precision="float16")).trainer for _ in range(2))
    trainer.scaler = LossScaler(2.0**24)
    before = trainer.state_dict()
    step = trainer.step()
    after = trainer.state_dict()
    assert step.gradient_norm is None and np.isfinite(step.loss)
    json.dumps(step._asdict(), allow_nan=False)
    assert (trainer.scaler.scale, trainer.scaler.skipped, trainer.steps) == (2.0**23, 1, 1)
    assert_identical(after["model"], before["model"])
    assert after["optimizer"]["steps"] == 0
    calm.step()
    for part in ("stream", "schedule"):
        assert after[part] == calm.state_dict()[part]
    assert np.array_equal(after["carried"], calm.state_dict()["carried"])


@pytest.mark.parametrize("spoil", ["weights", "gradient"])
def test_infinite_gradients_at_scale_1_stop_float16_training(small, spoil):
    trainer = TextRun(small(precision="float16")).trainer
    trainer.scaler = LossScaler(2)
    weight = next(iter(trainer.model.parameters()))
    if spoil == "weights":
        weight.data[...] = np.nan
    else:
        weight.register_hook(lambda gradient: gradient * float("inf"))
        assert trainer.step().gradient_norm is None
    with pytest.raises(TrainingError, match="diverged"), np.errstate(all="ignore"):
        trainer.step()


def test_gradients_are_unscaled_before_clipping(small):
    trainers = {precision: TextRun(small(precision=precision)).trainer for precision in PRECISIONS}
    norms = {precision: trainer.step().gradient_norm for precision, trainer in trainers.items()}
    assert norms["float16"] == pytest.approx(norms["float32"], rel=1e-2)
    assert norms["float16"] != norms["float32"]


@pytest.mark.parametrize("first", PRECISIONS)
def test_a_state_is_loaded_in_another_precision(small, first):
    (second,) = set(PRECISIONS) - {first}
    undisturbed = TextRun(small(precision=first)).trainer
    for _ in range(3):
        undisturbed.step()
    trainer = TextRun(small(precision=second)).trainer
    scale = trainer.scaler.scale
    trainer.load_state_dict(undisturbed.state_dict())
    assert trainer.scaler.scale == scale, "the scale of one precision is of no use in another"
    assert_identical(weights(trainer), weights(undisturbed))
    losses, expected = ([trained.step().loss for _ in range(5)] for trained in (trainer, undisturbed))
    np.testing.assert_allclose(losses, expected, atol=1e-3)


def test_a_state_without_a_precision_is_float32(small):
    trainer = TextRun(small()).trainer
    trainer.step()
    state = trainer.state_dict()
    del state["precision"], state["scaler"]
    resumed = TextRun(small()).trainer
    resumed.load_state_dict(state)
    assert resumed.step() == trainer.step()


def test_float16_synchronizes_no_more_often_than_float32(small, monkeypatch):
    """Overflows show in the norm of the gradients, which is read anyway."""
    asked = {}
    with stand_in_cupy(monkeypatch) as cupy, compiling(False):
        for precision in PRECISIONS:
            trainer = TextRun(small(window=3, precision=precision), "cupy").trainer
            trainer.optimizer.step = lambda: None  # the same in both
            before = {kind: cupy.machine.count(kind) for kind in ("to host", "wait")}
            assert trainer.step().gradient_norm is not None
            asked[precision] = {kind: cupy.machine.count(kind) - count for kind, count in before.items()}
    assert asked["float16"] == asked["float32"]
    assert asked["float32"]["to host"] > 0


def test_a_state_of_another_model_is_refused(small):
    state = TextRun(small(cell="gru")).trainer.state_dict()
    with pytest.raises((ValueError, KeyError)):
        TextRun(small(cell="lstm")).trainer.load_state_dict(state)
