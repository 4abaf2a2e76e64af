"""The kind (RNN, GRU, LSTM) and the settings of our recurrent cells, as other libraries have them."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getattr_static, isroutine
from typing import Any

from .. import nn, ops
from ..nn.module import Module

_TEXTBOOK = {"RNN": nn.RNNCell, "GRU": nn.GRUCell, "LSTM": nn.LSTMCell}
LAYERS: dict[str, type[nn.Recurrent]] = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}

#: Defaults of the keywords that change what an evaluated cell computes.
_DEFAULTS = {
    "reset_after": False, "peephole": False, "coupled": False, "proj_size": 0, "activation": "tanh",
    "gate_activation": "sigmoid", "output_activation": "tanh", "clip": None, "layer_norm": False, "zoneout": 0.0,
}  # fmt: skip
#: What a subclass may override and still compute the same.
_IRRELEVANT_OVERRIDES = {"__init__", "__repr__", "__str__", "__doc__", "describe", "changed_settings"}
_TRAINING_ONLY = {"forget_bias", "recurrent_dropout"}


def kind_of(*cells: nn.Cell) -> str | None:
    """ "RNN", "GRU" or "LSTM"; None for user-defined equations, also of subclasses of these, and for mixed cells."""
    for kind, textbook in _TEXTBOOK.items():
        if all(_computes_as(cell, textbook) for cell in cells):
            return kind
    return None


def kind_of_layer(module: Module) -> str | None:
    """The kind of a recurrent layer's cells; None for other modules, for subclasses that override methods of
    `Recurrent`, and for layers whose cells differ."""
    if not isinstance(module, nn.Recurrent) or not _computes_as(module, nn.Recurrent):
        return None
    first = settings_of(module.cells[0])
    return kind_of(*module.cells) if all(settings_of(cell) == first for cell in module.cells) else None


def _computes_as(module: Module, base: type[Module]) -> bool:
    """Whether a module computes what its base class does: neither its subclasses nor the object itself override a
    method or a property of the base."""
    if not isinstance(module, base):
        return False
    order = type(module).__mro__
    for overrides in (vars(module), *map(vars, order[: order.index(base)])):
        for name in overrides:
            inherited = getattr_static(base, name, None)
            if name not in _IRRELEVANT_OVERRIDES and (isroutine(inherited) or isinstance(inherited, property)):
                return False
    return True


def settings_of(cell: nn.Cell) -> dict[str, Any]:
    """The keywords of a cell that differ from the default, as far as they matter in evaluation. Functions of `ops` are
    given by name."""
    settings = {name: value for name, value in cell.settings().items() if name not in _TRAINING_ONLY}
    if settings.get("output_activation", "") is None:
        settings["output_activation"] = settings["activation"]
    settings |= {name: _name(value) for name, value in settings.items() if name.endswith("activation")}
    rates = settings.get("zoneout", 0.0)
    if not any(rates if isinstance(rates, tuple) else [rates]):
        settings.pop("zoneout", None)
    if hasattr(cell, f"{cell.states[0]}_0"):
        settings["learn_initial_state"] = True
    return {name: value for name, value in settings.items() if value != _DEFAULTS.get(name)}


def settings_of_layer(layer: nn.Recurrent) -> dict[str, Any]:
    """The same for a layer: how it combines its cells' outputs, and the settings of its cells."""
    layer_settings: dict[str, Any] = {"merge": layer.merge} if layer.merge != "concat" else {}
    layer_settings |= {name: True for name in ("residual", "reverse") if getattr(layer, name)}
    return layer_settings | settings_of(layer.cells[0])


def settings_text(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={getattr(value, '__name__', repr(value))}" for name, value in settings.items())


def _name(activation: str | Callable) -> Any:
    """The name in `ops` of a function, or the function itself if it is not there."""
    names = {id(getattr(ops, name)): name for name in ops.__all__}
    return names.get(id(activation), activation)
