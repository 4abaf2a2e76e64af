"""Tensor: an array with a gradient; its operators, in-place writes, NumPy's protocols, creation, saving."""

from .tensor import Tensor, cotangent_node, initial_cotangent

__all__ = ["Tensor", "cotangent_node", "initial_cotangent"]
