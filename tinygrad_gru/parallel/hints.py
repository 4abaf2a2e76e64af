"""Hints: what to write here instead of a name of a library that trains on several processes."""

from __future__ import annotations

_OPTIMIZER = "optimizer = parallel.synchronised(optimizer), and the model stays as it is"
_MPI = "a collective operation of mpi4py; step() of parallel.synchronised(optimizer) sums the gradients"
_COLLECTIVE = "barrier all_reduce allreduce all_gather allgather broadcast reduce scatter psum pmean ReduceOp".split()
_NO_SHARDING = "nothing: each rank has the whole model, and parallel.synchronised(optimizer) sums the gradients"
#: Of `parallel`: names of torch.distributed, Accelerate, Horovod and JAX.
PARALLEL = {
    **dict.fromkeys("init_process_group initialize Accelerator".split(), "parallel.init(), under mpiexec -n 4"),
    "destroy_process_group": "not needed: leave the call out",
    **dict.fromkeys("get_rank rank process_index".split(), "ranks.rank, of ranks = parallel.init()"),
    **dict.fromkeys(
        "get_world_size world_size size process_count device_count".split(), "ranks.size, of ranks = parallel.init()"
    ),
    "local_rank": "not needed on CPUs; ranks.rank is that among all processes",
    "is_initialized": "parallel.current() is not None",
    **dict.fromkeys("is_main_process is_master".split(), "ranks.rank == 0, of ranks = parallel.init()"),
    **dict.fromkeys("DistributedDataParallel DDP DistributedOptimizer prepare synchronize".split(), _OPTIMIZER),
    "synchronized": _OPTIMIZER,
    "DistributedSampler": "the whole batch on each rank, and ranks.rows_of(len(x)), which gives the rows of this one",
    "no_sync": "not needed: gradients are summed by step()",
    **dict.fromkeys(_COLLECTIVE, _MPI),
    **dict.fromkeys("spawn launch".split(), "the command: mpiexec -n 4 python script.py"),
    "torchrun": "the command: mpiexec -n 4 python script.py",
    **dict.fromkeys("FSDP FullyShardedDataParallel fully_shard ZeroRedundancyOptimizer pmap".split(), _NO_SHARDING),
    "MirroredStrategy": "parallel.init(), under mpiexec -n 4, and train.fit(…, parallel='mpi')",
    "MPI": "from mpi4py import MPI",
    "save": "save(model.state_dict(), path) if ranks.rank == 0: the weights of all ranks are the same",
}

#: Of what `parallel.init` returns.
RANKS = {
    **dict.fromkeys("get_rank process_index local_rank".split(), "ranks.rank"),
    **dict.fromkeys("world_size get_world_size num_processes process_count world".split(), "ranks.size"),
    **dict.fromkeys("is_main is_main_process is_master is_local_main_process".split(), "ranks.rank == 0"),
    **dict.fromkeys(_COLLECTIVE, _MPI),
    "comm": "MPI.COMM_WORLD of mpi4py",
    "rows": "ranks.rows_of(len(x)), for a loop of one's own",
    "prepare": _OPTIMIZER,
    "print": "if ranks.rank == 0: print(…)",
    "backend": "ranks.transport.name",
}
