"""The structure is what docs/architecture.md and docs/reading.md say: import order, sizes, module-level state."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import threading
import types
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path

import tinygrad_gru

PACKAGE = Path(tinygrad_gru.__file__).parent
DOCS = PACKAGE.parent / "docs"
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")

MOST_LINES, MOST_FILES, CORE_LINES = 400, 12, 2500

#: The packages and modules of the top level, in layers that import only from earlier layers or their own.
LAYERS = (
    ("version", "contexts", "trees", "closures", "hints", "keywords", "io", "data"),
    ("backend", "native"),
    ("writes", "cotangents", "completion", "collector", "html"),
    ("tape",),
    ("inspector", "arguments"),
    ("ops",),
    ("fingerprint",),
    ("tensor",),
    ("transforms",),
    ("scan",),
    ("nn", "optim"),
    ("parallel",),
    ("debug", "train", "interop", "show"),
    ("testing",),
    ("learn", "reproduce"),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

#: Imports inside of functions, and why.
LATE_IMPORTS = {
    "cli/models.py": "the export command alone needs the extra onnx",
    "cli/learn.py": "the exercises alone need the extra learn",
}

#: Instances that nothing changes.
CONSTANTS = {"ALONE", "CUDA", "JAVASCRIPT", "KERAS", "NUMPY", "ONNX", "PYTHON", "TORCH", "TRACING", "_close_pairs"}

LOCKS = (type(threading.Lock()), type(threading.RLock()))


def files():
    return sorted(PACKAGE.rglob("*.py"))


def module_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


@functools.cache
def imports_of(path):
    """The modules of this package that a file imports, as tuples of names below the package, and from where in it."""
    here, found = module_of(path) if path.stem == "__init__" else module_of(path)[:-1], []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {node for function in ast.walk(tree) if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
              for node in ast.walk(function)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            module = (*base, *(node.module.split(".") if node.module else ()))
            found += [((*module, alias.name), node in inside) for alias in node.names]
    return found


def wrong_imports(path):
    """What is wrong with the imports of a file, if anything."""
    (own, *_), name = module_of(path) or ("",), path.relative_to(PACKAGE).as_posix()
    for module, is_late in imports_of(path):
        if is_late and name not in LATE_IMPORTS:
            yield f"{name} imports {'.'.join(module)} late"
        if own in ("", "__main__") or module[0] == own:
            continue
        if module[0] not in RANK:
            yield f"{module[0]!r}, which {name} imports, has no layer: give it one in LAYERS"
        elif RANK[module[0]] > RANK[own]:
            yield f"{name} imports {'.'.join(module)}, which is above it"


def test_imports_run_one_way():
    assert [problem for path in files() for problem in wrong_imports(path)] == []


def test_no_module_imports_itself_by_way_of_others():
    """Also within a layer and within a package."""
    names = {module_of(path) for path in files()}

    def module_in(imported):  # what follows it is a name in the module
        return next((imported[:n] for n in range(len(imported), 0, -1) if imported[:n] in names), ())

    graph = {
        module_of(path): {module_in(imported) for imported, _ in imports_of(path)} - {()}
        for path in files()
        if path.stem != "__init__"
    }
    done, path_to_here = set(), []

    def visit(module):
        assert module not in path_to_here, " → ".join(".".join(m) for m in [*path_to_here, module])
        if module in done or module not in graph:
            return
        path_to_here.append(module)
        for imported in sorted(graph[module]):
            visit(imported)
        path_to_here.pop()
        done.add(module)

    for module in sorted(graph):
        visit(module)


def test_every_large_file_and_folder_has_its_reason():
    reasons = ARCHITECTURE.partition("## Sizes")[2].partition("\n## ")[0]
    for path in files():
        name = path.relative_to(PACKAGE).as_posix()
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES or f"`{name}`" in reasons, f"{name} has {lines} lines"
    for folder in {path.parent for path in files()}:
        name, count = f"{folder.relative_to(PACKAGE).as_posix()}/", len(list(folder.glob("*.py")))
        assert count <= MOST_FILES or f"`{name}`" in reasons, f"{name} has {count} files"


def state_of(path):
    """The names of a module that hold state: context variables, locks, caches, and what can be changed."""
    parts = module_of(path)
    module = importlib.import_module(".".join(("tinygrad_gru", *parts)))
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            if isinstance(target, ast.Name) and not target.id.startswith("__"):
                value = getattr(module, target.id, None)
                is_table = target.id.isupper() and isinstance(value, (dict, list, set))
                if not is_table and target.id not in CONSTANTS and holds_state(value):
                    yield target.id
        if isinstance(node, ast.FunctionDef) and isinstance(getattr(module, node.name), functools._lru_cache_wrapper):
            yield node.name


def holds_state(value):
    if isinstance(value, (ContextVar, dict, list, set, types.MethodWrapperType, functools._lru_cache_wrapper, *LOCKS)):
        return True
    own = type(value).__module__.startswith("tinygrad_gru") and not isinstance(value, (type, types.FunctionType, tuple))
    return own and bool(getattr(value, "__dict__", None))


def test_all_state_at_module_level_is_listed():
    rows = re.findall(
        r"^\| `([\w/]+\.py)`[^|]*\|([^|]*)\|", ARCHITECTURE.partition("## State at module level")[2], re.M
    )
    listed: dict[str, set[str]] = {}
    for name, states in rows:
        listed.setdefault(name, set()).update(re.findall(r"`(\w+)`", states))
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in files() if path.stem != "__main__"}
    if not find_spec("llvmlite"):
        del paths["native/compiler.py"], listed["native/compiler.py"]
    found = {name: set(state_of(path)) for name, path in paths.items()}
    assert {name: states for name, states in found.items() if states} == listed, "State at module level"


def lines_to_read(text):
    """The lines of a file without doctest examples: the code, what it prints, and the blank line before."""
    lines, in_example = [], False
    for line in text.splitlines():
        stripped = line.strip()
        in_example = stripped.startswith(">>>") or (in_example and stripped not in ("", '"""'))
        if stripped.startswith(">>>") and lines and not lines[-1].strip():
            lines.pop()
        if not in_example:
            lines.append(line)
    return lines


def test_lines_to_read_are_those_outside_of_examples():
    text = 'def f(x):\n    """x²\n\n    >>> f(2)\n    4\n    """\n    return x * x\n'
    assert lines_to_read(text) == ["def f(x):", '    """x²', '    """', "    return x * x"]
    assert lines_to_read("a\n\n>>> for x in y:\n...     x\n1\n2\n\nb\n") == ["a", "", "b"]
    assert len(lines_to_read("a = 1\n\n\nb = ...\n")) == 4


def test_the_core_can_be_read_in_an_afternoon():
    """The files that reading.md lists exist, and have no more lines together than it says; examples do not count."""
    text = (DOCS / "reading.md").read_text(encoding="utf-8")
    core = re.findall(r"^\| \d+ \| \[[^\]]+\]\(\.\./tinygrad_gru/([^)]+)\) \|", text, re.M)
    assert len(core) > 10
    assert sum(len(lines_to_read((PACKAGE / name).read_text(encoding="utf-8"))) for name in core) <= CORE_LINES


def test_the_changes_that_reading_md_proposes_can_be_made():
    text = (DOCS / "reading.md").read_text(encoding="utf-8")
    files_by_row = dict(re.findall(r"^\| (\d+) \| \[[^\]]+\]\(\.\./tinygrad_gru/([^)]+)\) \|", text, re.M))
    changes = re.findall(r"^\| (\d+) \| `([^`]+)` \| `[^`]+` \| `pytest ([^\s`]+)", text, re.M)
    assert [row for row, _, _ in changes] == list(files_by_row)
    for row, old, test in changes:
        assert old in (PACKAGE / files_by_row[row]).read_text(encoding="utf-8"), f"row {row}: {old}"
        assert (DOCS.parent / test).exists(), f"row {row}: {test}"


def test_files_of_tests_have_names_of_their_own():
    """Without packages, pytest imports two test files of one name as one module."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
