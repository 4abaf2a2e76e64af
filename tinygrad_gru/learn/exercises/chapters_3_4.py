"""Exercises 7 to 11: why order matters; broadcasting and its transpose."""

from __future__ import annotations

import numpy as np

from ..differences import gradients_by_differences
from ..draws import arrays, sizes, st
from ..exercise import exercise


@st.composite
def broadcast_cotangents(draw):
    """A cotangent and a shape that broadcasts to its shape: some axes are 1, and leading ones are missing."""
    shape = tuple(draw(st.lists(sizes, max_size=3)))
    small = tuple(1 if draw(st.booleans()) else n for n in shape)
    return draw(arrays(shape)), small[draw(st.integers(0, len(shape))) :]


@exercise(
    9,
    "The transpose of broadcasting",
    inputs=broadcast_cotangents(),
    example=(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), (1, 3)),
    understood="Broadcasting copies a value, and each copy has its own effect on the loss: the gradient is their sum.",
    hints=[
        "Broadcasting does two things: it puts new axes in front, and it stretches axes of length 1. Undo both.",
        "g.ndim - len(shape) axes are in front; stretched are those where shape has 1 and g more. keepdims=True helps.",
    ],
)
def sum_to_shape(g, shape):
    """An array of this shape was broadcast to g.shape, and g is the gradient of the result.

    Return the gradient of the array: its shape is `shape`, and what was copied to many places gets the sum of them.
    """
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    stretched = tuple(axis for axis, n in enumerate(shape) if n == 1)
    return g.sum(axis=stretched, keepdims=True) if stretched else g


@sum_to_shape.check_with
def _(g, shape):
    (gradient,) = gradients_by_differences(lambda x: np.broadcast_to(x, g.shape), (np.ones(shape),), g)
    return gradient


@sum_to_shape.mistake(
    "axes of length 1 are not summed",
    hint="A shape (1, 3) beside a gradient (2, 3): the axis was stretched from 1 to 2.",
)
def _(g, shape):
    return g.sum(axis=tuple(range(g.ndim - len(shape))))


@sum_to_shape.mistake(
    "the mean, where the sum is needed",
    hint="Each copy changes the loss by its own share. Do shares add up, or average?",
)
def _(g, shape):
    count = g.size / max(int(np.prod(shape)), 1)
    return sum_to_shape.reference(g, shape) / count


@sum_to_shape.mistake(
    "one copy's gradient, not the sum of all copies'", hint="Which other places of g does an element reach?"
)
def _(g, shape):
    g = g[(0,) * (g.ndim - len(shape))]
    return g[tuple(slice(0, 1) if n == 1 else slice(None) for n in shape)]


@sum_to_shape.mistake(
    "new axes in front are not summed", hint="A shape (3,) beside a gradient (2, 3): the 2 in front is new."
)
def _(g, shape):
    stretched = tuple(a for a, n in enumerate(shape) if n == 1)
    return g.sum(axis=stretched, keepdims=True) if g.ndim == len(shape) and stretched else g


@sum_to_shape.mistake(
    "summed axes have vanished",
    hint="An axis of length 1 in `shape` must come back as an axis of length 1: keepdims=True.",
)
def _(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return np.asarray(g.sum(axis=tuple(axis for axis, n in enumerate(shape) if n == 1)))
