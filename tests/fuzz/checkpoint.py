"""Fuzz target: checkpoints with edited states and valid checksums."""

from __future__ import annotations

import copy
import io
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tinygrad_gru.io import checkpoint as module
from tinygrad_gru.io import replacing, safetensors
from tinygrad_gru.train import (
    CheckpointError,
    Progress,
    TextRun,
    TextSettings,
    TrainingError,
    generate,
    load_checkpoint,
    restore,
)
from tinygrad_gru.train.folder import CHECKPOINT
from tinygrad_gru.train.text.restore import settings_in

from .target import Part, Target

_TEXT = Path(tempfile.gettempdir()) / "tinygrad_gru-fuzz.txt"  # the same in every process, for its path is in states


def target() -> Target:
    with replacing(_TEXT) as file:
        file.write("".join(f"line {n % 7} of {n % 5}\n" for n in range(60)).encode())
    seeds, parts, structured = [], [], {}
    for cell, layers in (("gru", 1), ("lstm", 2)):
        sizes = {"embedding": 3, "hidden": 4, "batch": 2, "window": 8, "characters": 48}
        run = TextRun(TextSettings(str(_TEXT), cell=cell, layers=layers, **sizes))
        with tempfile.TemporaryDirectory() as folder:
            run.loop(folder).run(Progress())
            seeds.append((Path(folder) / CHECKPOINT).read_bytes())
        tensors, metadata = safetensors.read(seeds[-1])
        parts.append(Part([metadata["state"].encode()], partial(_with_state, tensors)))
        structured[f"edits of {cell}"] = partial(_edited, tensors, metadata["state"])
    return Target(".safetensors", _read, CheckpointError, seeds, parts, structured, others=[_TEXT])


def _read(path: Path) -> Any:
    """The state, its model with some generated text, and the run, resumed for a step if its text is this one."""
    state = load_checkpoint(path)
    restored = restore(path)
    if all(np.isfinite(array).all() for array in restored.model.state_dict().values()):
        generate(restored.model, restored.vocabulary, 3, "", 1.0, 0.9, seed=0)
    settings = settings_in(state, path)
    if settings.text == str(_TEXT) and settings.batch * settings.window * 2 < 1000:
        run = TextRun(settings)
        run.loop(path.parent / "run", state)
        with suppress(TrainingError), np.errstate(all="ignore"):  # as is right with weights that are not finite
            run.trainer.step()


def _with_state(tensors: dict[str, np.ndarray], state: bytes) -> bytes:
    text = state.decode("utf-8", "replace")
    metadata = {"format": module._FORMAT, "state": text, "checksum": module._checksum(text, tensors)}
    out = io.BytesIO()
    safetensors.write(out, tensors, metadata)
    return out.getvalue()


def _edited(tensors: dict[str, np.ndarray], state: str, random: Random) -> bytes:
    """A valid state with one to three entries changed, removed, exchanged or added."""
    tensors, tree = dict(tensors), json.loads(state)
    for _ in range(random.choice((1, 1, 2, 3))):
        if random.random() < 0.15:
            name = random.choice(list(tensors))
            tensors[name] = random.choice(_ARRAYS)(tensors[name])
            continue
        positions = list(_positions(tree))
        holder, key = random.choice(positions)
        kind = random.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            other, name = random.choice(positions)
            holder[key] = copy.deepcopy(other[name])
        elif kind == 2 and type(holder[key]) is int:
            holder[key] = random.choice((-1, 0, 1, 2, 10**7, 2**63, 10**30, holder[key] + 1, float(holder[key])))
        elif kind == 3 and type(holder) is dict:
            holder[random.choice(("", "steps", "$tensor", "é", "more"))] = holder[key]
        else:
            holder[key] = copy.deepcopy(random.choice(_ODD))
    return _with_state(tensors, json.dumps(tree).encode())


def _positions(tree: Any) -> Any:
    """(container, key) of everything in a tree."""
    for key, value in list(tree.items() if type(tree) is dict else enumerate(tree)):
        yield tree, key
        if type(value) in (dict, list):
            yield from _positions(value)


_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 10**7, 10**30, 1.5, -0.5, 1e308, float("nan"), float("inf"), "", "gru", "rnn", "x" * 9,
    "\ud800", [], {}, [1, 2], [[]], {"$tensor": "x"}, {"$tensor": "trainer.model.output.W"}, {"$tensor": 3},
    {"a": {"b": 1}}, 10**4000,
)  # fmt: skip
_ARRAYS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda array: array.astype("f8"), lambda array: array.astype("i4"), lambda array: array.T, lambda array: array != 0,
    lambda array: array[..., None], lambda array: array[:0], lambda array: array * np.nan, lambda array: array * 1e30,
    lambda array: array.astype("f2"), lambda array: np.float32(1).reshape(()),
)  # fmt: skip
