"""Files: safetensors, files that are replaced whole, and limits for files that come from others."""

from __future__ import annotations

from .files import replacing
from .limits import Budget, FileFormatError, open_untrusted, untrusted
from .safetensors import SafetensorsError

__all__ = ["Budget", "FileFormatError", "SafetensorsError", "open_untrusted", "replacing", "untrusted"]
