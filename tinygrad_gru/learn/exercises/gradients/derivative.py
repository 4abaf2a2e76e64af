"""Exercises 1 to 3: a derivative and its check."""

from __future__ import annotations

import math

import numpy as np

from ...differences import gradients_by_differences
from ...draws import Formula, arrays, formulas, numbers, st
from ...exercise import exercise


@exercise(
    1,
    "The gradient of a product",
    inputs=(numbers, numbers, numbers),
    example=(2.0, 3.0, 10.0),
    outputs=("∂L/∂a", "∂L/∂b"),
    understood="A rule multiplies g by the derivative of its own step, and needs to know nothing else of L.",
    hints=[
        "If b is held and a grows by a little d, y grows by d·b. And if y grows by e, L grows by e·g.",
        "So L grows by d·b·g: what does ∂L/∂a = (growth of L) / d give? And with a and b exchanged?",
    ],
)
def product_gradient(a, b, g):
    """Let y = a·b be one step on the way to a loss L, and g = ∂L/∂y, which is known. Return the pair (∂L/∂a, ∂L/∂b)."""
    return g * b, g * a


@product_gradient.check_with
def _(a, b, g):
    return gradients_by_differences(lambda a, b: a * b, (a, b), g)


@product_gradient.mistake(
    "you returned ∂L/∂a for b", hint="Which factor does y grow by when a grows: a itself, or the other?"
)
def _(a, b, g):
    return g * a, g * b


@product_gradient.mistake(
    "g is not used: these are ∂y/∂a and ∂y/∂b", hint="The loss sees y through g: chain rule, ∂L/∂a = ∂L/∂y · ∂y/∂a."
)
def _(a, b, g):
    return b, a


@product_gradient.mistake("one gradient alone", hint="y has two inputs: return a pair, ∂L/∂a and ∂L/∂b.")
def _(a, b, g):
    return g * b


@product_gradient.mistake(
    "g is added, not multiplied",
    hint="Derivatives of steps that follow one another are multiplied; sums are for paths side by side.",
)
def _(a, b, g):
    return g + b, g + a


@product_gradient.mistake(
    "the gradient of a sum, not of a product", hint="∂(a + b)/∂a is 1. What is ∂(a·b)/∂a: does it depend on b?"
)
def _(a, b, g):
    return g, g


@exercise(
    2,
    "The derivative of sigmoid from its output",
    inputs=(numbers, st.integers(1, 15).map(lambda n: n / 16)),
    example=(1.0, 0.5),
    understood="Some rules need only the output: then x itself can be forgotten, which is half of the memory.",
    hints=[
        "Differentiate σ(x) = 1/(1 + e⁻ˣ): the result is e⁻ˣ/(1 + e⁻ˣ)². Can you find σ in it?",
        "e⁻ˣ/(1 + e⁻ˣ) is 1 − σ(x). So σ′ is a product of two things that y alone gives. And then there is g.",
    ],
)
def sigmoid_gradient(g, y):
    """Let y = σ(x) = 1/(1 + e⁻ˣ) and g = ∂L/∂y. Return ∂L/∂x, from g and y alone: x is not kept."""
    return g * y * (1 - y)


@sigmoid_gradient.check_with
def _(g, y):
    return gradients_by_differences(lambda x: 1 / (1 + np.exp(-x)), [math.log(y / (1 - y))], g)[0]


@sigmoid_gradient.mistake("the rule of tanh, not of σ", hint="tanh′ is 1 − y². At y = ½, x is 0, and σ is steepest: ¼.")
def _(g, y):
    return g * (1 - y * y)


@sigmoid_gradient.mistake(
    "y is taken for x: σ is applied once more", hint="y is the output already. σ(y) is a number that appears nowhere."
)
def _(g, y):
    s = 1 / (1 + math.exp(-y))
    return g * s * (1 - s)


@sigmoid_gradient.mistake("g is not used: this is ∂y/∂x", hint="Chain rule: ∂L/∂x = ∂L/∂y · ∂y/∂x, and ∂L/∂y is g.")
def _(g, y):
    return y * (1 - y)


@sigmoid_gradient.mistake(
    "a factor is missing: this does not vanish where σ is flat", hint="At y = 1 σ has saturated: what must σ′ be there?"
)
def _(g, y):
    return g * y


@exercise(
    3,
    "Central differences",
    inputs=(
        formulas(
            "lambda x: (x**3).sum()", "lambda x: x.prod()", "lambda x: x[0] * x[-1] ** 2", "lambda x: (x @ x) ** 2"
        ),
        arrays(st.integers(1, 3).map(lambda n: (n,))),
        st.sampled_from([1.0, 0.5, 0.25]),
    ),
    example=(Formula("lambda x: x.prod()"), np.array([2.0, 3.0]), 0.5),
    understood="Any gradient can be checked without a rule: two calls of f an element, and an error of order h².",
    hints=[
        "One coordinate at a time: f a little above, f a little below, all the others where they were.",
        "Make a fresh copy of x for above and one for below; the distance between the two points is 2h, not h.",
    ],
)
def numerical_gradient(f, x, h):
    """f takes a vector and returns a number. Return its gradient at x by central differences with this h, no smaller:

    for each coordinate i, (f(x with x_i + h) − f(x with x_i − h)) / 2h, as an array of the shape of x.
    """
    gradient = np.zeros_like(x)
    for i in range(len(x)):
        step = np.zeros_like(x)
        step[i] = h
        gradient[i] = (f(x + step) - f(x - step)) / (2 * h)
    return gradient


@numerical_gradient.check_with
def _(f, x, h):
    return np.array([(f(x + e) - f(x - e)) / (2 * h) for e in h * np.eye(len(x))])


@numerical_gradient.mistake(
    "a one-sided difference, f(x + h) − f(x)",
    hint="Its error is of order h; the central one's, f(x + h) − f(x − h), h².",
)
def _(f, x, h):
    return np.array([(f(x + e) - f(x)) / h for e in h * np.eye(len(x))])


@numerical_gradient.mistake("divided by h, where the points are 2h apart", hint="From x − h to x + h: how far is that?")
def _(f, x, h):
    return np.array([(f(x + e) - f(x - e)) / h for e in h * np.eye(len(x))])


@numerical_gradient.mistake("(…) / 2 * h is (… / 2) · h", hint="Python divides first: put 2 * h into brackets.")
def _(f, x, h):
    return np.array([(f(x + e) - f(x - e)) / 2 * h for e in h * np.eye(len(x))])


@numerical_gradient.mistake(
    "all coordinates are moved at once", hint="x + h moves every element of x. A partial derivative moves one."
)
def _(f, x, h):
    return np.full_like(x, (f(x + h) - f(x - h)) / (2 * h))


@numerical_gradient.mistake(
    "x[i] is moved and never put back",
    hint="When the second coordinate's turn comes, the first is still moved; and x was the caller's array.",
)
def _(f, x, h):
    gradient = np.zeros_like(x)
    for i in range(len(x)):
        x[i] += h
        above = f(x)
        x[i] -= 2 * h
        gradient[i] = (above - f(x)) / (2 * h)
    return gradient


@numerical_gradient.mistake(
    "below and above are exchanged", hint="Try f(x) = x: the derivative should be 1, and this gives −1."
)
def _(f, x, h):
    return np.array([(f(x - e) - f(x + e)) / (2 * h) for e in h * np.eye(len(x))])
