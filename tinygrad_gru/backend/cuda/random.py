"""Random numbers on a GPU: NumPy's, bit for bit where they are uniform, so that one seed drops the same units on both.

Philox (Salmon et al. 2011) makes block i of a draw out of nothing but the seed, the number of the draw and i, so that
one kernel makes all blocks at once, in no order and from no state.
"""

from __future__ import annotations

import math
from typing import Any

from ..events import record_launches

#: One block: four words of 64 bits, which are as many doubles or twice as many floats, in the order of NumPy's Philox.
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
    """The kernel that fills an array with a draw, one thread a block."""
    return cupy.ElementwiseKernel(
        "uint64 seed, uint64 position, int64 n", "raw T numbers", BLOCK, "draw_uniform", no_return=True
    )


class Draw:
    """Draw number `position` of `seed` on one GPU, with the methods of NumPy's generators."""

    def __init__(self, home: Any, kernel: Any, seed: int, position: int):
        self.home, self.kernel, self.seed, self.position = home, kernel, seed, position

    def random(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Numbers evenly spread over [0, 1), float32 or float64: those that NumPy's generator gives."""
        record_launches(1, "random numbers")
        numbers = self.home.empty(shape, dtype)
        blocks = -(-numbers.nbytes // _BLOCK_BYTES)
        if blocks:
            with self.home.as_current():
                self.kernel(self.seed, self.position, numbers.size, numbers, size=blocks)
        return numbers

    def standard_normal(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Numbers of the standard normal distribution, from uniform ones by the transform of Box & Muller (1958).

        NumPy makes them in another way, one by one.
        """
        xp, n = self.home.xp, math.prod(shape)
        with self.home.as_current():
            u, v = self.random((2, (n + 1) // 2), dtype)
            radius, angle = xp.sqrt(-2 * xp.log1p(-u)), 2 * math.pi * v
            pairs = xp.concat([radius * xp.cos(angle), radius * xp.sin(angle)])
            return xp.reshape(pairs[:n], shape)
