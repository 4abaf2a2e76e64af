"""Neural network modules: cells, recurrent and feed-forward layers, containers, activations, losses, initialisers."""

from __future__ import annotations

from ..hints import missing_name
from ..ops import __all__ as _op_names
from . import init
from .base.hints import NN
from .base.summary import Summary, summary
from .cell import Cell
from .cell_options import VariedCell
from .cells import GRUCell, LSTMCell, MGUCell, RNNCell
from .layers import Dropout, Embedding, LayerNorm, Linear, TiedLinear
from .modern.layers import LRU, QRNN, SLSTM, SRU, MinGRU, MinLSTM
from .modern.lru import LRUCell
from .modern.minimal import MinGRUCell, MinLSTMCell
from .modern.qrnn import QRNNCell
from .modern.slstm import SLSTMCell
from .modern.sru import SRUCell
from .module import Module, Parameter
from .recurrent import GRU, LSTM, MGU, RNN, Recurrent
from .sequential import LastStep, Sequential
from .small.activations import (
    ELU,
    GELU,
    Flatten,
    Identity,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from .small.containers import ModuleDict, ModuleList
from .small.losses import BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss, NLLLoss
from .states import State

__all__ = [
    "BCEWithLogitsLoss", "Cell", "CrossEntropyLoss", "Dropout", "ELU", "Embedding", "Flatten", "GELU", "GRU", "GRUCell",
    "HuberLoss", "Identity", "L1Loss", "LRU", "LRUCell", "LSTM", "LSTMCell", "LastStep", "LayerNorm", "LeakyReLU",
    "Linear", "LogSoftmax", "MGU", "MGUCell", "MSELoss", "MinGRU", "MinGRUCell", "MinLSTM", "MinLSTMCell", "Module",
    "ModuleDict", "ModuleList", "NLLLoss", "Parameter", "QRNN", "QRNNCell", "RNN", "RNNCell", "ReLU", "Recurrent",
    "SLSTM", "SLSTMCell", "SRU", "SRUCell", "Sequential", "SiLU", "Sigmoid", "Softmax", "Softplus", "State", "Summary",
    "Tanh", "TiedLinear", "VariedCell", "init", "summary",
]  # fmt: skip


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, {n: f"ops.{n}" for n in _op_names} | NN, __all__)
