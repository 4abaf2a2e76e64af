"""Table of a model's layers: shapes of outputs, parameters, and where the memory is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...backend import dtype_name, is_half, random_state, set_random_state
from ...backend.memory import format_bytes
from ...contexts import no_grad
from ...html import Markup, table
from ...tensor import Tensor
from ...trees import leaves
from .replacement import is_parameter


class Row(NamedTuple):
    """A row of a Summary.

    path        of the layer in the model; "" is the model
    layer       its class and settings, or the name of a function in a Sequential
    output      the shapes of its output; "" without a run, "not called" if forward did not call it
    parameters  the number of elements of its own parameters, but for those that are tied to others above
    note        "frozen", or what is tied to what
    """

    path: str
    layer: str
    output: str
    parameters: int
    note: str


@dataclass(frozen=True)
class Summary:
    """Table of a model's layers, with totals: `print(summary)`, and in a notebook a table of HTML.

    rows        a `Row` for the model and for each layer
    parameters  the number of elements of all parameters; each is counted once, tied or not
    frozen      of those that are frozen
    memory      bytes by what they hold: "parameters", "buffers", "gradients" of all that are trained, and, if there is
                an optimizer, its "optimizer state", which it makes in its first step

    >>> nn.summary(nn.Linear(3, 2)).memory
    {'parameters': 32, 'gradients': 32}
    """

    rows: list[Row]
    parameters: int
    frozen: int
    memory: Mapping[str, int]

    def _totals(self) -> list[str]:
        frozen = f", {self.frozen:,} frozen" if self.frozen else ""
        memory = ", ".join(f"{name} {format_bytes(size)}" for name, size in self.memory.items())
        return [f"{self.parameters:,} parameters{frozen}", f"memory: {memory}"]

    def __repr__(self) -> str:
        cells = [(*row[:3], f"{row.parameters:,}", row.note) for row in self.rows]
        columns = ("path", "layer", "output", "parameters", "")
        widths = [max(map(len, column)) for column in zip(columns, *cells)]
        lines = [
            "  ".join(f"{x:>{n}}" if k == 3 else f"{x:<{n}}" for k, (x, n) in enumerate(zip(row, widths))).rstrip()
            for row in (columns, *cells)
        ]
        rule = "─" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:], rule, *self._totals()])

    def _repr_html_(self) -> str:
        return table(
            self.rows[0].layer, self.rows, ("path", "layer", "output", "parameters", ""), "; ".join(self._totals())
        )


def summary(model: Any, *inputs: Any, optimizer: Any = None, **settings: Any) -> Summary:
    """Table of a model's layers: name, output shape, number of parameters, and where the memory is.

    model             a Module
    inputs, settings  of one call of the model, from which the shapes are read; a tuple of integers is the shape of a
                      float input. Without them there is no call, and no shapes
    optimizer         an optimizer, whose state is counted too

    The call is in evaluation mode, without recording, on a copy that shares the model's tensors; random numbers that it
    draws are given back.

    >>> nn.summary(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), np.ones((5, 3)))
    path      layer         output  parameters
    ──────────────────────────────────────────
              Sequential()  (5, 2)           0
    layers.0  Linear(3, 4)  (5, 4)          16
    layers.1  ReLU()        (5, 4)           0
    layers.2  Linear(4, 2)  (5, 2)          10
    ──────────────────────────────────────────
    26 parameters
    memory: parameters 104 bytes, gradients 104 bytes
    """
    if not hasattr(model, "named_tensors"):
        raise TypeError(f"summary: model must be a Module, which comes first, got a {type(model).__name__}")
    outputs = _outputs(model, inputs, settings) if inputs or settings else None
    tensors = [tensor for _, tensor in model.named_tensors()]
    parameters = list(filter(is_parameter, tensors))
    trained = [tensor for tensor in tensors if tensor.requires_grad]
    memory = {"parameters": _bytes(parameters), "gradients": _bytes(trained)}
    if len(parameters) < len(tensors):
        memory["buffers"] = _bytes(tensors) - _bytes(parameters)
    if optimizer is not None:
        memory["optimizer state"] = _bytes(array for arrays in optimizer.state for array in arrays.values())
    count = _count(parameters)
    return Summary(list(_rows(model, outputs)), count, count - _count(trained), memory)


def _outputs(model: Any, inputs: tuple, settings: dict[str, Any]) -> dict[str, str]:
    """The shapes of the outputs of all modules that are called in one call of the model, by path."""
    outputs: dict[str, str] = {}
    copied = model.with_tensors({})
    for path, module in copied.named_modules():
        module.__class__ = _reporting(type(module), path, outputs)
        lists = {name: copy(value) for name, value in vars(module).items() if isinstance(value, (list, dict, set))}
        vars(module).update(lists)  # forward may append to them
    is_shape = [isinstance(x, tuple) and all(isinstance(n, int) for n in x) for x in inputs]
    given = [np.zeros(x, "float32") if shape else x for x, shape in zip(inputs, is_shape)]
    random = random_state()
    try:
        with no_grad():
            copied.eval()(*given, **settings)
    finally:
        set_random_state(random)
    return outputs


def _reporting(cls: type, path: str, outputs: dict[str, str]) -> type:
    """A subclass whose `forward` notes the shapes of its output."""

    def forward(self: Any, *inputs: Any, **settings: Any) -> Any:
        output = cls.forward(self, *inputs, **settings)  # type: ignore[attr-defined]
        outputs[path] = ", ".join(str(tuple(leaf.shape)) for _, leaf in leaves(output, "") if hasattr(leaf, "shape"))
        return output

    return type(cls.__name__, (cls,), {"forward": forward})


def _rows(model: Any, outputs: Mapping[str, str] | None) -> Iterator[Row]:
    first: dict[int, str] = {}

    def rows(path: str, module: Any) -> Iterator[Row]:
        children, tensors, ties = [], [], []
        parts = list(_parts_of(path, module))
        for inner, value in parts:
            if isinstance(value, Tensor):
                if first.setdefault(id(value), inner) == inner:
                    tensors.append(value)
                else:
                    ties.append(f"{inner.rpartition('.')[2]} tied to {first[id(value)]}")
            else:
                children.append((inner, value))
        parameters = list(filter(is_parameter, tensors))
        frozen = bool(parameters) and not any(tensor.requires_grad for tensor in parameters)
        output = "" if outputs is None else outputs.get(path, "not called")
        yield Row(
            path,
            f"{type(module).__name__}({module.describe()})",
            output,
            _count(parameters),
            ", ".join(["frozen"] * frozen + ties),
        )
        for inner, child in children:
            if isinstance(child, str):
                yield Row(inner, child, "", 0, "")
            elif id(child) in first:
                yield Row(inner, f"{type(child).__name__}({child.describe()})", "", 0, f"{first[id(child)]} again")
            else:
                first[id(child)] = inner
                yield from rows(inner, child)

    first[id(model)] = "the model"
    return rows("", model)


def _parts_of(path: str, module: Any) -> Iterator[tuple[str, Any]]:
    """What a module holds, by path; the tensors of a cell, which a scan steps, are those of its layer."""
    for name, value in module._shown():
        inner = f"{path}.{name}" if path else name
        if hasattr(value, "step") and hasattr(value, "named_tensors"):
            yield from _parts_of(inner, value)
        else:
            yield inner, value


def _count(tensors: list[Tensor]) -> int:
    return sum(tensor.size for tensor in tensors)


def _bytes(tensors: Any) -> int:
    arrays = [tensor.data if isinstance(tensor, Tensor) else tensor for tensor in tensors]
    return sum(
        array.size * (2 if is_half(array.dtype) else np.dtype(dtype_name(array.dtype)).itemsize) for array in arrays
    )


def module_html(module: Any) -> Markup:
    """What a module shows in a notebook: the table of its layers, without shapes."""
    return Markup(summary(module)._repr_html_())
