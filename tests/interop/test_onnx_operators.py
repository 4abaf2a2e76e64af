"""Every operator that is known, on the ONNX project's own cases of it: the right numbers, or a refusal."""

from __future__ import annotations

import importlib
import pkgutil
import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from tinygrad_gru import Tensor  # noqa: E402
from tinygrad_gru.interop import InteropError  # noqa: E402
from tinygrad_gru.interop.onnx import load  # noqa: E402
from tinygrad_gru.interop.onnx.operators import OPERATORS  # noqa: E402

#: Cases that are refused while they run, by a word of the message: a mask of dropout, a sum over nothing, ….
REFUSED_AT_RUN_TIME = ("training_mode", "no identity", "letter stands twice", "only the last axis")

#: Their cases have types or outputs that we have not; test_onnx_save.py compares them with onnxruntime.
COMPARED_ELSEWHERE = {"Cast", "LayerNormalization", "Not", "Range"}


def cases():
    """The modules of these operators make their cases when they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case import node

        modules = {module.name.replace("_", ""): module.name for module in pkgutil.iter_modules(node.__path__)}
        for kind in OPERATORS:
            if kind.lower() in modules:
                importlib.import_module(f"{node.__name__}.{modules[kind.lower()]}")
        return [case for case in node._NodeTestCases if {n.op_type for n in case.model.graph.node} <= set(OPERATORS)]


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_the_node_tests_of_onnx_itself():
    right, refused, kinds = 0, [], set()
    for case in cases():
        for inputs, outputs in case.data_sets:
            if not all(hasattr(x, "dtype") for x in (*inputs, *outputs)):
                continue  # types that NumPy does not have
            try:
                results = load(case.model)(*inputs)
            except InteropError:
                refused.append(case.name)
                continue
            except ValueError as error:
                assert any(word in str(error) for word in REFUSED_AT_RUN_TIME), f"{case.name}: {error}"
                refused.append(case.name)
                continue
            results = results if isinstance(results, tuple) else (results,)
            assert len(results) == len(outputs), case.name
            for ours, expected in zip(results, outputs):
                assert ours.shape == expected.shape and ours.dtype == expected.dtype, case.name
                np.testing.assert_allclose(ours.numpy(), expected, case.rtol, case.atol, err_msg=case.name)
            right += 1
            kinds |= {node.op_type for node in case.model.graph.node}
    assert right > 300
    assert len(refused) < right / 2, refused
    assert set(OPERATORS) - kinds <= COMPARED_ELSEWHERE


def node_model(kind, count=1, opset=17, outputs=("y",), **settings):
    names = [f"x{k}" for k in range(count)]
    node = onnx.helper.make_node(kind, names, list(outputs), name="the_node", **settings)
    graph = onnx.helper.make_graph(
        [node], "graph",
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize(
    ("kind", "opset", "settings", "shape", "expected"),
    [
        ("Softmax", 11, {"axis": 1}, (2, 3, 2), lambda x: np.exp(x) / np.exp(x).sum(axis=(1, 2), keepdims=True)),
        ("Squeeze", 11, {"axes": [1]}, (2, 1, 3), lambda x: x[:, 0]),
        ("Unsqueeze", 11, {"axes": [0, 2]}, (2, 3), lambda x: x[None, :, None]),
        ("Clip", 7, {"min": -0.5, "max": 0.5}, (2, 3), lambda x: np.clip(x, -0.5, 0.5)),
        ("Slice", 9, {"starts": [1, 0], "ends": [9, -1], "axes": [0, 1]}, (3, 4), lambda x: x[1:, :-1]),
        ("ReduceSum", 11, {"axes": [0], "keepdims": 0}, (2, 3), lambda x: x.sum(axis=0)),
        ("Dropout", 7, {"ratio": 0.3}, (2, 3), lambda x: x),
    ],
)
def test_older_definitions(kind, opset, settings, shape, expected):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(load(node_model(kind, opset=opset, **settings))(x).numpy(), expected(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: node_model("Conv", 2), "Conv 'the_node': the operator Conv is not known here"),
        (lambda: node_model("Relu", domain="com.microsoft"), r"operators of 'com\.microsoft' are not known"),
        (lambda: node_model("Relu", opset=6), "opset 6 is too old, 7 is needed"),
        (lambda: node_model("Gelu", opset=20), "only its approximation by tanh"),
        (lambda: node_model("Tanh", colour=3), "settings that are not known here: colour"),
        (lambda: node_model("CumSum", 2, reverse=1), "runs backwards"),
        (lambda: node_model("Dropout", outputs=("y", "mask")), "its mask is asked for"),
        (lambda: node_model("GRU", 3, hidden_size=2), "the shapes of its weights W and R must be known"),
    ],
)
def test_what_is_not_known_is_refused(model, reason):
    with pytest.raises(InteropError, match=reason):
        load(model())


def test_a_graph_that_hangs_in_the_air_is_refused():
    model = node_model("Add", 2)
    del model.graph.input[1]
    with pytest.raises(InteropError, match="reads 'x1', which no input, initializer or node before it gives"):
        load(model)


def test_files_that_are_none(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"\xff\xff nothing")
    with pytest.raises(InteropError, match="is not a valid ONNX file"):
        load(tmp_path / "broken.onnx")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.onnx")


def test_inputs_are_checked():
    graph = load(node_model("Relu"))
    with pytest.raises(TypeError, match=r"expected 1 inputs \(x0 float32 \(…\)\), got 2"):
        graph(np.zeros(2, np.float32), np.zeros(2, np.float32))
    with pytest.raises(TypeError, match="x0: the graph reads float32, got float64: convert it"):
        graph(np.zeros(2))
    model = node_model("Relu")
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("x0", onnx.TensorProto.FLOAT, ["batch", 3]))
    with pytest.raises(ValueError, match=r"x0: the graph reads \(any, 3\), got shape \(3, 2\)"):
        load(model)(np.zeros((3, 2), np.float32))
    np.testing.assert_array_equal(load(model)([[-1, 0, 2]]).numpy(), [[0, 0, 2]])


def test_errors_name_the_node():
    with pytest.raises(ValueError, match="MatMul 'the_node': matmul: "):
        load(node_model("MatMul", 2))(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))


def test_gradients_flow_through_a_graph():
    x = Tensor(np.array([-1.0, 2.0], np.float32), requires_grad=True)
    load(node_model("LeakyRelu", alpha=0.25))(x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0.25, 1])
