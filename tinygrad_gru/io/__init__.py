"""Files: safetensors, files that are replaced whole, and limits for files that come from others."""

from __future__ import annotations

from .files import replacing
from .limits import Budget, FileFormatError, open_untrusted
from .safetensors import SafetensorsError
from .strict_json import parse_json

__all__ = ["Budget", "FileFormatError", "SafetensorsError", "open_untrusted", "parse_json", "replacing"]
