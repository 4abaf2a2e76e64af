"""Object code on disk, by key."""

from __future__ import annotations


def load(key: str) -> bytes | None:
    """The code of a key; None if there is none."""
    return None


def store(key: str, code: bytes) -> None:
    """Keep the code of a key."""
