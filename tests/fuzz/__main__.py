"""`python -m tests.fuzz --format pt --count 20000`: a run in a subprocess with bounded memory.

Inputs are read with 1 GiB of address space above what the process has at its start and 2 s of CPU time each. A
process that crashes or hangs is a failure, after which another one continues with the next input. Inputs that fail
are kept in the folder `--keep`. `python -m tests.fuzz.guided` lets libFuzzer choose the inputs instead.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from .run import bound_memory, read_one, run
from .target import FORMATS, load_target

_HEARTBEAT_TIMEOUT = 60.0  # seconds without a heartbeat, on a machine that may be busy
_BATCH = 200


def main() -> int:
    parser = argparse.ArgumentParser("tests.fuzz", description=__doc__)
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--keep", type=Path, default=None, help="folder for inputs that fail")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    return _child(options) if options.child else _parent(options)


def _child(options: argparse.Namespace) -> int:
    target = load_target(options.format)
    warnings.simplefilter("error")
    for number, seed in enumerate(target.seeds):  # what is imported late is imported now; and seeds are valid
        (options.child / f"input{target.suffix}").write_bytes(seed)
        outcome, detail = read_one(target, options.child / f"input{target.suffix}")
        assert outcome == "accepted", f"seed {number}: {outcome} {detail}"
    bound_memory()
    heartbeat = options.child / "heartbeat"

    def before(number: int, kind: str, path: Path) -> None:
        heartbeat.write_text(f"{number} {kind}")

    for first in range(options.first, options.first + options.count, _BATCH):
        count = min(_BATCH, options.first + options.count - first)
        report = run(target, options.child, count, options.seed, first, before)
        counts = [[kind, outcome, n] for (kind, outcome), n in report.counts.items()]
        batch = {"next": first + count, "counts": counts, "failures": report.failures, "slowest": report.slowest}
        print(json.dumps(batch | {"unexpected": report.unexpected}), flush=True)
    return 0


def _parent(options: argparse.Namespace) -> int:
    counts: Counter[tuple[str, str]] = Counter()
    unexpected: Counter[str] = Counter()
    failures: list[tuple[int, str, str]] = []
    slowest, number, end = 0.0, options.first, options.first + options.count
    began = time.monotonic()
    target = load_target(options.format)
    while number < end:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            lines, died = _supervise(options, folder, number, end - number)
            for line in lines:
                batch = json.loads(line)
                counts.update({(kind, outcome): n for kind, outcome, n in batch["counts"]})
                unexpected.update(batch["unexpected"])
                failures += [tuple(failure) for failure in batch["failures"]]
                slowest, number = max(slowest, batch["slowest"]), batch["next"]
            if died:  # of its last batch only the input that killed it is counted
                heartbeat = (
                    (folder / "heartbeat").read_text().split()
                    if (folder / "heartbeat").exists()
                    else [str(number), "?"]
                )
                failures.append((int(heartbeat[0]), heartbeat[1], died))
                counts[heartbeat[1], "failure"] += 1
                number = int(heartbeat[0]) + 1
    if options.keep and failures:
        options.keep.mkdir(parents=True, exist_ok=True)
        for number, _, _ in failures[:100]:
            content = next(target.inputs(options.seed, number))[2]
            (options.keep / f"{options.format}-{options.seed}-{number}{target.suffix}").write_bytes(content)
    print(f"{options.format}: inputs {options.first} to {end - 1} of seed {options.seed}, {platform.machine()}, Python "
          f"{platform.python_version()}, {time.monotonic() - began:.0f} s, slowest input {slowest:.2f} s")  # fmt: skip
    outcomes = ("accepted", "refused", "unexpected", "failure")
    print(f"{'kind':16}" + "".join(f"{outcome:>12}" for outcome in outcomes))
    for kind in sorted({kind for kind, _ in counts}):
        print(f"{kind:16}" + "".join(f"{counts[kind, outcome]:12,}" for outcome in outcomes))
    for detail, n in unexpected.most_common(20):
        print(f"  unexpected {n:6,} × {detail}")
    for number, kind, detail in failures[:40]:
        print(f"  FAILURE {number} ({kind}): {detail}")
    print(f"{len(failures)} failures in {options.count:,} inputs")
    return 1 if failures else 0


def _supervise(options: argparse.Namespace, folder: Path, first: int, count: int) -> tuple[list[str], str]:
    """Run a subprocess; returns the lines that it wrote, and how it died, if it did."""
    command = [sys.executable, "-m", "tests.fuzz", "--format", options.format, "--seed", str(options.seed)]
    command += ["--first", str(first), "--count", str(count), "--child", str(folder)]
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        heartbeat, last, at = folder / "heartbeat", "", time.monotonic()
        hung = False
        while process.poll() is None:
            time.sleep(0.2)
            now = heartbeat.read_text() if heartbeat.exists() else ""
            if now != last:
                last, at = now, time.monotonic()
            elif time.monotonic() - at > _HEARTBEAT_TIMEOUT:
                process.kill()
                hung = True
    lines = (folder / "out").read_text().splitlines()
    if process.returncode == 0:
        return lines, ""
    if not last:
        sys.exit(f"the process did not start:\n{(folder / 'err').read_text()}")
    tail = (folder / "err").read_text().strip().splitlines()[-1:]
    return lines, f"hung for {_HEARTBEAT_TIMEOUT:g} s" if hung else f"died with status {process.returncode}: {tail}"


if __name__ == "__main__":
    sys.exit(main())
