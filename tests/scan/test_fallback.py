"""What is said of a step that is not compiled: which, where, why, what to write instead; once, and not without need."""

from __future__ import annotations

import gc
import warnings
from functools import partial
from itertools import count

import numpy as np
import pytest
from support.strict import STRICT

from tinygrad_gru import Tensor, compiling, detect_anomaly, explain, manual_seed, nn, ops, scan
from tinygrad_gru.scan import NotCompiledError, NotCompiledWarning, plan_cache

COUNT = 0


def branches(h, x):
    if ops.sum(x) > 100:
        return h
    return h + x


def counts(h, x):
    global COUNT
    COUNT += 1
    return h + x


def seeds(h, x):
    manual_seed(1)
    return ops.dropout(h, p=0.5) + x


def selects(h, x):
    return h + ops.sum(x[x > 0])


def writes(h, x):
    x[...] = 0
    return h + x


def start_and_xs():
    return Tensor(np.zeros(2)), Tensor(np.ones((3, 2)))


@pytest.mark.parametrize(
    ("step", "reason", "line", "advice"),
    [
        (branches, "from values that are known only when it runs", "if ops.sum(x) > 100:", "`ops.where"),
        (counts, "it changes the variable 'COUNT'", None, "a part of the carry"),
        (seeds, "it seeds the random numbers", None, "seed them before the scan"),
        (selects, "it selects by a mask", "return h + ops.sum(x[x > 0])", "`ops.where(mask, a, b)` keeps the shape"),
    ],
)
def test_the_warning_has_the_step_the_line_the_reason_and_the_remedy(step, reason, line, advice):
    with pytest.warns(NotCompiledWarning) as caught:
        scan(step, *start_and_xs())
    (warning,) = caught
    text = str(warning.message)
    assert f"`{step.__name__}` ({__file__}:{step.__code__.co_firstlineno})" in text
    assert reason in text and advice in text and "`compiled=False` says that this is meant" in text
    assert warning.filename == __file__
    first = step.__code__.co_firstlineno
    assert warning.lineno == first if line is None else first < warning.lineno and line in text
    assert reason in explain(step, *start_and_xs()) and advice in explain(step, *start_and_xs())


def test_a_step_is_warned_of_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            scan(branches, *start_and_xs())
        assert len(caught) == 1
        scan(seeds, *start_and_xs())
        assert len(caught) == 2


@pytest.mark.parametrize("step", [branches, seeds, counts])
def test_compiled_true_raises(step):
    message = rf"compiled=True, but the step `{step.__name__}` .*test_fallback.py:.* runs eagerly"
    with pytest.raises(NotCompiledError, match=message):
        scan(step, *start_and_xs(), compiled=True)
    with pytest.raises(NotCompiledError, match=message), compiling(True):
        scan(step, *start_and_xs())


def test_compiled_true_raises_the_error_of_the_step_itself():
    h, x = start_and_xs()
    with pytest.raises(ValueError, match="broadcast"):
        scan(lambda h, x: h + Tensor(np.ones(3)), h, x, compiled=True)
    with pytest.raises(ValueError, match="carry must keep its structure"):
        scan(lambda h, x: h.sum(), h, x, compiled=True)


class Branching(nn.GRUCell):
    def step(self, h, x):
        return super().step(h, x) if float(ops.sum(x)) < 100 else h


@pytest.mark.parametrize("options", [{}, {"lengths": [2, 3]}], ids=["dense", "lengths"])
def test_the_step_of_a_layer_is_named_by_its_cell(options):
    x = Tensor(np.ones((3, 2, 3), "float32"))
    with pytest.warns(NotCompiledWarning, match=r"`Branching\.step` .*float\(ops\.sum\(x\)\) < 100"):
        nn.Recurrent.of(Branching)(3, 4)(x, **options)
    with pytest.raises(NotCompiledError, match="Branching"):
        nn.Recurrent.of(Branching)(3, 4, compiled=True)(x, **options)


def test_nothing_is_said_of_what_the_library_decides():
    h, x = start_and_xs()
    scan(branches, h, x, compiled=False)
    with detect_anomaly():
        scan(branches, h, x)
        scan(branches, h, x, compiled=True)
    scan(lambda h, x: h + x @ np.ones((0, 2)), h, Tensor(np.ones((3, 0))), compiled=True)
    scan(lambda h, x: h + x, *(Tensor(STRICT.asarray(t.numpy())) for t in (h, x)))
    scan(partial(ops.gather, axis=0), h, Tensor(np.zeros((3, 2), int)))  # a step of the library
    inner = scan(lambda h, x: (scan(lambda a, b: a + b, h, Tensor(np.ones((2, 2))), compiled=True)[0], None), h, x)
    assert inner[0].tolist() == [6.0, 6.0]


def test_an_error_of_the_step_comes_before_the_warning():
    h, x = start_and_xs()
    with pytest.raises(ValueError, match="step 0 was given"):
        scan(lambda h, x: h if float(h[0]) == 0 else ops.sum(h), h + 1, x)


def test_a_step_that_is_not_compiled_leaves_no_cycle_of_arrays():
    h, x = start_and_xs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scan(branches, h, x)
        gc.collect()
        gc.disable()
        try:
            scan(branches, h, x)
            assert gc.collect() == 0
        finally:
            gc.enable()


def test_a_slow_compilation_is_logged_once(monkeypatch, caplog):
    """By a clock that is 0.2 s later whenever it is read: the programs forward and backward take as much each."""
    clock = count(step=0.2)
    monkeypatch.setattr(plan_cache, "perf_counter", lambda: next(clock))
    scale = Tensor([0.3, 0.6], requires_grad=True)

    def scaled(carry, x):
        h, c = carry
        return (h * scale + c, c + x), h * x

    def losses(*rows):
        (h, c), ys = scan(scaled, (Tensor(np.zeros((*rows, 2))),) * 2, Tensor(np.ones((3, *rows, 2))))
        return h.sum(), c.sum() + (ys * ys).sum(), ys.sum()

    losses()[0].backward()
    assert not caplog.records
    for rows in ((), (4,)):  # arrays of other shapes are compiled anew
        for i in (1, 2, 0):  # programs for other cotangents
            losses(*rows)[i].backward()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("tinygrad_gru.scan", "WARNING")
    assert f"compiling the step `{scaled.__qualname__.replace('.<locals>', '')}` ({__file__}:" in record.message
    assert "took 0.6 s" in record.message
