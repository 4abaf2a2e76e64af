"""Merging: several operations of one type become one on concatenated arrays.

    [x A, x B]      =  x [A, B]             matmuls.py      products with one left operand (XLA's dot merger)
    [f(a), f(b)]    =  f([a, b])            horizontal.py   and isomorphic uses of them (horizontal fusion)
    a A + b B       =  [a, b] [A; B]        sums.py         sums of products
    Σₜ [xᵀ a, xᵀ b] =  Σₜ xᵀ [a, b]         sums.py         products that are summed over time

In each, groups of operations are found first, in the program as it is, and rewritten second.
"""

from .horizontal import fuse_horizontally
from .matmuls import merge_matmuls
from .sums import merge_sums

__all__ = ["fuse_horizontally", "merge_matmuls", "merge_sums"]
