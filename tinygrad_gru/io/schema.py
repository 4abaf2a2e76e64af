"""Schemas of checkpoint states: a state is validated as a whole, before anything is built or changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from .checkpoint import CheckpointError


class ValueType(NamedTuple):
    """A type of leaf values: its description for error messages, and a predicate."""

    description: str
    accepts: Callable[[Any], bool]


COUNT = ValueType("a whole number from 0 on", lambda value: type(value) is int and 0 <= value < 2**63)
NUMBER = ValueType(
    "a finite number", lambda value: type(value) in (int, float) and abs(value) < 1e300 and isfinite(value)
)
TEXT = ValueType("a string", lambda value: type(value) is str)
OBJECT = ValueType("an object", lambda value: type(value) is dict)
ARRAY = ValueType("an array", lambda value: isinstance(value, np.ndarray))
FLOAT_ARRAY = ValueType("an array of floats", lambda value: isinstance(value, np.ndarray) and value.dtype.kind == "f")


def optional(item: ValueType) -> ValueType:
    return ValueType(f"{item.description}, or null", lambda value: value is None or item.accepts(value))


def list_of(item: ValueType) -> ValueType:
    return ValueType(
        f"a list, each {item.description}", lambda value: type(value) is list and all(map(item.accepts, value))
    )


def dict_of(item: ValueType) -> ValueType:
    return ValueType(
        f"an object, each value {item.description}",
        lambda value: type(value) is dict and all(map(item.accepts, value.values())),
    )


EARLY_STOP = {"best": optional(NUMBER), "since_best": COUNT}
LOOP: dict[str, Any] = {  # beside "trainer", whose schema is the trainer's
    "run": TEXT,
    "early_stop": EARLY_STOP,
    "best_step": optional(COUNT),
    "logged": COUNT,
    "seconds?": NUMBER,
    "epochs?": list_of(OBJECT),
    "callbacks?": list_of(OBJECT),
}


def check(value: Any, schema: ValueType | Mapping[str, Any], path: str = "") -> None:
    """Raise CheckpointError, which names the path, unless `value` has the schema.

    schema   a ValueType, or an object: the schema of each entry by name. A name that ends in "?" is optional; entries
             that the schema does not list are ignored
    """
    if isinstance(schema, ValueType):
        if not schema.accepts(value):
            raise CheckpointError(f"{path}: expected {schema.description}, got {_shown(value)}")
        return
    if type(value) is not dict:
        raise CheckpointError(f"{path or 'the state'}: expected an object, got {_shown(value)}")
    for name, entry in schema.items():
        is_optional, name = name.endswith("?"), name.removesuffix("?")
        if is_optional and name not in value:
            continue
        entry_path = f"{path}.{name}" if path else name
        if name not in value:
            raise CheckpointError(f"{entry_path} is missing")
        check(value[name], entry, entry_path)


def _shown(value: Any) -> str:
    return f"{value!r:.40}" if isinstance(value, (bool, int, float, str)) else f"a {type(value).__name__}"
