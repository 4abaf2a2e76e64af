"""Data-parallel training: the same weights on any number of ranks, by MPI."""

from .checks import checksum, source_checksum
from .mpi import launched
from .ranks import Ranks, current, init, synchronised
from .transport import ParallelError

__all__ = ["ParallelError", "Ranks", "checksum", "current", "init", "launched", "source_checksum", "synchronised"]
