import numpy as np
import pytest

from tinygrad_gru.train import TextRun, TrainingError

CELLS = ["gru", "lstm", "rnn"]


def weights(trainer):
    return trainer.model.state_dict()


def assert_identical(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert np.array_equal(left[name], right[name]), name


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("interrupted_after", [0, 3, 11])
def test_a_resumed_run_is_bit_identical_to_an_undisturbed_one(small, cell, interrupted_after):
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


@pytest.mark.parametrize("forgotten", ["model", "optimizer", "schedule", "stream", "random", "carried"])
def test_every_part_of_the_state_matters(small, forgotten):
    """The test above can fail: what it proves depends on each part of what is saved."""
    settings = small(dropout=0.3)
    undisturbed, resumed = TextRun(settings).trainer, TextRun(settings).trainer
    fresh = resumed.state_dict()
    for _ in range(3):
        undisturbed.step()
    resumed.load_state_dict({**undisturbed.state_dict(), forgotten: fresh[forgotten]})
    assert [undisturbed.step() for _ in range(3)] != [resumed.step() for _ in range(3)]


def test_steps_learn(small):
    trainer = TextRun(small(characters=150 * 64)).trainer
    losses = [trainer.step().loss for _ in range(150)]
    assert np.mean(losses[-10:]) < losses[0] - 0.5


@pytest.mark.parametrize("cell", CELLS)
def test_no_gradient_goes_back_past_the_window(small, cell):
    """The second step equals one whose state came from nowhere: a constant of the same values."""
    trainer = TextRun(small(cell=cell)).trainer
    trainer.step()
    carried = trainer._carried
    for part in carried if isinstance(carried, tuple) else (carried,):
        assert not part.requires_grad


def test_the_state_is_carried_within_an_epoch_and_not_into_the_next(small):
    trainer = TextRun(small()).trainer
    states = []
    original = trainer.model.loss
    trainer.model.loss = lambda ids, targets, state: states.append(state) or original(ids, targets, state)
    for _ in range(len(trainer.stream) + 2):
        trainer.step()
    begins = [number for number, state in enumerate(states) if state is None]
    assert begins == [0, len(trainer.stream)]


def test_gradients_are_clipped_before_the_step(small):
    trainer = TextRun(small()).trainer
    trainer.max_norm = 1e-3
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
    trainer = TextRun(small()).trainer
    trainer.step()
    trainer.step()
    assert trainer.characters == 2 * 4 * 16


@pytest.mark.parametrize("spoil", ["weights", "gradient"])
def test_a_loss_or_gradient_that_is_no_number_stops_training_before_the_weights_change(small, spoil):
    trainer = TextRun(small()).trainer
    weight = next(iter(trainer.model.parameters()))
    if spoil == "weights":
        weight.data[...] = np.nan
    else:
        weight.register_hook(lambda gradient: gradient * float("inf"))
    before = weights(trainer)
    with pytest.raises(TrainingError, match=r"at step 1 .* diverged .a learning rate of"), np.errstate(all="ignore"):
        trainer.step()
    assert all(np.array_equal(array, before[name], equal_nan=True) for name, array in weights(trainer).items())


def test_a_state_of_another_model_is_refused(small):
    state = TextRun(small(cell="gru")).trainer.state_dict()
    with pytest.raises((ValueError, KeyError)):
        TextRun(small(cell="lstm")).trainer.load_state_dict(state)
