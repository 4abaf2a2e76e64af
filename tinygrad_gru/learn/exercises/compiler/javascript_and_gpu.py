"""Exercises 34 and 35: memory and loops, as JavaScript and a GPU see them."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from typing import Any

import numpy as np

from ...draws import sizes, st
from ...exercise import exercise
from .passes import programs


# -- 34 ----------------------------------------------------------------------------------------------------------------
@st.composite
def broadcast_places(draw):
    """A place in an array of one to three axes, and the shape of an operand that broadcasts to that array."""
    full = [draw(sizes) for _ in range(draw(st.integers(1, 3)))]
    index = tuple(draw(st.integers(0, n - 1)) for n in full)
    shape = tuple(draw(st.sampled_from((n, 1))) for n in full)
    return index, shape[draw(st.sampled_from([0, 0, *range(len(shape) + 1)])) :]


@exercise(
    34,
    "Where an element lies",
    inputs=broadcast_places(),
    example=((1, 2), (2, 3)),
    cases=[((1, 2, 1), shape) for shape in [(2, 3, 2), (2, 1, 2), (1, 3, 1), (3, 2), (3, 1), (2,), ()]]
    + [((1, 2, 1, 1), (2, 3, 2, 2)), ((1, 2, 1, 1), (2, 1, 2, 2))],
    understood="Shapes are a way of reading: memory is one line of numbers, and broadcasting a stride of 0.",
    hints=[
        "How many elements lie before it? In (2, 3) each step along the first axis passes 3 of them.",
        "An axis of length 1 is read at 0, whatever the index says.",
        "For each of the operand's axes: offset = offset * n + i. The index's last len(shape) parts belong to them.",
    ],
    header="",
)
def offset(index, shape):
    """A loop in JavaScript, like a thread of a GPU, has no arrays of two axes: an array is one line of numbers, row
    after row, the last axis the fastest (row-major).

    To compute the element of a result at `index`, a tuple, an operand of this `shape` is read. It broadcasts as in
    NumPy: it may lack axes in front, and its axes may have length 1 where the result has more. Return the offset of
    the element that is read: the number of elements that lie before it.
    """
    offset = 0
    for i, n in zip(index[len(index) - len(shape) :], shape):
        offset = offset * n + (i if n > 1 else 0)
    return offset


@offset.check_with
def _(index, shape):
    full = [max(n, i + 1) for n, i in zip((1,) * (len(index) - len(shape)) + shape, index)]
    return np.broadcast_to(np.arange(math.prod(shape)).reshape(shape), full)[index]


@offset.mistake(
    "column-major: the first axis is the fastest",
    hint="In Fortran and MATLAB columns lie together. NumPy and C put rows together: [0, 1] lies beside [0, 0].",
)
def _(index, shape):
    return offset.reference(index[::-1][: len(shape)], shape[::-1])


@offset.mistake(
    "an axis of length 1 is not broadcast",
    hint="An axis of length 1 has one element, at 0; the result's index along it may be larger.",
)
def _(index, shape):
    offset = 0
    for i, n in zip(index[len(index) - len(shape) :], shape):
        offset = offset * n + i
    return offset


@offset.mistake(
    "axes are matched from the left",
    hint="A shape (3,) beside (2, 3) belongs to the last axis. Axes that are missing are missing in front.",
)
def _(index, shape):
    return offset.reference(index[: len(shape)], shape)


@offset.mistake(
    "nothing is broadcast",
    hint="Right where both shapes are the same. But (3,) beside (2, 3) belongs to the last axis, and one of length 1 "
    "has an element at 0 only.",
)
def _(index, shape):
    offset = 0
    for i, n in zip(index, shape):
        offset = offset * n + i
    return offset


@offset.mistake("the offset in bytes", hint="A Float32Array counts in elements, not in bytes of which each has four.")
def _(index, shape):
    return 4 * offset.reference(index, shape)


@offset.mistake(
    "an axis's own length is taken for its stride",
    hint="A step along an axis passes all elements of the axes behind it: the product of *their* lengths.",
)
def _(index, shape):
    index = index[len(index) - len(shape) :]
    strides = [n if axis < len(shape) - 1 else 1 for axis, n in enumerate(shape)]
    return sum(i * stride for i, n, stride in zip(index, shape, strides) if n > 1)


# -- 35 ----------------------------------------------------------------------------------------------------------------
#: What may stand in an expression: the same in JavaScript and in Python. (-- and ** mean something else.)
READ = r"Math\.(?:tanh|cos)|[xy]\[i\]|-(?!-)|\*(?!\*)|[()\s]"


def run_expression(solution, program):
    """The values of the expression for i = 0, 1, 2: what is written here is the same in JavaScript and in Python."""
    text = solution(program)
    if not isinstance(text, str):
        raise TypeError(f"expected the text of an expression, got {text!r:.80}")
    rest = re.sub(READ, "", text)
    if rest:
        raise ValueError(f"only - * ( ) Math.tanh Math.cos x[i] y[i] are read, not {rest:.20} in {text:.200}")
    text = text.strip()
    names = {"Math": SimpleNamespace(tanh=math.tanh, cos=math.cos), "x": [0.5, -1.5, 2.0], "y": [1.25, 0.75, -0.25]}
    return [float(eval(text, {"__builtins__": {}}, names | {"i": i})) for i in range(3)]


@exercise(
    35,
    "One loop, one expression",
    inputs=st.tuples(programs(("x", "y"), (("-", 2), ("*", 2), ("tanh", 1), ("cos", 1)), 4)),
    example=([("a", "-", ("x", "y")), ("b", "tanh", ("a",)), ("c", "*", ("b", "x"))],),
    cases=[
        ([("a", "-", ("x", "y")), ("b", op, arguments)],)
        for op, arguments in [("-", ("x", "a")), ("-", ("a", "x")), ("*", ("x", "a")), ("*", ("a", "x"))]
    ],
    understood="Fused, a chain of ops is one loop: each input is read once, and nothing between is written to memory.",
    hints=[
        "Keep a dict from names to texts: of an input x it is 'x[i]', of a record the text that computes it.",
        "Put brackets around what you put in: 'a - b' inside of 'x * …' is '(a - b)'.",
        "The text of the last record is the result.",
    ],
    run=run_expression,
    call="fuse({program})",
    header="",
)
def fuse(program):
    """A program of elementwise ops is a list of records (name, op, arguments). The ops are "-" and "*", with two
    arguments, and "tanh" and "cos", with one; the arguments are the inputs x and y, or names of earlier records.

    One by one, these ops would be as many loops over as many arrays. Return the text of a single JavaScript expression
    for element i of the last record, so that one loop does it all:

        for (let i = 0; i < n; i++) out[i] = …;

    For [("a", "-", ("x", "y")), ("b", "tanh", ("a",))] it is "Math.tanh(x[i] - y[i])"; more brackets do no harm.
    The grader reads - * ( ) Math.tanh Math.cos x[i] y[i], with x = [0.5, −1.5, 2] and y = [1.25, 0.75, −0.25].
    """
    texts = {"x": "x[i]", "y": "y[i]"}
    for name, op, arguments in program:
        parts = [texts[a] for a in arguments]
        texts[name] = f"({parts[0]} {op} {parts[1]})" if op in "-*" else f"Math.{op}({parts[0]})"
    return texts[name]


@fuse.check_with
def _(program):
    values: dict[str, Any] = {"x": np.array([0.5, -1.5, 2.0]), "y": np.array([1.25, 0.75, -0.25])}
    functions = {"-": np.subtract, "*": np.multiply, "tanh": np.tanh, "cos": np.cos}
    for name, op, arguments in program:
        values[name] = functions[op](*(values[a] for a in arguments))
    return list(values[name])


def expression(program, element="{}[i]", binary="({0} {op} {1})", unary="Math.{op}({0})"):
    texts = {name: element.format(name) for name in "xy"}
    for name, op, arguments in program:
        form = unary if len(arguments) == 1 else binary
        texts[name] = form.format(*(texts[a] for a in arguments), op=op)
    return texts


@fuse.mistake(
    "brackets are missing", hint="* binds before −, and x − y − z is (x − y) − z. What if y − z is to be taken from x?"
)
def _(program):
    return expression(program, binary="{0} {op} {1}")[program[-1][0]]


@fuse.mistake("`Math.` is missing", hint="In JavaScript tanh and cos are in the object Math.")
def _(program):
    return expression(program, unary="{op}({0})")[program[-1][0]]


@fuse.mistake("`[i]` is missing", hint="x is a whole array. The loop is at element i.")
def _(program):
    return expression(program, element="{}")[program[-1][0]]


@fuse.mistake("the operands are exchanged", hint="a − b is not b − a.")
def _(program):
    return expression(program, binary="({1} {op} {0})")[program[-1][0]]


@fuse.mistake(
    "names of records are left in",
    hint="a record between has no array, for nothing is written to memory: put its own text in its place.",
)
def _(program):
    texts = {name: name for _, _, arguments in program for name in arguments} | {"x": "x[i]", "y": "y[i]"}
    _, op, arguments = program[-1]
    parts = [texts[a] for a in arguments]
    return f"{parts[0]} {op} {parts[1]}" if len(parts) == 2 else f"Math.{op}({parts[0]})"


@fuse.mistake("the first record's text, not the last one's", hint="The result is the last record.")
def _(program):
    return expression(program)[program[0][0]]


@fuse.mistake("functions of NumPy", hint="No NumPy runs in a browser: there the object is called Math.")
def _(program):
    return expression(program, unary="np.{op}({0})")[program[-1][0]]


@fuse.mistake(
    "a statement in place of an expression",
    hint="Only what stands on the right of `out[i] =` is asked for, without a semicolon.",
)
def _(program):
    return f"out[i] = {fuse.reference(program)};"
