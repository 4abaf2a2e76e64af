"""What the figures of a model are drawn from: local variables of its cells' steps, over a text or other inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from ..contexts import no_grad
from ..nn import Cell, Module, Recurrent
from ..scan.names import WatchedStep, record_names
from ..scan.tracing.effects import rollback
from ..tensor import Tensor
from ..tensor.creation import zeros


class Inputs(NamedTuple):
    """A model, and what it reads: the ids (T, 1) of a text and its characters, those that the model does not know as
    it reads them; or a batch x, and no characters."""

    model: Module
    x: Any
    text: str | None


class CellRecords(NamedTuple):
    """Local variables of one cell's step, by name, each (T, B, units)."""

    cell: Cell
    values: dict[str, Tensor]


def inputs_of(model: Any, text: Any, vocabulary: Any = None) -> Inputs:
    """The model and what it reads. The model may be what `train.restore` returns, with a vocabulary in it."""
    if hasattr(model, "vocabulary") and hasattr(model, "model"):
        model, vocabulary = model.model, model.vocabulary if vocabulary is None else vocabulary
    if not isinstance(model, Module):
        raise TypeError(f"model: expected a module, or what train.restore returns, got {model!r:.60}")
    if not isinstance(text, str):
        if len(getattr(text, "shape", ())) < 2:
            raise TypeError(
                "text: expected a text, or for a model of numbers an array x (time, batch, features), got "
                f"{'None' if text is None else f'a {type(text).__name__}'}"
            )
        if 0 in text.shape:
            raise ValueError(f"text: expected x (time, batch, features) with a step or more, got shape {text.shape}")
        return Inputs(model, text, None)
    if not hasattr(vocabulary, "decode"):
        raise TypeError(
            f"vocabulary: a text needs the model's, got {vocabulary!r:.60}; train.restore(run) has both, and is taken "
            "as model"
        )
    if not text:
        raise ValueError("text: expected a character or more, got an empty text")
    ids = vocabulary.encode(text)
    return Inputs(model, ids[:, None], vocabulary.decode(ids))


def recurrent_layers(model: Module) -> list[Recurrent]:
    """The recurrent layers in a model, itself if it is one."""
    found = [module for _, module in model.named_modules() if isinstance(module, Recurrent)]
    if not found:
        raise ValueError(f"model: {type(model).__name__} has no recurrent layer")
    return found


def variables_of(cell: Cell) -> list[str]:
    """The names of the values that a cell's step computes, and of its states."""
    step, carry = WatchedStep(cell.step), cell.initial_state(1)
    x = zeros(1, cell.input_size, dtype=str(cell.weight.dtype), device=cell.weight.device)
    with rollback(step), no_grad():
        step(carry, x)
    given = {id(part._data) for part in (x, *(carry if isinstance(carry, tuple) else (carry,)))}
    computed = [
        name for name, value in step.found.items() if name.isidentifier() and id(value._data) not in given
    ]  # fmt: skip
    return list(dict.fromkeys([*computed, *cell.states]))


def record_name(cell: Cell, name: str) -> str:
    """What `record=` calls it: a state is that after the step."""
    return f"{name}'" if name in cell.states else name


@contextmanager
def recording(model: Module, names_of: Callable[[Cell], Sequence[str]]) -> Iterator[list[CellRecords]]:
    """While the block runs, calls of the model's recurrent layers add the values of these names for each cell."""
    found: list[CellRecords] = []

    def recorded(layer: Recurrent) -> Callable:
        plain = layer.forward
        names = list(names_of(layer.cells[0]))

        def forward(*inputs: Any, **settings: Any) -> Any:
            asked = {name: record_name(layer.cells[0], name) for name in names}
            settings["record"] = tuple(asked.values())
            output, state, records = plain(*inputs, **settings)
            for cell, values in zip(layer.cells, records):
                of_names = {name: values[recorded] for name, recorded in asked.items()}
                if layer.batch_first:
                    of_names = {name: value.moveaxis(0, 1) for name, value in of_names.items()}
                found.append(CellRecords(cell, of_names))
            return output, state

        return forward

    layers = recurrent_layers(model)
    try:
        for layer in layers:
            vars(layer)["forward"] = recorded(layer)
        yield found
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def records_of(inputs: Inputs, names: Sequence[str] | None, is_shown: Callable[[str, np.ndarray], bool]) -> list:
    """(cell, name → values (T, B, units)) for each cell, in the order in which they run, in evaluation.

    names     None: all that the step computes for which `is_shown(name, values)`
    """
    try:
        asked = None if names is None else record_names(names)
        with inputs.model.evaluating(), no_grad(), recording(inputs.model, lambda c: asked or variables_of(c)) as found:
            inputs.model(inputs.x)
    except (TypeError, ValueError) as error:  # of the layer's `record`, which is called names here
        if not str(error).startswith("record: "):
            raise
        raise type(error)(f"names: {str(error).removeprefix('record: ')}") from None
    result = []
    for cell, values in found:
        arrays = {name: value.numpy() for name, value in values.items()}
        if names is None:
            arrays = {name: array for name, array in arrays.items() if array.ndim == 3 and is_shown(name, array)}
        for name, array in arrays.items():
            if array.ndim != 3:
                raise ValueError(f"names: {name!r} is {array.shape}, and what is drawn is (time, batch, units)")
        result.append((cell, arrays))
    return result


def pick_cell(found: list, cell: int) -> Any:
    """What was recorded of one of the cells, by its index, in the order in which they ran."""
    if not isinstance(cell, Integral):
        raise TypeError(f"cell: expected the index of one of the model's cells, got {cell!r}")
    if not -len(found) <= cell < len(found):
        raise ValueError(f"cell: the model has {len(found)} cells, 0 to {len(found) - 1}, got {cell}")
    return found[cell]


def is_gate(array: np.ndarray) -> bool:
    """Whether all values are from 0 to 1."""
    return bool(array.min() >= 0 and array.max() <= 1)
