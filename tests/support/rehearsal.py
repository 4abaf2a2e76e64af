"""A rehearsal, without a GPU, of the tests on one: a stand-in is CuPy for the whole run, on which all tests that take a
backend run too. `PYTHONPATH=tests python -m pytest -p support.rehearsal`
"""

from __future__ import annotations

import sys

from support import stand_in_cupy

stand_in_cupy.machine = stand_in_cupy.Machine(devices=1, memory=2**36)
sys.modules["cupy"] = stand_in_cupy.make_cupy()
