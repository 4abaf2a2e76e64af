"""A summary on one page, then every benchmark except those that take long (main_job, kills, torch_compiled).

`--summary` prints the summary alone. Peers that are not installed are skipped.
"""

from __future__ import annotations

import sys

from . import (
    first_pass,
    import_time,
    javascript,
    lengths,
    linear_scan,
    linearity,
    overhead,
    recurrence,
    recurrence_memory,
    seq2seq,
    summary,
    training_step,
    word_model,
)

summary.main()
if "--summary" not in sys.argv:
    print("Now at length, which takes tens of minutes; `python -m benchmarks --summary` ends here.\n")
    for benchmark in (import_time, first_pass, overhead, linearity, lengths, recurrence, recurrence_memory):
        benchmark.main()
    for benchmark in (training_step, word_model, seq2seq, linear_scan, javascript):
        benchmark.main()
