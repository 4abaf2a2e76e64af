"""Training: fit, evaluate, predict; the loop, metrics, checkpoints that resume exactly; and text (`train.text`)."""

from ..io import SafetensorsError
from ..io.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ..show import PlotError, plot_loss
from .callback import Callback
from .callbacks import CSVLog, LambdaCallback, TensorBoard, WeightAverage
from .fit import evaluate, fit, predict
from .folder import RunFolder, read_log
from .history import History
from .loop import Loop
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
from .stopping import EarlyStop
from .terminal import Progress, progress
from .text.evaluate import character_losses, excerpts, leading_spaces
from .text.model import CharacterModel
from .text.restore import Restored, restore
from .text.run import TextRun, characters_in, summarize
from .text.sampling import generate
from .text.settings import TextSettings
from .trainer import Step, Trainer, TrainingError

__all__ = [
    "MAE", "MSE", "R2", "RMSE", "Accuracy", "BitsPerCharacter", "CSVLog", "Callback", "CharacterModel",
    "CheckpointError", "ConfusionMatrix", "EarlyStop", "History", "LambdaCallback", "Loop", "LossScaler", "Mean",
    "MeanLoss", "Metric", "MixedPrecision", "Perplexity", "PlotError", "Progress", "Restored", "RunFolder",
    "SafetensorsError", "Step", "TensorBoard", "TextRun", "TextSettings", "TopK", "Trainer", "TrainingError",
    "WeightAverage", "character_losses", "characters_in", "evaluate", "excerpts", "fit", "generate", "leading_spaces",
    "load_checkpoint", "metric", "mixed_precision", "plot_loss", "predict", "progress", "read_log", "restore",
    "save_checkpoint", "summarize",
]  # fmt: skip
