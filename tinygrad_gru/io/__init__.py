"""Files: safetensors, atomic replacement, locks, and limits for untrusted files."""

from __future__ import annotations

from .files import remove_parts, replacing, sync_folder
from .limits import Budget, FileFormatError, open_untrusted, untrusted
from .lock import FileLock, LockedError
from .safetensors import SafetensorsError
from .strict_json import parse_json

__all__ = [
    "Budget", "FileFormatError", "FileLock", "LockedError", "SafetensorsError", "open_untrusted", "parse_json",
    "remove_parts", "replacing", "sync_folder", "untrusted",
]  # fmt: skip
