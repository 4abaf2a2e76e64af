"""JSON that means one thing: UTF-8, no name twice in one object."""

from __future__ import annotations

import json
from typing import Any

from .limits import Budget, FileFormatError

_CONTAINER = 64  # bytes of a small one


def parse_json(content: bytes | str) -> Any:
    """The value that a text is. FileFormatError where readers may differ about it, or where it is no JSON, or where it
    would take much more memory than the text: "[]," is three characters, and a list.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        Budget(len(text)).spend(_CONTAINER * (text.count("[") + text.count("{")), "JSON")
        return json.loads(text, object_pairs_hook=_object)
    except FileFormatError:
        raise
    except RecursionError:
        raise FileFormatError("the JSON has too many arrays or objects in one another") from None
    except ValueError as error:
        raise FileFormatError(f"not JSON in UTF-8: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise FileFormatError(f"the JSON has an object with the name {twice[:100]!r} twice")
    return made
