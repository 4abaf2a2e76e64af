"""What is shown in a notebook: escaped tables; tensors and tapes."""

import re
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, ops, tape
from tinygrad_gru.html import Markup, escape, figure, table, text


def cells(markup):
    """The rows of all tables in well-formed markup, as lists of texts."""
    tree = ElementTree.fromstring(f"<all>{markup}</all>")
    return [["".join(cell.itertext()) for cell in row] for row in tree.iter("tr")]


def test_a_table_is_well_formed_and_escaped():
    markup = table(
        "a < b", [("<script>alert('&')</script>", 1234567, 0.123456, None, True)], ("x & y", "n", "f"), "> c"
    )
    assert cells(markup) == [["x & y", "n", "f"], ["<script>alert('&')</script>", "1,234,567", "0.1235", "", "True"]]
    assert "<script>" not in markup and "a &lt; b" in markup and "&gt; c" in markup


def test_numbers_are_aligned_to_the_right():
    sides = re.findall("text-align:(left|right)", table("", [("a", 1, 2.0, np.float32(3), None, True)]))
    assert sides == ["left", "right", "right", "right", "left", "left"]


def test_markup_is_not_escaped_again():
    inner = table("", [("a&b",)])
    assert escape(inner) is inner
    assert inner in table("", [(inner,)])
    assert figure("1 < 2", Markup("<svg/>")).count("<svg/>") == 1 and "1 &lt; 2" in figure("1 < 2", Markup("<svg/>"))
    assert "&lt;b&gt;" in text("<b>")


def test_of_a_long_table_the_middle_is_left_out():
    rows = cells(table("", [(n, n) for n in range(1000)]))
    assert [row[0] for row in rows[:30]] == [str(n) for n in range(30)]
    assert rows[30] == ["… 940 more …"]
    assert [row[0] for row in rows[31:]] == [str(n) for n in range(970, 1000)]
    assert len(cells(table("", [(n,) for n in range(60)]))) == 60


def test_a_tensor_shows_its_properties_and_values(backend):
    x = Tensor([[1.0, 2.5]], requires_grad=True, device=backend)
    x.name = "a<b>"
    markup = x._repr_html_()
    assert cells(markup)[0] == ["name", "shape", "dtype", "device", "memory", "from"]
    row = cells(markup)[1]
    assert row[:4] == ["a<b>", "(1, 2)", str(x.dtype), backend.name] and row[5] == "a leaf, requires_grad"
    assert "[[1.  2.5]]" in unescape(markup)
    assert cells(ops.tanh(x)._repr_html_())[1][-1] == "tanh"
    assert cells(Tensor(3)._repr_html_())[1][0] == "()" and cells(Tensor(3)._repr_html_())[1][-1] == "a constant"


def test_a_large_tensor_is_abbreviated():
    x = Tensor(np.zeros((1000, 1000), "float32"))
    assert cells(x._repr_html_())[1] == ["(1000, 1000)", "float32", "numpy", "3.8 MiB", "a constant"]
    assert len(x._repr_html_()) < 2000


def test_a_tape_shows_its_records_and_what_they_keep():
    x, w = Tensor(np.ones((4, 3), "float32"), requires_grad=True), Tensor(np.ones((3, 2), "float32"))
    x.name = "x"
    y = ops.tanh(x @ w).exp()
    head, product, tanh, exp = cells(tape(y)._repr_html_())
    assert head == ["record", "op", "shape", "from", "keeps"]
    assert product[1:] == ["matmul", "(4, 2)", "x (4, 3), a constant", "24 bytes"]  # w: x's rule needs no x
    assert tanh[1:] == ["tanh", "(4, 2)", f"{product[0]} (4, 2)", "32 bytes"]
    assert exp[3] == f"{tanh[0]} (4, 2)"
    assert "3 records keep 88 bytes" in tape(y)._repr_html_()
    y.sum().backward()
    assert [row[-1] for row in cells(tape(y)._repr_html_())[1:]] == ["freed"] * 3


def test_arrays_that_two_records_keep_are_counted_once():
    x = Tensor(np.ones(100, "float32"), requires_grad=True)
    assert "2 records keep 400 bytes" in tape(ops.sin(x), ops.cos(x))._repr_html_()


@pytest.mark.parametrize("steps", [10, 100])
def test_a_compiled_recurrence_keeps_its_workspace(steps):
    records = tape(nn.GRU(2, 8)(np.zeros((steps, 1, 2), "float32"))[0])
    kept = {row[1]: row[-1] for row in cells(records._repr_html_())[1:]}
    assert "scan" in kept
    number, unit = kept["scan"].split()
    assert float(number) * {"bytes": 1, "KiB": 1024}[unit] > steps * 8 * 4 * 3, "at least r, z and h of every step"
