"""Sampling of a categorical distribution: frequencies, impossible classes, shapes, seeds and errors."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import leaf

from tinygrad_gru import Tensor, manual_seed, ops


def test_frequencies_are_the_probabilities():
    """By a χ² of 3 degrees of freedom, of which 1 % are above 11.3."""
    logits = np.array([0.0, 1.0, -1.0, 2.0], "float32")
    n, p = 20_000, np.exp(logits) / np.exp(logits).sum()
    samples = ops.categorical(Tensor(logits), sample_shape=n)
    counts = np.bincount(samples.numpy(), minlength=4)
    assert ((counts - n * p) ** 2 / (n * p)).sum() < 11.3
    assert samples.shape == (n,) and samples.dtype == "int64" and not samples.requires_grad


def test_impossible_classes_are_never_drawn():
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf])
    assert set(ops.categorical(logits, sample_shape=1000).tolist()) == {1, 3}
    assert ops.categorical(np.array([0.0, 1e30, 0.0]), sample_shape=9).tolist() == [1] * 9


@pytest.mark.parametrize(
    ("axis", "sample_shape", "shape"), [(-1, (), (2, 3)), (0, (), (3, 4)), (1, 5, (5, 2, 4)), (2, (5, 1), (5, 1, 2, 3))]
)
def test_shapes(axis, sample_shape, shape):
    logits = leaf(np.zeros((2, 3, 4)), "float16")
    assert ops.categorical(logits, axis=axis, sample_shape=sample_shape).shape == shape


def test_every_backend_draws_the_same_samples(backend):
    logits = np.random.default_rng(3).standard_normal((6, 7))
    manual_seed(8)
    host = ops.categorical(logits, sample_shape=50)
    manual_seed(8)
    np.testing.assert_array_equal(backend.to_host(ops.categorical(backend.asarray(logits), sample_shape=50)), host)
    assert not np.array_equal(ops.categorical(logits, sample_shape=50), host)


def test_invalid_logits_raise():
    for values in ([0.0, np.nan], [0.0, np.inf], [-np.inf, -np.inf]):
        with pytest.raises(ValueError, match=r"^categorical: logits have NaN or"):
            ops.categorical(np.array(values))
    for logits in (np.array([1, 2]), np.array(0.5)):
        with pytest.raises(TypeError, match="expected logits, floats with an axis of classes"):
            ops.categorical(logits)
