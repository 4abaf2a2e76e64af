"""The package: its public names, and errors for former ones."""

from __future__ import annotations

import sys
from importlib import import_module
from subprocess import run

import numpy as np
import pytest

import tinygrad_gru
from tinygrad_gru import testing, train
from tinygrad_gru.data import TextStream
from tinygrad_gru.train import Loop, TextRun, TextSettings


@pytest.mark.parametrize("package", [tinygrad_gru, testing])
def test_every_public_name_exists(package):
    assert all(getattr(package, name) is not None for name in package.__all__)
    assert len(set(package.__all__)) == len(package.__all__)


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("tinygrad_gru.anomaly", "tinygrad_gru.debug"),
        ("tinygrad_gru.sanitizer", "tinygrad_gru.debug"),
        ("tinygrad_gru.testing.SHEET", "tinygrad_gru.testing.OP_SPECS"),
    ],
)
def test_a_former_name_gives_an_error_with_the_new_one(former, now):
    package, _, name = former.rpartition(".")
    for program in (f"import {package}; {former}", f"from {package} import {name}"):
        with pytest.raises((AttributeError, ImportError), match=rf"{now}$"):
            exec(program)
    try:
        import_module(now)
    except ModuleNotFoundError:  # a name in a module
        package, _, name = now.rpartition(".")
        assert hasattr(import_module(package), name)


@pytest.mark.parametrize("package", [tinygrad_gru, testing])
def test_other_names_are_attribute_errors(package):
    assert not hasattr(package, "nothing")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize("name", ["data", "debug", "interop", "io", "show", "testing", "train", "interop.torch"])
def test_packages_are_imported_when_they_are_named(name):
    program = f"import sys, tinygrad_gru as tg; before = set(sys.modules); print(tg.{name}.__name__)"
    if name not in ("debug", "io"):  # which the core needs
        program += f"; assert 'tinygrad_gru.{name}' not in before; assert '{name.partition('.')[0]}' in dir(tg)"
    done = run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, f"tinygrad_gru.{name}"), done.stderr


def test_a_star_import_imports_no_package_and_hides_no_builtin():
    program = (
        "import builtins, sys; before = set(dir()); from tinygrad_gru import *; "
        "assert not {'tinygrad_gru.' + n for n in ('train', 'data', 'testing', 'interop', 'show')} & set(sys.modules); "
        "assert not set(dir()) & set(dir(builtins)) - {'__doc__', '__name__', '__loader__', '__package__', '__spec__'}"
    )
    assert run([sys.executable, "-c", program], check=False).returncode == 0


def test_checkpoint_is_an_alias_of_remat():
    assert tinygrad_gru.checkpoint is tinygrad_gru.remat


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: TextStream(np.arange(20), 3, lanes=2),
            TypeError,
            "TextStream has no keyword 'lanes'; here it is batch_size",
        ),
        (lambda: Loop(None, 1, "", None, about={}), TypeError, "Loop: the argument about is called metadata now"),
        (lambda: train.plot_loss, AttributeError, r"module 'tinygrad_gru.train' .* it is show.loss\(runs, path=…\)"),
        (lambda: TextStream(np.arange(20), 3, 2).lanes, AttributeError, "TextStream.lanes is called batch_size now"),
        (lambda: TextSettings().reading, AttributeError, "TextSettings.reading is called compile_mode now"),
        (lambda: TextRun.about, AttributeError, "TextRun.about is called metadata now"),
        (
            lambda: testing.MutationScore("tanh", ()).survivors,
            AttributeError,
            "MutationScore.survivors is called survived now",
        ),
    ],
)
def test_a_former_argument_or_attribute_gives_an_error_with_the_new_name(call, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        call()
