"""The README's programs run as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
PROGRAMS = [p for p in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S) if "import" in p]


@pytest.mark.parametrize("program", PROGRAMS, ids=[p.split("\n")[0] for p in PROGRAMS])
def test_a_program_of_the_readme_runs(program, capsys):
    exec(compile(program, str(README), "exec"), {"__name__": "readme"})
    assert "Traceback" not in capsys.readouterr().out


def test_the_readmes_gru_is_the_gru():
    source = (README.parent / "tinygrad_gru" / "nn" / "cells.py").read_text(encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    lines = re.findall(r"(?:r|z|h_tilde) = (?:sigmoid|tanh)\(x @ self\.W_[rzh].*?\)(?= +#)", text)
    assert len(lines) == 3
    assert all(line in source for line in lines)
    assert "return (1 - z) * h + z * h_tilde" in source
