"""LLVM target: loops over the steps as native functions.

target    the target: passes, plan, emitters, and the loop over the steps
operands  the operands of the loop, put together from weights
"""

from __future__ import annotations

from .target import LLVMTarget

__all__ = ["LLVMTarget"]
