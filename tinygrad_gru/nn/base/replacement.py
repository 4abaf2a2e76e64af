"""What may replace a parameter or a submodule as the value of an attribute."""

from __future__ import annotations

from typing import Any

from ...tensor import Tensor


def is_parameter(tensor: Tensor) -> bool:
    """Whether it is a leaf that requires a gradient, or did until it was frozen."""
    return tensor.is_leaf and (tensor.requires_grad or tensor.is_frozen)


def check_replacement(label: str, replaced: Any, value: Any) -> None:
    """Raise TypeError if a parameter, a buffer or a submodule would be lost to a value that is none.

    None and modules may replace all.

    label     the attribute, such as "Linear.W"
    replaced  its value so far, a Module or a Tensor
    """
    if value is None or hasattr(value, "named_tensors"):
        return
    if not isinstance(replaced, Tensor):
        if not isinstance(value, (list, tuple, dict)):
            raise TypeError(
                f"{label} is a module, and {_kind(value)} would take its place: another name for an output? "
                "nn.Identity() for no layer, nn.Sequential(function) for a function; or `del` it first"
            )
    elif is_parameter(replaced) and not (isinstance(value, Tensor) and is_parameter(value)):
        raise TypeError(
            f"{label} is a parameter, and {_kind(value)} would take its place, {_advice(label, value)}; or `del` it "
            "first"
        )
    elif hasattr(value, "dtype") and not isinstance(value, Tensor):
        raise TypeError(
            f"{label} is a Tensor, and {_kind(value)} would take its place, which would not be saved and moved along: "
            f"write m.{label.rpartition('.')[2]} = Tensor(array); or `del` it first"
        )


def _advice(label: str, value: Any) -> str:
    if isinstance(value, Tensor) and not value.is_leaf:
        return (
            "which does not follow what it was computed from: compute it in forward, or give it for one call by "
            "with_tensors; an output layer with an embedding's transpose is nn.TiedLinear(embedding)"
        )
    name = label.rpartition(".")[2]
    return (
        f"which would not be trained: for new values write `m.{name}[:] = …` under no_grad(), for a new parameter "
        f"`m.{name} = nn.Parameter(…)`"
    )


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return "a Tensor without requires_grad" if value.is_leaf else "a computed Tensor"
    return f"a value of type {type(value).__name__}"
