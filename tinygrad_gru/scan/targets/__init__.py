"""Targets: the code generators of the compiler, each behind the interface of `source.Target`.

numpy, llvm, cuda     a target each: passes, plan, emitter, executable
javascript            one whose programs are exported, not run
source, workspace     what all share: sources and their buffers, and the arrays in which they run
host                  for targets with a Python host: invariant values, views, copies of outputs
loops, elements       for targets that write statements on elements: memory layout, nests, the arithmetic as text
cuda_kernels          the text of kernels
"""
