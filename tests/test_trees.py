from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from types import MappingProxyType

import pytest

from tinygrad_gru.trees import leaves, map_leaves

Pair = namedtuple("Pair", "first second")


class Numbers(list):
    pass


@dataclass(frozen=True)
class Frozen:
    number: int
    double: int = field(init=False, default=2)


def doubled(leaf):
    return leaf * 2 if isinstance(leaf, int) else leaf


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (3, 6), ("ab", "ab"), (None, None), ([1, "a"], [2, "a"]), ((1, (2,)), (2, (4,))),
        (Pair(1, [2]), Pair(2, [4])), ({"a": 1, "b": {"c": (2,)}}, {"a": 2, "b": {"c": (4,)}}),
        (OrderedDict(b=1, a=2), OrderedDict(b=2, a=4)), (defaultdict(list, a=1), defaultdict(list, a=2)),
        (Numbers([1, 2]), Numbers([2, 4])), (Frozen(1), Frozen(2)),
    ],
)  # fmt: skip
def test_map_leaves_keeps_the_types_of_containers(tree, expected):
    found = map_leaves(doubled, tree)
    assert type(found) is type(expected)
    if isinstance(tree, Frozen):
        assert (found.number, found.double) == (2, 4) and (tree.number, tree.double) == (1, 2)
    else:
        assert found == expected
    if isinstance(tree, defaultdict):
        assert found["new"] == []


def test_map_leaves_of_a_mapping_proxy():
    found = map_leaves(doubled, MappingProxyType({"a": 1}))
    assert type(found) is MappingProxyType and found == {"a": 2}


def test_map_leaves_keeps_unchanged_containers():
    inner, changed = ["a"], [1]
    tree = {"same": inner, "other": changed, "class": Frozen}
    found = map_leaves(doubled, tree)
    assert found["same"] is inner and found["other"] == [2] and changed == [1] and found["class"] is Frozen
    assert map_leaves(doubled, {"same": inner})["same"] is inner


def test_leaves_and_their_paths():
    tree = {"a": [1, None, Pair(2, (3,))], "b": Frozen(4)}
    expected = {"x['a'][0]": 1, "x['a'][2].first": 2, "x['a'][2].second[0]": 3, "x['b'].number": 4, "x['b'].double": 2}
    assert dict(leaves(tree, "x")) == expected and list(leaves(5, "x")) == [("x", 5)]
    with pytest.raises(TypeError, match=r"x\[0\]: a set has no order"):
        list(leaves([{1, 2}], "x"))
