"""Ops: differentiable array functions, each with its formula and vjp rules. `op` defines new ones."""

from __future__ import annotations

from ..hints import OPS, missing_name
from .activation import (
    dropout,
    elu,
    gelu,
    layer_norm,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from .elementwise import (
    absolute,
    add,
    clip,
    cos,
    divide,
    equal,
    exp,
    expm1,
    greater,
    greater_equal,
    hadamard,
    isfinite,
    less,
    less_equal,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    select,
    sign,
    sin,
    sqrt,
    square,
    subtract,
    where,
)
from .indexing import embedding, gather, getitem, one_hot, scatter_add, take
from .linear import einsum, linear, matmul
from .loss import binary_cross_entropy_with_logits, cross_entropy, huber, kl_divergence, mae, mse, nll
from .op import Op, broadcast_to, op, sum_to
from .reduction import argmax, argmin, cumsum, logsumexp, max, mean, min, norm, prod, std, sum, var
from .shape import (
    astype,
    concatenate,
    expand_dims,
    flip,
    matrix_transpose,
    moveaxis,
    pad,
    repeat,
    reshape,
    split,
    squeeze,
    stack,
    transpose,
)

__all__ = [
    "Op", "op",
    "absolute", "add", "argmax", "argmin", "astype", "binary_cross_entropy_with_logits", "broadcast_to", "clip",
    "concatenate", "cos", "cross_entropy", "cumsum", "divide", "dropout", "einsum", "elu", "embedding", "equal",
    "exp", "expand_dims", "expm1", "flip", "gather", "gelu", "getitem", "greater", "greater_equal", "hadamard",
    "huber", "isfinite", "kl_divergence", "layer_norm", "leaky_relu", "less", "less_equal", "linear", "log",
    "log1p", "log_sigmoid", "log_softmax", "logsumexp", "mae", "matmul", "matrix_transpose", "max", "maximum",
    "mean", "min", "minimum", "moveaxis", "mse", "multiply", "negative", "nll", "norm", "not_equal", "one_hot",
    "pad", "power", "prod", "relu", "repeat", "reshape", "scatter_add", "select", "sigmoid", "sign", "silu", "sin",
    "softmax", "softplus", "split", "sqrt", "square", "squeeze", "stack", "std", "subtract", "sum", "sum_to", "take",
    "tanh", "transpose", "var", "where",
]  # fmt: skip


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, OPS, __all__)
