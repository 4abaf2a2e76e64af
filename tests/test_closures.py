"""Closures: the names that code looks up, and the contents of cells."""

from __future__ import annotations

from functools import wraps

from tinygrad_gru.closures import cell_contents, definition_line, is_library, names_in


def test_names_of_nested_functions_and_attributes():
    def function(x):
        return [outer.attribute(y) for y in x] + (lambda: inner)()  # noqa: F821

    assert names_in(function.__code__) == {"outer", "attribute", "inner"}


def test_an_import_inside_a_function_is_a_name():
    def function():
        import math

        return math.pi

    assert "__import__" in names_in(function.__code__)


def test_contents_of_an_empty_cell():
    def function():
        return late

    (cell,) = function.__closure__
    assert cell_contents(cell, "empty") == "empty"
    late = 1
    assert cell_contents(cell, "empty") == 1


def test_libraries():
    assert all(map(is_library, ("tinygrad_gru.nn.cells", "numpy", "builtins", "math")))
    assert not any(map(is_library, ("tinygrad_gru_of_mine", "__main__", None)))


def test_a_definition_is_placed_at_its_def_line():
    def decorator(function):
        return function

    @decorator
    @decorator
    def decorated():
        return [decorator]

    @wraps(decorated)
    def wrapper():
        return decorated()

    for function in (decorated, wrapper):
        assert definition_line(function).endswith(": def decorated():")
    assert "definition_line(lambda: 0)" in definition_line(lambda: 0)
