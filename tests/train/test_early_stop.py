import pytest

from tinygrad_gru.train.stopping import EarlyStop


def test_early_stop_is_due_after_more_than_patience_evaluations_without_a_better_one():
    stop = EarlyStop(patience=1)
    assert [(stop.update(loss), stop.due) for loss in (3.0, 2.0, 2.5, 2.0)] == [
        (True, False),
        (True, False),
        (False, False),
        (False, True),
    ]


def test_a_better_loss_resets_the_count():
    stop = EarlyStop(patience=0)
    stop.update(2.0)
    stop.update(3.0)
    assert stop.due
    stop.update(1.0)
    assert not stop.due


def test_too_small_an_improvement_does_not_count():
    stop = EarlyStop(patience=5, min_improvement=0.1)
    assert [stop.update(loss) for loss in (2.0, 1.95, 1.85)] == [True, False, True]


def test_a_loss_that_is_not_finite_is_never_the_best():
    stop, nan, inf = EarlyStop(patience=1), float("nan"), float("inf")
    better = [stop.update(loss) for loss in (nan, inf, 5.0, nan, 4.0, -inf, 3.0)]
    assert better == [False, False, True, False, True, False, True]
    assert stop.best == 3.0


def test_early_stop_is_due_if_all_losses_are_nan():
    stop = EarlyStop(patience=1)
    assert [(stop.update(float("nan")), stop.due) for _ in range(2)] == [(False, False), (False, True)]
    assert stop.best is None


def test_without_patience_early_stop_is_never_due():
    stop = EarlyStop(patience=None)
    for loss in range(100):
        stop.update(float(loss))
    assert not stop.due
    assert stop.best == 0.0


def test_early_stop_restores_its_state():
    stop, other = EarlyStop(patience=2), EarlyStop(patience=2)
    stop.update(1.0)
    stop.update(2.0)
    other.load_state_dict(stop.state_dict())
    assert (other.best, other.since_best) == (1.0, 1)


@pytest.mark.parametrize("patience", [-1, 1.5, True])
def test_patience_is_a_number_of_evaluations(patience):
    with pytest.raises(ValueError, match="patience: expected a number of evaluations, 0 or more"):
        EarlyStop(patience)
