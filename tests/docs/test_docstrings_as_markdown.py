"""Docstrings on the site: their words, equations, tables and examples are those of the docstring."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import tinygrad_gru as tg
from tinygrad_gru import nn, ops

sys.path.append(str(Path(__file__).parents[2] / "docs" / "_ext"))
import docstrings


def test_words_are_escaped_and_code_is_not():
    assert docstrings.prose("a*b, |g| < `x_1 * y`, W_r") == r"a\*b, \|g\| \< `x_1 * y`, W\_r"


def test_equations_stay_as_they_are_aligned():
    text = docstrings.markdown(nn.GRUCell.__doc__)
    assert "```text\nr  = σ(x W_r + h U_r + b_r)                 reset gate\nz  = " in text


def test_names_with_what_they_are_become_a_table():
    text = docstrings.markdown(
        "Words.\n\n    low, high  the bounds, which\n               may be None\n    **more     settings\n"
    )
    assert "| `low`, `high` | the bounds, which may be None |\n| `**more` | settings |" in text
    assert "| `html` | the whole page |" in docstrings.markdown("A page.\n\nhtml  the whole page\n")
    assert "|" not in docstrings.markdown("One sentence.  And another.")


def test_an_example_has_the_output_that_it_has_now():
    docstring = "Sum.\n\n>>> ops.sum(Tensor([1.0, 2.0]))\nTensor(...)\n>>> for i in range(2):\n...     print(i)\n0\n1\n"
    text = docstrings.markdown(docstring, docstrings.ran)
    example = (
        ">>> ops.sum(Tensor([1.0, 2.0]))\nTensor(3., dtype=float32)\n>>> for i in range(2):\n...     print(i)\n0\n1"
    )
    assert f"```pycon\n{example}\n```" in text


def test_an_example_that_is_not_run_keeps_no_output():
    assert docstrings.ran('>>> open("nothing")  # doctest: +SKIP\n5\n') == '>>> open("nothing")  # doctest: +SKIP'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ops.tanh, "(x)"),
        (ops.sum, "(x, axis=None, keepdims=False)"),
        (tg.scan, "(step, carry, xs=None"),
        (nn.Linear, "(in_features, out_features, bias=True, dtype='float32', device=None)"),
    ],
)
def test_signatures_have_no_types(value, expected):
    assert docstrings.signature(value).startswith(expected)


def test_the_first_sentence():
    assert (
        docstrings.sentence("Optimizers, and\n  their schedules: x.y. And more.\n\nRest.")
        == "Optimizers, and their schedules: x.y."
    )
