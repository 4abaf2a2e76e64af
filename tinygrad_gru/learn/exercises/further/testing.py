"""Exercises 38 and 39: a gradient check, and a test that can fail."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....ops.op import sum_to_shape
from ...draws import Formula, arrays, st
from ...exercise import exercise


# -- 38 ----------------------------------------------------------------------------------------------------------------
@st.composite
def claimed_gradients(draw):
    """A function, a gradient that is right or wrong, and where."""
    x = draw(arrays((draw(st.integers(2, 3)),)))
    size = draw(st.sampled_from(("1e-9", "1.0", "1e9")))
    text, gradient = draw(
        st.sampled_from(
            [(f"{size} * np.exp(x).sum()", np.exp(x)), (f"{size} * np.sin(x / 4 + 3).sum()", np.cos(x / 4 + 3) / 4)]
        )
    )
    kind = draw(st.sampled_from(("right", "right", "last", "first", "second", "exchanged", "sign", "factor", "zero")))
    if kind in ("first", "second", "last"):
        gradient[{"first": 0, "second": 1, "last": -1}[kind]] += 0.05 * abs(gradient).max()
    elif kind == "exchanged" and abs(gradient[0] - gradient[1]) > 0.02 * abs(gradient).max():
        gradient[[0, 1]] = gradient[[1, 0]]
    gradient = gradient * {"sign": -1.0, "factor": 1.02, "zero": 0.0}.get(kind, 1.0)
    return Formula(f"lambda x: {text}"), float(size) * gradient, x


def central_differences(f, x, step):
    return np.array([(f(x + step * e) - f(x - step * e)) / (2 * step) for e in np.eye(len(x))])


@exercise(
    38,
    "A gradient check that checks",
    inputs=claimed_gradients(),
    example=(Formula("lambda x: 1.0 * np.exp(x).sum()"), np.array([1.0, 1.0]), np.array([0.0, 0.0])),
    cases=[
        (Formula("lambda x: 1.0 * np.exp(x).sum()"), np.array([1.0, 1.05, 1.0]), np.zeros(3)),
        (Formula("lambda x: 1.0 * (x**3 - 3 * x).sum()"), np.array([0.0, 9.0, -2.25]), np.array([1.0, 2.0, -0.5])),
        (Formula("lambda x: 1.0 * (x**3 - 3 * x).sum()"), np.array([0.0, 9.0]), np.array([1.0, 1.0])),
        (Formula("lambda x: 1.0 * np.exp(x[0])"), np.ones(1), np.zeros(1)),
        (Formula("lambda x: 1.0 * np.exp(x).sum()"), np.exp([0.0, 1.0, -1.0, 0.5, 2.0]), np.array([0, 1, -1, 0.5, 2])),
    ],
    understood="A check needs a step that fits the arithmetic, a relative error, and a look at every element.",
    hints=[
        "One element at a time: (f(x + ε e) − f(x − ε e)) / 2ε, where e is a row of np.eye(len(x)).",
        "ε = 1e-5 is right for float64: the formula's error falls with ε², that of rounding grows with 1/ε.",
        "Compare the largest deviation with a thousandth of the gradient's largest element.",
    ],
)
def gradcheck(f, gradient, x):
    """Somebody says that `gradient` is the gradient of f at x: both are arrays of one axis, in float64, and f gives a
    number. Return True if that is so, by differences of f, and else False.

    A wrong gradient may be wrong in one element alone, by 2 % of the largest element or more; a right one is right to
    rounding. f may have any number of inputs and values of any size, and its gradient may be near 1e-9 or near 1e9;
    elements of a right gradient may be 0.
    """
    step = 1e-5
    differences = np.array([(f(x + step * e) - f(x - step * e)) / (2 * step) for e in np.eye(len(x))])
    return bool(abs(differences - gradient).max() <= 1e-3 * abs(differences).max())


@gradcheck.check_with
def _(f, gradient, x):
    size = float(f.text.split()[2])
    slope = np.exp(x) if "exp" in f.text else np.cos(x / 4 + 3) / 4 if "sin" in f.text else 3 * x**2 - 3
    return bool(np.allclose(gradient, size * slope, rtol=1e-9, atol=0))


@gradcheck.mistake(
    "one element alone is checked", hint="A rule can be right for the first element and wrong for the last."
)
def _(f, gradient, x):
    difference = central_differences(f, x, 1e-5)[0]
    return bool(abs(difference - gradient[0]) <= 1e-3 * abs(difference))


@gradcheck.mistake(
    "the tolerance is absolute",
    hint="1e-8 is little beside a gradient of 1, and much beside one of 1e-9. np.allclose has atol=1e-8 by default.",
)
def _(f, gradient, x):
    return bool(np.allclose(central_differences(f, x, 1e-5), gradient, rtol=1e-3))


@gradcheck.mistake(
    "ε is so small that x + ε is x", hint="float64 has 16 digits. Of f(x + ε) − f(x − ε) there must be some left."
)
def _(f, gradient, x):
    differences = central_differences(f, x, 1e-17)
    return bool(abs(differences - gradient).max() <= 1e-3 * abs(differences).max())


@gradcheck.mistake(
    "ε is so large that right gradients are refused",
    hint="f is no straight line: its slope between x and x + ε is not that at x. A one-sided difference is the worse.",
)
def _(f, gradient, x):
    differences = np.array([(f(x + 0.1 * e) - f(x)) / 0.1 for e in np.eye(len(x))])
    return bool(abs(differences - gradient).max() <= 1e-3 * abs(differences).max())


@gradcheck.mistake(
    "all elements are moved at once, by the same ε",
    hint="Then their sum is checked: two elements exchanged, or errors that cancel, pass. Move them one by one.",
)
def _(f, gradient, x):
    slope = (f(x + 1e-5) - f(x - 1e-5)) / 2e-5
    return bool(abs(slope - gradient.sum()) <= 1e-3 * abs(slope))


@gradcheck.mistake("True and False exchanged", hint="True is for a gradient that is right.")
def _(f, gradient, x):
    return not gradcheck.reference(f, gradient, x)


# -- 39 ----------------------------------------------------------------------------------------------------------------
def _keep_stretched(g: Any, shape: Any) -> Any:
    return g.sum(axis=tuple(range(g.ndim - len(shape))))


def _forget_axis(g: Any, shape: Any) -> Any:
    return sum_to_shape(g, shape).reshape(shape[1:] if shape[:1] == (1,) else shape)


#: What is said of a gradient, and how it is made of g, the other factor and the factor itself.
MUTANTS = {
    "is not summed over broadcast axes": lambda g, other, own: g * other,
    "is not summed over stretched axes": lambda g, other, own: _keep_stretched(g * other, own.shape),
    "is averaged, not summed": lambda g, other, own: sum_to_shape(g * other, own.shape) * own.size / g.size,
    "lacks an axis of length 1 in front": lambda g, other, own: _forget_axis(g * other, own.shape),
    "has the wrong factor": lambda g, other, own: sum_to_shape(g * own, own.shape),
    "has no factor g": lambda g, other, own: sum_to_shape(0 * g + other, own.shape),
    "has no other factor": lambda g, other, own: sum_to_shape(g + 0 * other, own.shape),
    "has the wrong sign": lambda g, other, own: sum_to_shape(-g * other, own.shape),
    "is 1 % too large": lambda g, other, own: sum_to_shape(1.01 * g * other, own.shape),
}


class Rule:
    """A rule of a · b, in words, for `rule(g, a, b)`."""

    def __init__(self, text: str, *gradients: Any) -> None:
        self.text, self.gradients = text, gradients

    def __call__(self, g: Any, a: Any, b: Any) -> Any:
        to_a, to_b = self.gradients
        return to_a(g, b, a), to_b(g, a, b)

    def __repr__(self) -> str:
        return f"<the rule that {self.text}>"

    def __deepcopy__(self, memo: Any) -> Rule:
        return self


def _right(g: Any, other: Any, own: Any) -> Any:
    return sum_to_shape(g * other, own.shape)


def _rounded(g: Any, other: Any, own: Any) -> Any:
    return sum_to_shape(g * (other / 3), own.shape) * 3


RULES = [
    Rule("is right", _right, _right),
    Rule("is right, and rounds in another way", _rounded, _rounded),
    *(Rule(f"is wrong: ∂L/∂a {words}", mutant, _right) for words, mutant in MUTANTS.items()),
    *(Rule(f"is wrong: ∂L/∂b {words}", _right, mutant) for words, mutant in MUTANTS.items()),
]
SHAPES = [
    ((2, 3), (2, 3)),
    ((3,), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1), (2, 3)),
    ((2, 3), (2, 1)),
    ((1, 3), (2, 1)),
    ((2, 1), (1, 3)),
]


@exercise(
    39,
    "A test that can fail",
    inputs=(st.sampled_from(RULES),),
    example=(RULES[0],),
    cases=[(rule,) for rule in RULES],
    understood="A test is worth what it catches: break the code on purpose, and see whether it notices.",
    hints=[
        "Which shapes does your test try? (2, 3) with itself, with (3,), with (2, 1), each the other way round, too?",
        "Draw a, b and g at random. Compare shapes first, then values, with np.allclose.",
        "What is right? a ⊙ b is linear in a: Σ (∂L/∂a) ⊙ d = Σ g ⊙ d ⊙ b for any d. Or sum as in exercise 9.",
    ],
    call="is_right({rule})",
)
def is_right(rule):
    """rule(g, a, b) should give (∂L/∂a, ∂L/∂b) of y = a ⊙ b, for arrays a and b that broadcast to the shape of y, and
    g = ∂L/∂y of this shape. Is it right? Make arrays of your own, of one axis or more, call the rule as often as you
    like, and return True if it passes your test, else False.

    The grader hands you a good rule, and 18 in which something was broken on purpose: mutants. None may survive, and
    the good one must not be refused for its rounding.
    """
    random = np.random.default_rng(0)
    for shape_a, shape_b in [((2, 3), (2, 3)), ((3,), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((1, 3), (2, 1))]:
        a, b = random.normal(size=shape_a), random.normal(size=shape_b)
        g = random.normal(size=(a * b).shape)
        for gradient, own, other in zip(rule(g, a, b), (a, b), (b, a)):
            direction = random.normal(size=own.shape)
            if gradient.shape != own.shape or not np.isclose(
                (gradient * direction).sum(), (g * direction * other).sum()
            ):
                return False
    return True


@is_right.check_with
def _(rule):
    return "wrong" not in rule.text


def passes(
    rule, shapes=SHAPES, own=lambda r, shape: r.normal(size=shape), g=None, parts=(0, 1), equal=np.allclose, shaped=True
):
    """Whether a rule passes a test with these shapes, values and comparisons."""
    random = np.random.default_rng(0)
    for shape_a, shape_b in shapes:
        a, b = own(random, shape_a), own(random, shape_b)
        up = random.normal(size=(a * b).shape) if g is None else np.full((a * b).shape, g)
        expected = _right(up, b, a), _right(up, a, b)
        given = rule(up, a, b)
        if shaped and any(given[k].shape != expected[k].shape for k in parts):
            return False
        if not all(equal(given[k], expected[k]) for k in parts):
            return False
    return True


@is_right.mistake("a and b always have one shape", hint="Nothing is broadcast then, and no sum is missed.")
def _(rule):
    return passes(rule, SHAPES[:1])


@is_right.mistake(
    "nothing is broadcast but axes in front",
    hint="(3,) beside (2, 3) lacks an axis. (2, 1) beside (2, 3) has one that is stretched: that is another case.",
)
def _(rule):
    return passes(rule, SHAPES[:3])


@is_right.mistake("shapes are compared, values aren't", hint="A wrong sign has the right shape.")
def _(rule):
    return passes(rule, equal=lambda given, expected: True)


@is_right.mistake(
    "g is 1 everywhere", hint="A rule that forgets g passes then. Give each element of g a value of its own."
)
def _(rule):
    return passes(rule, g=1.0)


@is_right.mistake(
    "a and b are 1 everywhere", hint="With equal factors nobody sees which of them a gradient has. Draw random ones."
)
def _(rule):
    return passes(rule, own=lambda random, shape: np.ones(shape))


@is_right.mistake(
    "values are compared, shapes aren't",
    hint="np.allclose broadcasts: (3,) and (1, 3) are equal to it. A gradient has the shape of its array.",
)
def _(rule):
    return passes(rule, shaped=False)


@is_right.mistake("∂L/∂b is not looked at", hint="A rule has two results.")
def _(rule):
    return passes(rule, parts=(0,))


@is_right.mistake(
    "a right rule is refused for its rounding",
    hint="Two ways to compute one number differ in the last digit. == is too much to ask; np.allclose isn't.",
)
def _(rule):
    return passes(rule, equal=np.array_equal)
