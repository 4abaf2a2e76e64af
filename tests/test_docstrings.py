"""The examples in docstrings run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
from types import ModuleType

import numpy as np
import pytest

import tinygrad_gru
from tinygrad_gru import ops

PACKAGES = [
    "",
    "data",
    "debug",
    "interop",
    "interop.javascript",
    "io",
    "learn",
    "nn",
    "nn.init",
    "ops",
    "optim",
    "reproduce",
    "show",
    "testing",
    "train",
]


def public_names():
    for package in PACKAGES:
        module = importlib.import_module(".".join(filter(None, ("tinygrad_gru", package))))
        for name in getattr(module, "__all__", ()):
            if not isinstance(getattr(module, name), (ModuleType, str)):
                yield f"{package or 'tinygrad_gru'}.{name}", getattr(module, name)


NAMES = dict(public_names())


def docstrings(value):
    """The docstring of a function, or those of a class and its public methods."""
    yield "", value.__doc__
    if isinstance(value, type):
        for name, member in vars(value).items():
            if not name.startswith("_"):
                yield f".{name}", getattr(getattr(member, "__func__", member), "__doc__", None)


def test_every_public_name_has_a_docstring_and_an_example():
    values = {name: value for name, value in NAMES.items() if not isinstance(value, (dict, list, tuple))}  # of a type
    without = [name for name, value in values.items() if ">>>" not in (value.__doc__ or "")]
    errors = {n for n, value in values.items() if isinstance(value, type) and issubclass(value, Exception)}
    assert [name for name in without if name not in errors or not values[name].__doc__] == []


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name, tmp_path, monkeypatch):
    """In a namespace with `np`, the packages, and what `from tinygrad_gru import *` gives."""
    monkeypatch.chdir(tmp_path)
    names = {"np": np, "ops": ops, **{n: getattr(tinygrad_gru, n) for n in tinygrad_gru.__all__}}
    names.update({p: importlib.import_module(f"tinygrad_gru.{p}") for p in PACKAGES if p})
    for member, text in docstrings(NAMES[name]):
        example = doctest.DocTestParser().get_doctest(text or "", dict(names), name + member, None, None)
        report: list[str] = []
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        doctest.DocTestRunner(optionflags=flags).run(example, out=report.append)
        assert not report, "".join(report)
