"""A pytest plugin that rehearses the GPU tests without a GPU: a stand-in replaces CuPy in the run, so that all tests
with a backend fixture run on it, too. `PYTHONPATH=tests python -m pytest -p support.rehearsal`
"""

from __future__ import annotations

import sys

import pytest
from support import stand_in_cupy
from support.stand_in_cuda import add_cuda

stand_in_cupy.machine = stand_in_cupy.Machine(devices=1, memory=2**36)
sys.modules["cupy"] = cupy = stand_in_cupy.make_cupy()
cupy.machine = stand_in_cupy.machine
add_cuda(cupy, pytest.MonkeyPatch())
