"""A resumed run goes on by the target that it began with, bit for bit; where it cannot, it says so."""

import numpy as np
import pytest

from tinygrad_gru import compiling, manual_seed, native, nn, ops, train
from tinygrad_gru.scan import modes, plan_cache

needs_llvm = pytest.mark.skipif(not native.is_available(), reason="needs llvmlite")
X = np.random.default_rng(0).standard_normal((64, 9, 3)).astype("float32")


@pytest.fixture(autouse=True)
def defaults(monkeypatch):
    monkeypatch.delenv(modes.VARIABLE, raising=False)
    yield
    modes._of_installed.cache_clear()
    modes._default.cache_clear()


def uninstall(monkeypatch):
    monkeypatch.setattr(native, "problem", lambda: "llvmlite is not installed")
    modes._of_installed.cache_clear()
    modes._default.cache_clear()


class Lines(train.Progress):
    def __init__(self):
        super().__init__()
        self.lines = []

    def write(self, text):
        self.lines.append(text)


def run(folder, steps, **settings):
    """The weights of a model after so many steps in all, its evaluations, and what was said of recurrences."""
    manual_seed(0)
    model = nn.Sequential(nn.GRU(3, 8, batch_first=True), nn.LastStep(), nn.Linear(8, 1))
    data, lines = (X, X.sum((1, 2))[:, None]), Lines()
    history = train.fit(
        model, ops.mse, data, validation=(X[:8], np.ones((8, 1))), steps=steps, batch_size=16, folder=folder,
        resume=True, seed=0, progress=lines, **settings,
    )  # fmt: skip
    weights = np.concatenate([part.numpy().ravel() for part in model.parameters()])
    return weights, history["validation_loss"], [line for line in lines.lines if line.startswith("recurrences")]


def recorded(folder):
    return train.load_checkpoint(folder / "checkpoint.safetensors")["trainer"]["compiled"]


MODES = ["numpy", "eager", pytest.param("llvm", marks=needs_llvm)]


@pytest.mark.parametrize("mode", MODES)
def test_it_goes_on_as_it_began(mode, tmp_path):
    """The block in which it began is gone when it is resumed."""
    with compiling(mode):
        whole, losses, _ = run(tmp_path / "whole", 6)
        run(tmp_path / "parts", 3)
    assert recorded(tmp_path / "parts") == mode
    resumed, again, said = run(tmp_path / "parts", 6)
    np.testing.assert_array_equal(resumed, whole)
    np.testing.assert_array_equal(again[-1], losses[-1])
    assert recorded(tmp_path / "parts") == mode and not any("rounding" in line for line in said)


@needs_llvm
@pytest.mark.parametrize("change", ["variable", "argument", "not installed"])
def test_what_changes_the_target_is_said(change, tmp_path, monkeypatch):
    whole, *_ = run(tmp_path / "whole", 6)
    run(tmp_path / "parts", 3)
    if change == "variable":
        monkeypatch.setenv(modes.VARIABLE, "numpy")
    if change == "not installed":
        uninstall(monkeypatch)
    settings = {"compiled": False} if change == "argument" else {}
    resumed, _, said = run(tmp_path / "parts", 6, **settings)
    np.testing.assert_allclose(resumed, whole, rtol=1e-4, atol=1e-5)
    now, reason = {
        "variable": ("numpy", "TINYGRAD_GRU_COMPILED=numpy"),
        "argument": ("eager", "compiled=False"),
        "not installed": ("numpy", "llvmlite is not installed"),
    }[change]
    assert said[0] == (
        f"recurrences ran by the target llvm so far, and run by {now} from here on ({reason}): the run goes on with "
        "results that are equal to rounding, not bit for bit"
    )
    assert recorded(tmp_path / "parts") == now


@needs_llvm
def test_the_number_of_threads_is_no_change(tmp_path):
    run(tmp_path, 3, compiled="llvm:1")
    assert recorded(tmp_path) == "llvm"
    assert not any("rounding" in line for line in run(tmp_path, 6)[2])


def test_a_checkpoint_of_an_earlier_version_was_made_by_numpy():
    default = modes.Mode("llvm", "llvmlite is installed", is_asked=False)
    assert modes.continued(None, None, default) == ("numpy", "")
    assert modes.continued(None, False, modes.mode_of(False)) == (False, "")
    assert modes.continued("numpy", None, default._replace(target="cuda"))[0] is None


def test_the_first_line_says_the_target_and_why_or_where_its_code_is_from(tmp_path, monkeypatch):
    """Once, and of a model without recurrences nothing."""
    monkeypatch.setattr(plan_cache, "_cache", plan_cache.PlanCache(8))
    with compiling("numpy"):
        assert run(tmp_path / "a", 2)[2] == ["recurrences: a program of NumPy's functions (compiling('numpy'))"]
        assert run(tmp_path / "b", 2)[2] == []
    lines = Lines()
    train.fit(nn.Linear(3, 1), ops.mse, (X[:, 0], X[:, 0, :1]), steps=2, progress=lines)
    assert not any(line.startswith("recurrences") for line in lines.lines)
    if native.is_available():
        monkeypatch.setenv("TINYGRAD_GRU_CACHE", str(tmp_path / "cache"))
        for words in ("compiled by this process", "loaded from the cache on disk"):
            native.function.cache_clear()
            monkeypatch.setattr(plan_cache, "_cache", plan_cache.PlanCache(8))
            (line,) = run(tmp_path / words, 2)[2]
            assert line.startswith("recurrences: machine code, compiled by LLVM (3 functions " + words)
