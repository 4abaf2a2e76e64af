"""Names: what the local variables of a step held when it returned, and the line of source that computed each value.

A frame that somebody holds keeps its variables when its function has returned. So it is enough to hold the frame of the
step, which is found on the stack when the first op of the step runs: no profiler and no trace function is set, and
those of a debugger or of coverage go on as before.
"""

from __future__ import annotations

import dis
import inspect
import linecache
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from types import CodeType, FrameType
from typing import Any, NamedTuple

from ..closures import definition_line, is_library
from ..contexts import setting
from ..hints import did_you_mean
from ..inspector import Inspector
from ..tape import inspector
from ..tensor import Tensor
from ..trees import flatten, leaves, leaves_like
from .ir import Value
from .protocol import StepWrapper, owner_and_function, split_output, users_function


class Place(NamedTuple):
    """A place in a source file.

    columns  where the expression begins and ends in its line, in bytes; None where Python does not say (before 3.11),
             or where it has several lines
    """

    filename: str
    line: int
    columns: tuple[int, int] | None = None

    @property
    def text(self) -> str:
        """The expression, or else its line; empty without source."""
        line = linecache.getline(self.filename, self.line)
        if self.columns is None:
            return line.strip()
        begin, end = self.columns
        return line.encode()[begin:end].decode()

    def __str__(self) -> str:
        return f"{os.path.basename(self.filename)}:{self.line}: {self.text}"


class StepNames(NamedTuple):
    """The names in the graph of a traced step (`trace_with_names`).

    values  by the name of a local variable, in the order of the code, the value that it had when the step returned;
            then the parts of those that are trees (`carry[0]`); and by `h'` the next state of h
    places  by value, where the step's source computed it
    """

    values: dict[str, Value]
    places: dict[Value, Place]

    def of(self) -> dict[Value, str]:
        """The name of each value that has one: of several the first, so an argument keeps its name."""
        return {value: name for name, value in reversed(self.values.items())}


class WatchedStep(StepWrapper):
    """A step that knows, when it has been called, the Tensors that its local variables held.

    found  by name; of a tuple its parts, `carry[0]`; the next state of h is `h'`
    marks  with `places`, after each op the number of values in the graph, and the op's place in the step's source
    """

    def __init__(self, step: Callable, places: bool = False):
        super().__init__(step)
        self.places = places
        self.found: dict[str, Tensor] = {}
        self.marks: list[tuple[int, Place]] = []

    def __call__(self, carry: Any, x: Any) -> Any:
        watcher = _Watcher(inspector.get(), sys._getframe(), _codes(self.step), self.places)
        try:
            with setting(inspector, watcher):
                output = self.step(carry, x)
            self.found = _tensors(watcher.variables() or _arguments(self.step, carry, x))  # where no op ran
        finally:
            watcher.boundary = watcher.frame = None  # frames keep their variables, and the callers, alive
        self.marks = watcher.marks
        new = flatten(split_output(output, carry)[0])
        self.found |= {f"{name}'": part for name, part in zip(_state_names(self.step, carry, self.found), new)}
        return output


class RecordedStep(WatchedStep):
    """A step whose y is the step's own, and the values of local variables by name."""

    def __init__(self, step: Callable, names: Sequence[str]):
        super().__init__(step)
        self.names = names

    def __call__(self, carry: Any, x: Any) -> Any:
        output = super().__call__(carry, x)
        new, y = split_output(output, carry)
        if leaves_like(carry, new) is None:
            return output  # an error, which `scan` explains
        return new, (y, {name: self._recorded(name) for name in self.names})

    def _recorded(self, name: str) -> Tensor:
        if name not in self.found:
            function = users_function(self)
            raise ValueError(
                f"record: the step {getattr(function, '__qualname__', '')} has no Tensor named {name!r}"
                f"{did_you_mean(name, self.found)}; it has {', '.join(self.found)} ({definition_line(function)})"
            )
        return self.found[name]


def closed_over_tensors(step: Callable) -> dict[str, Tensor]:
    """The tensors of the object whose method the step is, or those that a function closes over, by name."""
    tensors: dict[str, Tensor] = dict(getattr(getattr(step, "__self__", None), "named_tensors", tuple)())
    if inspect.isfunction(step):
        outside = inspect.getclosurevars(step)
        variables = {**outside.globals, **outside.nonlocals}
        tensors |= {name: value for name, value in variables.items() if isinstance(value, Tensor)}
    return tensors


def record_names(record: Any) -> tuple[str, ...]:
    """The names that an argument `record` asks for: a name, or several."""
    names = (record,) if isinstance(record, str) else tuple(record) if isinstance(record, Iterable) else (record,)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"record: expected names of local variables of the step, such as ('r', 'z'), got {record!r}")
    return names


class _Unobserved(Inspector):
    """The inspector that sees nothing."""

    every_step = False


class _Watcher(Inspector):
    """The inspector that finds the frame of a step; what else it sees it passes on to the `outer` one.

    boundary  the frame that calls the step
    codes     of the step, see `_codes`
    frame     of the step, once an op has run in it
    """

    def __init__(self, outer: Inspector | None, boundary: FrameType, codes: list[CodeType], places: bool):
        super().__init__()
        self.before, self.outer = outer, outer or _Unobserved()
        self.boundary: FrameType | None = boundary
        self.codes, self.places = codes, places
        self.frame: FrameType | None = None
        self.is_found = False
        self.marks: list[tuple[int, Place]] = []
        self.every_step, self.recomputes = self.outer.every_step, self.outer.recomputes
        self.path, self.modules, self.scope = self.outer.path, self.outer.modules, self.outer.scope  # type: ignore[method-assign]
        self.forward, self.backward, self.apply_vjp = self.outer.forward, self.outer.backward, self.outer.apply_vjp  # type: ignore[method-assign]
        self.accumulating, self.leaf_gradient = self.outer.accumulating, self.outer.leaf_gradient  # type: ignore[method-assign]

    def run(self, op: Any, inputs: tuple, settings: dict[str, Any]) -> Any:
        if not self.is_found:
            self._find(sys._getframe(1))
            if self.is_found and not self.places:
                inspector.set(self.before)  # all is known: the other ops run as without a watcher
        result = self.outer.run(op, inputs, settings)
        if self.frame is not None and hasattr(result, "graph"):
            self.marks.append((len(result.graph.values), place_of(self.frame)))
        return result

    def _find(self, frame: FrameType | None) -> None:
        """Find the frame of the step: the outermost one that runs its code. That of a decorator will do until then."""
        running: dict[CodeType, FrameType] = {}
        while frame is not None and frame is not self.boundary:
            running[frame.f_code] = frame
            frame = frame.f_back
        for code in self.codes:
            self.frame = running.get(code, self.frame)
        self.is_found = not running.keys().isdisjoint(self.codes[1:])

    def variables(self) -> dict[str, Any]:
        """The variables of the step's own frame, in the order of the code."""
        if self.frame is None:
            return {}
        code, values = self.frame.f_code, self.frame.f_locals
        return {name: values[name] for name in (*code.co_varnames, *code.co_cellvars) if name in values}


def _codes(step: Callable) -> list[CodeType]:
    """The code of the step; inside its decorators; and where one of our cells has options, that of their equations."""
    owner, function = owner_and_function(step)
    functions = [function, inspect.unwrap(function)]
    if is_library(getattr(function, "__module__", None)):
        functions.append(getattr(type(owner), "step_with_options", None))
    return [one.__code__ for one in functions if hasattr(one, "__code__")]


def _state_names(step: Callable, carry: Any, found: dict[str, Tensor]) -> Sequence[str]:
    """The names of the parts of the carry: of a cell's states; of variables (`h, c = carry`); paths in a parameter."""
    owner, _ = owner_and_function(step)
    names: list[str] = list(getattr(owner, "states", ()))
    if not names:
        for path, part in [one for name in _parameters(step)[:1] for one in leaves(carry, name)]:
            held = (name for name, value in found.items() if value is part and name not in names)
            names.append(next(held, path))  # in turn, for one Tensor may be two parts
    return names


def _arguments(step: Callable, *values: Any) -> dict[str, Any]:
    """The arguments of a step, by name, but for those to which it assigns another value."""
    instructions = [i for code in _codes(step) for i in dis.get_instructions(code)]
    writes = [i.argval for i in instructions if i.opname.startswith(("STORE", "DELETE"))]
    assigned = {name for names in writes for name in (names if isinstance(names, tuple) else (names,))}
    return {name: value for name, value in zip(_parameters(step), values) if name not in assigned}


def _parameters(step: Callable) -> list[str]:
    try:
        return list(inspect.signature(step).parameters)
    except (TypeError, ValueError):  # of a callable without a signature
        return []


def _tensors(variables: dict[str, Any]) -> dict[str, Tensor]:
    """The Tensors among variables, then those in variables that are trees."""
    found = {name: value for name, value in variables.items() if isinstance(value, Tensor)}
    for name, value in variables.items():
        with suppress(TypeError, RecursionError):  # a set, or a list that contains itself
            found |= {path: part for path, part in leaves(value, name) if isinstance(part, Tensor)}
    return found


def place_of(frame: FrameType) -> Place:
    """The place of the expression that a frame is executing."""
    code = frame.f_code
    if sys.version_info >= (3, 11):
        line, end, begin_column, end_column = next(islice(code.co_positions(), frame.f_lasti // 2, None))
        if line is not None and line == end and begin_column is not None and end_column is not None:
            return Place(code.co_filename, line, (begin_column, end_column))
    return Place(code.co_filename, frame.f_lineno)
