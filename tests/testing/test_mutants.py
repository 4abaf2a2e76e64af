"""Every rule of every op is broken on purpose, one at a time, and the contract must notice each of them.

A mutant is a fresh copy of an op, made from its formula, with one rule changed. It takes the place of the op wherever
that is used, and the op's own lines of the sheet are run. What survives shows a hole in the sheet or in the checker.
"""

from __future__ import annotations

import sys
from functools import wraps
from inspect import signature

import pytest

from tinygrad_gru import Tensor, ops
from tinygrad_gru.ops import op
from tinygrad_gru.ops.op import raw
from tinygrad_gru.testing import SHEET, check_case

#: Under which names the sheet reaches ops that are not public themselves.
REACHED_BY = {
    "_cast": "astype",
    "_concatenate": "concatenate",
    "_einsum": "einsum",
    "_pick": "getitem",
    "_place": "getitem",
    "_scatter_add": "scatter_add",
    "_slice": "getitem",
    "_stack": "stack",
}

#: Rules that are constant in what they keep, almost everywhere: to cut it from the tape changes nothing.
FLAT = {
    ("absolute", "x"), ("clip", "x"), ("leaky_relu", "x"), ("max", "x"), ("maximum", "a"), ("maximum", "b"),
    ("min", "x"), ("minimum", "a"), ("minimum", "b"), ("relu", "x"), ("where", "a"), ("where", "b"),
}  # fmt: skip


def _modules():
    return [module for name, module in sys.modules.items() if name.startswith("tinygrad_gru.ops")]


def _rules():
    """Every (op, input) that has a rule."""
    found = {}
    for module in _modules():
        for value in vars(module).values():
            if hasattr(value, "formula") and value.rules:
                found |= {(value.formula.__name__, name): value for name, rule in value.rules.items() if rule}
    return found


def _keeps_a_value(function, wanted):
    """Whether the rule asks for the output or an input, and not for shapes and settings alone."""
    return bool({"y", *function.rules}.intersection(signature(function.rules[wanted]).parameters))


RULES = _rules()
KEEPING = [(name, wanted) for (name, wanted), function in RULES.items() if _keeps_a_value(function, wanted)]


def scaled(rule):
    """Off by 0.1 %. A rule is linear in g, and what it returns may be sparse, so g is what is scaled."""

    @wraps(rule)
    def wrong(g, *kept):
        return rule(1.001 * g, *kept)

    return wrong


def negated(rule):
    @wraps(rule)
    def wrong(g, *kept):
        return rule(-g, *kept)

    return wrong


def cut(rule):
    """Right to first order; to second order what the rule keeps is taken for a constant."""

    def constant(value):
        if isinstance(value, tuple):
            return tuple(map(constant, value))
        return Tensor(raw(value)) if isinstance(value, Tensor) else value

    @wraps(rule)
    def wrong(g, *kept):
        return rule(g, *map(constant, kept))

    return wrong


def put_in_place(monkeypatch, function, wanted, change):
    mutant = op(function.formula)
    mutant.vjp(**{**function.rules, wanted: change(function.rules[wanted])})
    for module in _modules():
        for name, value in list(vars(module).items()):
            if value is function:
                monkeypatch.setattr(module, name, mutant)


def check_all_lines(name):
    entry = REACHED_BY.get(name, name)
    for case in SHEET[entry]:
        check_case(entry, case)


@pytest.mark.parametrize("key", RULES, ids="-".join)
def test_an_unchanged_copy_passes(monkeypatch, key):
    """The test of the test: what kills the mutants is the change, not the copying."""
    put_in_place(monkeypatch, RULES[key], key[1], lambda rule: rule)
    check_all_lines(key[0])


@pytest.mark.parametrize("change", [scaled, negated])
@pytest.mark.parametrize("key", RULES, ids="-".join)
def test_a_wrong_rule_is_caught(monkeypatch, key, change):
    put_in_place(monkeypatch, RULES[key], key[1], change)
    with pytest.raises(AssertionError):  # GradientError and ContractError are both
        check_all_lines(key[0])


@pytest.mark.parametrize("key", KEEPING, ids="-".join)
def test_a_rule_that_is_right_to_first_order_alone_is_caught(monkeypatch, key):
    put_in_place(monkeypatch, RULES[key], key[1], cut)
    if key in FLAT:
        check_all_lines(key[0])
    else:
        with pytest.raises(AssertionError):
            check_all_lines(key[0])


def test_no_rule_was_forgotten():
    assert {name for name, _ in RULES} >= {name for name in SHEET if hasattr(getattr(ops, name), "formula")} - {
        "argmax", "argmin", "equal", "greater", "greater_equal", "isfinite", "less", "less_equal", "multiply",
        "not_equal", "one_hot", "sign",
    }  # fmt: skip
    assert len(RULES) > 60
