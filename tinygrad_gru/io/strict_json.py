"""Strict JSON: UTF-8, and no duplicate names in an object."""

from __future__ import annotations

import json
from typing import Any

from .limits import Budget, FileFormatError

_CONTAINER_BYTES = 64  # of a small list or dictionary


def parse_json(content: bytes | str) -> Any:
    """The value of a JSON text. Raises FileFormatError if it is invalid or ambiguous.

    Also if it would take much more memory than the text: "[]," is three characters, and a list.

    >>> io.parse_json('{"steps": 3}')
    {'steps': 3}
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        Budget(len(text)).spend(_CONTAINER_BYTES * (text.count("[") + text.count("{")), "JSON")
        return json.loads(text, object_pairs_hook=_object)
    except FileFormatError:
        raise
    except RecursionError:
        raise FileFormatError("the JSON nests too many arrays or objects") from None
    except ValueError as error:
        raise FileFormatError(f"not JSON in UTF-8: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        duplicate = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise FileFormatError(f"the JSON has an object with the name {duplicate[:100]!r} twice")
    return result
