"""Exercises against other libraries, PyTorch and Node.js, and against the compiler."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from tinygrad_gru import nn
from tinygrad_gru.learn import EXERCISES, grade


def reference(number):
    return EXERCISES[number - 1].reference


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_an_lstm_step_is_that_of_torch(torch):
    x, h, c, W, U, b = (np.random.default_rng(0).normal(size=s) for s in ((2, 3), (2, 4), (2, 4), (3, 16), (4, 16), 16))
    cell = torch.nn.LSTMCell(3, 4, dtype=torch.float64)
    state = {"weight_ih": W.T, "weight_hh": U.T, "bias_ih": b, "bias_hh": 0 * b}
    cell.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    expected = cell(torch.tensor(x), (torch.tensor(h), torch.tensor(c)))
    for ours, theirs in zip(reference(24)(x, h, c, W, U, b), expected):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12)


def test_converted_weights_compute_what_torch_computes(torch):
    theirs = torch.nn.GRUCell(3, 4, dtype=torch.float64)
    ours = nn.GRUCell(3, 4, reset_after=True, dtype="float64")
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ours.load_state_dict(reference(40)(*(getattr(theirs, name).detach().numpy() for name in names)))
    x, h = np.random.default_rng(0).normal(size=(2, 3)), np.random.default_rng(1).normal(size=(2, 4))
    expected = theirs(torch.tensor(x), torch.tensor(h)).detach().numpy()
    np.testing.assert_allclose(ours(x, h).numpy(), expected, rtol=1e-12)


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_fused_expressions_are_javascript():
    """The grader evaluates them in Python."""
    exercise = EXERCISES[34]
    programs = [program for (program,), _ in exercise.checks]
    lines = ["const x = [0.5, -1.5, 2.0], y = [1.25, 0.75, -0.25], i = 1;"]
    lines += [f"console.log({reference(35)(program)});" for program in programs]
    out = subprocess.run(
        ["node", "-e", "\n".join(lines)], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    expected = [values[1] for _, values in exercise.checks]
    np.testing.assert_allclose([json.loads(line) for line in out.splitlines()], expected, rtol=1e-12)


def test_a_cell_that_cannot_be_compiled_is_not_passed():
    class Branches(reference(21)):
        def step(self, h, x):
            return super().step(h, x) if float(h.max()) < 100 else h

    verdict = grade(EXERCISES[20], Branches)
    assert not verdict.passed and "NotCompiledError" in str(verdict) and "ops.where" in str(verdict)
