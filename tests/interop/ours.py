"""Runs our layers on the cases of torch_cases.py and keras_cases.py."""

from __future__ import annotations

import numpy as np

from tinygrad_gru import Tensor, nn
from tinygrad_gru.interop import keras, torch


def assert_as_torch(case, tolerance=1e-10):
    """Outputs, last states and every gradient of our layer, with PyTorch's weights, are PyTorch's."""
    kind, settings = case["kind"], dict(case["settings"])
    if kind == "GRU":
        settings["reset_after"] = True
    if "nonlinearity" in settings:
        settings["activation"] = settings.pop("nonlinearity")
    layer, gradients = (getattr(nn, kind)(*case["sizes"], dtype="float64", **settings) for _ in range(2))
    torch.load(layer, {name: np.asarray(value) for name, value in case["weights"].items()})
    theirs = {name: np.array(value) for name, value in case["d_weights"].items()}
    for name, gradient in theirs.items():
        if name.startswith("bias_hh"):  # the second of two biases that are one here has no gradient
            gradient[: 2 * len(gradient) // 3 if settings.get("reset_after") else None] = 0
    torch.load(gradients, theirs)  # gradients are converted like weights

    def same_layout(states):
        return [np.asarray(state) for state in states]

    _assert_same(case, layer, gradients, same_layout, tolerance, lengths=case["lengths"])


def assert_as_keras(case, tolerance=1e-10):
    """Outputs, last states and every gradient of our layer, with Keras's weights, are Keras's."""
    layer, again, gradients = (
        getattr(nn, case["kind"])(*case["sizes"], dtype="float64", batch_first=True, **case["settings"])
        for _ in range(3)
    )
    keras.load(layer, [np.asarray(array) for array in case["weights"]])
    keras.load(again, keras.weights(layer))
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)
    theirs = [np.array(value) for value in case["d_weights"]]
    if case["settings"].get("reset_after") and case["settings"]["bias"]:
        for gradient in theirs[2::3]:  # the second of two biases that are one here has no gradient
            gradient[1, : 2 * gradient.shape[1] // 3] = 0
    keras.load(gradients, theirs)  # gradients are converted like weights
    count = len(layer.cell_type.states)

    def as_ours(states):  # Keras's are (batch, hidden), one for each direction and part
        return [np.stack([np.asarray(state) for state in states[part::count]]) for part in range(count)]

    x, mask = np.array(case["x"]), case["mask"]
    if mask is not None:
        x[~np.array(mask)] = np.nan
    _assert_same({**case, "x": x}, layer, gradients, as_ours, tolerance, mask=mask)


def _assert_same(case, layer, gradients, as_ours, tolerance, **steps):
    """All results of a case agree.

    gradients  a layer like ours whose weights are their gradients
    as_ours     makes states as ours are from theirs
    steps      the lengths or the mask
    """

    def leaf(values):
        return Tensor(np.asarray(values, np.float64), requires_grad=True)

    def same(ours, theirs, what):
        label = f"{case['kind']} {case['settings']} {steps}: {what}"
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=label)

    x, states = leaf(case["x"]), [leaf(state) for state in as_ours(case["states"])]
    output, last = layer(x, tuple(states) if len(states) > 1 else states[0], **steps)
    results = [output, *(last if isinstance(last, tuple) else (last,))]
    cotangents = [case["cotangents"][0], *as_ours(case["cotangents"][1:])]
    sum((result * np.asarray(c)).sum() for result, c in zip(results, cotangents)).backward()
    expected = [case["results"][0], *as_ours(case["results"][1:])]
    for result, theirs, what in zip(results, expected, ("output", "h", "c")):
        same(result.numpy(), theirs, what)
    same(x.grad.numpy(), case["d_x"], "∂x")
    for state, theirs in zip(states, as_ours(case["d_states"])):
        same(state.grad.numpy(), theirs, "∂state")
    for (name, parameter), theirs in zip(layer.named_parameters(), gradients.parameters(), strict=True):
        same(parameter.grad.numpy(), theirs.numpy(), f"∂{name}")
