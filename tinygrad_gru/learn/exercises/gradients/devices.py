"""Exercises 15 and 16: arrays on another device."""

from __future__ import annotations

import numpy as np

from ....backend.events import TO_HOST, event_listener
from ....debug.instrumented import InstrumentedArray, instrument, uninstrument
from ...draws import arrays, sizes, st
from ...exercise import exercise


def on_device(solution, *arguments):
    """The result of a solution on arrays that count their copies to the host, as NumPy's arrays, and the count."""
    copies = []
    token = event_listener.set(lambda kind, *_: copies.append(kind) if kind == TO_HOST else None)
    try:
        result = solution(*map(instrument, arguments))
    finally:
        event_listener.reset(token)
    for part in result if isinstance(result, (list, tuple)) else [result]:
        if not isinstance(part, InstrumentedArray):
            raise TypeError(f"expected arrays of the device that x is on, got {type(part).__name__}")
    return uninstrument(result), len(copies)


def _probabilities(solution, x):
    result, copies = on_device(solution, x)
    return {"probabilities": result, "how often a value was copied to the host": copies}


@exercise(
    15,
    "A formula for any array library",
    inputs=(arrays(st.tuples(sizes, sizes)),),
    example=(np.array([[0.0, 0.0], [0.0, 1.0]]),),
    cases=[
        (np.array([[1000.0, 999.0, -1000.0]]),),
        (np.array([[1000.0, -1000.0], [-1000.0, -999.0]]),),
        (np.array([1.0, 2.0, 3.0]),),
        (np.arange(8.0).reshape(2, 2, 2),),
    ],
    rtol=1e-12,
    run=_probabilities,
    header="import numpy as np  # for the example below alone: all that softmax needs comes from x",
    understood="Arrays bring their library along: one formula serves NumPy, CuPy, and whoever keeps the standard.",
    hints=[
        "xp = x.__array_namespace__(), and then as with np: xp.exp, xp.max, xp.sum, with axis= and keepdims=True.",
        "Subtract the largest of each row before exp, divide by the sum of each row after it, both with keepdims=True.",
    ],
)
def softmax(x):
    """Return eˣ / Σ eˣ along the last axis of x, on the device of x; elements up to ±1000 must not overflow.

    x may be an array of any library, here one that acts like a GPU's: NumPy's functions refuse it, and float(…),
    .item() and `if` copy to the host, which is not to happen. x.__array_namespace__() is the module of its functions.
    """
    xp = x.__array_namespace__()
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


@softmax.check_with
def _(x):
    rows = [[np.exp(v - max(row)) / sum(np.exp(row - max(row))) for v in row] for row in x.reshape(-1, x.shape[-1])]
    return {"probabilities": np.reshape(rows, x.shape), "how often a value was copied to the host": 0}


@softmax.mistake(
    "a function of np: it knows NumPy's arrays alone",
    hint="np.exp refuses an array on a GPU. Its own module has exp, too.",
)
def _(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


@softmax.mistake(
    "a value was copied to the host",
    hint="float(…), .item() and .tolist() wait for the device. An array of one element stays there.",
)
def _(x):
    xp = x.__array_namespace__()
    e = xp.exp(x - float(xp.max(x)))
    return e / xp.sum(e, axis=-1, keepdims=True)


@softmax.mistake(
    "e¹⁰⁰⁰ overflows", hint="Softmax does not change when a row is shifted: subtract its largest element first."
)
def _(x):
    e = x.__array_namespace__().exp(x)
    return e / x.__array_namespace__().sum(e, axis=-1, keepdims=True)


@softmax.mistake("the sum is over all elements, not over each row", hint="axis=-1: each row has the sum 1.")
def _(x):
    xp = x.__array_namespace__()
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e)


@softmax.mistake("the sum is over the first axis, not the last", hint="axis=-1 is the last one, whatever the shape.")
def _(x):
    xp = x.__array_namespace__()
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=0, keepdims=True)


def _clipped(solution, gradients, limit):
    result, copies = on_device(lambda moved: solution(moved, limit), gradients)
    return {"gradients": list(result), "how often a value was copied to the host": copies}


@exercise(
    16,
    "Clip without waiting",
    inputs=(
        st.lists(arrays(st.lists(sizes, max_size=2).map(tuple)), min_size=1, max_size=3),
        st.sampled_from([1.0, 2.0, 0.5]),
    ),
    example=([np.array([3.0, 0.0]), np.array([[4.0]])], 1.0),
    cases=[([np.array([0.0, 0.0])], 1.0), ([np.array([0.25]), np.array([0.25])], 2.0)],
    run=_clipped,
    header="import numpy as np  # for the example below alone: each gradient brings its functions along",
    understood="What is decided by a number on the device is computed there, too: min instead of if, and nobody waits.",
    hints=[
        "`if norm > limit` needs an answer on the host. min(1, limit / norm) is a number that decides by itself.",
        "xp = g.__array_namespace__() of one of them; sums of squares, xp.sqrt, then xp.minimum(limit / norm, 1.0).",
    ],
)
def clip_by_norm(gradients, limit):
    """gradients is a list of arrays on a device; their norm is the root of the sum of all their squares, together.

    Return a new list in which they are scaled by limit / norm if the norm is larger than limit, and else unchanged.
    No value may be copied to the host: no `if`, float(…) or .item() on an array, no index of booleans, for each time
    the host would wait for the device. (Arrays do not raise for 1 / 0: they give inf.)
    """
    xp = gradients[0].__array_namespace__()
    norm = xp.sqrt(sum(xp.sum(g * g) for g in gradients))
    scale = xp.minimum(limit / norm, 1.0)
    return [g * scale for g in gradients]


@clip_by_norm.check_with
def _(gradients, limit):
    norm = np.linalg.norm(np.concatenate([g.ravel() for g in gradients]))
    scaled = [g * limit / norm if norm > limit else g for g in gradients]
    return {"gradients": scaled, "how often a value was copied to the host": 0}


def _norm(gradients):
    xp = gradients[0].__array_namespace__()
    return xp, xp.sqrt(sum(xp.sum(g * g) for g in gradients))


@clip_by_norm.mistake(
    "the host waits to read the norm",
    hint="`if norm > limit`, float(norm) and norm.item() all copy it. Use xp.minimum.",
)
def _(gradients, limit):
    _, norm = _norm(gradients)
    return [g * (limit / norm) for g in gradients] if norm > limit else list(gradients)


@clip_by_norm.mistake(
    "each gradient is clipped by its own norm", hint="One norm of all gradients together: else their direction changes."
)
def _(gradients, limit):
    return [clip_by_norm.reference([g], limit)[0] for g in gradients]


@clip_by_norm.mistake(
    "small gradients are scaled up", hint="If the norm is below the limit, nothing changes: the factor is at most 1."
)
def _(gradients, limit):
    _, norm = _norm(gradients)
    return [g * (limit / norm) for g in gradients]


@clip_by_norm.mistake(
    "limit / (norm + 1e-6)", hint="1 / 0 is no fault here, and the clipped norm is to be `limit` itself."
)
def _(gradients, limit):
    xp, norm = _norm(gradients)
    return [g * xp.minimum(limit / (norm + 1e-6), 1.0) for g in gradients]


@clip_by_norm.mistake("the root of the sum of squares is missing", hint="A norm of (3, 4) is 5, not 25.")
def _(gradients, limit):
    xp, norm = _norm(gradients)
    return [g * xp.minimum(limit / (norm * norm), 1.0) for g in gradients]


@clip_by_norm.mistake(
    "elements are clipped, one by one", hint="That bends the direction. By norm, all are scaled by one factor."
)
def _(gradients, limit):
    xp, _ = _norm(gradients)
    return [xp.minimum(xp.maximum(g, -limit), limit) for g in gradients]
