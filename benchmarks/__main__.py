"""Run every benchmark; peers that are not installed are left out."""

from __future__ import annotations

from . import import_time, linearity, overhead

for benchmark in (import_time, overhead, linearity):
    benchmark.main()
