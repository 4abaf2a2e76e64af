"""Published comparisons of recurrent cells, each run again by one command: `tinygrad-gru reproduce NAME`."""

from .datafile import DataFile
from .picture import draw
from .report import claim, report, shown, table, write_report
from .running import Outcome, quality, run_study
from .statistics import Interval, interval, paired_difference
from .studies import STUDIES
from .study import Result, Run, Study, Task
from .timing import StepTime, step_times

__all__ = [
    "STUDIES", "DataFile", "Interval", "Outcome", "Result", "Run", "StepTime", "Study", "Task", "claim", "draw",
    "interval", "paired_difference", "quality", "report", "run_study", "shown", "step_times", "table", "write_report",
]  # fmt: skip
