"""Duck arrays: operators and derived functions, on a duck array that wraps NumPy's and has the primitives alone."""

from __future__ import annotations

import operator

import numpy as np
import pytest

from tinygrad_gru import Tensor
from tinygrad_gru.backend.duck_array import OPERATORS, DuckArray, DuckNamespace


def unwrap(x):
    return x.array if isinstance(x, Wrapped) else x


class Primitives(DuckNamespace):
    """The primitives that derived classes must define, and nothing more."""

    def elementwise(self, function, *operands):
        return Wrapped(getattr(np, function)(*map(unwrap, operands)))

    def reduction(self, function, x, axes, keepdims):
        return Wrapped(getattr(np, function)(x.array, axis=axes, keepdims=keepdims))

    def getitem(self, x, index):
        return Wrapped(x.array[index])

    def reshape(self, x, shape):
        return Wrapped(np.reshape(x.array, shape))

    def permute_dims(self, x, axes):
        return Wrapped(np.transpose(x.array, axes))

    def concat(self, arrays, axis=0):
        return Wrapped(np.concatenate([x.array for x in arrays], axis))

    def matmul(self, a, b):
        return Wrapped(np.matmul(unwrap(a), unwrap(b)))

    def bitwise_and(self, a, b):
        return Wrapped(unwrap(a) & unwrap(b))

    def bitwise_or(self, a, b):
        return Wrapped(unwrap(a) | unwrap(b))


class Wrapped(DuckArray):
    __slots__ = ("array",)
    namespace = Primitives()

    def __init__(self, array):
        self.array = np.asarray(array)

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)

    def concretize(self, conversion):
        raise TypeError(f"no {conversion.__name__} of it")


A, B = np.random.default_rng(0).uniform(0.5, 2, (2, 2, 3, 3))


@pytest.mark.parametrize("function", OPERATORS)
def test_operators(function):
    operate = OPERATORS[function]
    a, b = (A > 1, B > 1) if function.startswith("bitwise") else (A, B)
    for x, y in ((Wrapped(a), Wrapped(b)), (Wrapped(a), b)):
        np.testing.assert_array_equal(operate(x, y).array, operate(a, b))
    if not function.startswith("bitwise"):
        np.testing.assert_array_equal(
            operate(a, Wrapped(b)).array, operate(a, b)
        )  # reflected, or the comparison turned
    if function not in ("matmul", "bitwise_and", "bitwise_or"):
        np.testing.assert_array_equal(operate(Wrapped(a), 2).array, operate(a, 2))
        np.testing.assert_array_equal(operate(2, Wrapped(a)).array, operate(2, a))
    np.testing.assert_array_equal((-Wrapped(A)).array, -A)


def test_functions_of_python():
    x = Wrapped(A)
    for function in (abs, operator.pos):
        np.testing.assert_array_equal(function(Wrapped(-A)).array, function(-A))
    assert len(x) == 2 and [row.shape for row in x] == [(3, 3)] * 2
    np.testing.assert_array_equal(list(x)[1].array, A[1])
    for call in (len, list):
        with pytest.raises(TypeError, match="without axes has no length"):
            call(Wrapped(np.float64(1)))
    for call in (lambda: x // 2, lambda: divmod(x, 2), lambda: 2 % x, lambda: ~x, lambda: x ^ x):
        with pytest.raises(AttributeError, match=r"no attribute .(floor_divide|remainder|bitwise_)"):  # no primitive
            call()


@pytest.mark.parametrize(
    "function",
    [
        np.exp, np.abs, np.fabs, np.negative, np.square, np.reciprocal, np.sum, np.matrix_transpose,
        lambda x: np.maximum(1.0, x), lambda x: B * x, lambda x: np.float32(2) - x, lambda x: np.sum(x, axis=0),
        lambda x: np.concatenate([x, x], axis=1), lambda x: np.stack([x, x]), lambda x: np.clip(x, 0.8, 1.2),
    ],
)  # fmt: skip
def test_functions_of_numpy(function):
    np.testing.assert_array_equal(function(Wrapped(-A)).array, function(-A))


def test_functions_of_numpy_that_are_for_its_own_arrays():
    total = np.zeros_like(A)
    with pytest.raises(TypeError, match=r"np.add with out .* a = a \+ x for a \+= x"):
        total += Wrapped(A)
    with pytest.raises(TypeError, match=r"np.add.reduce with this method is for NumPy's own"):
        np.add.reduce(Wrapped(A))


@pytest.mark.parametrize(
    ("name", "arguments", "settings"),
    [
        ("clip", (0.8, None), {}), ("clip", (None, 1.2), {}), ("clip", (0.8, 1.2), {}),
        ("matrix_transpose", (), {}),
        ("moveaxis", (0, 2), {}), ("moveaxis", ((0, 1), (2, 0)), {}), ("moveaxis", (-1, 0), {}),
        ("expand_dims", (), {"axis": 0}), ("expand_dims", (), {"axis": -1}), ("expand_dims", (), {"axis": 1}),
        ("flip", (), {}), ("flip", (), {"axis": 1}), ("flip", (), {"axis": (0, -1)}),
        ("sum", (), {"axis": 1}), ("max", (), {"axis": (0, 2), "keepdims": True}), ("min", (), {}),
        ("exp", (), {}), ("log1p", (), {}), ("maximum", (1.0,), {}), ("not_equal", (1.0,), {}),
    ],
)  # fmt: skip
def test_derived_functions(name, arguments, settings):
    ours = getattr(Wrapped.namespace, name)(Wrapped(A), *arguments, **settings)
    np.testing.assert_array_equal(ours.array, getattr(np, name)(A, *arguments, **settings))


@pytest.mark.parametrize("axis", [0, 1, 3, -1])
def test_stack(axis):
    ours = Wrapped.namespace.stack([Wrapped(A), Wrapped(B)], axis)
    np.testing.assert_array_equal(ours.array, np.stack([A, B], axis))


@pytest.mark.parametrize("axis", [1, -1, (1, 3)])
def test_squeeze(axis):
    x = A[:, None, :, :1]
    np.testing.assert_array_equal(Wrapped.namespace.squeeze(Wrapped(x), axis).array, np.squeeze(x, axis))


def test_attributes():
    x = Wrapped(A)
    assert (x.shape, x.ndim, x.size, x.dtype) == (A.shape, A.ndim, A.size, A.dtype)
    np.testing.assert_array_equal(x.mT.array, A.mT)
    np.testing.assert_array_equal(x.reshape(3, -1).array, A.reshape(3, -1))
    np.testing.assert_array_equal(x.reshape((-1,)).array, A.ravel())
    np.testing.assert_array_equal(x[0, ..., 1].array, A[0, ..., 1])


@pytest.mark.parametrize("conversion", [bool, int, float, operator.index, np.asarray])
def test_implicit_conversions_go_to_concretize(conversion):
    with pytest.raises(TypeError, match=r"no (bool|int|float|ndarray) of it"):
        conversion(Wrapped(np.float64(1)))


def test_foreign_operands_answer_themselves():
    """A Tensor computes the operation itself; an operand without a method for it raises TypeError."""
    assert Wrapped(A).__add__(Tensor(A)) is NotImplemented
    with pytest.raises(TypeError, match="unsupported operand"):
        Wrapped(A) + "text"
