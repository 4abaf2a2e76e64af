"""A counter-example of many numbers: 0 or 1 stands for those that don't matter."""

from __future__ import annotations

import numpy as np

from tinygrad_gru.learn import exercise, grade, shrinking
from tinygrad_gru.learn.draws import arrays, numbers, positive


@exercise(
    1,
    "A sum",
    inputs=(arrays((2, 3)), arrays((2, 3), positive), numbers),
    example=(np.zeros((2, 3)), np.ones((2, 3)), 0.0),
    understood="A sum.",
    hints=["Add.", "Add all."],
)
def total(x, y, a):
    """Return Σ x + Σ y + a."""
    return x.sum() + y.sum() + a


def test_what_does_not_matter_is_0_where_0_is_drawn_and_else_1():
    x, y = np.full((2, 3), 1.75), np.full((2, 3), 0.5)
    found = shrinking.simplified(total, (x, y, 2.0), lambda inputs: inputs[0][1, 2] != 0)
    assert found[0].tolist() == [[0, 0, 0], [0, 0, 1]]
    assert found[1].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert found[2] == 2.0
    assert (x == 1.75).all() and (y == 0.5).all()


def test_the_counter_example_still_fails(monkeypatch):
    monkeypatch.setattr(shrinking, "SECONDS_TO_SIMPLIFY", 30)
    verdict = grade(total, lambda x, y, a: x.sum() - x[1, 2] + y.sum() + a)
    x, y, _ = verdict.inputs
    assert x[1, 2] == 1 and np.count_nonzero(x) == 1 and (y == 1).all()
    assert "expected" in str(verdict)
