"""Metrics: exact averages over all batches."""

from .base import Mean, MeanLoss, Metric
from .classification import Accuracy, BitsPerCharacter, Perplexity, TopK
from .confusion import ConfusionMatrix
from .names import metric
from .regression import MAE, MSE, R2, RMSE

__all__ = [
    "MAE", "MSE", "R2", "RMSE", "Accuracy", "BitsPerCharacter", "ConfusionMatrix", "Mean", "MeanLoss", "Metric",
    "Perplexity", "TopK", "metric",
]  # fmt: skip
