"""All that needs a GPU, in one command, each part in a process of its own: `python -m benchmarks.gpu`.

Proofs (ops, lockstep, second derivatives, loss curves, tests) and figures (against cuDNN, a loop of PyTorch's ops, and
PyTorch's training). `--backend numpy` rehearses everything at toy sizes on a machine without a GPU.
"""
