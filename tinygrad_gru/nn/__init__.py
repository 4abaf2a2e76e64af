"""Modules: layers with parameters, and the recurrent ones among them."""

from __future__ import annotations

from . import init
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .layers import Dropout, Embedding, LayerNorm, Linear
from .module import Module, Parameter, Sequential
from .recurrent import GRU, LSTM, RNN, Recurrent

__all__ = [
    "Cell", "Dropout", "Embedding", "GRU", "GRUCell", "LSTM", "LSTMCell", "LayerNorm", "Linear", "Module", "Parameter",
    "RNN", "RNNCell", "Recurrent", "Sequential", "init",
]  # fmt: skip
