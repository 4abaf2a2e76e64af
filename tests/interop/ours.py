"""Our layers on cases of torch_cases.py and keras_cases.py, which are plain data."""

from __future__ import annotations

import numpy as np

from tinygrad_gru import Tensor, nn
from tinygrad_gru.interop import keras, torch


def _leaf(values):
    return Tensor(np.asarray(values, np.float64), requires_grad=True)


def assert_as_torch(case, tolerance=1e-10):
    """Outputs, last states and every gradient of our layer, with PyTorch's weights, are PyTorch's."""
    kind, settings = case["kind"], dict(case["settings"])
    if kind == "GRU":
        settings["reset_after"] = True
    if "nonlinearity" in settings:
        settings["activation"] = settings.pop("nonlinearity")
    layer = getattr(nn, kind)(*case["sizes"], dtype="float64", **settings)
    weights = {name: np.asarray(value) for name, value in case["weights"].items()}
    torch.load(layer, weights)
    first = settings.get("batch_first", False)

    def turned(state):  # PyTorch's states are (layers · directions, batch, hidden) always
        return np.swapaxes(np.asarray(state), 0, 1) if first else np.asarray(state)

    x, states = _leaf(case["x"]), [_leaf(turned(state)) for state in case["states"]]
    output, last = layer(x, tuple(states) if kind == "LSTM" else states[0], lengths=case["lengths"])
    results = [output, *(last if kind == "LSTM" else (last,))]
    theirs = [case["results"][0], *map(turned, case["results"][1:])]
    weighted = [case["cotangents"][0], *map(turned, case["cotangents"][1:])]
    sum((result * np.asarray(c)).sum() for result, c in zip(results, weighted)).backward()

    def same(ours, expected, what):
        np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance, err_msg=f"{kind} {settings}: {what}")

    for result, expected, what in zip(results, theirs, ("output", "h", "c")):
        same(result.numpy(), expected, what)
    same(x.grad.numpy(), case["d_x"], "∂x")
    for state, expected in zip(states, case["d_states"]):
        same(state.grad.numpy(), turned(expected), "∂state")
    expected = _in_our_names(layer, case["d_weights"], settings)
    for name, parameter in layer.named_parameters():
        same(parameter.grad.numpy(), expected[name], f"∂{name}")


def _in_our_names(layer, gradients, settings):
    """PyTorch's gradients as ours: they go the way of the weights. Two biases have one gradient."""
    gradients = {name: np.array(value) for name, value in gradients.items()}
    for name, gradient in gradients.items():
        if name.startswith("bias_hh"):
            gradient[: 2 * len(gradient) // 3 if settings.get("reset_after") else None] = 0
    other = getattr(nn, type(layer).__name__)(layer.input_size, layer.hidden_size, dtype="float64", **settings)
    return torch.load(other, gradients).state_dict()


def assert_as_keras(case, tolerance=1e-10):
    """Outputs and last states of our layer, with Keras's weights, are Keras's."""
    settings = case["settings"]
    layer, again = (
        getattr(nn, case["kind"])(*case["sizes"], dtype="float64", batch_first=True, **settings) for _ in range(2)
    )
    keras.load(layer, [np.asarray(array) for array in case["weights"]])
    keras.load(again, keras.weights(layer))
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)
    output, last = layer(Tensor(np.asarray(case["x"])))
    np.testing.assert_allclose(output.numpy(), case["output"], rtol=tolerance, atol=tolerance, err_msg=str(settings))
    parts = last if isinstance(last, tuple) else (last,)
    ours = [part.numpy()[:, direction] for direction in range(layer.directions) for part in parts]
    for state, expected in zip(ours, case["states"], strict=True):
        np.testing.assert_allclose(state, expected, rtol=tolerance, atol=tolerance, err_msg=str(settings))
