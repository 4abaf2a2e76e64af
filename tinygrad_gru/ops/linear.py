"""Matrix products: matmul, einsum and the affine map."""

from __future__ import annotations

import math

from ..backend import dot_of_arrays, dtype_name, is_half, product, xp_of
from ..backend.numpy import SINGLE, HostArray
from .movement.shape import expand_dims, reshape
from .op import broadcast_to, op, unwrap
from .precision import accumulate_in_float32

_LARGE = 65536  # elements of an output whose bias is added in place


@op
def matmul(a, b):
    """y = a b: a product of matrices, of batches of them (which broadcast), or with vectors

    ∂L/∂a = g bᵀ,  ∂L/∂b = aᵀ g

    >>> ops.matmul(Tensor([[1.0, 2.0]]), Tensor([[3.0], [4.0]]))
    Tensor([[11.]], dtype=float32)
    """
    if type(a) is type(b) is HostArray and a.dtype is b.dtype is SINGLE and a.ndim == b.ndim == 2:
        return dot_of_arrays(a, b)
    if is_half(a.dtype) and (type(a) is HostArray or _are_batches_of_bfloat16(a, b)):
        return _product_in_float32(a, b)  # no BLAS for it in NumPy, no batches of it in CuPy
    return product(a, b)


_product_in_float32 = accumulate_in_float32(product)


def _are_batches_of_bfloat16(a, b):
    return dtype_name(a.dtype) == "bfloat16" and max(len(a.shape), len(b.shape)) > 2


def _as_matrix(x):
    """x (…, n) as a matrix (rows, n)."""
    return reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))


def _matmul_rule_of_a(g, b):
    if b.ndim == 1:
        return g[..., None] * b
    if g.ndim < b.ndim:  # a is a vector
        return matmul(b, g[..., None])[..., 0]
    return matmul(g, b.mT)


def _matmul_rule_of_b(g, a, b_shape):
    if a.ndim == 1:
        return a * g if len(b_shape) == 1 else a[:, None] * g[..., None, :]
    if len(b_shape) == 1:
        return matmul(a.mT, g[..., None])[..., 0]
    if a.ndim > len(b_shape) == 2:  # one product over all rows, not a sum over a batch
        return matmul(_as_matrix(a).mT, _as_matrix(g))
    return matmul(a.mT, g)


matmul.vjp(a=_matmul_rule_of_a,
           b=_matmul_rule_of_b)  # fmt: skip


@op
def _affine(x, weight, bias, *, transposed):
    """y = x W + b, where b is added in the memory of the product: half the time of another array, if it is large"""
    y = matmul(_as_matrix(x), weight)
    y += bias
    return reshape(y, shape=(*x.shape[:-1], bias.shape[0]))


_affine.vjp(x=lambda g, weight, x_shape: reshape(matmul(_as_matrix(g), weight.mT), shape=x_shape),
            weight=lambda g, x, transposed: matmul(_as_matrix(g).mT, _as_matrix(x)).mT  # in the order of the weight
            if transposed else matmul(_as_matrix(x).mT, _as_matrix(g)),
            bias=lambda g: g)  # fmt: skip


def linear(x, weight, bias=None):
    """y = x W + b        x (…, in), W (in, out), b (out) → y (…, out); one product over all rows of x

    >>> ops.linear(Tensor([[1.0, 2.0]]), Tensor([[3.0], [4.0]]), Tensor([0.5]))
    Tensor([[11.5]], dtype=float32)
    """
    if len(weight.shape) != 2 or tuple(x.shape[-1:]) != tuple(weight.shape[:1]):
        raise ValueError(f"linear: x (…, in) {tuple(x.shape)} and weight (in, out) {tuple(weight.shape)} do not match")
    shape = (*x.shape[:-1], weight.shape[1])
    arrays = [unwrap(array) for array in (x, weight, bias)] if math.prod(shape) >= _LARGE else []
    if {*map(type, arrays)} == {HostArray} and len({array.dtype for array in arrays}) == 1 and bias.shape == shape[-1:]:
        return _affine(x, weight, bias, transposed=arrays[1].flags.f_contiguous)
    y = reshape(matmul(_as_matrix(x), weight), shape=shape) if len(shape) > 2 else matmul(x, weight)
    return y if bias is None else y + bias


@op
@accumulate_in_float32
def _einsum(*xs, subscripts):
    return xp_of(*xs).einsum(subscripts, *xs, optimize=True)


@accumulate_in_float32
def _einsum_rule(g, i, xs, subscripts):
    """einsum of g and the other operands, with the letters of operand i as output"""
    operands, output = subscripts.split("->")
    letters = operands.split(",")
    others = [(text, x) for k, (text, x) in enumerate(zip(letters, xs)) if k != i]
    known = set(output).union(*(text for text, _ in others))
    reached = "".join(c for c in letters[i] if c in known)
    inputs = ",".join([output, *(text for text, _ in others)])
    part = _einsum(g, *(x for _, x in others), subscripts=f"{inputs}->{reached}")
    # The cotangent is constant along a letter of operand i alone, which was summed over, and along an axis of length 1
    # that was broadcast over the other operands.
    alone = tuple(k for k, c in enumerate(letters[i]) if c not in known)
    part = expand_dims(part, axis=alone)
    return broadcast_to(part, shape=tuple(n if m == 1 else m for m, n in zip(part.shape, xs[i].shape)))


_einsum.vjp(xs=_einsum_rule)


def einsum(subscripts, *operands):
    """y = Σ of products over the letters that the output lacks, as in NumPy: `einsum("ij,jk->ik", a, b)`

    Ellipses and an implicit output are supported; a repeated letter in one operand is not.

    >>> ops.einsum("ij,ij->i", Tensor([[1.0, 2.0]]), Tensor([[3.0, 4.0]]))
    Tensor([11.], dtype=float32)
    """
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum: expected the subscripts first, such as 'ij,jk->ik', got {type(subscripts).__name__}")
    subscripts = _explicit(subscripts.replace(" ", ""), [len(x.shape) for x in operands])
    for text in subscripts.split("->")[0].split(","):
        if len(set(text)) < len(text):
            raise ValueError(f"einsum: repeated letter in the operand {text!r}; take its diagonal first")
    return _einsum(*operands, subscripts=subscripts)


def _explicit(subscripts, ranks):
    """The subscripts with ellipses replaced by letters, and an explicit output."""
    inputs, arrow, output = subscripts.partition("->")
    letters = inputs.split(",")
    if len(letters) != len(ranks):
        raise ValueError(f"einsum: {subscripts!r} is for {len(letters)} operands, got {len(ranks)}")
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in subscripts]
    hidden = [rank - len(text.replace("...", "")) for text, rank in zip(letters, ranks)]
    for text, rank, n in zip(letters, ranks, hidden):
        if n < 0 or (n and "..." not in text):
            raise ValueError(f"einsum: the operand {text!r} of {subscripts!r} has {rank} axes")
    longest = max((n for n, text in zip(hidden, letters) if "..." in text), default=0)
    dots = "".join(spare[:longest])
    full = [text.replace("...", dots[longest - n :]) for text, n in zip(letters, hidden)]
    if arrow and dots and "..." not in output:
        raise ValueError(f"einsum: the output of {subscripts!r} lacks the '...' of its operands; sum over them by name")
    if not arrow:
        names = "".join(letters).replace("...", "")
        output = "..." + "".join(sorted(c for c in set(names) if names.count(c) == 1))
    return f"{','.join(full)}->{output.replace('...', dots)}"
