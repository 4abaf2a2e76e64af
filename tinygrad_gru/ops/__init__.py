"""Ops: differentiable array functions, each with its formula and vjp rules. `op` defines new ones.

A NumPy array beside a Tensor is a constant that is not copied: until backward it must not be overwritten, which nothing
could notice. `Tensor(array)` copies it, and so do layers and `train.fit`.
"""

from __future__ import annotations

from ..hints import OPS, missing_name, numpys
from .activation import (
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
from .comparison import (
    all,
    any,
    equal,
    greater,
    greater_equal,
    isfinite,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    masked_fill,
    not_equal,
    select,
    where,
)
from .elementwise import (
    absolute,
    add,
    clip,
    cos,
    divide,
    exp,
    expm1,
    floor_divide,
    hadamard,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    remainder,
    sign,
    sin,
    sqrt,
    square,
    subtract,
)
from .linear import einsum, linear, matmul
from .loss import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber,
    kl_divergence,
    linear_cross_entropy,
    mae,
    mse,
    nll,
)
from .movement.indexing import embedding, gather, getitem, one_hot, scatter_add, take
from .movement.ordering import argmax, argmin, argsort, sort, topk
from .movement.shape import (
    astype,
    chunk,
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
from .op import Op, broadcast_to, op, sum_to
from .reduction import cumsum, logsumexp, max, mean, min, norm, prod, std, sum, var
from .sampling import categorical, dropout

__all__ = [
    "Op", "op",
    "absolute", "add", "all", "any", "argmax", "argmin", "argsort", "astype", "binary_cross_entropy_with_logits",
    "broadcast_to", "categorical", "chunk", "clip", "concatenate", "cos", "cross_entropy", "cumsum", "divide",
    "dropout", "einsum", "elu", "embedding", "equal", "exp", "expand_dims", "expm1", "flip", "floor_divide",
    "gather", "gelu", "getitem", "greater", "greater_equal", "hadamard", "huber", "isfinite", "kl_divergence",
    "layer_norm", "leaky_relu", "less", "less_equal", "linear", "linear_cross_entropy", "log", "log1p",
    "log_sigmoid", "log_softmax", "logical_and", "logical_not", "logical_or", "logical_xor", "logsumexp", "mae",
    "masked_fill", "matmul", "matrix_transpose", "max", "maximum", "mean", "min", "minimum", "moveaxis", "mse",
    "multiply", "negative", "nll", "norm", "not_equal", "one_hot", "pad", "power", "prod", "relu", "remainder",
    "repeat", "reshape", "scatter_add", "select", "sigmoid", "sign", "silu", "sin", "softmax", "softplus", "sort",
    "split", "sqrt", "square", "squeeze", "stack", "std", "subtract", "sum", "sum_to", "take", "tanh", "topk",
    "transpose", "var", "where",
]  # fmt: skip


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, numpys(name) | OPS, __all__)
