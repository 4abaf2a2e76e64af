"""Random numbers on a GPU: uniform ones are NumPy's bit for bit, so that dropout masks are the same on both.

Philox (Salmon et al. 2011) is counter-based: block i of a draw is a function of the seed, the number of the draw and i,
so one kernel computes all blocks in parallel, without state.
"""

from __future__ import annotations

import math
from typing import Any

from ..events import record_launches

#: One block: four words of 64 bits, which give four doubles or eight floats, in the order of NumPy's Philox.
BLOCK = """
unsigned long long c0 = i + 1, c1 = 0, c2 = position, c3 = 0, k0 = seed, k1 = 0;
for (int round = 0; round < 10; ++round) {
    const unsigned long long m0 = 0xD2E7470EE14C6C93ULL, m1 = 0xCA5A826395121157ULL;
    const unsigned long long high0 = __umul64hi(m0, c0), low0 = m0 * c0;
    const unsigned long long high1 = __umul64hi(m1, c2), low1 = m1 * c2;
    c0 = high1 ^ c1 ^ k0; c1 = low1; c2 = high0 ^ c3 ^ k1; c3 = low0;
    k0 += 0x9E3779B97F4A7C15ULL; k1 += 0xBB67AE8584CAA73BULL;
}
const unsigned long long words[4] = {c0, c1, c2, c3};
for (int k = 0; k < 4; ++k) {
    if (sizeof(T) == 8) {
        if (4 * i + k < n) numbers[4 * i + k] = (words[k] >> 11) * (1.0 / 9007199254740992.0);
    } else {
        if (8 * i + 2 * k < n) numbers[8 * i + 2 * k] = ((unsigned int)words[k] >> 8) * (1.0f / 16777216.0f);
        if (8 * i + 2 * k + 1 < n) numbers[8 * i + 2 * k + 1] = (words[k] >> 40) * (1.0f / 16777216.0f);
    }
}
"""
_BLOCK_BYTES = 32


def draw_kernel(cupy: Any) -> Any:
    """The kernel that fills an array with a draw, with one thread per block."""
    return cupy.ElementwiseKernel(
        "uint64 seed, uint64 position, int64 n", "raw T numbers", BLOCK, "draw_uniform", no_return=True
    )


class Draw:
    """Draw `position` of `seed` on a GPU, with the methods of NumPy's generators."""

    def __init__(self, backend: Any, kernel: Any, seed: int, position: int):
        self.backend, self.kernel, self.seed, self.position = backend, kernel, seed, position

    def random(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Uniform random numbers in [0, 1), float32 or float64, equal to those of NumPy's generator."""
        record_launches(1, "random numbers")
        numbers = self.backend.empty(shape, dtype)
        blocks = -(-numbers.nbytes // _BLOCK_BYTES)
        if blocks:
            with self.backend.as_current():
                self.kernel(self.seed, self.position, numbers.size, numbers, size=blocks)
        return numbers

    def standard_normal(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Random numbers of the standard normal distribution, by the transform of Box & Muller (1958).

        NumPy's generator has other ones: it uses a sequential method.
        """
        xp, n = self.backend.xp, math.prod(shape)
        with self.backend.as_current():
            u, v = self.random((2, (n + 1) // 2), dtype)
            radius, angle = xp.sqrt(-2 * xp.log1p(-u)), 2 * math.pi * v
            pairs = xp.concat([radius * xp.cos(angle), radius * xp.sin(angle)])
            return xp.reshape(pairs[:n], shape)
