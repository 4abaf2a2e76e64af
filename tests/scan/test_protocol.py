"""Step protocol: what a step may return."""

from __future__ import annotations

from collections import namedtuple

import pytest

from tinygrad_gru.scan.protocol import split_output

Pair = namedtuple("Pair", "first second")


@pytest.mark.parametrize(
    ("output", "carry", "expected"),
    [
        ("h", "h0", ("h", "h")),
        (("h", "y"), "h0", ("h", "y")),
        (("h", ("y", "z")), "h0", ("h", ("y", "z"))),
        (("h", "c"), ("h0", "c0"), (("h", "c"), "h")),
        ((("h", "c"), "y"), ("h0", "c0"), (("h", "c"), "y")),
        ((), (), ((), None)),
        (((), "y"), (), ((), "y")),
        ((("h", "c"), ("h2", "c2")), (("h0", "c0"), ("h0", "c0")), ((("h", "c"), ("h2", "c2")), "h")),
        (((("h", "c"), "d"), "y"), (("h0", "c0"), "d0"), ((("h", "c"), "d"), "y")),
        ((("h", "c"), ("y", "z")), ("h0", "c0"), (("h", "c"), ("y", "z"))),
        ({"c": "c", "h": "h"}, {"h": "h0", "c": "c0"}, ({"h": "h", "c": "c"}, "h")),
        (({"h": "h"}, ["y"]), {"h": "h0"}, ({"h": "h"}, ["y"])),
        (["h", "c"], ["h0", "c0"], (["h", "c"], "h")),
        ((["h", "c"], "y"), ["h0", "c0"], (["h", "c"], "y")),
        (("h", None), ("h0", None), (("h", None), "h")),
        (("h", "c"), Pair("h0", "c0"), (Pair("h", "c"), "h")),
    ],
)
def test_split_output(output, carry, expected):
    new, y = split_output(output, carry)
    assert (new, y) == expected and type(new) is type(expected[0])
    if isinstance(new, dict):
        assert list(new) == list(carry)
