from __future__ import annotations

import json
import tracemalloc
from math import inf
from typing import ClassVar

import numpy as np
import pytest

from tinygrad_gru import TapeError, Tensor
from tinygrad_gru.backend import to_host
from tinygrad_gru.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, WarmupCosine

VARIANTS = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    (RMSprop, {"lr": 0.1, "momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    (Adagrad, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}),
    (Adam, {"lr": 0.1}),
    (Adam, {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True}),
    (AdamW, {"lr": 0.1, "weight_decay": 0.1}),
]
every_variant = pytest.mark.parametrize(("optimizer_class", "settings"), VARIANTS)


def values(tensors):
    return [tensor.numpy() for tensor in tensors]


def assert_equal(tensors, arrays):
    for tensor, array in zip(tensors, arrays, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_the_example_of_the_docstring(parameter):
    class Momentum(Optimizer):
        allowed: ClassVar = {"lr": (0, inf), "momentum": (0, 1)}

        def __init__(self, parameters, lr=0.1, momentum=0.9):
            super().__init__(parameters, lr=lr, momentum=momentum)

        @staticmethod
        def rule(p, g, velocity, *, step, lr, momentum):
            velocity = momentum * velocity + g
            return {"p": p - lr * velocity, "velocity": velocity}

    tensor = parameter([1.0, 2.0], [1.0, -1.0])
    optimizer = Momentum([tensor])
    optimizer.step()
    optimizer.step()
    np.testing.assert_allclose(tensor.numpy(), [1.0 - 0.1 - 0.19, 2.0 + 0.1 + 0.19])


@every_variant
def test_learns_through_backward(device, optimizer_class, settings):
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((64, 3)), device=device)
    truth = Tensor([[1.0], [-2.0], [0.5]], dtype="float64", device=device)
    weight = Tensor(np.zeros((3, 1)), requires_grad=True, device=device)
    optimizer = optimizer_class([weight], **settings)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = ((x @ weight - x @ truth) ** 2.0).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@every_variant
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dtype_and_array_are_kept(parameter, optimizer_class, settings, dtype):
    tensor = parameter([[1.0, 2.0]], [[0.5, -0.5]], dtype=dtype)
    array = tensor.data
    optimizer = optimizer_class([tensor], **settings)
    optimizer.groups[0]["lr"] = np.float64(0.1)
    optimizer.step()
    assert tensor.data is array
    assert tensor.dtype == dtype
    state_dtype = "float32" if dtype == "float16" else dtype
    assert all(state.dtype == state_dtype for state in optimizer.state[0].values())


@every_variant
@pytest.mark.parametrize("strided", [False, True])
def test_a_step_does_not_allocate(optimizer_class, settings, strided):
    rng = np.random.default_rng(0)
    tensor = Tensor(rng.standard_normal((512, 512)), requires_grad=True, dtype="float32")
    gradient = rng.standard_normal((512, 512)).astype("float32")
    tensor.grad = Tensor.from_node(gradient.T if strided else gradient, None)
    optimizer = optimizer_class([tensor], **settings)
    optimizer.step()
    optimizer.step()  # the first step of SGD with momentum is another rule than the later ones
    peaks = []
    tracemalloc.start()
    try:
        for _ in range(4):  # Python may resize a table of its own in one of them
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(25):
                optimizer.step()
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert min(peaks) < tensor.data.nbytes / 8  # NumPy itself buffers some strided rows


def test_scratch_is_shared_and_smaller_than_a_large_parameter():
    tensors = [Tensor(np.zeros((1000, 500)), requires_grad=True, dtype="float32") for _ in range(3)]
    for tensor in tensors:
        tensor.grad = Tensor(np.ones((1000, 500)), dtype="float32")
    optimizer = Adam(tensors)
    optimizer.step()
    assert sum(buffer.nbytes for buffer in optimizer._scratch._buffers.values()) < tensors[0].data.nbytes / 2


def test_backward_after_a_step_raises(parameter):
    tensor = parameter([1.0, 2.0], [1.0, 1.0])
    loss = (tensor * tensor).sum()
    SGD([tensor]).step()
    with pytest.raises(TapeError, match="changed in place"):
        loss.backward()


def test_a_parameter_without_gradient_is_not_written(parameter):
    tensor, moved = parameter([1.0, 2.0]), parameter([1.0, 2.0], [1.0, 1.0])
    loss = (tensor * tensor).sum()
    optimizer = Adam([tensor, moved], weight_decay=0.5)
    optimizer.step()
    loss.backward()
    assert_equal([tensor], [[1.0, 2.0]])
    assert optimizer.updates == [0, 1]
    assert optimizer.state[0] == {}


def test_a_frozen_parameter_is_not_updated(parameter):
    tensor = parameter([1.0], [1.0])
    optimizer = SGD([tensor], momentum=0.9)
    optimizer.step()
    tensor.requires_grad = False
    before = tensor.numpy()
    optimizer.step()
    assert_equal([tensor], [before])


def test_zero_grad(parameter):
    tensor = parameter([1.0], [1.0])
    Adam([tensor]).zero_grad()
    assert tensor.grad is None


def test_groups_have_separate_settings(parameter):
    tensors = [parameter([1.0], [1.0]) for _ in range(3)]
    optimizer = SGD([{"parameters": tensors[:2], "lr": 0.5}, {"parameters": tensors[2:]}], lr=0.25)
    optimizer.step()
    assert_equal(tensors, [[0.5], [0.5], [0.75]])
    optimizer.groups[1]["lr"] = 0.125
    optimizer.step()
    assert_equal(tensors, [[0.0], [0.0], [0.625]])


def test_repr_names_the_settings(parameter):
    assert repr(SGD([parameter([1.0])], lr=0.5)).startswith("SGD(parameters=1, lr=0.5, momentum=0.0")


# -- state --------------------------------------------------------------------------------------------------


def through_json(saved):
    return {**json.loads(json.dumps({"groups": saved["groups"], "steps": saved["steps"]})), "state": saved["state"]}


@every_variant
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_resumed_run_is_bit_identical(random_steps, parameter, apply, optimizer_class, settings, dtype):
    tensors, gradients = random_steps(12, dtype=dtype)
    optimizer = optimizer_class(tensors, **settings)
    apply(optimizer, gradients[:5])
    optimizer.groups[0]["lr"] = 0.07
    saved, kept = optimizer.state_dict(), values(tensors)
    apply(optimizer, gradients[5:])

    resumed = [parameter(array, dtype=dtype) for array in kept]
    other = optimizer_class(resumed)
    other.load_state_dict(through_json(saved))
    apply(other, gradients[5:])
    assert_equal(resumed, values(tensors))
    assert other.steps == optimizer.steps == 12
    assert other.updates == optimizer.updates
    assert other.updates[:3] == [11, 11, 12]
    assert other.groups[0]["lr"] == 0.07


def test_a_run_resumed_without_its_state_differs(random_steps, parameter, apply):
    tensors, gradients = random_steps(6)
    optimizer = Adam(tensors)
    apply(optimizer, gradients[:3])
    resumed = [parameter(array) for array in values(tensors)]
    apply(optimizer, gradients[3:])
    apply(Adam(resumed), gradients[3:])
    assert np.any(resumed[0].numpy() != tensors[0].numpy())


def test_state_dict_copies_arrays(random_steps, apply):
    tensors, gradients = random_steps(4)
    optimizer = Adam(tensors)
    apply(optimizer, gradients[:2])
    saved = optimizer.state_dict()
    before = {key: array.copy() for key, array in saved["state"].items()}
    other = Adam(tensors)
    other.load_state_dict(saved)
    apply(optimizer, gradients[2:])
    apply(other, gradients[2:])
    assert saved["steps"] == 2
    for key, array in before.items():
        assert type(array) is np.ndarray
        np.testing.assert_array_equal(saved["state"][key], array)


def test_state_dict_names_arrays_by_position(parameter):
    tensors = [parameter([1.0], [1.0]), parameter([1.0]), parameter([1.0], [1.0])]
    optimizer = Adam([{"parameters": tensors[:2]}, {"parameters": tensors[2:]}])
    optimizer.step()
    saved = optimizer.state_dict()
    assert set(saved["state"]) == {"0.m", "0.v", "2.m", "2.v"}
    assert [group["updates"] for group in saved["groups"]] == [[1, 0], [1]]
    assert "parameters" not in saved["groups"][0]


@every_variant
def test_groups_of_a_state_dict_are_json(parameter, optimizer_class, settings):
    saved = optimizer_class([parameter([1.0])], **{**settings, "lr": np.float32(0.5)}).state_dict()
    assert json.loads(json.dumps(saved["groups"])) == saved["groups"]
    assert saved["groups"][0]["lr"] == 0.5


def test_state_dict_before_the_first_step(parameter):
    optimizer = Adam([parameter([1.0])])
    other = Adam([parameter([1.0])], lr=0.5)
    other.load_state_dict(optimizer.state_dict())
    assert other.groups[0]["lr"] == 1e-3


def saved_adam(parameter):
    optimizer = Adam([parameter([1.0, 2.0], [1.0, 1.0]), parameter([[1.0]], [[1.0]])])
    optimizer.step()
    return optimizer.state_dict()


def without(mapping, key):
    return {name: value for name, value in mapping.items() if name != key}


def test_loading_the_state_of_another_optimizer_raises(parameter):
    tensors = [parameter([1.0, 2.0]), parameter([[1.0]])]
    with pytest.raises(ValueError, match="optimizer AdamW, got Adam"):
        AdamW(tensors).load_state_dict(saved_adam(parameter))


@pytest.mark.parametrize("shapes", [[(2,)], [(2,), (1, 1), (1,)], [(1, 1), (2,)], [(3,), (1, 1)]])
def test_loading_the_state_of_other_parameters_raises(parameter, shapes):
    with pytest.raises(ValueError, match="saved group 0: expected shapes"):
        Adam([parameter(np.ones(shape)) for shape in shapes]).load_state_dict(saved_adam(parameter))


def test_loading_the_state_of_other_groups_raises(parameter):
    optimizer = Adam([{"parameters": [parameter([1.0, 2.0])]}, {"parameters": [parameter([[1.0]])]}])
    with pytest.raises(ValueError, match="1 groups, expected 2"):
        optimizer.load_state_dict(saved_adam(parameter))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: {**s, "state": without(s["state"], "1.v")}, "1.v is missing"),
        (lambda s: {**s, "steps": -1}, "steps and updates are counts, from 0 on, got -1"),
        (lambda s: {**s, "groups": [{**s["groups"][0], "updates": [1, 0.5]}]}, "counts, from 0 on, got 0.5"),
        (lambda s: {**s, "state": {**s["state"], "1.w": np.ones((1, 1))}}, "unknown state 1.w"),
        (lambda s: {**s, "state": {**s["state"], "7.m": np.ones((1, 1))}}, "unknown state 7.m"),
        (lambda s: {**s, "state": {**s["state"], "1.m": np.ones((1, 2))}}, r"1\.m must hold .* \(1, 2\)"),
        (lambda s: {**s, "state": {**s["state"], "1.m": np.ones((1, 1), int)}}, r"1\.m must hold .* int64"),
        (lambda s: without(s, "steps"), "no steps"),
        (lambda s: {}, "no groups, state, steps"),
        (lambda s: {**s, "groups": [without(s["groups"][0], "lr")]}, "lr"),
        (lambda s: {**s, "groups": [{**s["groups"][0], "lr": -1.0}]}, "lr"),
        (lambda s: {**s, "groups": [without(s["groups"][0], "updates")]}, "updates"),
        (lambda s: {**s, "groups": [without(s["groups"][0], "shapes")]}, "shapes"),
    ],
)
def test_loading_a_damaged_state_raises_and_changes_nothing(parameter, spoil, message):
    optimizer = Adam([parameter([1.0, 2.0]), parameter([[1.0]])], lr=0.25)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(spoil(saved_adam(parameter)))
    assert optimizer.groups[0]["lr"] == 0.25
    assert (optimizer.steps, optimizer.updates, optimizer.state) == (0, [0, 0], [{}, {}])


def test_loaded_state_has_the_dtype_of_its_parameter(parameter):
    saved = saved_adam(parameter)
    tensors = [parameter([1.0, 2.0], dtype="float32"), parameter([[1.0]], dtype="float32")]
    optimizer = Adam(tensors)
    optimizer.load_state_dict(saved)
    assert optimizer.state[0]["m"].dtype == "float32"
    np.testing.assert_allclose(to_host(optimizer.state[0]["m"]), saved["state"]["0.m"], rtol=1e-6)


def test_optimizer_and_schedule_resume_together(random_steps, parameter, apply):
    def train(optimizer, schedule, gradients):
        for row in gradients:
            apply(optimizer, [row])
            schedule.step()

    tensors, gradients = random_steps(20)
    optimizer = Adam([{"parameters": tensors[:2]}, {"parameters": tensors[2:], "lr": 0.3}], lr=0.1)
    schedule = WarmupCosine(optimizer, total_steps=20, warmup=0.2)
    train(optimizer, schedule, gradients[:8])
    saved, saved_schedule = optimizer.state_dict(), json.loads(json.dumps(schedule.state_dict()))
    kept = values(tensors)
    train(optimizer, schedule, gradients[8:])

    resumed = [parameter(array) for array in kept]
    other = Adam([{"parameters": resumed[:2]}, {"parameters": resumed[2:]}])
    other.load_state_dict(saved)
    other_schedule = WarmupCosine(other, total_steps=20, warmup=0.2)
    other_schedule.load_state_dict(saved_schedule)
    train(other, other_schedule, gradients[8:])
    assert_equal(resumed, values(tensors))
