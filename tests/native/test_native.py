"""Native code: the front end on single statements, the functions of the library, and products."""

from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest

from tinygrad_gru import native
from tinygrad_gru.native.frontend import ir_of
from tinygrad_gru.native.packing import Piece, arguments, packing_text

pytestmark = pytest.mark.skipif(not native.is_available(), reason="llvmlite is not installed")


def address(array):
    return array.ctypes.data


def run(lines, *arrays, numbers=()):
    """Run lines on arrays named a, b, c, …, and on integers named n0, n1, …."""
    names = "abcdefgh"[: len(arrays)]
    counts = [f"n{i}" for i in range(len(numbers))]
    pointers = [f"pointer_{array.dtype.name}(steps[{i + len(counts)}])" for i, array in enumerate(arrays)]
    integers = [f"steps[{i}]" for i in range(len(counts))]
    text = f"def loop(steps):\n    body({', '.join([*integers, *pointers])})\n\n"
    text += f"def body({', '.join([*counts, *names])}):\n" + "".join(f"    {line}\n" for line in lines.splitlines())
    native.function(text).on(*numbers, *arrays)


def over(name, x, out=None):
    """A function of the library applied to every element."""
    y = np.empty_like(x) if out is None else out
    run(f"for i in range(n0):\n    b[i] = {name}(a[i])", x, y, numbers=[x.size])
    return y


# -- the subset --------------------------------------------------------------------------------------------------------


def test_statements():
    x, y = np.arange(6.0), np.zeros(6)
    run(
        """total, k = 0.0, 1
for i in range(1, n0, 2):
    k = k + i
    total = plus(total, a[i])
    b[i] += a[i] * float64(k) - 1
b[0] = total""",
        x, y, numbers=[6],
    )  # fmt: skip
    np.testing.assert_array_equal(y, [9, 1, 0, 14, 0, 49])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_operation_of_a_text_is_rounded_by_itself(dtype):
    """A fused multiply-add would give x x − x x ≠ 0, of which the square root is a NaN for half of the x."""
    x = np.random.default_rng(0).uniform(1, 2, 1000).astype(dtype)
    y, square = np.empty_like(x), x * x
    run("for i in range(1000):\n    b[i] = sqrt(a[i] * a[i] - c[i]) - (c[i] - a[i] * a[i])", x, y, square)
    np.testing.assert_array_equal(y, 0)
    run("for i in range(1000):\n    c[i] = c[i] * a[i] + exp(a[i]) * 0\n    b[i] = c[i] * a[i] + a[i]", x, y, square)
    np.testing.assert_array_equal(y, (x * x * x) * x + x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormal_results_are_zero_in_a_function_that_flushes_and_nowhere_else(dtype):
    text = f"""
def loop(steps):
    half_of(pointer_{dtype}(steps[0]), pointer_{dtype}(steps[1]))

def half_of(x, y):
    for i in range(40):
        x[i] = {dtype}(0.5) * x[i]
        y[i] = {dtype}(2) * y[i]
"""
    tiny = np.finfo(dtype).tiny
    for flushes in (False, True, False):
        x, y = np.full(40, tiny), np.full(40, tiny / 2)
        native.function(text, flushes=flushes).on(x, y)
        is_zero = flushes and importlib.import_module("tinygrad_gru.native.compiler").is_x86()
        np.testing.assert_array_equal(x, 0 if is_zero else tiny / 2)  # what is computed
        np.testing.assert_array_equal(y, tiny)  # what is read
        np.testing.assert_array_equal(np.full(40, tiny) / 2, tiny / 2)


def test_conditions():
    x, y = np.array([-2.0, 0.0, 3.0, np.nan]), np.zeros(4)
    run(
        """for i in range(4):
    if a[i] > 0 and not i == 1 or a[i] == 0:
        b[i] = 1 if a[i] > 0 else float64(2)
    else:
        if a[i] < 0:
            b[i] = -a[i]""",
        x, y,
    )  # fmt: skip
    np.testing.assert_array_equal(y, [2, 2, 1, 0])


def test_functions_call_functions_in_any_order():
    text = """
def loop(steps):
    y = pointer_float64(steps[0])
    for i in range(steps[1]):
        row(y, i)

def row(y, i):
    one(y, i, 3)

def one(y, i, k):
    y[i] = float64(i * k)
"""
    y = np.zeros(5)
    native.function(text)(np.array([address(y), 5]))
    np.testing.assert_array_equal(y, [0, 3, 6, 9, 12])


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_wrap(dtype):
    info = np.iinfo(dtype)
    x, y = np.array([info.max, info.min, -7], dtype), np.zeros((6, 3), dtype)
    lines = ["a[i] + 1", "a[i] - 1", "a[i] * 3", "-a[i]", "abs(a[i])", "maximum(a[i], minimum(a[i], 5))"]
    run("for i in range(3):\n" + "\n".join(f"    b[{3 * n} + i] = {line}" for n, line in enumerate(lines)), x, y)
    with np.errstate(all="ignore"):
        one = np.ones(1, dtype)
        np.testing.assert_array_equal(y, [x + one, x - one, x * 3, -x, np.abs(x), np.maximum(x, np.minimum(x, 5))])


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_integers_are_divided_as_numpy_does(dtype):
    info = np.iinfo(dtype)
    values = [0, 1, -1, 2, -3, 7, info.max, info.min]
    x, y = (a.ravel().astype(dtype) for a in np.meshgrid(values, values))
    for name in ("floor_divide", "remainder"):
        z = np.empty_like(x)
        run(f"for i in range(n0):\n    c[i] = {name}(a[i], b[i])", x, y, z, numbers=[x.size])
        np.testing.assert_array_equal(z, getattr(np, name)(x, y))


def test_conversions():
    x, y, z = np.array([-1.5, 0.0, 2**20 + 0.5]), np.zeros(3, "int32"), np.zeros(3, bool)
    w, v = np.array([-1, 0, 2**31 - 1], "int32"), np.zeros((4, 3), "float32")
    run(
        """for i in range(3):
    b[i] = int32(a[i])
    c[i] = bool(a[i])
    e[i] = float32(d[i])
    e[3 + i] = float32(a[i] > 0)
    e[6 + i] = float32(c[i] != 0)
    e[9 + i] = float32(int64(d[i]) + 1)""",
        x, y, z, w, v,
    )  # fmt: skip
    np.testing.assert_array_equal(y, x.astype("int32"))
    np.testing.assert_array_equal(z, x != 0)
    np.testing.assert_array_equal(v, np.stack([w, x > 0, x != 0, w.astype("int64") + 1]).astype("float32"))


def test_elements_by_integers_in_memory():
    table, at, out = np.arange(12.0), np.array([3, 0, 11], "int32"), np.zeros(3)
    run("for i in range(3):\n    c[i] = a[b[i]] + 1", table, at, out)
    np.testing.assert_array_equal(out, [4, 1, 12])


def test_division_by_zero_is_ieee():
    x, y = np.array([1.0, -1.0, 0.0]), np.zeros(3)
    run("for i in range(3):\n    b[i] = a[i] / float64(0)", x, y)
    np.testing.assert_array_equal(y, [np.inf, -np.inf, np.nan])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("while True:\n        pass", "While is not in the subset"),
        ("steps.unknown()", "a call names a function"),
        ("x = unknown(1)", "there is no function unknown"),
        ("x = y", "y has no value"),
        ("x = steps[0] % 2", "Mod is not in the subset"),
        ("x = steps[0] / 2", "no div of int64"),
        ("x = pointer_float32(steps[0])\n    x[0] = steps[1]", "int64 stored in memory of float32"),
        ("x = pointer_float32(steps[0])\n    y = x[0] + steps[0]", "float32 meets int64"),
        ("x = 1\n    x = float64(1)", "x is of type int64, and becomes float64"),
        ("steps = 1", "steps is a parameter"),
        ("other(1, 2)", "other takes 1 arguments, got 2"),
        ("for i in steps:\n        pass", "a loop is over a range"),
        ("1 + steps[0]", "it has no effect"),
        ("x = exp(steps[0])", "exp or tanh of int64"),
    ],
)  # fmt: skip
def test_what_is_not_in_the_subset_is_an_error_that_names_the_line(line, reason):
    with pytest.raises(SyntaxError, match=reason):
        ir_of(f"def loop(steps):\n    {line}\n\ndef other(x):\n    pass\n", "loop")


def test_a_function_that_is_not_there():
    with pytest.raises(SyntaxError, match="defines no function 'other'"):
        native.function("def loop(steps):\n    pass\n", "other")


# -- the library -------------------------------------------------------------------------------------------------------


def all_over(dtype):
    """Values of all magnitudes, to beyond the overflow of exp."""
    some = np.geomspace(np.finfo(dtype).tiny, 900, 200_001)
    return np.concatenate([np.linspace(-12, 12, 400_001), some, -some]).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "ulps"), [("exp", 1), ("tanh", 3)])
def test_exp_and_tanh_to_a_few_ulps(name, ulps, dtype):
    x = all_over(dtype)
    y = over(name, x)
    with np.errstate(all="ignore"):
        right = getattr(np, name)(x.astype(np.longdouble))
        rounded = right.astype(dtype)
        fine = np.isfinite(rounded) & (rounded != 0)
        assert (np.abs(y - right)[fine] <= ulps * np.spacing(np.abs(rounded[fine]))).all()
    np.testing.assert_array_equal(y[~fine], rounded[~fine])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exp_and_tanh_at_extremes(dtype):
    x = np.array([800, -800, np.inf, -np.inf, np.nan, 0, np.finfo(dtype).tiny], dtype)
    np.testing.assert_array_equal(over("tanh", x), np.array([1, -1, 1, -1, np.nan, 0, np.finfo(dtype).tiny], dtype))
    np.testing.assert_array_equal(over("exp", x), np.array([np.inf, 0, np.inf, 0, np.nan, 1, 1], dtype))
    assert (np.abs(over("tanh", all_over(dtype))) <= 1).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["expm1", "log", "log1p", "sqrt", "sin", "cos", "sign", "abs"])
def test_functions_are_those_of_numpy(name, dtype):
    some = np.geomspace(np.finfo(dtype).tiny, 80, 2001)
    x = np.concatenate([some, -some, [0.0, -0.0, np.inf, -np.inf, np.nan]]).astype(dtype)
    with np.errstate(all="ignore"):
        right = getattr(np, name)(x)
    y = over(name, x)
    np.testing.assert_allclose(y, right, rtol=4 * np.finfo(dtype).eps, atol=0)
    if name != "sign":  # of which NumPy gives 0 for −0
        np.testing.assert_array_equal(np.signbit(y[right == 0]), np.signbit(right[right == 0]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_of_two(dtype):
    values = [1.0, -2.0, 0.5, 0.0, -0.0, 3.0, np.nan, np.inf, -np.inf]
    x, y = (a.ravel().astype(dtype) for a in np.meshgrid(values, values))
    for name in ("maximum", "minimum", "power"):
        z = np.empty_like(x)
        run(f"for i in range(n0):\n    c[i] = {name}(a[i], b[i])", x, y, z, numbers=[x.size])
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(z, getattr(np, name)(x, y), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["exp", "tanh", "sqrt"])
def test_functions_are_vectorised(name, dtype):
    """Else they would be calls of the C library, or one element at a time."""
    from tinygrad_gru.native import compiler

    text = (
        f"def loop(steps):\n    x = pointer_{dtype}(steps[0])\n    for i in range(1024):\n        x[i] = {name}(x[i])\n"
    )
    module = str(compiler.optimized(ir_of(text, "loop"), compiler.machine()))
    lane = {"float32": "float", "float64": "double"}[dtype]
    assert any(f"store <{n} x {lane}>" in module for n in (2, 4, 8, 16))
    assert f"@{name}" not in module


def test_loops_over_memory_that_does_not_overlap_need_no_checks():
    from tinygrad_gru.native import compiler

    text = "def loop(steps):\n    f(pointer_float32(steps[0]), pointer_float32(steps[1]), pointer_float32(steps[2]))\n"
    text += "def f(a, b, c):\n    for i in range(1000):\n        c[i] = a[i] * b[i]\n"
    module = str(compiler.optimized(ir_of(text, "loop"), compiler.machine()))
    assert "x float> %" in module and "memcheck" not in module


# -- products ----------------------------------------------------------------------------------------------------------


def pack(matrices, panels, shape):
    """Pack matrices, each given with its row, its column and whether it is transposed, into panels of an operand."""
    pieces = []
    for n, (matrix, row, column, transposed) in enumerate(matrices):
        columns = matrix.shape[1]
        strides = (1, columns) if transposed else (columns, 1)
        pieces.append(Piece(n, row, column, *(matrix.T.shape if transposed else matrix.shape), *strides))
    steps, sources = arguments([(address(panels), shape, panels.shape[-1], pieces)])
    steps[1::12] = [address(matrices[source][0]) for source in sources]
    native.function(packing_text(panels.dtype.name))(steps)


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
@pytest.mark.parametrize("width", [4, 8, 1])
@pytest.mark.parametrize(("k", "n"), [(20, 16), (33, 19), (1, 9)])
def test_pieces_are_packed(k, n, width, dtype, rng):
    """Of four matrices, two of them transposed, one operand in panels, of which the last ends with it."""
    whole = (100 * rng.standard_normal((k, n))).astype(dtype)
    at, of = k // 2, n // 3
    corners = [(0, at, 0, of), (at, k, 0, of), (0, at, of, n), (at, k, of, n)]
    matrices = []
    for number, (top, bottom, left, right) in enumerate(corners):
        part = whole[top:bottom, left:right]
        transposed = number % 2 == 1
        matrices.append((np.ascontiguousarray(part.T if transposed else part), top, left, transposed))
    panels = np.zeros((-(-n // width), k, width), dtype)
    pack(matrices, panels, (k, n))
    for p, panel in enumerate(panels):
        start = min(p * width, n - width)
        np.testing.assert_array_equal(panel, whole[:, start : start + width])


@pytest.mark.parametrize(
    ("m", "k", "n", "dtype"),
    [(1, 5, 70, "float32"), (1, 3, 2, "float64"), (2, 7, 33, "float32"), (3, 4, 40, "float64"), (4, 1, 16, "float32"),
     (7, 6, 17, "float32"), (13, 9, 31, "float64"), (6, 0, 20, "float32"), (3, 2, 1, "float64")],
)  # fmt: skip
@pytest.mark.parametrize("transposed", [False, True])
def test_products(m, k, n, dtype, transposed, rng):
    """Of a slice of a concatenated array, or of a transposed one, into a slice of another, whose rest is unchanged."""
    a = rng.standard_normal((k, m + 2) if transposed else (m, k + 2)).astype(dtype)
    b, c = rng.standard_normal((k, n)).astype(dtype), np.zeros((m, n + 3), dtype)
    width = native.panel_width(m, k, n, np.dtype(dtype).itemsize)
    panels = np.empty((-(-n // width), k, width), dtype)
    pack([(b, 0, 0, False)], panels, (k, n))
    strides = (1, m + 2) if transposed else (k + 2, 1)
    # A start of two is the third column; of a transposed one, the third row of what it was.
    run(f"product({m}, {k}, {n}, a, 2, {strides[0]}, {strides[1]}, b, 0, {width}, c, 1, {n + 3})", a, panels, c)
    a_start = a[:, 2:].T if transposed else a[:, 2:]
    np.testing.assert_allclose(c[:, 1:-2], a_start @ b, rtol=0, atol=1e-5 if dtype == "float32" else 1e-13)
    assert not c[:, 0].any() and not c[:, -2:].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("k", "m", "n"), [(1, 1, 1), (7, 1, 33), (300, 3, 17), (257, 14, 32), (513, 31, 75), (40, 17, 3)]
)
def test_products_and_sums_of_rows_that_add_to_their_result(k, m, n, dtype, rng):
    """Of slices of concatenated arrays into a slice of another; the last panel of columns overlaps the one before."""
    a, b = rng.standard_normal((k, m + 2)).astype(dtype), rng.standard_normal((k, n + 5)).astype(dtype)
    c, total = rng.standard_normal((m, n + 3)).astype(dtype), rng.standard_normal(n + 2).astype(dtype)
    b[-1, 3] = np.inf
    product, rows = c.copy(), total.copy()
    with np.errstate(invalid="ignore"):
        product[:, 1:-2] += a[:, 2:].T @ b[:, 3:-2]
    rows[1:-1] += b[:, 3:-2].sum(0)
    run(f"add_product({m}, n0, {n}, a, 2, {m + 2}, b, 3, {n + 5}, c, 1, {n + 3})", a, b, c, numbers=[k])
    run(f"add_rows(n0, {n}, a, 3, {n + 5}, b, 1)", b, total, numbers=[k])
    bound = 2e-4 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(c, product, rtol=bound, atol=bound)
    np.testing.assert_allclose(total, rows, rtol=bound, atol=bound)


def test_blocks_of_one_height_and_width_are_one_function():
    """Three products and two sums of rows, of which each would take LLVM 0.05 s."""
    lines = [
        f"    add_product({m}, 99, {n}, x, 0, {m}, x, 0, {n}, y, 0, {n})" for m, n in ((12, 64), (24, 64), (24, 128))
    ]
    lines += [f"    add_rows(99, {n}, x, 0, {n}, y, 0)" for n in (64, 128)]
    text = "def loop(steps):\n    x, y = pointer_float32(steps[0]), pointer_float32(steps[1])\n" + "\n".join(lines)
    found = [
        line.split("@")[1].split("(")[0] for line in ir_of(text, "loop", is_wide=True).splitlines() if "define" in line
    ]
    assert sorted(found) == ["add_product.float.12.32.32", "add_rows.float.1.64.64", "loop"]


# -- loading -----------------------------------------------------------------------------------------------------------


def test_llvmlite_is_imported_on_first_use():
    program = (
        "import sys, numpy as np; from tinygrad_gru import Tensor, native; from tinygrad_gru.nn import GRU\n"
        "GRU(3, 4)(Tensor(np.zeros((5, 2, 3), 'float32')))\n"
        "assert native.is_available() and 'llvmlite' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_llvmlite_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinygrad_gru.native.compiler", None)  # cannot be imported
    with pytest.raises(ImportError, match=r"pip install tinygrad_gru\[fast\]"):
        native.function("def loop(steps):\n    steps[0] = 17\n")


def test_arrays_that_native_code_would_misread_are_refused():
    copy = native.function("def loop(steps):\n    x = pointer_float32(steps[0])\n    x[0] = x[0]\n")
    for array in (np.ones(3, np.dtype(np.float32).newbyteorder()), np.ones((3, 4), np.float32)[:, ::2]):
        with pytest.raises(ValueError, match="expected a C-contiguous array in native byte order"):
            copy.on(array)


def test_code_of_another_system_has_another_key(monkeypatch):
    from tinygrad_gru.native import compiler

    keys = []
    monkeypatch.setattr(native.cache, "load", lambda key: keys.append(key))
    monkeypatch.setattr(native.cache, "store", lambda key, code: None)
    text = "def loop(steps):\n    steps[0] = 8155\n"
    native.function(text)
    native.function.cache_clear()
    triple = compiler.llvm.get_default_triple()
    monkeypatch.setattr(compiler.llvm, "get_default_triple", lambda: triple.replace("linux", "freebsd") + "0")
    native.function(text)
    assert len(set(keys)) == 2
