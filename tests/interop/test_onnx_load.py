"""ONNX import, compared with onnxruntime and with the ONNX project's own test cases."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_graphs import in_onnxruntime, model, recurrent  # noqa: E402

from tinygrad_gru import Tensor, nn  # noqa: E402
from tinygrad_gru.interop import InteropError  # noqa: E402
from tinygrad_gru.interop.onnx import load  # noqa: E402
from tinygrad_gru.interop.torch import state_dict  # noqa: E402

LENGTHS = [None, [5, 2, 3], [1, 5, 4]]


def assert_as_onnxruntime(made, tolerance=2e-6):
    graph, inputs = made
    ours, theirs = load(graph)(*inputs.values()), in_onnxruntime(graph, inputs)
    ours = ours if isinstance(ours, tuple) else (ours,)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.numpy(), b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("RNN", {}),
        ("GRU", {"linear_before_reset": 0}),
        ("GRU", {"linear_before_reset": 1}),
        ("LSTM", {}),
        ("LSTM", {"input_forget": 1}),
        ("LSTM", {"peephole": True}),
        ("LSTM", {"peephole": True, "input_forget": 1}),
    ],
    ids=str,
)
def test_recurrent_nodes(kind, settings, direction, lengths):
    for seed, (bias, initial, fixed) in enumerate([(True, True, True), (True, True, False), (False, False, True)]):
        assert_as_onnxruntime(recurrent(kind, seed, direction, bias, lengths, initial, fixed=fixed, **settings), 2e-6)


@pytest.mark.parametrize(
    ("kind", "names", "alphas", "betas"),
    [
        ("RNN", ["Relu"], [], []),
        ("RNN", ["Affine"], [0.3], [0.5]),
        ("RNN", ["LeakyRelu"], [], []),
        ("RNN", ["LeakyRelu"], [0.3], []),
        ("RNN", ["ThresholdedRelu"], [0.3], []),
        ("RNN", ["ScaledTanh"], [0.3], [0.5]),
        ("RNN", ["HardSigmoid"], [], []),
        ("RNN", ["Elu"], [0.3], []),
        ("RNN", ["Softsign"], [], []),
        ("GRU", ["Sigmoid", "Softplus"], [], []),
        ("GRU", ["HardSigmoid", "Softsign"], [], []),
        ("GRU", ["hardsigmoid", "LEAKYRELU"], [0.3, 0.2], [0.5]),
        ("GRU", ["Sigmoid", "HardSigmoid"], [0.3], [0.4]),
        ("LSTM", ["HardSigmoid", "Softsign", "Sigmoid"], [0.3], [0.4]),
        ("LSTM", ["Sigmoid", "Relu", "Tanh"], [], []),
        ("LSTM", ["Sigmoid", "Affine", "ScaledTanh"], [0.3, 0.2], [0.4, 0.1]),
    ],
)
def test_activations(kind, names, alphas, betas):
    for direction in ("forward", "bidirectional"):
        times = 2 if direction == "bidirectional" else 1
        other = [[0.9 * number for number in numbers] for numbers in (alphas, betas)]
        other[1] = betas if kind == "GRU" else other[1]  # a gate's β must stay 0.5
        settings = {"activations": names * times}
        if alphas:
            settings["activation_alpha"] = (alphas + other[0])[: len(alphas) * times]
        if betas:
            settings["activation_beta"] = (betas + other[1])[: len(betas) * times]
        assert_as_onnxruntime(recurrent(kind, direction=direction, lengths=[5, 2, 3], **settings), 1e-5)


@pytest.mark.parametrize("clip", [0.3, 1.0])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [("RNN", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("LSTM", {}), ("LSTM", {"peephole": True})],
    ids=str,
)
def test_clip(kind, settings, clip):
    assert_as_onnxruntime(recurrent(kind, direction="bidirectional", lengths=[5, 2, 3], clip=clip, **settings))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_batch_first_layout(kind, direction):
    """onnxruntime does not have it: the time-major node gives the expected output, with axes exchanged."""
    graph, inputs = recurrent(kind, direction=direction, lengths=[5, 2, 3])
    expected = in_onnxruntime(graph, inputs)
    graph.graph.node[0].attribute.append(onnx.helper.make_attribute("layout", 1))
    for value in graph.graph.input:
        if value.name != "sequence_lens":
            shape = value.type.tensor_type.shape.dim
            shape[0].dim_value, shape[1].dim_value = shape[1].dim_value, shape[0].dim_value
    first = {name: value if value.ndim == 1 else np.swapaxes(value, 0, 1) for name, value in inputs.items()}
    y, *last = load(graph)(*first.values())
    np.testing.assert_allclose(np.moveaxis(y.numpy(), 0, 2), expected[0], rtol=0, atol=1e-6)
    for ours, theirs in zip(last, expected[1:]):
        np.testing.assert_allclose(np.swapaxes(ours.numpy(), 0, 1), theirs, rtol=0, atol=1e-6)


def test_recurrent_nodes_are_layers_of_ours():
    """Their weights can be converted to PyTorch, and trained."""
    graph, inputs = recurrent("GRU", direction="bidirectional", linear_before_reset=1)
    model = load(graph)
    assert type(model.gru.layer) is nn.GRU and "GRU(2, 4, bidirectional=True, reset_after=True)" in repr(model)
    stacked = {array.name: onnx.numpy_helper.to_array(array) for array in graph.graph.initializer}
    weights = state_dict(model.gru.layer)
    z, r, h = np.split(stacked["W"][1], 3)
    np.testing.assert_array_equal(weights["weight_ih_l0_reverse"], np.concatenate([r, z, h]))
    y, _ = model(*inputs.values())
    (y * y).sum().backward()
    assert all(np.abs(parameter.grad.numpy()).max() > 0 for parameter in model.parameters())


def test_weights_that_are_inputs_have_gradients():
    """The gradients of a layer with the same weights."""
    graph, inputs = recurrent("LSTM", peephole=True, fixed=False)
    given = {name: Tensor(value, requires_grad=True) for name, value in inputs.items()}
    (load(graph)(*given.values())[0] * 2).sum().backward()
    fixed, inputs = recurrent("LSTM", peephole=True)
    model = load(fixed)
    (model(*inputs.values())[0] * 2).sum().backward()
    cell = model.lstm.layer.cells[0]
    np.testing.assert_allclose(given["W"].grad.numpy()[0, 8:12], cell.W_f.grad.numpy().T, rtol=1e-5)
    np.testing.assert_allclose(given["R"].grad.numpy()[0, 4:8], cell.U_o.grad.numpy().T, rtol=1e-5)
    np.testing.assert_allclose(given["P"].grad.numpy()[0, 8:], cell.p_f.grad.numpy(), rtol=1e-5)
    np.testing.assert_allclose(given["B"].grad.numpy()[0, 28:], cell.b_g.grad.numpy(), rtol=1e-5)


def test_weights_computed_from_constants_are_folded():
    """Exporters transpose and concatenate weights by nodes."""
    graph, inputs = recurrent("RNN")
    (weight,) = (array for array in graph.graph.initializer if array.name == "W")
    turned = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight).transpose(2, 1, 0).copy(), "turned")
    graph.graph.initializer.remove(weight)
    graph.graph.initializer.append(turned)
    graph.graph.node.insert(0, onnx.helper.make_node("Transpose", ["turned"], ["W"], perm=[2, 1, 0]))
    model = load(graph)
    assert [name for name, _ in model.named_parameters()] == [f"rnn.layer.cells.0.{letter}" for letter in "WUb"]
    assert_as_onnxruntime((graph, inputs))


def test_two_nodes_of_one_operator_have_two_names():
    graph, inputs = recurrent("RNN")
    second = onnx.NodeProto()
    second.CopyFrom(graph.graph.node[0])
    second.output[:] = ["Y2", "Y2_h"]
    graph.graph.node.append(second)
    graph.graph.output.append(onnx.helper.make_tensor_value_info("Y2", onnx.TensorProto.FLOAT, None))
    model = load(graph)
    assert [name for name, _ in model.named_children()] == ["rnn", "rnn_1", "weights"]
    assert_as_onnxruntime((graph, inputs))


def test_names_of_initializers_do_not_collide_with_attributes():
    """Every initializer keeps its value and gets a unique name in the state_dict."""
    names = [
        "forward", "forward_", "forward~", "forward~~", "_forward", "~", "_names", "by_name", "training", "to", "W",
        "__class__", "__dict__", "__init__", "_declared", "named_tensors", "weights", "a.b", "a", "a.0", "0", "é", " ",
    ]  # fmt: skip
    node = onnx.helper.make_node("Concat", ["x", *names], ["y"], axis=0)
    graph, inputs = model([node], {"x": np.float32([-1])}, ["y"], {n: np.float32([k]) for k, n in enumerate(names)})
    ours = load(graph)
    expected = np.arange(-1, len(names))
    np.testing.assert_array_equal(ours(*inputs.values()).numpy(), expected)
    state = ours.eval().state_dict()
    assert len(state) == len(names)
    ours.load_state_dict({name: array + 1 for name, array in state.items()})
    np.testing.assert_array_equal(ours(*inputs.values()).numpy()[1:], expected[1:] + 1)


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("GRU", {"activations": ["Tanh", "Tanh"]}, "activation Tanh cannot be inverted"),
        ("GRU", {"activations": ["HardSigmoid", "Tanh"], "activation_beta": [0.4]}, "HardSigmoid cannot be inverted"),
        ("RNN", {"activations": ["Gelu"]}, "activation 'Gelu' is not one of ONNX's"),
        ("RNN", {"activations": ["ThresholdedRelu"]}, "ThresholdedRelu: its α has no default that runtimes agree on"),
        ("RNN", {"activations": ["Tanh", "Tanh"]}, "expected 1 activations per direction, got Tanh, Tanh"),
        ("RNN", {"activation_alpha": [0.5]}, "more α than the activations Tanh use"),
        ("LSTM", {"direction": "sideways"}, "direction is 'sideways', expected one of 'forward'"),
        ("LSTM", {"layout": 2}, "layout is 2, expected 0 or 1"),
        ("LSTM", {"output_sequence": 1}, "not supported: output_sequence"),
    ],
)
def test_nodes_that_cannot_be_computed_exactly_are_refused(kind, settings, reason):
    with pytest.raises(InteropError, match=reason):
        load(recurrent(kind, **settings)[0])


def test_weights_of_wrong_shape_are_refused():
    graph, _ = recurrent("LSTM")
    (hidden,) = (attribute for attribute in graph.graph.node[0].attribute if attribute.name == "hidden_size")
    hidden.i = 7
    with pytest.raises(InteropError, match=r"expected W of shape \(1, 28, 2\).*got \(1, 16, 2\)"):
        load(graph)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recurrent_nodes_of_every_floating_point_type(kind, fixed, dtype):
    """They compute in the dtype of their weights; the expected output is that of float32."""
    graph, inputs = recurrent(kind, direction="bidirectional", lengths=[5, 2, 3], peephole=kind == "LSTM", fixed=fixed)
    expected = in_onnxruntime(graph, inputs)
    for array in graph.graph.initializer:
        array.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(array).astype(dtype), array.name))
    for value in (*graph.graph.input, *graph.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inputs = {name: x.astype(dtype) if x.dtype.kind == "f" else x for name, x in inputs.items()}
    for ours, theirs in zip(load(graph)(*inputs.values()), expected):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=2e-2 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("lengths", [[0, 2, 5], [0, 0, 0]])
def test_empty_sequences(kind, direction, lengths):
    """They end in zeros, as in onnxruntime, whatever their initial state."""
    graph, inputs = recurrent(kind, direction=direction, lengths=lengths)
    assert_as_onnxruntime((graph, inputs))
    assert not load(graph)(*inputs.values())[1].numpy()[:, 0].any()


def scan_model(states, outputs, **settings):
    """A Scan over x (3, 2) with or without a running sum and squares as output; w is an outer-scope value."""

    def value(name):
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)

    nodes = [onnx.helper.make_node("Mul", ["u", "w"], ["v"])]
    nodes += [onnx.helper.make_node("Add", ["s", "v"], ["s_out"])] if states else []
    nodes += [onnx.helper.make_node("Mul", ["v", "v"], ["square"])] if outputs else []
    carried, made = ["s"] * states, ["square"] * outputs
    body = onnx.helper.make_graph(
        nodes, "body", [*map(value, carried), value("u")], [value(name) for name in ["s_out"] * states + made]
    )
    node = onnx.helper.make_node(
        "Scan", ["start"] * states + ["x"], ["last"] * states + ["ys"] * outputs, body=body,
        **{"num_scan_inputs": 1, **settings},
    )  # fmt: skip
    inputs = {"x": np.arange(6, dtype=np.float32).reshape(3, 2), "w": np.float32([2, 3])}
    inputs |= {"start": np.float32([1, 1])} if states else {}
    return model([node], inputs, ["last"] * states + ["ys"] * outputs)


@pytest.mark.parametrize(("states", "outputs"), [(1, 1), (0, 1), (1, 0)])
def test_scans(states, outputs):
    graph, inputs = scan_model(states, outputs)
    assert_as_onnxruntime((graph, inputs))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"num_scan_inputs": 0}, "they do not match"),
        ({"num_scan_inputs": 3}, "they do not match"),
        ({"num_scan_inputs": -1}, "they do not match"),
        ({"scan_input_directions": [2], "scan_output_directions": [2]}, "all in one direction"),
        ({"scan_input_axes": [1]}, "along axis 0"),
    ],
)
def test_inconsistent_scans_are_refused(settings, reason):
    with pytest.raises(InteropError, match=reason):
        load(scan_model(1, 1, **settings)[0])


def node_tests():
    """The ONNX project's own cases of these operators, which exist once their modules are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case import node
        from onnx.backend.test.case.node import gru, lstm, rnn  # noqa: F401

    return [case for case in node._NodeTestCases if re.match("test_(gru|lstm|rnn|simple_rnn)_", case.name)]


def test_node_tests_of_onnx():
    passed = []
    for case in node_tests():
        graph = load(case.model)
        for inputs, outputs in case.data_sets:
            ours = graph(*inputs)
            ours = ours if isinstance(ours, tuple) else (ours,)
            assert len(ours) == len(outputs), case.name
            for a, b in zip(ours, outputs):
                np.testing.assert_allclose(a.numpy(), b, rtol=case.rtol, atol=case.atol, err_msg=case.name)
        passed.append(case.name)
    assert len(passed) >= 18
