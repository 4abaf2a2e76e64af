"""Run every benchmark except main_job and kills, which take long; peers that are not installed are skipped."""

from __future__ import annotations

from . import (
    first_pass,
    import_time,
    javascript,
    lengths,
    linearity,
    overhead,
    recurrence,
    recurrence_memory,
    training_step,
)

for benchmark in (
    import_time,
    first_pass,
    overhead,
    linearity,
    lengths,
    recurrence,
    recurrence_memory,
    training_step,
    javascript,
):
    benchmark.main()
