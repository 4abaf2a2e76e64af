"""Parameter groups and settings of optimizers, read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from ..tensor import Tensor

Parameters = Iterable[Tensor] | Iterable[Mapping[str, Any]]
Group = tuple[tuple[Tensor, ...], dict[str, Any]]
#: The range of a setting: a number with low ≤ number < high, a list of such numbers, or an instance of a type.
Allowed = tuple[float, float] | list[tuple[float, float]] | type

#: Arguments of PyTorch's and Keras's optimizers and schedules, and what to write here.
KEYWORDS = {
    "params": "parameters",
    "learning_rate": "lr",
    **dict.fromkeys("beta_1 beta_2 b1 b2".split(), "betas=(0.9, 0.999), both"),
    "num_training_steps": "total_steps",
    "epsilon": "eps",
    "rho": "alpha",
    "initial_accumulator": "initial_accumulator_value",
    "clipnorm": "optim.clip_gradient_norm(parameters, max_norm) between backward and step",
    "global_clipnorm": "optim.clip_gradient_norm(parameters, max_norm) between backward and step",
    "clipvalue": "optim.clip_gradient_value(parameters, max_value) between backward and step",
    "maximize": "a minus sign before the loss",
    "decay": "a schedule, such as optim.WarmupCosine(optimizer, total_steps)",
    "foreach": "nothing: updates run in place, on a GPU in one kernel for each parameter",
    "fused": "nothing: updates run in place, on a GPU in one kernel for each parameter",
    "capturable": "nothing",
    "line_search": "line_search_fn",
    "step_size": "every",
    "gamma": "decay",
    "T_max": "total_steps",
    "eta_min": "floor, a fraction of the lr",
    "factor": "decay",
    "min_lr": "floor, a fraction of the lr",
    "threshold_mode": "relative=True or False",
    "max_lr": "the lr of the optimizer, which is the peak",
    "pct_start": "rise",
    "div_factor": "start=1 / div_factor",
    "final_div_factor": "end=start / final_div_factor",
    "last_epoch": "schedule.load_state_dict(…)",
}


def read_groups(parameters: Parameters) -> list[Group]:
    """The groups as (tensors, settings); tensors alone are one group.

    Raises TypeError or ValueError that names the group and the index of a parameter that cannot be optimized.
    """
    _check_iterable(parameters, "parameters")
    entries: list[Any] = list(parameters)
    if not any(isinstance(entry, Mapping) for entry in entries):
        entries = [{"parameters": entries}]
    groups: list[Group] = []
    labels: dict[int, str] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or "parameters" not in entry:
            hint = (
                ' with "params": write "parameters" for it' if isinstance(entry, Mapping) and "params" in entry else ""
            )
            raise TypeError(
                f'group {number}: expected a dictionary with "parameters", got {type(entry).__name__}{hint}'
            )
        _check_iterable(entry["parameters"], f'group {number}: "parameters"')
        tensors = tuple(entry["parameters"])
        if not tensors:
            raise ValueError(f"group {number}: no parameters (was the iterator used up before?)")
        for index, tensor in enumerate(tensors):
            label = f"group {number}, parameter {index}"
            _check_parameter(tensor, label)
            if id(tensor) in labels:
                raise ValueError(f"{label} is {labels[id(tensor)]} again: it would be updated twice per step")
            labels[id(tensor)] = label
        groups.append((tensors, {name: value for name, value in entry.items() if name != "parameters"}))
    return groups


def _check_iterable(parameters: Any, label: str) -> None:
    if callable(parameters) and getattr(parameters, "__name__", "") in ("parameters", "named_parameters"):
        raise TypeError(f"{label}: {parameters.__name__} is a method: call it, model.parameters()")
    if isinstance(parameters, (Tensor, Mapping)) or not isinstance(parameters, Iterable):
        raise TypeError(
            f"{label}: expected a list of tensors or of groups, got {type(parameters).__name__} "
            "(a module's are model.parameters(); a single tensor or group goes into a list)"
        )


def _check_parameter(tensor: Any, label: str) -> None:
    if not isinstance(tensor, Tensor):
        hint = " (did you mean parameters(), not named_parameters()?)" if isinstance(tensor, tuple) else ""
        if hasattr(tensor, "named_parameters"):
            hint = " (the parameters of modules are [*first.parameters(), *second.parameters()])"
        raise TypeError(f"{label}: expected a Tensor, got {type(tensor).__name__}{hint}")
    if not tensor.is_leaf:
        raise ValueError(f"{label}, of shape {tensor.shape}, is the result of an op: only leaves can be optimized")
    if not tensor.requires_grad and not tensor.is_frozen:
        raise ValueError(
            f"{label}, of shape {tensor.shape}, does not require a gradient and would never be updated: "
            "set requires_grad=True"
        )


def read_setting(label: str, value: Any, allowed: Allowed) -> Any:
    """`value` if it is allowed, numbers as Python floats, which are weak-typed: an array beside one keeps its dtype.

    Raises TypeError for a value of another type, ValueError for a number out of range.
    """
    if isinstance(allowed, list):
        if not isinstance(value, (tuple, list)) or len(value) != len(allowed):
            raise TypeError(f"{label}: expected {len(allowed)} numbers, got {value!r}")
        return tuple(read_setting(label, part, limits) for part, limits in zip(value, allowed, strict=True))
    if isinstance(allowed, type):
        if not isinstance(value, allowed):
            raise TypeError(f"{label}: expected a {allowed.__name__}, got {value!r}")
        return value
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{label}: expected a number, got {value!r}")
    number, (low, high) = float(value), allowed
    if not low <= number < high:
        raise ValueError(f"{label}: expected a number of at least {low} and below {high}, got {value}")
    return number
