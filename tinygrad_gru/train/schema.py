"""What the state of a run must look like: checked as a whole, before anything is built or changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from .checkpoint import CheckpointError


class Kind(NamedTuple):
    """A kind of values: what it is called, and whether a value is of it."""

    words: str
    fits: Callable[[Any], bool]


WHOLE = Kind("a whole number from 0 on", lambda value: type(value) is int and 0 <= value < 2**63)
NUMBER = Kind("a finite number", lambda value: type(value) in (int, float) and abs(value) < 1e300 and isfinite(value))
SCALE = Kind("a power of two from 1 to 2**24", lambda value: NUMBER.fits(value) and value in [2**k for k in range(25)])
TEXT = Kind("a string", lambda value: type(value) is str)
ARRAY = Kind("an array of floats", lambda value: isinstance(value, np.ndarray) and value.dtype.kind == "f")


def optional(kind: Kind) -> Kind:
    return Kind(f"{kind.words}, or null", lambda value: value is None or kind.fits(value))


def list_of(kind: Kind) -> Kind:
    return Kind(f"a list, each {kind.words}", lambda value: type(value) is list and all(map(kind.fits, value)))


def dict_of(kind: Kind) -> Kind:
    return Kind(
        f"an object, each value {kind.words}", lambda value: type(value) is dict and all(map(kind.fits, value.values()))
    )


_GROUP = Kind(
    "a group of an optimizer, with its updates",
    lambda value: type(value) is dict and list_of(WHOLE).fits(value.get("updates")),
)
TRAINER: dict[str, Any] = {
    "model": dict_of(Kind("an array", lambda value: isinstance(value, np.ndarray))),
    "optimizer": {"groups": list_of(_GROUP), "state": dict_of(ARRAY), "steps": WHOLE},
    "schedule": {"schedule": TEXT, "steps": WHOLE, "base_lrs": list_of(NUMBER)},
    "stream": {"epoch": WHOLE, "index": WHOLE, "arrangement": Kind("an object", lambda value: type(value) is dict)},
    "precision?": TEXT,
    "scaler?": {"scale": SCALE, "good_steps": WHOLE, "skipped": WHOLE},
    "random": {"seed": WHOLE, "position": WHOLE},
    "steps": WHOLE,
    "carried": optional(list_of(ARRAY)),
}
_EARLY_STOP = {"best": optional(NUMBER), "since_best": WHOLE}
LOOP: dict[str, Any] = {
    "run": TEXT,
    "trainer": TRAINER,
    "early_stop": _EARLY_STOP,
    "best_step": optional(WHOLE),
    "logged": WHOLE,
}
_SETTINGS: dict[str, Any] = {  # what is missing has its default
    "text?": optional(TEXT),
    **dict.fromkeys(("cell?", "precision?", "compiled?"), TEXT),
    **dict.fromkeys(("embedding?", "hidden?", "layers?", "batch?", "window?", "characters?", "seed?"), WHOLE),
    **dict.fromkeys(("dropout?", "lr?"), NUMBER),
    "patience?": optional(WHOLE),
}
TEXT_RUN: dict[str, Any] = {  # also of a time before a loop had more to say
    "trainer": TRAINER,
    "early_stop": _EARLY_STOP,
    "about": {
        "settings": _SETTINGS,
        "vocabulary": {"symbols": TEXT, "other": optional(TEXT)},
        "corpus": {
            "name": TEXT,
            "files": WHOLE,
            "sha256": TEXT,
            "training_characters": WHOLE,
            "held_out_characters": WHOLE,
        },
        "versions": dict_of(TEXT),
    },
}


def check(value: Any, schema: Kind | Mapping[str, Any], path: str = "") -> None:
    """Raise CheckpointError, which names the place, unless a value is as the schema has it.

    A value may hold more than its schema says; what has a name that ends in "?" there may be missing.
    """
    if isinstance(schema, Kind):
        if not schema.fits(value):
            raise CheckpointError(f"{path}: expected {schema.words}, got {_shown(value)}")
        return
    if type(value) is not dict:
        raise CheckpointError(f"{path or 'the state'}: expected an object, got {_shown(value)}")
    for name, inside in schema.items():
        may_be_missing, name = name.endswith("?"), name.removesuffix("?")
        if may_be_missing and name not in value:
            continue
        place = f"{path}.{name}" if path else name
        if name not in value:
            raise CheckpointError(f"{place} is missing")
        check(value[name], inside, place)


def _shown(value: Any) -> str:
    return f"{value!r:.40}" if isinstance(value, (bool, int, float, str)) else f"a {type(value).__name__}"
