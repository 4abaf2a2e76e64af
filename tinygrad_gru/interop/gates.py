"""Gate layouts of other libraries: conversion of the weights of recurrent cells, both ways.

Ours have one array per gate, (in, out): x @ W. Theirs stack the gates, each library in another order, and have two
biases, one added to the product with x and one to the product with h. What all of them call the update gate is 1 − z of
ours: since 1 − σ(a) = σ(−a), it is converted exactly by negating W_z, U_z and b_z.

Two biases that are only added are one, their sum. In a GRU whose reset gate acts after the product, the candidate's
second bias is inside r ⊙ (h U_h + c_h), so that it is a separate parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Layout:
    """A library's layout of stacked gates.

    gates      their order, by kind of cell, in our letters
    out_first  whether weights are (gates · out, in) rather than (in, gates · out)
    """

    gates: Mapping[str, tuple[str, ...]]
    out_first: bool

    def split(self, kind: str, stacked: Any) -> dict[str, Any]:
        """A stacked weight or bias (an array or a Tensor) split by gate, in our orientation and sign."""
        gates = self.gates[kind]
        if len(stacked.shape) == 2 and self.out_first:
            stacked = stacked.T
        out = stacked.shape[-1] // len(gates)
        parts = {gate: stacked[..., k * out : (k + 1) * out] for k, gate in enumerate(gates)}
        return {gate: -part if gate == "z" else part for gate, part in parts.items()}

    def stack(self, kind: str, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """The inverse of `split`, for host arrays."""
        ordered = [0 - parts[gate] if gate == "z" else parts[gate] for gate in self.gates[kind]]  # 0 − 0 is not −0
        stacked = np.concatenate(ordered, axis=-1)
        return np.ascontiguousarray(stacked.T) if stacked.ndim == 2 and self.out_first else stacked


TORCH = Layout({"RNN": ("",), "GRU": ("r", "z", "h"), "LSTM": ("i", "f", "g", "o")}, out_first=True)
KERAS = Layout({"RNN": ("",), "GRU": ("z", "r", "h"), "LSTM": ("i", "f", "g", "o")}, out_first=False)
ONNX = Layout({"RNN": ("",), "GRU": ("z", "r", "h"), "LSTM": ("i", "o", "f", "g")}, out_first=True)


@dataclass(frozen=True)
class StackedWeights:
    """The weights of one cell in another library's layout; biases are None in a cell without them."""

    W: Any
    U: Any
    b_x: Any = None
    b_h: Any = None


def to_ours(layout: Layout, kind: str, theirs: StackedWeights, reset_after: bool = False) -> dict[str, Any]:
    """The tensors of our cell, by name: arrays for arrays, recorded Tensors for Tensors.

    b_h may be None if a library has one bias, b_x.
    """
    ours = _named("W", layout.split(kind, theirs.W)) | _named("U", layout.split(kind, theirs.U))
    if theirs.b_x is None:
        return ours
    b = layout.split(kind, theirs.b_x)
    b_h = {} if theirs.b_h is None else layout.split(kind, theirs.b_h)
    inside = {"c_h": b_h.pop("h")} if reset_after else {}
    return ours | _named("b", {gate: part + b_h[gate] if gate in b_h else part for gate, part in b.items()}) | inside


def from_ours(layout: Layout, kind: str, ours: Mapping[str, np.ndarray], bias: bool = True) -> StackedWeights:
    """The weights of our cell in that layout; a bias that can be merged goes into the first one."""
    gates = layout.gates[kind]
    W, U = (layout.stack(kind, {gate: ours[_name(letter, gate)] for gate in gates}) for letter in "WU")
    if not bias:
        return StackedWeights(W, U)
    b = {gate: ours[_name("b", gate)] for gate in gates}
    inside = {gate: ours.get(_name("c", gate), np.zeros_like(b[gate])) for gate in gates}
    return StackedWeights(W, U, layout.stack(kind, b), layout.stack(kind, inside))


def _named(letter: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    return {_name(letter, gate): part for gate, part in parts.items()}


def _name(letter: str, gate: str) -> str:
    return f"{letter}_{gate}" if gate else letter
