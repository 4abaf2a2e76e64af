"""The text of `explain`."""

from __future__ import annotations

import re

import numpy as np

from tinygrad_gru import Tensor
from tinygrad_gru.nn import GRUCell, LSTMCell
from tinygrad_gru.scan import explain


def explained(cell):
    return explain(cell.step, cell.initial_state(2), Tensor(np.zeros((5, 2, 3), "float32")), compiled="numpy")


def test_a_gru_from_its_trace_to_the_program():
    text = explained(GRUCell(3, 4))
    for expected in (
        "The step, traced:",
        "# U_h",  # closed-over constants have their names
        "Forward: 14 array calls per step",
        "operations in the loop after reassociate",
        "before the loop (hoisted): 2 matmul, 2 add",
        "Residuals, stored at every step for backward:",
        "Backward, from the last step to the first: 10 array calls per step",
        "after the loop (sunk): 4 matmul, 1 sum",
        "computed into slices of one array:",
        "for first, (",
    ):
        assert expected in text


def test_passes_only_shorten_the_loop():
    for half in explained(LSTMCell(3, 4)).split("Backward, "):
        counts = [int(n) for n in re.findall(r"(\d+) operations in the loop", half)]
        assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]


def test_closed_over_tensors_are_named():
    decay = Tensor(np.full(2, 0.5))
    text = explain(lambda h, x: decay * h + x, Tensor(np.zeros(2)), Tensor(np.zeros((3, 2))))
    assert "# decay" in text


def test_why_a_step_cannot_be_compiled():
    def step(h, x):
        return h + x if (h.numpy() > 0).all() else h

    assert explain(step, Tensor(np.zeros(2)), Tensor(np.zeros((3, 2)))).startswith(
        "The step `test_why_a_step_cannot_be_compiled.step` ("
    )
