"""Training: fit, evaluate, predict; the loop, metrics, checkpoints that resume exactly; and text (`train.text`)."""

from ..hints import missing_name
from ..io import SafetensorsError
from ..io.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ..show import PlotError
from .callbacks import Callback, CSVLog, LambdaCallback, TensorBoard, WeightAverage
from .find_lr import LRSweep, find_lr
from .fit import evaluate, fit, predict
from .folder import RunFolder, read_log
from .hints import TRAIN
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
from .series.model import SeriesModel
from .series.run import SeriesRun
from .series.settings import SeriesSettings
from .stopping import EarlyStop
from .terminal import Progress, progress
from .text.duration import TimePlan, time_plan
from .text.evaluate import character_losses, excerpts, leading_spaces
from .text.model import CharacterModel
from .text.origin import Origin
from .text.restore import Restored, restore
from .text.run import TextRun, summarize
from .text.sampling import generate
from .text.settings import TextSettings
from .trainer import Step, Trainer, TrainingError

__all__ = [
    "MAE", "MSE", "R2", "RMSE", "Accuracy", "BitsPerCharacter", "CSVLog", "Callback", "CharacterModel",
    "CheckpointError", "ConfusionMatrix", "EarlyStop", "History", "LRSweep", "LambdaCallback", "Loop", "LossScaler",
    "Mean", "MeanLoss", "Metric", "MixedPrecision", "Origin", "Perplexity", "PlotError", "Progress", "Restored",
    "RunFolder", "SafetensorsError", "SeriesModel", "SeriesRun", "SeriesSettings", "Step", "TensorBoard", "TextRun",
    "TextSettings", "TimePlan", "TopK", "Trainer", "TrainingError", "WeightAverage", "character_losses", "evaluate",
    "excerpts", "find_lr", "fit", "generate", "leading_spaces", "load_checkpoint", "metric", "mixed_precision",
    "predict", "progress", "read_log", "restore", "save_checkpoint", "summarize", "time_plan",
]  # fmt: skip


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, TRAIN, __all__)
