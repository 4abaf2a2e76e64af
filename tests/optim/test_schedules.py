from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tinygrad_gru import Tensor
from tinygrad_gru.optim import SGD, OneCycle, ReduceOnPlateau, Schedule, StepDecay, WarmupCosine, WarmupLinear

BASE_LRS = [0.5, 2.0]


@pytest.fixture
def optimizer():
    return SGD([{"parameters": [Tensor([1.0], requires_grad=True)], "lr": lr} for lr in BASE_LRS])


@pytest.fixture
def torch_optimizer():
    torch = pytest.importorskip("torch")
    return torch.optim.SGD([{"params": [torch.ones(1, requires_grad=True)], "lr": lr} for lr in BASE_LRS])


def lrs_of(groups):
    return [group["lr"] for group in groups]


def run(optimizer, schedule, calls):
    """The learning rates at each update; `calls` are what schedule.step is called with."""
    seen = [lrs_of(optimizer.groups)]
    for arguments in calls:
        schedule.step(*arguments)
        seen.append(lrs_of(optimizer.groups))
    return np.array(seen)


def run_torch(optimizer, schedule, calls):
    seen = [lrs_of(optimizer.param_groups)]
    for arguments in calls:
        optimizer.step()
        schedule.step(*arguments)
        seen.append(lrs_of(optimizer.param_groups))
    return np.array(seen)


@pytest.mark.parametrize(("every", "decay"), [(1, 0.9), (3, 0.1), (7, 0.5), (100, 0.5)])
def test_step_decay_equals_torch(optimizer, torch_optimizer, every, decay):
    from torch.optim.lr_scheduler import StepLR

    ours = run(optimizer, StepDecay(optimizer, every, decay), [()] * 30)
    theirs = run_torch(torch_optimizer, StepLR(torch_optimizer, every, decay), [()] * 30)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_step_decay_by_its_formula(optimizer):
    rates = run(optimizer, StepDecay(optimizer, every=2, decay=0.5), [()] * 5)
    np.testing.assert_allclose(rates[:, 0], [0.5, 0.5, 0.25, 0.25, 0.125, 0.125])
    np.testing.assert_allclose(rates[:, 1], 4 * rates[:, 0])


def test_warmup_linear_by_hand(optimizer):
    rates = run(optimizer, WarmupLinear(optimizer, total_steps=10, warmup=0.2), [()] * 12)
    thirds, eighths = [1 / 3, 2 / 3], [k / 8 for k in range(8, 0, -1)]
    np.testing.assert_allclose(rates[:, 0], 0.5 * np.array([*thirds, *eighths, 0, 0, 0]))
    np.testing.assert_allclose(rates[:, 1], 2.0 * np.array([*thirds, *eighths, 0, 0, 0]))


def test_warmup_cosine_by_hand(optimizer):
    rates = run(optimizer, WarmupCosine(optimizer, total_steps=6, warmup=1 / 3, floor=0.1), [()] * 8)
    half = math.sqrt(0.5)
    cosines = [1, 0.1 + 0.45 * (1 + half), 0.55, 0.1 + 0.45 * (1 - half), 0.1, 0.1, 0.1]
    np.testing.assert_allclose(rates[:, 0], 0.5 * np.array([1 / 3, 2 / 3, *cosines]))


@pytest.mark.parametrize("schedule_class", [WarmupLinear, WarmupCosine])
@pytest.mark.parametrize(("total", "warmup"), [(100, 0.05), (100, 0.0), (1000, 0.3), (1, 0.0), (1, 0.05), (7, 0.5)])
def test_warmups_rise_to_one_decay_and_are_above_0_at_every_update(optimizer, schedule_class, total, warmup):
    schedule = schedule_class(optimizer, total, warmup=warmup)
    factors = [schedule.factor(t) for t in range(total)]
    peak = round(warmup * total)
    assert min(factors) > 0
    assert factors[peak] == max(factors) == 1
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert schedule.factor(total) == 0


def test_a_warmup_without_decay(optimizer):
    assert WarmupLinear(optimizer, 4, warmup=1.0).factor(3) == 4 / 5


def test_warmup_cosine_equals_torch_after_the_warmup(optimizer, torch_optimizer):
    from torch.optim.lr_scheduler import CosineAnnealingLR

    ours = run(optimizer, WarmupCosine(optimizer, 40, warmup=0.0, floor=0.0), [()] * 40)
    theirs = run_torch(torch_optimizer, CosineAnnealingLR(torch_optimizer, 40), [()] * 40)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("total", [25, 100])
@pytest.mark.parametrize(("rise", "div", "final_div"), [(0.3, 25.0, 1e4), (0.5, 10.0, 100.0), (0.05, 5.0, 2.0)])
def test_one_cycle_equals_torch(optimizer, torch_optimizer, total, rise, div, final_div):
    from torch.optim.lr_scheduler import OneCycleLR

    ours = OneCycle(optimizer, total, rise=rise, start=1 / div, end=1 / div / final_div)
    theirs = OneCycleLR(
        torch_optimizer, BASE_LRS, total, pct_start=rise, div_factor=div, final_div_factor=final_div,
        cycle_momentum=False,
    )  # fmt: skip
    np.testing.assert_allclose(
        run(optimizer, ours, [()] * (total - 1)), run_torch(torch_optimizer, theirs, [()] * (total - 1)), rtol=1e-9
    )


def test_one_cycle_by_hand(optimizer):
    schedule = OneCycle(optimizer, total_steps=9, rise=5 / 9, start=0.2, end=0.1)
    half = math.sqrt(0.5)
    rise = [0.2, 0.2 + 0.4 * (1 - half), 0.6, 0.2 + 0.4 * (1 + half), 1.0]
    fall = [0.1 + 0.45 * (1 + half), 0.55, 0.1 + 0.45 * (1 - half), 0.1, 0.1, 0.1]
    np.testing.assert_allclose([schedule.factor(t) for t in range(11)], rise + fall)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_one_cycle_of_a_few_steps(optimizer, total):
    schedule = OneCycle(optimizer, total)
    assert all(0 < schedule.factor(t) <= 1 for t in range(total + 2))
    assert schedule.factor(total) == 4e-6


def metrics(seed, steps=120):
    """A loss that falls, stands still, and falls again, with noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(steps)
    values = 3 * np.exp(-t / 10) + (t < steps // 2) + 0.02 * rng.standard_normal(steps)
    return [(float(value),) for value in values + 0.5]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("cooldown", [0, 4])
@pytest.mark.parametrize(("patience", "threshold"), [(0, 0.0), (3, 1e-2), (10, 1e-4)])
def test_plateau_equals_torch(optimizer, torch_optimizer, seed, mode, relative, cooldown, patience, threshold):
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    shared = {"mode": mode, "patience": patience, "threshold": threshold, "cooldown": cooldown}
    ours = ReduceOnPlateau(optimizer, decay=0.5, relative=relative, floor=0.01, **shared)
    theirs = ReduceLROnPlateau(
        torch_optimizer, factor=0.5, threshold_mode="rel" if relative else "abs",
        min_lr=[0.01 * lr for lr in BASE_LRS], eps=0, **shared,
    )  # fmt: skip
    ours, theirs = run(optimizer, ours, metrics(seed)), run_torch(torch_optimizer, theirs, metrics(seed))
    assert ours[-1, 0] < ours[0, 0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_plateau_waits_for_more_than_its_patience(optimizer):
    rates = run(optimizer, ReduceOnPlateau(optimizer, decay=0.1, patience=2), [(1.0,)] * 8)
    np.testing.assert_allclose(rates[:, 0], 0.5 * np.array([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01]))


def test_plateau_threshold_of_a_negative_metric(optimizer):
    schedule = ReduceOnPlateau(optimizer, patience=0, threshold=0.1)
    schedule.step(-10.0)
    schedule.step(-10.5)
    assert schedule.reductions == 1
    schedule.step(-11.5)
    assert (schedule.reductions, schedule.best) == (1, -11.5)


def test_nan_is_no_improvement(optimizer):
    schedule = ReduceOnPlateau(optimizer, patience=1)
    for metric in [math.nan, 1.0, math.nan, math.nan]:
        schedule.step(metric)
    assert (schedule.best, schedule.reductions) == (1.0, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: StepDecay(optimizer, 5, 0.5),
        lambda optimizer: WarmupLinear(optimizer, 40),
        lambda optimizer: WarmupCosine(optimizer, 40, warmup=0.25, floor=0.1),
        lambda optimizer: OneCycle(optimizer, 40),
        lambda optimizer: ReduceOnPlateau(optimizer, decay=0.5, patience=2, cooldown=3, threshold=0.05),
    ],
)
@pytest.mark.parametrize("decayed", [False, True])
def test_a_resumed_schedule_is_bit_identical(make, decayed):
    def new_optimizer(lrs):
        return SGD([{"parameters": [Tensor([1.0], requires_grad=True)], "lr": lr} for lr in lrs])

    for cut in range(40):
        optimizer = new_optimizer(BASE_LRS)
        schedule = make(optimizer)
        calls = metrics(0, 40) if isinstance(schedule, ReduceOnPlateau) else [()] * 40
        run(optimizer, schedule, calls[:cut])
        saved = json.loads(json.dumps(schedule.state_dict(), allow_nan=False))
        at_save = lrs_of(optimizer.groups)
        rest = run(optimizer, schedule, calls[cut:])

        # The optimizer's own state, and with it the decayed rates, may be loaded before the schedule is made.
        other = new_optimizer(at_save if decayed else BASE_LRS)
        resumed = make(other)
        resumed.load_state_dict(saved)
        assert lrs_of(other.groups) == at_save
        np.testing.assert_array_equal(run(other, resumed, calls[cut:]), rest)


def test_a_new_plateau_can_be_saved(optimizer):
    schedule = ReduceOnPlateau(optimizer)
    saved = json.loads(json.dumps(schedule.state_dict(), allow_nan=False))
    schedule.load_state_dict(saved)
    assert schedule.best is None


def test_a_resumed_run_may_be_given_more_steps(optimizer):
    saved = WarmupLinear(optimizer, 100).state_dict()
    longer = WarmupLinear(optimizer, 200)
    longer.load_state_dict(saved)
    assert longer.factor(150) > 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: {**s, "schedule": "OneCycle"}, "expected WarmupLinear, got OneCycle"),
        (lambda s: {}, "expected WarmupLinear, got None"),
        (lambda s: {**s, "base_lrs": [1.0]}, "1 groups, expected 2"),
        (lambda s: {name: value for name, value in s.items() if name != "steps"}, "steps missing"),
        (lambda s: {**s, "steps": -3}, "steps: expected a whole number of at least 0, got -3"),
        (lambda s: {**s, "base_lrs": [0.1, np.nan]}, r"base_lrs\[1\]: expected a number of at least 0 and below inf"),
    ],
)
def test_loading_an_invalid_state_raises_and_changes_nothing(optimizer, spoil, message):
    schedule = WarmupLinear(optimizer, 10)
    schedule.step()
    before = schedule.state_dict()
    with pytest.raises(ValueError, match=message):
        schedule.load_state_dict(spoil(before))
    assert schedule.state_dict() == before


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda o: StepDecay(o, 0), "every"),
        (lambda o: StepDecay(o, 2.5), "every"),
        (lambda o: StepDecay(o, 2, decay=1.5), "decay"),
        (lambda o: WarmupLinear(o, 0), "total_steps"),
        (lambda o: WarmupLinear(o, 10, warmup=50), "warmup"),
        (lambda o: WarmupCosine(o, 10, floor=-0.1), "floor"),
        (lambda o: OneCycle(o, 10, rise=1.1), "rise"),
        (lambda o: OneCycle(o, 10, start=25.0), "start"),
        (lambda o: OneCycle(o, 10, end=math.nan), "end"),
        (lambda o: ReduceOnPlateau(o, mode="lower"), "mode"),
        (lambda o: ReduceOnPlateau(o, patience=-1), "patience"),
        (lambda o: ReduceOnPlateau(o, cooldown=-1), "cooldown"),
        (lambda o: ReduceOnPlateau(o, threshold=-1.0), "threshold"),
    ],
)
def test_an_invalid_argument_is_named(optimizer, make, name):
    with pytest.raises(ValueError, match=f"{name}: expected"):
        make(optimizer)
    assert lrs_of(optimizer.groups) == BASE_LRS


def test_a_user_defined_schedule(optimizer):
    class InverseRoot(Schedule):
        def factor(self, t):
            return (t + 1) ** -0.5

    rates = run(optimizer, InverseRoot(optimizer), [()] * 3)
    np.testing.assert_allclose(rates[:, 1], [2.0, 2.0 / math.sqrt(2), 2.0 / math.sqrt(3), 1.0])


def test_state_dict_of_a_schedule_copies():
    optimizer = SGD([Tensor([1.0], requires_grad=True)], lr=0.5)
    schedule = StepDecay(optimizer, every=10)
    saved = schedule.state_dict()
    saved["base_lrs"][0] = 7.0
    assert schedule.base_lrs == [0.5]
    schedule.load_state_dict(saved)
    saved["base_lrs"][0] = 9.0
    schedule.step()
    assert optimizer.groups[0]["lr"] == 7.0


@pytest.mark.parametrize("sign", [1, -1])
def test_plateau_improves_on_an_infinite_best(optimizer, sign):
    schedule = ReduceOnPlateau(optimizer, mode="min" if sign > 0 else "max", patience=1)
    for metric in (math.inf, 5.0, 4.0, math.nan, 3.0, 2.0):
        schedule.step(sign * metric)
    assert schedule.best == sign * 2.0 and schedule.reductions == 0
    for _ in range(2):
        schedule.step(sign * math.inf)  # worse than any
    assert schedule.best == sign * 2.0 and schedule.reductions == 1
