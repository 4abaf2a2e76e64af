"""`torch.compile` of a loop of ops and of a cell's step, and PyTorch's layers at bfloat16, beside ours.

`--quick` measures the step alone at few steps and writes no results.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .peers import Case, Pass, check_agreement, ours, pytorch, pytorch_compiled
from .processes import output_of
from .timing import installed, interleaved, report, row

COMMAND = "python -m benchmarks.torch_compiled"
KINDS = ("GRU", "LSTM", "two-speed")
SIZE = (50, 16, 64, 64)
#: Seconds that a compilation may take.
LIMIT = 280
EXPLANATION = f"""\
The cells of [cells.py](../cells.py) at (T, B, I, H) = {SIZE}, float32, one thread: forward and all gradients, least of
interleaved rounds. First pass: what a process pays once, with an empty cache of compiled code. PyTorch's loop is one of
its ops under autograd, with the input contributions hoisted by hand; `torch.compile` compiles a cell's step, which the
loop calls, or the whole loop, unrolled, so that its time grows with T. It needs a C++ compiler; ours does not. A
compilation of more than {LIMIT} s is given up."""


def compiled_row(kind: str, what: str, size: tuple[int, int, int, int], rounds: int) -> None:
    """Print a row of the table. Runs in a process of its own, which ends when a compilation takes too long."""
    signal.alarm(LIMIT)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        for name in ("TORCHINDUCTOR_CACHE_DIR", "TINYGRAD_GRU_CACHE"):
            os.environ[name] = cache
        case = Case(kind, size)
        passes = {"theirs": pytorch_compiled(case, what), "ours": ours(case), "NumPy": ours(case, "numpy")}
        first = {name: _seconds(run) for name, run in passes.items()}
        signal.alarm(0)
        check_agreement(case, {"ours": passes["ours"], "theirs": passes["theirs"]})
        least = {name: min(times) for name, times in interleaved(passes, rounds, min_run_time=0.03).items()}
    cells = [kind, what, f"{first['theirs']:.1f}", f"{1e3 * least['theirs']:.2f}", f"{first['ours']:.2f}"]
    ratios = [f"{least['theirs'] / least[name]:.2f}" for name in ("ours", "NumPy")]
    print(row([*cells, f"{1e3 * least['ours']:.2f}", *ratios]))


def _seconds(run: Pass) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def bfloat16_rows(rounds: int) -> None:
    """Print PyTorch's layers in bfloat16 beside its own and ours in float32."""
    for kind in ("GRU", "LSTM"):
        for size in (SIZE, (100, 64, 128, 256)):
            case = Case(kind, size)
            passes = {"ours": ours(case), "float32": pytorch(case), "bfloat16": pytorch(case, dtype="bfloat16")}
            seconds = interleaved(passes, rounds, min_run_time=0.03)
            least = {name: 1e3 * min(times) for name, times in seconds.items()}
            figures = [f"{least[name]:.2f}" for name in ("bfloat16", "float32", "ours")]
            print(row([kind, str(size), *figures, f"{least['bfloat16'] / least['ours']:.2f}"]))


def instructions() -> str:
    """What this processor has for products in bfloat16."""
    try:
        flags = set(re.findall(r"avx512_bf16|amx_bf16|amx_tile", Path("/proc/cpuinfo").read_text()))
    except OSError:
        return "What this processor has for bfloat16 is not known."
    if flags:
        return f"This processor has {', '.join(sorted(flags))}."
    return "This processor has no instructions for it (avx512_bf16, amx_bf16), so it is converted back and forth."


def tables(quick: bool) -> list[str]:
    columns = [
        "",
        "compiled",
        "first pass, s",
        "ms",
        "ours: first pass, s",
        "ours, ms",
        "over ours",
        "over ours (NumPy)",
    ]
    lines = [row(columns), row(["---"] * len(columns))]
    print(*lines, sep="\n")
    for kind in KINDS:
        for what in ("eager", "step") if quick else ("eager", "step", "loop"):
            size, rounds = ((10, *SIZE[1:]), 2) if quick else (SIZE, 15)
            try:
                lines += output_of("torch_compiled", "compiled_row", kind, what, size, rounds)[-1:]
            except subprocess.CalledProcessError as error:
                reason = f"over {LIMIT} s" if error.returncode == -signal.SIGALRM else "fails"
                lines.append(row([kind, what, reason, *[""] * (len(columns) - 3)]))
                print(lines[-1])
    lines += ["", f"## bfloat16\n\nPyTorch's own layers, ms. {instructions()}\n"]
    columns = ["", "(T, B, I, H)", "PyTorch, bfloat16", "PyTorch, float32", "ours, float32", "bfloat16 over ours"]
    lines += [row(columns), row(["---"] * len(columns))]
    print(*lines[-4:], sep="\n")
    return lines + output_of("torch_compiled", "bfloat16_rows", 2 if quick else 9)


def main(quick: bool = False) -> None:
    if not installed("torch") or not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        print("torch_compiled is skipped: it needs torch and a C++ compiler")
        return
    lines = [EXPLANATION, "", *tables(quick)]
    if not quick:
        report("torch_compiled", "Beside `torch.compile`", COMMAND, lines, ["torch", "llvmlite"], "1 thread")


if __name__ == "__main__":
    main("--quick" in sys.argv)
