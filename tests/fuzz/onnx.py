""".onnx files: well-formed protobuf messages with changed names, sizes, types and attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from tinygrad_gru import compiling, no_grad
from tinygrad_gru.interop import InteropError

from .target import Target

_NUMBERS = (0, 1, -1, 2, 3, 4, 7, 31, 2**31, -(2**31), 2**40, 2**63 - 1, -(2**63))
_MAX_ELEMENTS = 1000  # elements of an input that the reader is called with


def target() -> Target:
    onnx = pytest.importorskip("onnx")
    seeds = [model.SerializeToString() for model in _models(onnx)]

    def edited(random: Random) -> bytes:
        """A valid model after a few changes to its messages."""
        model = onnx.ModelProto.FromString(random.choice(seeds))
        for _ in range(random.choice((1, 1, 2, 4))):
            _edit(random, onnx, model)
        return model.SerializeToString()

    def random_graphs(random: Random) -> bytes:
        return random_model(random, onnx).SerializeToString()

    def bombs(random: Random) -> bytes:
        return _bomb(random, onnx).SerializeToString()

    return Target(".onnx", _read, InteropError, seeds, (), {"edited": edited, "random": random_graphs, "bombs": bombs})


def _read(path: Path) -> Any:
    """The graph, printed, and called once where its inputs are small."""
    from tinygrad_gru.interop.onnx import check, load

    graph = load(path)
    check(path)
    shapes = [tuple(2 if n is None else n for n in i.shape or ()) for i in graph.inputs]
    if all(min(shape, default=0) >= 0 and np.prod([*map(float, shape)]) <= _MAX_ELEMENTS for shape in shapes):
        inputs = [np.ones(shape, i.dtype) for shape, i in zip(shapes, graph.inputs)]
        with compiling(False), no_grad(), np.errstate(all="ignore"):
            graph(*inputs)
    return repr(graph)[:1000]


# -- valid models ----------------------------------------------------------------------------------------------------


def _models(onnx: Any) -> Iterator[Any]:
    node, random = onnx.helper.make_node, np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype("f4")

    lengths = np.array([3, 2], "i4")
    for kind, gates, settings in (("GRU", 3, {"linear_before_reset": 1}), ("LSTM", 4, {"clip": 1.0}), ("RNN", 1, {})):
        weights = {"W": draw(2, gates * 2, 2), "R": draw(2, gates * 2, 2), "B": draw(2, gates * 4), "lengths": lengths}
        nodes = [
            node(kind, ["x", "W", "R", "B", "lengths"], ["y"], hidden_size=2, direction="bidirectional", **settings)
        ]
        yield _model(onnx, nodes, weights, {"x": [3, 2, 2]})
    body = onnx.helper.make_graph(
        [node("Add", ["s", "u"], ["t"]), node("Mul", ["t", "w"], ["v"])], "body",
        [_value(onnx, "s", [2]), _value(onnx, "u", [2])], [_value(onnx, "t", [2]), _value(onnx, "v", [2])],
    )  # fmt: skip
    yield _model(
        onnx, [node("Scan", ["w", "x"], ["last", "y"], body=body, num_scan_inputs=1)], {"w": draw(2)}, {"x": [3, 2]}
    )
    nodes = [
        node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axes"], ["n1"]), node("Concat", ["n1", "rest"], ["target"], axis=0),
        node("Expand", ["w", "target"], ["e"]), node("Reshape", ["e", "target"], ["r"]),
        node("MatMul", ["x", "r"], ["m"]), node("Slice", ["m", "zeros", "ends"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1), node("ReduceSum", ["p", "axes"], ["q"], keepdims=0),
        node("Cast", ["q"], ["i"], to=7), node("Div", ["i", "two"], ["d"]), node("Cast", ["d"], ["y"], to=1),
    ]  # fmt: skip
    arrays = {"zero": 0, "axes": [0], "rest": [4], "zeros": [0, 0], "ends": [2, 3], "two": 2}
    weights = {name: np.array(values, "i8") for name, values in arrays.items()} | {"w": draw(4)}
    yield _model(onnx, nodes, weights, {"x": [2, 2]})
    ids = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("local", 1)]
    functions = [
        onnx.helper.make_function("local", "f", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], ids),
        onnx.helper.make_function("local", "g", ["a"], ["b"], [node("f", ["a"], ["t"], domain="local"),
                                                              node("f", ["t"], ["b"], domain="local")], ids),
    ]  # fmt: skip
    yield _model(onnx, [node("g", ["x"], ["y"], domain="local")], {}, {"x": [2]}, functions)


def _value(onnx: Any, name: str, shape: Any = None, kind: int = 1) -> Any:
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def _model(onnx: Any, nodes: list, arrays: dict, inputs: dict, functions: Any = (), outputs: Any = ("y",)) -> Any:
    graph = onnx.helper.make_graph(
        nodes, "graph", [_value(onnx, name, shape) for name, shape in inputs.items()],
        [_value(onnx, name) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )  # fmt: skip
    ids = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("local", 1)]
    return onnx.helper.make_model(graph, opset_imports=ids, ir_version=10, functions=list(functions))


# -- changes ---------------------------------------------------------------------------------------------------------


def _edit(random: Random, onnx: Any, model: Any) -> None:
    """Change one field of a message at any depth: drop, repeat or replace its value."""
    message = model
    while True:
        fields = [
            (field, value) for field, value in message.ListFields() if field.name not in ("doc_string", "producer_name")
        ]
        if not fields:
            return
        field, value = random.choice(fields)
        if not hasattr(value, "ListFields") and hasattr(value, "__len__") and hasattr(value, "append"):
            if not len(value):
                return
            position = random.randrange(len(value))
            if hasattr(value[position], "ListFields"):
                if random.random() < 0.75:
                    message = value[position]
                    continue
                if random.random() < 0.5:
                    value.add().CopyFrom(value[position])
                else:
                    del value[position]
            elif random.random() < 0.3:
                random.choice((value.append, value.remove))(value[position])
            else:
                value[position] = _other(random, model, value[position])
            return
        if hasattr(value, "ListFields"):
            message = value
            continue
        if random.random() < 0.2:
            message.ClearField(field.name)
            return
        try:
            setattr(message, field.name, _other(random, model, value))
        except (TypeError, ValueError):  # an enumeration, or too large for its field
            message.ClearField(field.name)
        return


def _other(random: Random, model: Any, value: Any) -> Any:
    if isinstance(value, bytes):
        return random.choice((b"", value + value, value[:-1], b"\xff\xfe", b"reverse", b"Affine", b"\0" * 16))
    if isinstance(value, str):
        names = [name for node in model.graph.node for name in (*node.input, *node.output, node.op_type)]
        return random.choice([*names, "", "forward", "W", "Relu", "Scan", "Constant", "local", "ai.onnx", "x" * 100])
    if isinstance(value, float):
        return random.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
    return random.choice(_NUMBERS[:8] if abs(value) < 2**31 and random.random() < 0.5 else _NUMBERS)


# -- random graphs ---------------------------------------------------------------------------------------------


def random_model(random: Random, onnx: Any) -> Any:
    """A graph of supported operators with random inputs and attributes."""
    from tinygrad_gru.interop.onnx.importer.operators import OPERATORS

    arrays = {
        "f": np.ones((2, 3), "f4"), "g": np.zeros((3, 2), "f4"), "h": np.float32(2), "d": np.ones(2, "f8"),
        "i": np.array([1, -1]), "j": np.array(0), "k": np.array([[2, 3]], "i4"), "b": np.array([True, False]),
        "m": np.array([2**40, 2**62]), "n": np.zeros((0, 2), "f4"), "o": np.array([-7]),
    }  # fmt: skip
    names = ["x", *arrays]
    nodes = []
    for k in range(random.choice((1, 1, 2, 4, 8))):
        op_type = random.choice(list(OPERATORS))
        schema = onnx.defs.get_schema(op_type, 18, "") if op_type != "Gelu" else None
        if schema is None:
            continue
        count = random.randint(schema.min_input, min(schema.max_input, schema.min_input + 2))
        inputs = [random.choice(names if random.random() < 0.95 else ["", "missing"]) for _ in range(count)]
        attributes = {
            name: _attribute(random, onnx, attribute)
            for name, attribute in schema.attributes.items()
            if attribute.required or random.random() < 0.3
        }
        outputs = [f"y{k}" if n == 0 else f"y{k}_{n}" for n in range(random.choice((1, 1, 1, schema.min_output, 3)))]
        nodes.append(onnx.helper.make_node(op_type, inputs, outputs or [f"y{k}"], **attributes))
        names.append(f"y{k}")
    return _model(onnx, nodes, arrays, {"x": [2, 3]}, outputs=[names[-1]])


def _attribute(random: Random, onnx: Any, attribute: Any) -> Any:
    kinds: dict[str, Callable[[], Any]] = {
        "FLOAT": lambda: random.choice((0.0, 1.0, -1.0, 1e30)),
        "INT": lambda: random.choice((0, 1, -1, 2, 7, 2**62)),
        "STRING": lambda: random.choice(("", "tanh", "ij,jk->ik", "ii->i", "a,b,c,d,e,f,g->", "__import__('os')")),
        "FLOATS": lambda: [random.random() for _ in range(random.randrange(1, 4))],
        "INTS": lambda: [random.choice((0, 1, -1, 2, 5, 2**40)) for _ in range(random.randrange(1, 4))],
        "TENSOR": lambda: onnx.numpy_helper.from_array(np.ones(random.choice(((), (1,), (2,))), "f4"), "t"),
    }
    return kinds.get(attribute.type.name, lambda: 1)()


def _bomb(random: Random, onnx: Any) -> Any:
    """A small model that needs much memory or time."""
    node, count = onnx.helper.make_node, random.choice((5, 18, 40, 64, 200))
    weights = {"w0": np.ones((1, 6, 2), "f4"), "R": np.ones((1, 6, 2), "f4")}
    kind = random.randrange(6)
    if kind == 0:
        how = random.choice(("Add", "Mul", "Concat", "Sub", "Sum", "Max", "MatMul", "Gather"))
        settings = {"axis": random.choice((0, 1, 2))} if how == "Concat" else {}
        nodes = [node(how, [f"w{k}", f"w{k}"], [f"w{k + 1}"], **settings) for k in range(count)]
        return _model(onnx, [*nodes, node("GRU", ["x", f"w{count}", "R"], ["y"])], weights, {"x": [2, 1, 2]})
    if kind == 1:
        ids = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("local", 1)]
        functions = [onnx.helper.make_function("local", "f0", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], ids)]
        for k in range(1, min(count, 64)):
            calls = [node(f"f{k - 1}", [a], [b], domain="local") for a, b in (("a", "t"), ("t", "b"))]
            functions.append(onnx.helper.make_function("local", f"f{k}", ["a"], ["b"], calls, ids))
        random.shuffle(functions)
        return _model(onnx, [node(f"f{min(count, 64) - 1}", ["x"], ["y"], domain="local")], {}, {"x": [1]}, functions)
    if kind == 2:
        sizes = np.array([random.choice((1, 2**10, 2**13, 2**20, 2**31)) for _ in range(random.choice((1, 2, 3)))])
        how = random.choice(("ConstantOfShape", "Expand", "Range"))
        reads = {"ConstantOfShape": ["sizes"], "Expand": ["x", "sizes"], "Range": ["zero", "last", "one"]}[how]
        numbers = {
            "sizes": sizes,
            "zero": np.array(0),
            "last": np.array(2 ** random.choice((10, 40, 62))),
            "one": np.array(1),
        }
        return _model(onnx, [node(how, reads, ["y"])], numbers, {"x": [1]})
    if kind == 3:
        model = _model(onnx, [node("Add", ["w", "w"], ["y"])], {"w": np.float32(1)}, {})
        model.graph.initializer[0].dims[:] = [random.choice(_NUMBERS) for _ in range(random.choice((1, 2, 3, 40)))]
        if random.random() < 0.5:
            model.graph.initializer[0].ClearField("raw_data")
        return model
    if kind == 4:
        size = random.choice((30, 3000, 300000))
        node_ = node(random.choice(("GRU", "LSTM", "RNN")), ["x", "W", "R"], ["y"], hidden_size=size)
        return _model(onnx, [node_], {}, {"x": [1, 1, 2], "W": [1, 3 * size, 2], "R": [1, 3 * size, size]})
    chain = [node("Identity", [f"v{k}"], [f"v{k + 1}"]) for k in range(20 * count)]
    return _model(onnx, [node("Relu", ["x"], ["v0"]), *chain], {}, {"x": [1]}, outputs=[f"v{20 * count}"])
