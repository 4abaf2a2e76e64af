"""Neural network modules: recurrent cells and layers, Linear, Embedding, Dropout, LayerNorm, initialisers."""

from __future__ import annotations

from ..hints import NN, missing_name
from . import init
from .cell import Cell
from .cell_options import VariedCell
from .cells import GRUCell, LSTMCell, MGUCell, RNNCell
from .layers import Dropout, Embedding, LayerNorm, Linear, TiedLinear
from .module import Module, Parameter
from .recurrent import GRU, LSTM, MGU, RNN, Recurrent
from .sequential import LastStep, Sequential

__all__ = [
    "Cell", "Dropout", "Embedding", "GRU", "GRUCell", "LSTM", "LSTMCell", "LastStep", "LayerNorm", "Linear", "MGU",
    "MGUCell", "Module", "Parameter", "RNN", "RNNCell", "Recurrent", "Sequential", "TiedLinear", "VariedCell", "init",
]  # fmt: skip


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, NN, __all__)
