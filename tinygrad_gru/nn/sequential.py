"""Sequential: modules and functions in a row; LastStep: the output of each sequence's last step."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import CodeType
from typing import Any

from .. import ops
from ..backend import backend_of
from ..tensor import Tensor
from .base.hints import MODULE
from .layers import Dropout, LayerNorm
from .lengths import valid_steps
from .module import Module
from .recurrent import Recurrent
from .states import State

#: Of a Sequential.
_HINTS = {
    **{name: hint for name, hint in MODULE.items() if name != "layers"},
    "add": "m.append(layer)",
    "extend": "m.append(layer) for each",
    "insert": "m.layers.insert(index, layer)",
    "pop": "m.layers.pop()",
}


class Sequential(Module):
    """Modules in sequence: y = fₙ(… f₂(f₁(x))). A layer may be any function.

    Of a recurrent layer, which returns (output, state), the next layer gets the output, at every step; `LastStep` after
    it takes that of each sequence's last step. Where a recurrent layer is the last of all, both are returned.

    returns_state  return (output, state) and take a state, as a recurrent layer does: model(x, state), for a state that
                   is carried on, as `train.fit(…, carry_state=True)` does. It is a tuple, one for each recurrent layer

    Called with x, and with `lengths=` or `mask=` (see `Recurrent`) if x are sequences of different lengths: both are
    passed to the recurrent layers, to `LastStep`, and to modules whose `forward` has an argument of that name.
    TypeError if there is none.

    `model[0]`, `model[-1]`, `model[1:3]` (a Sequential of the same layers), `len(model)` and iteration are those of a
    list; `model[-1] = layer` replaces a layer and `append` adds one. Parameters are named "layers.0.W", …

    >>> model = nn.Sequential(nn.GRU(3, 8), nn.LastStep(), nn.Linear(8, 2), ops.tanh)
    >>> model(np.ones((5, 4, 3)), lengths=[5, 2, 3, 1]).shape     # (time, batch, features)
    (4, 2)
    >>> model
    Sequential()  306 parameters
      layers.0: GRU(3, 8)  288 parameters
        cells.0: GRUCell(3, 8)  288 parameters
      layers.1: LastStep()  0 parameters
      layers.2: Linear(8, 2)  18 parameters
      layers.3: ops.tanh
    >>> model = nn.Sequential(nn.LSTM(3, 8), nn.Linear(8, 2), returns_state=True)
    >>> output, state = model(np.ones((5, 4, 3)))
    >>> output, state = model(np.ones((5, 4, 3)), state.detach())     # goes on from there
    """

    _hints = _HINTS

    def __init__(self, *layers: Any, returns_state: bool = False):
        if len(layers) == 1 and isinstance(layers[0], (list, tuple)):  # as Keras has it
            (layers,) = layers
        self.layers: list[Any] = []
        self.returns_state = returns_state
        for layer in layers:
            self.append(layer)

    @property
    def sequence_keywords(self) -> tuple[str, ...]:  # type: ignore[override]
        """The keyword arguments of `forward` that one of the layers takes."""
        return tuple(name for name in LastStep.sequence_keywords if any(_takes(layer, name) for layer in self.layers))

    def forward(self, x: Any, state: Any = None, lengths: Any = None, mask: Any = None, after: Any = None) -> Any:
        """The output of the last layer, from the input of the first; with `returns_state` (output, state).

        `after` is the recurrent layer before, where this is itself a layer of a Sequential.
        """
        states = self._states(state)
        padding = {name: value for name, value in (("lengths", lengths), ("mask", mask)) if value is not None}
        before, latest = None, after  # the recurrent layer directly before a layer, and the last one of all before it
        is_pair, passed, carried = False, not padding, []
        for layer in self.layers:
            x = x[0] if is_pair else x
            settings = {name: value for name, value in padding.items() if _takes(layer, name)} if padding else {}
            passed = passed or bool(settings)
            if _takes(layer, "after"):
                if before is None and latest is not None and latest.bidirectional and not isinstance(layer, Sequential):
                    raise ValueError("LastStep: put it directly after the bidirectional layer, whose halves it takes")
                settings["after"] = latest
            if states is not None and _returns_state(layer):
                x, after = layer(x, next(states), **settings)
                carried.append(after)
            else:
                x = layer(x, **settings)
            before, latest = _recurrent_layer(layer), _last_recurrent_layer(layer) or latest
            is_pair = isinstance(x, tuple) and (before is not None or _returns_state(layer))
        if not passed:
            raise TypeError(f"Sequential: no layer takes {' or '.join(padding)}")
        return x if states is None else (x, State(carried))

    def _states(self, state: Any) -> Iterator[Any] | None:
        """The state of each recurrent layer; None without `returns_state`."""
        if not self.returns_state:
            if state is not None:
                raise TypeError(
                    "state: this Sequential carries none on: make it with Sequential(…, returns_state=True)"
                )
            return None
        count = sum(map(_returns_state, self.layers))
        if state is None:
            return iter([None] * count)
        if not isinstance(state, (tuple, list)) or len(state) != count:
            raise TypeError(
                f"state: expected a tuple of {count}, one for each recurrent layer, as was returned, got "
                f"{type(state).__name__}{f' of {len(state)}' if isinstance(state, (tuple, list)) else ''}"
            )
        return iter(state)

    # -- the list of layers --------------------------------------------------------------------------------------

    def append(self, layer: Any) -> Sequential:
        """Add a layer at the end; returns the Sequential."""
        self.layers.append(self._checked(layer, len(self.layers)))
        return self

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Sequential(*self.layers[index], returns_state=self.returns_state)
        return self.layers[index]

    def __setitem__(self, index: int, layer: Any) -> None:
        self.layers[index] = self._checked(layer, index)

    def _checked(self, layer: Any, index: int) -> Any:
        """The layer. TypeError if it is neither a module nor a function, or would lose its state."""
        if isinstance(layer, type) and issubclass(layer, Module):
            raise TypeError(f"Sequential: layer {index} is the class {layer.__name__}: write {layer.__name__}(…)")
        if isinstance(layer, dict):
            raise TypeError("Sequential: expected the layers, got a dict: write Sequential(*layers.values())")
        if not callable(layer):
            hint = f" {layer!r}: write ops.{layer}" if isinstance(layer, str) and hasattr(ops, layer) else ""
            raise TypeError(
                f"Sequential: layer {index} must be a module or a function, got {type(layer).__name__}{hint}"
            )
        loses_state = self.returns_state and isinstance(layer, Sequential) and not layer.returns_state
        if loses_state and any(map(_returns_state, layer.modules())):
            raise TypeError(f"Sequential: layer {index} has recurrent layers: make it with returns_state=True too")
        earlier = [one for one in self.layers[:index] if not isinstance(one, (Dropout, LayerNorm))]
        pair = *map(_recurrent_layer, earlier[-1:]), layer
        layouts = [one.batch_first for one in pair if isinstance(one, Recurrent)]
        if len(set(layouts)) > 1:
            raise ValueError(
                f"Sequential: layer {index} has batch_first={layouts[1]}, the recurrent layer before it {layouts[0]}"
            )
        return layer

    def describe(self) -> str:
        """The settings that `repr` shows."""
        return "returns_state=True" if self.returns_state else ""

    def _shown(self) -> Iterator[tuple[str, Any]]:
        for index, layer in enumerate(self.layers):
            yield f"layers.{index}", layer if isinstance(layer, Module) else function_name(layer)
        yield from (item for item in self._declared() if not item[0].startswith("layers."))


def _takes(layer: Any, name: str) -> bool:
    """Whether `forward` of a module has an argument of this name."""
    declared = getattr(layer, "sequence_keywords", None)
    if declared is not None:
        return name in declared
    return isinstance(layer, Module) and name != "after" and name in inspect.signature(layer.forward).parameters


def _recurrent_layer(layer: Any) -> Any:
    """The recurrent layer whose (output, state) a layer returns; None for other layers."""
    while isinstance(layer, Sequential) and layer.layers:
        layer = layer.layers[-1]
    return layer if _returns_state(layer) and not isinstance(layer, Sequential) else None


def _last_recurrent_layer(layer: Any) -> Any:
    """The last recurrent layer in a layer; None if there is none."""
    if not isinstance(layer, Sequential):
        return _recurrent_layer(layer)
    return next(filter(None, map(_last_recurrent_layer, reversed(layer.layers))), None)


def _returns_state(layer: Any) -> bool:
    """Whether a layer returns (output, state), and takes a state."""
    return getattr(layer, "returns_state", False)


class LastStep(Module):
    """The output of each sequence's last step: y_b = x at step lengths_b − 1; of a backward direction its first step.

    After a recurrent layer in a Sequential, which says how x is laid out. By hand:

    batch_first    x is (batch, time, features) instead of (time, batch, features)
    bidirectional  the second half of the features is a backward direction's

    Called with x, and with `lengths` or `mask` as the recurrent layer was; returns (batch, features): for a sequence
    without steps x at padding, which is 0.

    >>> output, h = (layer := nn.GRU(3, 8, bidirectional=True))(np.ones((5, 4, 3)), lengths=[5, 2, 3, 1])
    >>> last = nn.LastStep(bidirectional=True)(output, lengths=[5, 2, 3, 1])
    >>> np.array_equal(last.numpy(), ops.concatenate([h[0], h[1]], axis=-1).numpy())
    True
    """

    sequence_keywords = ("lengths", "mask", "after")

    def __init__(self, batch_first: bool = False, bidirectional: bool = False):
        self.batch_first, self.bidirectional = batch_first, bidirectional

    def forward(self, x: Any, lengths: Any = None, mask: Any = None, after: Any = None) -> Tensor:
        """(batch, features) from x (time, batch, features); `after` is the recurrent layer before, if there is one."""
        layout = self if after is None else after
        if (self.batch_first and not layout.batch_first) or (self.bidirectional and not layout.bidirectional):
            raise ValueError(
                "LastStep: batch_first and bidirectional are those of the recurrent layer before it in a Sequential: "
                "leave them out"
            )
        x = x[0] if isinstance(x, tuple) else x
        if len(x.shape) != 3 or not x.shape[1 if layout.batch_first else 0]:
            raise ValueError(f"LastStep: expected x (time, batch, features) with a step or more, got {tuple(x.shape)}")
        x = ops.moveaxis(x, source=1, destination=0) if layout.batch_first else x
        valid = valid_steps(lengths, mask, x, layout.batch_first)
        first, last = (0, -1) if valid is None else _bounds(valid)
        return self.join(layout, x, partial(_at_step, step=first), partial(_at_step, step=last))

    @staticmethod
    def join(layout: Any, x: Tensor, first: Callable, last: Callable) -> Tensor:
        """(batch, features) from x (time, batch, features) and functions that give the first and last step of such."""
        if not layout.bidirectional:
            return first(x) if getattr(layout, "reverse", False) else last(x)
        if getattr(layout, "merge", "concat") != "concat":
            raise ValueError(
                "LastStep: of a bidirectional layer it takes two steps, so that one needs merge='concat' (or write "
                "output, state = layer(x), and merge state[-2] and state[-1])"
            )
        half = x.shape[-1] // 2
        return ops.concatenate([last(x[..., :half]), first(x[..., half:])], axis=-1)

    def describe(self) -> str:
        return ", ".join(f"{name}=True" for name in ("batch_first", "bidirectional") if getattr(self, name))


def _bounds(valid: Tensor) -> tuple[Any, Any]:
    """The first and the last step that is True in `valid` (T, batch, 1), as arrays (batch)."""
    backend, steps = backend_of(valid.data), len(valid)
    numbers = backend.arange(steps)[:, None]
    first, last = (backend.xp.where(valid.data[:, :, 0], numbers, padding) for padding in (steps - 1, 0))
    return backend.xp.min(first, axis=0), backend.xp.max(last, axis=0)


def _at_step(x: Tensor, step: Any) -> Tensor:
    """x (T, batch, features) at one step, or at one for each sequence."""
    return x[step] if isinstance(step, int) else x[step, backend_of(x.data).arange(x.shape[1])]


# -- the names of functions ------------------------------------------------------------------------------------------


def function_name(function: Any) -> str:
    """A function as `repr` shows it: "ops.tanh", a lambda by its source, another function by its name."""
    if isinstance(function, partial):
        given = [*map(repr, function.args), *(f"{name}={value!r}" for name, value in function.keywords.items())]
        return f"partial({', '.join([function_name(function.func), *given])})"
    name = getattr(function, "__name__", type(function).__name__)
    if name in ops.__all__ and getattr(ops, name) is function:
        return f"ops.{name}"
    return (name == "<lambda>" and _lambda_source(function.__code__)) or name


def _lambda_source(code: CodeType) -> str | None:
    """The source of a lambda, where its first line has all of it."""
    line = linecache.getline(code.co_filename, code.co_firstlineno)
    for start in [match.start() for match in re.finditer(r"\blambda\b", line)]:
        for end in range(len(line), start, -1):
            with suppress(SyntaxError, ValueError):
                expression = ast.parse(line[start:end], mode="eval").body
                first = expression.elts[0] if isinstance(expression, ast.Tuple) else expression
                source = ast.get_source_segment(line[start:end], first) or ""
                constants = compile(source, "", "eval").co_consts
                if any(_names_and_constants(found) == _names_and_constants(code) for found in constants):
                    return source
                break
    return None


def _names_and_constants(code: Any) -> tuple:
    """What a lambda has in common with its source compiled anew, where variables that it closes over are global."""
    if not isinstance(code, CodeType):
        return ()
    constants = [constant for constant in code.co_consts if not isinstance(constant, CodeType)]
    return code.co_varnames, {*code.co_names, *code.co_freevars}, constants
