"""What a step does with integers: looks rows up, picks elements, decides by argmax, feeds tokens back, counts."""

from __future__ import annotations

import numpy as np
import pytest

from tests.scan.agreement import assert_modes_agree
from tinygrad_gru import Tensor, explain, ops
from tinygrad_gru.testing import OP_SPECS
from tinygrad_gru.testing.op_specs import function_of

WORDS, WIDTH, BATCH, LENGTH = 7, 4, 3, 6

# -- which ops compile -------------------------------------------------------------------------------------------------

#: The ops that do not compile in a step, each with its reason; `getitem` only by a mask.
NOT_COMPILED = {
    "argsort": "the array function argsort", "sort": "the array function argsort", "topk": "the array function argsort",
    "einsum": "the array function einsum", "cumsum": "the array function cumulative_sum",
    "dropout": "random numbers", "categorical": "values that are known only when it runs",
    "pad": "an array to write into",
    "getitem": "by a mask",
}  # fmt: skip


def inputs_of(case, random):
    domains = case.domain if isinstance(case.domain, list) else [case.domain] * len(case.shapes)
    return [
        random.uniform(*domain, size=shape) if isinstance(shape, tuple) else np.asarray(shape)
        for shape, domain in zip(case.shapes, domains)
    ]


def reasons_of(name, random):
    """Why the cases of an op do not compile, floats being parts of the carry, and integers xs."""
    for case in OP_SPECS[name]:
        arrays = inputs_of(case, random)
        if any(0 in array.shape for array in arrays):
            continue
        is_carry = [array.dtype.kind == "f" for array in arrays]
        carry = [Tensor(a, requires_grad=True) for a, moves in zip(arrays, is_carry) if moves] or [Tensor(np.zeros(2))]
        xs = [Tensor(np.stack([a] * 2)) for a, moves in zip(arrays, is_carry) if not moves]

        def step(carry, x, case=case, is_carry=is_carry):
            parts, others = iter(carry), iter(x or ())
            y = function_of(name, case)(*(next(parts if moves else others) for moves in is_carry), **case.settings)
            return tuple(0.5 * part for part in carry), tuple(y) if isinstance(y, (list, tuple)) else y

        text = explain(step, tuple(carry), tuple(xs) or None)
        if "runs eagerly" in text[:500]:
            yield text


def test_every_op_compiles_in_a_step_or_is_listed(rng):
    found = {name: list(reasons_of(name, rng)) for name in OP_SPECS}
    assert {name for name, reasons in found.items() if reasons} == NOT_COMPILED.keys()
    for name, reason in NOT_COMPILED.items():
        assert all(reason in text and "Instead: " in text for text in found[name]), found[name]


# -- steps -------------------------------------------------------------------------------------------------------------


def looks_up(h, ids, table, u, out):
    h = ops.tanh(ops.embedding(table, ids) + h @ u)
    return h, h @ out


def skips_padding(h, ids, table, u, out):
    return ops.tanh(ops.embedding(table, ids, padding_idx=1) + h @ u)


def counts_from_the_end(h, ids, table, u, out):
    return ops.tanh(table[ids - WORDS] + h @ u), ids - WORDS


def has_tied_weights(h, ids, table, u, out):
    h = ops.tanh(table[ids] + h @ u)
    return h, (h @ table.T, table[ids, 1:3])


def reads_two_words(h, ids, table, u, out):
    return ops.tanh(table[ids] - 0.5 * table[(ids + 1) * (ids < WORDS - 1)] + h @ u)


def has_one_hot(h, ids, table, u, out):
    return ops.tanh(ops.one_hot(ids, depth=WORDS, dtype="float64") @ table + h @ u)


def has_a_loss(h, ids, table, u, out):
    h = ops.tanh(table[ids] + h @ u)
    return h, (ops.cross_entropy(h @ out, ids), ops.cross_entropy(h @ out, ids, ignore_index=2, label_smoothing=0.1))


def picks_elements(h, ids, table, u, out):
    at = ops.argmax(h, axis=1)
    best = h[np.arange(BATCH), at]
    return ops.tanh(h @ u + ops.gather(h, ops.expand_dims(at, axis=1), axis=1)), (
        best,
        at,
        ops.take(h, [0, -1], axis=1),
    )


def writes_to_places(h, ids, table, u, out):
    return ops.tanh(ops.scatter_add(h @ u, ops.transpose(h) @ u[:3], index=(ops.argmin(h, axis=0),)))


def indexes_the_middle(h, ids, table, u, out):
    cube = ops.stack([h, h @ u, 2 * h])
    picked = cube[:, ops.argmax(cube[0], axis=0)[:BATCH], 1:]
    return ops.tanh(h @ u), (picked, cube[0, :, ops.argmax(h, axis=1)], cube[ops.argmax(h, axis=1) * 0, None, ..., 2])


def counts(h, ids, table, u, out):
    good = ops.argmax(h @ out, axis=-1) == ids
    weights = ops.where(good, 1, -2)
    return ops.tanh(h @ u + ops.expand_dims(weights.astype("float64"), axis=1)), (ops.sum(good), ops.max(weights), good)


STEPS = (
    looks_up, skips_padding, counts_from_the_end, has_tied_weights, reads_two_words, has_one_hot, has_a_loss,
    picks_elements, writes_to_places, indexes_the_middle, counts,
)  # fmt: skip


@pytest.fixture
def arguments(rng):
    """A state, ids, and the weights that a step closes over."""
    shapes = [(WORDS, WIDTH), (WIDTH, WIDTH), (WIDTH, WORDS)]
    weights = [Tensor(0.7 * rng.standard_normal(shape), requires_grad=True) for shape in shapes]
    h = Tensor(rng.standard_normal((BATCH, WIDTH)), requires_grad=True)
    return h, Tensor(rng.integers(0, WORDS, (LENGTH, BATCH))), weights


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_steps(step, arguments):
    h, ids, weights = arguments
    assert_modes_agree(step, [h], [ids], weights)
    assert_modes_agree(step, [h], [ids.astype("int32")], weights, reverse=True, checkpoint_every=4)


def generates(carry, x, table, u, out):
    """Greedy decoding: the token is a part of the carry."""
    h, token = carry
    h = ops.tanh(ops.embedding(table, token) + h @ u)
    scores = h @ out
    return (h, ops.argmax(scores, axis=-1)), (scores, token)


def test_a_token_is_fed_back(arguments):
    h, ids, weights = arguments
    assert_modes_agree(generates, [h, ids[0]], [], weights, length=LENGTH)
    assert_modes_agree(generates, [h, ids[0]], [], weights, length=LENGTH, reverse=True)
