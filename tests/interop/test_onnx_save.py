"""ONNX export: onnxruntime and the re-imported file compute what the module computes."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx_graphs import in_onnxruntime, recurrent  # noqa: E402

from tinygrad_gru import Tensor, interop, no_grad, ops  # noqa: E402
from tinygrad_gru.interop import InteropError  # noqa: E402
from tinygrad_gru.interop.onnx import load, save  # noqa: E402
from tinygrad_gru.nn import (  # noqa: E402
    GRU,
    LSTM,
    MGU,
    RNN,
    SLSTM,
    Dropout,
    Embedding,
    GRUCell,
    LastStep,
    LayerNorm,
    Linear,
    Module,
    Recurrent,
    Sequential,
)

RANDOM = np.random.default_rng(0)


def draw(*shape):
    return Tensor(RANDOM.standard_normal(shape).astype(np.float32))


def randomized(module):
    for parameter in module.parameters():
        parameter.data = 0.5 * RANDOM.standard_normal(parameter.shape).astype(np.float32)
    return module


def flat(values):
    for value in values if isinstance(values, (tuple, list)) else (values,):
        if isinstance(value, (tuple, list)):
            yield from flat(value)
        elif value is not None:
            yield value.numpy() if isinstance(value, Tensor) else value


def assert_exported(path, module, example, *others, tolerance=1e-5, **settings):
    """Export the module, compare on the example and on inputs of other lengths, and return the ModelProto."""
    save(module, path, example, **settings)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    imported = load(path)
    module.eval()
    for inputs in (example, *others):
        inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        with no_grad():
            expected = list(flat(module(*inputs)))
            ours = list(flat(imported(*flat(inputs))))
        theirs = in_onnxruntime(path, dict(zip((value.name for value in model.graph.input), flat(inputs))))
        assert len(expected) == len(theirs) == len(ours)
        for a, b, c in zip(expected, theirs, ours):
            assert a.dtype == b.dtype == c.dtype
            np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(c, a, rtol=tolerance, atol=tolerance)
    return model


def op_types(model):
    return [node.op_type for node in model.graph.node]


@ops.op
def no_such_op(x):
    return x.__array_namespace__().hypot(x, x)


class Leaky(GRUCell):
    """A user-defined cell, with an output that is not the state."""

    def step(self, h, x):
        r = ops.sigmoid(x @ self.W_r + h @ self.U_r + self.b_r)
        h = 0.9 * h + 0.1 * ops.tanh(x @ self.W_h + (r * h) @ self.U_h + self.b_h)
        return h, ops.softmax(h)


class Warm(Leaky):
    """A user-defined cell that begins with other states than zeros, of which some are learned."""

    def initial_state(self, batch):
        return super().initial_state(batch) + np.array([0.5, 0.0, -0.5, 1.0], "float32")


LAYERS = {
    "RNN": (RNN, {}, "RNN"),
    "RNN relu": (RNN, {"activation": "relu"}, "RNN"),
    "GRU": (GRU, {}, "GRU"),
    "GRU after": (GRU, {"reset_after": True}, "GRU"),
    "GRU clip": (GRU, {"clip": 0.4}, "GRU"),
    "LSTM": (LSTM, {}, "LSTM"),
    "LSTM peephole": (LSTM, {"peephole": True, "clip": 0.4}, "LSTM"),
    "LSTM coupled": (LSTM, {"peephole": True, "coupled": True}, "LSTM"),
    "LSTM activations": (LSTM, {"activation": "softplus", "output_activation": "leaky_relu"}, "LSTM"),
    "LSTM full peephole": (LSTM, {"peephole": "full"}, "Scan"),
    "LSTM projection": (LSTM, {"proj_size": 2}, "Scan"),
    "GRU normalized": (GRU, {"layer_norm": True}, "Scan"),
    "LSTM zoneout": (LSTM, {"zoneout": (0.1, 0.2)}, "Scan"),
    "GRU custom gate": (GRU, {"gate_activation": lambda a: ops.clip(a, low=0, high=1)}, "Scan"),
    "MGU": (MGU, {}, "Scan"),
    "custom cell": (Recurrent.of(Leaky), {}, "Scan"),
    "custom initial state": (Recurrent.of(Warm), {}, "Scan"),
    "sLSTM": (SLSTM, {"heads": 2}, "Scan"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_recurrent_layers(tmp_path, name):
    """Stacked, bidirectional, batch-first, with lengths, and with dynamic axes longer than in the example."""
    make, options, op_type = LAYERS[name]
    axes = {"x": ("time", "batch", None), "lengths": ("batch",), "state": (None, "batch", None)}
    axes |= {f"state_{k}": axes["state"] for k in range(4)}

    def state(layer, batch):
        zeros = layer.initial_state(batch)
        return tuple(draw(*p.shape) + p for p in zeros) if isinstance(zeros, tuple) else draw(*zeros.shape)

    def named(*names):
        count = len(make(3, 4).cells[0].states)
        parts = [f"state_{k}" for k in range(count)] if count > 1 else ["state"]
        return {part: axes[part] for name in names for part in (parts if name == "state" else [name])}

    layer = randomized(make(3, 4, **options))
    model = assert_exported(tmp_path / "one.onnx", layer, draw(5, 2, 3), draw(7, 4, 3), axes=named("x"))
    assert op_types(model).count(op_type) == 1

    layer = randomized(make(3, 4, num_layers=2, bidirectional=True, **options))
    example = (draw(5, 2, 3), state(layer, 2), np.array([5, 2]))
    other = (draw(6, 3, 3), state(layer, 3), np.array([1, 6, 3]))
    model = assert_exported(tmp_path / "two.onnx", layer, example, other, axes=named("x", "state", "lengths"))
    assert op_types(model).count(op_type) == (4 if op_type == "Scan" else 2)

    layer = randomized(
        make(3, 4, num_layers=2, bidirectional=True, merge="mean", residual=True, batch_first=True,
             learn_initial_state=True, **options)
    )  # fmt: skip
    axes["x"] = ("batch", "time", None)
    example = (draw(2, 5, 3), None, np.array([5, 2]))
    assert_exported(
        tmp_path / "all.onnx", layer, example, (draw(3, 6, 3), None, np.array([6, 1, 3])), axes=named("x", "lengths")
    )


@pytest.mark.parametrize("settings", [{}, {"bidirectional": True}, {"batch_first": True, "reverse": True}], ids=str)
@pytest.mark.parametrize("padding", [None, "lengths", "mask"])
def test_sequential_of_recurrent_layers(tmp_path, settings, padding):
    model = randomized(
        Sequential(
            LSTM(3, 4, **settings), Sequential(ops.tanh, GRU(4 * (1 + ("bidirectional" in settings)), 5, **settings)),
            LastStep(), Linear(5 * (1 + ("bidirectional" in settings)), 2), ops.sigmoid,
        )
    )  # fmt: skip
    first = "batch_first" in settings

    def inputs(steps, batch):
        x = draw(batch, steps, 3) if first else draw(steps, batch, 3)
        if padding is None:
            return (x,)
        lengths = np.arange(batch) % (steps + 1)
        mask = RANDOM.random((batch, steps) if first else (steps, batch)) < 0.6
        return (x, None, lengths) if padding == "lengths" else (x, None, None, mask)

    axes = {"x": ("batch", "time", None) if first else ("time", "batch", None), "lengths": ("batch",)}
    axes["mask"] = axes["x"][:2]
    axes = {name: axes[name] for name in ("x", padding) if name}
    assert_exported(tmp_path / "model.onnx", model, inputs(5, 3), inputs(7, 9), axes=axes)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("name", ["RNN", "GRU", "GRU after", "LSTM peephole", "GRU normalized"])
def test_layers_of_other_dtypes_round_trip(tmp_path, name, dtype):
    """onnxruntime has no such nodes, so the re-imported file is compared, to the last bits."""
    make, options, _ = LAYERS[name]
    layer = make(3, 4, bidirectional=True, dtype=dtype, **options)
    for parameter in layer.parameters():
        parameter.data = RANDOM.standard_normal(parameter.shape).astype(dtype)
    x, lengths = RANDOM.standard_normal((5, 2, 3)).astype(dtype), np.array([5, 2])
    save(layer, tmp_path / "layer.onnx", (x, None, lengths))
    for ours, again in zip(flat(layer(x, None, lengths)), flat(load(tmp_path / "layer.onnx")(x, lengths))):
        assert ours.dtype == again.dtype == dtype
        np.testing.assert_allclose(ours, again, rtol=0, atol=1e-2 if dtype == "float16" else 1e-14)


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM", "GRU normalized", "MGU"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_empty_sequences_end_in_their_initial_state(tmp_path, name, batch_first):
    """As in the layer; onnxruntime's nodes alone would end in zeros."""
    make, options, _ = LAYERS[name]
    layer = randomized(make(3, 4, num_layers=2, bidirectional=True, batch_first=batch_first, **options))
    x, state = draw(5, 3, 3), layer.initial_state(3)
    parts = [draw(*part.shape) for part in (state if isinstance(state, tuple) else (state,))]
    state = tuple(parts) if len(parts) > 1 else parts[0]
    x = Tensor(np.swapaxes(x.numpy(), 0, 1)) if batch_first else x
    assert_exported(tmp_path / "layer.onnx", layer, (x, state, np.array([2, 0, 5])), (x, state, np.array([0, 0, 1])))


@pytest.mark.parametrize("name", ["GRU", "GRU normalized"])
def test_reverse_layers(tmp_path, name):
    make, options, op_type = LAYERS[name]
    layer = randomized(make(3, 4, num_layers=2, reverse=True, **options))
    example, other = (draw(5, 2, 3), None, np.array([5, 2])), (draw(6, 3, 3), None, np.array([1, 6, 3]))
    axes = {"x": ("time", "batch", None), "lengths": ("batch",)}
    model = assert_exported(tmp_path / "layer.onnx", layer, example, other, axes=axes)
    assert op_types(model).count(op_type) == 2


@pytest.mark.parametrize("past_end", ["hold", "nan", -7.5])
@pytest.mark.parametrize("make", [GRU, LSTM])
def test_mask_and_past_end(tmp_path, make, past_end):
    class Masked(Module):
        def __init__(self):
            self.layer = make(3, 4, bidirectional=True)

        def forward(self, x, mask):
            return self.layer(x, mask=mask, past_end=past_end)

    mask = np.array([[True, False], [False, True], [True, True], [True, False]])
    x = draw(4, 2, 3)
    x.data[~mask] = np.nan
    axes = {"x": ("time", "batch", None), "mask": ("time", "batch")}
    assert_exported(
        tmp_path / "masked.onnx", randomized(Masked()), (x, mask),
        (draw(6, 3, 3), RANDOM.random((6, 3)) > 0.4), axes=axes,
    )  # fmt: skip


class Reader(Module):
    """A user-defined module: layers, and many ops between them."""

    def __init__(self):
        self.embedding = Embedding(7, 4)
        self.scale = Tensor(np.float32(0.5), requires_grad=True)
        self.readers = [GRU(4, 6, batch_first=True), LSTM(4, 6, batch_first=True)]
        self.head = Sequential(Linear(12, 8), ops.relu, Dropout(0.5), LayerNorm(8), Linear(8, 3, bias=False))

    def forward(self, ids, weights=None):
        x = self.embedding(ids) * self.scale
        outputs = [layer(x)[0] for layer in self.readers]
        y = ops.concatenate(outputs, axis=-1)
        last = y[:, -1] + y.mean(axis=2, keepdims=True)[:, 0]
        heads = y.reshape(*y.shape[:2], 2, 6).transpose(0, 2, 1, 3)
        scores = ops.softmax(heads @ heads.mT / 6**0.5)
        spread = (scores @ heads)[:, :, 0].reshape(len(ids), 12)
        logits = self.head(ops.where(last > 0, last, 0.1 * last) + ops.sigmoid(spread))
        if weights is not None:
            logits = logits * weights[None, :]
        return {"a": logits, "b": y}["a"], (ops.stack([last, spread], axis=1), y[:, ::-1, None, 1:3])


def test_user_defined_module(tmp_path):
    model = randomized(Reader())
    ids = np.array([[0, 3, 6, 1], [2, 2, 5, 4]])
    longer = RANDOM.integers(0, 7, (3, 9))
    axes = {"ids": ("batch", "time")}
    exported = assert_exported(
        tmp_path / "reader.onnx", model, (ids, draw(3)), (longer, draw(3)), axes=axes,
        output_names=("logits", "summary", "backwards"), metadata={"made for": "a test"},
    )  # fmt: skip
    assert [i.name for i in exported.graph.input] == ["ids", "weights"]
    assert [o.name for o in exported.graph.output] == ["logits", "summary", "backwards"]
    shapes = [[d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim] for o in exported.graph.output]
    assert shapes == [["batch", 3], ["batch", 2, 12], ["batch", "time", 1, 2]]
    assert {"GRU", "LSTM", "LayerNormalization"} <= set(op_types(exported)) and "Identity" not in op_types(exported)
    names = {array.name for array in exported.graph.initializer}
    assert {"embedding.W", "scale", "readers.0.0.W", "readers.1.0.B", "head.layers.0.W", "head.layers.4.W"} <= names
    assert exported.producer_name == "tinygrad_gru" and exported.metadata_props[0].value == "a test"
    assert_exported(tmp_path / "tensors.onnx", model, Tensor(ids), Tensor(longer), axes=axes)


def test_export_leaves_the_module_unchanged(tmp_path):
    model = Reader()
    model.head.eval()
    before, modes = model.state_dict(), [part.training for _, part in model.named_modules()]
    save(model, tmp_path / "reader.onnx", np.array([[1, 2]]))
    assert modes == [part.training for _, part in model.named_modules()]
    assert all((value == before[name]).all() for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "function",
    [
        ops.exp, ops.tanh, ops.sigmoid, ops.relu, ops.softplus, ops.elu, ops.leaky_relu, ops.silu, ops.gelu, ops.sign,
        ops.absolute, ops.sin, ops.cos, ops.square, ops.negative, ops.softmax, ops.log_softmax, ops.argmax, ops.expm1,
        ops.layer_norm,
        lambda x: ops.log(ops.sqrt(ops.square(x) + 1)),
        lambda x: ops.clip(x, low=-0.5, high=0.3),
        lambda x: ops.log1p(ops.absolute(x)),
        lambda x: ops.maximum(x, 0.1) + ops.minimum(0.2, x),
        lambda x: ops.where(x > 0, x, -1.0),
        lambda x: x**2 - 2**x,
        lambda x: 1 / (x + 9),
        lambda x: x != x * 1,
        lambda x: x <= 0.5,
        lambda x: 0 * x + np.arange(4),
        lambda x: x.astype("float64"),
        lambda x: x.astype("int32") / 2,
        lambda x: x.sum(axis=0),
        lambda x: x.max(axis=1, keepdims=True),
        lambda x: x.min(),
        lambda x: x.mean(axis=(1, 2)),
        lambda x: x.var(axis=-1),
        lambda x: x.cumsum(axis=1),
        lambda x: ops.norm(x, axis=-1),
        lambda x: x.argmin(axis=0),
        lambda x: x.T,
        lambda x: x.mT,
        lambda x: x.transpose(2, 0, 1),
        lambda x: x.moveaxis((0, 1), (2, 0)),
        lambda x: x.reshape(2, -1),
        lambda x: x.expand_dims((0, 2)),
        lambda x: x.expand_dims(1).squeeze(),
        lambda x: x[0].broadcast_to((5, 3, 4)),
        lambda x: x[1],
        lambda x: x[..., -1],
        lambda x: x[:, None, 1:, ::2],
        lambda x: x[::-1, 0],
        lambda x: x[0, 1, 2],
        lambda x: ops.take(x, [2, 0, 2], axis=1),
        lambda x: ops.flip(x, axis=1),
        lambda x: ops.split(x, 2, axis=2)[1],
        lambda x: ops.stack([x, 2 * x], axis=1),
        lambda x: x @ x.mT,
        lambda x: np.ones((2, 3), np.float32) @ x,
        lambda x: ops.einsum("bij,bkj->bik", x, x),
        lambda x: ops.linear(x, np.ones((4, 2), np.float32)),
    ],
)  # fmt: skip
def test_ops(tmp_path, function):
    class Applied(Module):
        def forward(self, x):
            return function(x)

    assert_exported(tmp_path / "op.onnx", Applied(), draw(2, 3, 4))


class FromFunction(Module):
    def __init__(self, function):
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x[: len(x) - 1], r"length of a named axis: a Slice has \[4\] in one run and \[11\] in another"),
        (lambda x: x * len(x), r"a Mul has 5\.0 in one run and 12\.0 in another"),
        (lambda x: x[: len(x) // 2], r"a Slice has \[2\] in one run and \[6\] in another"),
        (lambda x: x * (len(x) // 4), r"a Mul has 1\.0 in one run and 3\.0 in another"),
        (lambda x: x * (len(x) % 2), "a Mul has 1"),
        (lambda x: sum(x), "runs other ops for other values, or for other lengths"),
        (lambda x: x * float(x.sum()), "branches on values that are known only"),
        (lambda x: x if (x > 0).sum() > 3 else -x, "branches on values"),
        (lambda x: x * x.detach().numpy(), "branches on values that are known only"),
        (lambda x: (x[:, None] * x).reshape(2, 2 * x.shape[0], -1), "length of a named axis: a Reshape"),
        (lambda x: no_such_op(x), "no ONNX operator is known here for the array function hypot"),
        (lambda x: ops.pad(x, width=((0, 0), (1, 1), (0, 0))), "known only when the graph runs"),
        (lambda x: x[np.array([[True, False]] * 5)], "expected one of|only integers along one axis"),
        (lambda x: {"y": x}, "`forward` returns a dict"),
    ],
)
def test_modules_that_are_no_graph_are_refused(tmp_path, function, reason):
    with pytest.raises(InteropError, match=reason):
        save(FromFunction(function), tmp_path / "no.onnx", draw(5, 2, 4), axes={"input_0": ("time", None, None)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "start", [lambda batch: np.arange(batch)[:, None], lambda batch: np.float32(batch)], ids=["by row", "by size"]
)
def test_an_initial_state_that_depends_on_the_batch_is_refused(tmp_path, start):
    class Counted(Leaky):
        def initial_state(self, batch):
            return super().initial_state(batch) + start(batch).astype("float32")

    with pytest.raises(InteropError, match="initial state h differs within a batch, or between batches: give a state"):
        save(Recurrent.of(Counted)(3, 4), tmp_path / "no.onnx", draw(5, 2, 3))


def test_arrays_computed_from_inputs_by_numpy_are_refused(tmp_path):
    class Shifted(Module):
        def __init__(self):
            self.embedding = Embedding(7, 3)

        def forward(self, ids):
            return self.embedding(ids + 1)

    with pytest.raises(InteropError, match="an array that the graph cannot know"):
        save(Shifted(), tmp_path / "no.onnx", np.array([[1, 2], [3, 4]]))
    with pytest.raises(InteropError, match="an array that was not computed from its inputs"):
        save(FromFunction(lambda ids: Tensor(ids + 1)), tmp_path / "no.onnx", np.array([1, 2]))
    with pytest.raises(InteropError, match="computes a number from the values"):
        save(FromFunction(lambda ids, x: x * (ids > 2)), tmp_path / "no.onnx", (np.array([1, 2, 3]), draw(2, 3)))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"axes": {"y": (None,)}}, "there is no input 'y', there are x, state"),
        ({"axes": {"x": ("time", "batch")}}, "x has 3 axes in the example, got names for 2"),
        ({"axes": {"x": ("n", "n", None)}}, "'n' has length 5 in one input of the example and 2 in x"),
        ({"input_names": ("x",)}, "input_names: expected 2 different names"),
        ({"output_names": ("y",)}, "output_names: expected 2 names"),
        ({"output_names": ("x", "y")}, "none an input's"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, settings, reason):
    with pytest.raises(InteropError, match=reason):
        save(RNN(3, 4), tmp_path / "no.onnx", (draw(5, 2, 3), draw(1, 2, 4)), **settings)
    with pytest.raises(ValueError, match="expected x"):
        save(RNN(3, 4), tmp_path / "no.onnx", draw(5, 3))


def test_an_imported_graph_can_be_exported(tmp_path):
    """With activations that have no name here, too."""
    settings = {"activations": ["HardSigmoid", "Softsign"] * 2, "activation_alpha": [0.3, 0.1], "clip": 2.0}
    settings |= {"direction": "bidirectional", "lengths": [5, 2, 3], "activation_beta": [0.5, 0.5]}
    graph, inputs = recurrent("GRU", **settings)
    again = tmp_path / "again.onnx"
    exported = assert_exported(again, load(graph), tuple(inputs.values()), input_names=tuple(inputs))
    assert "GRU" in op_types(exported)
    for a, b in zip(in_onnxruntime(again, inputs), in_onnxruntime(graph, inputs)):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


# -- nothing silently wrong ------------------------------------------------------------------------------------------


class Formula(Module):
    """A module with any `forward`, and tensors of any names."""

    def __init__(self, function, **tensors):
        self.function = function
        for name, values in tensors.items():
            setattr(self, name, Tensor(np.asarray(values, np.float32)))

    def forward(self, x):
        return self.function(self, x)


class OfW(Formula):
    def forward(self, W):
        return self.function(self, W)


class OfMul(Formula):
    def forward(self, mul_1):
        return self.function(self, mul_1)


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (OfW(lambda self, x: self.W * 10 - x, W=[[1, 2, 3]]), {}),
        (Formula(lambda self, x: x * 2 * self.mul_1 + self.constant_2, mul_1=[2, 3, 4], constant_2=[5, 6, 7]), {}),
        (OfMul(lambda self, x: (x * 2) * (x * 3)), {}),
        (Formula(lambda self, x: ((x * 2) * 3, x * 4)), {"output_names": ["mul_2", "mul_1"]}),
        (Formula(lambda self, x: x * self.output + 1, output=[2, 3, 4]), {"output_names": ["y"]}),
        (Formula(lambda self, x: x * 2), {"input_names": ["mul_1"], "output_names": ["constant_1"]}),
    ],
)
def test_names_do_not_collide(tmp_path, module, options):
    """Names of inputs, parameters, outputs, and of the exporter's own values."""
    assert_exported(tmp_path / "model.onnx", module, draw(2, 3), **options)


@pytest.mark.parametrize("names", [["a", "a"], ["a", ""], ["x", "b"], ["a"], ["a", "b", "c"]])
def test_output_names_must_be_unique(tmp_path, names):
    with pytest.raises(InteropError, match="output_names: expected 2 names"):
        save(Formula(lambda self, x: (x * 2, x * 3)), tmp_path / "x.onnx", draw(2), output_names=names)


def test_input_names_must_be_unique(tmp_path):
    class Two(Module):
        def forward(self, x, x_0):
            return x[0] + x[1] * x_0

    with pytest.raises(InteropError, match="expected 3 different names, got x_0, x_1, x_0"):
        save(Two(), tmp_path / "x.onnx", ((draw(2), draw(2)), draw(2)))


class Scaled(Module):
    """Computes a Python scalar from integers, which a graph cannot follow."""

    def __init__(self, number):
        self.number = number

    def forward(self, x, n):
        return x * float(self.number(n))


@pytest.mark.parametrize("number", [np.sum, np.max, np.min, np.mean, np.size, lambda n: n.flat[0]])
@pytest.mark.parametrize("n", [3, [3], [3, 3], [2, 5, 2], np.zeros((2, 2), int), [True], [True, True]], ids=str)
def test_scalars_computed_from_integers_are_not_exported_as_constants(tmp_path, number, n):
    example = (draw(2), np.asarray(n))
    if number is np.size:
        assert_exported(tmp_path / "x.onnx", Formula(lambda self, x: x * 2.0), example[0])  # of shapes
        return
    with pytest.raises(InteropError, match="computes a number from the values of its inputs"):
        save(Scaled(number), tmp_path / "x.onnx", example)


def test_an_integer_input_with_a_single_valid_value_is_refused(tmp_path):
    def only_three(n):
        if (n != 3).any():
            raise ValueError
        return 3

    with pytest.raises(InteropError, match=r"n has the value 3 alone, .* give an example that may have other values"):
        save(Scaled(only_three), tmp_path / "x.onnx", (draw(2), np.array([3, 3])))


@pytest.mark.parametrize("dtype", ["int32", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize(
    "function",
    [
        lambda self, x: x.sum(axis=0), lambda self, x: ops.cumsum(x, axis=0), lambda self, x: x.mean(axis=1),
        lambda self, x: ops.max(x, axis=0), lambda self, x: x * 2.5, lambda self, x: x / 3, lambda self, x: 2 - x,
        lambda self, x: x**2, lambda self, x: ops.where(x > 0, x, 0.5), lambda self, x: ops.clip(x, low=1, high=2),
        lambda self, x: x * np.float64(0.1), lambda self, x: x @ x.T, lambda self, x: ops.astype(x > 0, dtype="int32"),
        lambda self, x: ops.exp(x), lambda self, x: ops.tanh(x), lambda self, x: ops.softmax(x, axis=-1),
        lambda self, x: ops.logsumexp(x, axis=-1),
        lambda self, x: ops.where(ops.isfinite(x), x, 1), lambda self, x: ops.expm1(x),
        lambda self, x: ops.log1p(x * x),
    ],
)  # fmt: skip
def test_ops_of_every_dtype(tmp_path, dtype, function):
    x = np.array([[1, -2, 3], [0, 5, -1]], dtype)
    tolerance = {"float16": 2e-2, "float64": 1e-12}.get(dtype, 1e-5)
    assert_exported(tmp_path / "x.onnx", Formula(function), Tensor(x, dtype=x.dtype), tolerance=tolerance)


def test_expm1_and_log1p_are_accurate_near_0(tmp_path):
    """ONNX has no operators for them."""
    x = np.array([1e-30, -1e-10, 1e-7, -1e-3, 0.3, -0.7, 0.999, 1.001, 3, 50, 0, np.inf], np.float32)
    for function, expected in ((ops.expm1, np.expm1), (ops.log1p, np.log1p)):
        save(Formula(lambda self, x, function=function: function(x)), tmp_path / "x.onnx", x)
        (theirs,) = in_onnxruntime(tmp_path / "x.onnx", {"x": x})
        np.testing.assert_allclose(theirs, expected(x.astype(float)), rtol=5e-7)


def test_dtypes_without_an_onnx_operator_are_refused(tmp_path):
    with pytest.raises(InteropError, match="ONNX has no such graph"):
        save(Formula(lambda self, x: -x), tmp_path / "x.onnx", Tensor(np.array([1, 2], np.uint8)))


def test_settings_that_onnx_would_round_are_exported_as_a_scan(tmp_path):
    """Attributes are float32: a clip at 0.4 of a float64 layer is a Scan, and one at 0.5 a GRU."""
    x = RANDOM.standard_normal((4, 2, 3))
    for clip, op_type in ((0.4, "Scan"), (0.5, "GRU")):
        layer = GRU(3, 4, dtype="float64", clip=clip)
        for parameter in layer.parameters():
            parameter.data = 3 * RANDOM.standard_normal(parameter.shape)
        save(layer, tmp_path / "x.onnx", x)
        assert op_type in op_types(onnx.load(tmp_path / "x.onnx"))
        np.testing.assert_allclose(load(tmp_path / "x.onnx")(x)[0].numpy(), layer(x)[0].numpy(), rtol=0, atol=1e-13)


def test_the_word_of_torch_is_answered():
    with pytest.raises(AttributeError, match=r"no attribute 'export'; here it is onnx\.save\(module, path, "):
        interop.onnx.export  # noqa: B018
