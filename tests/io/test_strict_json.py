"""Strict JSON: unambiguous, and with memory in proportion to the text."""

from __future__ import annotations

import pytest

from tinygrad_gru.io import FileFormatError, parse_json


def test_json_is_read():
    assert parse_json(b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}') == {"a": [1, 2.5, None, True, "é"]}
    assert parse_json('{"a": {"a": {}}}') == {"a": {"a": {}}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON in UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not JSON in UTF-8"),
        (b'{"a": 1, "b": 2, "a": 1}', "the name 'a' twice"),
        (b'[{"b": {"c": 1, "c": 1}}]', "the name 'c' twice"),
        (b"[" * 100_000 + b"]" * 100_000, "nests too many"),
        (b"9" * 10_000, "not JSON"),
        (b"[" + b"[]," * 1_000_000 + b"0]", "JSON: the file requires more"),
    ],
)
def test_invalid_or_ambiguous_json_is_refused(content, reason):
    with pytest.raises(FileFormatError, match=reason):
        parse_json(content)
