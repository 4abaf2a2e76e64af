"""A text model as layers: an embedding, and after it all that is computed one step at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ...contexts import no_grad
from ...nn import Cell, Dropout, Embedding, Module, Recurrent, Sequential
from ...scan.protocol import StepWrapper, split_output
from ...scan.tracing.traced_array import Untraceable
from ...tensor import Tensor
from ...train import CharacterModel
from ...trees import flatten
from ..errors import InteropError
from .records import Step, no_program, trace_step


class Layer(NamedTuple):
    """A layer: a cell, or a module without a state.

    name     the path of its module
    cell     the name of the module's class
    initial  of each part of the carry the name of the parameter that it begins with, None for zeros
    """

    name: str
    cell: str
    step: Step
    initial: list[str | None]
    is_recurrent: bool


class TextModel(NamedTuple):
    """A model from ids to logits.

    embedding   its name and its module
    parameters  of all of the model, by name
    """

    embedding: tuple[str, Embedding]
    layers: list[Layer]
    parameters: dict[str, Tensor]

    @property
    def dtype(self) -> str:
        return self.embedding[1].W.dtype.name

    @property
    def symbols(self) -> int:
        return self.layers[-1].step.size_of_output


def text_model(model: Module) -> TextModel:
    """The layers of a model, in evaluation mode. InteropError for one that cannot be exported, with the reason."""
    modules = list(_modules(model, ""))
    if len(modules) < 2 or not isinstance(modules[0][1], Embedding):
        raise InteropError("the first layer must be an Embedding, whose ids are symbols, and another must follow it")
    (name, embedding), *rest = modules
    _check_methods(name, embedding, Embedding, "forward")
    parameters = dict(model.named_tensors())
    if embedding.W.dtype.name not in ("float32", "float64"):
        raise InteropError(f"{name}: JavaScript has no {embedding.W.dtype.name}: model.astype('float32') converts it")
    layers: list[Layer] = []
    width = embedding.W.shape[1]
    with model.evaluating():
        for path, module in rest:
            try:
                found = list(_layers(path, module, width, embedding.W, parameters))
            except Untraceable as reason:
                raise no_program(f"{path} ({_name(module)})", reason) from reason
            layers += found
            width = layers[-1].step.size_of_output if layers else width
    if not layers:
        raise InteropError("after the Embedding there is no layer that gives logits")
    return TextModel((name, embedding), layers, parameters)


def _modules(model: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The paths and modules in a row that the model is."""
    prefix = f"{path}." if path else ""
    if isinstance(model, CharacterModel) and not _overridden(model, CharacterModel, "forward"):
        for name in ("embedding", "recurrence", "dropout", "output"):
            yield f"{prefix}{name}", getattr(model, name)
    elif isinstance(model, Sequential) and not _overridden(model, Sequential, "forward"):
        for i, layer in enumerate(model.layers):
            yield from _modules(layer, f"{prefix}layers.{i}")
    elif path:
        yield path, model
    else:
        raise InteropError(
            f"expected a CharacterModel or a Sequential(Embedding, …), got {type(model).__name__}, a module whose "
            "forward may do anything"
        )


def _layers(path: str, module: Any, width: int, like: Tensor, parameters: Mapping[str, Tensor]) -> Iterator[Layer]:
    """The layers of one module: none for a dropout, which does nothing in evaluation; of a recurrent one its cells."""
    if isinstance(module, Dropout) and not _overridden(module, Dropout, "forward"):
        return
    if isinstance(module, Recurrent):
        yield from _cells(path, module, like, parameters)
    else:
        yield _feedforward(path, module, width, like, parameters)


def _cells(path: str, module: Recurrent, like: Tensor, parameters: Mapping[str, Tensor]) -> Iterator[Layer]:
    _check_methods(path, module, Recurrent, "forward")
    reason = ""
    if module.bidirectional:
        reason = "it is bidirectional, and a text is written from its beginning to its end"
    elif module.reverse:
        reason = "it reads from the end, and a text is written from its beginning"
    if reason:
        raise InteropError(f"{path} ({_name(module)}) cannot be exported: {reason}")
    names = {id(tensor): name for name, tensor in parameters.items()}
    for i, cell in enumerate(module.cells):
        name = f"{path}.cells.{i}"
        _check_methods(name, cell, Cell, "initial_state", "_initial")
        x = _zeros(like, 1, 1, cell.input_size)
        step, xs = cell.scan_arguments(x)
        if flatten(xs)[0] is not x:
            raise InteropError(f"{name} cannot be exported: its scan_arguments changes x before the steps")
        step = _Residual(step) if module.residual and i else step
        traced = trace_step(step, cell.initial_state(1), xs, cell.states, parameters, name)
        initial = [_initial(name, cell, state, size, names) for state, size in zip(cell.states, cell.state_sizes)]
        yield Layer(name, type(cell).__name__, traced, initial, True)


def _initial(path: str, cell: Cell, state: str, size: int, names: Mapping[int, str]) -> str | None:
    """The name of the parameter that a state begins with, None for zeros."""
    learned = vars(cell).get(f"{state}_0")
    if learned is None:
        return None
    if id(learned) not in names or learned.data.size != size:
        raise InteropError(f"{path} cannot be exported: its {state}_0 is no parameter of {size} numbers")
    return names[id(learned)]


def _overridden(module: Any, base: type, *methods: str) -> list[str]:
    """Those of these methods of a module that are not the base class's, which a script stands for."""
    methods = ("__call__", *methods)
    return [name for name in methods if getattr(getattr(module, name), "__func__", None) is not getattr(base, name)]


def _check_methods(path: str, module: Any, base: type, *methods: str) -> None:
    for name in _overridden(module, base, *methods):
        raise InteropError(f"{path} ({_name(module)}) cannot be exported: its {name} is its own")


class _Residual(StepWrapper):
    """A step whose output has its input added."""

    def __call__(self, carry: Any, x: Any) -> Any:
        new, y = split_output(self.step(carry, x), carry)
        return new, y + flatten(x)[0]


class _Stateless(StepWrapper):
    """A module as a step, whose carry stays as it is."""

    def __call__(self, carry: Any, x: Any) -> Any:
        return carry, self.step(x)


def _feedforward(path: str, module: Any, width: int, like: Tensor, parameters: Mapping[str, Tensor]) -> Layer:
    x = Tensor(np.random.default_rng(0).standard_normal((3, 1, width)), dtype=like.dtype, device=like.device)
    with no_grad():
        if not _is_of_one_step(module, x):
            raise InteropError(f"{path} ({_name(module)}) cannot be exported: it is no function of one step at a time")
    traced = trace_step(_Stateless(module), _zeros(like, 1, 1), x, ("",), parameters, path)
    return Layer(path, _name(module), traced._replace(carry=[], next=[]), [], False)


def _is_of_one_step(module: Any, x: Tensor) -> bool:
    """Whether a module gives, of all steps of x at once, what it gives of each."""
    at_once = module(x)
    if not isinstance(at_once, Tensor) or at_once.shape[:-1] != x.shape[:-1]:
        return False
    one_by_one = [module(x[t]).numpy() for t in range(len(x))]
    return np.allclose(at_once.numpy(), one_by_one, rtol=1e-4, atol=1e-4)


def _zeros(like: Tensor, *shape: int) -> Tensor:
    return Tensor(np.zeros(shape), dtype=like.dtype, device=like.device)


def _name(module: Any) -> str:
    return getattr(module, "__name__", type(module).__name__)
