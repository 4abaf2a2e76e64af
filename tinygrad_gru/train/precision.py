"""Mixed precision: a model works in 16 bits, its parameters are kept in 32."""

from __future__ import annotations

from typing import Any

from ..backend import as_dtype, astype, is_floating
from ..nn import Module
from ..ops import astype as recorded_astype
from ..tensor import Tensor
from ..trees import map_leaves

#: In what a model can be run: its own float32, or 16 bits, in which it runs on casts of its parameters.
PRECISIONS = ("float32", "float16", "bfloat16")


def mixed_precision(model: Module, precision: str) -> Module:
    """`model` run in float16 or bfloat16 (see `MixedPrecision`); in float32 it is the model itself.

    Raises ValueError for another precision, and for bfloat16 where the model's backend does not have it.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    return model if precision == "float32" else MixedPrecision(model, precision)


class MixedPrecision(Module):
    """A model that works in 16 bits while its parameters stay in 32 (Micikevicius et al. 2018).

        y = float32(model(dtype(x); dtype(θ)))

    Called as the model is. At every call a copy of the model, with casts of its floating-point tensors, runs on casts
    of what it is given, and what it returns is made float32 again: a loss, which is to follow, and a state that is
    carried on are as precise as ever. A cast stands at the place of its parameter on the tape, so that gradients arrive
    at the parameter itself, in float32, and an optimizer of the model's parameters knows nothing of all this.

    In float16 gradients below 6e-8 are 0 and above 65504 infinite: they want a `LossScaler`. bfloat16 has the range of
    float32 and needs none; not every backend has it. Attributes that the model sets while it runs are lost.
    """

    def __init__(self, model: Module, dtype: str):
        self.model, self.dtype = model, dtype
        self._copy = _Copy(model)
        for _, tensor in model.named_tensors():
            try:
                as_dtype(tensor.data, dtype)
            except TypeError as error:
                raise ValueError(
                    f"precision: {tensor.device!r} has no {dtype!r}, expected 'float32' or 'float16' there (was the "
                    "model to be on a GPU, or is the package ml_dtypes missing?)"
                ) from error

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        if not self._copy.is_of(self.model):
            self._copy = _Copy(self.model)
        self._copy.cast(self.dtype)
        inputs, settings = _cast((inputs, settings), self.dtype)
        return _cast(self._copy.module(*inputs, **settings), "float32")

    def describe(self) -> str:
        return self.dtype


class _Copy:
    """A copy of a model, in which other tensors take the place of the floating-point ones.

    It outlives a call, and so do the traces of its recurrences, which are kept by object.
    """

    def __init__(self, model: Module):
        floats = {name: tensor for name, tensor in model.named_tensors() if _is_floating(tensor)}
        casts = {name: Tensor.from_node(tensor.data, tensor.node) for name, tensor in floats.items()}
        self.module = model.with_tensors(casts)
        self._pairs = [(tensor, casts[name]) for name, tensor in floats.items()]
        self._attributes = _attributes(model)

    def is_of(self, model: Module) -> bool:
        """Whether nothing in the model, its training mode for one, has been set anew since it was copied."""
        now = _attributes(model)
        return len(now) == len(self._attributes) and all(a is b for a, b in zip(now, self._attributes))

    def cast(self, dtype: str) -> None:
        """Take the values that the parameters have now."""
        for tensor, cast in self._pairs:
            cast._data, cast.node = astype(tensor.data, dtype), tensor.node


def _attributes(model: Module) -> list[Any]:
    """The values of all attributes of all modules, and what stands in them if they are lists."""
    values = [value for _, module in model.named_modules() for value in vars(module).values()]
    return [*values, *(item for value in values if isinstance(value, (list, tuple)) for item in value)]


def _cast(value: Any, dtype: str) -> Any:
    """Floating-point arrays and Tensors in that dtype, alone or in containers; anything else as it is."""
    return map_leaves(lambda leaf: recorded_astype(leaf, dtype=dtype) if _is_floating(leaf) else leaf, value)


def _is_floating(value: Any) -> bool:
    array = value.data if isinstance(value, Tensor) else value
    return hasattr(array, "dtype") and is_floating(array.dtype)
