"""Data-parallel training: the same weights on any number of ranks, by MPI."""

from ..hints import missing_name
from .checks import checksum, source_checksum
from .mpi import launched
from .ranks import Ranks, current, init, synchronised
from .transport import ParallelError

__all__ = ["ParallelError", "Ranks", "checksum", "current", "init", "launched", "source_checksum", "synchronised"]

_OPTIMIZER = "optimizer = parallel.synchronised(optimizer), and the model stays as it is"
_MPI = "a collective operation of mpi4py; step() of parallel.synchronised(optimizer) sums the gradients"
#: What to write instead of names of torch.distributed, Accelerate and Horovod.
HINTS = {
    **dict.fromkeys("init_process_group initialize Accelerator".split(), "parallel.init(), under mpiexec -n 4"),
    "destroy_process_group": "not needed: leave the call out",
    **dict.fromkeys("get_rank rank".split(), "ranks.rank, of ranks = parallel.init()"),
    **dict.fromkeys("get_world_size world_size size".split(), "ranks.size, of ranks = parallel.init()"),
    "local_rank": "not needed on CPUs; ranks.rank is that among all processes",
    "is_initialized": "parallel.current() is not None",
    **dict.fromkeys("is_main_process is_master".split(), "ranks.rank == 0, of ranks = parallel.init()"),
    **dict.fromkeys("DistributedDataParallel DDP DistributedOptimizer prepare synchronize".split(), _OPTIMIZER),
    "synchronized": _OPTIMIZER,
    "DistributedSampler": "the whole batch on each rank, and ranks.rows_of(len(x)), which gives the rows of this one",
    "no_sync": "not needed: gradients are summed by step()",
    **dict.fromkeys("barrier all_reduce allreduce all_gather broadcast".split(), _MPI),
    **dict.fromkeys("spawn launch".split(), "the command: mpiexec -n 4 python script.py"),
}


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, HINTS, __all__)
