"""Front end: a text in the subset of Python, translated into LLVM IR."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from . import library, product
from .builder import ATTRIBUTES, TYPES, Builder, Value

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_FUNCTIONS = {**library.FUNCTIONS, **product.FUNCTIONS}
_CONSTANTS = {"inf": float("inf"), "nan": float("nan")}


#: A function that makes subnormal results of `body` zero: bit 15 of x86's control register. What is read stays as it
#: is (bit 6 would make that zero, too), for a mask such as x > 0 depends on it. LLVM may move arithmetic across a
#: change of that register, but not out of a function.
_FLUSHING = """\
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define dso_local void @{name}(ptr %steps) noinline nounwind {{
  %before = alloca i32
  %during = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %before)
  %word = load i32, ptr %before
  %changed = or i32 %word, 32768
  store i32 %changed, ptr %during
  call void @llvm.x86.sse.ldmxcsr(ptr %during)
  call void @{body}(ptr %steps)
  call void @llvm.x86.sse.ldmxcsr(ptr %before)
  ret void
}}"""


def ir_of(text: str, name: str, is_wide: bool = False, flushes: bool = False) -> str:
    """The IR of the function `name` of a text, and of those that it calls. Raises SyntaxError.

    is_wide  whether the processor has 32 registers of 64 bytes
    flushes  whether subnormal results are zero, on x86
    """
    return Module(text, is_wide).ir(name, flushes)


class Module:
    """The functions of a text, of which each is translated when it is first called."""

    def __init__(self, text: str, is_wide: bool):
        self.is_wide = is_wide
        tree = ast.parse(text)
        self.definitions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        self.declared: dict[str, str] = {}
        self.symbols: dict[tuple, str] = {}
        self.texts: list[str] = []

    def ir(self, name: str, flushes: bool) -> str:
        if name not in self.definitions:
            raise SyntaxError(f"the text defines no function {name!r}")
        argument = (("ptr", "i64"),)
        if flushes:
            self.symbols[name, ()] = name
            self.texts.append(_FLUSHING.format(name=name, body=self.function(name, argument)))
        else:
            self.function(name, argument, "dso_local")
        return "\n".join([*self.texts, *(header + rest for header, rest in self.declared.items()), ""])

    def function(self, name: str, types: tuple[tuple[str, str], ...], linkage: str = "internal") -> str:
        """The symbol of a function for arguments of these types, and of these elements of pointers."""
        if (name, types) in self.symbols:
            return self.symbols[name, types]
        symbol = self.symbols[name, types] = f"{name}.{len(self.symbols)}" if self.symbols else name
        node = self.definitions[name]
        parameters = [argument.arg for argument in node.args.args]
        if len(parameters) != len(types):
            raise _error(node, f"{name} takes {len(parameters)} arguments, got {len(types)}")
        attributes = {"ptr": "ptr noalias", "i1": "i1 zeroext"}
        arguments = ", ".join(f"{attributes.get(t, t)} %{p}" for p, (t, _) in zip(parameters, types))
        header = f"define {linkage} void @{symbol}({arguments}) {ATTRIBUTES}"
        builder = Builder(header, self.declared, self.is_wide)
        scope = {p: Value(builder, t, f"%{p}", element) for p, (t, element) in zip(parameters, types)}
        _Translator(self, builder, scope).statements(node.body)
        self.texts.append(builder.text)
        return symbol


def _error(node: Any, message: str) -> SyntaxError:
    return SyntaxError(f"line {node.lineno} of the text: {message}")


class _Translator:
    """Translates the statements of a function.

    scope      parameters and loop indices, by name
    variables  the memory of the other names: the name of a pointer, and the type and the element of what is there
    """

    def __init__(self, module: Module, builder: Builder, scope: dict[str, Value]):
        self.module, self.builder, self.scope = module, builder, scope
        self.variables: dict[str, tuple[str, str, str]] = {}

    def statements(self, nodes: list[ast.stmt]) -> None:
        for node in nodes:
            translate = getattr(self, f"_{type(node).__name__.lower()}", None)
            try:
                if translate is None:
                    raise TypeError(f"{type(node).__name__} is not in the subset")
                translate(node)
            except TypeError as error:
                raise _error(node, f"{ast.unparse(node).splitlines()[0]!r}: {error}") from None

    def _assign(self, node: ast.Assign) -> None:
        (target,) = node.targets
        if isinstance(target, ast.Tuple):
            assert isinstance(node.value, ast.Tuple)
            for one, value in list(zip(target.elts, map(self.value, node.value.elts))):
                self.assign(one, value)
        else:
            self.assign(target, self.value(node.value))

    def _augassign(self, node: ast.AugAssign) -> None:
        self.assign(node.target, _OPERATORS[type(node.op)](self.value(node.target), self.value(node.value)))

    def _for(self, node: ast.For) -> None:
        call, target = node.iter, node.target
        if not isinstance(call, ast.Call) or ast.unparse(call.func) != "range" or not isinstance(target, ast.Name):
            raise TypeError("a loop is over a range")
        bounds = [self.value(argument) for argument in call.args]
        if len(bounds) == 1:
            bounds = [0, *bounds]
        if target.id in self.variables:
            raise TypeError(f"{target.id} is a variable already")
        outer = self.scope.get(target.id)
        with self.builder.loop(*bounds) as index:
            self.scope[target.id] = index
            self.statements(node.body)
        del self.scope[target.id]
        if outer is not None:
            self.scope[target.id] = outer

    def _if(self, node: ast.If) -> None:
        with self.builder.branch(self.builder.cast(self.value(node.test), "i1")) as otherwise:
            self.statements(node.body)
            otherwise()
            self.statements(node.orelse)

    def _pass(self, node: ast.Pass) -> None:
        pass

    def _expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self.value(node.value)
        elif not isinstance(node.value, ast.Constant):
            raise TypeError("it has no effect")

    def assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Subscript):
            return self.builder.store(value, self.value(target.value), self.index(target.slice))
        if not isinstance(target, ast.Name):
            raise TypeError(f"{ast.unparse(target)} is not assigned to")
        if target.id in self.scope:
            raise TypeError(f"{target.id} is a parameter or an index of a loop, which keep their values")
        if not isinstance(value, Value):
            known = self.variables.get(target.id, ("", "double" if isinstance(value, float) else "i64", ""))
            value = self.builder.cast(value, known[1])
        if target.id not in self.variables:
            self.variables[target.id] = (self.builder.variable(value.type), value.type, value.element)
        place, type_, element = self.variables[target.id]
        if (value.type, value.element) != (type_, element):
            known_as = Value(self.builder, type_, "").name
            raise TypeError(f"{target.id} is of type {known_as}, and becomes {value.name}")
        self.builder.emit(f"store {value}, ptr {place}")

    # -- expressions ---------------------------------------------------------------------------------------------------

    def value(self, node: ast.expr) -> Any:
        """A Value, or a Python number."""
        translate = getattr(self, f"_{type(node).__name__.lower()}", None)
        if translate is None:
            raise TypeError(f"{type(node).__name__} is not in the subset")
        return translate(node)

    def index(self, node: ast.expr) -> Any:
        wraps, self.builder.wraps = self.builder.wraps, False
        found = self.value(node)
        self.builder.wraps = wraps
        return found

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        if node.id in self.scope:
            return self.scope[node.id]
        if node.id in self.variables:
            place, type_, element = self.variables[node.id]
            return self.builder.instruction(type_, f"load {type_}, ptr {place}", element)
        if node.id in _CONSTANTS:
            return _CONSTANTS[node.id]
        raise TypeError(f"{node.id} has no value")

    def _binop(self, node: ast.BinOp) -> Any:
        if type(node.op) not in _OPERATORS:
            raise TypeError(f"{type(node.op).__name__} is not in the subset")
        return _OPERATORS[type(node.op)](self.value(node.left), self.value(node.right))

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        operand = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            return self.builder.logical_not(operand)
        if isinstance(node.op, ast.USub):
            return -operand
        raise TypeError(f"{type(node.op).__name__} is not in the subset")

    def _compare(self, node: ast.Compare) -> Any:
        if len(node.ops) > 1 or type(node.ops[0]) not in _OPERATORS:
            raise TypeError("a comparison has two sides")
        return _OPERATORS[type(node.ops[0])](self.value(node.left), self.value(node.comparators[0]))

    def _boolop(self, node: ast.BoolOp) -> Any:
        join = operator.and_ if isinstance(node.op, ast.And) else operator.or_
        first, *others = (self.builder.cast(self.value(value), "i1") for value in node.values)
        for other in others:
            first = join(first, other)
        return first

    def _ifexp(self, node: ast.IfExp) -> Any:
        return self.builder.select(self.value(node.test), self.value(node.body), self.value(node.orelse))

    def _subscript(self, node: ast.Subscript) -> Value:
        return self.builder.load(self.value(node.value), self.index(node.slice))

    def _call(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise TypeError("a call names a function and its arguments by position")
        name, arguments = node.func.id, [self.value(argument) for argument in node.args]
        if name in self.module.definitions:
            values = [a if isinstance(a, Value) else self.builder.cast(a, "i64") for a in arguments]
            symbol = self.module.function(name, tuple((v.type, v.element) for v in values))
            self.builder.emit(f"call void @{symbol}({', '.join(map(repr, values))})")
            return None
        if name in TYPES:
            return self.builder.cast(arguments[0], "i1" if name == "bool" else TYPES[name])
        if name.startswith("pointer_"):
            address = self.builder.cast(arguments[0], "i64")
            return self.builder.instruction("ptr", f"inttoptr {address} to ptr", TYPES[name[len("pointer_") :]])
        if name not in _FUNCTIONS:
            raise TypeError(f"there is no function {name}")
        with self.builder.contracting():
            return _FUNCTIONS[name](self.builder, *arguments)
