"""CUDA kernels: the text of each kernel of a program, and the host's lines that launch them.

    extern "C" __global__ void forward_2(int64 t, int64 now, float32* V4, float32* S5, float32* V11) {
        const int n = blockIdx.x * blockDim.x + threadIdx.x;
        if (n >= 1024) return;
        const int i = n / 64, j = n % 64;
        const float32 v6 = V4[t * 1024 + i * 64 + j] + S5[i * 64 + j];
        const float32 v11 = tanh_float32(v6);
        V11[t * 1024 + i * 64 + j] = v11;
    }

A kernel in the loop runs one thread per element of one step, a kernel outside of it one per element of all steps. If
all that a step does to its carry is elementwise, one kernel is the loop: a thread walks over the steps of an element.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...backend import THREADS
from ..ir import Value
from .elements import CUDA, REDUCTIONS, in_register, neutral
from .loops import AXES, Memory, Nest
from .source import Buffers

#: The integer parameters of a kernel, by level; at the boundary from one step to the next those of both.
_INTEGERS = {
    "loop": "int64 t, int64 now", "hoisted": "int64 count", "sunk": "int64 count",
    "boundary": "int64 t_now, int64 parity, int64 next",
    "walk": "int64 count, int64 begin, int64 direction, int64 parity",
}  # fmt: skip


class Kernels:
    """The kernels of a program. Methods write a kernel and return the host's line that launches it.

    buffers         of the source, to which those of each kernel are added
    fused_boundary  whether the kernel that ends a step is launched as one with that which begins the next
    """

    def __init__(self, program: str, buffers: Buffers):
        self.program, self.buffers = program, buffers
        self.texts: dict[str, str] = {}
        self.fused_boundary = False

    @property
    def lines(self) -> list[str]:
        return [line for text in self.texts.values() for line in [*text.splitlines(), ""]]

    @property
    def text(self) -> str:
        return "\n".join(self.texts.values())

    def nest(self, level: str, nest: Nest) -> str:
        """A kernel of the statements of a nest."""
        shape, size = nest.shape, math.prod(nest.shape)
        if level == "loop":
            index = [
                "const int n = blockIdx.x * blockDim.x + threadIdx.x;",
                f"if (n >= {size}) return;",
                *_indices("n", shape, range(len(shape))),
            ]
        else:
            index = [
                "const int64 n = int64(blockIdx.x) * blockDim.x + threadIdx.x;",
                f"if (n >= count * {size}) return;",
                f"const int64 t = n / {size};",
                *_indices(f"int(n % {size})", shape, range(len(shape))),
            ]
        return self._kernel(level, str(size), [*index, *nest.lines], nest.buffers)

    def walk(self, nest: Nest, carry: Sequence[tuple[Value, Memory, Value]]) -> str:
        """A kernel that runs all steps of a chunk, in which each thread keeps its element of the carry in registers.

        carry  the parts that the nest reads: the part, its memory, and its next value, a variable of the nest
        """
        size = math.prod(nest.shape)
        body = [
            "const int n = blockIdx.x * blockDim.x + threadIdx.x;",
            f"if (n >= {size}) return;",
            *_indices("n", nest.shape, range(len(nest.shape))),
            "int64 t = begin, now = parity;",
            *(f"{in_register(old.dtype).name} v{old.number} = {nest.at(m).read(nest.axes)};" for old, m, _ in carry),
            "for (int64 step = 0; step < count; step++) {",
            "    const int64 then = 1 - now;",
            *(f"    {line}" for line in nest.lines),
            *(f"    {old.dtype.name} next{old.number}; next{old.number} = v{new.number};" for old, _, new in carry),
            *(f"    v{old.number} = next{old.number};" for old, _, _ in carry),
            "    t += direction;",
            "    now = then;",
            "}",
        ]
        return self._kernel("walk", str(size), body, nest.buffers)

    def boundary(self, last: Nest, first: Nest) -> str:
        """A kernel of the last nest of a step and the first nest of the next, which have one shape."""
        size = math.prod(last.shape)
        body = [
            "const int n = blockIdx.x * blockDim.x + threadIdx.x;",
            f"if (n >= {size}) return;",
            *_indices("n", last.shape, range(len(last.shape))),
            "{",
            "    const int64 t = t_now, now = parity, then = 1 - parity;",
            *(f"    {line}" for line in last.lines),
            "}",
            "if (next < 0) return;",
            "{",
            "    const int64 t = next, now = 1 - parity;",
            *(f"    {line}" for line in first.lines),
            "}",
        ]
        return self._kernel("boundary", str(size), body, last.buffers | first.buffers)

    def reduction(self, level: str, value: Value, source: Memory, out: Memory) -> str:
        """A kernel of a sum, maximum or minimum, with a block of threads for each element of the result."""
        function = REDUCTIONS[value.op]
        shape, kept = source.view.shape, [a for a in range(source.view.ndim) if a not in value["axis"]]
        size, axes, dtype = math.prod(shape[a] for a in kept), AXES[: len(shape)], in_register(value.dtype)
        result = out.with_view(out.view if value["keepdims"] else np.expand_dims(out.view, value["axis"])).element(axes)
        body = [
            f"__shared__ {dtype.name} shared[{THREADS}];",
            "const int64 n = blockIdx.x;",
            *([] if level == "loop" else [f"const int64 t = n / {size};"]),
            *_indices(f"int(n % {size})", shape, kept),
            f"{dtype.name} total = {CUDA.literal(neutral(value.op, dtype), dtype)};",
            f"for (int m = threadIdx.x; m < {math.prod(shape[a] for a in value['axis'])}; m += {THREADS}) {{",
            *(f"    {line}" for line in _indices("m", shape, value["axis"])),
            f"    total = {function}(total, {dtype.name}({source.read(axes)}));",
            "}",
            "shared[threadIdx.x] = total;",
            "__syncthreads();",
            f"for (int half = {THREADS // 2}; half > 0; half /= 2) {{",
            "    const int other = threadIdx.x + half;",
            f"    if (threadIdx.x < half) shared[threadIdx.x] = {function}(shared[threadIdx.x], shared[other]);",
            "    __syncthreads();",
            "}",
            f"if (threadIdx.x == 0) {result} = shared[0];",
        ]
        return self._kernel(level, str(size * THREADS), body, {memory.pointer: memory for memory in (out, source)})

    def _kernel(self, level: str, threads: str, body: Sequence[str], memories: Mapping[str, Memory]) -> str:
        """A kernel with that many threads per step."""
        name, arrays = f"{self.program}_{len(self.texts) + 1}", ", ".join(memories)
        for memory in memories.values():
            self.buffers.declare(memory.buffer)
        # A walk reads no element of one argument that it has written through another: the carry is in registers.
        kind = "* __restrict__" if level == "walk" else "*"
        pointers = [f"{memory.base.dtype.name}{kind} {pointer}" for pointer, memory in memories.items()]
        then = ["const int64 then = 1 - now;"] if level == "loop" and any("then *" in line for line in body) else []
        self.texts[name] = "\n".join([
            f'extern "C" __global__ void {name}({", ".join([_INTEGERS[level], *pointers])}) {{',
            *(f"    {line}" for line in (*then, *body)),
            "}",
            "",
        ])  # fmt: skip
        if level == "loop":
            return f"{name}({threads}, t, now, {arrays})"
        if level == "boundary":
            return f"{name}({threads}, t, now, next, {arrays})"
        if level == "walk":
            return f"{name}({threads}, len(steps), steps[0][0], direction(steps), steps[0][1], {arrays})"
        return f"{name}({threads} * len(steps), len(steps), {arrays})"


def _indices(flat: str, shape: Sequence[int], axes: Sequence[int]) -> list[str]:
    """The declarations of the indices along these axes, computed from a flat index."""
    declared, below = [], 1
    for axis in reversed(axes):
        n = shape[axis]
        if n > 1:
            text = flat if below == 1 else f"{flat} / {below}"
            is_first = below * n == math.prod(shape[a] for a in axes)
            declared.append(f"{AXES[axis]} = {text}" if is_first else f"{AXES[axis]} = {text} % {n}")
        below *= n
    return [f"const int {', '.join(reversed(declared))};"] if declared else []
