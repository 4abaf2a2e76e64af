"""Exercises 9 to 11: broadcasting and its transpose."""

from __future__ import annotations

import numpy as np

from ...differences import gradients_by_differences
from ...draws import arrays, sizes, st
from ...exercise import exercise


@st.composite
def broadcast_cotangents(draw):
    """A cotangent and a shape that broadcasts to its shape: some axes are 1, and leading ones are missing."""
    shape = tuple(draw(sizes) for _ in range(draw(st.integers(0, 3))))
    small = tuple(1 if draw(st.booleans()) else n for n in shape)
    return draw(arrays(shape)), small[draw(st.sampled_from([0, 0, *range(len(shape) + 1)])) :]


@exercise(
    9,
    "The transpose of broadcasting",
    inputs=broadcast_cotangents(),
    example=(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), (1, 3)),
    cases=[
        (np.arange(12.0).reshape(2, 3, 2), shape)
        for shape in [(2, 1, 2), (2, 3, 1), (1, 3, 1), (2, 1, 1), (3, 1), (1, 2), (2,), ()]
    ],
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
    "a broadcast axis is not summed: one of length 1",
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
    "a broadcast axis is not summed: one that is new in front", hint="A shape (3,) beside a gradient (2, 3): 2 is new."
)
def _(g, shape):
    stretched = tuple(a for a, n in enumerate(shape) if n == 1)
    return g.sum(axis=stretched, keepdims=True) if g.ndim == len(shape) and stretched else g


@sum_to_shape.mistake(
    "summed axes have vanished", hint="An axis of length 1 in `shape` must come back with length 1: keepdims=True."
)
def _(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return np.asarray(g.sum(axis=tuple(axis for axis, n in enumerate(shape) if n == 1)))


@st.composite
def lookups(draw):
    """The cotangent of x[indices], the indices, some of them equal or negative, and the number of rows of x."""
    rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    indices = draw(st.lists(st.integers(-rows, rows - 1), max_size=4))
    return draw(arrays((len(indices), width))), np.array(indices, "int64"), rows


@exercise(
    10,
    "Repeated indices add up",
    inputs=lookups(),
    example=(np.array([[1.0, 0.0], [10.0, 0.0], [100.0, 5.0]]), np.array([2, 0, 2]), 3),
    understood="The transpose of reading rows is adding to rows: an embedding's gradient is such a scatter-add.",
    hints=[
        "Begin with zeros for all rows of x. Row k of g belongs to row indices[k] of x: add it there.",
        "A loop over k does it. NumPy has it in one call, too: look up np.add.at.",
    ],
)
def index_gradient(g, indices, rows):
    """y = x[indices] takes rows of x, such as the vectors of words in a text; x is (rows, D), and g = ∂L/∂y;
    `indices` has one axis.

    Return ∂L/∂x, of shape (rows, D). Rows that were taken twice get both gradients, and rows that were not taken get 0.
    As always in NumPy an index −1 means the last row.
    """
    gradient = np.zeros((rows, g.shape[1]))
    np.add.at(gradient, indices, g)
    return gradient


@index_gradient.check_with
def _(g, indices, rows):
    return gradients_by_differences(lambda x: x[indices], [np.ones((rows, g.shape[1]))], g)[0]


@index_gradient.mistake(
    "of a row that was taken twice, one gradient is lost",
    hint="`gradient[indices] += g` reads, adds, then writes: of two writes to one row the last remains.",
)
def _(g, indices, rows):
    gradient = np.zeros((rows, g.shape[1]))
    gradient[indices] += g
    return gradient


@index_gradient.mistake(
    "indexed once more, instead of the transpose",
    hint="g[indices] takes rows of g. But row k of g has to go to row indices[k].",
)
def _(g, indices, rows):
    gradient = np.zeros((rows, g.shape[1]))
    gradient[: len(indices)] = g[indices]
    return gradient


@index_gradient.mistake(
    "the mean over repeated rows, not their sum", hint="A word that occurs twice has two effects on the loss."
)
def _(g, indices, rows):
    counts = np.bincount(indices % rows, minlength=rows)
    return index_gradient.reference(g, indices, rows) / np.maximum(counts, 1)[:, None]


@index_gradient.mistake("an index −1 is lost", hint="−1 is the last row, as x[−1] is; −2 is the one before it.")
def _(g, indices, rows):
    return np.array([[i == k for k in indices] for i in range(rows)], "float64").reshape(rows, len(indices)) @ g


@st.composite
def linear_layers(draw):
    """x (…, N) with one to three axes, W (N, M), and the cotangent of x @ W + b."""
    inner, outer = draw(sizes), draw(sizes)
    leading = tuple(draw(st.lists(sizes, max_size=2)))
    return draw(arrays((*leading, inner))), draw(arrays((inner, outer))), draw(arrays((*leading, outer)))


@exercise(
    11,
    "The gradients of a linear layer",
    inputs=linear_layers(),
    example=(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), np.ones((2, 3))),
    cases=[(np.arange(8.0).reshape(2, 1, 2, 2), np.array([[1.0], [2.0]]), np.arange(4.0).reshape(2, 1, 2, 1))],
    outputs=("∂L/∂x", "∂L/∂W", "∂L/∂b"),
    understood="The transpose of x @ W is g @ Wᵀ one way and xᵀ @ g the other; axes that W does not have are summed.",
    hints=[
        "The shapes nearly decide: x is (…, N), W (N, M), g (…, M). Which products of two give the shape of the third?",
        "W and b served every row: make one axis of the leading ones, x.reshape(-1, N), and sum over it.",
    ],
)
def linear_gradients(x, W, g):
    """Let y = x @ W + b, with x of shape (…, N) (any number of axes in front: time, batch, or none), W (N, M), b (M,).

    g = ∂L/∂y is (…, M). Return (∂L/∂x, ∂L/∂W, ∂L/∂b), each of the shape of its array.
    """
    rows, g_rows = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    return g @ W.T, rows.T @ g_rows, g_rows.sum(axis=0)


@linear_gradients.check_with
def _(x, W, g):
    return gradients_by_differences(lambda x, W, b: x @ W + b, (x, W, np.ones(W.shape[1])), g)


@linear_gradients.mistake(
    "∂L/∂b is not summed over all rows",
    hint="b was added to every row, whatever its axes: it was broadcast (exercise 9).",
)
def _(x, W, g):
    return (*linear_gradients.reference(x, W, g)[:2], g)


@linear_gradients.mistake(
    "∂L/∂b is summed over the first axis alone",
    hint="x may be (T, B, N): b was broadcast over time and over the batch.",
)
def _(x, W, g):
    return (*linear_gradients.reference(x, W, g)[:2], g.sum(axis=0) if g.ndim > 1 else g)


@linear_gradients.mistake(
    "it is right for x of two axes only",
    hint="x.T turns all axes round, of (T, B, N) too. Make x a matrix of rows first.",
)
def _(x, W, g):
    return g @ W.T, x.T @ g, g.sum(axis=0)


@linear_gradients.mistake(
    "∂L/∂W and ∂L/∂b are means over the rows", hint="L is what it is: if it is a mean, g has the 1/n in it already."
)
def _(x, W, g):
    gx, gW, gb = linear_gradients.reference(x, W, g)
    return gx, gW / (g.size // g.shape[-1]), gb / (g.size // g.shape[-1])


@linear_gradients.mistake("∂L/∂W is transposed", hint="∂L/∂W has the shape of W, (N, M): xᵀ comes first, then g.")
def _(x, W, g):
    gx, gW, gb = linear_gradients.reference(x, W, g)
    return gx, gW.T, gb


@linear_gradients.mistake("∂L/∂x is g @ W, without the transpose", hint="g is (…, M), and W is (N, M): what fits?")
def _(x, W, g):
    return g @ W, *linear_gradients.reference(x, W, g)[1:]
