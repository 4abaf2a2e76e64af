"""docs/coming_from.md: every line of ours runs, and theirs where the library is installed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import tinygrad_gru as tg
from tinygrad_gru import Tensor, data, grad, nn, no_grad, ops, optim, scan, train

PAGE = (Path(__file__).parents[1] / "docs" / "coming_from.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## From (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))


def rows(section):
    """(their line, our line) of a table; an empty one where there is only a text."""
    for line in SECTIONS[section].splitlines():
        if line.startswith("| `"):
            theirs, ours = line.strip("| ").split(" | ")
            yield tuple(cell[1:-1] if cell[0] == cell[-1] == "`" else "" for cell in (theirs, ours))


def ours_for():
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    return {
        "np": np, "tg": tg, "Tensor": Tensor, "data": data, "grad": grad, "nn": nn, "no_grad": no_grad, "ops": ops,
        "optim": optim, "scan": scan, "train": train, "model": model, "optimizer": optim.Adam(model.parameters()),
        "x": Tensor(np.linspace(-1, 1, 12).reshape(4, 3), dtype="float32"), "h": Tensor(np.zeros((1, 4, 8), "float32")),
        "labels": np.array([0, 1, 1, 0]), "logits": Tensor(np.ones((4, 2), "float32")), "lengths": [20, 3, 7, 1],
        "series": Tensor(np.ones((20, 4, 3), "float32")), "inputs": np.ones((4, 3)), "targets": np.ones((4, 2)),
        "w": tg.tensor([1.0, 1.0, 1.0], requires_grad=True),
    }  # fmt: skip


def in_order(lines, names):
    """Run the lines one after another."""
    for line in lines:
        exec(compile(ast.parse(line), line, "exec"), names)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_line_of_ours_runs(section, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = [ours for _, ours in rows(section) if ours]
    assert 15 <= len(lines) <= 30
    in_order(lines, ours_for())


def test_no_line_is_without_code():
    assert set(SECTIONS) == {"PyTorch", "Keras", "NumPy", "JAX"}
    texts = [(theirs, line) for section in SECTIONS for theirs, line in rows(section) if not line]
    assert len(texts) <= 3, "a text instead of a line"


# -- theirs ------------------------------------------------------------------------------------------------------------


def value_of(line, names):
    """The value of a line that is an expression; a statement is run, and has none."""
    try:
        return eval(compile(line, line, "eval"), names)
    except SyntaxError:
        return in_order([line], names)


def test_the_lines_for_numpy_give_the_same():
    """Both tables in one order, on equal arrays: 20 values or more are compared."""
    a, compared = np.linspace(-1, 1, 12).reshape(4, 3), 0
    theirs, ours = {"np": np, "a": a}, {**ours_for(), "x": Tensor(a, dtype="float64")}
    for their_line, our_line in rows("NumPy"):
        expected, found = value_of(their_line, theirs), value_of(our_line, ours)
        if "random" not in their_line and "1e-6" not in their_line and expected is not None:
            pairs = zip(expected, found, strict=True) if isinstance(expected, tuple) else [(expected, found)]
            for e, f in pairs:
                np.testing.assert_allclose(np.asarray(f), e, rtol=1e-6, err_msg=our_line)
                compared += 1
    np.testing.assert_array_equal(ours["x"].numpy(), theirs["a"])
    assert compared > 20


def test_every_line_of_pytorch_runs(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    names = {
        "np": np, "torch": torch, "x": torch.linspace(-1, 1, 12).reshape(4, 3), "labels": torch.tensor([0, 1, 1, 0]),
        "logits": torch.ones(4, 2), "series": torch.ones(20, 4, 3), "lengths": torch.tensor([20, 3, 7, 1]),
        "w": torch.ones(3, requires_grad=True),
    }  # fmt: skip
    in_order(["import torch.utils.checkpoint", *(theirs for theirs, _ in rows("PyTorch"))], names)


def test_every_line_of_jax_runs(capsys):
    jax = pytest.importorskip("jax")
    in_order([theirs for theirs, _ in rows("JAX")], {"jax": jax, "jnp": pytest.importorskip("jax.numpy")})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_line_of_keras_runs(tmp_path, monkeypatch, capsys):
    keras = pytest.importorskip("keras")
    monkeypatch.chdir(tmp_path)
    names = {
        "keras": keras, "inputs": np.ones((4, 3), "float32"), "targets": np.ones((4, 2), "float32"),
        "labels": np.array([0, 1, 1, 0]), "logits": np.ones((4, 2), "float32"),
    }  # fmt: skip
    in_order([theirs for theirs, _ in rows("Keras")], names)
