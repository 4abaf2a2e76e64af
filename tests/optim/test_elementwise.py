from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_gru.optim import elementwise, maximum, sqrt
from tinygrad_gru.optim.elementwise import Scratch, UpdateRule

TRACED = SimpleNamespace(sqrt=sqrt, maximum=maximum)
ON_ARRAYS = SimpleNamespace(sqrt=np.sqrt, maximum=np.maximum)
NAMES = ("p", "g", "m", "v")


def arrays_of(shape=(5, 3), dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.uniform(0.5, 2.0, shape), dtype=dtype) for name in NAMES}


def run(rule, arrays, **settings):
    UpdateRule(rule, NAMES, settings).run(arrays, Scratch())


def expect(rule, arrays, **settings):
    """The rule on NumPy arrays, not in place."""
    return {**arrays, **rule(*arrays.values(), **settings)}


def assert_agrees_with_numpy(rule, arrays, on_arrays=None):
    expected = expect(on_arrays or rule, {name: array.copy() for name, array in arrays.items()})
    run(rule, arrays)
    for name in NAMES:
        np.testing.assert_array_equal(arrays[name], expected[name], err_msg=name)


OPERATIONS = [
    lambda library, a, b: abs(a - b) - a,
    lambda library, a, b: -a + b,
    lambda library, a, b: np.maximum(np.sqrt(abs(a)), b),
    lambda library, a, b: a + b,
    lambda library, a, b: b + a,
    lambda library, a, b: a - b,
    lambda library, a, b: b - a,
    lambda library, a, b: a * b,
    lambda library, a, b: b * a,
    lambda library, a, b: library.maximum(a, b),
    lambda library, a, b: 0.5 / (library.sqrt(library.maximum(a, 0)) + 1.0),
]


def random_rule(seed, library):
    """A rule of up to 12 random operations on arrays, their results and scalars, which returns some of them."""
    rng = np.random.default_rng(seed)

    def rule(p, g, m, v):
        values = [p, g, m, v]
        for _ in range(rng.integers(1, 13)):
            a, b = values[rng.integers(len(values))], [*values, 0.3, 0.7][rng.integers(len(values) + 2)]
            values.append(OPERATIONS[rng.integers(len(OPERATIONS))](library, a, b))
        return {name: values[rng.integers(1, len(values))] for name in ("v", "p", "m")}

    return rule


@pytest.mark.parametrize("seed", range(150))
def test_random_rules_agree_with_numpy(seed):
    arrays = arrays_of(seed=seed)
    rule, on_arrays = random_rule(seed, TRACED), random_rule(seed, ON_ARRAYS)
    assert_agrees_with_numpy(rule, arrays, on_arrays)


def test_arrays_can_be_permuted():
    assert_agrees_with_numpy(lambda p, g, m, v: {"p": m, "m": v, "v": p}, arrays_of())


def test_one_result_for_two_arrays():
    def rule(p, g, m, v):
        m = m + g
        return {"p": m, "m": m, "v": v * p}

    assert_agrees_with_numpy(rule, arrays_of())


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (3, 0), (50,), (7, 9), (2, 3, 5)])
@pytest.mark.parametrize("tile", [1, 4, 20, 1000])
def test_tiling_does_not_change_results(monkeypatch, shape, tile):
    monkeypatch.setattr(elementwise, "TILE", tile)
    assert_agrees_with_numpy(lambda p, g, m, v: {"p": p - m * g / v, "m": m + g * g, "v": v - p}, arrays_of(shape))


def test_strided_arrays_are_updated_in_place():
    whole = arrays_of((6, 8))
    parts = {name: array[::2, ::-2].T for name, array in whole.items()}
    left = {name: array[1::2].copy() for name, array in whole.items()}
    assert_agrees_with_numpy(lambda p, g, m, v: {"p": p - m * g, "m": m + g, "v": v * 0.5}, parts)
    for name, array in whole.items():
        np.testing.assert_array_equal(array[1::2], left[name])


def test_neutral_terms_and_factors_record_no_operation():
    def rule(p, g, m, v, *, decay, factor):
        g = g + decay * p
        return {"p": p - factor * g}

    free = UpdateRule(rule, NAMES, {"decay": 0.0, "factor": 1.0})
    full = UpdateRule(rule, NAMES, {"decay": 0.1, "factor": 0.5})
    assert [operation.function for operation in free._operations] == ["subtract"]
    assert len(full._operations) == 4


def test_only_returned_state_is_kept():
    rule = UpdateRule(lambda p, g, m, v: {"p": p - g, "m": m + g}, NAMES, {})
    assert rule.state == ("m",)
    arrays = arrays_of()
    del arrays["v"]
    rule.run(arrays, Scratch())


def test_state_that_is_read_must_be_returned():
    with pytest.raises(ValueError, match="'v'"):
        UpdateRule(lambda p, g, m, v: {"p": p - v}, NAMES, {})


def test_branching_on_elements_is_an_error():
    with pytest.raises(TypeError, match="branch"):
        UpdateRule(lambda p, g, m, v: {"p": p if p - g else m}, NAMES, {})


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numpy_scalars_do_not_change_the_dtype_of_the_arithmetic(dtype):
    arrays = arrays_of(dtype=dtype)
    expected = arrays["p"] * arrays["p"].dtype.type(0.3) + arrays["g"]
    run(lambda p, g, m, v: {"p": np.float64(0.3) * p + g}, arrays)
    np.testing.assert_array_equal(arrays["p"], expected)


def test_scratch_grows_and_is_reused():
    scratch = Scratch()
    small = scratch.take(np.zeros(1), 2, 10)
    large = scratch.take(np.zeros(1), 2, 100)
    assert len(small) == len(large) == 2
    assert large.shape[1] >= 100
    assert scratch.take(np.zeros(1), 2, 50) is large
    assert scratch.take(np.zeros(1, "float32"), 2, 50).dtype == "float32"
