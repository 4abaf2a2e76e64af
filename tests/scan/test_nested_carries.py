"""Carry, xs and ys of any structure: what goes in as a dictionary, a list or a named tuple comes out as one."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

from tinygrad_gru import Tensor, explain, grad, nn, ops, scan
from tinygrad_gru.scan import pure
from tinygrad_gru.trees import flatten, map_leaves, structure, with_leaves

LENGTH, BATCH, WIDTH = 5, 2, 3
Memory = namedtuple("Memory", "h c")


@dataclass
class Decoder:
    h: Tensor
    memory: Memory
    nothing: None = None


def numbers(*shape, seed=0, requires_grad=True):
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad)


#: By name, a tree of three states. Each has two xs and two ys in a tree of its own kind.
CARRIES = {
    "nested tuples": lambda a, b, c: ((a, b), (c,)),
    "a pair of pairs": lambda a, b, c: ((a, b), (c, None)),
    "a dictionary": lambda a, b, c: {"decoder": {"h": a, "c": b}, "encoder": c},
    "a list": lambda a, b, c: [a, [b, c]],
    "a named tuple": lambda a, b, c: Memory(a, Memory(b, c)),
    "a dataclass": lambda a, b, c: Decoder(a, Memory(b, c)),
    "an ordered dictionary": lambda a, b, c: OrderedDict(z=a, a=(b, None, [c])),
}
XS = {
    "none": lambda u, v: None, "one": lambda u, v: u, "dict": lambda u, v: {"u": u, "v": [v, None]},
    "list": lambda u, v: [u, v],
}  # fmt: skip


def step_of(make_ys):
    """A step that knows only the leaves of its trees, and returns trees like those that it was given."""
    W = numbers(WIDTH, WIDTH, seed=9)

    def step(carry, x):
        a, b, c = flatten(carry)
        u, v = (flatten(x) * 2)[:2] or (1.0, 0.5)
        new = ops.tanh(a @ W + b * u), 0.5 * b + a * c, ops.sigmoid(c + v)
        return with_leaves(carry, new), make_ys(new[0] * new[1], new[2].sum(axis=1))

    return step, W


def run(carry_of, xs_of, ys_of, **options):
    """All that a scan gives, and the gradients."""
    step, W = step_of(ys_of)
    leaves = [numbers(BATCH, WIDTH, seed=i) for i in range(3)]
    inputs = [numbers(LENGTH, BATCH, WIDTH, seed=i + 5) for i in range(2)]
    last, ys, *rest = scan(step, carry_of(*leaves), xs_of(*inputs), length=LENGTH, **options)
    outputs = [*flatten(last), *flatten(ys), *flatten(rest)]
    loss = sum((i + 1) * (y * y).sum() for i, y in enumerate(outputs))
    loss.backward()
    gradients = [t.grad.numpy() for t in (*leaves, *inputs, W) if t.grad is not None]
    return last, ys, [y.numpy() for y in outputs] + gradients


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"checkpoint_every": 2}], ids=str)
@pytest.mark.parametrize("xs", XS)
@pytest.mark.parametrize("carry", CARRIES)
def test_every_structure_gives_what_a_flat_one_gives(carry, xs, options):
    """The same numbers in both modes, in the structures that went in."""
    ys_of = [lambda y, z: {"z": z, "y": (y, None)}, lambda y, z: [y, z], Memory][len(carry) % 3]
    _, _, expected = run(lambda *abc: abc, XS[xs], lambda y, z: tuple(flatten(ys_of(y, z))), compiled=False, **options)
    for compiled in (True, False):
        last, ys, found = run(CARRIES[carry], XS[xs], ys_of, compiled=compiled, **options)
        assert structure(last) == structure(CARRIES[carry](0, 0, 0)) and structure(ys) == structure(ys_of(0, 0))
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("compiled", [True, False])
def test_second_derivatives_through_a_dictionary(compiled):
    step, W = step_of(lambda y, z: {"y": y})
    h = numbers(BATCH, WIDTH)
    last, ys = scan(step, {"a": h, "b": (h, h)}, numbers(LENGTH, BATCH, WIDTH, seed=3), compiled=compiled)
    (first,) = grad((ys["y"] ** 2).sum() + last["a"].sum(), [W], create_graph=True)
    (second,) = grad((first * first).sum(), [h])
    step, V = step_of(lambda y, z: y)
    flat, ys = scan(step, (h, h, h), numbers(LENGTH, BATCH, WIDTH, seed=3), compiled=False)
    (first,) = grad((ys**2).sum() + flat[0].sum(), [V], create_graph=True)
    np.testing.assert_allclose(second.numpy(), grad((first * first).sum(), [h])[0].numpy(), rtol=1e-10)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("length", [0, 1, 3])
def test_keys_may_be_returned_in_another_order_and_the_carry_written_to(compiled, length):
    def step(carry, x):
        new = {"c": carry["c"] + x, "h": 2 * carry["h"]}
        carry["h"] = carry["c"] = None  # the step's own dictionary
        return new

    given = {"h": Tensor([1.0]), "c": Tensor([0.0])}
    last, ys = scan(step, given, Tensor(np.ones((length, 1), "float32")), compiled=compiled)
    assert list(last) == ["h", "c"] == list(given) and given["h"].item() == 1
    assert (last["h"].item(), last["c"].item()) == (2.0**length, length)
    assert ys.numpy().ravel().tolist() == [2.0 ** (t + 1) for t in range(length)]  # of the first leaf, h


@pytest.mark.parametrize("compiled", [True, False])
def test_records_have_paths(compiled):
    def step(state, x):
        inner = {"sum": state["pair"][0] + x}
        return {"pair": (inner["sum"], state["pair"][1] * 2)}, [inner["sum"]]

    carry = {"pair": (Tensor([1.0]), Tensor([1.0]))}
    record = ("inner['sum']", "state['pair'][1]", "state['pair'][1]'")
    _, ys, records = scan(step, carry, Tensor([[1.0], [2.0]]), record=record, compiled=compiled)
    assert [value.numpy().ravel().tolist() for value in records.values()] == [[2, 4], [1, 2], [2, 4]]
    assert isinstance(ys, list) and ys[0].shape == (2, 1)
    with pytest.raises(ValueError, match=r"no Tensor named 'inner'.* it has .*inner\['sum'\]"):
        scan(step, carry, Tensor([[1.0], [2.0]]), record="inner", compiled=compiled)


def test_explain_names_the_parts():
    W = numbers(WIDTH, WIDTH)

    def named(state, x):
        decoder = state["decoder"]
        decoder["h"] = ops.tanh(decoder["h"] @ W + x["u"])
        return state, None

    text = explain(named, {"decoder": {"h": numbers(BATCH, WIDTH)}}, {"u": numbers(LENGTH, BATCH, WIDTH)})
    assert "# state['decoder']['h']" in text and "# x['u']" in text and "# W" in text


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            lambda c: {**c, "decoder": [c["decoder"][0], None]},
            r"\(carry\['decoder'\]\[1\]: expected \(2, 3\) float64, ",
        ),
        (lambda c: {"encoder": c["encoder"]}, r"\(carry: expected \{.*\}, got \{.*\}; all 3 parts of it are returned"),
        (lambda c: {**c, "new": c["encoder"]}, r"\(carry: expected \{.*\}, got \{.*\}; all 3 parts of it are returned"),
        (lambda c: {**c, "decoder": tuple(c["decoder"])}, r"carry\['decoder'\]: .*; return a list, not a tuple"),
        (lambda c: {**c, "encoder": c["encoder"][:1]}, r"\(carry\['encoder'\]: a state without the batch axis"),
        (lambda c: {**c, "encoder": (c["encoder"],)}, r"carry\['encoder'\]: expected .*; return the Tensor itself"),
        (lambda c: c["decoder"], r"\(carry: expected \{.*\}, got \[.*\]; return a dict, not a list"),
        (lambda c: ({**c, "decoder": None}, 1), r"carry\['decoder'\]: expected \[.*\], got None; all 2 parts"),
    ],
)
@pytest.mark.parametrize("compiled", [None, False])
def test_the_error_says_where_the_carry_has_another_structure(returned, message, compiled):
    h = numbers(BATCH, WIDTH)
    with pytest.raises(ValueError, match=r"scan: the carry must keep its structure.*; step 0 was given .*" + message):
        scan(lambda c, x: returned(c), {"decoder": [h, h], "encoder": h}, length=2, compiled=compiled)


def test_ys_that_change_their_structure():
    counts = iter(range(3))
    with pytest.raises(TypeError, match=r"the y of all steps must have one structure, got .* and None as y\['a'\]"):
        scan(lambda h, x: (h, {"a": h if next(counts) < 2 else None}), numbers(2), length=3, compiled=False)


class Recurrence(nn.Module):
    """A pure step that reads its states by the names and positions that they have."""

    @pure
    def forward(self, carry, x):
        h = carry["h"] if isinstance(carry, dict) else carry.h if hasattr(carry, "h") else carry[0]
        c = carry["c"] if isinstance(carry, dict) else carry.c if hasattr(carry, "h") else carry[1]
        factor = {dict: 1, Memory: 2, tuple: 3, list: 4}[type(carry)]
        return with_leaves(carry, [factor * leaf + 1 for leaf in flatten(carry)]), h - c


def test_a_pure_step_is_traced_for_each_structure():
    """Those of a dictionary differ by the order of the keys, those of a tuple by its type."""
    h, c = Tensor([1.0]), Tensor([10.0])
    step = Recurrence().forward
    carries = [{"h": h, "c": c}, {"c": c, "h": h}, Memory(h, c), (h, c), [h, c]]
    for carry in carries + carries[::-1]:
        expected = scan(step, carry, length=2, compiled=False)
        found = scan(step, carry, length=2, compiled=True)
        assert map_leaves(Tensor.tolist, found) == map_leaves(Tensor.tolist, expected)
        assert structure(found) == structure(expected)


@pytest.mark.parametrize("compiled", [True, False])
def test_the_state_of_a_cell_keeps_its_names(compiled):
    cell = nn.LSTMCell(3, 4)
    last, _ = scan(cell.step, cell.initial_state(2), np.ones((5, 2, 3), "float32"), compiled=compiled)
    assert last.h is last[0] and last.c is last[1]
