"""Exercises 1 to 6: a derivative and its check; a tape."""

from __future__ import annotations

from ..differences import gradients_by_differences
from ..draws import numbers
from ..exercise import exercise


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
