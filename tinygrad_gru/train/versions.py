"""What a result was computed with."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from ..version import __version__


def versions(namespace: Any = np) -> dict[str, str]:
    """Versions of this package, of Python, of NumPy, and of the array library with this namespace."""
    return {
        "tinygrad_gru": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        namespace.__name__: namespace.__version__,
    }
