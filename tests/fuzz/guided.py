"""`python -m tests.fuzz.guided --format pt --count 20000`: inputs that libFuzzer chooses by what code they reach.

It starts from the seeds, and mutates files and, where a target says how to wrap it, what is inside of them. It needs
the package atheris. The bounds are those of `python -m tests.fuzz`; the first failure ends the run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tinygrad_gru"]):
    from .run import bound_memory, read_one
    from .target import FORMATS, load_target


def main() -> None:
    parser = argparse.ArgumentParser("tests.fuzz.guided", description=__doc__)
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None, help="folder for an input that fails")
    options = parser.parse_args()
    with atheris.instrument_imports(include=["tinygrad_gru"]):
        target = load_target(options.format)
    wraps = [*((part.seeds, part.wrap) for part in target.parts), (target.seeds, bytes)]
    folder = Path(tempfile.mkdtemp())
    corpus, path = folder / "corpus", folder / f"input{target.suffix}"
    corpus.mkdir()
    for which, (seeds, wrap) in enumerate(wraps):
        for number, seed in enumerate(seeds):
            (corpus / f"{which}-{number}").write_bytes(bytes([which]) + seed)
            path.write_bytes(wrap(seed))
            read_one(target, path)  # what is imported late is imported now
    outcomes: Counter[str] = Counter()

    def read(data: bytes) -> None:
        """Read an input: its first byte selects the wrapper of the rest."""
        if not data:
            return
        path.write_bytes(wraps[data[0] % len(wraps)][1](data[1:]))
        outcome, detail = read_one(target, path)
        outcomes[outcome] += 1
        if outcome == "failure":
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, options.keep / f"{options.format}-guided{target.suffix}")
            raise RuntimeError(detail)
        if sum(outcomes.values()) == options.count:
            print(
                f"{options.format}: {options.count:,} inputs chosen by coverage, {dict(outcomes)}, 0 failures",
                flush=True,
            )
            shutil.rmtree(folder)
            os._exit(0)  # libFuzzer does not return

    bound_memory()
    atheris.Setup([sys.argv[0], f"-seed={options.seed + 1}", "-rss_limit_mb=0", "-timeout=60", str(corpus)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
