"""Cross-entropy of an output layer in blocks of rows, which has neither all logits in memory nor their gradient.

    for a block of rows of x:        z = x W + b,  y = log softmax(z)[target],  z ← ∂L/∂z in its place
                                     ∂L/∂x = z Wᵀ,  ∂L/∂W += xᵀ z,  ∂L/∂b += Σ z

So the gradients are computed with the loss, as in Liger Kernel (Hsu et al. 2024): by three products, where a backward
pass that computes the logits anew needs a fourth one.
"""

from __future__ import annotations

import numpy as np

from ...backend.numpy import DOUBLE, SINGLE, HostArray
from ...contexts import recording
from ...native.blas import matmul
from ...tape import Variable
from ..linear import linear
from ..linear import matmul as recorded_matmul
from ..op import op, unwrap
from ..reduction import sum as sum_of
from .likelihood import likelihoods_in_place, log_likelihood_gradient, score_of_target
from .losses import cross_entropy, reduce_loss
from .targets import class_ids, class_weights

#: Logits from which on blocks are worth it, and how many a block should have. With fewer than so many rows products
#: read the weights more often than they compute with them.
_LEAST, _BLOCK, _LEAST_ROWS = 2**18, 2**23, 256


def linear_cross_entropy(
    x, linear_weight, targets, *, linear_bias=None, weight=None, ignore_index=None, label_smoothing=0.0,
    reduction="mean",
):  # fmt: skip
    """L = cross_entropy(x W + b, targets) of an output layer W (in, C), b (C), x (…, in), by blocks of rows

    The same as `cross_entropy(linear(x, linear_weight, linear_bias), targets, …)`, and to rounding the same numbers,
    but without the logits (…, C) and their gradient in memory, and in less time. Targets and settings are those of
    `cross_entropy`. Of class ids without label smoothing it is computed by blocks, on the host in float32 and float64,
    if there are 262,144 logits or more. The gradients are computed with the loss, by its reduction: so "none" takes a
    second pass over the blocks. A `TiedLinear` has the weight `embedding.W.mT`.

    >>> x, W = Tensor([[1.0, 2.0]], requires_grad=True), Tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    >>> ops.linear_cross_entropy(x, W, [2]).item() == ops.cross_entropy(x @ W, [2]).item()
    True
    """
    settings = {"weight": weight, "ignore_index": ignore_index, "reduction": reduction}
    arrays = [unwrap(array) for array in (x, linear_weight, linear_bias, targets)]
    if not hasattr(arrays[1], "shape"):
        raise TypeError(
            f"linear_weight must be an array (in, C), got {type(linear_weight).__name__}: that of a Linear is layer.W, "
            "of a TiedLinear embedding.W.mT"
        )
    if arrays[1].ndim == 2 and arrays[1].shape[0] != x.shape[-1] == arrays[1].shape[1]:
        raise ValueError(
            f"linear_weight is (in, C), got {tuple(arrays[1].shape)} for x {tuple(x.shape)}: for an Embedding's weight "
            "or PyTorch's, (C, in), give weight.mT"
        )
    if label_smoothing or not _are_blocks(*arrays):
        logits = linear(x, linear_weight, linear_bias)
        return cross_entropy(logits, targets, label_smoothing=label_smoothing, **settings)
    matrix, ids = arrays[1], arrays[3]
    inner, classes = matrix.shape
    scores = np.broadcast_to(np.zeros((), matrix.dtype), (*x.shape[:-1], classes))
    ids, counts = class_ids("linear_cross_entropy", scores, np.array(ids), ignore_index)
    ids = ids.astype(np.int64, copy=False)
    weights = None if weight is None else score_of_target(class_weights(weight, scores), ids)
    if linear_bias is None:
        linear_bias = np.zeros(classes, matrix.dtype)
    ahead = None
    if recording.get():
        wanted = [getattr(value, "node", None) is not None for value in (x, linear_weight, linear_bias)]
        ahead = _Gradients(wanted, _factors(ids, counts, weights, reduction, matrix.dtype)) if any(wanted) else None
    y = _log_likelihoods(x.reshape(-1, inner), linear_weight, linear_bias, ids.reshape(-1), ahead=ahead)
    loss = -y.reshape(*ids.shape)
    return reduce_loss(loss if weights is None else loss * weights, reduction, counts, weights)


def _are_blocks(x, weight, bias, targets):
    """Whether blocks are worth it, and these arrays are those of an affine map and class ids, on the host."""
    ids = targets if hasattr(targets, "dtype") else np.array(targets)
    given = [array for array in (x, weight, bias) if array is not None]
    if any(type(array) is not HostArray for array in (*given, ids)) or ids.dtype.kind not in "iu":
        return False
    if len({array.dtype for array in given}) > 1 or (weight.dtype is not SINGLE and weight.dtype is not DOUBLE):
        return False
    if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[0] or not x.size:
        return False
    return (bias is None or bias.shape == weight.shape[1:]) and x.size // x.shape[-1] * weight.shape[1] >= _LEAST


def _factors(ids, counts, weights, reduction, dtype):
    """∂L/∂y (rows,) of a loss of that reduction."""
    factors = np.ones(ids.shape, dtype) if weights is None else np.array(weights)
    if counts is not None:
        factors[~counts] = 0
    if reduction == "mean" and (total := factors.sum()):
        factors *= 1 / total  # rounded as the rules of the mean do
    return -factors.reshape(-1)


@op
def _log_likelihoods(x, weight, bias, targets, *, ahead):
    """y = log softmax(x W + b)[target]        x (rows, in), targets (rows,); `ahead` computes the gradients with it"""
    if ahead is None:
        return _in_blocks(x, weight, bias, targets, None, (False,) * 3)[0]
    y, found = _in_blocks(x, weight, bias, targets, ahead.factors, ahead.wanted)
    ahead.known = ahead.factors, found
    return y


_NAMES = ("x", "weight", "bias")


class _Gradients:
    """The gradients of `_log_likelihoods`, computed for cotangents in advance, and each handed out once.

    wanted   of x, weight and bias: whether its gradient is
    factors  the cotangents
    """

    def __init__(self, wanted, factors):
        self.wanted, self.factors = wanted, factors
        self.known = factors, dict[str, np.ndarray]()

    def take(self, name, g, x, weight, bias, targets):
        """The gradient for the cotangents g: what was computed if they are a multiple of those."""
        factors, found = self.known  # both at once: another thread may replace them
        largest = np.abs(factors).argmax()
        scale, gradient = g[largest] / (factors[largest] or 1), None
        if np.allclose(g, scale * factors, rtol=4 * np.finfo(factors.dtype).eps, atol=0):
            gradient = found.pop(name, None)
        if gradient is None:
            factors, scale = np.ascontiguousarray(g, factors.dtype), 1
            found = _in_blocks(x, weight, bias, targets, factors, self.wanted)[1]
            gradient = found.pop(name)
            self.known = factors, found
        return gradient if scale == 1 else np.multiply(gradient, scale, out=gradient)


def _rule(name):
    def rule(g, x, weight, bias, targets, ahead):
        if not isinstance(g, Variable):
            return ahead.take(name, g, x, weight, bias, targets)
        scores = log_likelihood_gradient(g, linear(x, weight, bias), targets)
        if name == "x":
            return recorded_matmul(scores, weight.mT)
        return recorded_matmul(x.mT, scores) if name == "weight" else sum_of(scores, axis=0)

    return rule


_log_likelihoods.vjp(**{name: _rule(name) for name in _NAMES}, targets=None)


def _in_blocks(x, weight, bias, targets, factors, wanted):
    """y = log softmax(x W + b)[target], and by name the gradients that are wanted, of Σ factors y."""
    rows, classes = len(x), weight.shape[1]
    size = max(_LEAST_ROWS, _BLOCK // classes)
    size = -(-rows // -(-rows // size))
    y, z, partial = np.empty(rows, x.dtype), np.empty((size, classes), x.dtype), None
    bias = np.ascontiguousarray(bias)  # as native code needs it
    arrays = {"x": x, "weight": weight, "bias": bias}
    found = {name: np.empty_like(arrays[name]) for name, is_wanted in zip(_NAMES, wanted) if is_wanted}
    for start in range(0, rows, size):
        part = slice(start, min(start + size, rows))
        block = z[: part.stop - start]
        matmul(x[part], weight, block)
        given = None if factors is None else factors[part]
        sums = likelihoods_in_place(block, bias, targets[part], given, y[part])
        if "x" in found:
            matmul(block, weight.T, found["x"][part])
        if "bias" in found:
            found["bias"] = sums + (found["bias"] if start else 0)
        if "weight" in found:
            operands, total = (x[part].T, block), found["weight"]
            if weight.flags.f_contiguous:  # in the order of the weight
                operands, total = (block.T, x[part]), total.T
            if start == 0:
                matmul(*operands, total)
            else:
                partial = np.empty_like(total) if partial is None else partial
                total += matmul(*operands, partial)
    return y, found
