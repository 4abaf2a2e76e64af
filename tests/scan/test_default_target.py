"""Which target runs a step, by rule: the argument, the block, the environment variable, what is installed."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tinygrad_gru import NotCompiledError, Tensor, compiling, explain, manual_seed, native, nn, scan, zeros
from tinygrad_gru.scan import modes, plan_cache

needs_llvm = pytest.mark.skipif(not native.is_available(), reason="needs llvmlite")


@pytest.fixture
def installed(monkeypatch):
    """Tells the rule what is installed; without the environment variable of the tests."""
    monkeypatch.delenv(modes.VARIABLE, raising=False)

    def say(problem):
        monkeypatch.setattr(native, "problem", lambda: problem)
        monkeypatch.setattr(native, "is_available", lambda: not problem)
        modes._of_installed.cache_clear()
        modes._default.cache_clear()

    yield say
    modes._of_installed.cache_clear()
    modes._default.cache_clear()


def test_without_a_word_it_is_what_is_installed(installed):
    installed("")
    assert modes.mode_of() == ("llvm", "llvmlite is installed", False, False)
    installed("llvmlite is not installed")
    assert modes.mode_of() == ("numpy", "llvmlite is not installed", False, False)


def test_it_is_found_out_without_importing_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinygrad_gru.native.compiler", None)  # cannot be imported
    monkeypatch.setattr(native, "is_available", lambda: False)
    problem = native.problem.__wrapped__  # what it found before is of another environment
    assert problem() == "llvmlite is not installed: pip install tinygrad_gru[fast]"
    monkeypatch.setattr(native, "is_available", lambda: True)
    assert "llvmlite is installed and does not work" in problem()


@pytest.mark.parametrize("is_installed", [False, True])
@pytest.mark.parametrize(
    ("variable", "block", "argument", "target"),
    [
        ("numpy", None, None, "numpy"),
        ("eager", None, None, ""),
        ("llvm:2", None, None, "llvm:2"),
        ("llvm", False, None, ""),
        ("eager", "numpy", None, "numpy"),
        ("eager", "numpy", False, ""),
        ("eager", False, "llvm", "llvm"),
        ("numpy", False, True, "numpy"),
        ("numpy", True, None, "numpy"),
        ("llvm", "eager", "numba:2", "llvm:2"),
    ],
)
def test_an_argument_beats_a_block_which_beats_the_variable(
    variable, block, argument, target, is_installed, installed, monkeypatch
):
    installed("" if is_installed else "not here")
    monkeypatch.setenv(modes.VARIABLE, variable)
    with compiling(block) if is_installed or block != "llvm" else pytest.raises(ImportError):
        mode = modes.mode_of(argument)
    assert mode.target == target and mode.is_asked
    assert mode.strict is (argument is True or (argument is None and block is True))


def test_true_is_the_default_target_and_strict(installed):
    installed("")
    assert modes.mode_of(True)[:2] == ("llvm", "compiled=True, and llvmlite is installed")
    with compiling(True):
        assert modes.mode_of().strict and modes.mode_of().target == "llvm"

        def step(h, x):
            return h + 1 if h.item() > 0 else h + x

        with pytest.raises(NotCompiledError):
            scan(step, Tensor(0.0), Tensor([1.0]))


@pytest.mark.parametrize("wrong", ["fast", "cuda", "javascript", "llvm:0", "1", "True"])
def test_a_wrong_variable_is_an_error_that_lists_the_right_ones(wrong, installed, monkeypatch):
    installed("")
    monkeypatch.setenv(modes.VARIABLE, wrong)
    expected = (
        rf"TINYGRAD_GRU_COMPILED: expected 'llvm', 'llvm:2' \(for two threads\), 'numpy' or 'eager', got '{wrong}'"
    )
    with pytest.raises(ValueError, match=expected):
        scan(lambda h, x: h + x, Tensor(0.0), Tensor([1.0]))


@pytest.mark.parametrize("wrong", ["fast", 1, 0, ["llvm"], "llvm:"])
def test_a_wrong_argument_is_an_error_that_lists_the_right_ones(wrong):
    expected = r"compiled: expected True, False, 'cuda', 'llvm', 'llvm:2' \(for two threads\), 'numpy' or 'eager', got "
    with pytest.raises(ValueError, match=expected):
        scan(lambda h, x: h + x, Tensor(0.0), Tensor([1.0]), compiled=wrong)
    with pytest.raises(ValueError, match=expected), compiling(wrong):
        pass


def test_asking_for_what_is_not_installed_says_what_to_install(installed, monkeypatch):
    installed("llvmlite is not installed: pip install tinygrad_gru[fast]")
    for mode in ("llvm", "llvm:2", "numba"):
        with (
            pytest.raises(
                ImportError, match=rf"'{mode}'\) cannot run: llvmlite is .* pip install tinygrad_gru\[fast\]"
            ),
            compiling(mode),
        ):
            pass
    monkeypatch.setenv(modes.VARIABLE, "llvm")
    with pytest.raises(ImportError, match="TINYGRAD_GRU_COMPILED=llvm cannot run: llvmlite is not installed"):
        scan(lambda h, x: h + x, Tensor(0.0), Tensor([1.0]))


# -- what explain says -------------------------------------------------------------------------------------------------


def head(compiled=None, **shapes):
    cell = nn.GRUCell(3, 4, **shapes)
    text = explain(cell.step, cell.initial_state(2), zeros(5, 2, 3, **shapes), compiled=compiled)
    return text.partition("\n\n")[0]


def test_explain_says_the_target_and_why(installed, monkeypatch):
    assert head("numpy") == "Target numpy: a program of NumPy's functions (compiled='numpy')."
    installed("llvmlite is not installed: pip install tinygrad_gru[fast]")
    expected = "a program of NumPy's functions (llvmlite is not installed: pip install tinygrad_gru[fast])"
    assert head() == f"Target numpy: {expected}."
    with compiling(False):
        assert head().startswith(
            "Eager mode: every op runs at every step (compiling(False)). In compiled mode:\nTarget"
        )
    monkeypatch.setenv(modes.VARIABLE, "eager")
    assert "(TINYGRAD_GRU_COMPILED=eager)" in head()


@needs_llvm
def test_explain_says_where_machine_code_is_from(installed, monkeypatch, tmp_path):
    installed("")
    monkeypatch.setenv("TINYGRAD_GRU_CACHE", str(tmp_path))
    native.function.cache_clear()
    first = head()
    assert first.startswith("Target llvm: machine code, compiled by LLVM") and "(llvmlite is installed)" in first
    assert "Machine code: 2 functions compiled by this process in" in first
    assert "2 functions compiled by this process" in head(), "the same functions again"
    native.function.cache_clear()  # as in another process
    assert "Machine code: 2 functions loaded from the cache on disk in" in head()


@needs_llvm
def test_explain_says_what_llvm_does_not_compile(installed):
    installed("")
    text = head(dtype="float16")
    assert "llvm does not compile all of it" in text and "So its target is numpy: a program of NumPy's" in text


@needs_llvm
@pytest.mark.parametrize("error", [RuntimeError("LLVM cannot do it"), OSError("no memory may be executed")])
def test_a_failure_of_llvm_is_said_and_numpy_runs_the_step(error, installed, monkeypatch):
    def fail(text, *others, **options):
        raise error

    installed("")
    monkeypatch.setattr(native, "function", fail)
    monkeypatch.setattr(plan_cache, "_cache", plan_cache.PlanCache(8))
    with pytest.warns(RuntimeWarning, match="was not compiled to machine code, and runs more slowly by NumPy"):
        last, _ = scan(lambda h, x: h + x, Tensor(np.zeros(2)), Tensor(np.ones((3, 2))))
    assert last.tolist() == [3.0, 3.0]


@needs_llvm
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
@pytest.mark.parametrize("layer", [nn.GRU, nn.LSTM])
def test_two_threads_give_the_same_results_bit_for_bit(layer):
    x, results = Tensor(np.random.default_rng(0).standard_normal((9, 8, 6), dtype="float32")), []
    for mode in ("llvm", "llvm:2"):
        manual_seed(0)
        model = layer(6, 20, compiled=mode)
        y = model(x)[0]
        (y * y).sum().backward()
        results.append([y.numpy(), *(p.grad.numpy() for p in model.parameters())])
    for one, two in zip(*results):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "llvmlite",
    [
        "raise OSError('no shared library')",
        "__version__ = '0.43.0'\nclass binding:\n    llvm_version_info = (14, 0, 6)",  # numba 0.60's
    ],
)
def test_nothing_needs_an_llvmlite_that_does_not_work(tmp_path, llvmlite):
    """Layers, the optimizer, clipping, the cross-entropy and scattered gradients run by NumPy."""
    (tmp_path / "llvmlite").mkdir()
    (tmp_path / "llvmlite" / "__init__.py").write_text(llvmlite)
    program = (
        "import sys, numpy as np; sys.path.insert(0, sys.argv[1])\n"
        "from tinygrad_gru import Tensor, native, nn, ops, optim\n"
        "model = nn.Sequential(nn.Embedding(500, 100), nn.GRU(100, 4), nn.Linear(4, 2000))\n"
        "loss = ops.cross_entropy(model(np.ones((20, 30), int)), np.ones((20, 30), int)); loss.backward()\n"
        "optim.clip_gradient_norm(model.parameters(), 1.0); optim.Adam(model.parameters()).step()\n"
        "assert 'does not work' in native.problem()"
    )
    environment = {name: value for name, value in os.environ.items() if name != modes.VARIABLE}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, env=environment)
