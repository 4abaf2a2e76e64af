"""Exercises 36 and 37: forward mode and Hessian-vector products, from reverse mode."""

from __future__ import annotations

import numpy as np

from ....ops import op
from ....tensor import Tensor
from ....transforms import grad, vjp
from ...draws import Formula, arrays, formulas
from ...exercise import exercise

# -- 36 ----------------------------------------------------------------------------------------------------------------
MAPS = [
    "lambda x: x * x",
    "lambda x: x[0] * x",
    "lambda x: (x @ Tensor([[1.0, 2.0], [0.0, 1.0]])).tanh()",
    "lambda x: x.exp() @ Tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])",
]


def run_watched(solution, f, x, t, name):
    """The result of solution(f, x, t), whether f was called elsewhere, and whether more than two walks reached x."""
    walks, elsewhere = [], []

    def walked(g):
        walks.append(g)
        return g

    @op
    def watched(x):
        return x + 0

    watched.vjp(x=walked)

    def g(z):
        elsewhere.extend([1] if not np.array_equal(z.numpy(), x.numpy()) else [])
        return f(watched(z))

    result = solution(g, x, t)
    return {
        name: result.numpy() if isinstance(result, Tensor) else result,
        "calls of f elsewhere than at x": len(elsewhere),
        "walks back beyond two": max(0, len(walks) - 2),
    }


def run_on_tensors(solution, f, x, t):
    return run_watched(solution, f, Tensor(x), Tensor(t), "J t")


@exercise(
    36,
    "Forward mode from two reverse modes",
    inputs=(formulas(*MAPS, Tensor=Tensor), arrays((2,)), arrays((2,))),
    example=(Formula(MAPS[1], Tensor=Tensor), np.array([2.0, 3.0]), np.array([1.0, 10.0])),
    understood="vᵀ J is linear in v, so its derivative with respect to v is J again: reverse twice is forward.",
    hints=[
        "pull(v)[0] is Jᵀ v, a function of v, too. Which matrix is the Jacobian of *that* function?",
        "Jᵀ v has the Jacobian Jᵀ; its vjp multiplies by the transpose of this, which is J.",
        "vjp(lambda v: pull(v)[0], v) at any v of the shape of y, and then its pull of t.",
    ],
    run=run_on_tensors,
    call="jvp({f}, Tensor({x}), Tensor({t}))",
    header="import numpy as np\n\nfrom tinygrad_gru import Tensor, vjp",
)
def jvp(f, x, t):
    """vjp(f, x) gives y = f(x) and a function `pull`, where pull(v)[0] is Jᵀ v: reverse mode. J is ∂y/∂x.

    Return J t, the derivative of f at x along t: forward mode. You need no new rule: `vjp`, used twice, has it all.
    f is to be called at x alone, and J not to be formed: more than two walks back are refused.
    """
    y, pull = vjp(f, x)
    _, push = vjp(lambda v: pull(v)[0], y * 0)
    return push(t)[0]


@jvp.check_with
def _(f, x, t):
    def at(step):
        return f(Tensor(x + step * t)).numpy()

    found = (8 * (at(1e-3) - at(-1e-3)) - (at(2e-3) - at(-2e-3))) / 12e-3
    return {"J t": found, "calls of f elsewhere than at x": 0, "walks back beyond two": 0}


@jvp.mistake(
    "Jᵀ t in place of J t",
    hint="vjp once multiplies by the transpose of J. Where y and x have other shapes, it can't even take t.",
)
def _(f, x, t):
    return vjp(f, x)[1](t)[0]


@jvp.mistake("vjp of `pull` itself", hint="pull(v) is a tuple, with one gradient for each input of f: take its [0].")
def _(f, x, t):
    y, pull = vjp(f, x)
    return vjp(pull, y)[1](t)[0]


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
    return run_watched(solution, f, Tensor(x, requires_grad=True), Tensor(v), "H v")


@exercise(
    37,
    "A Hessian you never form",
    inputs=(formulas(*SCALARS, Tensor=Tensor), arrays((2,)), arrays((2,))),
    example=(Formula(SCALARS[1], Tensor=Tensor), np.array([2.0, 3.0]), np.array([1.0, 10.0])),
    understood="H v costs two walks whatever the size of H, which for a million parameters has 10¹² elements.",
    hints=[
        "g = grad(f(x), x) is the gradient. If its own records are kept, it can be differentiated, too.",
        "create_graph=True keeps them.",
        "The gradient of the number Σ g ⊙ v, where v is constant, is H v.",
    ],
    run=run_on_variable,
    call="hvp({f}, Tensor({x}, requires_grad=True), Tensor({v}))",
    header="import numpy as np\n\nfrom tinygrad_gru import Tensor, grad",
)
def hvp(f, x, v):
    """f gives a number. H = ∂²f/∂x² is its Hessian: with n elements in x it has n² elements.

    Return H v for a vector v, without forming H (two walks back will do), and call f at x alone:
    `grad(y, x)` is the gradient of a number y with respect to x, and
    `grad(y, x, create_graph=True)` is one that can be differentiated once more. x wants a gradient; v is a constant.
    """
    g = grad(f(x), x, create_graph=True)
    return grad((g * v).sum(), x)


@hvp.check_with
def _(f, x, v):
    def gradient(step):
        at = Tensor(x + step * v, requires_grad=True)
        return grad(f(at), at).numpy()

    found = (8 * (gradient(1e-3) - gradient(-1e-3)) - (gradient(2e-3) - gradient(-2e-3))) / 12e-3
    return {"H v": found, "calls of f elsewhere than at x": 0, "walks back beyond two": 0}


@hvp.mistake(
    "no record leads from the first gradient to x: is create_graph missing, or was x copied?",
    hint="Without create_graph=True the gradient is a constant to the tape. And Tensor(x.numpy()) is another x.",
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
