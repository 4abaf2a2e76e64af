"""Lockstep on backends with errors: each must be found, and the op named."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest
from support.stand_in_cupy import stand_in_cupy
from support.strict import STRICT

from tinygrad_gru import Tensor, nn, ops, random_state, remat, scan, tape
from tinygrad_gru.backend import available, backend_of
from tinygrad_gru.debug import lockstep
from tinygrad_gru.testing import DivergenceError
from tinygrad_gru.train import CharacterModel

STRICTLY = ("numpy", STRICT)


def off_by_a_percent(monkeypatch, module, name):
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *arrays, **settings: right(*arrays, **settings) * 1.01)


@pytest.fixture
def cupy(monkeypatch):
    if "cupy" in available():
        pytest.skip("CuPy itself is here")
    with stand_in_cupy(monkeypatch) as module:
        yield module


def is_strict(x):
    return backend_of(x.data).name == STRICT.name


def layer(x, w, b):
    return ops.tanh(x @ w + b).sum()


@pytest.fixture
def arrays(rng):
    return rng.standard_normal((5, 4)), rng.standard_normal((4, 3)), rng.standard_normal(3)


def test_every_result_is_compared(arrays):
    found = lockstep(layer, *arrays, backends=STRICTLY)
    counts = {kind: count for kind, (count, _) in found.kinds.items()}
    assert counts == {
        "matmul": 1, "add": 1, "tanh": 1, "sum": 1, "output": 1, "sum, cotangent": 1, "sum, rule": 1,
        "tanh, cotangent": 1, "tanh, rule": 1, "add, cotangent": 1, "add, rule": 2, "matmul, cotangent": 1,
        "matmul, rule": 2, "gradient": 3,
    }  # fmt: skip
    assert found.results == 18 and found.largest < 1e-12
    assert str(found).startswith("18 results of numpy and array_api_strict agree:\nmatmul")


def test_the_first_op_that_differs_is_named(monkeypatch, arrays):
    off_by_a_percent(monkeypatch, array_api_strict, "tanh")
    with pytest.raises(DivergenceError) as caught:
        lockstep(layer, *arrays, backends=STRICTLY)
    lines = str(caught.value).split("\n  ")
    assert lines[0] == "op 3, tanh: numpy and array_api_strict differ"
    assert lines[1] == "by 0.01 of the largest value, 1e-09 is allowed"
    assert lines[2].startswith("(5, 3) float64, at (")
    assert lines[3].startswith("on the tape: #") and " tanh (5, 3)  <-  #" in lines[3]
    assert "test_lockstep.py:" in lines[4] and "return ops.tanh(x @ w + b).sum()" in lines[4]
    assert lines[5].startswith("the 2 results before it agree to ")


def test_the_largest_difference_and_its_index_are_reported(monkeypatch):
    x = np.array([[50.0, -100.0], [25.0, 12.5]])
    off_by_a_percent(monkeypatch, array_api_strict, "abs")
    with pytest.raises(DivergenceError, match=r"by 0\.01 of .*\n.*at \(0, 1\) most: 100\.0 on numpy, 101\.0 on "):
        lockstep(ops.absolute, x, backends=STRICTLY)


def test_an_error_in_a_rule_is_found_and_the_rule_named(monkeypatch):
    off_by_a_percent(monkeypatch, array_api_strict, "sin")
    with pytest.raises(DivergenceError) as caught:
        lockstep(lambda x: ops.cos(2 * x), np.ones(3), backends=STRICTLY)
    lines = str(caught.value).split("\n  ")
    assert lines[0] == "the cotangent that op 2, cos gives to its input 0: numpy and array_api_strict differ"
    assert lines[3].startswith("on the tape: #") and " cos (3,)" in lines[3]
    assert lines[4].startswith("it ran in the program, at ") and "ops.cos(2 * x)" in lines[4]


def test_the_input_with_a_wrong_cotangent_is_named(monkeypatch):
    off_by_a_percent(monkeypatch, array_api_strict, "log")
    with pytest.raises(DivergenceError, match=r"^the cotangent that op 1, power gives to its input 1: "):
        lockstep(ops.power, np.array([2.0]), np.array([3.0]), backends=STRICTLY)


def test_the_uses_of_a_value_are_abbreviated_if_many(monkeypatch):
    """The sum of their cotangents is wrong here, which no single rule computed."""
    add = array_api_strict._array_object.Array.__iadd__
    monkeypatch.setattr(array_api_strict._array_object.Array, "__iadd__", lambda a, b: add(a, b * 1.01))

    def sums(x):
        return tuple(x * k for k in range(1, 7))

    with pytest.raises(DivergenceError, match=r"gradient of inputs\[0\]: (?s:.*)summed from: op 1, hadamard; op 2, hada"
                       r"mard; … \(6 in all\); op 6, hadamard"):  # fmt: skip
        lockstep(sums, np.ones(3), backends=STRICTLY)


def test_at_second_order_the_rules_are_compared_op_by_op(monkeypatch):
    lockstep(lambda x: ops.cos(2 * x), np.ones(3), backends=STRICTLY, order=2)
    off_by_a_percent(monkeypatch, array_api_strict, "sin")
    with pytest.raises(DivergenceError, match=r"^op 4, sin: "):
        lockstep(lambda x: ops.cos(2 * x), np.ones(3), backends=STRICTLY, order=2)


def test_second_derivatives_are_compared(arrays):
    found = lockstep(layer, *arrays, backends=STRICTLY, order=2)
    assert found.kinds["gradient"][0] == found.kinds["order 2 derivative"][0] == 3


@pytest.fixture
def model():
    return CharacterModel(11, embedding=4, hidden=6)


@pytest.fixture
def text(rng):
    return rng.integers(0, 11, (5, 2)), rng.integers(0, 11, (5, 2))


def loss(model, ids, targets):
    logits, state = model(ids.data)
    return ops.cross_entropy(logits, targets.data), state


def test_a_model_is_moved_to_each_backend_and_back(cupy, model, text):
    devices, state = [], random_state()

    def observed(model, *text):
        devices.append(model.device)
        return loss(model, *text)

    found = lockstep(observed, model, *text)
    assert devices == ["numpy", "cupy"] and model.device == "numpy" and random_state() == state
    assert found.kinds["gradient"][0] == len(list(model.parameters())) and found.kinds["output"][0] == 2


def test_an_error_in_one_function_of_a_model_is_found(monkeypatch, cupy, model, text):
    off_by_a_percent(monkeypatch, cupy, "tanh")
    with pytest.raises(DivergenceError) as caught:
        lockstep(loss, model, *text)
    message = str(caught.value)
    assert message.startswith("op 18, tanh: numpy and cupy differ")
    assert "in CharacterModel.recurrence.cells.0.step 0, at " in message
    assert model.device == "numpy"


def test_an_error_in_scatter_add_is_found(monkeypatch, cupy, text):
    right = cupy.add.at
    cupy.add.at = lambda target, index, values: right(target, index, values * 1.01)
    weight = np.random.default_rng(0).standard_normal((11, 3))
    with pytest.raises(DivergenceError, match=r"^gradient of inputs\[0\]: (?s:.*)summed from: op 1, advanced_index\n"):
        lockstep(lambda w, ids: ops.embedding(w, ids.data), weight, text[0])


def test_a_module_can_be_the_function(cupy):
    found = lockstep(nn.Linear(3, 2), np.ones((4, 3), np.float32))
    assert found.kinds["gradient"][0] == 3


def test_without_every_op_only_outputs_and_gradients_are_compared(monkeypatch, arrays):
    found = lockstep(layer, *arrays, backends=STRICTLY, every_op=False)
    assert set(found.kinds) == {"output", "gradient"}
    off_by_a_percent(monkeypatch, array_api_strict, "tanh")
    with pytest.raises(DivergenceError, match=r"^output: numpy and array_api_strict differ"):
        lockstep(layer, *arrays, backends=STRICTLY, every_op=False)


@pytest.mark.parametrize("every_op", [True, False])
def test_recurrences_run_eagerly_with_every_op_and_compiled_without(every_op, rng):
    recorded = []

    def recurrence(h, x):
        last, ys = scan(lambda h, x: ops.tanh(h + x), h, x)
        recorded.append("scan" in {record.op.__name__ for record in tape(last)})
        return last, ys

    x, h = rng.standard_normal((5, 2, 3)), rng.standard_normal((2, 3))
    found = lockstep(recurrence, h, x, backends=("numpy", "cpu"), every_op=every_op)
    assert found.kinds.get("tanh", (0, 0))[0] == (5 if every_op else 0)
    assert recorded == [not every_op] * 2


def test_tuples_of_outputs_and_remat(rng):
    def halves(x):
        return remat(lambda x: (ops.tanh(x), 2 * x), x)

    found = lockstep(halves, rng.standard_normal(4), backends=STRICTLY)
    assert found.kinds["remat, cotangent"][0] == 2 and found.kinds["gradient"][0] == 1


def test_different_programs_diverge():
    def differs(x):
        return ops.exp(x) if is_strict(x) else ops.tanh(x)

    def shorter(x):
        return x * 2 if is_strict(x) else (x * 2, x)

    def longer(x):
        return (x, x) if is_strict(x) else (x,)

    def narrower(x):
        return ops.astype(x, dtype="float32") if is_strict(x) else ops.astype(x, dtype="float64")

    expected = {
        differs: r"op 1, tanh \(3,\) float64 on numpy, op 1, exp \(3,\) float64 on array_api_strict",
        shorter: r"output\[0\] \(3,\) float64 on numpy, output \(3,\) float64 on array_api_strict",
        longer: r"gradient of inputs\[0\] \(3,\) float64 on numpy, output\[1\] \(3,\) float64 on array_api",
        narrower: r"float64 on numpy, (output|op 1, cast) \(3,\) float32 on array_api",
    }
    for function, message in expected.items():
        with pytest.raises(DivergenceError, match=message):
            lockstep(function, np.ones(3), backends=STRICTLY)


def test_a_run_that_ends_early_diverges():
    def product(x, y):
        return x * (y.detach() if is_strict(x) else y)

    with pytest.raises(DivergenceError, match=r"gradient of inputs\[1\]: .*\n.* on numpy alone"):
        lockstep(product, np.ones(3), np.ones(3), backends=STRICTLY, every_op=False)


def test_nan_and_infinity_agree_with_themselves_alone(monkeypatch):
    x = np.array([np.nan, np.inf, -np.inf, 1.0])
    lockstep(ops.relu, x, backends=STRICTLY)
    monkeypatch.setattr(array_api_strict, "tanh", lambda x: x)
    with pytest.raises(DivergenceError, match="by inf of the largest value"):
        lockstep(ops.tanh, np.array([np.inf, 0.0]), backends=STRICTLY)


def test_integers_agree_if_they_are_equal(monkeypatch, rng):
    lockstep(ops.argmax, rng.standard_normal((3, 4)), backends=STRICTLY)
    monkeypatch.setattr(array_api_strict, "argmax", array_api_strict.argmin)
    with pytest.raises(DivergenceError, match=r"^op 1, argmax: "):
        lockstep(ops.argmax, rng.standard_normal((3, 4)), backends=STRICTLY)


def test_the_tolerance_depends_on_the_dtype_or_is_given(monkeypatch, arrays):
    right = array_api_strict.tanh
    monkeypatch.setattr(array_api_strict, "tanh", lambda x: right(x) * (1 + 1e-5))
    with pytest.raises(DivergenceError, match="1e-09 is allowed"):
        lockstep(layer, *arrays, backends=STRICTLY)
    lockstep(layer, *(a.astype(np.float32) for a in arrays), backends=STRICTLY)
    found = lockstep(layer, *arrays, backends=STRICTLY, tolerance=1e-3)
    assert 5e-6 < found.kinds["tanh"][1] < 2e-5 and found.kinds["matmul"][1] < 1e-12
    assert found.largest == max(difference for _, difference in found.kinds.values()) >= 5e-6


def test_the_largest_difference_of_each_kind_is_reported(monkeypatch):
    factors = iter([1.0, 1.0 + 1e-5, 1.0])
    right = array_api_strict.exp
    monkeypatch.setattr(array_api_strict, "exp", lambda x: right(x) * next(factors))
    found = lockstep(lambda x: (ops.exp(x), ops.exp(x), ops.exp(x)), np.float32([1.0]), backends=STRICTLY)
    assert found.kinds["exp"][0] == 3 and 5e-6 < found.kinds["exp"][1] < 2e-5


def test_cotangents_are_random_and_the_same_on_both_backends(rng):
    cotangents = []

    def doubled(x):
        y = 2 * x
        y.register_hook(lambda g: cotangents.append(g.numpy()))
        return y

    lockstep(doubled, rng.standard_normal(5), backends=STRICTLY)
    first, second = cotangents
    assert (first == second).all() and len(set(first.tolist())) == 5


def test_inputs_may_be_tuples_constants_and_other_values():
    def step(state, ids, scale, nothing):
        assert nothing is None
        h, c = state
        return h * scale, (c[ids],)

    found = lockstep(step, (np.ones(3), Tensor(np.arange(3.0))), np.array([0, 2, 2]), 0.5, None, backends=STRICTLY)
    assert found.kinds["output"][0] == 2 and found.kinds["gradient"][0] == 2


def test_functions_without_gradients_are_compared():
    found = lockstep(lambda x: x > 0, np.array([1.0, -1.0]), backends=STRICTLY)
    assert set(found.kinds) == {"greater", "output"}
