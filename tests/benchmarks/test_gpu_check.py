"""The GPU check (`python -m benchmarks.gpu`), rehearsed without a GPU: a mistake in it would waste GPU time."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.gpu import curves, parts
from benchmarks.gpu.__main__ import QUICK, main
from benchmarks.gpu.clock import DeviceClock, host_seconds
from benchmarks.gpu.kernels import KINDS
from benchmarks.gpu.machine import device_name, facts
from benchmarks.gpu.options import Failed, Failures, Options
from benchmarks.gpu.parts import EXTRA, PARTS, Outcome, Part, command_of, run_in_process, run_part
from benchmarks.gpu.report import Report
from benchmarks.timing import installed

REHEARSAL = Options("numpy", quick=True)
NEED_TORCH = {"recurrence", "cell", "kernels"}


@pytest.mark.parametrize("name", [name for name in (*PARTS, *EXTRA) if name not in ("contract", "tests", "memcheck")])
def test_every_part_runs_at_toy_sizes(name, capsys):
    expected = "PASS" if installed("torch") or name not in NEED_TORCH else "SKIP: PyTorch, "
    status = run_part(name, REHEARSAL)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(expected) and status == (expected != "PASS")
    assert len(lines) > 3 or expected != "PASS"


def test_memcheck_is_skipped_without_a_gpu(capsys):
    assert run_part("memcheck", REHEARSAL) == 1
    assert capsys.readouterr().out == "SKIP: there is no GPU\n"


def test_diverging_curves_fail(monkeypatch, capsys):
    losses = iter([np.ones(30), np.where(np.arange(30) < 25, 1.0, 1.02)])
    monkeypatch.setattr(curves, "curve", lambda *_, **__: next(losses))
    assert run_part("curves", REHEARSAL) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "FAIL: smoothed losses differ by 0.005 nats, 0.002 is allowed"


def test_the_test_suite_is_run_and_counted(monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.gpu.tests.FEW", ["tests/backend/test_select.py"])
    assert run_part("tests", REHEARSAL) == 0
    assert " passed" in capsys.readouterr().out


def test_a_failing_test_is_named(monkeypatch, capsys, tmp_path):
    (tmp_path / "test_wrong.py").write_text("def test_numpy_is_wrong():\n    assert 1 == 2\n")
    monkeypatch.setattr("benchmarks.gpu.tests.FEW", [str(tmp_path)])
    assert run_part("tests", REHEARSAL) == 1
    out = capsys.readouterr().out
    assert "test_wrong.py::test_numpy_is_wrong" in out and out.splitlines()[-1].startswith("FAIL: 1 failed")


@pytest.mark.parametrize("wrong", [ValueError("no\nsuch thing"), Failed("too slow")])
def test_an_exception_in_a_part_is_its_verdict(wrong, monkeypatch, capsys):
    def fails(options):
        print("something")
        raise wrong

    monkeypatch.setattr("benchmarks.gpu.contract.main", fails)
    assert run_part("contract", REHEARSAL) == 1
    expected = "FAIL: too slow" if isinstance(wrong, Failed) else "FAIL: ValueError: no"
    assert capsys.readouterr().out.splitlines() == ["something", expected]


def test_an_op_that_breaks_the_contract_is_named(monkeypatch, capsys):
    results = [("tanh", True, ""), ("sin", False, "wrong")]
    monkeypatch.setattr("benchmarks.gpu.contract.check_all", lambda backend: results)
    assert run_part("contract", REHEARSAL) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "FAIL: 1 of 2 ops: sin"


@pytest.mark.parametrize(
    "program, verdict, reason, lines",
    [
        ("print('a'); print('PASS')", "PASS", "", ["a"]),
        ("print('a'); print('FAIL: too slow'); exit(1)", "FAIL", "too slow", ["a"]),
        ("print('SKIP: no torch'); exit(1)", "SKIP", "no torch", []),
        ("print('a', flush=True); import os; os.abort()", "FAIL", "its process ended with signal SIGABRT", ["a"]),
        ("exit(3)", "FAIL", "its process ended with status 3", []),
    ],
)
def test_the_outcome_of_a_process(program, verdict, reason, lines):
    outcome = run_in_process([sys.executable, "-c", program], 60)
    assert (outcome.verdict, outcome.reason, outcome.lines) == (verdict, reason, lines)


def test_a_part_that_times_out_is_killed_with_its_children_and_keeps_its_output():
    child = "import time; time.sleep(60)"
    program = f"import subprocess, sys; print('a', flush=True); subprocess.run([sys.executable, '-c', '{child}'])"
    start = time.monotonic()
    outcome = run_in_process([sys.executable, "-c", program], 1.0)
    assert time.monotonic() - start < 30
    assert (outcome.verdict, outcome.reason, outcome.lines) == ("FAIL", "timed out after 1 s", ["a"])


def test_an_interruption_kills_running_parts(monkeypatch):
    """Ctrl-C reaches this process alone, because the others are in sessions of their own."""
    stopped = []

    def run(command, seconds, echo, stop):
        name = command[command.index("--part") + 1]
        if name == "lockstep":
            raise KeyboardInterrupt
        if name != "machine":
            stopped.append(run_in_process([sys.executable, "-c", "import time; time.sleep(60)"], 60, echo, stop))
        return Outcome("PASS", "", 0.0, ["| device | NVIDIA X |"])

    monkeypatch.setattr("benchmarks.gpu.__main__.run_in_process", run)
    with pytest.raises(KeyboardInterrupt):
        main(["--only", "contract,lockstep", "--jobs", "2"])
    assert all(outcome.seconds < 30 for outcome in stopped)


def test_the_report_is_written_after_every_part(tmp_path):
    report = Report("python -m benchmarks.gpu", tmp_path / "results")
    report.device = "NVIDIA H100 80GB HBM3"
    report.add("lockstep", PARTS["lockstep"], Outcome("PASS", "", 12.3, ["| a |", ""]))
    path = tmp_path / "results" / "gpu-nvidia-h100-80gb-hbm3.md"
    assert "| a |" in path.read_text() and not report.failed
    report.add("tests", PARTS["tests"], Outcome("FAIL", "3 | 4 failed", 5.0, []))
    text = path.read_text()
    assert report.failed and "| a |" in text and "| lockstep | PASS | 12 |" in text
    assert "| tests | FAIL | 5 | Tests: 3 \\| 4 failed |" in text and "**FAIL**: 3 | 4 failed" in text


def test_the_command_runs_all_parts_and_writes_the_report(monkeypatch, tmp_path, capsys):
    """After a failure the next part runs; the report is named after the device; the verdicts are printed last."""
    asked = []

    def run(command, seconds, *_):
        name = command[command.index("--part") + 1]
        asked.append((name, "--quick" in command, seconds))
        lines = ["| device | NVIDIA X |"] if name == "machine" else [f"of {name}"]
        return Outcome("FAIL" if name == "cell" else "PASS", "slow" if name == "cell" else "", 1.0, lines)

    monkeypatch.setattr("benchmarks.gpu.__main__.run_in_process", run)
    monkeypatch.setattr("benchmarks.gpu.__main__.RESULTS", tmp_path / "results")
    assert main(["--only", "cell,ablation", "--quick", "--out", str(tmp_path)]) == 1
    assert [name for name, _, _ in asked] == ["machine", "cell", "ablation"] and all(quick for _, quick, _ in asked)
    assert asked[1][2] == PARTS["cell"].quick_seconds
    text = (tmp_path / "gpu-nvidia-x.md").read_text()
    assert "`python -m benchmarks.gpu --quick --only cell,ablation`" in text and "of ablation" in text
    last = capsys.readouterr().out.splitlines()[-5:]
    assert [line.split(" | ")[1] for line in last[:3]] == ["PASS", "FAIL", "PASS"]
    assert last[4] == f"written to {tmp_path / 'gpu-nvidia-x.md'}"
    assert main(["--only", "training"]) == 0
    asked.clear()
    main([])
    assert [name for name, _, _ in asked] == list(PARTS) and (tmp_path / "results" / "gpu-nvidia-x.md").exists()
    main(["--ablate"])
    assert asked[-1][0] == "ablation"


def test_parts_after_the_time_limit_fail(monkeypatch, tmp_path):
    def run(*_):
        monkeypatch.setattr("benchmarks.gpu.__main__.time.monotonic", lambda: float("inf"))
        return Outcome("PASS", "", 0.0, ["| device | NVIDIA X |"])

    monkeypatch.setattr("benchmarks.gpu.__main__.run_in_process", run)
    assert main(["--only", "cell,tests", "--seconds", "10", "--out", str(tmp_path)]) == 1
    assert (tmp_path / "gpu-nvidia-x.md").read_text().count("**FAIL**: no time was left for it") == 2


def test_without_a_device_one_reason_is_printed_and_no_report_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("benchmarks.gpu.__main__.run_in_process", lambda *_: Outcome("FAIL", "no CuPy", 0.0, []))
    assert main(["--out", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "FAIL: no CuPy\n" and not list(tmp_path.iterdir())


def test_unknown_parts_are_refused():
    with pytest.raises(SystemExit, match="unknown part nothing; the parts are machine, lockstep"):
        main(["--only", "cell,nothing"])


def test_rehearsals_and_single_parts_write_no_report(monkeypatch, tmp_path):
    passed = Outcome("PASS", "", 0.0, ["| device | NVIDIA X |"])
    monkeypatch.setattr("benchmarks.gpu.__main__.run_in_process", lambda *_: passed)
    monkeypatch.setattr("benchmarks.gpu.__main__.RESULTS", tmp_path)
    for arguments in (["--backend", "numpy"], ["--only", "cell"]):
        main(arguments)
    assert not list(tmp_path.iterdir())
    main([])
    assert [path.name for path in tmp_path.iterdir()] == ["gpu-nvidia-x.md"]


def test_proofs_run_in_parallel_and_measurements_alone(monkeypatch, capsys):
    running, together = set(), []

    def run(command, *_):
        name = command[command.index("--part") + 1]
        running.add(name)
        time.sleep(0.05)
        together.append((name, len(running)))
        time.sleep(0.05)
        running.discard(name)
        return Outcome("PASS", "", 0.1, ["| device | NVIDIA X |", f"lines of {name}"])

    monkeypatch.setattr("benchmarks.gpu.__main__.run_in_process", run)
    main(["--backend", "numpy", "--jobs", "6"])
    most = dict(together)
    assert all(most[name] == 1 for name, part in PARTS.items() if not part.proof)
    assert max(most[name] for name, part in PARTS.items() if part.proof) > 1
    assert "lines of tests" in capsys.readouterr().out  # printed when it ended


def test_quick_time_limits_fit_into_the_total():
    """Proofs run in parallel."""
    proofs = [part.quick_seconds for part in PARTS.values() if part.proof]
    assert max(proofs) + sum(part.quick_seconds for part in PARTS.values() if not part.proof) <= QUICK


def test_commands_and_torch_devices():
    assert command_of("cell", Options("cupy:1", quick=True))[2:] == [
        "-m", "benchmarks.gpu", "--part", "cell", "--backend", "cupy:1", "--quick",
    ]  # fmt: skip
    assert [Options(name).torch_device for name in ("numpy", "cupy", "cupy:1", "cuda")] == [
        "cpu", "cuda", "cuda:1", "cuda",
    ]  # fmt: skip


def test_failures_are_collected_and_raised_at_the_end(capsys):
    failures = Failures()
    failures.raise_if_any()
    with failures.collect("a row"):
        raise ValueError("first\nsecond")
    failures.append("slow")
    with pytest.raises(Failed, match=r"^a row: ValueError: first; slow$"):
        failures.raise_if_any()
    assert "first\nsecond" in capsys.readouterr().out


class FakeCuda:
    """A fake of `cupy.cuda` whose device works for some milliseconds per call."""

    def __init__(self, milliseconds):
        self.now = 0.0
        self.milliseconds = milliseconds
        cuda = self

        class Event:
            def record(self):
                self.at = cuda.now

            def synchronize(self):
                pass

        self.Event = Event

    def get_elapsed_time(self, start, end):
        return end.at - start.at

    def work(self):
        self.now += self.milliseconds


def test_the_device_clock_times_by_events(monkeypatch):
    cuda = FakeCuda(2.0)
    waits = []
    backend = SimpleNamespace(xp=SimpleNamespace(cuda=cuda), synchronize=lambda: waits.append(1))
    calls = []

    def run():
        calls.append(1)
        cuda.work()

    clock = DeviceClock(backend)
    assert clock(run, 0.01) == pytest.approx(2e-3)
    assert len(calls) == 1 + 1 + 5  # a warm-up, one to choose the number of calls, and the measurement
    calls.clear()
    assert clock(run, 0.01) == pytest.approx(2e-3) and len(calls) == 5
    late = iter([0.0, 5.0])
    monkeypatch.setattr("benchmarks.gpu.clock.time.perf_counter", lambda: next(late))
    with pytest.raises(RuntimeError, match=r"worked for 5\.000 s after the last event"):
        clock(run, 0.01)


def test_host_seconds():
    assert host_seconds(lambda: time.sleep(0.01), REHEARSAL, calls=2) >= 0.01


def test_facts_of_a_gpu(monkeypatch):
    runtime = SimpleNamespace(
        getDeviceProperties=lambda index: {"name": b"NVIDIA X"}, driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 12090,
    )  # fmt: skip
    xp = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime), __name__="cupy", __version__="14.2.0")
    backend = SimpleNamespace(xp=xp, device=SimpleNamespace(id=0, pci_bus_id="0000:01:00.0"))
    monkeypatch.setattr("benchmarks.gpu.machine.resolve", lambda name: backend)
    monkeypatch.setattr("benchmarks.gpu.machine.shutil.which", lambda name: name)
    answers = iter([(0, "580.159.04, 81559 MiB, 1980 MHz, 2619 MHz\n"), (6, "no such device")])

    def ask(command, **settings):
        status, text = next(answers)
        return SimpleNamespace(returncode=status, stdout=text, stderr="")

    monkeypatch.setattr("benchmarks.gpu.machine.subprocess.run", ask)
    found = facts(Options("cupy"))
    assert device_name(Options("cupy")) == "NVIDIA X" and found["driver"] == "580.159.04" and found["cupy"] == "14.2.0"
    assert found["CUDA"] == "driver 13.0, runtime 12.9" and found["maximum clocks"] == "1980 MHz and 2619 MHz (memory)"
    assert "no such device" in facts(Options("cupy"))["driver"]


@pytest.mark.parametrize(
    "kernel, kind",
    [
        ("sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize32x32x8", "products"),
        ("nvjet_tst_128x8_64x12_4x1_v_bz_TNT", "products"),
        ("void cutlass::Kernel2<cutlass_80_simt_sgemm_128x64_8x5_nn_align1>", "products"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float>", "products"),
        ("void gemv2T_kernel_val<int, float>", "products"),
        ("Memcpy DtoD (Device -> Device)", "copies"),
        ("Memset (Device)", "copies"),
        ("cupy_tanh__float32_float32", None),
        ("void GRU_elementWise_bp1<float, float, float, cudnn::detail::NO_TENSOR>", None),
    ],
)
def test_kernels_are_classified_by_their_names(kernel, kind):
    assert next((kind for kind, names in KINDS.items() if names.search(kernel)), None) == kind


def test_every_part_has_a_module():
    assert isinstance(PARTS["machine"], Part) and set(PARTS).isdisjoint(EXTRA)
    for name in (*PARTS, *EXTRA):
        assert callable(parts.importlib.import_module(f"benchmarks.gpu.{name}").main)
