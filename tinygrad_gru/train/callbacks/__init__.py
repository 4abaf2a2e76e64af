"""Callbacks: logs, averages of the weights, functions at events."""

from .functions import LambdaCallback
from .logs import CSVLog, TensorBoard
from .weight_average import WeightAverage

__all__ = ["CSVLog", "LambdaCallback", "TensorBoard", "WeightAverage"]
