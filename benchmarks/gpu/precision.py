"""Precisions of the measurements (float32, TF32, 16 bits), set alike for us and for PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from tinygrad_gru.backend import as_dtype, resolve, tf32

from ..timing import installed
from .options import Options


@dataclass(frozen=True)
class Precision:
    """A precision; `allowed` is the largest relative error (by norm) between gradients of two implementations."""

    title: str
    dtype: str
    tf32: bool
    allowed: float

    def choose_ours(self, options: Options) -> None:
        """Enable or disable TF32 for our float32 products."""
        if not options.rehearsal:
            tf32(self.tf32, options.backend)

    def choose(self, options: Options) -> None:
        """Enable or disable TF32 for us and for PyTorch."""
        self.choose_ours(options)
        if installed("torch"):
            import torch

            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32


FLOAT32 = Precision("float32", "float32", False, 1e-3)
TF32 = Precision("float32 with TF32 products", "float32", True, 5e-2)


def precisions(options: Options) -> list[Precision]:
    dtype = half_of(options)
    return [FLOAT32, TF32, Precision(dtype, dtype, False, 0.3)]


def half_of(options: Options) -> str:
    """bfloat16 where our backend has it, else float16."""
    try:
        as_dtype(resolve(options.backend).zeros((1,), "float32"), "bfloat16")
    except TypeError:
        return "float16"
    return "bfloat16"
