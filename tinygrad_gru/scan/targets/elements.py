"""The arithmetic of one array element as text, in Python, CUDA C++ and JavaScript.

    expression(v38, ["v36", "v37"], PYTHON)         v36 + v37
    expression(v38, ["v36", "v37"], JAVASCRIPT)     Math.fround(v36 + v37)

Loops, kernels and update rules of optimisers are written by it, so each operation has one line per language here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...backend import is_half
from ...backend.duck_array import COMPARISONS
from ..ir import Value
from ..tracing.traced_array import Untraceable

#: The operations on integers and on booleans, by the kind of dtype.
_INTEGER_OPERATIONS = {
    "i": set("add subtract multiply floor_divide remainder negative maximum minimum abs where astype".split()),
    "b": {"where", "astype", "logical_not"},
}


class Language(NamedTuple):
    """A language: the text of the arithmetic of an element.

    operations  by name, or by name and dtype: the text, with {0}, {1}, {2} for the operands and {dtype} for the dtype
                that is computed in
    casts       by dtype: the conversion of {0} to it; without an entry the language does not have the dtype
    results     by dtype: what rounds or wraps a result {0} where the language's own operators do not
    literals    by their texts in Python: the constants that the language writes in another way
    definition  the statement that gives a new variable {name} of {dtype} the value {text}
    variable    the same for a variable that is assigned to again
    assignment  the statement that writes {text} to an element or a variable {target}
    loop        the line before the body of a loop of {axis} from 0 to {count} − 1
    end         the line after it, or nothing
    """

    name: str
    operations: Mapping[str, str]
    casts: Mapping[str, str]
    results: Mapping[str, str]
    literals: Mapping[str, str]
    definition: str
    variable: str
    assignment: str
    loop: str
    end: str

    def apply(self, op: str, dtype: Any, *operands: str) -> str:
        """The operation on operands that are of the dtype in which it is computed."""
        name = self._name(dtype)
        template = self.operations.get(f"{op} {name}") or self.operations.get(op)
        if template is None:
            raise Untraceable(f"it computes {op}, which {self.name} does not have")
        text = template.format(*operands, dtype=name)
        return self.results.get(name, "{0}").format(text)

    def cast(self, operand: str, dtype: Any) -> str:
        """The conversion of an operand to another dtype."""
        return self.casts[self._name(dtype)].format(operand)

    def literal(self, scalar: Any, dtype: Any) -> str:
        """A Python scalar as a constant of that dtype."""
        text = repr(scalar)
        return self.cast(self.literals.get(text, text), dtype)

    def define(self, name: str, text: str, dtype: Any) -> str:
        return self.definition.format(name=name, text=text, dtype=np.dtype(dtype).name)

    def declare(self, name: str, text: str, dtype: Any) -> str:
        return self.variable.format(name=name, text=text, dtype=np.dtype(dtype).name)

    def assign(self, target: str, text: str) -> str:
        return self.assignment.format(target=target, text=text)

    def block(self, lines: Sequence[str]) -> list[str]:
        """The lines, with variables of their own."""
        return [*lines] if not self.end else ["{", *(f"    {line}" for line in lines), self.end]

    def repeat(self, axis: str, count: int, lines: Sequence[str]) -> list[str]:
        """The lines in a loop."""
        begin = self.loop.format(axis=axis, count=count)
        return [begin, *(f"    {line}" for line in lines), *([self.end] if self.end else [])]

    def _name(self, dtype: Any) -> str:
        name = np.dtype(dtype).name
        if name not in self.casts:
            raise Untraceable(f"it computes in {name}, which {self.name} does not have")
        return name


def _infix(**symbols: str) -> dict[str, str]:
    return {op: f"{{0}} {symbol} {{1}}" for op, symbol in symbols.items()}


_ARITHMETIC = _infix(
    add="+", subtract="-", multiply="*", divide="/", less="<", less_equal="<=", greater=">", greater_equal=">="
) | {"negative": "-{0}", "astype": "{0}", "positive": "{0}"}  # fmt: skip
_EQUALITY = _infix(equal="==", not_equal="!=")
_INTEGERS = ("int32", "int64")
#: Python and C++ call functions of these names. exp and tanh have the dtype in their names, for native code has ours.
_CALLS = {
    "where": "select({0}, {1}, {2})", "exp": "exp_{dtype}({0})", "tanh": "tanh_{dtype}({0})", "logical_not": "not {0}",
    **{name: f"{name}({{0}})" for name in ("expm1", "log", "log1p", "sqrt", "sin", "cos", "abs", "sign")},
    **{name: f"{name}({{0}}, {{1}})" for name in ("maximum", "minimum", "power", "plus")},
    # Of floats they would be a loop in themselves.
    **{f"{name} {dtype}": f"{name}({{0}}, {{1}})" for name in ("floor_divide", "remainder") for dtype in _INTEGERS},
    "position": "min(max(select({0} < 0, {0} + {1}, {0}), 0), {1} - 1)",
}  # fmt: skip
_DTYPES = ("float32", "float64", "int32", "int64", "bool")

PYTHON = Language(
    name="native code",
    operations=_ARITHMETIC | _EQUALITY | _CALLS,
    casts={name: f"{name}({{0}})" for name in _DTYPES},
    results={},
    literals={},
    definition="{name} = {text}",
    variable="{name} = {text}",
    assignment="{target} = {text}",
    loop="for {axis} in range({count}):",
    end="",
)
CUDA = PYTHON._replace(
    name="CUDA",
    operations={**PYTHON.operations, "position": "position({0}, {1})"},
    literals={"True": "true", "False": "false"},
    definition="const {dtype} {name} = {text};",
    variable="{dtype} {name} = {text};",
    assignment="{target} = {text};",
    loop="for (int {axis} = 0; {axis} < {count}; {axis}++) {{",
    end="}",
)
#: Numbers are float64 and are rounded by Math.fround. An int64 is one, too: beyond 53 bits it is an error.
JAVASCRIPT = Language(
    name="JavaScript",
    operations=_ARITHMETIC
    | _infix(equal="===", not_equal="!==")
    | {name: f"Math.{name}({{0}})" for name in (
        "exp", "tanh", "expm1", "log", "log1p", "sqrt", "sin", "cos", "abs", "sign",
    )}
    | {
        "maximum": "Math.max({0}, {1})", "minimum": "Math.min({0}, {1})", "where": "({0} ? {1} : {2})",
        "logical_not": "!{0}", "plus": "{0} + {1}", "position": "position({0}, {1})",
        **{f"floor_divide {name}": "floorDivide({0}, {1})" for name in _INTEGERS},
        **{f"remainder {name}": "remainder({0}, {1})" for name in _INTEGERS},
        "multiply int32": "Math.imul({0}, {1})",  # of a product of numbers only 53 bits are exact
        # Math.pow gives NaN for 1 to the power of NaN or ±∞, and for −1 to the power of ±∞, where others give 1.
        "power": "({0} === 1 || ({0} === -1 && Math.abs({1}) === Infinity) ? 1 : Math.pow({0}, {1}))",
    },
    casts={
        "float32": "Math.fround({0})", "float64": "Number({0})", "int32": "({0} | 0)", "int64": "Math.trunc({0})",
        "bool": "({0} != 0)",
    },
    results={"float32": "Math.fround({0})", "int32": "({0} | 0)", "int64": "safe({0})"},
    literals={"True": "true", "False": "false", "inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"},
    definition="const {name} = {text};",
    variable="let {name} = {text};",
    assignment="{target} = {text};",
    loop="for (let {axis} = 0; {axis} < {count}; {axis}++) {{",
    end="}",
)  # fmt: skip


def in_register(dtype: Any) -> np.dtype:
    """The dtype in which an element is computed: half precision is only stored."""
    dtype = np.dtype(dtype)
    return np.dtype(np.float32) if is_half(dtype) else dtype


def expression(value: Value, operands: Sequence[str], language: Language) -> str:
    """The text that computes an element of the value from its operands' elements; the text of a scalar is not read."""
    op, dtype = value.op, in_register(value.dtype)
    if op not in COMPARISONS and op not in _INTEGER_OPERATIONS.get(dtype.kind, (op,)):
        raise Untraceable(f"it computes {op} in {dtype.name}")
    common = dtype
    if op in COMPARISONS:
        common = in_register(np.result_type(*(i["value"] if i.op == "scalar" else i.dtype for i in value.inputs)))

    def operand(i: Value, text: str, required: np.dtype) -> str:
        if i.op == "scalar":
            return language.literal(i["value"], required)
        return text if in_register(i.dtype) == required else language.cast(text, required)

    required = [np.dtype(bool) if op == "where" and n == 0 else common for n in range(len(operands))]
    return language.apply(op, dtype, *map(operand, value.inputs, operands, required))


#: By reduction, the function of two elements.
REDUCTIONS = {"sum": "plus", "max": "maximum", "min": "minimum"}
#: Operations of any dtype; of others the loops are for floats, and those that sum are for integers, too.
_MOVES = frozenset({"concat", "rearrange", "arange", "gather", "argmax", "argmin"})


def neutral(op: str, dtype: Any) -> float:
    """The neutral element of a reduction."""
    if op == "sum":
        return 0
    if np.dtype(dtype).kind == "i":
        return int(np.iinfo(dtype).min if op == "max" else np.iinfo(dtype).max)
    return -np.inf if op == "max" else np.inf


def check_operation(value: Value, writers: Collection[str] | dict[str, Callable], unknown: str) -> None:
    """Raise Untraceable unless the operation is among the writers, and in one dtype that it can compute in."""
    if value.op not in writers:
        raise Untraceable(unknown)
    kinds = "fi" if value.op in ("sum", "max", "min", "scatter", "scatter_add") else "f"
    if np.dtype(in_register(value.dtype)).kind not in kinds and value.op not in _MOVES:
        raise Untraceable(f"it computes {value.op} in {np.dtype(value.dtype).name}")
    of_one_dtype = value.inputs[:1] if value.op in ("gather", "scatter_add") else value.inputs
    if value.op not in ("argmax", "argmin") and any(i.dtype != value.dtype for i in of_one_dtype):
        raise Untraceable(f"it computes {value.op} of several dtypes")
