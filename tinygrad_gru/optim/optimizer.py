"""Optimizer: base class with parameter groups, their settings, and the state of every parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, ClassVar

from .. import native
from ..backend import (
    astype,
    backend_of,
    copy_of,
    dtype_name,
    is_floating,
    is_half,
    move,
    to_host,
    with_memory_report,
    xp_of,
)
from ..hints import OPTIMIZER, missing_attribute
from ..keywords import AnsweredKeywords
from ..tensor import Tensor
from .elementwise import Scratch, SymbolicArray, UpdateRule
from .groups import KEYWORDS, Allowed, Parameters, read_groups, read_setting
from .update_kernel import NativeUpdates

#: Elements of all parameters from which on native code is worth it: NumPy has updated fewer before a library is loaded.
_LEAST_NATIVE = 16384


class Optimizer(AnsweredKeywords):
    """Base class of optimizers. `step()` updates all parameters that have a gradient, in place.

    parameters  tensors that require a gradient; or groups, dictionaries with "parameters" and settings
    settings    defaults of the hyperparameters of a group

    A new optimizer defines its rule as equations on the parameter p, its gradient g and its state, whose arrays start
    at zero. The values that the rule returns are written back. Settings are Python scalars there, and `step` counts the
    updates of that parameter, from 1. `allowed` gives the range of each setting: numbers with low ≤ number < high,
    lists of such numbers, or instances of a type.

    >>> class Momentum(optim.Optimizer):
    ...     allowed = {"lr": (0, float("inf")), "momentum": (0, 1)}
    ...
    ...     def __init__(self, parameters, lr=0.1, momentum=0.9):
    ...         super().__init__(parameters, lr=lr, momentum=momentum)
    ...
    ...     @staticmethod
    ...     def rule(p, g, velocity, *, step, lr, momentum):
    ...         velocity = momentum * velocity + g
    ...         return {"p": p - lr * velocity, "velocity": velocity}
    >>> Momentum(nn.Linear(2, 3).parameters(), momentum=0.8)
    Momentum(parameters=2, lr=0.1, momentum=0.8)

    The settings in `groups` may be changed between steps (a schedule sets "lr"). State is indexed by the position of a
    parameter among all: `state[position]` are its arrays, `updates[position]` is how often it was updated. Parameters
    in half precision are updated in float32, which is the dtype of their state.
    """

    _keyword_hints = KEYWORDS
    rule: ClassVar[Callable[..., dict[str, SymbolicArray]]]
    allowed: ClassVar[Mapping[str, Allowed]]

    def __new__(cls, *inputs: Any, **settings: Any) -> Any:
        made = super().__new__(cls, *inputs, **settings)
        if settings and not inputs and "parameters" not in settings:
            raise TypeError(f"{cls.__name__}: parameters are missing: write {cls.__name__}(model.parameters(), …)")
        return made

    def __init__(self, parameters: Parameters, **settings: Any):
        signature = inspect.signature(self.rule).parameters.values() if hasattr(self, "rule") else ()
        self._arrays = tuple(x.name for x in signature if x.kind is x.POSITIONAL_OR_KEYWORD)
        self.groups: list[dict[str, Any]] = [
            {"parameters": members, **self._checked({**settings, **group_settings}, f"group {number}")}
            for number, (members, group_settings) in enumerate(read_groups(parameters))
        ]
        self.steps = 0
        self.state: list[dict[str, Any]] = [{} for _ in self.parameters()]
        self.updates = [0] * len(self.state)
        self._scratch = Scratch()

    def __getattr__(self, name: str) -> Any:
        if name in OPTIMIZER:
            raise missing_attribute(repr(type(self).__name__), name, OPTIMIZER)
        return object.__getattribute__(self, name)  # the error that led here, also one in a property

    def __repr__(self) -> str:
        groups = [{**group, "parameters": len(group["parameters"])} for group in self.groups]
        lines = [", ".join(f"{name}={value}" for name, value in group.items()) for group in groups]
        return f"{type(self).__name__}({'; '.join(lines)})"

    def parameters(self) -> list[Tensor]:
        """The parameters of all groups; their positions are the indices of this list."""
        return [parameter for group in self.groups for parameter in group["parameters"]]

    @property
    def lr(self) -> float:
        """The learning rate of all groups; settable. Those of single groups are `groups[i]["lr"]`."""
        rates = {group["lr"] for group in self.groups}
        if len(rates) > 1:
            raise ValueError(f'lr: the groups have {sorted(rates)}: write optimizer.groups[i]["lr"]')
        return rates.pop()

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.groups:
            group["lr"] = read_setting("lr", value, self.allowed["lr"])

    learning_rate = lr

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """PyTorch's name of `groups`."""
        return self.groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all parameters to None, or else to zeros."""
        for parameter in self.parameters():
            had_gradient = parameter.grad is not None
            parameter.zero_grad()
            if had_gradient and not set_to_none:
                parameter.grad = Tensor(xp_of(parameter.data).zeros_like(parameter.data))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Apply the rule once to every parameter. One without a gradient keeps its value and its state.

        A closure, which computes the loss and its gradients, is called before; what it returns is returned.
        """
        loss = None if closure is None else closure()
        position, elements = 0, sum(p.size for p in self.parameters() if p.grad is not None)
        waiting = NativeUpdates() if elements >= _LEAST_NATIVE and not native.problem() else None
        try:
            for number, group in enumerate(self.groups):
                settings = self._settings(group, f"group {number}")
                rules: dict[int, UpdateRule] = {}  # more than one if some parameters had no gradient at times
                for parameter in group["parameters"]:
                    if parameter.grad is not None:
                        self._update(position, parameter, parameter.grad, settings, rules, waiting)
                    position += 1
        except MemoryError as error:  # in the first step, which allocates the state
            raise with_memory_report(error) from error
        finally:
            if waiting is not None:
                waiting.run()
        self.steps += 1
        return loss

    def _update(
        self, position: int, p: Tensor, g: Tensor, settings: Mapping[str, Any], rules: dict[int, UpdateRule],
        waiting: NativeUpdates | None,
    ) -> None:  # fmt: skip
        step = self.updates[position] + 1
        if step not in rules:
            rules[step] = self._update_rule(step, settings)
        state, backend, half = self.state[position], backend_of(p.data), is_half(p.dtype)
        data, gradient = (astype(x.data, "float32") if half else x.data for x in (p, g))
        for name in rules[step].state:
            if name in state:
                state[name] = move(state[name], backend)  # if the model was moved to another backend
            else:
                state[name] = backend.xp.full_like(data, self.initial(name, settings))
        try:
            rules[step].run({"p": data, "g": gradient, **state}, self._scratch, None if half else waiting)
            if half:
                p.data[...] = astype(data, p.dtype)
        finally:
            p.mark_changed()
        self.updates[position] = step

    def _update_rule(self, step: int, settings: Mapping[str, Any]) -> UpdateRule:
        return UpdateRule(self.rule, self._arrays, {"step": step, **settings})

    def initial(self, name: str, settings: Mapping[str, Any]) -> float:
        """The initial value of the state array `name`."""
        return 0.0

    def _settings(self, group: Mapping[str, Any], label: str) -> dict[str, Any]:
        return self._checked({name: value for name, value in group.items() if name != "parameters"}, label)

    def _checked(self, settings: Mapping[str, Any], label: str) -> dict[str, Any]:
        """The settings as Python scalars. Raises TypeError or ValueError that names the wrong setting."""
        if settings.keys() != self.allowed.keys():
            names = sorted(settings.keys() ^ self.allowed.keys())
            difference = ", ".join(f"{x} (here it is {KEYWORDS[x]})" if x in KEYWORDS else x for x in names)
            known = ", ".join(self.allowed)
            raise ValueError(f"{label}: {type(self).__name__} takes {known}; missing or unknown: {difference}")
        values = {name: read_setting(f"{label}: {name}", value, self.allowed[name]) for name, value in settings.items()}
        self.check(**values)
        return values

    def check(self, **settings: Any) -> None:
        """Raise ValueError if these settings, each valid by itself, are not valid together."""

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs besides the parameters, as copies that later steps do not change.

        groups  JSON-serializable dictionaries: settings, the optimizer's class, and shapes of the parameters
        state   "<position>.<name>" → host array
        steps   how often `step` was called
        """
        groups = []
        updates = iter(self.updates)
        for number, group in enumerate(self.groups):
            settings = self._settings(group, f"group {number}")
            settings = {name: list(x) if isinstance(x, tuple) else x for name, x in settings.items()}
            counts = [next(updates) for _ in group["parameters"]]
            groups.append({**self._identity(group), "updates": counts, **settings})
        state = {
            f"{position}.{name}": copy_of(to_host(array))
            for position, arrays in enumerate(self.state)
            for name, array in arrays.items()
        }
        return {"groups": groups, "state": state, "steps": self.steps}

    def _identity(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """What a saved group must have in common with this one."""
        return {"optimizer": type(self).__name__, "shapes": [list(p.shape) for p in group["parameters"]]}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Resume from a `state_dict`, bit for bit. The settings of the groups are loaded too.

        Raises ValueError, before anything is changed, if it is incomplete, or of another optimizer or parameters of
        other shapes. Arrays are converted to the dtype (float32 for half precision) and the backend of their parameter.
        """
        absent = {"groups", "state", "steps"} - set(saved)
        if absent:
            raise ValueError(f"saved optimizer: no {', '.join(sorted(absent))}; is it an optimizer's state?")
        if len(saved["groups"]) != len(self.groups):
            raise ValueError(f"saved optimizer: {len(saved['groups'])} groups, expected {len(self.groups)}")
        settings = [
            self._read_group(group, entry, f"saved group {number}")
            for number, (group, entry) in enumerate(zip(self.groups, saved["groups"], strict=True))
        ]
        updates = [count for entry in saved["groups"] for count in entry["updates"]]
        for count in (saved["steps"], *updates):
            if not isinstance(count, Integral) or count < 0:
                raise ValueError(f"saved optimizer: steps and updates are counts, from 0 on, got {count!r}")
        state = self._read_state(saved["state"], settings, updates)
        for group, values in zip(self.groups, settings, strict=True):
            group.update(values)
        self.steps, self.updates, self.state = saved["steps"], updates, state

    def _read_group(self, group: Mapping[str, Any], entry: Mapping[str, Any], label: str) -> dict[str, Any]:
        """The settings of a saved group, after a check that it is of this optimizer and these parameters."""
        identity = self._identity(group)
        for name, expected in identity.items():
            if entry.get(name) != expected:
                raise ValueError(f"{label}: expected {name} {expected}, got {entry.get(name)}")
        if len(entry.get("updates", ())) != len(group["parameters"]):
            raise ValueError(f"{label}: expected updates of {len(group['parameters'])} parameters")
        return self._checked({k: v for k, v in entry.items() if k not in identity and k != "updates"}, label)

    def _read_state(self, saved: Mapping[str, Any], settings: list[dict[str, Any]], updates: list[int]) -> list[dict]:
        """The saved arrays as `self.state`; ValueError unless all that the rule needs are there, and no others."""
        state: list[dict[str, Any]] = []
        unknown = dict(saved)
        parameter_settings = [
            values for group, values in zip(self.groups, settings, strict=True) for _ in group["parameters"]
        ]
        for position, parameter in enumerate(self.parameters()):
            arrays = {}
            count = updates[position]
            needed = self._update_rule(count, parameter_settings[position]).state if count else ()
            for name in self._arrays[2:]:
                key = f"{position}.{name}"
                if key in unknown:
                    arrays[name] = _state_array(key, unknown.pop(key), parameter)
                elif name in needed:
                    raise ValueError(f"saved optimizer: {key} is missing")
            state.append(arrays)
        if unknown:
            raise ValueError(f"saved optimizer: unknown state {', '.join(sorted(unknown))}")
        return state


def _state_array(key: str, value: Any, parameter: Tensor) -> Any:
    array = to_host(value)
    if array.shape != parameter.shape or not is_floating(array.dtype):
        raise ValueError(
            f"saved optimizer: {key} must hold floating-point numbers in shape {parameter.shape}, "
            f"got {array.dtype} in shape {array.shape}"
        )
    dtype = "float32" if is_half(parameter.dtype) else dtype_name(parameter.dtype)
    return copy_of(backend_of(parameter.data).asarray(array.astype(dtype)))
