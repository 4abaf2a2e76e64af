"""Checks of gradients and ops: gradcheck, the op contract, op specs and mutation testing, for your tests too."""

from __future__ import annotations

from ..debug import Agreement, DivergenceError, lockstep
from .contract import ContractError, check_op
from .dependencies import check_names, ops_called, with_causes
from .finite_differences import GradientError
from .gradcheck import gradcheck, gradgradcheck
from .mutation import Mutant, MutationScore, mutants, mutation_scores
from .op_specs import OP_SPECS, Case, check_all, check_case
from .report import Report

__all__ = [
    "Agreement", "Case", "ContractError", "DivergenceError", "GradientError", "Mutant", "MutationScore", "Report",
    "OP_SPECS", "check_all", "check_case", "check_names", "check_op", "gradcheck", "gradgradcheck", "lockstep",
    "mutants", "mutation_scores", "ops_called", "with_causes",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name == "SHEET":  # an ImportError, for `from … import SHEET` would hide the text of an AttributeError
        raise ImportError("tinygrad_gru.testing.SHEET is now tinygrad_gru.testing.OP_SPECS")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
