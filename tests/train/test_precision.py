from collections import namedtuple

import numpy as np
import pytest

from tinygrad_gru import Tensor, grad, nn, no_grad, ops, tape
from tinygrad_gru.scan import compiling
from tinygrad_gru.train import CharacterModel, MixedPrecision, mixed_precision

# The rounding of float16, 2⁻¹¹, and how much of it may gather in a handful of steps, relative to the largest element.
ROUNDING = 20 * 2.0**-11


class Probe(nn.Module):
    """A module that records the dtypes of its tensors."""

    def __init__(self, record):
        self.layer, self.record = nn.Linear(3, 2), record

    def forward(self, x, **settings):
        self.record([part.dtype.name for part in (self.layer.W, x, *settings.values()) if hasattr(part, "dtype")])
        return self.layer(x), (x, len(settings))


def gradients(model, run):
    for parameter in model.parameters():
        parameter.zero_grad()
    run().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert found[name].dtype == gradient.dtype == "float32", name
        bound = ROUNDING * np.abs(gradient.numpy()).max()
        np.testing.assert_allclose(found[name].numpy(), gradient.numpy(), rtol=0, atol=bound, err_msg=name)
        assert not np.array_equal(found[name].numpy(), gradient.numpy()), f"{name}: was it computed in float32?"


def squares(y):
    return ops.mean(ops.square(y))


def test_a_model_runs_in_float16_with_float32_inputs_and_outputs(rng):
    seen = []
    model = Probe(seen.extend)
    x = Tensor(rng.standard_normal((4, 3)).astype("float32"))
    y, (again, count) = MixedPrecision(model, "float16")(x, scale=np.float32([2.0]), ids=np.arange(3), name="x")
    assert seen == ["float16", "float16", "float16", "int64"]
    assert y.dtype == again.dtype == "float32" and count == 3
    assert model.layer.W.dtype == x.dtype == "float32"
    np.testing.assert_array_equal(again.numpy(), x.numpy().astype("float16"))
    np.testing.assert_allclose(y.numpy(), model(x)[0].numpy(), atol=ROUNDING)


class Nested(nn.Module):
    """A module that takes and returns containers, and records the dtypes in them."""

    def __init__(self, record):
        self.layer, self.record = nn.Linear(3, 2), record

    def forward(self, xs, *, more):
        self.record([xs[0].dtype.name, xs[1]["x"].dtype.name, more.a.dtype.name, more.b.dtype.name])
        y = self.layer(xs[0] + xs[1]["x"] + more.a)
        return {"y": y, "all": [y, Pair(y, more.b)]}


Pair = namedtuple("Pair", "a b")


def test_inputs_and_outputs_in_containers_are_cast(rng):
    seen = []
    model = Nested(seen.extend)
    x = Tensor(rng.standard_normal((4, 3)).astype("float32"))
    given = {"xs": [x, {"x": x, "name": "x"}], "more": Pair(x, np.arange(3))}
    found = MixedPrecision(model, "float16")(given["xs"], more=given["more"])
    assert seen == ["float16", "float16", "float16", "int64"]
    pair = found["all"][1]
    assert type(pair) is Pair and [t.dtype.name for t in (found["y"], found["all"][0], pair.a)] == ["float32"] * 3
    assert pair.b.dtype == "int64" and x.dtype == given["xs"][1]["x"].dtype == "float32"
    np.testing.assert_allclose(found["y"].numpy(), model.layer(x * 3.0).numpy(), atol=4 * ROUNDING)


CELLS = {
    "rnn": (nn.RNN, {}),
    "gru": (nn.GRU, {}),
    "lstm": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "mgu": (nn.MGU, {"learn_initial_state": True}),
    "reset after": (nn.GRU, {"reset_after": True, "zoneout": 0.1}),
    "layer norm": (nn.GRU, {"layer_norm": True}),
    "peepholes": (nn.LSTM, {"peephole": True}),
    "checkpoints": (nn.GRU, {"checkpoint_every": 2}),
}


@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_those_of_float32_up_to_rounding(name, rng):
    kind, settings = CELLS[name]
    layer = kind(5, 6, **settings).eval()
    for parameter in layer.parameters():
        parameter.data[...] = rng.uniform(-0.5, 0.5, parameter.shape)
    x = Tensor(rng.standard_normal((5, 3, 5)).astype("float32"))
    half = mixed_precision(layer, "float16")
    assert_close(gradients(layer, lambda: squares(half(x)[0])), gradients(layer, lambda: squares(layer(x)[0])))


def test_gradients_of_a_whole_model_are_those_of_float32_up_to_rounding(rng):
    model = CharacterModel(7, embedding=5, hidden=6, layers=2, cell="lstm")
    half, ids = mixed_precision(model, "float16"), rng.integers(0, 7, (6, 4))
    assert_close(
        gradients(model, lambda: ops.cross_entropy(half(ids)[0], ids)),
        gradients(model, lambda: ops.cross_entropy(model(ids)[0], ids)),
    )


def test_recurrences_are_compiled_and_traced_once(rng, monkeypatch):
    from tinygrad_gru.scan.tracing import trace_cache as traces

    traced = []
    original = traces.trace_forward
    monkeypatch.setattr(traces, "trace_forward", lambda *given: traced.append(1) or original(*given))
    layer = nn.GRU(3, 4)
    half, x = mixed_precision(layer, "float16"), Tensor(rng.standard_normal((5, 2, 3)).astype("float32"))
    values = []
    for _ in range(3):
        y, _ = half(x)
        values.append(y.numpy())
        assert "scan" in [record.op.__name__ for record in tape(y)], "it fell back to eager mode"
        for parameter in layer.parameters():
            parameter.data[...] *= 2
            parameter.mark_changed()
    assert len(traced) == 1
    assert not np.array_equal(values[0], values[1]), "the parameters' new values count"
    with compiling(False):
        assert "scan" not in [record.op.__name__ for record in tape(half(x)[0])]


def test_attributes_that_change_are_followed(rng):
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
    half, x = mixed_precision(model, "float16"), Tensor(rng.standard_normal((50, 3)).astype("float32"))
    assert (half(x).numpy() == 0).any()
    half.eval()
    assert not (half(x).numpy() == 0).any()
    model.train()
    assert (half(x).numpy() == 0).any()
    model.layers[1].p = 0.0
    assert not (half(x).numpy() == 0).any()
    model.layers[0] = nn.Linear(3, 5)
    assert half(x).shape == (50, 5)
    model.layers.append(lambda y: y - y)
    assert (half(x).numpy() == 0).all()


def test_parameters_can_be_frozen_tied_and_assigned(rng):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model.layers[1].W = model.layers[0].W
    half, x = mixed_precision(model, "float16"), Tensor(rng.standard_normal((4, 3)).astype("float32"))
    assert_close(gradients(model, lambda: squares(half(x))), gradients(model, lambda: squares(model(x))))
    model.freeze()
    assert not half(x).requires_grad
    model.unfreeze()
    state = {name: np.zeros_like(value) for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    assert not half(x).numpy().any()


def test_the_parameters_are_the_models_own():
    model = nn.Linear(2, 2)
    half = mixed_precision(model, "float16")
    assert [id(p) for p in half.parameters()] == [id(p) for p in model.parameters()]
    assert repr(half).startswith("MixedPrecision(float16)")


def test_derivatives_of_second_order(rng):
    layer = nn.GRU(2, 3)
    half, x = mixed_precision(layer, "float16"), Tensor(rng.standard_normal((3, 2, 2)).astype("float32"))
    weight = layer.cells[0].U_h

    def curvature(model):
        # Scaled, for they are too small for float16.
        (gradient,) = grad(1e3 * squares(model(x)[0]), [weight], create_graph=True)
        return grad(squares(gradient), weight).numpy()

    expected = curvature(layer)
    np.testing.assert_allclose(curvature(half), expected, rtol=0, atol=0.02 * np.abs(expected).max())


def test_nothing_is_recorded_without_grad(rng):
    half = mixed_precision(nn.Linear(2, 2), "float16")
    with no_grad():
        assert not half(Tensor(rng.standard_normal((2, 2)))).requires_grad


def test_float32_is_the_model_itself():
    model = nn.Linear(2, 2)
    assert mixed_precision(model, "float32") is model


def test_unsupported_precisions_are_explained(monkeypatch):
    monkeypatch.setattr("tinygrad_gru.backend.numpy.bfloat16", lambda: None)  # as without ml_dtypes
    with pytest.raises(ValueError, match="precision: expected one of float32, float16, bfloat16, got 'half'"):
        mixed_precision(nn.Linear(2, 2), "half")
    with pytest.raises(ValueError, match="precision: 'numpy' has no 'bfloat16', expected 'float32' or 'float16'"):
        mixed_precision(nn.Linear(2, 2), "bfloat16")
