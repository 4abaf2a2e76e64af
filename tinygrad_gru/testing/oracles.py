"""Oracles of op specs: ops by their definition, for NumPy arrays, in another way than the op computes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


def each(function: Callable[..., float]) -> Callable[..., np.ndarray]:
    """A scalar function of Python's math module, applied elementwise."""
    return lambda *arrays, **settings: np.vectorize(lambda *values: function(*values, **settings), otypes=[float])(
        *arrays
    )


def nll(log_p: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.array([-row[target] for row, target in zip(log_p, targets)])


def cross_entropy(logits: np.ndarray, targets: np.ndarray, label_smoothing: float = 0.0) -> np.ndarray:
    classes = logits.shape[-1]
    q = targets if targets.dtype.kind == "f" else np.eye(classes)[targets]
    q = q * (1 - label_smoothing) + label_smoothing / classes
    return -(q * np.log(softmax(logits))).sum(axis=-1)


def ignoring(logits: np.ndarray, targets: np.ndarray, ignore_index: int) -> Any:
    keep = targets != ignore_index
    return cross_entropy(logits[keep], targets[keep]).sum() / max(keep.sum(), 1)


def scatter(x: np.ndarray, values: np.ndarray, index: Any) -> np.ndarray:
    y = x.copy()
    np.add.at(y, index, values)
    return y


def layer_norm(x: np.ndarray, weight: Any = 1.0, bias: Any = 0.0, eps: float = 1e-5) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def product_of(a: int, b: int) -> str:
    """The einsum subscripts of the matrix product of arrays of ranks a and b."""
    if a == 1 or b == 1:
        return f"{'k' if a == 1 else '...ik'},{'k' if b == 1 else '...kj'}->" + {
            (True, True): "", (True, False): "...j", (False, True): "...i"
        }[a == 1, b == 1]  # fmt: skip
    return "...ik,...kj->...ij"


def ordered(x: np.ndarray, axis: int = -1, descending: bool = False) -> np.ndarray:
    """The indices that sort x, by Python's stable sort."""
    return np.apply_along_axis(
        lambda row: sorted(range(len(row)), key=lambda i: -row[i] if descending else row[i]), axis, x
    )


def nll_with_weights(
    log_p: np.ndarray, targets: np.ndarray, weight: Any, ignore_index: int = -1, reduction: str = "mean"
) -> Any:
    w = np.array([0.0 if t == ignore_index else weight[t] for t in targets])
    loss = w * [0.0 if t == ignore_index else -row[t] for row, t in zip(log_p, targets)]
    return loss if reduction == "none" else loss.sum() / (w.sum() if reduction == "mean" else 1.0)


def smooth_with_weights(logits: np.ndarray, targets: np.ndarray, weight: Any, label_smoothing: float) -> Any:
    """The weighted mean of PyTorch: both parts of the loss over the sum of the targets' weights."""
    log_p, w = np.log(softmax(logits)), np.asarray(weight)
    smooth = -(log_p * w).sum() * label_smoothing / len(w)
    return (smooth + (1 - label_smoothing) * -(w[targets] * log_p[range(len(targets)), targets]).sum()) / w[
        targets
    ].sum()


def binary(x: np.ndarray, t: np.ndarray, pos_weight: Any = 1.0, weight: Any = 1.0) -> np.ndarray:
    p = 1 / (1 + np.exp(-x))
    return -np.asarray(weight) * (np.asarray(pos_weight) * t * np.log(p) + (1 - t) * np.log(1 - p))


def embedded(weight: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return np.stack([weight[i] for i in ids.ravel()]).reshape(*ids.shape, -1)


def drawn(logits: np.ndarray, axis: int = -1, sample_shape: tuple[int, ...] = ()) -> np.ndarray:
    """Class ids by a search in the cumulative probabilities."""
    p = softmax(np.moveaxis(logits, axis, -1).astype(np.float64))
    u = np.random.Generator(np.random.Philox(key=5)).random((*sample_shape, *p.shape[:-1]))
    rows = np.broadcast_to(p, (*u.shape, p.shape[-1])).reshape(-1, p.shape[-1])
    return np.reshape([np.searchsorted(np.cumsum(row), v, side="right") for row, v in zip(rows, u.ravel())], u.shape)


def kept(x: np.ndarray, p: float, training: bool = True) -> np.ndarray:
    draws = np.random.Generator(np.random.Philox(key=5)).random(x.shape)
    return x * (draws >= p) / (1 - p) if training else x
