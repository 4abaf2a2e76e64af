"""Training: a character model, truncated backpropagation through time, checkpoints that resume exactly, samples."""

from ..io import SafetensorsError
from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .early_stop import EarlyStop
from .evaluate import character_losses, excerpts, leading_spaces
from .folder import RunFolder
from .loop import Loop
from .loss_scaler import LossScaler
from .model import CharacterModel
from .plot import PlotError, plot_loss
from .precision import MixedPrecision, mixed_precision
from .restore import Restored, restore
from .sampling import generate
from .settings import TextSettings
from .summary import summarize
from .terminal import Progress, progress
from .text_run import TextRun, characters_in
from .trainer import Step, Trainer, TrainingError

__all__ = [
    "CharacterModel",
    "CheckpointError",
    "EarlyStop",
    "Loop",
    "LossScaler",
    "MixedPrecision",
    "PlotError",
    "Progress",
    "Restored",
    "RunFolder",
    "SafetensorsError",
    "Step",
    "TextRun",
    "TextSettings",
    "Trainer",
    "TrainingError",
    "character_losses",
    "characters_in",
    "excerpts",
    "generate",
    "leading_spaces",
    "load_checkpoint",
    "mixed_precision",
    "plot_loss",
    "progress",
    "restore",
    "save_checkpoint",
    "summarize",
]
