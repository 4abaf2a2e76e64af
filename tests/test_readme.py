"""The programs of the README and the docs run unchanged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.markdown import blocks, run

from tinygrad_gru import Tensor, nn, ops

README = Path(__file__).parent.parent / "README.md"
PROGRAMS = {
    f"{page.name}, program {number}": (page, block)
    for page in (README, *sorted((README.parent / "docs").glob("*.md")))
    for number, block in enumerate(
        (block for block in blocks(page.read_text(encoding="utf-8")) if block.info == "python"), 1
    )
    if "import" in block.text
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_the_readme_and_the_docs_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page, block = PROGRAMS[name]
    run([block], page, {"__name__": "readme"})
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize("compiled", [False, True])
def test_the_readmes_gru_computes_what_the_gru_does_bit_for_bit(rng, compiled):
    (source,) = re.findall(r"```python\n(class GRUCell\(Cell\):\n.*?)```", README.read_text(encoding="utf-8"), re.S)
    names = {"Cell": nn.GRUCell, "sigmoid": ops.sigmoid, "tanh": ops.tanh}  # a subclass, for the parameters
    exec(compile(source, str(README), "exec"), names)
    ours = nn.GRU(3, 4, num_layers=2, compiled=compiled)
    readmes = nn.Recurrent.of(names["GRUCell"])(3, 4, num_layers=2, compiled=compiled)
    readmes.load_state_dict(ours.state_dict())
    x, results = rng.standard_normal((5, 2, 3)).astype("float32"), []
    for layer in (ours, readmes):
        output, state = layer(Tensor(x))
        (output * output).sum().backward()
        results.append([output.tolist(), state.tolist(), *(p.grad.tolist() for p in layer.parameters())])
    assert results[0] == results[1]


def test_the_readmes_gru_is_the_code_of_the_gru():
    source = (README.parent / "tinygrad_gru" / "nn" / "cells.py").read_text(encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    lines = re.findall(r"(?:r|z|h_tilde) = (?:sigmoid|tanh)\(x @ self\.W_[rzh].*?\)(?= +#)", text)
    assert len(lines) == 3
    assert all(line in source for line in lines)
    assert "return (1 - z) * h + z * h_tilde" in source
