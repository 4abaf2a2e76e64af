"""Exercises 34 to 37: memory and loops as JavaScript and a GPU see them; higher derivatives."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from ...tensor import Tensor
from ...transforms import grad, vjp
from ..draws import arrays, sizes, st
from ..exercise import exercise
from .chapter_11 import programs


# -- 34 ----------------------------------------------------------------------------------------------------------------
@st.composite
def broadcast_places(draw):
    """A place in an array of one to three axes, and the shape of an operand that broadcasts to that array."""
    full = draw(st.lists(sizes, min_size=1, max_size=3))
    index = tuple(draw(st.integers(0, n - 1)) for n in full)
    shape = tuple(draw(st.sampled_from((n, 1))) for n in full)
    return index, shape[draw(st.integers(0, len(shape) - 1)) :]


@exercise(
    34,
    "Where an element lies",
    inputs=broadcast_places(),
    example=((1, 2), (2, 3)),
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
def run_expression(solution, program):
    """The values of the expression for i = 0, 1, 2: what is written here is the same in JavaScript and in Python."""
    text = solution(program)
    if not isinstance(text, str):
        return text
    print(text)
    names = {"Math": SimpleNamespace(tanh=math.tanh, cos=math.cos), "x": [0.5, -1.5, 2.0], "y": [1.25, 0.75, -0.25]}
    return [float(eval(text, {"__builtins__": {}}, names | {"i": i})) for i in range(3)]


@exercise(
    35,
    "One loop, one expression",
    inputs=st.tuples(programs(("x", "y"), (("-", 2), ("*", 2), ("tanh", 1), ("cos", 1)), 4)),
    example=([("a", "-", ("x", "y")), ("b", "tanh", ("a",)), ("c", "*", ("b", "x"))],),
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


# -- 36 ----------------------------------------------------------------------------------------------------------------
class Written:
    """A function that is shown as its text."""

    def __init__(self, text: str, **names: Any) -> None:
        self.text, self.function = text, eval(text, {"np": np, "Tensor": Tensor} | names)

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __repr__(self) -> str:
        return self.text

    def __deepcopy__(self, memo: Any) -> Written:
        return self


MAPS = [
    "lambda x: x * x",
    "lambda x: x[0] * x",
    "lambda x: (x @ Tensor([[1.0, 2.0], [0.0, 1.0]])).tanh()",
    "lambda x: x.exp() @ Tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])",
]


def as_result(value):
    return value.numpy() if isinstance(value, Tensor) else value


def run_on_tensors(solution, f, x, t):
    return as_result(solution(f, Tensor(x), Tensor(t)))


@exercise(
    36,
    "Forward mode from reverse mode",
    inputs=(st.sampled_from([Written(text) for text in MAPS]), arrays((2,)), arrays((2,))),
    example=(Written(MAPS[1]), np.array([2.0, 3.0]), np.array([1.0, 10.0])),
    understood="vᵀ J is linear in v, so its derivative with respect to v is J again: reverse twice is forward.",
    hints=[
        "pull(v)[0] is Jᵀ v, a function of v, too. Which matrix is the Jacobian of *that* function?",
        "Jᵀ v has the Jacobian Jᵀ; its vjp multiplies by the transpose of this, which is J.",
        "vjp(lambda v: pull(v)[0], v) at any v of the shape of y, and then its pull of t.",
    ],
    run=run_on_tensors,
    call="jvp({f}, Tensor({x}), Tensor({t}))",
    header="from tinygrad_gru import Tensor, vjp",
)
def jvp(f, x, t):
    """vjp(f, x) gives y = f(x) and a function `pull`, where pull(v)[0] is Jᵀ v: reverse mode. J is ∂y/∂x.

    Return J t, the derivative of f at x along t: forward mode. You need no new rule: `vjp`, used twice, has it all.
    """
    y, pull = vjp(f, x)
    _, push = vjp(lambda v: pull(v)[0], y * 0)
    return push(t)[0]


@jvp.check_with
def _(f, x, t):
    def at(step):
        return f(Tensor(x + step * t)).numpy()

    return (8 * (at(1e-3) - at(-1e-3)) - (at(2e-3) - at(-2e-3))) / 12e-3


@jvp.mistake(
    "Jᵀ t in place of J t",
    hint="vjp once multiplies by the transpose of J. Where y and x have other shapes, it can't even take t.",
)
def _(f, x, t):
    return vjp(f, x)[1](t)[0]


@jvp.mistake("x and t exchanged: J at t", hint="The derivative is taken at x and along t, and not the other way round.")
def _(f, x, t):
    return jvp.reference(f, t, x)


@jvp.mistake("f(x + t) − f(x)", hint="That is a step of length 1 along t, and J t the slope where it begins.")
def _(f, x, t):
    return f(x + t) - f(x)


@jvp.mistake(
    "Jᵀ 1, times t",
    hint="pull(1) adds up the rows of J before t has weighed its columns. It is right for elementwise functions alone.",
)
def _(f, x, t):
    y, pull = vjp(f, x)
    return pull(y * 0 + 1)[0] * t


# -- 37 ----------------------------------------------------------------------------------------------------------------
SCALARS = [
    "lambda x: (x * x * x).sum()",
    "lambda x: x[0] * x[0] * x[1]",
    "lambda x: (x @ Tensor([[1.0, 2.0], [0.0, 1.0]])).tanh().sum()",
]


def run_on_variable(solution, f, x, v):
    return as_result(solution(f, Tensor(x, requires_grad=True), Tensor(v)))


@exercise(
    37,
    "A Hessian that is never formed",
    inputs=(st.sampled_from([Written(text) for text in SCALARS]), arrays((2,)), arrays((2,))),
    example=(Written(SCALARS[1]), np.array([2.0, 3.0]), np.array([1.0, 10.0])),
    understood="H v costs two walks whatever the size of H, which for a million parameters has 10¹² elements.",
    hints=[
        "g = grad(f(x), x) is the gradient. If its own records are kept, it can be differentiated, too.",
        "create_graph=True keeps them.",
        "The gradient of the number Σ g ⊙ v, where v is constant, is H v.",
    ],
    run=run_on_variable,
    call="hvp({f}, Tensor({x}, requires_grad=True), Tensor({v}))",
    header="from tinygrad_gru import Tensor, grad",
)
def hvp(f, x, v):
    """f gives a number. H = ∂²f/∂x² is its Hessian: with n elements in x it has n² elements.

    Return H v for a vector v, without forming H: `grad(y, x)` is the gradient of a number y with respect to x, and
    `grad(y, x, create_graph=True)` is one that can be differentiated once more. x wants a gradient; v is a constant.
    """
    g = grad(f(x), x, create_graph=True)
    return grad((g * v).sum(), x)


@hvp.check_with
def _(f, x, v):
    def gradient(step):
        at = Tensor(x + step * v, requires_grad=True)
        return grad(f(at), at).numpy()

    return (8 * (gradient(1e-3) - gradient(-1e-3)) - (gradient(2e-3) - gradient(-2e-3))) / 12e-3


@hvp.mistake(
    "the first gradient has no records: create_graph is missing",
    hint="Without create_graph=True the gradient is a constant to the tape, and nothing is behind it.",
)
def _(f, x, v):
    g = grad(f(x), x)
    return grad((g * v).sum(), x)


@hvp.mistake(
    "gᵀ v: v is not differentiated yet", hint="g · v is the slope of f along v, a number. H v is its gradient."
)
def _(f, x, v):
    return (grad(f(x), x) * v).sum()


@hvp.mistake(
    "the rows of H are added up before v comes in",
    hint="The gradient of Σ g is H 1. v has to weigh the elements of g *before* the second gradient.",
)
def _(f, x, v):
    g = grad(f(x), x, create_graph=True)
    return grad(g.sum(), x) * v


@hvp.mistake(
    "a difference of two gradients, a step of v apart",
    hint="That is H v only where f is quadratic. The tape can do it without a step.",
)
def _(f, x, v):
    there = Tensor((x + v).numpy(), requires_grad=True)
    return grad(f(there), there) - grad(f(x), x)


@hvp.mistake("g ⊙ v", hint="This has the first derivative alone. Differentiate once more.")
def _(f, x, v):
    return grad(f(x), x) * v
