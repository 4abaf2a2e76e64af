"""NumPy's functions in the formula of an op: compiled mode computes what eager mode computes, on NumPy's own arrays."""

import numpy as np
import pytest

from tinygrad_gru import Tensor, op, scan
from tinygrad_gru.scan import NotCompiledError

COMPILED = [
    np.absolute, np.fabs, np.square, lambda x: np.reciprocal(x + 9), lambda x: np.sum(x, 1),
    lambda x: np.max(x, axis=1, keepdims=True), lambda x: np.where(x > 0, x, 0.1 * x), lambda x: np.clip(x, -0.2, 0.3),
    lambda x: np.concatenate([x, 2 * x], 1), lambda x: np.stack([x, 2 * x], 1), lambda x: np.moveaxis(x, 0, 1),
    lambda x: np.float64(2) * x, lambda x: np.ones(3) * x, lambda x: np.broadcast_to(x[:1], (3, 3)),
    lambda x: x // 0.3, lambda x: x % -0.3,
]  # fmt: skip
#: What follows the second argument by position is a dtype, an array or an order in NumPy, and no `keepdims`.
EAGER = [
    lambda x: np.sum(x, 1, np.float64), lambda x: np.sum(x, 1, None, None, True), lambda x: np.max(x, 1, None),
    lambda x: np.reshape(x, (9,), "F"), lambda x: np.clip(x, a_min=-0.2, a_max=0.3),
]  # fmt: skip


def outputs(formula, dtype, compiled):
    def of_op(x):
        return formula(x)

    called = op(of_op)
    called.vjp(x=None)
    x = Tensor((np.random.default_rng(0).standard_normal((4, 3, 3)) * 4).astype(dtype) + np.asarray(1, dtype))
    return scan(lambda h, x: (h, called(x)), Tensor(np.zeros(1, "float32")), x, compiled=compiled)[1].numpy()


@pytest.mark.parametrize("formula", COMPILED)
def test_is_compiled_to_the_same(formula):
    eager, compiled = (outputs(formula, "float32", mode) for mode in (False, True))
    assert compiled.dtype == eager.dtype and compiled.shape == eager.shape
    np.testing.assert_allclose(compiled, eager, 1e-6)


@pytest.mark.parametrize("formula", EAGER)
def test_is_not_compiled_to_something_else(formula):
    with pytest.raises(NotCompiledError):
        outputs(formula, "float32", True)
    with pytest.warns(match="runs eagerly"):
        given = outputs(formula, "float32", None)
    np.testing.assert_array_equal(given, outputs(formula, "float32", False), strict=True)


@pytest.mark.parametrize("formula", [np.fabs, np.reciprocal])
def test_of_integers_is_not_compiled(formula):
    """Its values, or their dtype, are not those of abs(x) and 1 / x there."""
    with pytest.raises(NotCompiledError, match="of integers"):
        outputs(formula, "int32", True)
