"""The main job's results: held-out loss of each cell beside n-gram baselines, by `tinygrad-gru train`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from .timing import report

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.main_job"
RUNS = {
    "GRU, hidden 192": ["--cell", "gru"],
    "GRU, hidden 192, another seed": ["--cell", "gru", "--seed", "1"],
    "LSTM, hidden 192": ["--cell", "lstm"],
    "tanh-RNN, hidden 192": ["--cell", "rnn"],
    "GRU, hidden 256": ["--cell", "gru", "--hidden", "256", "--characters", "4300000"],
}


def run(arguments: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tinygrad_gru", "train", "--quiet", "--out", folder, *arguments]
        subprocess.run(command, check=True, capture_output=True)
        return json.loads((Path(folder) / "summary.json").read_text())


def row(name: str, summary: dict) -> str:
    cells = [
        name,
        f"{summary['parameters']:,}",
        f"{summary['characters_seen']:,}",
        f"{summary['characters_per_second']:,.0f}",
        f"{summary['held_out']:.3f}",
        f"{summary['held_out_without_leading_spaces']:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    lines = [
        "| | parameters | characters seen | characters/s | held-out, nats/char | without leading spaces |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    summary: dict = {}
    for name, arguments in RUNS.items():
        summary = run(arguments)
        lines.append(row(name, summary))
        print(lines[-1], flush=True)
    corpus = summary["corpus"]
    lines += [
        "",
        f"n-gram baselines: unigram {summary['unigram']:.3f}, bigram {summary['bigram']:.3f} nats/char.",
        f"Corpus: {corpus['files']} files, {corpus['held_out_characters']:,} characters held out, "
        f"sha256 {corpus['sha256']}.",
    ]
    report("main_job", "The main job: a character model of the standard library's source", COMMAND, lines)


if __name__ == "__main__":
    main()
