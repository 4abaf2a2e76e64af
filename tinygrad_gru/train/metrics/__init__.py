"""Metrics: exact averages over all batches."""

from .base import Mean, Metric
from .classification import Accuracy, BitsPerCharacter, Perplexity, TopK
from .confusion import ConfusionMatrix
from .loss import MeanLoss
from .names import metric
from .regression import MAE, MSE, R2, RMSE

__all__ = [
    "MAE", "MSE", "R2", "RMSE", "Accuracy", "BitsPerCharacter", "ConfusionMatrix", "Mean", "MeanLoss", "Metric",
    "Perplexity", "TopK", "metric",
]  # fmt: skip
