"""The job on text: a character model, its training by truncated backpropagation through time, evaluation, sampling."""

from .evaluate import character_losses, excerpts, leading_spaces
from .model import CharacterModel
from .restore import Restored, restore
from .run import TextRun, characters_in, summarize
from .sampling import generate
from .settings import TextSettings
from .trainer import Step, Trainer, TrainingError

__all__ = [
    "CharacterModel",
    "Restored",
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
    "restore",
    "summarize",
]
