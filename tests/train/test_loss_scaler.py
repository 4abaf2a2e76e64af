import json
import math
import warnings

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, ops
from tinygrad_gru.optim import SGD, clip_gradient_norm
from tinygrad_gru.train import LossScaler, mixed_precision


def test_an_overflow_halves_the_scale_and_skips_the_step():
    scaler = LossScaler()
    assert scaler.scale == 2**16
    assert not scaler.update(False)
    assert not scaler.update(False)
    assert (scaler.scale, scaler.skipped) == (2**14, 2)
    assert scaler.update(True)
    assert (scaler.scale, scaler.skipped) == (2**14, 2)


def test_the_scale_doubles_after_growth_interval_good_steps():
    scaler = LossScaler(8, growth_interval=3)
    answers = [scaler.update(finite) for finite in (True, True, False, True, True, True, True, True)]
    assert answers == [True, True, False, True, True, True, True, True]
    assert (scaler.scale, scaler.good_steps) == (8, 2)
    scaler.update(True)
    assert (scaler.scale, scaler.good_steps) == (16, 0)


def test_2000_good_steps_are_the_default():
    scaler = LossScaler()
    scales = [scaler.scale for _ in range(2001) if scaler.update(True)]
    assert scales[1998:] == [2**16, 2**17, 2**17]


def test_the_scale_stays_below_its_limit():
    scaler = LossScaler(2**24, growth_interval=1)
    scaler.update(True)
    assert scaler.scale == 2**24


def test_without_growth_the_scale_only_falls():
    scaler = LossScaler(2, growth_interval=None)
    assert all(scaler.update(True) for _ in range(5000))
    assert scaler.scale == 2


def test_infinite_gradients_without_scaling_are_an_error():
    scaler = LossScaler(2)
    assert scaler.can_shrink
    assert not scaler.update(False)
    assert not scaler.can_shrink
    with pytest.raises(FloatingPointError, match="not finite although the loss was not scaled"):
        scaler.update(False)


@pytest.mark.parametrize("scale", [3, 0.5, 0, -2, 2**25, math.inf, math.nan, 65535])
def test_a_scale_that_would_round_is_refused(scale):
    with pytest.raises(ValueError, match="scale: expected a power of two from 1 to 2\\*\\*24, got"):
        LossScaler(scale)


@pytest.mark.parametrize("interval", [0, -1, 2.5])
def test_a_growth_interval_is_a_number_of_steps(interval):
    with pytest.raises(ValueError, match="growth_interval: expected a number of steps"):
        LossScaler(growth_interval=interval)


def test_scaling_and_unscaling_are_exact(rng):
    """Bit for bit: the scale is a power of two."""
    values = (rng.standard_normal(1000) * 10.0 ** rng.integers(-20, 10, 1000)).astype("float32")
    x = Tensor(np.ones(1000), requires_grad=True, dtype="float32")
    frozen = Tensor([1.0], requires_grad=True)
    scaler = LossScaler(2**24)
    scaler.backward(ops.sum(x * values))
    assert np.array_equal(x.grad.numpy(), values * np.float32(2**24))
    before = x.grad
    scaler.unscale([x, frozen])
    assert np.array_equal(x.grad.numpy(), values)
    assert frozen.grad is None
    assert np.array_equal(before.numpy(), values * np.float32(2**24)), "who else holds the gradient sees no change"


def tiny_gradients(scale):
    """Gradients of a loss of 10⁻⁸, in float32 and in float16 with a scaler of that scale."""
    layer = nn.Linear(3, 2)
    x = Tensor(np.linspace(-1, 1, 12).reshape(4, 3), dtype="float32")
    results = []
    for model, scaler in ((layer, LossScaler(1)), (mixed_precision(layer, "float16"), LossScaler(scale))):
        layer.zero_grad()
        scaler.backward(1e-8 * ops.mean(ops.square(model(x))))
        scaler.unscale(layer.parameters())
        results.append(np.concatenate([parameter.grad.numpy().ravel() for parameter in layer.parameters()]))
    return results


def test_gradients_that_would_underflow_are_kept_by_the_scale():
    expected, found = tiny_gradients(scale=2**16)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01 * np.abs(expected).max())


def test_without_a_scale_gradients_underflow():
    """The test above can fail: without the scale they are zero."""
    expected, found = tiny_gradients(scale=1)
    assert np.abs(expected).max() > 0 and not found.any()


def overflowing():
    """A layer whose gradient overflows in float16 at a scale of 2¹⁶ and not at 2¹⁰."""
    layer = nn.Linear(1, 1, bias=False)
    layer.W.data[...] = 1.0
    return layer, mixed_precision(layer, "float16"), Tensor([[4.0]])


def test_a_custom_loop_finds_its_scale():
    layer, half, x = overflowing()
    adam, scaler, made = SGD(layer.parameters(), lr=1e-3), LossScaler(), []
    for _ in range(20):
        adam.zero_grad()
        scaler.backward(ops.mean(ops.square(half(x))))
        scaler.unscale(adam.parameters())
        norm = clip_gradient_norm(adam.parameters(), 1.0)
        made.append(scaler.update(math.isfinite(norm)))
        if made[-1]:
            adam.step()
    skipped = made.index(True)
    assert 0 < skipped < 10 and all(made[skipped:])
    assert scaler.scale == 2 ** (16 - skipped)
    assert layer.W.item() == pytest.approx(1 - 1e-3 * (20 - skipped)), "clipping sees unscaled gradients"


def test_a_handled_overflow_does_not_warn():
    layer, half, x = overflowing()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LossScaler().backward(ops.mean(ops.square(half(x))))
    assert not np.isfinite(layer.W.grad.numpy()).any()
    with pytest.warns(RuntimeWarning, match="overflow"):
        LossScaler(1).backward(1e6 * ops.mean(ops.square(half(x))))


def test_a_loss_must_be_a_scalar():
    with pytest.raises(RuntimeError, match="only a tensor with one element can do without"):
        LossScaler().backward(Tensor([1.0, 2.0], requires_grad=True))


def test_a_scaler_restores_its_state():
    scaler, other = LossScaler(growth_interval=3), LossScaler(growth_interval=3)
    answers = [True, False, True, True]
    for finite in answers:
        scaler.update(finite)
    other.load_state_dict(json.loads(json.dumps(scaler.state_dict())))
    assert vars(other) == vars(scaler) == {"scale": 2**15, "growth_interval": 3, "good_steps": 2, "skipped": 1}
    scaler.update(True), other.update(True)
    assert scaler.scale == other.scale == 2**16


def test_a_state_that_is_incomplete_is_refused():
    with pytest.raises(ValueError, match="saved loss scaler: good_steps, skipped missing"):
        LossScaler().load_state_dict({"scale": 2.0})


@pytest.mark.parametrize("good_steps", [3, 4, 1999])
def test_a_scaler_loaded_at_or_past_its_interval_still_grows(good_steps):
    scaler = LossScaler(2.0, growth_interval=3)
    scaler.load_state_dict({"scale": 8.0, "good_steps": good_steps, "skipped": 0})
    scales = []
    for _ in range(4):
        scaler.update(True)
        scales.append(scaler.scale)
    assert scales == [16, 16, 16, 32]


def test_a_scaler_that_does_not_grow_takes_any_count():
    scaler = LossScaler(1, growth_interval=None)
    scaler.load_state_dict({"scale": 1.0, "good_steps": 5000, "skipped": 0})
    scaler.update(True)
    assert (scaler.scale, scaler.good_steps) == (1, 5001)


@pytest.mark.parametrize(
    "spoiled",
    [{"scale": 3.0}, {"scale": float("nan")}, {"scale": "2"}, {"good_steps": -1}, {"skipped": 1.5}, {"skipped": None}],
)
def test_an_invalid_state_is_refused_and_changes_nothing(spoiled):
    scaler = LossScaler()
    before = dict(vars(scaler))
    with pytest.raises(ValueError, match=next(iter(spoiled))):
        scaler.load_state_dict({"scale": 2.0, "good_steps": 1, "skipped": 1, **spoiled})
    assert vars(scaler) == before


def test_the_growth_interval_may_be_a_numpy_integer():
    assert LossScaler(growth_interval=np.int64(3)).growth_interval == 3
