"""The text of an element's arithmetic, run in Python, in C++ and in JavaScript, gives NumPy's values."""

from __future__ import annotations

import ctypes
import json
import math
import shutil
import subprocess

import numpy as np
import pytest
from support.stand_in_cuda import COMPILER, compiled

from tinygrad_gru.backend import PRELUDE
from tinygrad_gru.scan.ir import Graph, dtype_of
from tinygrad_gru.scan.passes.schedule import ELEMENTWISE
from tinygrad_gru.scan.targets.elements import CUDA, JAVASCRIPT, PYTHON, expression
from tinygrad_gru.scan.targets.javascript import products
from tinygrad_gru.scan.tracing.traced_array import Untraceable

NODE = shutil.which("node")
UNARY = frozenset("negative exp expm1 log log1p sqrt tanh sin cos abs sign".split())
ON_BOOL, CASTS = frozenset({"logical_not"}), ("float32", "float64", "int32", "bool")
INTEGERS_ONLY = frozenset({"floor_divide", "remainder"})
BINARY = ELEMENTWISE - UNARY - ON_BOOL - {"where", "astype"}
ON_INTEGERS = (
    *INTEGERS_ONLY,
    "add",
    "subtract",
    "multiply",
    "negative",
    "maximum",
    "minimum",
    "abs",
    "less",
    "equal",
    "not_equal",
)
#: Operations that round once; the others are right to a few units in the last place.
EXACT = ELEMENTWISE - {"exp", "expm1", "log", "log1p", "tanh", "sin", "cos", "power"}


def operands(dtype):
    """Pairs of values, hard ones among them, and a condition."""
    if dtype == "int32":
        some = np.array([0, 1, -1, 3, -7, 46341, 2**31 - 1, 1 - 2**31])
    else:
        info = np.finfo(dtype)
        some = [0.0, -0.0, 1, -1, 0.5, -0.5, 3, -2, 0.1, 20.7, -33, 1e-30, info.tiny, info.max, np.inf, -np.inf, np.nan]
        some = np.concatenate([some, np.geomspace(1e-6, 90, 30), -np.geomspace(1e-6, 90, 30)])
    a, b = (x.ravel() for x in np.meshgrid(some.astype(dtype), some.astype(dtype)))
    return {"a": a, "b": b, "c": (np.arange(a.size) % 3 > 0)}


class Case:
    """A value of one operation, and NumPy's array of it."""

    def __init__(self, op, dtype, *inputs, to=None):
        graph, arrays = Graph(), operands(dtype)
        self.names = list(dict.fromkeys(name for name in inputs if isinstance(name, str)))
        values = [
            graph.add("x", (), arrays[i].shape, arrays[i].dtype, position=n) if isinstance(i, str) else graph.scalar(i)
            for n, i in enumerate(inputs)
        ]
        result = np.dtype(to) if to else np.dtype(bool) if op == "logical_not" else dtype_of(op, values)
        self.op, self.dtype, self.arrays = op, result, arrays
        self.value, self.inputs = graph.add(op, values, arrays["a"].shape, result), inputs
        given = [arrays[i] if isinstance(i, str) else i for i in inputs]
        with np.errstate(all="ignore"):
            self.expected = given[0].astype(to) if to else getattr(np, op)(*given)

    def text(self, language):
        return expression(self.value, [i if isinstance(i, str) else "" for i in self.inputs], language)

    def check(self, found):
        found, hint = found.astype(self.dtype), f"{self.op} of {self.inputs}"
        if self.op in EXACT:
            return np.testing.assert_array_equal(found, self.expected, err_msg=hint)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(found, self.expected, rtol=8 * np.finfo(self.dtype).eps, atol=0, err_msg=hint)


def cases(dtype):
    integers = dtype == "int32"
    found = [Case(op, dtype, "a") for op in sorted(UNARY) if not integers or op in ON_INTEGERS]
    binary = BINARY.intersection(ON_INTEGERS) if integers else BINARY - INTEGERS_ONLY
    found += [Case(op, dtype, "a", "b") for op in sorted(binary)]
    found += [Case(op, dtype, "a", scalar) for op in ("add", "maximum", "less") for scalar in (2, -3, True)]
    found += [Case("where", dtype, "c", "a", "b"), Case("where", dtype, "c", 0, "b"), Case("logical_not", dtype, "c")]
    found += [Case("where", dtype, "a", "a", "b")] if not integers else []
    if not integers:
        found += [
            Case(op, dtype, "a", scalar) for op in ("power", "minimum") for scalar in (2, 0.1, math.inf, math.nan)
        ]
    to = CASTS if integers else ("float32", "float64", "bool")
    with np.errstate(all="ignore"):
        return found + [Case("astype", dtype, "a", to=other) for other in to]


def test_every_elementwise_operation_is_a_case():
    assert {case.op for case in (*cases("float32"), *cases("int32"))} == ELEMENTWISE


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_python(dtype):
    functions = {name: getattr(np, name) for name in ELEMENTWISE if hasattr(np, name)}
    functions |= {f"{name}_{kind}": getattr(np, name) for name in ("exp", "tanh") for kind in ("float32", "float64")}
    functions |= {name: getattr(np, name) for name in ("float32", "float64", "int32", "inf", "nan", "bool")}
    functions["power"] = lambda a, b: np.power([a], [b], dtype=dtype)[0]  # NumPy's scalars take −∞ to the ½ for NaN
    functions["select"] = lambda condition, a, b: a if condition else b
    for case in cases(dtype):
        elements = zip(*(case.arrays[name] for name in case.names))
        code = compile(case.text(PYTHON), "text", "eval")
        case.check(np.array([eval(code, functions, dict(zip(case.names, e))) for e in elements]))


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler to stand in for CUDA's")
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_cuda(dtype):
    kinds = {"a": dtype, "b": dtype, "c": "bool"}
    found, kernels = cases(dtype), []
    for n, case in enumerate(found):
        parameters = ", ".join(f"{kinds[name]}* {name}_" for name in "abc")
        registers = " ".join(f"const {kinds[name]} {name} = {name}_[n];" for name in case.names)
        kernels.append(
            f'extern "C" __global__ void case_{n}(int64 count, {parameters}, {case.dtype.name}* y) {{\n'
            f"    for (int64 n = 0; n < count; n++) {{ {registers} y[n] = {case.text(CUDA)}; }}\n}}"
        )
    library = compiled("\n".join([PRELUDE, *kernels]))
    for n, case in enumerate(found):
        y = np.empty(case.value.shape, case.dtype)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*case.arrays.values(), y)]
        getattr(library, f"run_case_{n}")(1, 1, ctypes.c_longlong(y.size), *pointers)
        case.check(y)


@pytest.mark.skipif(NODE is None, reason="needs Node.js to run JavaScript")
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_javascript(dtype, tmp_path):
    arrays = {"float32": "Float32Array", "float64": "Float64Array", "int32": "Int32Array", "bool": "Uint8Array"}
    found, size = cases(dtype), operands(dtype)["a"].size
    for name, array in operands(dtype).items():
        (tmp_path / name).write_bytes(array.tobytes())
    folder = json.dumps(str(tmp_path))
    lines = [products(), f"const fs = require('fs'), folder = {folder};"]
    for name, array in operands(dtype).items():
        content = f"new Uint8Array(fs.readFileSync(`${{folder}}/{name}`)).buffer"
        lines.append(f"const {name}_ = new {arrays[array.dtype.name]}({content});")
    for n, case in enumerate(found):
        registers = " ".join(f"const {name} = {name}_[n]{' !== 0' * (name == 'c')};" for name in case.names)
        lines += [
            f"const y{n} = new {arrays[case.dtype.name]}({size});",
            f"for (let n = 0; n < {size}; n++) {{ {registers} y{n}[n] = {case.text(JAVASCRIPT)}; }}",
            f"fs.writeFileSync(`${{folder}}/y{n}`, y{n});",
        ]
    program = tmp_path / "program.js"
    program.write_text("\n".join(lines))
    subprocess.run([NODE, program], check=True)
    for n, case in enumerate(found):
        case.check(np.fromfile(tmp_path / f"y{n}", case.dtype))


def test_float32_in_javascript_is_rounded_after_every_operation():
    """A product in float64 that is rounded when it is stored would do; a sum of two products would not."""
    assert Case("multiply", "float32", "a", "b").text(JAVASCRIPT) == "Math.fround(a * b)"
    assert Case("multiply", "int32", "a", "b").text(JAVASCRIPT) == "(Math.imul(a, b) | 0)"


def test_an_int64_in_javascript_has_53_bits_or_is_an_error():
    graph = Graph()
    a = graph.add("x", (), (3,), np.dtype("int64"), position=0)
    assert expression(graph.add("add", (a, a), (3,), np.dtype("int64")), ["a", "a"], JAVASCRIPT) == "safe(a + a)"
    a = graph.add("x", (), (3,), np.dtype("int16"), position=0)
    with pytest.raises(Untraceable, match="it computes in int16, which JavaScript does not have"):
        expression(graph.add("add", (a, a), (3,), np.dtype("int16")), ["a", "a"], JAVASCRIPT)


def test_integers_have_no_division():
    graph = Graph()
    a = graph.add("x", (), (3,), np.dtype("int32"), position=0)
    with pytest.raises(Untraceable, match="it computes divide in int32"):
        expression(graph.add("divide", (a, a), (3,), np.dtype("int32")), ["a", "a"], CUDA)
