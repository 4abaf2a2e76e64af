"""Fused update kernels: the update of one parameter as one CUDA kernel.

Launched one by one, the dozen operations of Adam on a dozen parameters are more launches than the rest of a compiled
step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ..backend import backend_of, cuda_of, dtype_name, is_on_cuda, record_launches
from ..scan.targets.elements import CUDA

_DTYPES = frozenset({"float32", "float64"})


class UpdateKernel(NamedTuple):
    """A kernel in CUDA source, and its parameters: the arrays that it reads and writes, and the constants, by index."""

    source: str
    read: list[int]
    written: list[int]
    constants: list[int]


@lru_cache(maxsize=256)
def update_kernel(operations: tuple[tuple[str, tuple[int, ...], int], ...], arrays: int, dtype: str) -> UpdateKernel:
    """The kernel of elementwise operations (function, sources, target) on registers, of which the first are arrays."""
    sources = {register for _, inputs, _ in operations for register in inputs}
    targets = {target for _, _, target in operations}
    written = sorted(register for register in targets if register < arrays)
    read = sorted(register for register in sources - targets if register >= 0)
    constants = sorted(~register for register in sources if register < 0)
    parameters = [f"const {dtype}* {_name(r)}_" for r in read] + [f"float64 {_name(~i)}_" for i in constants]
    parameters += [f"{dtype}* {_name(r)}_" for r in written]
    body = [
        "const int64 n = int64(blockIdx.x) * blockDim.x + threadIdx.x;",
        "if (n >= count) return;",
        *(f"const {dtype} {_name(r)} = {_name(r)}_[n];" for r in read),
        *(f"const {dtype} {_name(~i)} = {CUDA.cast(_name(~i) + '_', dtype)};" for i in constants),
        *(f"{dtype} {_name(r)}{f' = {_name(r)}_[n]' if r < arrays else ''};" for r in sorted(targets)),
        *(f"{_name(target)} = {CUDA.apply(op, dtype, *map(_name, inputs))};" for op, inputs, target in operations),
        *(f"{_name(r)}_[n] = {_name(r)};" for r in written),
    ]
    lines = [f'extern "C" __global__ void update_rule({", ".join(["int64 count", *parameters])}) {{']
    return UpdateKernel("\n".join([*lines, *(f"    {line}" for line in body), "}", ""]), read, written, constants)


def _name(register: int) -> str:
    return f"a{register}" if register >= 0 else f"c{~register}"


def update_in_one_kernel(operations: tuple, arrays: Sequence[Any], constants: Sequence[float]) -> bool:
    """Run the operations in one kernel on arrays of one shape on a GPU; False where that is not possible."""
    if not is_on_cuda(arrays[0]):
        return False
    dtype = dtype_name(arrays[0].dtype)
    if dtype not in _DTYPES:
        return False
    kernel = update_kernel(operations, len(arrays), dtype)
    used = [arrays[register] for register in (*kernel.read, *kernel.written)]
    if any(dtype_name(a.dtype) != dtype or not a.flags.c_contiguous for a in used):
        return False  # the kernel uses one linear index for all arrays
    scalars = [constants[i] for i in kernel.constants]
    read, written, size = used[: len(kernel.read)], used[len(kernel.read) :], arrays[0].size
    cuda_of(backend_of(arrays[0])).launch(kernel.source, "update_rule", size, size, *read, *scalars, *written)
    record_launches(1, "an update rule")
    return True
