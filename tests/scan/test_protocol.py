"""Step protocol: structures one level deep, and what a step may return."""

from __future__ import annotations

import pytest

from tinygrad_gru.scan.protocol import split_output, tree_leaves, tree_structure, tree_unflatten


@pytest.mark.parametrize(
    ("tree", "leaves", "structure"),
    [
        (None, (), None),
        ("x", ("x",), None),
        ((), (), ()),
        (("x",), ("x",), (True,)),
        (("x", None, "y"), ("x", None, "y"), (True, False, True)),
    ],
)
def test_unflatten_inverts_leaves_and_structure(tree, leaves, structure):
    assert tree_leaves(tree) == leaves and tree_structure(tree) == structure
    assert tree_unflatten(structure, [leaf for leaf in leaves if leaf is not None]) == tree


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
    ],
)
def test_split_output(output, carry, expected):
    assert split_output(output, carry) == expected
