"""Settings of the studies of `reproduce`, tried on validation data: what the protocols have chosen from.

    python -m benchmarks.study_settings shakespeare --data PATH --out tried.jsonl

Each cell of a study has the same number of tries, with a seed that is not among those of its report. The test data are
not looked at. A try that is in the file already is not made again. Prints a line of JSON for each: study, task, cell,
the changed settings, and the metric on validation data at the end of the run (chung2014: the best of the run).
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path

from tinygrad_gru import manual_seed
from tinygrad_gru.reproduce import STUDIES, Run
from tinygrad_gru.train import TrainingError

SEED = 10
CELLS = ("rnn", "gru", "lstm")
_RATES = (0.0025, 0.005, 0.01, 0.02)
#: By study the task, and of each cell the settings that are tried.
GRIDS = {
    "shakespeare": (
        "text",
        {
            **{cell: [{"lr": rate} for rate in _RATES] for cell in ("rnn", "gru")},
            "lstm": [{"lr": rate} for rate in (*_RATES, 0.04)],  # whose best is the last one of the others
        },
    ),
    "copy-memory": ("100", {cell: [{"lr": rate} for rate in _RATES] for cell in CELLS}),
    "adding": ("200", {cell: [{"lr": rate} for rate in _RATES] for cell in CELLS}),
    "chung2014": (
        "nottingham",
        {
            "rnn": [{"epochs": 100, "lr": rate} for rate in (0.005, 0.002, 0.001)],
            **{cell: [{"epochs": 100, "lr": rate} for rate in (0.01, 0.02, 0.005)] for cell in ("gru", "lstm")},
        },
    ),
}


def main() -> None:
    """Make the tries of a study that are not in the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", choices=GRIDS)
    parser.add_argument("--data", type=Path, help="the data file or its folder")
    parser.add_argument("--out", type=Path, required=True, help="the file of the tries, to which lines are added")
    parser.add_argument("--cells", nargs="+", default=CELLS)
    options = parser.parse_args()
    study = STUDIES[options.study]
    task, grid = GRIDS[options.study]
    file = study.tasks[task].file
    data = study.load(task, None if file is None else file.find(options.data), study.settings)
    known = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    made = [(one["task"], one["cell"], one["changed"]) for one in known]
    for number in range(max(map(len, grid.values()))):
        for cell in options.cells:
            changed = grid[cell][number : number + 1]
            if not changed or (task, cell, changed[0]) in made:
                continue
            folder = options.out.with_suffix("") / f"{task}-{cell}-{number}"
            os.makedirs(folder, exist_ok=True)
            began = time.process_time()
            manual_seed(SEED)
            run = Run(task, cell, SEED, data, {**study.settings, **changed[0]}, folder=folder)
            try:
                result = study.run(run)
                value = result.more.get("valid", result.curve[-1][1])
                more = {name: result.more[name] for name in ("epochs",) if name in result.more}
            except TrainingError:
                value, more = None, {}
            record = {"task": task, "cell": cell, "changed": changed[0], "valid": value, **more}
            record["seconds"] = round(time.process_time() - began, 1)
            line = json.dumps(record)
            print(line, flush=True)
            with open(options.out, "a") as lines:
                lines.write(line + "\n")
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
