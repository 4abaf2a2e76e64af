"""Feed-forward layers: Linear, TiedLinear, Embedding, Dropout, LayerNorm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from .. import ops
from ..backend import as_array, backend_of, move
from ..tensor import Tensor
from . import init
from .base.hints import EMBEDDING, LINEAR, MODULE, TIED_LINEAR
from .checks import as_input, check_probability, check_sizes
from .module import Module, Parameter


class _Weighted(Module):
    """A layer whose weights have other names in other libraries: those are answered, and not assigned either."""

    _weight_hints: ClassVar[Mapping[str, str]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._hints = {**MODULE, **cls._weight_hints}

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._weight_hints and not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__}.{name}: here it is {self._weight_hints[name]}")
        super().__setattr__(name, value)


class Linear(_Weighted):
    """Affine layer: y = x W + b        x (…, in_features), W (in_features, out_features), b (out_features)

    in_features, out_features  sizes of the last axis of x and of y
    bias                       whether there is b; without it `b` is None
    dtype, device              of the parameters

    W and b are initialised with U(−a, a), a = 1/√in_features, as PyTorch does. PyTorch's `weight` is Wᵀ.

    >>> layer = nn.Linear(3, 2)
    >>> layer(np.ones((5, 3))).shape
    (5, 2)
    """

    _weight_hints = LINEAR

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = "float32", device: Any = None
    ):
        check_sizes(in_features=in_features, out_features=out_features)
        if isinstance(bias, str) or callable(bias):
            raise TypeError(f"bias: expected a truth value, got {bias!r} (an activation is a layer of its own)")
        bound = 1 / math.sqrt(in_features)
        self.W = Parameter(init.uniform(in_features, out_features, bound=bound), dtype, device)
        self.b = Parameter(init.uniform(out_features, bound=bound), dtype, device) if bias else None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "W" and isinstance(value, Tensor):
            _check_orientation(self, value, "Embedding.W")
        super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """y (…, out_features), a Tensor.

        x   (…, in_features): a Tensor of the dtype of W, or an array or list, which is converted to it

        Raises ValueError for another last axis, TypeError for a Tensor of another floating dtype.
        """
        return ops.linear(_input("Linear", x, self.W, in_features=self.W.shape[0]), self.W, self.b)

    def describe(self) -> str:
        return f"{self.W.shape[0]}, {self.W.shape[1]}" + ("" if self.b is not None else ", bias=False")


class TiedLinear(_Weighted):
    """Output layer with the weight of an embedding: y = x Wᵀ + b (Press & Wolf 2017)

    embedding  an `Embedding`, or its W (num_embeddings, embedding_dim)
    bias       whether there is b (num_embeddings), initialised as in `Linear`

    W is the parameter of both: it gets the gradients of both, and is saved and updated once. (The row of a padding_idx
    gets that of this layer, for it is a class here.)

    >>> embedding = nn.Embedding(10, 4)
    >>> output = nn.TiedLinear(embedding)
    >>> output.W is embedding.W, output(embedding([1, 2, 3])).shape
    (True, (3, 10))
    """

    _weight_hints = TIED_LINEAR

    def __init__(self, embedding: Embedding | Tensor, bias: bool = True):
        weight = embedding.W if isinstance(embedding, Embedding) else embedding
        if not isinstance(weight, Tensor) or weight.ndim != 2:
            raise TypeError(f"embedding: expected an Embedding or its W, got {type(embedding).__name__}")
        (num_embeddings, embedding_dim), device = weight.shape, backend_of(weight.data)
        b = init.uniform(num_embeddings, bound=1 / math.sqrt(embedding_dim))
        self.W = weight
        self.b = Parameter(b, weight.dtype, device) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """y (…, num_embeddings) from x (…, embedding_dim), a Tensor of the dtype of W or data, as in `Linear`."""
        x = _input("TiedLinear", x, self.W, embedding_dim=self.W.shape[1])
        return ops.linear(x, ops.matrix_transpose(self.W), self.b)

    def describe(self) -> str:
        return f"{self.W.shape[1]}, {self.W.shape[0]}" + ("" if self.b is not None else ", bias=False")


class Embedding(_Weighted):
    """Table of vectors: y = W[ids]        ids (…) integers, W (num_embeddings, embedding_dim), y (…, embedding_dim)

    num_embeddings  the number of ids: 0 … num_embeddings − 1
    embedding_dim   the size of a vector
    padding_idx     the id of padding: its row starts at 0 and gets no gradient; −1 is the last id
    dtype, device   of W

    W is initialised with N(0, 1), as PyTorch does.

    >>> layer = nn.Embedding(10, 4, padding_idx=0)
    >>> layer([[3, 7, 0], [5, 0, 0]]).shape
    (2, 3, 4)
    >>> layer([0]).tolist()
    [[0.0, 0.0, 0.0, 0.0]]
    """

    _weight_hints = EMBEDDING

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, dtype: Any = "float32",
        device: Any = None,
    ):  # fmt: skip
        check_sizes(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None and not isinstance(padding_idx, Integral):
            raise TypeError(f"padding_idx: expected an id, got {padding_idx!r} (dtype and device are keywords)")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"padding_idx: expected an id in 0 … {num_embeddings - 1}, got {padding_idx}")
        table = init.normal(num_embeddings, embedding_dim)
        self.padding_idx = None if padding_idx is None else int(padding_idx) % num_embeddings
        if padding_idx is not None:
            table[padding_idx] = 0
        self.W = Parameter(table, dtype, device)

    @classmethod
    def from_pretrained(
        cls, table: Any, freeze: bool = True, padding_idx: int | None = None, dtype: Any = "float32", device: Any = None
    ) -> Embedding:
        """An Embedding with the vectors of an array (num_embeddings, embedding_dim); frozen, as in PyTorch, unless
        `freeze` is False. It is on the device of the array, or on `device`.

        >>> nn.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])([1]).tolist()
        [[3.0, 4.0]]
        """
        table = Tensor(table, device=device)
        if table.ndim != 2:
            raise ValueError(f"table: expected (num_embeddings, embedding_dim), got shape {table.shape}")
        rows, columns = table.shape
        layer = cls(rows, columns, padding_idx, dtype, backend_of(table.data))
        layer.load_state_dict({"W": table})
        if freeze:
            layer.freeze()
        return layer

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "W" and isinstance(value, Tensor):
            _check_orientation(self, value, "Linear.W")
        super().__setattr__(name, value)

    def forward(self, ids: Any) -> Tensor:
        """y (…, embedding_dim), a Tensor.

        ids   (…) integers: a Tensor, an array or a list

        Raises IndexError for an id out of range, TypeError for ids that are not integers.
        """
        if not isinstance(ids, Tensor):
            ids = move(as_array(ids), backend_of(self.W.data))
        return ops.embedding(self.W, ids, padding_idx=self.padding_idx)

    def describe(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.W.shape[0]}, {self.W.shape[1]}{padding}"


class Dropout(Module):
    """Dropout: y = x ⊙ m / (1 − p) in training, m = 0 with probability p, else 1; y = x in evaluation

    p   the probability with which an element is dropped, 0 ≤ p < 1

    >>> layer = nn.Dropout(0.5)
    >>> layer.eval()(Tensor([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """

    def __init__(self, p: float = 0.5):
        check_probability(p=p)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """y of the shape and dtype of x, which may be of any shape; m is sampled at every call."""
        x = x if hasattr(x, "shape") else Tensor(x)
        return ops.dropout(x, p=self.p, training=self.training)

    def describe(self) -> str:
        return f"p={self.p}"


class LayerNorm(Module):
    """Layer normalisation: y = (x − μ) / √(σ² + eps) ⊙ weight + bias, μ and σ² over the last axis of x (…, features)

    features       the size of the last axis
    eps            is added to the variance
    dtype, device  of the parameters

    weight (features) is initialised with 1, bias (features) with 0 (Ba, Kiros & Hinton 2016).

    >>> nn.LayerNorm(3)([[1.0, 2.0, 3.0]]).numpy().round(3).tolist()
    [[-1.225..., 0.0, 1.225...]]
    """

    def __init__(self, features: int, eps: float = 1e-5, dtype: Any = "float32", device: Any = None):
        check_sizes(features=features)
        self.weight = Parameter(np.ones(features), dtype, device)
        self.bias = Parameter(np.zeros(features), dtype, device)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """y (…, features) from x (…, features): a Tensor of the dtype of the weights, or data, as in `Linear`."""
        x = _input("LayerNorm", x, self.weight, features=self.weight.shape[0])
        return ops.layer_norm(x, self.weight, self.bias, eps=self.eps)

    def describe(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


def _input(layer: str, x: Any, weight: Tensor, **last_axis: int) -> Tensor:
    """x as a Tensor in the dtype of the weight; ValueError unless its last axis has that size."""
    if not isinstance(x, Tensor) or x.dtype != weight.dtype:
        x = as_input(layer, x, weight)
    ((name, size),) = last_axis.items()
    if x.shape[-1:] != (size,):
        raise ValueError(f"{layer}: x has shape {tuple(x.shape)}, its last axis must have the {size} {name}")
    return x


def _check_orientation(layer: Linear | Embedding, weight: Tensor, transposed: str) -> None:
    """Raise ValueError for a weight that belongs here transposed; a square one is told by its name."""
    current = getattr(layer, "W", None)
    flipped = current is not None and weight.shape == current.shape[::-1] != current.shape
    if weight.is_leaf and (flipped or (weight.name or "").endswith(transposed)):
        raise ValueError(
            f"{type(layer).__name__}.W: {weight.name or 'a weight'} {tuple(weight.shape)} is the transpose of what "
            "belongs here: Linear has (in, out), Embedding (ids, features). To tie an output layer to an embedding "
            "write nn.TiedLinear(embedding); a weight of PyTorch's Linear is transposed, nn.Parameter(weight.T)"
        )
