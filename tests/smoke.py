"""Smoke test of an installed package: what a user does first, with NumPy alone or llvmlite, away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.metadata import distributions, version
from pathlib import Path

import numpy as np

import tinygrad_gru
from tinygrad_gru import Tensor, explain, nn, ops, optim
from tinygrad_gru.interop import javascript
from tinygrad_gru.interop import torch as weights


def main() -> None:
    home = Path(tinygrad_gru.__file__).parent
    assert Path(sys.prefix) in home.parents, f"imported from {home}, not from the environment {sys.prefix}"
    assert (home / "py.typed").exists()
    installed = {found.metadata["Name"].lower() for found in distributions()}
    assert installed <= {"llvmlite", "numpy", "pip", "setuptools", "tinygrad_gru", "tinygrad-gru"}, installed
    target = explain(lambda h, x: h + x, Tensor(0.0), Tensor([1.0])).partition(":")[0]
    assert target == ("Target llvm" if "llvmlite" in installed else "Target numpy"), target

    model, head = nn.GRU(1, 8), nn.Linear(8, 1)
    adam = optim.Adam([*model.parameters(), *head.parameters()], lr=0.02)
    x = Tensor(np.random.default_rng(0).random((6, 32, 1), dtype="float32"))
    losses = []
    for _ in range(60):
        output, _ = model(x)
        loss = ops.mse(head(output[-1]), x.mean(axis=0))
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 5, losses

    os.chdir(tempfile.mkdtemp())
    weights.save(head, "head.safetensors")
    text_model = nn.Sequential(nn.Embedding(3, 2), nn.GRU(2, 4), nn.Linear(4, 3))
    assert "textModel" in javascript.source(text_model, "abc")  # its .js files are in the package
    command = str(Path(sys.executable).with_name("tinygrad-gru"))
    shown = subprocess.run([command, "info"], check=True, capture_output=True, text=True).stdout
    assert version("tinygrad_gru") in shown, shown
    run = ["train", "--text", __file__, "--hidden", "8", "--batch", "2", "--window", "8", "--characters", "2000"]
    subprocess.run([command, *run, "--out", "run", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([command, "generate", "run", "--length", "20"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([command, "explore", "run", "-o", "page.html"], check=True, stdout=subprocess.DEVNULL)
    assert "tinygradModel" in Path("page.html").read_text(encoding="utf-8")
    print(f"tinygrad_gru {version('tinygrad_gru')} works in {sys.prefix}")


if __name__ == "__main__":
    main()
