"""The explorer's page of a small model, which the first build trains; `tinygrad-gru explore` writes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from repository import ROOT

RUN = ROOT / "build" / "small_gru"
TRAIN = "--quiet --hidden 96 --embedding 32 --characters 800000 --evaluations 2".split()


def _write(app: Any, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    page = Path(app.outdir, "explorer", "small_gru.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    if not (RUN / "summary.json").exists():  # which a run writes when it has ended
        shutil.rmtree(RUN, ignore_errors=True)
        _command("train", *TRAIN, "--out", str(RUN))
    _command("explore", str(RUN), "--out", str(page))


def _command(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "tinygrad_gru", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def setup(app: Any) -> dict[str, Any]:
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
