"""The compiler's passes.

Rewrites take a program and return an equivalent one that costs less: `program -> program`. They are exported here.

    simplify        reassociate, swap_where, fold_casts_into_sums
    coefficients    collect
    merge/          merge_matmuls, fuse_horizontally, merge_sums
    linear/         mark_linear
    pack            pack_operands, materialize_operands
    symbolic_zeros  propagate_zeros

Analyses say how a program is run: when each value is computed (`schedule`, `sink`), where it is stored (`plan`, with
`storage` and `buffers`), which operations share a loop nest or kernel (`clusters`), and between which bounds the
elements of a value are (`ranges`).

The docstring of each shows its effect on a small program.
"""

from .coefficients import collect
from .linear import mark_linear
from .merge import fuse_horizontally, merge_matmuls, merge_sums
from .pack import materialize_operands, pack_operands
from .simplify import fold_casts_into_sums, reassociate, swap_where
from .symbolic_zeros import propagate_zeros

__all__ = [
    "collect", "fold_casts_into_sums", "fuse_horizontally", "mark_linear", "materialize_operands",
    "merge_matmuls", "merge_sums", "pack_operands", "propagate_zeros", "reassociate", "swap_where",
]  # fmt: skip
