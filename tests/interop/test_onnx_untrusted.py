"""Malicious ONNX files: refused with InteropError, before anything is built or opened."""

from __future__ import annotations

import os
import time
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tinygrad_gru.interop import InteropError  # noqa: E402
from tinygrad_gru.interop.onnx import check, load  # noqa: E402


def value(name, shape=None, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, arrays=None, inputs=(), outputs=("y",), functions=(), opset=18):
    arrays = {} if arrays is None else arrays
    graph = helper.make_graph(
        nodes, "graph", [value(*i) if isinstance(i, tuple) else i for i in inputs], [value(name) for name in outputs],
        [a if isinstance(a, TensorProto) else numpy_helper.from_array(np.float32(a), n) for n, a in arrays.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))


def add(a, b, out="y"):
    return helper.make_node("Add", [a, b], [out])


# -- external data ---------------------------------------------------------------------------------------------------


def external(folder, location, shape=(4,), name="model.onnx", **more):
    """A model w + 0 in which w is external data."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, entry in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(entry))
    (folder / name).write_bytes(model([add("w", "zero")], {"w": tensor, "zero": 0}).SerializeToString())
    return folder / name


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model" / "inner").mkdir(parents=True)
    numbers = np.arange(8, dtype=np.float32).tobytes()
    (tmp_path / "secret").write_bytes(numbers)
    for name in ("data", "inner/data"):
        (tmp_path / "model" / name).write_bytes(numbers)
    (tmp_path / "model" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "model" / "leads").symlink_to(tmp_path)
    (tmp_path / "model" / "to_data").symlink_to(tmp_path / "model" / "data")
    os.mkfifo(tmp_path / "model" / "pipe")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("location", "more", "expected"),
    [
        ("data", {"length": 16}, [0, 1, 2, 3]),
        ("./inner/data", {"offset": 16, "length": 16}, [4, 5, 6, 7]),
        ("data", {"offset": 16}, [4, 5, 6, 7]),
    ],
)
def test_external_data_in_the_folder_of_the_model_is_read(folder, monkeypatch, location, more, expected):
    path = external(folder, location, **more)
    np.testing.assert_array_equal(load(path)().numpy(), expected)
    monkeypatch.chdir(folder)
    np.testing.assert_array_equal(load("model.onnx")().numpy(), expected)


@pytest.mark.parametrize(
    ("location", "more", "reason"),
    [
        ("../secret", {}, "not a path inside the model's folder"),
        ("inner/../../secret", {}, "not a path inside the model's folder"),
        ("..\\secret", {}, "not a path inside the model's folder"),
        ("C:\\secret", {}, "not a path inside the model's folder"),
        ("/etc/passwd", {}, "not a path inside the model's folder"),
        ("/dev/zero", {}, "not a path inside the model's folder"),
        ("", {}, "not a path inside the model's folder"),
        ("da\0ta", {}, "not a path inside the model's folder"),
        ("link", {}, "may lead out of the model's folder"),
        ("to_data", {}, "may lead out of the model's folder"),
        ("leads/secret", {}, "may lead out of the model's folder"),
        ("inner", {}, "is not a regular file"),
        ("pipe", {}, "is not a regular file"),
        ("missing", {}, "is not in the model's folder"),
        ("data", {"offset": -16}, "expected a number of bytes, got '-16'"),
        ("data", {"offset": "١"}, "expected a number of bytes"),
        ("data", {"offset": 40}, "has 32 bytes"),
        ("data", {"offset": 24, "length": 16}, "has 32 bytes, and 16 from 24 on are needed"),
        ("data", {"length": 2**62}, "has 32 bytes"),
        ("data", {"length": 8}, "needs 16 bytes, and the file has 8"),
        ("data", {}, "needs 16 bytes, and the file has 32"),
    ],
)
def test_external_data_elsewhere_is_refused(folder, location, more, reason):
    with pytest.raises(InteropError, match=reason):
        load(external(folder, location, **more))


def test_external_data_of_a_model_proto_is_refused(folder):
    proto = onnx.load(external(folder, "data", length=16), load_external_data=False)
    with pytest.raises(InteropError, match="'w' are external data: give the path"):
        load(proto)


def test_one_external_file_used_many_times_is_refused(folder):
    (folder / "data").write_bytes(bytes(2**20))
    arrays = {}
    for k in range(2000):
        arrays[f"w{k}"] = TensorProto(name=f"w{k}", data_type=1, dims=[2**18], data_location=TensorProto.EXTERNAL)
        arrays[f"w{k}"].external_data.add(key="location", value="data")
    (folder / "model.onnx").write_bytes(model([add("w0", "w1")], arrays).SerializeToString())
    with pytest.raises(InteropError, match="requires more than"):
        load(folder / "model.onnx")


# -- small files -----------------------------------------------------------------------------------------------------


def gru(W="W", R="R", **settings):
    return helper.make_node("GRU", ["x", W, R], ["y"], hidden_size=4, **settings)


def sums_of_itself(count):
    """W is an array that was added to itself `count` times."""
    nodes = [add(f"w{k}", f"w{k}", f"w{k + 1}") for k in range(count)]
    arrays = {"w0": np.ones((1, 12, 2)) / 2**count, "R": np.zeros((1, 12, 4))}
    return model([*nodes, gru(f"w{count}")], arrays, [("x", [3, 1, 2])])


def doubled(kind, count, **settings):
    nodes = [helper.make_node(kind, [f"w{k}", f"w{k}"], [f"w{k + 1}"], **settings) for k in range(count)]
    return model([*nodes, gru(f"w{count}")], {"w0": np.ones((1, 12, 2)), "R": np.zeros((1, 12, 4))}, [("x", None)])


def outer_product():
    nodes = [add("a", "b", "ab"), add("c", "d", "cd"), add("ab", "cd", "W"), gru()]
    shapes = {"a": (60, 1, 1, 1), "b": (60, 1, 1), "c": (60, 1), "d": (60,)}
    return model(nodes, {n: np.ones(s) for n, s in shapes.items()} | {"R": np.zeros((1, 12, 4))}, [("x", None)])


def functions(count, calls=2):
    """Each function calls the one before it `calls` times."""
    ids = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    made = [helper.make_function("local", "f0", ["a"], ["b"], [add("a", "a", "b")], ids)]
    for k in range(1, count):
        names = ["a", *(f"t{i}" for i in range(calls - 1)), "b"]
        nodes = [helper.make_node(f"f{k - 1}", [a], [b], domain="local") for a, b in pairwise(names)]
        made.append(helper.make_function("local", f"f{k}", ["a"], ["b"], nodes, ids))
    return model([helper.make_node(f"f{count - 1}", ["x"], ["y"], domain="local")], {}, [("x", [1])], functions=made)


def recursive_function():
    ids = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    node = helper.make_node("f", ["a"], ["b"], domain="local")
    made = [helper.make_function("local", "f", ["a"], ["b"], [node], ids)]
    return model([helper.make_node("f", ["x"], ["y"], domain="local")], {}, [("x", [1])], functions=made)


def declared(shape, **more):
    return model([add("w", "w")], {"w": TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape, **more)})


def shared_weights():
    nodes = [helper.make_node("GRU", ["x", "W", "R"], [f"y{k}"], hidden_size=256) for k in range(2000)]
    return model(nodes, {"W": np.ones((1, 768, 1)), "R": np.ones((1, 768, 256))}, [("x", None)],
                 [f"y{k}" for k in range(2000)])  # fmt: skip


def nested(depth):
    graph = helper.make_graph([add("u", "u", "v")], "body", [value("u")], [value("v")])
    for _ in range(depth):
        node = helper.make_node("Scan", ["u"], ["v"], body=graph, num_scan_inputs=1)
        graph = helper.make_graph([node], "body", [value("u")], [value("v")])
    return model([helper.make_node("Scan", ["x"], ["y"], body=graph, num_scan_inputs=1)], {}, [("x", None)])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: doubled("Concat", 40, axis=0), "requires more than"),
        (outer_product, "requires more than"),
        (lambda: functions(40), "expand to more nodes than a file"),
        (lambda: functions(4, 100), "expand to more nodes than a file"),
        (recursive_function, "calls itself"),
        (lambda: declared([30000, 10000]), r"of shape \(30000, 10000\) needs 300000000 numbers, and the file has 0"),
        (lambda: declared([2**40, 0], raw_data=b"1234"), "needs 0 bytes, and the file has 4"),
        (lambda: declared([2**40, 0, 2**40]), "in segments: not supported"),
        (lambda: declared([-1], raw_data=b"1234"), "in segments: not supported"),
        (lambda: declared([1] * 200_000, raw_data=b"1234"), "in segments: not supported"),
        (shared_weights, "requires more than"),
    ],
)  # fmt: skip
def test_small_files_that_need_much_memory_are_refused_quickly(make, reason):
    made = make()
    tracemalloc.start()
    before = time.process_time()
    try:
        with pytest.raises(InteropError, match=reason):
            load(made)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
    assert time.process_time() - before < 5


def test_shared_subexpressions_are_folded_once():
    before = time.process_time()
    y = load(sums_of_itself(64))(np.ones((3, 1, 2), np.float32)).numpy()
    assert time.process_time() - before < 5
    np.testing.assert_allclose(y, load(sums_of_itself(0))(np.ones((3, 1, 2), np.float32)).numpy())


def test_functions_are_inlined():
    assert load(functions(3))(np.float32([1])).item() == 2**4
    assert load(functions(60, 1))(np.float32([1])).item() == 2


def test_weights_that_are_inputs_allocate_nothing():
    graph = load(model([gru()], {}, [("x", None), ("W", [1, 30000, 10000]), ("R", [1, 30000, 10000])]))
    assert sum(tensor.size for _, tensor in graph.named_tensors()) < 100


def test_long_chains_and_deep_subgraphs():
    """Folding a chain of nodes needs no recursion. (Protobuf itself limits subgraphs to a depth below 32.)"""
    assert load(sums_of_itself(20)).gru.has_constant_weights
    chain = [helper.make_node("Identity", [f"w{k}"], [f"w{k + 1}"]) for k in range(5000)]
    arrays = {"w0": np.ones((1, 12, 2)), "R": np.zeros((1, 12, 4))}
    assert load(model([*chain, gru("w5000")], arrays, [("x", None)])).gru.has_constant_weights
    assert load(nested(20))(np.ones((1,) * 21, np.float32)).item() == 2


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: model([add("x", "x"), add("x", "x")], {}, [("x", None)]),
            "has the name 'y', which is empty, not text, or that",
        ),
        (lambda: model([add("x", "x", "x")], {}, [("x", None)], ["x"]), "has the name 'x'"),
        (lambda: model([add("w", "w", "w")], {"w": 1}, outputs=["w"]), "has the name 'w'"),
        (lambda: model([add("x", "x")], {}, [("x", None), ("x", None)]), "an input has the name 'x'"),
        (lambda: model([add("x", "x")], {"": 1}, [("x", None)]), "an initializer has the name ''"),
        (lambda: model([add("x", "")], {}, [("x", None)]), "its input B is left out, and is not optional"),
        (lambda: model([add("y", "y")], {}), "reads 'y', which no input"),
        (lambda: model([helper.make_node("Relu", ["x"], [])], {}, [("x", None)]), "it has no output"),
        (lambda: model([add("x", "x")], {}, [("x", None)], []), "it has no outputs"),
        (lambda: model([helper.make_node("Relu", ["x"], ["y", "z"])], {}, [("x", None)]), "has 2 outputs"),
        (lambda: model([], {}, [value("x", kind=77)], ["x"]), "number 77"),
    ],
)
def test_inconsistent_graphs_are_refused(make, reason):
    with pytest.raises(InteropError, match=reason):
        load(make())


def test_two_initializers_of_one_name_are_refused():
    made = model([add("w", "w")], {"w": 1})
    made.graph.initializer.add().CopyFrom(numpy_helper.from_array(np.float32(2), "w"))
    with pytest.raises(InteropError, match="an initializer has the name 'w'"):
        load(made)


@pytest.mark.parametrize("read", [load, check])
@pytest.mark.parametrize("content", [b"", b"\xff\xff nothing", b"\x3a\x02\x08", b"\x3a\x04\x0a\x02\x22\xff"])
def test_bytes_that_are_not_a_model(tmp_path, read, content):
    (tmp_path / "model.onnx").write_bytes(content)
    if read is check and not content:
        return  # an empty model has no wrong nodes
    with pytest.raises(InteropError):
        read(tmp_path / "model.onnx")


@pytest.mark.parametrize("part", [b"the_node", b"first", b"second", b"axis_", b"Concat", b"given"])
def test_names_that_are_not_text_are_refused(tmp_path, part):
    """Protobuf gives them as bytes, which equal no str."""
    node = helper.make_node("Concat", ["first", "second"], ["given"], name="the_node", axis=0, axis_=1)
    content = model([node], {"first": [1], "second": [2]}, outputs=["given"]).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content.replace(part, b"\xff" * len(part)))
    with pytest.raises(InteropError) as caught:
        load(tmp_path / "model.onnx")
    assert "damaged" not in str(caught.value)


def test_an_attribute_that_is_not_text_is_refused():
    node = gru(direction=b"\xff\xfe")
    with pytest.raises(InteropError, match="the attribute 'direction' cannot be read"):
        load(model([node], {"W": np.ones((1, 12, 2)), "R": np.zeros((1, 12, 4))}, [("x", None)]))


def test_errors_of_nodes_are_interop_errors():
    graph = load(model([helper.make_node("Gather", ["w", "i"], ["y"])], {"w": [1, 2]}, [value("i", None, 7)]))
    assert graph(np.array(1)).item() == 2
    with pytest.raises(InteropError, match="Gather with output 'y': "):
        graph(np.array(7))
