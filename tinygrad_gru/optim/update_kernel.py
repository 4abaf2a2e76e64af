"""Fused updates: a rule as one CUDA kernel for each parameter, or as one native loop over all parameters.

Run one by one, the dozen operations of Adam on a dozen parameters are more launches than the rest of a compiled step on
a GPU, and on the host a dozen passes over memory instead of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .. import native
from ..backend import backend_of, cuda_of, dtype_name, is_on_cuda, record_launches
from ..backend.numpy import DOUBLE, SINGLE, HostArray
from ..scan.targets.elements import CUDA, PYTHON

_DTYPES = frozenset({"float32", "float64"})


class UpdateKernel(NamedTuple):
    """A kernel as text, and its parameters: the arrays that it reads and writes, and the constants, by index."""

    source: str
    read: tuple[int, ...]
    written: tuple[int, ...]
    constants: tuple[int, ...]


def _parameters(operations: tuple, arrays: int) -> tuple[tuple[int, ...], ...]:
    """The registers that are read only, the arrays that are written, the constants, and all registers with results."""
    sources = {register for _, inputs, _ in operations for register in inputs}
    targets = {target for _, _, target in operations}
    return (
        tuple(sorted(register for register in sources - targets if register >= 0)),
        tuple(sorted(register for register in targets if register < arrays)),
        tuple(sorted(~register for register in sources if register < 0)),
        tuple(sorted(targets)),
    )


@lru_cache(maxsize=256)
def update_kernel(operations: tuple[tuple[str, tuple[int, ...], int], ...], arrays: int, dtype: str) -> UpdateKernel:
    """The kernel of elementwise operations (function, sources, target) on registers, of which the first are arrays."""
    read, written, constants, targets = _parameters(operations, arrays)
    parameters = [f"const {dtype}* {_name(r)}_" for r in read] + [f"float64 {_name(~i)}_" for i in constants]
    parameters += [f"{dtype}* {_name(r)}_" for r in written]
    body = [
        "const int64 n = int64(blockIdx.x) * blockDim.x + threadIdx.x;",
        "if (n >= count) return;",
        *(f"const {dtype} {_name(r)} = {_name(r)}_[n];" for r in read),
        *(f"const {dtype} {_name(~i)} = {CUDA.cast(_name(~i) + '_', dtype)};" for i in constants),
        *(f"{dtype} {_name(r)}{f' = {_name(r)}_[n]' if r < arrays else ''};" for r in targets),
        *(f"{_name(target)} = {CUDA.apply(op, dtype, *map(_name, inputs))};" for op, inputs, target in operations),
        *(f"{_name(r)}_[n] = {_name(r)};" for r in written),
    ]
    lines = [f'extern "C" __global__ void update_rule({", ".join(["int64 count", *parameters])}) {{']
    return UpdateKernel("\n".join([*lines, *(f"    {line}" for line in body), "}", ""]), read, written, constants)


@lru_cache(maxsize=256)
def update_loop(operations: tuple[tuple[str, tuple[int, ...], int], ...], arrays: int, dtype: str) -> UpdateKernel:
    """The same as a native loop over parameters: their number and the address of their constants, then each one's size
    and addresses. Every operation is rounded by itself, so that the results are those of NumPy, bit for bit; where one
    is subnormal it is 0 on x86. Averages of gradients that stay 0, such as those of words that a text no longer has,
    would else end at the smallest subnormal number, where a step takes ten times as long."""
    read, written, constants, _ = _parameters(operations, arrays)
    names = [_name(r) for r in (*read, *written)]
    width = 1 + len(names)
    pointers = [f"pointer_{dtype}(steps[{3 + i} + k * {width}])" for i in range(len(names))]
    lines = [
        "def loop(steps):",
        "    for k in range(steps[0]):",
        f"        update({', '.join([f'steps[2 + k * {width}]', 'pointer_float64(steps[1])', 'k', *pointers])})",
        "",
        f"def update({', '.join(['count', 'constants', 'k', *(f'{name}_' for name in names)])}):",
        *(
            f"    {_name(~i)} = {PYTHON.cast(f'constants[k * {len(constants)} + {n}]', dtype)}"
            for n, i in enumerate(constants)
        ),
        "    for n in range(count):",
        *(f"        {name} = {name}_[n]" for name in names),
        *(f"        {_name(out)} = {PYTHON.apply(op, dtype, *map(_name, inputs))}" for op, inputs, out in operations),
        *(f"        {_name(r)}_[n] = {_name(r)}" for r in written),
        "",
    ]
    return UpdateKernel("\n".join(lines), read, written, constants)


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


class NativeUpdates:
    """Updates of arrays on the host that wait for `run`, which makes them in one native call while their rule is one.

    All are made in the order in which they were added, for parameters may be views of the same memory.
    """

    def __init__(self) -> None:
        self._kernel = UpdateKernel("", (), (), ())
        self._waiting: list[tuple[list[int], list[float], list[Any]]] = []

    def add(self, operations: tuple, arrays: Sequence[Any], constants: Sequence[float]) -> bool:
        """Have an update wait. Where a native loop cannot address its arrays, make those that wait; False."""
        p = arrays[0]
        if type(p) is not HostArray or (p.dtype is not SINGLE and p.dtype is not DOUBLE):
            return self.run()
        kernel = update_loop(operations, len(arrays), p.dtype.name)
        used = [arrays[register] for register in (*kernel.read, *kernel.written)]
        addresses = []
        for array in used:
            if array.dtype is not p.dtype or array.shape != p.shape or not array.flags.carray:
                return self.run()
            addresses.append(native.address(array))
        ordered = sorted(addresses)
        if any(second < first + p.nbytes for first, second in pairwise(ordered)):
            return self.run()  # a gradient in the memory of its parameter: a native loop does not expect it
        if kernel is not self._kernel:
            self.run()
            self._kernel = kernel
        scalars = [constants[i] for i in kernel.constants]
        self._waiting.append(([p.size, *addresses], scalars, used))
        return True

    def run(self) -> bool:
        """Make the updates that wait; False, for none is waiting any more."""
        if self._waiting:
            constants = np.array([scalars for _, scalars, _ in self._waiting], np.float64)
            sizes_and_addresses = [number for numbers, _, _ in self._waiting for number in numbers]
            loop = native.function(self._kernel.source, flushes=True)
            loop.on(len(self._waiting), constants, *sizes_and_addresses)
            self._waiting.clear()
        return False
