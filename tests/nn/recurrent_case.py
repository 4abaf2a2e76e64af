"""Random test cases of recurrent layers, on which ours and their peers are compared.

A case is a dictionary. Arrays have our names and layouts: parameters as in `state_dict`, weights (in, out). A result
is a dictionary of arrays: "output", the last "h" (and "c"), and the gradients of Σ cotangent · result, "d x" and so on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_gru import Tensor, compiling, nn

STATES = {"RNN": "h", "GRU": "h", "LSTM": "hc", "MGU": "h"}


def make_case(
    layer: str, seed: int = 0, steps: int = 4, batch: int = 3, inputs: int = 3, hidden: int = 2, lengths: Any = None,
    **settings: Any,
):  # fmt: skip
    """A random case; biases and states are random too, because zeros would hide mistakes."""
    random = np.random.default_rng(seed)
    model = getattr(nn, layer)(inputs, hidden, **settings)
    count, batch_first = len(model.cells), settings.get("batch_first", False)
    sizes = dict(zip(model.cells[0].states, model.cells[0].state_sizes))
    state_shapes = {name: (count, batch, size) for name, size in sizes.items()}
    steps_and_batch = (batch, steps) if batch_first else (steps, batch)
    return {
        "layer": layer,
        "sizes": [inputs, hidden],
        "settings": settings,
        "parameters": {name: random.standard_normal(value.shape) for name, value in model.state_dict().items()},
        "x": random.standard_normal((*steps_and_batch, inputs)),
        "state": {name: random.standard_normal(shape) for name, shape in state_shapes.items()},
        "cotangents": {
            "output": random.standard_normal((*steps_and_batch, model.output_size)),
            **{name: random.standard_normal(shape) for name, shape in state_shapes.items()},
        },
        "lengths": lengths,
    }


def run_ours(case, device="numpy", dtype="float64", **options):
    """The result of our layer, with all gradients."""

    def leaf(values):
        return Tensor(np.asarray(values), requires_grad=True, dtype=dtype, device=device)

    model = getattr(nn, case["layer"])(*case["sizes"], **case["settings"], dtype=dtype, device=device)
    model.load_state_dict(case["parameters"])
    x, state = leaf(case["x"]), {name: leaf(value) for name, value in case["state"].items()}
    given = tuple(state.values())
    output, last = model(x, given if len(given) > 1 else given[0], case.get("lengths"), **options)
    result = {"output": output, **dict(zip(state, last if isinstance(last, tuple) else (last,)))}
    sum((result[name] * leaf(weight)).sum() for name, weight in case["cotangents"].items()).backward()
    gradients = {"x": x, **state, **dict(model.named_parameters())}
    return {
        **{name: value.numpy() for name, value in result.items()},
        **{f"d {name}": tensor.grad.numpy() for name, tensor in gradients.items()},
    }


def assert_same(ours, theirs, **tolerance):
    """Every entry of `theirs` must agree with ours."""
    assert len(theirs) >= 2
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, err_msg=name, **tolerance)


def assert_modes_agree(case, **tolerance):
    """Compiled mode has the results and all gradients of eager mode."""
    results = []
    for on in (False, True):
        with compiling(on):
            results.append(run_ours(case))
    assert_same(results[1], results[0], **tolerance)
