"""Callbacks: their base class, logs, averages of the weights, functions at events."""

from ...hints import missing_name
from ..hints import TRAIN
from .base import Callback
from .functions import LambdaCallback
from .logs import CSVLog, TensorBoard
from .weight_average import WeightAverage

__all__ = ["CSVLog", "Callback", "LambdaCallback", "TensorBoard", "WeightAverage"]


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, TRAIN, __all__)
