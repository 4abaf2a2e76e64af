"""Data-parallel training: the same weights on any number of ranks, by MPI."""

from ..hints import missing_name
from .checks import checksum, source_checksum
from .hints import PARALLEL
from .mpi import launched
from .ranks import Ranks, current, init, synchronised
from .transport import ParallelError

__all__ = ["ParallelError", "Ranks", "checksum", "current", "init", "launched", "source_checksum", "synchronised"]


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, PARALLEL, __all__)
