"""A profile of training passes by kernels: number and time of each kind, ours beside cuDNN's."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable

from tinygrad_gru.backend import resolve

from ..peers import Case, ours, pytorch
from ..timing import installed, interleaved, row
from .clock import clock_for
from .options import Failures, Options, Skipped
from .precision import FLOAT32
from .recurrence import SIZES, TOYS

#: Kinds of kernels by their names; all others are elementwise, ours or cuDNN's.
KINDS = {
    "products": re.compile("gemm|gemv|cutlass|xmma|nvjet|splitk|cublas|persist|dot_kernel|_mm$|matmul", re.IGNORECASE),
    "copies": re.compile("memcpy|memset|copy_kernel|copy_$", re.IGNORECASE),
}
LONGEST = 6
EXPLANATION = """\
Kernels of one pass as recorded by CUPTI, by the kinds that their names show. Idle is the rest of a pass, timed without
CUPTI: gaps between kernels, and waiting for the host. (A persistent kernel of cuDNN counts as a product.)"""
COLUMNS = ["", "(T, B, I, H)", "by", "ms", "launches", "per step", "products", "elementwise", "copies", "idle"]


def main(options: Options) -> None:
    if not installed("torch"):
        raise Skipped("PyTorch, whose profiler is used, is not installed")
    FLOAT32.choose(options)
    print(f"{EXPLANATION}\n\n{row(COLUMNS)}\n{row(['---'] * len(COLUMNS))}", flush=True)
    failures, longest = Failures(), []
    for kind in ("GRU", "LSTM", "two-speed"):
        for size in options.choose(SIZES, SIZES[1::2], TOYS[:1]):
            case = Case(kind, size)
            for name, make, device in (("us", ours, options.backend), ("PyTorch", pytorch, options.torch_device)):
                with failures.collect(f"{kind} {size} by {name}"):
                    line, kernels = measure(case, name, make(case, device=device), options)
                    print(line, flush=True)
                    if name == "us":
                        longest.append(f"- {kind} {size}: {described(kernels)}")
    print("\nOur longest kernels:\n")
    print("\n".join(longest), flush=True)
    failures.raise_if_any()


def measure(case: Case, name: str, run: Callable[[], object], options: Options) -> tuple[str, list[tuple[str, float]]]:
    """A row, and the kernels of the pass with their durations in seconds."""
    run()
    total = statistics.median(interleaved({"": run}, 3, clock=clock_for(options))[""])
    kernels = kernels_of(run, options)
    if not kernels and not options.rehearsal:
        raise RuntimeError("the profiler recorded no kernels")
    spent = Counter[str]()
    for kernel, seconds in kernels:
        spent[next((kind for kind, names in KINDS.items() if names.search(kernel)), "elementwise")] += seconds
    shares = [f"{1e3 * spent[kind]:.2f}" for kind in ("products", "elementwise", "copies")]
    idle = f"{1e3 * max(0.0, total - sum(spent.values())):.2f}"
    launches = [str(len(kernels)), f"{len(kernels) / case.size[0]:.1f}"]
    return row([case.kind, str(case.size), name, f"{1e3 * total:.2f}", *launches, *shares, idle]), kernels


def kernels_of(run: Callable[[], object], options: Options) -> list[tuple[str, float]]:
    """The names and durations of all kernels that run on the device during a call."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    activity, device = (
        (ProfilerActivity.CPU, DeviceType.CPU) if options.rehearsal else (ProfilerActivity.CUDA, DeviceType.CUDA)
    )
    backend = resolve(options.backend)
    with profile(activities=[activity]) as profiler:
        run()
        backend.synchronize()
    return [
        (event.name, 1e-6 * event.time_range.elapsed_us()) for event in profiler.events() if event.device_type == device
    ]


def described(kernels: list[tuple[str, float]]) -> str:
    counts, spent = Counter(name for name, _ in kernels), Counter[str]()
    for name, seconds in kernels:
        spent[name] += seconds
    each = ((name, counts[name], seconds / counts[name]) for name, seconds in spent.most_common(LONGEST))
    return "; ".join(f"`{name[:60]}` {count} × {1e6 * seconds:.1f} µs" for name, count, seconds in each)
