"""The package: its public names, and errors for former ones."""

from __future__ import annotations

from importlib import import_module

import pytest

import tinygrad_gru
from tinygrad_gru import testing


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
        with pytest.raises(ImportError, match=rf"^{former} is now {now}$"):
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


def test_checkpoint_is_an_alias_of_remat():
    assert tinygrad_gru.checkpoint is tinygrad_gru.remat
