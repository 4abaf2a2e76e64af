"""The products of a training pass alone: a lower bound of the time of a recurrence through cuBLAS."""

from __future__ import annotations

from collections.abc import Callable

from ..peers import Case
from .options import Options

#: The groups of gates whose products with h can be joined into one; the groups run one after the other at every step.
GROUPS = {"GRU": ("rz", "h"), "GRU, reset after": ("rzh",), "LSTM": ("ifgo",), "two-speed": ("zfom",)}


def products(case: Case, options: Options, dtype: str) -> Callable[[], object]:
    """All products of a forward and backward pass, on joined weights, without synchronization.

    Those of the inputs, and those of the weights' gradients, are computed for all steps at once. On a GPU they are
    PyTorch's calls of cuBLAS, captured in one CUDA graph.
    """
    import torch

    steps, batch, features, hidden = case.size
    widths = [sum(case.weights[f"U_{gate}"].shape[1] for gate in group) for group in GROUPS[case_name(case)]]
    factory = {"device": options.torch_device, "dtype": getattr(torch, dtype)}

    def matrix(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, **factory) / shape[-1] ** 0.5

    x, h, all_gates = matrix(steps * batch, features), matrix(steps, batch, hidden), sum(widths)
    W, Us = matrix(features, all_gates), [matrix(hidden, width) for width in widths]
    gates = matrix(steps * batch, all_gates)
    parts = [matrix(steps, batch, width) for width in widths]
    back, dx = torch.empty_like(h), torch.empty_like(x)
    dW, dUs = torch.empty_like(W), [torch.empty_like(U) for U in Us]

    def run() -> None:
        torch.mm(x, W, out=gates)
        for t in range(steps):
            for U, part in zip(Us, parts):
                torch.mm(h[t], U, out=part[t])
        for t in range(steps):
            for U, part in zip(Us, parts):
                torch.mm(part[t], U.t(), out=back[t])
        torch.mm(gates, W.t(), out=dx)
        torch.mm(x.t(), gates, out=dW)
        for part, dU in zip(parts, dUs):
            torch.mm(h.view(-1, hidden).t(), part.view(steps * batch, -1), out=dU)

    with torch.no_grad():
        run()  # cuBLAS allocates its workspace before the capture
        if options.rehearsal:
            return run
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
    return graph.replay


def case_name(case: Case) -> str:
    return f"{case.kind}, reset after" if case.reset_after else case.kind


def one_large_product(options: Options, dtype: str) -> tuple[Callable[[], object], int]:
    """A product that fills the device, and its floating-point operations."""
    import torch

    side = options.choose(8192, 8192, 256)
    a, b = torch.randn(2, side, side, device=options.torch_device, dtype=getattr(torch, dtype))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), 2 * side**3
