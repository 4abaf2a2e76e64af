"""Peak memory of a training pass beside PyTorch's: the growth of a fresh process's peak in its first pass.

Libraries are imported (llvmlite, too) and inputs and weights created before; the gradients of all of them are part of
the pass.
"""

from __future__ import annotations

import resource
import sys

from tinygrad_gru import native

from .cells import CELLS
from .peers import Case, ours, pytorch
from .processes import output_of
from .timing import installed, report, row

COMMAND = "python -m benchmarks.recurrence_memory"
SIZES = [(100, 64, 512, 512), (1000, 16, 128, 128)]
MAKERS = {"ours": ("numpy", ours), "PyTorch": ("torch", pytorch)}
#: ru_maxrss is in bytes on macOS, elsewhere in KiB.
UNIT = 1 if sys.platform == "darwin" else 1024


def growth(name: str, kind: str, size: tuple[int, int, int, int]) -> None:
    """Print the number of bytes by which a pass raises the peak of this process."""
    case = Case(kind, size)  # kept alive: in memory that was freed a pass could grow without raising the peak
    run = MAKERS[name][1](case)
    if name == "ours" and native.is_available():
        native.function("def loop(steps):\n    steps[0] = 1")  # imports llvmlite, as PyTorch has been imported
    before = peak()
    run()
    print(peak() - before)


def peak() -> int:
    return UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(name: str, kind: str, size: tuple[int, int, int, int]) -> int:
    return int(output_of("recurrence_memory", "growth", name, kind, size, echo=False)[-1])


def main() -> None:
    names = [name for name, (package, _) in MAKERS.items() if installed(package)]
    columns = ["", "(T, B, I, H)", *(f"{name}, MB" for name in names), *(f"ours over {name}" for name in names[1:])]
    lines = [row(columns), row(["---"] * len(columns))]
    for kind in CELLS:
        for size in SIZES:
            own, *others = growths = [measure(name, kind, size) for name in names]
            figures = [*(f"{growth / 1e6:.0f}" for growth in growths), *(f"{own / other:.2f}" for other in others)]
            lines.append(row([kind, str(size), *figures]))
            print(lines[-1], flush=True)
    lines += [
        "",
        "The first pass of a process, forward and backward, on one thread; PyTorch's two-speed cell is a loop of its",
        "ops. Afterwards ours keeps its workspaces for the next pass, PyTorch keeps none. llvmlite itself takes some",
        "40 MB, nearly all of it pages of its file, and compiling touches 20 to 30 MB more of them, once: the machine",
        "code is kept on disk.",
    ]
    report("recurrence_memory", "Peak memory of a training pass", COMMAND, lines, ["torch"], "1 thread")


if __name__ == "__main__":
    main()
