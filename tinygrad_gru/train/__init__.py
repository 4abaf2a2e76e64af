"""Training: loop, checkpoints that resume exactly, mixed precision, progress; and training on text (`train.text`)."""

from ..io import SafetensorsError
from ..io.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ..show import PlotError, plot_loss
from .folder import RunFolder
from .history import History
from .loop import EarlyStop, Loop
from .metrics import (
    MAE,
    MSE,
    R2,
    RMSE,
    Accuracy,
    BitsPerCharacter,
    ConfusionMatrix,
    Mean,
    MeanLoss,
    Metric,
    Perplexity,
    TopK,
    metric,
)
from .precision import LossScaler, MixedPrecision, mixed_precision
from .terminal import Progress, progress
from .text.evaluate import character_losses, excerpts, leading_spaces
from .text.model import CharacterModel
from .text.restore import Restored, restore
from .text.run import TextRun, characters_in, summarize
from .text.sampling import generate
from .text.settings import TextSettings
from .text.trainer import Step, Trainer, TrainingError

__all__ = [
    "MAE", "MSE", "R2", "RMSE", "Accuracy", "BitsPerCharacter", "CharacterModel", "CheckpointError", "ConfusionMatrix",
    "EarlyStop", "History", "Loop", "LossScaler", "Mean", "MeanLoss", "Metric", "MixedPrecision", "Perplexity",
    "PlotError", "Progress", "Restored", "RunFolder", "SafetensorsError", "Step", "TextRun", "TextSettings", "TopK",
    "Trainer", "TrainingError", "character_losses", "characters_in", "excerpts", "generate", "leading_spaces",
    "load_checkpoint", "metric", "mixed_precision", "plot_loss", "progress", "restore", "save_checkpoint", "summarize",
]  # fmt: skip
