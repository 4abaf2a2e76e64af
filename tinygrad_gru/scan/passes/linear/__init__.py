"""Linear recurrences: carries that are linear and diagonal in themselves, so that no loop over the steps is needed.

recognise  mark_linear, why_not_linear
batches    batches_of
"""

from .batches import Batches, batches_of
from .recognise import MOST_ELEMENTS, is_zero, mark_linear, why_not_linear

__all__ = ["MOST_ELEMENTS", "Batches", "batches_of", "is_zero", "mark_linear", "why_not_linear"]
