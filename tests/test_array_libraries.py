"""Computing modules use no array library by name: ops, layers, optimizers and the tape ask an array for its namespace.

Where NumPy is named all the same, it is for what happens on the host, and listed here with the reason.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tinygrad_gru

PACKAGE = Path(tinygrad_gru.__file__).parent
COMPUTING = ("ops", "nn", "optim", "tape.py", "tensor", "transforms.py")
#: It is about NumPy's functions by their names.
PROTOCOLS = "tensor/protocols.py"
LIBRARIES = ("numpy", "cupy", "cupyx", "cupy_backends", "torch", "jax", "array_api_strict")

#: The NumPy names that a file may use, and why.
ALLOWED = {
    "nn/cell.py": ("full", "first values are made on the host, and then moved"),
    "nn/checks.py": ("ndarray asarray dtype errstate isfinite", "weights from elsewhere are converted on the host"),
    "nn/init.py": ("ndarray zeros linalg sign diagonal", "drawn on the host, so that a seed gives the same everywhere"),
    "nn/layers.py": ("ones zeros", "first values"),
    "nn/lengths.py": ("ndarray arange bool_ flatnonzero int64", "lengths are few numbers, checked on the host"),
    "nn/base/state.py": ("ndarray array_equal shape", "a state_dict holds arrays of the host"),
    "nn/base/summary.py": ("zeros dtype", "an input that is data; the size of an element"),
    "nn/module.py": ("ndarray", "a state_dict holds arrays of the host"),
    "nn/cell_options.py": ("zeros", "first values"),
    "nn/modern/lru.py": ("ndarray log log1p", "first values"),
    "nn/modern/slstm.py": ("stack", "first values"),
    "ops/loss/likelihood.py": (
        "arange ascontiguousarray empty empty_like exp int64 log subtract zeros",
        "tiles fit the cache of the host",
    ),
    "ops/loss/output_layer.py": (
        "abs allclose array ascontiguousarray broadcast_to empty empty_like finfo int64 multiply ndarray ones zeros",
        "blocks of arrays of the host; others take the recorded ops",
    ),
    "ops/movement/indexing.py": ("integer", "an index may be a number of NumPy's"),
    "ops/precision.py": ("add", "the sum of an array of the host, with less overhead"),
    "ops/reduction.py": ("cumulative_sum", "an array of the host, whose sums are gathered in float64"),
    "optim/clipping.py": ("ascontiguousarray empty ndarray", "arrays of the host, for a native loop"),
    "optim/update_kernel.py": ("array float64", "constants of a native loop"),
    "tensor/tensor.py": ("array2string", "how a tensor prints"),
}


def files():
    for name in COMPUTING:
        path = PACKAGE / name
        yield from sorted({*path.rglob("*.py")} - {PACKAGE / PROTOCOLS}) if path.is_dir() else [path]


def named(tree):
    """The uses of array libraries in a program: (library, name), with the name "" for the library itself."""
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                library = one.name.partition(".")[0]
                if library in LIBRARIES:
                    aliases[one.asname or library] = library
                    if library != "numpy":
                        yield library, ""
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").partition(".")[0] in LIBRARIES:
            for one in node.names:
                yield node.module.partition(".")[0], one.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield aliases[node.value.id], node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("__import__", "import_module"):
            yield "import", ast.unparse(node)


@pytest.mark.parametrize("path", list(files()), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_computing_modules_use_no_array_library_by_name(path):
    allowed = ALLOWED.get(path.relative_to(PACKAGE).as_posix(), ("", ""))[0].split()
    found = set(named(ast.parse(path.read_text(encoding="utf-8"))))
    odd = {f"{library}.{name}" for library, name in found if library != "numpy" or name not in allowed}
    assert not odd, f"use xp_of(array), or say in ALLOWED why this is for the host: {sorted(odd)}"


def test_every_exception_is_needed():
    for name, (allowed, _) in ALLOWED.items():
        found = {attribute for _, attribute in named(ast.parse((PACKAGE / name).read_text(encoding="utf-8")))}
        assert set(allowed.split()) <= found, f"{name} does not name {sorted(set(allowed.split()) - found)} any more"


def test_only_the_backends_import_cupy():
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] != "backend":
            found = {library for library, _ in named(ast.parse(path.read_text(encoding="utf-8")))}
            assert not found & {"cupy", "cupyx", "cupy_backends", "array_api_strict"}, path


@pytest.mark.parametrize(
    "program",
    [
        "import numpy as np\ny = np.exp(x)",
        "import numpy\ny = numpy.exp(x)",
        "from numpy import exp",
        "def f(x):\n    import numpy as anything\n    return anything.linalg.exp(x)",
        "import cupy",
        "import cupy.random as r",
        "x = __import__('numpy').exp",
    ],
)
def test_the_search_finds_uses_of_array_libraries(program):
    assert set(named(ast.parse(program)))
