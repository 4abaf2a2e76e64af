"""A small run of the fuzzer for every format, and tests that it finds failures."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .run import read_one, run
from .target import FORMATS, Target, load_target

COUNT = 120
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fuzzer's alarm is a POSIX signal")


@pytest.fixture(scope="module", params=FORMATS)
def target(request):
    return load_target(request.param)


def test_seeds_are_accepted(target, tmp_path):
    path = tmp_path / f"seed{target.suffix}"
    for seed in [*target.seeds, *(part.wrap(seed) for part in target.parts for seed in part.seeds)]:
        path.write_bytes(seed)
        assert read_one(target, path) == ("accepted", "")


def test_mutations_are_refused_or_accepted(target, tmp_path):
    report = run(target, tmp_path, COUNT)
    assert not report.failures
    assert sum(report.counts.values()) == COUNT


def test_hypothesis_finds_no_failure(target, tmp_path):
    path = tmp_path / f"input{target.suffix}"

    @settings(
        max_examples=COUNT // 2, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.sampled_from(target.kinds()), st.randoms(use_true_random=False))
    def attack(kind, random):
        path.write_bytes(target.make(kind, random))
        outcome, detail = read_one(target, path)
        assert outcome != "failure", detail

    attack()


def test_inputs_are_reproducible_from_their_numbers(target):
    for _ in range(3):  # HDF5 files hold the second at which they were written
        begin = int(time.time())
        inputs = target.inputs(seed=3)
        first = [next(inputs) for _ in range(8)]
        seventh = next(target.inputs(seed=3, first=7))
        if int(time.time()) == begin:
            break
    assert seventh == first[7]


# -- the fuzzer itself ---------------------------------------------------------------------------------------------


class Documented(Exception):
    pass


def reads(function):
    return Target(".x", function, Documented, [b"seed"])


def opens_another_file(path: Path):
    Path(os.devnull).read_bytes()


def removes_another_file(path: Path):
    (path.parent.parent / "another").unlink(missing_ok=True)


def evaluates(path: Path):
    eval(compile("1 + 1", "<made>", "eval"))


def hides(path: Path):
    try:
        os.system("true")
    except Exception as error:
        raise Documented from error


def lasts(path: Path):
    began = time.process_time()
    while time.process_time() < began + 5:
        pass


def raises(error):
    def read(path):
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "failure"),
    [
        (opens_another_file, "touched open"),
        (removes_another_file, "touched os.remove"),
        (evaluates, "touched compile"),
        (hides, "touched os.system"),
        (raises(KeyError("x")), "KeyError"),
        (raises(MemoryError()), "MemoryError"),
        (raises(SystemExit(0)), "SystemExit"),
        (lasts, "more than 0.1 s"),
    ],
)
def test_the_fuzzer_finds_failures(tmp_path, monkeypatch, read, failure):
    monkeypatch.setattr("fuzz.run.SECONDS", 0.1)
    (tmp_path / "x").write_bytes(b"")
    outcome, detail = read_one(reads(read), tmp_path / "x")
    assert outcome == "failure" and detail.startswith(failure)


def test_the_fuzzer_distinguishes_refusals(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    assert read_one(reads(Path.read_bytes), tmp_path / "x") == ("accepted", "")
    assert read_one(reads(raises(Documented("no"))), tmp_path / "x") == ("refused", "")
    outside = Documented("damaged: IndexError")
    outside.__cause__ = IndexError()
    assert read_one(reads(raises(outside)), tmp_path / "x")[0] == "unexpected"


def test_generators_need_only_a_random_number_generator():
    assert Target(".x", Path.read_bytes, Documented, [b"seed"]).make("bytes", Random(0)) != b"seed"
