"""Matrix products: every combination of ranks, empty axes and errors."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tensors import gradient, leaf

from tinygrad_gru import Tensor, ops, tape
from tinygrad_gru.testing import OP_SPECS, check_case, gradcheck, gradgradcheck

linear_module = sys.modules["tinygrad_gru.ops.linear"]  # the package has a function of that name


@st.composite
def products(draw):
    """Shapes of two operands whose matrix product exists: vectors, matrices, batches that broadcast, and empty axes."""
    length = st.integers(0, 3)
    inner, rows, columns = draw(length), draw(length), draw(length)
    batch = draw(st.lists(st.integers(1, 3), max_size=2))

    def of_batch():
        kept = batch[draw(st.integers(0, len(batch))) :]
        return tuple(n if draw(st.booleans()) else 1 for n in kept)

    left = (inner,) if draw(st.booleans()) else (*of_batch(), rows, inner)
    right = (inner,) if draw(st.booleans()) else (*of_batch(), inner, columns)
    return left, right


@given(products())
def test_matmul_of_all_ranks(shapes):
    """Forward against einsum, gradients against finite differences; empty axes included."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(shape) for shape in shapes)
    subscripts = f"{'k' if a.ndim == 1 else '...ik'},{'k' if b.ndim == 1 else '...kj'}"
    output = ("..." if a.ndim > 1 or b.ndim > 1 else "") + ("i" if a.ndim > 1 else "") + ("j" if b.ndim > 1 else "")
    expected = np.einsum(f"{subscripts}->{output}", a, b)
    np.testing.assert_allclose(ops.matmul(leaf(a), leaf(b)).numpy(), expected, atol=1e-13)
    assert not (expected.size and a.size + b.size) or gradcheck(ops.matmul, [a, b])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2, 3, 0), (0, 5)),
        ((2, 3, 4), (4, 0)),
        ((2, 0, 4), (4, 5)),
        ((0, 3, 4), (4, 5)),
        ((2, 3, 0), (2, 0, 5)),
        ((0,), (0,)),
    ],
)
def test_matmul_over_an_empty_axis_is_zero(left, right):
    for function in (ops.matmul, ops.linear) if len(right) == 2 else (ops.matmul,):
        a, b = leaf(np.ones(left)), leaf(np.ones(right))
        y = function(a, b)
        assert y.shape == np.matmul(a.numpy(), b.numpy()).shape and not y.numpy().any()
        y.sum().backward()
        assert (a.grad.shape, b.grad.shape) == (left, right)
        assert not a.grad.numpy().any() and not b.grad.numpy().any()


def test_gradient_of_batch_times_matrix_is_one_product(rng):
    a, b = rng.standard_normal((5, 3, 4)), rng.standard_normal((4, 2))
    y = leaf(a) @ leaf(b)
    np.testing.assert_allclose(y.numpy(), np.stack([rows @ b for rows in a]), atol=1e-14)
    assert gradgradcheck(ops.matmul, [a, b])


@pytest.mark.parametrize(
    ("left", "right"),
    [((2, 3), (2, 3)), ((3,), (2,)), ((2, 3), (4,)), ((), (2, 3)), ((2, 3), ()), ((2, 3, 4), (3, 4, 5))],
)
def test_matmul_errors_name_the_op_and_the_shapes(left, right):
    shapes = ".*".join(str(shape).replace("(", r"\(").replace(")", r"\)") for shape in (left, right))
    with pytest.raises(ValueError, match=f"^matmul: .*inputs: {shapes}"):
        leaf(np.ones(left)) @ leaf(np.ones(right))


def test_matmul_operator_with_numpy_on_either_side():
    a, b = np.array([[1.0, 2.0]]), Tensor([[3.0], [4.0]])
    assert (a @ b).tolist() == [[11.0]] and (b @ a).tolist() == [[3.0, 6.0], [4.0, 8.0]]
    assert isinstance(a @ b, Tensor)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_matmul_keeps_the_dtype(dtype):
    x, w = leaf(np.ones((2, 3)), dtype), leaf(np.ones((3, 4)), dtype)
    (x @ w).sum().backward()
    assert (x @ w).dtype == x.grad.dtype == w.grad.dtype == dtype


# -- linear --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (2, 1, 3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_torch(shape, bias, rng):
    torch = pytest.importorskip("torch")
    arrays = [rng.standard_normal(s) for s in (shape, (4, 5), (5,))][: 3 if bias else 2]
    weight = rng.standard_normal((*shape[:-1], 5))
    mine, peers = [leaf(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    ops.linear(*mine).backward(weight)
    torch.nn.functional.linear(peers[0], peers[1].T, *peers[2:]).backward(torch.tensor(weight))
    for t, p in zip(mine, peers):
        np.testing.assert_allclose(t.grad.numpy(), p.grad.numpy(), atol=1e-13)


def test_linear_records_one_product(rng):
    records = tape(
        ops.linear(leaf(rng.standard_normal((2, 3, 4))), leaf(rng.standard_normal((4, 5))), leaf(np.ones(5)))
    )
    assert [r.op.__name__ for r in records] == ["reshape", "matmul", "reshape", "add"]


@pytest.mark.parametrize(
    ("x", "weight"), [((2, 3), (4, 5)), ((2, 2, 3), (4, 5)), ((2, 2, 3), (3,)), ((), (3, 4)), ((2, 3), (2, 3, 4))]
)
def test_linear_with_shapes_that_do_not_match_raises(x, weight):
    with pytest.raises(ValueError, match=r"linear: x \(…, in\) \(.*\) and weight \(in, out\) \(.*\) do not match"):
        ops.linear(leaf(np.ones(x)), leaf(np.ones(weight)))


# -- einsum --------------------------------------------------------------------------------------------------------

EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ij", (2, 3)),
    ("ji", (2, 3)),
    ("ij->", (2, 3)),
    ("ij->i", (2, 3)),
    ("i,i->", (3,), (3,)),
    ("i,j->ij", (2,), (3,)),
    ("i,j->", (2,), (3,)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("...ij,...jk->...ik", (2, 3, 4), (4, 5)),
    ("...ij,...jk", (5, 1, 2, 3), (4, 3, 2)),
    ("i...,i...->...", (3, 2), (3, 2)),
    ("...,...->...", (), (3,)),
    ("abc,cd,de->abe", (2, 3, 4), (4, 2), (2, 3)),
    (" i j , j k -> k i ", (2, 3), (3, 4)),
    ("ij,jk->ik", (2, 1), (3, 4)),
    ("ij,jk->ik", (2, 3), (1, 4)),
    ("ij,ij->i", (2, 3), (1, 3)),
    ("ij,ij->ij", (2, 1), (1, 3)),
    ("ij,kj->", (2, 3), (2, 1)),
    ("ij,jk->ik", (2, 0), (0, 4)),
    ("->", ()),
]


@pytest.mark.parametrize(("subscripts", "shapes"), [(case[0], case[1:]) for case in EINSUMS])
def test_einsum_equals_numpy_and_gradients(subscripts, shapes, rng):
    arrays = [rng.standard_normal(shape) for shape in shapes]
    y = ops.einsum(subscripts, *map(leaf, arrays))
    np.testing.assert_allclose(y.numpy(), np.einsum(subscripts, *arrays), atol=1e-14)
    if not any(array.size for array in arrays):
        return
    assert gradcheck(lambda *xs: ops.einsum(subscripts, *xs), arrays)
    assert gradgradcheck(lambda *xs: ops.einsum(subscripts, *xs), arrays)


def test_einsum_of_arrays_returns_an_array(rng):
    a = rng.standard_normal((2, 3))
    y = ops.einsum("ij->j", a)
    assert type(y) is np.ndarray and y.shape == (3,)


def test_einsum_of_constants_is_constant():
    a = leaf([[1.0, 2.0]])
    y = ops.einsum("ij,jk->ik", a, np.array([[3.0], [4.0]]))
    y.backward()
    assert a.grad.tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize(
    ("subscripts", "shapes", "message"),
    [
        ("ii->i", [(3, 3)], "repeated letter in the operand 'ii'; take its diagonal first"),
        ("ij,jk->ik", [(2, 3)], "is for 2 operands, got 1"),
        ("ij->j", [(2, 3), (3, 4)], "is for 1 operands, got 2"),
        ("ijk->ik", [(2, 3)], "the operand 'ijk' of 'ijk->ik' has 2 axes"),
        ("i->i", [(2, 3)], "the operand 'i' of 'i->i' has 2 axes"),
        ("ij,jk->ik", [(2, 3), (2, 3)], "einsum: "),
        ("ij->k", [(2, 3)], "einsum: "),
        ("ij->ii", [(2, 3)], "einsum: "),
        ("i1->i", [(2, 3)], "einsum: "),
    ],
)
def test_einsum_with_invalid_subscripts_raises(subscripts, shapes, message):
    with pytest.raises(ValueError, match=f"einsum: .*{message.removeprefix('einsum: ')}"):
        ops.einsum(subscripts, *(leaf(np.ones(shape)) for shape in shapes))


def test_einsum_without_leading_subscripts_raises():
    with pytest.raises(TypeError, match="einsum: expected the subscripts first, such as 'ij,jk->ik', got Tensor"):
        ops.einsum(leaf([1.0]), "i->")


@pytest.mark.parametrize("subscripts", ["...i->i", "...ij->ij"])
def test_einsum_output_without_the_ellipsis_of_its_operands_raises(subscripts):
    """As in NumPy: unnamed axes are not summed silently."""
    with pytest.raises(ValueError):
        np.einsum(subscripts, np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=rf"einsum: the output of '{subscripts}' lacks the '\.\.\.'"):
        ops.einsum(subscripts, leaf(np.ones((2, 3, 4))))


def test_gradient_of_a_bilinear_form(rng):
    x, A = rng.standard_normal(3), rng.standard_normal((3, 3))
    g = gradient(lambda x: ops.einsum("i,ij,j->", x, A, x), x)
    np.testing.assert_allclose(g, (A + A.T) @ x, rtol=1e-13)


@pytest.mark.parametrize("shapes", [((2, 3), (3, 4)), ((1, 3), (3, 1)), ((2, 0), (0, 3)), ((0, 2), (2, 3))])
def test_a_product_of_float32_matrices_is_that_of_numpy_in_every_layout(shapes):
    random = np.random.default_rng(0)
    layouts = (lambda x: x, lambda x: x.T.copy().T, lambda x: x[::-1, ::-1], lambda x: np.repeat(x, 2, axis=1)[:, ::2])
    for first in layouts:
        for second in layouts:
            a, b = (random.standard_normal(shape).astype(np.float32) for shape in shapes)
            expected = np.matmul(first(a), second(b))
            actual = ops.matmul(first(a), second(b))
            assert actual.dtype == np.float32 and actual.shape == expected.shape
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    x = random.standard_normal((5, 5)).astype(np.float32)
    np.testing.assert_allclose(ops.matmul(x, x.T), x @ x.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_bias_is_added_in_the_memory_of_the_product_alone(dtype, monkeypatch):
    monkeypatch.setattr(linear_module, "_LARGE", 0)
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape).astype(dtype) for shape in ((2, 3, 4), (5, 4), (5,)))
    before = [array.copy() for array in (x, weight, bias)]
    inputs = [Tensor(array, requires_grad=True) for array in (x, weight, bias)]
    y = ops.linear(inputs[0], inputs[1].T, inputs[2])
    assert [record.op.__name__ for record in tape(y)] == ["transpose", "affine"]
    np.testing.assert_array_equal(y.numpy(), (x.reshape(6, 4) @ weight.T + bias).reshape(2, 3, 5))
    for tensor, array in zip(inputs, before):
        np.testing.assert_array_equal(tensor.numpy(), array)
    y.backward(np.ones(y.shape, dtype))
    assert inputs[1].grad.data.flags.c_contiguous  # as the optimizers' native loops want it


@pytest.mark.parametrize("bias", [2.0, [[1.0], [2.0]], [[[1.0, 2.0, 3.0]]]])
def test_a_bias_of_another_shape_is_broadcast(bias):
    x, weight = np.ones((2, 3), np.float32), np.ones((3, 3), np.float32)
    y = ops.linear(Tensor(x), Tensor(weight), np.array(bias, np.float32))
    np.testing.assert_array_equal(y.numpy(), x @ weight + np.array(bias, np.float32))


@pytest.mark.parametrize("number", range(len(OP_SPECS["linear"])))
def test_a_large_output_fulfils_the_contract(number, monkeypatch):
    monkeypatch.setattr(linear_module, "_LARGE", 0)
    check_case("linear", OP_SPECS["linear"][number])


def test_a_large_output_has_the_numbers_of_a_small_one(rng):
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((2, 300, 4), (4, 120), (120,))]
    y = ops.linear(*map(Tensor, arrays))
    np.testing.assert_array_equal(y.numpy(), (arrays[0].reshape(600, 4) @ arrays[1] + arrays[2]).reshape(2, 300, 120))
