"""Update rules on a GPU: all that an optimizer does to one parameter, as one kernel.

One by one, the dozen operations of Adam on a dozen parameters are more launches than the rest of a compiled step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_FORMULAS = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "maximum": "larger({}, {})",
    "sqrt": "sqrt({})",
    "positive": "{}",
}
#: CUDA's own maximum would lose NaN.
_PREAMBLE = "template <typename T> __device__ T larger(T a, T b) { return a > b || a != a ? a : b; }"


class UpdateKernel:
    """Elementwise operations (function, sources, target) on numbered registers.

    The first `arrays` registers are the arrays, ~i is constant i, and the others live where the kernel computes.
    """

    def __init__(self, cupy: Any, operations: Sequence[tuple[str, tuple[int, ...], int]], arrays: int):
        used = {register for _, sources, target in operations for register in (*sources, target)}
        targets = {target for _, _, target in operations}
        self.written = sorted(register for register in targets if register < arrays)
        self.read = sorted(register for register in used - targets if register >= 0)
        self.constants = sorted(~register for register in used if register < 0)
        scratch = ", ".join(_name(register) for register in sorted(targets) if register >= arrays)
        steps = (
            f"{_name(target)} = {_FORMULAS[function].format(*map(_name, sources))};"
            for function, sources, target in operations
        )
        self.kernel = cupy.ElementwiseKernel(
            ", ".join([*(f"T {_name(r)}" for r in self.read), *(f"T {_name(~i)}" for i in self.constants)]),
            ", ".join(f"T {_name(r)}" for r in self.written),
            "\n".join([*([f"T {scratch};"] if scratch else []), *steps]),
            "update_rule",
            preamble=_PREAMBLE,
            no_return=True,
        )

    def __call__(self, arrays: Sequence[Any], constants: Sequence[float]) -> None:
        self.kernel(
            *(arrays[register] for register in self.read),
            *(constants[number] for number in self.constants),
            *(arrays[register] for register in self.written),
        )


def _name(register: int) -> str:
    return f"a{register}" if register >= 0 else f"c{~register}"
