"""Mixed precision: a model runs in 16 bits, its parameters stay in 32; dynamic loss scaling for float16."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import frexp
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..backend import as_dtype, astype, is_floating
from ..nn import Module
from ..ops import astype as recorded_astype
from ..tensor import Tensor
from ..trees import map_leaves

#: The dtypes in which a model can run: float32, or 16 bits on casts of its parameters.
PRECISIONS = ("float32", "float16", "bfloat16")


def mixed_precision(model: Module, precision: str) -> Module:
    """`model` run in float16 or bfloat16 (see `MixedPrecision`); in float32 it is the model itself.

    Raises ValueError for another precision, and for bfloat16 where the model's backend does not have it.

    >>> layer = nn.Linear(2, 1)
    >>> train.mixed_precision(layer, "float16")(Tensor([[1.0, 2.0]])).dtype, layer.W.dtype
    (dtype('float32'), dtype('float32'))
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    return model if precision == "float32" else MixedPrecision(model, precision)


class MixedPrecision(Module):
    """A wrapper that runs a model in 16 bits while its parameters stay in 32 (Micikevicius et al. 2018).

        y = float32(model(dtype(x); dtype(θ)))

    Called as the model is. Each call casts the floating-point tensors of a copy of the model, runs it on casts of the
    inputs, and casts the outputs back to float32, so that the loss and a carried state keep full precision. On the tape
    a cast shares its parameter's node: gradients are accumulated in the parameter itself, in float32, and an
    optimizer of the model's parameters needs no change.

    In float16 gradients below 6e-8 underflow to 0 and those above 65504 overflow: use a `LossScaler`. bfloat16 has the
    range of float32 and needs none; not every backend has it. Attributes that the model sets while it runs are lost.

    >>> network = train.MixedPrecision(nn.Linear(2, 1), "float16")
    >>> network(Tensor([[1.0, 2.0]])).shape
    (1, 1)
    """

    def __init__(self, model: Module, dtype: str):
        self.model, self.dtype = model, dtype
        self._copy = _CastCopy(model)
        for _, tensor in model.named_tensors():
            try:
                as_dtype(tensor.data, dtype)
            except TypeError as error:
                raise ValueError(
                    f"precision: {tensor.device!r} has no {dtype!r}, expected 'float32' or 'float16' there (was the "
                    "model to be on a GPU, or is the package ml_dtypes missing?)"
                ) from error

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        if not self._copy.is_current(self.model):
            self._copy = _CastCopy(self.model)
        self._copy.cast(self.dtype)
        inputs, settings = _cast((inputs, settings), self.dtype)
        return _cast(self._copy.module(*inputs, **settings), "float32")

    def describe(self) -> str:
        return self.dtype


class _CastCopy:
    """A copy of a model in which casts replace the floating-point tensors.

    It is kept between calls, and with it the traces of its recurrences, which are cached per object.
    """

    def __init__(self, model: Module):
        floats = {name: tensor for name, tensor in model.named_tensors() if _is_floating(tensor)}
        casts = {name: Tensor.from_node(tensor.data, tensor.node) for name, tensor in floats.items()}
        self.module = model.with_tensors(casts)
        self._pairs = [(tensor, casts[name]) for name, tensor in floats.items()]
        self._attributes = _attributes(model)

    def is_current(self, model: Module) -> bool:
        """Whether no attribute of the model, such as its training mode, has been set since it was copied."""
        now = _attributes(model)
        return len(now) == len(self._attributes) and all(a is b for a, b in zip(now, self._attributes))

    def cast(self, dtype: str) -> None:
        """Cast the current values of the parameters."""
        for tensor, cast in self._pairs:
            cast._data, cast.node = astype(tensor.data, dtype), tensor.node


def _attributes(model: Module) -> list[Any]:
    """The values of all attributes of all modules, and the items of those that are lists, tuples or dicts."""
    values = [value for module in model.modules() for value in vars(module).values()]
    for value in values:  # which grows by the items
        if isinstance(value, (list, tuple)):
            values += value
        elif isinstance(value, dict):
            values += value.values()
    return values


def _cast(value: Any, dtype: str) -> Any:
    """`value` with the floating-point arrays and Tensors in it, alone or in containers, cast to `dtype`."""
    return map_leaves(lambda leaf: recorded_astype(leaf, dtype=dtype) if _is_floating(leaf) else leaf, value)


def _is_floating(value: Any) -> bool:
    array = value.data if isinstance(value, Tensor) else value
    return hasattr(array, "dtype") and is_floating(array.dtype)


#: With it a gradient of 1/256 overflows float16 already: a larger one is of no use.
_MAX_SCALE = 2.0**24
_SCALER_STATE = ("scale", "good_steps", "skipped")


class LossScaler:
    """Dynamic loss scaling (Micikevicius et al. 2018): backward starts from S instead of 1.

        g ← ∂(S · loss)/∂θ / S      S is a power of two, so that g is scaled and unscaled without rounding
        S ← S / 2, no step          if an element of g is not finite: it has overflowed float16
        S ← 2 S                     after `growth_interval` steps in a row without an overflow

    scale            the initial S, a power of two from 1 to 2²⁴; S stays in this range
    growth_interval  None keeps S from growing. `LossScaler(1, None)` scales nothing: for float32 and bfloat16

    Whether the gradients are finite shows in their norm, which is read anyway where they are clipped:

        scaler.backward(loss)
        scaler.unscale(adam.parameters())
        norm = clip_gradient_norm(adam.parameters(), 1.0)
        if scaler.update(isfinite(norm)):
            adam.step()

    `good_steps` counts the steps since S has changed, `skipped` all that were skipped.

    >>> scaler, x = train.LossScaler(scale=4), Tensor(3.0, requires_grad=True)
    >>> scaler.backward(x * x)
    >>> scaler.unscale([x])
    >>> x.grad.item(), scaler.update(True)
    (6.0, True)
    """

    def __init__(self, scale: float = 2.0**16, growth_interval: int | None = 2000):
        _check_scale(scale)
        if growth_interval is not None and (not isinstance(growth_interval, Integral) or growth_interval < 1):
            raise ValueError(
                f"growth_interval: expected a number of steps, 1 or more, or None, got {growth_interval!r}"
            )
        self.scale, self.growth_interval = float(scale), growth_interval
        self.good_steps = self.skipped = 0

    @property
    def can_shrink(self) -> bool:
        """Whether a smaller S might make the gradients finite."""
        return self.scale > 1

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of S · `loss`, a scalar, in the `grad` of every leaf that led to it."""
        if not self.can_shrink:
            loss.backward()
            return
        with np.errstate(over="ignore", invalid="ignore"):  # `update` handles an overflow; NumPy need not warn of it
            (loss * self.scale).backward()

    def unscale(self, parameters: Iterable[Tensor]) -> None:
        """Divide all gradients by S. They are new tensors, as clipped ones are."""
        if self.scale == 1:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = parameter.grad * (1 / self.scale)

    def update(self, finite: bool) -> bool:
        """Set S for the next step, given whether all gradients are finite; returns whether to take this one.

        Raises FloatingPointError if they are not although S is 1: a smaller S would not help.
        """
        if not finite:
            if not self.can_shrink:
                raise FloatingPointError("gradients are not finite although the loss was not scaled: it has diverged")
            self.scale, self.good_steps, self.skipped = self.scale / 2, 0, self.skipped + 1
            return False
        self.good_steps += 1
        # Greater than the interval if the state was saved by a scaler with a longer one.
        if self.growth_interval is not None and self.good_steps >= self.growth_interval:
            self.scale, self.good_steps = min(2 * self.scale, _MAX_SCALE), 0
        return True

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs, JSON-serializable."""
        return {name: getattr(self, name) for name in _SCALER_STATE}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Load a state of `state_dict`. Raises ValueError if it is not one."""
        absent = [name for name in _SCALER_STATE if name not in saved]
        if absent:
            raise ValueError(f"saved loss scaler: {', '.join(absent)} missing")
        _check_scale(saved["scale"])
        for name in ("good_steps", "skipped"):
            if not isinstance(saved[name], Integral) or saved[name] < 0:
                raise ValueError(f"saved loss scaler: {name}: expected a count, got {saved[name]!r}")
        for name in _SCALER_STATE:
            setattr(self, name, saved[name])


def _check_scale(scale: float) -> None:
    if not isinstance(scale, Real) or not 1 <= float(scale) <= _MAX_SCALE or frexp(scale)[0] != 0.5:
        raise ValueError(
            f"scale: expected a power of two from 1 to 2**24, got {scale!r} (other factors would round gradients)"
        )
