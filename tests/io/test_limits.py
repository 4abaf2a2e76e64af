"""Limits for untrusted files."""

from __future__ import annotations

import pytest

from tinygrad_gru.io import Budget, FileFormatError, open_untrusted


class Refused(Exception):
    pass


def test_a_budget_is_spent_once():
    budget = Budget(100, factor=2, minimum=0)
    budget.spend(150, "a")
    with pytest.raises(FileFormatError, match=r"b: the file requires more than the 200 bytes .* its 100"):
        budget.spend(51, "b")
    budget.spend(50, "c")
    with pytest.raises(FileFormatError):
        budget.spend(-1, "d")


def test_the_budget_is_proportional_to_the_file_size(tmp_path):
    (tmp_path / "file").write_bytes(bytes(2_000_000))
    with open(tmp_path / "file", "rb") as file:
        assert Budget.of(file).limit == 32_000_000


@pytest.mark.parametrize(
    "error", [Refused("x"), FileFormatError("x"), KeyError("x"), RecursionError(), OSError(22, "x")]
)
def test_exceptions_caused_by_the_content_are_converted(tmp_path, error):
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(Refused, match="file: ") as caught, open_untrusted(tmp_path / "file", Refused):
        raise error
    assert caught.value.__cause__ is error


def test_exceptions_not_caused_by_the_content_are_not_converted(tmp_path):
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(FileNotFoundError), open_untrusted(tmp_path / "none", Refused):
        pass
    for error in (MemoryError, KeyboardInterrupt):
        with pytest.raises(error), open_untrusted(tmp_path / "file", Refused):
            raise error


def test_an_empty_file_and_what_is_no_path(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(Refused, match="empty: the file is empty"), open_untrusted(tmp_path / "empty", Refused):
        pass
    for wrong in (None, 0):  # 0 would be the standard input
        with pytest.raises(TypeError, match="path: expected a str or a Path, got a"), open_untrusted(wrong, Refused):
            pass
