"""Callbacks: their base class, logs, averages of the weights, functions at events."""

from .base import Callback
from .functions import LambdaCallback
from .logs import CSVLog, TensorBoard
from .weight_average import WeightAverage

__all__ = ["CSVLog", "Callback", "LambdaCallback", "TensorBoard", "WeightAverage"]
