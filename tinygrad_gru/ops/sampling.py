"""Random ops: dropout, and sampling from a categorical distribution. They draw from the stream of `manual_seed`."""

from __future__ import annotations

from ..arguments import respelling
from ..backend import astype, backend_of, dtype_name, is_floating, random_stream
from .comparison import greater_equal
from .elementwise import divide, exp
from .movement.shape import moveaxis, normalize_axis
from .op import op, unwrap
from .precision import in_float32
from .reduction import cumsum, max


def dropout_mask(shape, p, *, like):
    """A constant of `shape`: 0 with probability p, else 1 / (1 − p); in the dtype and on the backend of `like`"""
    if not 0 <= p < 1:
        raise ValueError(f"p: expected a probability in [0, 1), got {p!r}")
    array = unwrap(like)
    if not is_floating(array.dtype):
        raise TypeError(f"dropout: expected floating-point numbers, got {array.dtype}: convert them first")
    dtype = "float64" if dtype_name(array.dtype) == "float64" else "float32"  # half precision would round p
    kept = greater_equal(random_stream().uniform(shape, dtype, backend_of(array)), float(p))
    return astype(divide(astype(kept, dtype), 1 - float(p)), array.dtype)


@respelling
def dropout(x, p=0.5, training=True):
    """y = x ⊙ m / (1 − p), m = 0 with probability p, else 1; y = x outside of training (Srivastava et al. 2014)

    >>> sorted(set(ops.dropout(Tensor(np.ones(1000)), p=0.2).tolist()))
    [0.0, 1.25]
    """
    if not training or p == 0:
        return x
    return x * dropout_mask(x.shape, p, like=x)


@op
def categorical(logits, *, axis=-1, sample_shape=()):
    """y = random class ids, i with probability softmax(logits)ᵢ along `axis`        no gradient

    The shape is `sample_shape` (of independent samples; an integer or a tuple), then that of the logits without `axis`.
    A class at −∞ is never drawn. By inversion in float64: the first class whose cumulative probability exceeds a
    uniform random number, so that the same seed gives the same samples on every backend.

    >>> ops.categorical(Tensor([[0.0, 100.0], [100.0, 0.0]]), sample_shape=3)
    Tensor([[1, 0],
            [1, 0],
            [1, 0]], dtype=int64)
    """
    if not is_floating(logits.dtype) or not logits.shape:
        raise TypeError("expected logits, floats with an axis of classes")
    backend = backend_of(logits)
    axis = normalize_axis(axis, len(logits.shape))
    x = astype(moveaxis(in_float32(logits), source=axis, destination=-1), "float64")
    top = max(x, axis=-1, keepdims=True)
    if not bool(backend.xp.all(backend.xp.isfinite(top))):
        raise ValueError("logits have NaN or +∞ among them, or −∞ for all classes of a distribution")
    weights = cumsum(exp(x - top), axis=-1)
    total = weights[..., -1:]
    samples = tuple(sample_shape) if isinstance(sample_shape, (tuple, list)) else (sample_shape,)
    u = random_stream().uniform((*samples, *total.shape), "float64", backend)
    return backend.xp.sum(astype(weights / total <= u, "int64"), axis=-1)


categorical.vjp(logits=None)
