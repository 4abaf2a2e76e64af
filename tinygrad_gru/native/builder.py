"""LLVM IR: a builder of one function's text, and values with Python's operators.

    i = Value(function, "i64", "%i")
    i * 64 + 1            %.1 = mul i64 %i, 64
                          %.2 = add i64 %.1, 1

Python numbers take the type of what they meet.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

#: By the name of a dtype its type in LLVM; a boolean in memory is a byte.
TYPES = {"float32": "float", "float64": "double", "int32": "i32", "int64": "i64", "bool": "i8"}
FLOATS = {"float": "f32", "double": "f64"}
#: Of functions. Where registers have 64 bytes LLVM would use half of them, which cost some processors less power.
ATTRIBUTES = 'noinline nounwind "prefer-vector-width"="512"'
_BITS = {"i1": 1, "i8": 8, "i32": 32, "i64": 64}
_NAMES = {type_: name for name, type_ in TYPES.items()} | {"i1": "bool", "ptr": "pointer"}

_COMPARISONS = {"<": ("slt", "olt"), "<=": ("sle", "ole"), ">": ("sgt", "ogt"), ">=": ("sge", "oge"),
                "==": ("eq", "oeq"), "!=": ("ne", "une")}  # fmt: skip


class Value:
    """A value of LLVM's: its type, and its name or the text of a constant.

    element  of a pointer: the type of the elements
    lane     of a vector the type of its elements, of others the type itself
    """

    __slots__ = ("builder", "element", "lane", "text", "type")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: Builder, type_: str, text: str, element: str = "", lane: str = ""):
        self.builder, self.type, self.text, self.element = builder, type_, text, element
        self.lane = lane or type_

    def __repr__(self) -> str:
        return f"{self.type} {self.text}"

    @property
    def name(self) -> str:
        """The name of its type in Python."""
        return _NAMES.get(self.type, self.type)

    def __add__(self, other: Any) -> Value:
        return self.builder.arithmetic("add", self, other)

    def __radd__(self, other: Any) -> Value:
        return self.builder.arithmetic("add", other, self)

    def __sub__(self, other: Any) -> Value:
        return self.builder.arithmetic("sub", self, other)

    def __rsub__(self, other: Any) -> Value:
        return self.builder.arithmetic("sub", other, self)

    def __mul__(self, other: Any) -> Value:
        return self.builder.arithmetic("mul", self, other)

    def __rmul__(self, other: Any) -> Value:
        return self.builder.arithmetic("mul", other, self)

    def __truediv__(self, other: Any) -> Value:
        return self.builder.arithmetic("div", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return self.builder.arithmetic("div", other, self)

    def __neg__(self) -> Value:
        if self.lane in FLOATS:
            return self.builder.instruction(self.type, f"fneg {self}", lane=self.lane)
        return 0 - self

    def __lt__(self, other: Any) -> Value:
        return self.builder.compare("<", self, other)

    def __le__(self, other: Any) -> Value:
        return self.builder.compare("<=", self, other)

    def __gt__(self, other: Any) -> Value:
        return self.builder.compare(">", self, other)

    def __ge__(self, other: Any) -> Value:
        return self.builder.compare(">=", self, other)

    def __eq__(self, other: Any) -> Value:  # type: ignore[override]
        return self.builder.compare("==", self, other)

    def __ne__(self, other: Any) -> Value:  # type: ignore[override]
        return self.builder.compare("!=", self, other)

    def __or__(self, other: Value) -> Value:
        return self.builder.instruction(self.type, f"or {self}, {other.text}", lane=self.lane)

    def __and__(self, other: Value) -> Value:
        return self.builder.instruction(self.type, f"and {self}, {other.text}", lane=self.lane)


class Builder:
    """The text of one function.

    declared  the headers of other functions that it calls, with the rest of their texts; those of a module share them
    is_wide   whether the processor has 32 registers of 64 bytes
    flags     of LLVM's arithmetic on floats: what it may do besides rounding each result, nothing but in `contracting`
    wraps     whether arithmetic on integers may overflow; within an index it does not
    """

    def __init__(self, header: str, declared: dict[str, str], is_wide: bool):
        self.header, self.declared, self.is_wide, self.flags = header, declared, is_wide, ""
        self.allocas: list[str] = []
        self.lines: list[str] = []
        self.count = 0
        self.block = "entry."
        self.wraps = True

    @property
    def text(self) -> str:
        return "\n".join([f"{self.header} {{", "entry.:", *self.allocas, *self.lines, "  ret void", "}", ""])

    @contextmanager
    def contracting(self) -> Iterator[None]:
        """A block in which a product and a sum may become a fused multiply-add, which rounds once."""
        before, self.flags = self.flags, "contract"
        yield
        self.flags = before

    # -- instructions --------------------------------------------------------------------------------------------------

    def _name(self) -> str:
        self.count += 1
        return f"%.{self.count}"

    def emit(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def instruction(self, type_: str, text: str, element: str = "", lane: str = "") -> Value:
        name = self._name()
        self.emit(f"{name} = {text}")
        return Value(self, type_, name, element, lane)

    def constant(self, number: Any, like: Value) -> Value:
        """A number, in the type of a value."""
        text = literal(number, like.lane)
        if like.lane != like.type:
            lanes = like.type[1 : like.type.index(" ")]
            text = f"<{', '.join([f'{like.lane} {text}'] * int(lanes))}>"
        return Value(self, like.type, text, lane=like.lane)

    def _same(self, a: Any, b: Any) -> tuple[Value, Value]:
        """Both operands in one type."""
        if not isinstance(a, Value):
            return self.constant(a, b), b
        if not isinstance(b, Value):
            return a, self.constant(b, a)
        if a.type == b.type:
            return a, b
        if {a.type, b.type} == {"i32", "i64"}:
            return self.cast(a, "i64"), self.cast(b, "i64")
        raise TypeError(f"{a.name} meets {b.name}: convert one of them")

    def arithmetic(self, operation: str, a: Any, b: Any, flags: str = "") -> Value:
        a, b = self._same(a, b)
        if a.lane in FLOATS:
            return self.instruction(a.type, f"f{operation} {flags or self.flags} {a}, {b.text}", lane=a.lane)
        if operation == "div" or a.type not in ("i32", "i64"):
            raise TypeError(f"no {operation} of {a.name}")
        flags = "" if self.wraps else "nsw "
        return self.instruction(a.type, f"{operation} {flags}{a}, {b.text}")

    def compare(self, symbol: str, a: Any, b: Any) -> Value:
        a, b = self._same(a, b)
        of_integers, of_floats = _COMPARISONS[symbol]
        compared = f"fcmp {of_floats}" if a.lane in FLOATS else f"icmp {of_integers}"
        type_ = "i1" if a.type == a.lane else a.type.replace(a.lane, "i1")
        return self.instruction(type_, f"{compared} {a}, {b.text}", lane="i1")

    def select(self, condition: Any, a: Any, b: Any) -> Any:
        if not isinstance(condition, Value):
            return a if condition else b
        if not isinstance(a, Value) and not isinstance(b, Value):
            raise TypeError("select of two numbers: convert one of them")
        a, b = self._same(a, b)
        return self.instruction(a.type, f"select {condition}, {a}, {b}", a.element, a.lane)

    def logical_not(self, a: Any) -> Any:
        return self.instruction(a.type, f"xor {a}, true") if isinstance(a, Value) else not a

    def cast(self, value: Any, type_: str) -> Value:
        """The value in another type: integers wrap, booleans are 0 or 1, and i1 asks whether it is not 0."""
        if not isinstance(value, Value):
            return Value(self, type_, literal(value, type_))
        of = value.type
        if of == type_:
            return value
        if of not in FLOATS and of not in _BITS:
            raise TypeError(f"no conversion from {value.name} to {_NAMES[type_]}")
        if type_ == "i1":
            return value != 0
        if of in FLOATS:
            if type_ in FLOATS:
                text = "fpext" if type_ == "double" else "fptrunc"
            else:  # out of range it is whatever the processor gives, as in NumPy
                number = self.instruction(type_, f"fptosi {value} to {type_}")
                return self.instruction(type_, f"freeze {number}")
        elif type_ in FLOATS:
            text = "uitofp" if of == "i1" else "sitofp"
        elif _BITS[of] > _BITS[type_]:
            text = "trunc"
        else:
            text = "zext" if of == "i1" else "sext"
        return self.instruction(type_, f"{text} {value} to {type_}")

    def call(self, name: str, *arguments: Value) -> Value:
        """A call of a function that is not in the text, such as one of LLVM or of the C library."""
        type_ = arguments[0].type
        types = ", ".join(a.type for a in arguments)
        self.declared[f"declare {type_} @{name}({types}) nounwind memory(none)"] = ""
        text = f"call contract {type_} @{name}({', '.join(map(repr, arguments))})"
        return self.instruction(type_, text, lane=arguments[0].lane)

    def call_shared(self, name: str, arguments: Sequence[Value], write: Callable[..., None]) -> None:
        """A call of a function without result, which all calls in a module with this name and these types share.

        write  writes it, given a builder and the parameters; its pointers do not alias
        """
        kinds = ["ptr noalias" if a.type == "ptr" else a.type for a in arguments]
        parameters = ", ".join([f"{kind} %p{i}" for i, kind in enumerate(kinds)])
        header = f"define internal void @{name}({parameters}) {ATTRIBUTES}"
        if header not in self.declared:
            shared = Builder(header, self.declared, self.is_wide)
            shared.flags, shared.wraps = self.flags, self.wraps
            write(shared, *(Value(shared, a.type, f"%p{i}", a.element) for i, a in enumerate(arguments)))
            self.declared[header] = shared.text.removeprefix(header)
        self.emit(f"call void @{name}({', '.join(map(repr, arguments))})")

    # -- memory --------------------------------------------------------------------------------------------------------

    def variable(self, type_: str) -> str:
        """Memory for a variable, as the name of a pointer."""
        name = self._name()
        self.allocas.append(f"  {name} = alloca {type_}")
        return name

    def offset(self, pointer: Value, index: Any) -> Value:
        """The pointer to an element."""
        if not isinstance(pointer, Value) or pointer.type != "ptr":
            raise TypeError(f"an index of {getattr(pointer, 'name', pointer)}, which is not a pointer")
        where = index if isinstance(index, int) else self.cast(index, "i64").text
        text = f"getelementptr inbounds {pointer.element}, {pointer}, i64 {where}"
        return self.instruction("ptr", text, pointer.element)

    def load(self, pointer: Value, index: Any, lanes: int = 1) -> Value:
        place, type_ = self.offset(pointer, index), vector_type(pointer.element, lanes)
        return self.instruction(type_, f"load {type_}, {place}, align {size_of(pointer.element)}", lane=pointer.element)

    def store(self, value: Any, pointer: Value, index: Any) -> None:
        place = self.offset(pointer, index)
        if not isinstance(value, Value) or (pointer.element, value.type) == ("i8", "i1"):
            value = self.cast(value, pointer.element)
        if value.lane != pointer.element:
            raise TypeError(f"{value.name} stored in memory of {_NAMES[pointer.element]}: convert it")
        self.emit(f"store {value}, {place}, align {size_of(pointer.element)}")

    def prefetch(self, pointer: Value, index: Any) -> None:
        """Load an element's cache line, if there is memory at that address."""
        where = self.cast(index, "i64").text
        place = self.instruction("ptr", f"getelementptr {pointer.element}, {pointer}, i64 {where}")
        self.declared["declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"] = ""
        self.emit(f"call void @llvm.prefetch.p0({place}, i32 0, i32 3, i32 1)")

    # -- control flow --------------------------------------------------------------------------------------------------

    def begin(self, block: str) -> None:
        self.lines.append(f"{block}:")
        self.block = block

    def labels(self, *names: str) -> list[str]:
        self.count += 1
        return [f"{name}.{self.count}" for name in names]

    @contextmanager
    def loop(self, start: Any, stop: Any, step: int = 1) -> Iterator[Value]:
        """Instructions that run for each index of a range."""
        start, stop = self.cast(start, "i64"), self.cast(stop, "i64")
        body, end = self.labels("loop", "end")
        before = self.block
        runs = self.instruction("i1", f"icmp slt {start}, {stop.text}")
        self.emit(f"br {runs}, label %{body}, label %{end}")
        self.begin(body)
        index = self.instruction("i64", "")
        phi = len(self.lines) - 1
        yield index
        following = self.instruction("i64", f"add nsw {index}, {step}")
        again = self.instruction("i1", f"icmp slt {following}, {stop.text}")
        self.emit(f"br {again}, label %{body}, label %{end}")
        self.lines[phi] = f"  {index.text} = phi i64 [{start.text}, %{before}], [{following.text}, %{self.block}]"
        self.begin(end)

    @contextmanager
    def branch(self, condition: Value) -> Iterator[Any]:
        """Instructions that run if a condition holds; what `otherwise()`, which is yielded, is followed by, if not."""
        yes, no, end = self.labels("then", "else", "end")
        self.emit(f"br {condition}, label %{yes}, label %{no}")
        self.begin(yes)

        def otherwise() -> None:
            self.emit(f"br label %{end}")
            self.begin(no)

        yield otherwise
        self.emit(f"br label %{end}")
        self.begin(end)


def size_of(type_: str) -> int:
    return {"float": 4, "double": 8, "i32": 4, "i64": 8, "i8": 1}[type_]


def literal(number: Any, type_: str) -> str:
    """The text of a constant."""
    if type_ in FLOATS:
        if type_ == "float":
            try:
                (number,) = struct.unpack("f", struct.pack("f", number))
            except OverflowError:
                number = float("inf") if number > 0 else float("-inf")
        return f"0x{struct.pack('>d', number).hex()}"
    if not isinstance(number, (int, bool)):
        raise TypeError(f"the number {number!r} meets {_NAMES[type_]}")
    return str(int(bool(number))) if type_ == "i1" else str(int(number))


def vector_type(lane: str, lanes: int) -> str:
    return lane if lanes == 1 else f"<{lanes} x {lane}>"


def vector(builder: Builder, value: Value, lanes: int) -> Value:
    """A vector all of whose elements are the value."""
    if lanes == 1:
        return value
    type_ = vector_type(value.type, lanes)
    one = builder.instruction(type_, f"insertelement {type_} poison, {value}, i32 0", lane=value.type)
    text = f"shufflevector {one}, {type_} poison, <{lanes} x i32> zeroinitializer"
    return builder.instruction(type_, text, lane=value.type)
