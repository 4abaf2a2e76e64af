"""What our recurrent cells are, in the words that other libraries share."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getattr_static, isroutine
from typing import Any

from .. import nn, ops
from ..nn.module import Module

_TEXTBOOK = {"RNN": nn.RNNCell, "GRU": nn.GRUCell, "LSTM": nn.LSTMCell}
LAYERS: dict[str, type[nn.Recurrent]] = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}

#: What each keyword of a cell is in the textbook's. The others concern training or the start only.
_NEUTRAL = {
    "reset_after": False, "peephole": False, "coupled": False, "proj_size": 0, "activation": "tanh",
    "gate_activation": "sigmoid", "output_activation": "tanh", "clip": None, "layer_norm": False, "zoneout": 0.0,
}  # fmt: skip
#: What a derived class may have of its own and still compute the same.
_HARMLESS = {"__init__", "__repr__", "__str__", "__doc__", "describe", "changed_settings"}
_OF_TRAINING = {"forget_bias", "recurrent_dropout"}


def kind_of(*cells: nn.Cell) -> str | None:
    """ "RNN", "GRU" or "LSTM"; None for equations of one's own, also ones derived from these, and for mixed cells."""
    for kind, textbook in _TEXTBOOK.items():
        if all(_computes_as(cell, textbook) for cell in cells):
            return kind
    return None


def kind_of_layer(module: Module) -> str | None:
    """The kind of the cells of a recurrent layer; None for other modules, for one that runs in its own way, and for one
    whose cells are not all the same."""
    if not isinstance(module, nn.Recurrent) or not _computes_as(module, nn.Recurrent):
        return None
    first = settings_of(module.cells[0])
    return kind_of(*module.cells) if all(settings_of(cell) == first for cell in module.cells) else None


def _computes_as(module: Module, base: type[Module]) -> bool:
    """Whether a module computes what its base class does: neither the classes in between nor the object itself have
    anything else in the place of a method or a property of the base."""
    if not isinstance(module, base):
        return False
    order = type(module).__mro__
    for added in (vars(module), *map(vars, order[: order.index(base)])):
        for name in added:
            inherited = getattr_static(base, name, None)
            if name not in _HARMLESS and (isroutine(inherited) or isinstance(inherited, property)):
                return False
    return True


def settings_of(cell: nn.Cell) -> dict[str, Any]:
    """The keywords by which an evaluated cell differs from the textbook's. Functions stand by their names in `ops`."""
    settings = {name: value for name, value in cell.settings().items() if name not in _OF_TRAINING}
    if settings.get("output_activation", "") is None:
        settings["output_activation"] = settings["activation"]
    settings |= {name: _name(value) for name, value in settings.items() if name.endswith("activation")}
    if not any(settings["zoneout"] if isinstance(settings["zoneout"], tuple) else [settings["zoneout"]]):
        del settings["zoneout"]
    if hasattr(cell, f"{cell.states[0]}_0"):
        settings["learn_initial_state"] = True
    return {name: value for name, value in settings.items() if value != _NEUTRAL.get(name)}


def settings_of_layer(layer: nn.Recurrent) -> dict[str, Any]:
    """The same of a layer: what it does with its cells' outputs, and the settings of its cells."""
    own: dict[str, Any] = {"merge": layer.merge} if layer.merge != "concat" else {}
    own |= {name: True for name in ("residual", "reverse") if getattr(layer, name)}
    return own | settings_of(layer.cells[0])


def in_words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={getattr(value, '__name__', repr(value))}" for name, value in settings.items())


def _name(activation: str | Callable) -> Any:
    """The name in `ops` of a function, or the function itself if it is not there."""
    names = {id(getattr(ops, name)): name for name in ops.__all__}
    return names.get(id(activation), activation)
