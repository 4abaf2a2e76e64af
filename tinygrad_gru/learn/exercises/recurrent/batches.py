"""Exercises 29 and 30: streams of documents, and padded sequences."""

from __future__ import annotations

import numpy as np

from ...draws import arrays, numbers, positive, sizes, st
from ...exercise import exercise


# -- 29 ----------------------------------------------------------------------------------------------------------------
@st.composite
def stream_inputs(draw):
    steps, batch = draw(sizes), draw(sizes)
    starts = draw(arrays((steps, batch), st.booleans(), "bool"))
    return draw(arrays((steps, batch))), starts, draw(arrays((batch,))), draw(numbers)


@exercise(
    29,
    "Where a document begins",
    inputs=stream_inputs(),
    example=(np.array([[1.0, 1.0], [0.5, 0.5]]), np.array([[False, False], [True, False]]), np.array([0.5, 0.5]), 1.0),
    cases=[(np.linspace(-1, 1, 12).reshape(6, 2), np.arange(12).reshape(6, 2) % 5 == 4, np.array([0.5, -0.5]), 1.5)],
    understood="A state belongs to its stream: carried on over batches, and cleared before a document's first symbol.",
    hints=[
        "Go through the steps. In each: first clear h where a document starts, then read x_t.",
        "np.where(starts[t], 0, h) clears some columns and leaves the others.",
    ],
)
def stream_states(xs, starts, h, w):
    """A batch reads several texts at once, one a column: xs is (T, B). In a column, document follows upon document, and
    `starts`, (T, B) of booleans, is True at the first symbol of each. h, (B,), is the state after the batch before.

        h_t = tanh(w · h_{t−1} + x_t), where h_{t−1} counts as 0 if a document starts at t

    Return all the states h_1 … h_T, (T, B).
    """
    states = []
    for x, start in zip(xs, starts):
        h = np.tanh(w * np.where(start, 0, h) + x)
        states.append(h)
    return np.array(states)


@stream_states.check_with
def _(xs, starts, h, w):
    def state(t, b):
        before = h[b] if t == 0 else state(t - 1, b)
        return np.tanh(xs[t, b] + (0 if starts[t, b] else w * before))

    return np.array([[state(t, b) for b in range(xs.shape[1])] for t in range(len(xs))])


def run_stream(xs, clear_before, clear_after, h, w):
    states = []
    for x, before, after in zip(xs, clear_before, clear_after):
        states.append(np.tanh(w * np.where(before, 0, h) + x))
        h = np.where(after, 0, states[-1])
    return np.array(states)


@stream_states.mistake(
    "cleared a step late",
    hint="The state is cleared before the new document's first symbol is read. Yours has read it, and forgets it.",
)
def _(xs, starts, h, w):
    return run_stream(xs, np.zeros_like(starts), starts, h, w)


@stream_states.mistake(
    "a new document's first state is 0", hint="0 is the state *before* its first symbol. What is it after it?"
)
def _(xs, starts, h, w):
    return np.where(starts, 0, run_stream(xs, np.zeros_like(starts), starts, h, w))


@stream_states.mistake(
    "all columns are cleared where one of them starts",
    hint="The columns are texts of their own: where one starts, the others go on. starts[t] is an array, not a bool.",
)
def _(xs, starts, h, w):
    return run_stream(xs, starts.any(axis=1), np.zeros(len(xs)), h, w)


@stream_states.mistake(
    "the state of the batch before is dropped",
    hint="A document may go on from the batch before: the h that is given is all you know of it.",
)
def _(xs, starts, h, w):
    return run_stream(xs, starts, np.zeros_like(starts), np.zeros_like(h), w)


@stream_states.mistake(
    "`starts` is not used", hint="A new document must know nothing of the one before it in its column."
)
def _(xs, starts, h, w):
    return run_stream(xs, np.zeros_like(starts), np.zeros_like(starts), h, w)


@stream_states.mistake(
    "an `if` on an array",
    hint="starts[t] has a bool for each column, and each column has its own answer. np.where can choose for all.",
)
def _(xs, starts, h, w):
    states = []
    for x, start in zip(xs, starts):
        h = np.tanh(w * (h * 0 if start else h) + x)
        states.append(h)
    return np.array(states)


# -- 30 ----------------------------------------------------------------------------------------------------------------
@st.composite
def padded_losses(draw):
    steps, batch = draw(sizes), draw(st.integers(1, 3))
    lengths = draw(arrays((batch,), st.integers(0, steps), "int64"))
    lengths[0] = max(lengths[0], 1)
    losses, junk = draw(arrays((steps, batch), positive)), draw(st.sampled_from((9.0, np.nan, np.inf)))
    losses[np.arange(steps)[:, None] >= lengths] = junk
    return losses, lengths


@exercise(
    30,
    "Padding has no say",
    inputs=padded_losses(),
    example=(np.array([[1.0, 4.0], [2.0, np.nan], [3.0, np.nan]]), np.array([3, 1])),
    cases=[
        (np.array([[1.0, 2.0], [np.nan, 4.0]]), np.array([2, 1])),
        (np.array([[1.0, 2.0], [3.0, -np.inf]]), np.array([2, 1])),
    ],
    outputs=("the mean", "the gradient"),
    understood="A mask chooses, it doesn't multiply. And a mean must say what it is a mean of: real steps.",
    hints=[
        "Which steps are real? Compare each step's number with each sequence's length: that is a (T, B) of booleans.",
        "real = np.arange(T)[:, None] < lengths; then np.where(real, losses, 0), and never losses * real: 0 · NaN is "
        "NaN, and so is 0 · ∞.",
        "If the mean is a sum divided by n, its gradient is 1/n at each real step. And at padding?",
    ],
)
def masked_mean(losses, lengths):
    """Sequences of different lengths share a batch, and the short ones are padded. losses, (T, B), holds the loss of
    each step. Sequence b is real in its first lengths[b] steps; what stands after them is junk, perhaps NaN or ∞.

    Return the mean loss of the real steps of all sequences, and the gradient of this mean with respect to `losses`,
    (T, B). A length may be 0, but one step at least is real. The NaN of a real step is a fault that must be
    seen: the mean is NaN, too.
    """
    real = np.arange(len(losses))[:, None] < lengths
    return np.where(real, losses, 0).sum() / real.sum(), real / real.sum()


@masked_mean.check_with
def _(losses, lengths):
    real = [(t, b) for b, length in enumerate(lengths) for t in range(length)]
    gradient = np.zeros_like(losses)
    for place in real:
        gradient[place] = 1 / len(real)
    return sum(losses[place] for place in real) / len(real), gradient


@masked_mean.mistake(
    "divided by all steps, padding included",
    hint="Add padding, and your loss falls though the model is the same. How many steps are real?",
)
def _(losses, lengths):
    real = np.arange(len(losses))[:, None] < lengths
    return np.where(real, losses, 0).mean(), real / real.size


@masked_mean.mistake("0 · NaN", hint="Junk times 0 is 0, unless the junk is NaN. A mask must choose, not multiply.")
def _(losses, lengths):
    real = np.arange(len(losses))[:, None] < lengths
    return (losses * real).sum() / real.sum(), real / real.sum()


@masked_mean.mistake("one step too many", hint="A sequence of length 2 is real at steps 0 and 1.")
def _(losses, lengths):
    return masked_mean.reference(losses, np.minimum(lengths + 1, len(losses)))


@masked_mean.mistake(
    "the mean of the sequences' means",
    hint="Then a step of a short sequence counts for more than one of a long sequence. Asked is the mean over steps.",
)
def _(losses, lengths):
    real = np.arange(len(losses))[:, None] < lengths
    weights = real / np.maximum(lengths, 1) / (lengths > 0).sum()
    return (np.where(real, losses, 0) * weights).sum(), weights


@masked_mean.mistake(
    "the mean of the sequences' means, NaN for one of length 0",
    hint="A sequence of length 0 has no mean, 0/0. Asked is one mean, over all real steps of all sequences.",
)
def _(losses, lengths):
    real = np.arange(len(losses))[:, None] < lengths
    return (np.where(real, losses, 0).sum(axis=0) / lengths).mean(), real / lengths / len(lengths)


@masked_mean.mistake(
    "the mean of all that is not NaN", hint="Junk may be any number. Only `lengths` knows which steps are real."
)
def _(losses, lengths):
    return np.nanmean(losses), masked_mean.reference(losses, lengths)[1]


@masked_mean.mistake(
    "padding has a gradient", hint="The mean is right. Change a padded loss: how much does the mean change?"
)
def _(losses, lengths):
    mean, gradient = masked_mean.reference(losses, lengths)
    return mean, np.full_like(losses, gradient.max())


@masked_mean.mistake(
    "padding is what is NaN", hint="Junk may be any number. Only `lengths` knows which steps are real."
)
def _(losses, lengths):
    real = ~np.isnan(losses)
    return losses[real].mean(), real / real.sum()
