"""All checks and measurements that need a GPU, in one command: `python -m benchmarks.gpu`, one process per part.

Proofs (ops, lockstep, second derivatives, loss curves, tests) and measurements (against cuDNN, a loop of PyTorch's ops,
and PyTorch's training). `--backend numpy` rehearses everything at toy sizes on a machine without a GPU.
"""
