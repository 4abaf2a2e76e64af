"""Fuzz target: logs of runs; reading and continuing any log raises nothing."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from tinygrad_gru.show.curves import _curve
from tinygrad_gru.show.figures import smooth
from tinygrad_gru.train.folder import JsonLines, read_log

from .target import Target


class Never(Exception):
    """An error that is never raised: the reader documents none."""


def target() -> Target:
    records = [{"step": step, "characters": 16 * step, "loss": 2.5 / (1 + step), "lr": 1e-3} for step in range(12)]
    records += [{"step": 12, "characters": 192, "held_out": 1.5}, {"step": 13, "loss": None, "characters": 0}]
    seed = "".join(json.dumps(record) + "\n" for record in records).encode()
    return Target(".jsonl", _read, Never, [seed, b""], structured={"records": _records})


def _read(path: Path) -> None:
    records = read_log(path)
    for name in ("loss", "held_out"):
        smooth(_curve(records, name)[1])
    with JsonLines(path, keep_until=6) as log:
        log.write({"step": 7, "characters": 112, "loss": 1.0})
    again = read_log(path)
    assert again[-1]["step"] == 7 and log.records == len(again)
    assert repr(again[:-1]) == repr([record for record in records if record["step"] <= 6])


def _records(random: Random) -> bytes:
    odd = (
        "null",
        "true",
        "-1",
        "1e999",
        "NaN",
        "9" * 400,
        "9" * 5000,
        '"x"',
        "[]",
        '{"a": 1}',
        "0.5",
        "\\",
        "\udcff",
        "[" * 2000,
    )
    lines = []
    for step in range(random.randrange(12)):
        values = {"step": str(step), "characters": str(16 * step), "loss": "1.5"}
        for name in list(values):
            if random.random() < 0.2:
                values[name] = random.choice(odd)
            if random.random() < 0.1:
                del values[name]
        lines.append("{" + ", ".join(f'"{name}": {value}' for name, value in values.items()) + "}")
        if random.random() < 0.1:
            lines.append(random.choice(odd))
    return random.choice(("\n", "\n", "\r\n", "\0", "\n\n")).join(lines).encode("utf-8", "surrogateescape") + b"\n"
