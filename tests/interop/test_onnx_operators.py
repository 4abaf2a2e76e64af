"""Every supported operator on the ONNX project's own test cases: the expected values, or an error."""

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
from tinygrad_gru.interop.onnx.importer.operators import OPERATORS  # noqa: E402

#: Words of errors at run time, for cases that are not supported.
REFUSED_AT_RUN_TIME = ("training_mode", "no identity", "repeated letter", "only the last axis")

#: Their cases have unsupported types or outputs; test_onnx_save.py compares them with onnxruntime.
COMPARED_ELSEWHERE = {"Cast", "LayerNormalization", "Not", "Range"}


def cases():
    """The test cases, which exist once the modules of these operators are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case import node

        modules = {module.name.replace("_", ""): module.name for module in pkgutil.iter_modules(node.__path__)}
        for kind in OPERATORS:
            if kind.lower() in modules:
                importlib.import_module(f"{node.__name__}.{modules[kind.lower()]}")
        return [case for case in node._NodeTestCases if {n.op_type for n in case.model.graph.node} <= set(OPERATORS)]


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_node_tests_of_onnx_operators():
    passed, refused, op_types = 0, [], set()
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
            passed += 1
            op_types |= {node.op_type for node in case.model.graph.node}
    assert passed > 300
    assert len(refused) < passed / 2, refused
    assert set(OPERATORS) - op_types <= COMPARED_ELSEWHERE


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
def test_older_opsets(kind, opset, settings, shape, expected):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(load(node_model(kind, opset=opset, **settings))(x).numpy(), expected(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: node_model("Conv", 2), "Conv 'the_node': the operator Conv is not supported"),
        (lambda: node_model("Relu", domain="com.microsoft"), r"operators of 'com\.microsoft' are not supported"),
        (lambda: node_model("Relu", opset=6), "opset 6 is too old, 7 is needed"),
        (lambda: node_model("Gelu", opset=20), "only its approximation by tanh"),
        (lambda: node_model("Tanh", colour=3), "attributes that are not supported: colour"),
        (lambda: node_model("CumSum", 2, reverse=1), "runs backwards"),
        (lambda: node_model("Dropout", outputs=("y", "mask")), "its mask is an output"),
        (lambda: node_model("Relu", 2), "it has 2 inputs, and Relu has 1 to 1"),
        (lambda: node_model("Concat"), "it lacks the attribute axis"),
        (lambda: node_model("Concat", axis="1"), "its attribute axis is of another type than int"),
        (lambda: node_model("Einsum", equation="i->i; import os"), "its equation 'i->i; import os' is invalid"),
        (
            lambda: node_model("Split", opset=18, num_outputs=2**62),
            "it has 1 outputs, and its attribute num_outputs says",
        ),
        (lambda: node_model("ReduceSum", keepdims=7), "keepdims is 7, expected 0 or 1"),
        (lambda: node_model("Relu", opset=99), "opset 99 is newer than the onnx package"),
        (lambda: node_model("GreaterOrEqual", 2, opset=11), "no operator GreaterOrEqual in opset 11"),
    ],
)
def test_unsupported_nodes_are_refused(model, reason):
    with pytest.raises(InteropError, match=reason):
        load(model())


def test_an_undefined_input_is_refused():
    model = node_model("Add", 2)
    del model.graph.input[1]
    with pytest.raises(InteropError, match="reads 'x1', which no input, initializer or earlier node defines"):
        load(model)


def test_files_that_are_not_onnx(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"\xff\xff nothing")
    with pytest.raises(InteropError, match="is not a valid ONNX file"):
        load(tmp_path / "broken.onnx")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.onnx")


def ours_and_theirs(kind, *arrays, opset=18, **settings):
    """The outputs of the operator, here and in onnxruntime."""
    graph = node_model(kind, len(arrays), opset, **settings)
    for value, array in zip(graph.graph.input, arrays):
        value.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    graph.graph.output[0].type.tensor_type.elem_type = graph.graph.input[0].type.tensor_type.elem_type
    from onnx_graphs import in_onnxruntime

    (theirs,) = in_onnxruntime(graph, {f"x{k}": array for k, array in enumerate(arrays)})
    return load(graph)(*arrays).numpy(), theirs


def int32(*values):
    return np.array(values, np.int32)


INT_MIN, INT_MAX = -(2**31), 2**31 - 1


@pytest.mark.parametrize(
    ("kind", "inputs", "expected"),
    [
        ("Div", (int32(INT_MIN, INT_MIN, 7, -7), int32(2, 3, 2, 2)), [-(2**30), -715827882, 3, -3]),
        ("Div", (int32(7, -7, 0), int32(-2, -2, -5)), [-3, 3, 0]),
        ("Div", (np.array([-(2**63), -(2**63)]), np.array([3, 2])), [-3074457345618258602, -(2**62)]),
        ("Div", (np.array([200, 7], np.uint8), np.array([3, 255], np.uint8)), [66, 0]),
        ("Add", (int32(INT_MAX), int32(1)), [INT_MIN]),
        ("Sub", (int32(INT_MIN), int32(1)), [INT_MAX]),
        ("Mul", (int32(INT_MAX), int32(3)), [INT_MAX - 2]),
        ("Neg", (int32(INT_MIN),), [INT_MIN]),
        ("Abs", (int32(INT_MIN),), [INT_MIN]),
        ("MatMul", (int32(2**30, 2**30)[None], int32(2, 1)[:, None]), [[-(2**30)]]),
        ("CumSum", (int32(INT_MAX, 1, 5), np.array(0)), [INT_MAX, INT_MIN, INT_MIN + 5]),
        ("ReduceSum", (int32(100, -1, 5), np.array([0])), [104]),
        ("ReduceMean", (int32(-1, -2),), [-1]),
        ("ReduceMean", (int32(1, 2, 5, -30),), [-5]),
        ("ReduceMean", (int32(INT_MAX, INT_MAX, INT_MAX, INT_MAX - 1),), [INT_MAX - 1]),
        ("ReduceMean", (np.array([2**62, 2**62, 2**62]),), [2**62]),
        ("ReduceMean", (int32(INT_MIN, INT_MIN, INT_MIN + 1),), [INT_MIN + 1]),
        ("Pow", (int32(2, -3, 5, -1, 1, -1), int32(3, 3, -1, -3, -4, -2)), [8, -27, 0, -1, 1, 1]),
        ("Pow", (int32(2, 9), np.float32([0.5, 0.5])), [1, 3]),
    ],
)  # fmt: skip
def test_integers_stay_integers_and_wrap(kind, inputs, expected):
    ours, theirs = ours_and_theirs(kind, *inputs)
    assert ours.dtype == theirs.dtype == inputs[0].dtype
    np.testing.assert_array_equal(ours.ravel(), np.ravel(expected))
    np.testing.assert_array_equal(theirs.ravel(), np.ravel(expected))


def test_integer_overflow_and_division_by_0():
    """Undefined in onnxruntime: sums and the quotient INT_MIN / −1 wrap here; a division by 0 is refused."""
    graph = node_model("ReduceSum", keepdims=0)
    graph.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT32
    assert load(graph)(int32(INT_MAX, 1, 5)).item() == INT_MIN + 5
    graph = node_model("Div", 2)
    for value in graph.graph.input:
        value.type.tensor_type.elem_type = onnx.TensorProto.INT32
    assert load(graph)(int32(INT_MIN), int32(-1)).item() == INT_MIN
    with pytest.raises(InteropError, match="an integer is divided by 0"):
        load(graph)(int32(1), int32(0))
    graph.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    with pytest.raises(InteropError, match="its input B is float32, expected int32"):
        load(graph)(int32(1), np.float32([2]))


@pytest.mark.parametrize(
    ("kind", "given", "settings", "reason"),
    [
        ("ConstantOfShape", [2**40], {}, "at most 134,217,728 elements"),
        ("ConstantOfShape", [-1], {}, "an array of shape"),
        ("Expand", [2**30, 3], {}, "at most 134,217,728 elements"),
        ("Split", [1, 1], {"axis": 0}, r"3 elements cannot be split into 2 parts of \[1, 1\]"),
        ("Reshape", [2**62, 4], {}, "Reshape 'the_node': "),
        ("Unsqueeze", [5], {}, "Unsqueeze 'the_node': "),
    ],
)
def test_sizes_of_new_arrays_are_limited(kind, given, settings, reason):
    is_single = kind == "ConstantOfShape"
    graph = node_model(kind, 1 if is_single else 2, 13, ("y", "z") if kind == "Split" else ("y",), **settings)
    graph.graph.input[0 if is_single else 1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    inputs = [np.array(given)] if is_single else [np.ones(3, np.float32), np.array(given)]
    with pytest.raises(InteropError, match=reason):
        load(graph)(*inputs)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0, 1e12, 1), None), ((0, 1, 0), None), ((0, np.inf, 1), None),
        ((1, 4, 1.5), [1, 2.5]), ((3, 0, -1), [3, 2, 1]), ((0, 3, -1), []),
    ],
)  # fmt: skip
def test_ranges(limits, expected):
    graph = load(node_model("Range", 3))
    if expected is None:
        with pytest.raises(InteropError, match="Range 'the_node': "):
            graph(*np.float32(limits))
    else:
        np.testing.assert_array_equal(graph(*np.float32(limits)).numpy(), expected)


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
