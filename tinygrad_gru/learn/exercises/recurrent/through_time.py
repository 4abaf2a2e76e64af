"""Exercises 27 and 28: truncated backpropagation, and clipping."""

from __future__ import annotations

import numpy as np

from ....tensor import Tensor
from ...draws import arrays, numbers, positive, sizes, st
from ...exercise import exercise


# -- 27 ----------------------------------------------------------------------------------------------------------------
@exercise(
    27,
    "Truncated backpropagation",
    inputs=(numbers, st.lists(numbers, min_size=1, max_size=6), st.integers(1, 3)),
    example=(0.5, [1.0, 1.0, 1.0, 1.0], 2),
    understood="Truncation keeps a state and cuts its past: what lies further back can be used, not learnt to be kept.",
    hints=[
        "For each window: detach h, go through its steps while you add up the loss, call backward on it.",
        "backward adds to w.grad: after the last window it is the sum.",
        "`h = h.detach()` is the same number with no records behind it.",
    ],
    header="from tinygrad_gru import Tensor",
    rtol=1e-4,
    atol=1e-4,
)
def truncated_gradient(w, xs, k):
    """A state h_t = w · h_{t−1} + x_t, from h_0 = 0, over a list xs of numbers, and L = Σ ½ h_t². The list is long, so
    you learn in windows of k steps (the last one may be shorter): the state goes on from window to window, but no
    gradient goes back from one to the one before.

    Return that ∂L/∂w, the sum of the windows' gradients, as a number. `Tensor(w, requires_grad=True)`, `h.detach()`,
    `loss.backward()` and `w.grad.item()` are all you need.
    """
    w, h = Tensor(w, requires_grad=True), Tensor(0.0)
    for start in range(0, len(xs), k):
        h, loss = h.detach(), Tensor(0.0)
        for x in xs[start : start + k]:
            h = w * h + x
            loss = loss + 0.5 * h * h
        loss.backward()
    return w.grad.item()


def forward_gradient(w, xs, is_cut, counts=lambda t: True, start=0.0):
    """∂L/∂w without a tape, by ∂h_t/∂w = h_{t−1} + w ∂h_{t−1}/∂w, where ∂h_{t−1}/∂w counts as 0 if is_cut(t)."""
    h, dh, gradient = start, 0.0, 0.0
    for t, x in enumerate(xs):
        h, dh = w * h + x, h + w * (0.0 if is_cut(t) else dh)
        gradient += h * dh if counts(t) else 0.0
    return gradient


@truncated_gradient.check_with
def _(w, xs, k):
    return forward_gradient(w, xs, lambda t: t % k == 0)


@truncated_gradient.mistake(
    "the state starts at 0 in each window",
    hint="What is cut is the gradient. The number goes on: the next window knows what was read before.",
)
def _(w, xs, k):
    return sum(forward_gradient(w, xs[start : start + k], lambda t: False) for start in range(0, len(xs), k))


@truncated_gradient.mistake(
    "nothing is cut: this is the whole gradient",
    hint="For a window, the state that it begins with is a given number. Where do you say so to the tape?",
)
def _(w, xs, k):
    return forward_gradient(w, xs, lambda t: False)


@truncated_gradient.mistake(
    "cut at every step",
    hint="Inside a window the gradient goes back through all of its steps: detach once a window, not once a step.",
)
def _(w, xs, k):
    return forward_gradient(w, xs, lambda t: True)


@truncated_gradient.mistake(
    "the gradient of the last window alone",
    hint="The gradients of all windows are summed. Did a zero_grad, or a new Tensor for w, drop the others?",
)
def _(w, xs, k):
    return forward_gradient(w, xs, lambda t: t % k == 0, counts=lambda t: t // k == (len(xs) - 1) // k)


@truncated_gradient.mistake(
    "the loss of each window's last step alone", hint="L has a ½ h² for every step, not one for each window."
)
def _(w, xs, k):
    return forward_gradient(w, xs, lambda t: t % k == 0, counts=lambda t: t % k == k - 1 or t == len(xs) - 1)


@truncated_gradient.mistake(
    "the windows are off by one",
    hint="The cut is before a window's first step, not after it: which steps belong to the first window?",
)
def _(w, xs, k):
    return forward_gradient(w, xs, lambda t: t % k == 1 % k)


# -- 28 ----------------------------------------------------------------------------------------------------------------
@st.composite
def exploding_windows(draw):
    """The gradients of one to three windows; one element of the last may be infinite or NaN."""
    shapes = draw(st.lists(st.lists(sizes, min_size=1, max_size=2).map(tuple), min_size=1, max_size=2))
    windows = [[draw(arrays(shape)) for shape in shapes] for _ in range(draw(sizes))]
    windows[-1][0].flat[0] = draw(st.sampled_from((windows[-1][0].flat[0],) * 5 + (np.inf, np.nan)))
    return windows, draw(positive)


def global_norm(gradients):
    return np.sqrt(sum((g * g).sum() for g in gradients))


def mean_over(windows):
    return [sum(parts) / len(windows) for parts in zip(*windows)]


def scaled(gradients, norm, limit):
    return [g * (limit / norm) if norm > limit else g for g in gradients]


def or_zeros(gradients, windows):
    """Zeros if the mean over the windows is not finite."""
    finite = np.isfinite(global_norm(mean_over(windows)))
    return [g if finite else np.zeros_like(g) for g in gradients]


@exercise(
    28,
    "Clip by the global norm",
    inputs=exploding_windows(),
    example=([[np.array([6.0]), np.array([8.0])], [np.array([0.0]), np.array([0.0])]], 1.0),
    cases=[
        ([[np.array([0.5, 0.0])]], 2.0),
        ([[np.array([np.inf, 1.0])]], 1.0),
        ([[np.array([1.0]), np.array([2.0, -np.inf])]], 1.0),
        ([[np.array([1.0])], [np.array([np.nan])]], 1.0),
    ],
    understood="Clipping comes last: after the mean, once for all parameters. And it cannot heal an infinity.",
    hints=[
        "zip(*windows) gives for each parameter the tuple of its gradients, one a window.",
        "One norm for all: the root of the sum of the squares of all elements of all arrays of the mean.",
        "np.isfinite(norm) is False for ∞ and for NaN. Ask that first: limit / ∞ is 0, but ∞ · 0 is NaN.",
    ],
)
def clip(windows, limit):
    """A gradient through many steps explodes now and then, and one such step ruins the weights. Here a step of the
    optimiser is made of several windows: `windows` is a list with, for each, the list of its gradients, one array a
    parameter.

    Take the mean over the windows. All its elements, of all parameters, are one long vector, whose norm is the root of
    the sum of their squares. If the norm is above `limit`, scale all by limit / norm: shorter, in the same direction.
    If it is not finite, there is no direction to keep, and the step is to be left out: all zeros.

    Return the list of arrays, one a parameter.
    """
    mean = [sum(parts) / len(windows) for parts in zip(*windows)]
    norm = np.sqrt(sum((g * g).sum() for g in mean))
    if not np.isfinite(norm):
        return [np.zeros_like(g) for g in mean]
    return [g * (limit / norm) if norm > limit else g for g in mean]


@clip.check_with
def _(windows, limit):
    flat = np.mean([np.concatenate([g.ravel() for g in gradients]) for gradients in windows], axis=0)
    norm = np.linalg.norm(flat)
    flat = flat * min(1.0, limit / (norm or 1.0)) if np.isfinite(norm) else 0 * np.ones_like(flat)
    ends = np.cumsum([g.size for g in windows[0]])
    return [part.reshape(g.shape) for part, g in zip(np.split(flat, ends[:-1]), windows[0])]


@clip.mistake(
    "each window is clipped before the mean is taken",
    hint="Then the window that explodes is shortened, the others aren't, and the mean turns. Clip once, last.",
)
def _(windows, limit):
    return or_zeros(mean_over([scaled(g, global_norm(g), limit) for g in windows]), windows)


@clip.mistake("∞ · 0 is NaN", hint="limit / ∞ is 0, which looks right, and 0 · ∞ is NaN. And a NaN is never > limit.")
def _(windows, limit):
    mean = mean_over(windows)
    return scaled(mean, global_norm(mean), limit)


@clip.mistake(
    "each array is clipped by its own norm",
    hint="Then each is shortened by another factor, and the direction of the whole turns.",
)
def _(windows, limit):
    return or_zeros([scaled([g], global_norm([g]), limit)[0] for g in mean_over(windows)], windows)


@clip.mistake("the sum over the windows, not the mean", hint="With more windows the step must not grow.")
def _(windows, limit):
    total = [g * len(windows) for g in mean_over(windows)]
    return or_zeros(scaled(total, global_norm(total), limit), windows)


@clip.mistake("a short gradient is made longer", hint="What if the norm is below the limit already?")
def _(windows, limit):
    mean = mean_over(windows)
    return or_zeros([g * (limit / (global_norm(mean) or 1.0)) for g in mean], windows)


@clip.mistake(
    "limit / (norm + 1e-6)",
    hint="Above the limit the norm is not 0: nothing is to be added, and the clipped norm is `limit`.",
)
def _(windows, limit):
    mean = mean_over(windows)
    return or_zeros([g * min(1.0, limit / (global_norm(mean) + 1e-6)) for g in mean], windows)


@clip.mistake("the square of the norm, its root is missing", hint="How long is the vector (3, 4)?")
def _(windows, limit):
    mean = mean_over(windows)
    return or_zeros(scaled(mean, global_norm(mean) ** 2, limit), windows)


@clip.mistake(
    "elements that are not finite are set to 0, and the others are used",
    hint="If one element is infinite, the others are no gradient that you can trust. Leave the whole step out.",
)
def _(windows, limit):
    mean = [np.nan_to_num(g, nan=0.0, posinf=0.0, neginf=0.0) for g in mean_over(windows)]
    return scaled(mean, global_norm(mean), limit)
