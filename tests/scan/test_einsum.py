"""einsum in a step: of one or two arrays it is compiled, on every target, as NumPy and eager mode compute it."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import Tensor, explain, native, ops, scan
from tinygrad_gru.scan import NotCompiledWarning

needs_llvm = pytest.mark.skipif(not native.is_available(), reason="llvmlite is not installed")
TARGETS = ["numpy", pytest.param("llvm", marks=needs_llvm)]

COMPILED = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,kj->ik", (2, 3), (4, 3)), ("ij,jk->ki", (2, 3), (3, 4)),
    ("oi,bi->bo", (4, 3), (2, 3)), ("bij,bkj->bik", (2, 3, 4), (2, 5, 4)), ("tbh,sbh->tsb", (1, 2, 4), (3, 2, 4)),
    ("tsb,sbh->tbh", (1, 3, 2), (3, 2, 4)), ("bnh,bmh->nmb", (2, 3, 4), (2, 5, 4)), ("bi,bi->b", (2, 3), (2, 3)),
    ("bij,bj->bi", (2, 3, 4), (2, 4)), ("bj,bij->ib", (2, 4), (2, 3, 4)), ("i,j->ij", (2,), (3,)),
    ("i,j->ji", (2,), (3,)), ("i,j->", (2,), (3,)), ("i,i->", (3,), (3,)), ("ij,ij->", (2, 3), (2, 3)),
    ("ij,ji->", (2, 3), (3, 2)), ("abcd,cdef->abef", (2, 1, 3, 2), (3, 2, 2, 3)), ("abc,cbd->da", (2, 3, 4), (4, 3, 2)),
    ("aij,jk->ik", (2, 3, 4), (4, 5)), ("ij,jkc->ik", (2, 3), (3, 4, 2)), ("ij,k->k", (2, 3), (4,)),
    ("ij,jk->ik", (2, 1), (3, 4)), ("ij,ij->ij", (1, 3), (2, 3)), ("bi,bi->b", (2, 1), (1, 3)), (",i->i", (), (3,)),
    ("ij,jk->ik", (2, 1), (1, 4)), ("bij,bjk->bik", (1, 2, 3), (4, 3, 2)),
    ("...ij,...jk->...ik", (2, 2, 3), (3, 4)), ("...i,i", (2, 2, 3), (3,)), ("ij,jk", (2, 3), (3, 4)),
    ("ijk->ki", (2, 3, 4)), ("ij->", (2, 3)), ("ij->ji", (2, 3)), ("ij->ij", (2, 3)), ("i...->...", (2, 3, 4)),
]  # fmt: skip


def leaves_of(shapes, dtypes=("float64",) * 3):
    random = np.random.default_rng(0)
    return [Tensor(random.standard_normal(s).astype(d), requires_grad=True) for s, d in zip(shapes, dtypes)]


def gives_einsum(subscripts):
    """A step whose operands are parts of the carry, and change."""

    def step(carry, _):
        y = ops.einsum(subscripts, *carry)
        return tuple(0.5 * x + (0.1 * ops.mean(y)).astype(x.dtype) for x in carry), y

    return step


def run(subscripts, leaves, compiled):
    """ys, and the gradients of the leaves; a step that is not compiled warns, which is an error."""
    carry = tuple(leaves)
    _, ys = scan(gives_einsum(subscripts), carry, length=2, compiled=compiled)
    weights = np.cos(np.arange(ys.size)).reshape(ys.shape)
    ops.sum(ys * Tensor(weights.astype(ys.numpy().dtype))).backward()
    gradients = [leaf.grad.numpy() for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    return [ys.numpy(), *gradients]


@pytest.mark.parametrize("compiled", TARGETS)
@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_compiled_einsum_equals_numpy_and_eager_mode(case, compiled):
    subscripts, *shapes = case
    leaves = leaves_of(shapes)
    got = run(subscripts, leaves, compiled)
    np.testing.assert_allclose(got[0][0], np.einsum(subscripts, *(leaf.numpy() for leaf in leaves)), atol=1e-12)
    for one, other in zip(got, run(subscripts, leaves, False)):
        assert one.shape == other.shape and one.dtype == other.dtype
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("compiled", TARGETS)
@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float16", "float16"), ("float16", "float32")], ids=str)
@pytest.mark.parametrize("subscripts", ["ij,jk->ik", "ij,kj->i"])
def test_dtypes_are_those_of_eager_mode(subscripts, dtypes, compiled):
    leaves = leaves_of([(2, 3), (3, 4) if "jk" in subscripts else (4, 3)], dtypes)
    for one, other in zip(run(subscripts, leaves, compiled), run(subscripts, leaves, False)):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=5e-3, atol=5e-3)


def test_of_three_is_not_compiled():
    leaves = leaves_of([(2, 3), (3, 4), (4, 2)])
    with pytest.warns(NotCompiledWarning, match="einsum, but of one or two arrays of floats, cannot be"):
        _, ys = scan(gives_einsum("ij,jk,kl->il"), tuple(leaves), length=2, compiled="numpy")
    np.testing.assert_allclose(ys.numpy()[0], np.linalg.multi_dot([leaf.numpy() for leaf in leaves]))


def test_of_integers_is_not_compiled():
    def step(ids, _):
        return ids, ops.einsum("ij,ij->i", ids, ids)

    with pytest.warns(NotCompiledWarning, match="einsum, but of one or two arrays of floats, cannot be"):
        _, ys = scan(step, Tensor(np.arange(6).reshape(2, 3)), length=2, compiled="numpy")
    assert ys.tolist() == [[5, 50]] * 2


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [("ij,jk->ik", [(2, 3), (2, 3)]), ("ij->k", [(2, 3)]), ("ij->ii", [(2, 3)]), ("i1->i", [(2, 3)])],
)
def test_what_numpy_refuses_raises_as_in_eager_mode(subscripts, shapes):
    for compiled in (False, "numpy"):
        with pytest.raises(ValueError, match="einsum: "):
            scan(gives_einsum(subscripts), tuple(leaves_of(shapes)), length=2, compiled=compiled)


def test_a_product_with_weights_is_the_product_that_matmul_gives():
    """No transposes or copies beside it, and one product for its gradient over all steps."""
    w = Tensor(np.ones((3, 3)), requires_grad=True)

    def by_einsum(h, x):
        return ops.tanh(x + ops.einsum("bi,ij->bj", h, w))

    def by_matmul(h, x):
        return ops.tanh(x + h @ w)

    start, xs = Tensor(np.ones((2, 3)), requires_grad=True), Tensor(np.ones((4, 2, 3)))
    reports = [explain(step, start, xs, compiled="numpy").splitlines() for step in (by_einsum, by_matmul)]
    assert reports[0][4:] == reports[1][4:]
