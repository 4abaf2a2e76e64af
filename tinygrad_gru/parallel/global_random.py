"""The random numbers that all of a process shares: those of Python, NumPy and PyTorch, not ours."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


def random_states() -> dict[str, Any]:
    """Their states by name, which `==` compares; PyTorch's default generator if it is imported."""
    name, keys, *rest = np.random.get_state(legacy=True)
    states = {"Python's random": random.getstate(), "numpy.random": (name, np.asarray(keys).tobytes(), *rest)}
    torch: Any = sys.modules.get("torch")
    return states if torch is None else {**states, "torch": torch.get_rng_state().numpy().tobytes()}


@contextmanager
def random_states_kept() -> Iterator[None]:
    """A block after which they are as before it."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    torch: Any = sys.modules.get("torch")
    of_torch = None if torch is None else torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        if torch is not None:
            torch.set_rng_state(of_torch)
