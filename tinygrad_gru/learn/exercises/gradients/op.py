"""Exercises 12 to 14: an op and its contract."""

from __future__ import annotations

import numpy as np

from .... import ops
from ....backend import xp_of
from ....ops import op
from ....ops.op import is_op
from ....tensor import Tensor
from ....testing import check_op
from ...differences import gradients_by_differences
from ...draws import arrays, nonzero, numbers, positive, sizes, st
from ...exercise import exercise


def value_and_gradient(solution, x, g):
    tensor = Tensor(x, requires_grad=True)
    y = solution(tensor)
    y.backward(g)
    return {"y": y.numpy(), "∂L/∂x": tensor.grad.numpy()}


def np_silu(x):
    return x / (1 + np.exp(-x))


def check_own_op(silu):
    if not is_op(silu) or silu is ops.silu:
        raise TypeError("`silu` is no op of your own: define it under @op, with a rule for x by silu.vjp(x=rule)")
    check_op(silu, oracle=np_silu, shapes=[(2, 3)], compiled=False)


@exercise(
    12,
    "An op and its rule",
    inputs=st.integers(1, 3).flatmap(lambda n: st.tuples(arrays((n,)), arrays((n,)))),
    example=(np.array([0.0, 1.0, -2.0]), np.ones(3)),
    cases=[(np.array([6.0, -6.0, 40.0, -40.0]), np.array([1.0, 2.0, -1.0, 0.5]))],
    run=value_and_gradient,
    call="x = Tensor({x}, requires_grad=True)\nsilu(x).backward({g})\nx.grad",
    header="import numpy as np\n\nfrom tinygrad_gru import op, ops",
    understood="An op is its formula and one rule per input; whatever keeps that contract works with all the rest.",
    hints=[
        "Formula and rule may call other ops: ops.sigmoid(x). The rule is a function of g and of what it names.",
        "y = x·σ: a product of two things that both depend on x. y′ = σ + x·σ·(1 − σ); and g times that.",
    ],
    starter='''
@op
def silu(x):
    """y = x σ(x), element by element; σ is ops.sigmoid."""
    raise NotImplementedError


def rule(g, x):
    """g = ∂L/∂y, which is always the first parameter. Return ∂L/∂x."""
    raise NotImplementedError


silu.vjp(x=rule)

# Besides the exercise's own inputs, `check_op` looks at all that every op promises. Run it yourself:
# from tinygrad_gru.testing import check_op
# print(check_op(silu, oracle=lambda x: x / (1 + np.exp(-x)), shapes=[(3, 4)]))
''',
    written='''
@op
def silu(x):
    """y = x σ(x)        ∂L/∂x = g ⊙ (σ + x ⊙ σ ⊙ (1 − σ))"""
    return x * ops.sigmoid(x)


def rule(g, x):
    s = ops.sigmoid(x)
    return g * (s + x * s * (1 - s))


silu.vjp(x=rule)
''',
    audit=check_own_op,
)
@op
def silu(x):
    return x / (1 + xp_of(x).exp(-x))


def _sigmoid(x):
    return 1 / (1 + xp_of(x).exp(-x))


silu.reference.vjp(x=lambda g, x: g * (_sigmoid(x) + x * _sigmoid(x) * (1 - _sigmoid(x))))


@silu.check_with
def _(x, g):
    h = 1e-5
    return {"y": np_silu(x), "∂L/∂x": g * (np_silu(x + h) - np_silu(x - h)) / (2 * h)}


def _silu_with(rule):
    @op
    def wrong(x):
        return x / (1 + xp_of(x).exp(-x))

    wrong.vjp(x=rule)
    return wrong


silu.mistake(
    "the product rule's second term is missing", hint="x appears twice in x·σ(x): what does the x inside σ add?"
)(_silu_with(lambda g, x: g * _sigmoid(x)))
silu.mistake(
    "the product rule's first term is missing", hint="x·σ(x): the x in front has a derivative too, and it is 1."
)(_silu_with(lambda g, x: g * x * _sigmoid(x) * (1 - _sigmoid(x))))
silu.mistake("g is not used: this is ∂y/∂x", hint="A rule returns ∂L/∂x = g ⊙ ∂y/∂x. With g = 1 nobody would notice.")(
    _silu_with(lambda g, x: _sigmoid(x) + x * _sigmoid(x) * (1 - _sigmoid(x)) + 0 * g)
)
silu.mistake(
    "the rule takes y where it needs x", hint="A rule gets what its parameters name: `y` is the output, `x` the input."
)(_silu_with(lambda g, y: g * (_sigmoid(y) + y * _sigmoid(y) * (1 - _sigmoid(y)))))


TAILS = (0.0, 1.0, -1.0, 20.0, -20.0, 40.0, -40.0, 200.0, -200.0, 1000.0, -1000.0)


@exercise(
    13,
    "Right in the tails",
    inputs=(st.sampled_from(["float64", "float32"]).flatmap(lambda t: arrays((2,), st.sampled_from(TAILS), t)),),
    example=(np.array([0.0, 40.0, -1000.0]),),
    cases=[(np.array(TAILS, "float32"),), (np.array([[-1000.0, 40.0], [0.0, 1.0]]),)],
    rtol=1e-12,
    atol=0.0,
    understood="Equal on paper is not equal in floats: no large number goes into exp, and log1p keeps the small ones.",
    hints=[
        "Where is exp huge? Never let it: e^(−|x|) is at most 1. What is log σ(x) for x ≥ 0, and what for x < 0?",
        "log σ(x) = min(x, 0) − log(1 + e^(−|x|)). And for log(1 + tiny) there is np.log1p: 1 + 1e-20 is 1 in floats.",
    ],
)
def log_sigmoid(x):
    """Return log σ(x) = log(1/(1 + e⁻ˣ)) for an array x in float64 or float32, in the dtype of x.

    It must be right to rounding everywhere: log σ(−1000) is −1000, and log σ(40) is −4.248e-18: neither −inf nor 0.
    """
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


@log_sigmoid.check_with
def _(x):
    return -np.logaddexp(0, -x)


@log_sigmoid.mistake(
    "the formula as it stands: −inf where e⁻ˣ overflows, 0 where 1 + e⁻ˣ rounds to 1",
    hint="e¹⁰⁰⁰ is no float64, and 1 + e⁻⁴⁰ is 1. Both tails need another form of the same function.",
)
def _(x):
    return np.log(1 / (1 + np.exp(-x)))


@log_sigmoid.mistake(
    "log1p helps for large x, but e⁻ˣ overflows for x = −1000",
    hint="For x < 0 multiply out: 1/(1 + e⁻ˣ) = eˣ/(eˣ + 1), whose logarithm is x − …",
)
def _(x):
    return -np.log1p(np.exp(-x))


@log_sigmoid.mistake(
    "no overflow any more, but log(1 + tiny) is 0: log1p keeps it", hint="1 + 4e-18 is 1 in float64, and log(1) is 0."
)
def _(x):
    return np.minimum(x, 0) - np.log(1 + np.exp(-np.abs(x)))


@log_sigmoid.mistake(
    "x − log(1 + eˣ) is right for x < 0 alone",
    hint="For x = 1000 it is 1000 − ∞. Use it on one side, and another on the other.",
)
def _(x):
    return x - np.log1p(np.exp(x))


@log_sigmoid.mistake(
    "x is clipped, so the tails are flat", hint="log σ(−1000) is −1000: in the left tail the function is x itself."
)
def _(x):
    return -np.log1p(np.exp(-np.clip(x, -30, 30)))


PLANTED = '''
@op
def softsign(x):
    """y = x / (1 + |x|)"""
    return x / (1 + abs(x))


softsign.vjp(x=lambda g, x: g / (1 + x) ** 2)


@op
def ratio(a, b):
    """y = a / b"""
    return a / b


ratio.vjp(a=lambda g, b: g / b, b=lambda g, y, b: -g * y / b)


@op
def blend(a, b, t):
    """y = (1 − t) a + t b"""
    return (1 - t) * a + t * b


blend.vjp(a=lambda g, t: g * (1 - t), b=lambda g, t: g * t, t=lambda g, a, b: g * (b - a))
'''


def _sums(solution, a, b, t, g):
    """Sums over the three ops, which do not tell the learner which of them is wrong."""
    results, gradients = 0.0, []
    functions = solution()
    if not isinstance(functions, tuple) or len(functions) != 3:
        raise TypeError(f"planted() returns the tuple (softsign, ratio, blend), not {functions!r:.80}")
    for function, inputs in zip(functions, ([a], [a, b], [a, b, t])):
        tensors = [Tensor(x, requires_grad=True) for x in inputs]
        y = function(*tensors)
        y.backward(g)
        results += y.sum().item()
        gradients += [tensor.grad.sum().item() for tensor in tensors]
    return {"Σ of the results": results, "Σ of the gradients, times 1, 2, …": _weighted(gradients)}


def _weighted(gradients):
    return sum(k * gradient for k, gradient in enumerate(gradients, 1))


@exercise(
    14,
    "Find the wrong rule",
    inputs=sizes.flatmap(
        lambda n: st.tuples(
            *(arrays((n,), kind) for kind in (numbers.filter(lambda x: x != -1), positive, numbers, nonzero))
        )
    ),
    example=(np.array([1.0, -0.5]), np.array([2.0, 1.0]), np.array([0.25, 1.0]), np.array([1.0, 2.0])),
    run=_sums,
    call="softsign(a), ratio(a, b), blend(a, b, t) and their gradients, with\na = {a}\nb = {b}\nt = {t}\ng = {g}",
    header="import numpy as np\n\nfrom tinygrad_gru import op\nfrom tinygrad_gru.testing import check_op",
    understood="A rule can be right for half of the numbers. Random points of both signs find that.",
    hints=[
        "Give each of the three ops to check_op, with an oracle in NumPy: it says which input's gradient is wrong, and "
        "at which numbers.",
        "check_op(softsign, oracle=lambda x: x / (1 + np.abs(x)), shapes=[(8,)]) finds something.",
        "One op has |x| in its formula. What is its derivative for x < 0? Has the rule seen negative numbers?",
    ],
    starter="# Three ops, and the rule of one of them is wrong: it passed a test that looked only where it is right.\n"
    "# Find it with check_op, and mend the rule; the formulas are right. An op, its oracle in NumPy, and shapes:\n#\n"
    "#     print(check_op(ratio, oracle=lambda a, b: a / b, shapes=[(8,), (8,)], domain=[(-2, 2), (0.5, 2)]))\n\n"
    + PLANTED
    + "\n\ndef planted():\n    return softsign, ratio, blend\n",
    written=PLANTED.replace("(1 + x) ** 2", "(1 + abs(x)) ** 2")
    + "\n\ndef planted():\n    return softsign, ratio, blend\n",
)
def planted(ops_of_it=[]):  # noqa: B006  (made once)
    return tuple(ops_of_it)


def _planted(softsign_rule=lambda g, x: g / (1 + abs(x)) ** 2, formula=abs, ratio_b=lambda g, y, b: -g * y / b):
    @op
    def softsign(x):
        return x / (1 + formula(x))

    @op
    def ratio(a, b):
        return a / b

    @op
    def blend(a, b, t):
        return (1 - t) * a + t * b

    softsign.vjp(x=softsign_rule)
    ratio.vjp(a=lambda g, b: g / b, b=ratio_b)
    blend.vjp(a=lambda g, t: g * (1 - t), b=lambda g, t: g * t, t=lambda g, a, b: g * (b - a))
    return softsign, ratio, blend


planted.reference.__defaults__[0].extend(_planted())


@planted.check_with
def _(a, b, t, g):
    softsign, blend = (lambda x: x / (1 + np.abs(x))), (lambda a, b, t: a + t * (b - a))
    calls = (softsign, (a,)), (np.divide, (a, b)), (blend, (a, b, t))
    gradients = [x.sum() for function, inputs in calls for x in gradients_by_differences(function, inputs, g)]
    results = sum(function(*inputs).sum() for function, inputs in calls)
    return {"Σ of the results": results, "Σ of the gradients, times 1, 2, …": _weighted(gradients)}


def _mistaken(name, hint, **changes):
    ops_of_it = _planted(**changes)
    planted.mistake(name, hint=hint)(lambda: ops_of_it)


_mistaken(
    "it is as it was",
    "One of the three rules is right for some numbers alone. Give each op to check_op, at numbers of both signs.",
    softsign_rule=lambda g, x: g / (1 + x) ** 2,
)
_mistaken(
    "the formula was changed to suit the rule",
    "Now they agree, but the op is another one: mend the rule, not the formula.",
    softsign_rule=lambda g, x: g / (1 + x) ** 2,
    formula=lambda x: x,
)
_mistaken(
    "the right rule of `ratio` was changed",
    "∂(a/b)/∂b = −a/b² = −y/b: the minus belongs there.",
    ratio_b=lambda g, y, b: g * y / b,
)
_mistaken(
    "the square is missing",
    "The derivative of 1/u is −1/u², and u is 1 + |x|. check_op on the mended rule says where it is wrong.",
    softsign_rule=lambda g, x: g / (1 + abs(x)),
)
_mistaken(
    "the derivative of |x| is missing on one side",
    "For x < 0, 1 + |x| is 1 − x, also in the derivative.",
    softsign_rule=lambda g, x: g * (x >= 0) / (1 + abs(x)) ** 2,
)
