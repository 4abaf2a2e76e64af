import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.samples import short_samples as short_samples

import tinygrad_gru
from tinygrad_gru import cli, compiling, ops
from tinygrad_gru.scan.modes import mode_of
from tinygrad_gru.testing import Mutant, MutationScore
from tinygrad_gru.train import Trainer, load_checkpoint, restore, save_checkpoint, trainer
from tinygrad_gru.train.folder import CHECKPOINT, LOG, read_log

SMALL = ["--embedding", "6", "--hidden", "10", "--batch", "4", "--window", "16", "--characters", "1280"]


@pytest.fixture
def pictures():
    """Asked for by tests of what is drawn; in others nothing is, which takes longer than their runs."""


@pytest.fixture(autouse=True)
def nothing_is_drawn(request, monkeypatch):
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(cli.train, "_plot", lambda folder, summary: None)


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"  line {number % 17} of {number % 5}\n" for number in range(80)), encoding="utf-8")
    return path


@pytest.fixture
def train(text_file, tmp_path):
    def run(*arguments):
        return cli.main(["train", "--text", str(text_file), "--out", str(tmp_path / "run"), *SMALL, *arguments])

    return run


def interrupt_at(monkeypatch, number):
    original = Trainer.step

    def step(self):
        if self.steps + 1 == number:
            signal.raise_signal(signal.SIGINT)
        return original(self)

    monkeypatch.setattr(Trainer, "step", step)


def test_train_writes_its_files_and_ends_with_a_summary(pictures, train, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert train() == 0
    out = capsys.readouterr().out
    assert "GRU, hidden 10" in out and "1,280 characters seen" in out and "(unigram)" in out and "    | " in out
    files = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert files == ["checkpoint.safetensors", "heartbeat.json", "log.jsonl", "loss.png", "summary.json"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert f"{summary['held_out']:.3f}" in out


def test_quiet_prints_the_summary_alone(train, capsys):
    assert train("--quiet") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("GRU, hidden 10")
    assert captured.err == ""


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_train_with_another_cell(train, capsys, cell):
    assert train("--cell", cell, "--layers", "2", "--dropout", "0.1", "--quiet") == 0
    assert cell.upper() in capsys.readouterr().out


def test_without_matplotlib_it_trains_and_says_what_to_install(pictures, train, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert train("--quiet") == 0
    assert "pip install" in capsys.readouterr().err
    assert (tmp_path / "run" / "summary.json").exists()


def test_ctrl_c_saves_and_prints_the_command_that_resumes(train, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        assert train("--quiet") == 130
    out = capsys.readouterr().out
    assert "the checkpoint holds step 5" in out
    command = re.search(r"python\S* -m tinygrad_gru (train --resume .*)", out)[1].split()
    assert cli.main([*command, "--quiet"]) == 0
    resumed = load_checkpoint(tmp_path / "run" / CHECKPOINT)["trainer"]["model"]
    (tmp_path / "run").rename(tmp_path / "interrupted")
    assert train("--quiet") == 0
    whole = load_checkpoint(tmp_path / "run" / CHECKPOINT)["trainer"]["model"]
    assert all((whole[name] == resumed[name]).all() for name in whole)


def test_a_run_is_not_overwritten(train, capsys):
    assert train("--quiet") == 0
    assert train("--quiet") == 1
    assert "holds a run already" in capsys.readouterr().err


def test_runs_without_a_folder_get_one_each(text_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        assert cli.main(["train", "--text", "text.txt", "--quiet", *SMALL]) == 0
        assert (tmp_path / "runs" / f"gru-{number}" / CHECKPOINT).exists()


def test_seconds_set_the_number_of_characters_before_the_run(text_file, tmp_path, capsys):
    size = ["--embedding", "4", "--hidden", "4", "--batch", "4", "--window", "16"]
    folder = tmp_path / "run"
    arguments = ["train", "--text", str(text_file), "--out", str(folder), *size, "--seconds", "0.05", "--quiet"]
    assert cli.main(arguments) == 0
    state = load_checkpoint(folder / CHECKPOINT)
    assert state["about"]["settings"]["characters"] != 3_200_000
    assert state["trainer"]["steps"] == max(1, state["about"]["settings"]["characters"] // 64)


def test_seconds_are_those_of_the_whole_run(text_file, tmp_path, capsys):
    arguments = ["train", "--text", str(text_file), "--out", str(tmp_path / "run"), *SMALL[:8], "--seconds", "1.5"]
    started = time.perf_counter()
    assert cli.main(arguments) == 0
    assert time.perf_counter() - started < 10  # a busy machine is slow; without a plan it would be far more characters
    assert re.search(r"^1\.5 s: [\d.]+ s to measure the speed, about [\d.]+ s of training on", capsys.readouterr().out)


def test_a_finished_run_goes_on_with_more_characters(train, tmp_path, capsys):
    assert train("--quiet") == 0
    resume = ["train", "--resume", "--out", str(tmp_path / "run")]
    assert cli.main([*resume, "--characters", "1000"]) == 1
    assert "characters: the run has already seen 1,280, got 1,000" in capsys.readouterr().err
    assert cli.main([*resume, "--characters", "2560"]) == 0
    out = capsys.readouterr().out
    assert "extended from 1,280 to 2,560 characters" in out and "2,560 characters seen" in out
    state = load_checkpoint(tmp_path / "run" / CHECKPOINT)
    assert state["about"]["extended_from"] == [1280] and state["trainer"]["steps"] == 40
    rates = [record["lr"] for record in read_log(tmp_path / "run" / LOG) if "lr" in record]
    assert rates[19] < rates[20] > rates[-1]  # from the end of one schedule to the middle of a longer one


def test_an_extended_run_that_is_interrupted_ends_as_one_that_is_not(train, tmp_path, monkeypatch):
    train("--quiet")
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    assert cli.main(["train", "--resume", "--out", str(tmp_path / "other"), "--quiet", "--characters", "2560"]) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)
        cli.main(["train", "--resume", "--out", str(tmp_path / "run"), "--quiet", "--characters", "2560"])
    assert cli.main(["train", "--resume", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    weights = [load_checkpoint(tmp_path / name / CHECKPOINT)["trainer"]["model"] for name in ("run", "other")]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_run_starts_from_the_weights_of_another(train, text_file, tmp_path, monkeypatch, capsys):
    train("--quiet")
    source = restore(tmp_path / "run")
    other = tmp_path / "other.txt"
    other.write_text(text_file.read_text(encoding="utf-8") + "ĀŽ" * 60, encoding="utf-8")
    arguments = [
        "train",
        "--text",
        str(other),
        "--from",
        str(tmp_path / "run"),
        "--out",
        str(tmp_path / "new"),
        "--quiet",
    ]
    assert cli.main([*arguments, "--hidden", "11"]) == 1
    assert "--hidden 11 differs from the run whose weights are the start, which has 10" in capsys.readouterr().err
    sizes = ["--batch", "4", "--window", "16", "--characters", "1280"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        assert cli.main([*arguments, *sizes, "--lr", "1e-30"]) == 130
    shutil.rmtree(tmp_path / "run")
    started = restore(tmp_path / "new")
    assert started.vocabulary.symbols == source.vocabulary.symbols + "ĀŽ"
    for (name, new), (_, old) in zip(started.model.named_tensors(), source.model.named_tensors()):
        np.testing.assert_array_equal(new.numpy()[tuple(map(slice, old.shape))], old.numpy(), err_msg=name)
    assert started.state["about"]["started_from"]["corpus"] == source.state["about"]["corpus"]["name"]
    assert cli.main(["train", "--resume", "--out", str(tmp_path / "new"), "--quiet"]) == 0


def test_generate_continues_a_prompt_and_a_seed_gives_one_text(train, tmp_path, capsys):
    train("--quiet")
    capsys.readouterr()
    texts = []
    for seed in ("3", "3", "4"):
        arguments = ["generate", str(tmp_path / "run"), "--prompt", "  line", "--length", "30", "--seed", seed]
        assert cli.main(arguments) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("  line") and len(texts[0]) == 6 + 30 + 1


def test_export_writes_a_graph_that_another_runtime_runs(train, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    train("--quiet")
    assert cli.main(["export", str(tmp_path / "run"), str(tmp_path / "model.onnx")]) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    assert [value.name for value in session.get_inputs()] == ["ids", "state"]
    assert "model.onnx" in capsys.readouterr().out


def test_export_writes_a_script_for_a_page(train, tmp_path, capsys):
    train("--quiet")
    assert cli.main(["export", str(tmp_path / "run"), str(tmp_path / "model.js")]) == 0
    script = (tmp_path / "model.js").read_text(encoding="utf-8")
    assert script.startswith("const tinygradModel = ") and '"vocabulary": ["' in script
    assert "model.js, which defines tinygradModel" in capsys.readouterr().out


def test_export_without_the_package_says_what_to_install(train, tmp_path, monkeypatch, capsys):
    train("--quiet")
    monkeypatch.setitem(sys.modules, "tinygrad_gru.interop.onnx", None)
    assert cli.main(["export", str(tmp_path / "run"), str(tmp_path / "model.onnx")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_info_without_a_checkpoint_prints_versions_and_backends(capsys):
    assert cli.main(["info"]) == 0
    assert re.search(r"backends +numpy", capsys.readouterr().out)


def test_info_escapes_control_characters(train, tmp_path, capsys):
    train("--quiet")
    state = load_checkpoint(tmp_path / "run" / CHECKPOINT)
    state["about"]["corpus"]["\x1b]0;name"] = "\x1b[2J\nforged line"
    save_checkpoint(tmp_path / "edited", state)
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "edited")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\\x1b[2J\\nforged line" in out


def test_info_prints_the_content_of_a_checkpoint(train, tmp_path, capsys):
    train("--quiet")
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "run" / CHECKPOINT)]) == 0
    out = capsys.readouterr().out
    for pattern in (r"steps +20\n", r"cell +gru\n", r"hidden +10\n", r"sha256 +[0-9a-f]{64}\n", r"numpy version +\d"):
        assert re.search(pattern, out), pattern


@pytest.mark.parametrize(("survivor", "status"), [("killed", 0), (None, 1)])
def test_check_mutants_prints_every_op_and_fails_if_a_wrong_rule_passes(monkeypatch, capsys, survivor, status):
    mutants = (
        Mutant("x", "wrong sign", "GradientError"),
        Mutant("x", "zero", survivor),
        Mutant("x", "flip", None, "same"),
    )
    scores = [MutationScore("tanh", mutants[:1]), MutationScore("exp", mutants)]
    monkeypatch.setattr(cli.check, "mutation_scores", lambda processes, names: scores)
    assert cli.main(["check", "--mutants"]) == status
    out = capsys.readouterr().out
    assert "ok    tanh: 1 of 1 mutants killed\n" in out
    assert out.endswith(f"{3 - status} of 3 mutants of 2 ops killed\n" + status * "not all of exp\n")
    assert ("FAIL  exp: 1 of 2 mutants killed, 1 more are equivalent\n  survived: rule of x, zero" in out) == status


def test_check_mutants_of_an_op_that_fails_unchanged(monkeypatch, capsys):
    monkeypatch.setattr(
        cli.check, "mutation_scores", lambda processes, names: [MutationScore("tanh", (), "GradientError: off")]
    )
    assert cli.main(["check", "--mutants"]) == 1
    assert "FAIL  tanh: the check of its unchanged rules fails" in capsys.readouterr().out


@pytest.mark.parametrize(("passed", "status"), [(True, 0), (False, 1)])
def test_check_prints_every_op_and_fails_if_one_does(monkeypatch, capsys, passed, status):
    asked = []
    results = [("tanh", True, ""), ("exp", passed, "off by 0.1 %")]
    monkeypatch.setattr(cli.check, "check_all", lambda backend, names: asked.append((backend.name, names)) or results)
    assert cli.main(["check", "--backend", "numpy"]) == status
    out = capsys.readouterr().out
    assert asked == [("numpy", None)]
    assert "ok    tanh\n" in out
    assert "FAIL  exp  off by 0.1 %\n" in out or passed
    assert out.endswith("all passed\n" if passed else "\n1 of 2 failed\n  exp: off by 0.1 %\n")


def test_check_takes_names(capsys):
    assert cli.main(["check", "exp", "relu"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["ok", "exp"], ["ok", "relu"], ["all", "passed"],
    ]  # fmt: skip


def test_check_of_an_unknown_name(capsys):
    assert cli.main(["check", "exp", "tahn"]) == 1
    assert "error: there is no op 'tahn' (did you mean 'tanh'?); there are: add, " in capsys.readouterr().err


def test_check_says_which_failure_is_due_to_which(capsys):
    """gelu is x σ(…), so a wrong rule of σ makes it fail; σ is checked, too, though it was not asked for."""
    right = dict(ops.sigmoid.rules)
    ops.sigmoid.vjp(x=lambda g, y: 2 * g * y * (1 - y))
    try:
        assert cli.main(["check", "relu", "gelu"]) == 1
    finally:
        ops.sigmoid.vjp(**right)
    *_, summary, cause, consequence = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"2 of \d+ failed", summary)
    assert cause.startswith("  sigmoid: GradientError: sigmoid at [(3, 4)]: ∂output[0, 0]")
    assert consequence == "  gelu: probably because sigmoid, which it calls, fails"


BAD = {
    "a missing text": (["train", "--text", "nowhere.txt"], "nowhere.txt"),
    "an empty text": (["train", "--text", "empty.txt"], "0 characters"),
    "a text shorter than one window": (["train", "--text", "short.txt"], "need at least 2049"),
    "a binary file": (["train", "--text", "binary"], "not UTF-8"),
    "a folder with an empty shard": (["train", "--text", "."], "empty.txt is empty: was this shard"),
    "a folder without a text": (["train", "--text", "nothing"], "the folder holds no .txt file"),
    "no hidden units": (["train", "--hidden", "0"], "hidden must be a whole number from 1 to"),
    "a negative seed": (["train", "--seed", "-1"], "seed must be a whole number from 0 to"),
    "400 digits of characters": (["train", "--characters", "9" * 400], "got a number of about 400 digits"),
    "more layers than memory": (["train", "--layers", str(10**9)], "layers must be a whole number from 1 to 1000"),
    "endless time": (
        ["train", "--text", "short.txt", "--seconds", "inf"],
        "seconds must be positive and at most 1e+09",
    ),
    "nearly endless time": (["train", "--text", "short.txt", "--seconds", "1e308"], "seconds must be positive"),
    "a device as a text": (["train", "--text", os.devnull], "is a device"),
    "10 characters": (
        ["train", "--text", "ten.txt", "--batch", "1", "--window", "4"],
        "holds 10 characters: too short",
    ),
    "19 characters": (["train", "--text", "19.txt", "--batch", "1", "--window", "4"], "holds 19 characters: too short"),
    "3,000 folders": (["train", "--text", "long.txt", "--out", "x/" * 3000], "File name too long"),
    "a name of 300 characters": (["train", "--text", "long.txt", "--out", "x" * 300], "File name too long"),
    "resume in 3,000 folders": (["train", "--resume", "--out", "x/" * 3000], "File name too long"),
    "no time": (["train", "--text", "short.txt", "--seconds", "0"], "seconds must be positive"),
    "an unknown backend": (["train", "--text", "short.txt", "--backend", "torch"], "unknown backend 'torch'"),
    "nothing to resume": (["train", "--resume", "--out", "nowhere"], "there is no checkpoint"),
    "resume without a folder": (["train", "--resume"], "--resume needs --out"),
    "resume for a time": (["train", "--resume", "--out", "x", "--seconds", "3"], "--seconds sets the length"),
    "a precision that the backend lacks": (
        ["train", "--text", "long.txt", "--precision", "bfloat16"],
        "precision: 'numpy' has no 'bfloat16', expected 'float32' or 'float16' there",
    ),
    "a file as a folder": (["train", "--text", "long.txt", "--out", "binary"], "binary"),
    "no checkpoint": (["generate", "nowhere"], "there is no checkpoint"),
    "a text as a checkpoint": (["generate", "short.txt"], "not a whole checkpoint"),
    "info on a binary file": (["info", "binary"], "not a whole checkpoint"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_explained_without_a_traceback(name, tmp_path, monkeypatch, capsys):
    arguments, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinygrad_gru.backend.numpy.bfloat16", lambda: None)  # as without ml_dtypes
    Path("nothing").mkdir()
    Path("empty.txt").touch()
    Path("short.txt").write_text("some words " * 20)
    Path("long.txt").write_text("some words " * 300)
    Path("ten.txt").write_text("0123456789")
    Path("19.txt").write_text("0123456789" * 2)
    os.truncate("19.txt", 19)
    Path("binary").write_bytes(bytes(range(128, 256)))
    before = sorted(os.listdir())
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and len(captured.err) < 600
    assert message in captured.err
    assert captured.out == ""
    assert sorted(os.listdir()) == before, "a run that never began leaves nothing behind"


def test_traceback_shows_where_an_error_came_from(tmp_path):
    with pytest.raises(FileNotFoundError):
        cli.main(["--traceback", "train", "--text", str(tmp_path / "nowhere.txt")])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["train", "--cell", "mgu"],
        ["train", "--precision", "half"],
        ["train", "--hidden", "many"],
        ["train", "--hidden", "9" * 5000],
        ["train", "--out", ""],
        ["train", "--text", ""],
        ["generate", ""],
        ["generate", "run", "--seed", "-1"],
        ["generate", "run", "--length", "9" * 400],
        ["export", "run", "a\0b"],
    ],
)
def test_invalid_arguments_print_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert "usage: tinygrad-gru" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["trian"], "'train'"),
        (["train", "--hiden", "3"], "'--hidden'"),
        (["train", "--cell", "grru"], "'gru'"),
        (["generate", "run", "--temprature", "1"], "'--temperature'"),
    ],
)
def test_what_was_probably_meant_is_named(arguments, meant, capsys):
    with pytest.raises(SystemExit):
        cli.main(arguments)
    assert f"(did you mean {meant}?)" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"tinygrad_gru {tinygrad_gru.__version__}\n"


def test_resuming_with_a_changed_setting_is_refused_and_with_an_equal_one_is_not(train, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        train("--quiet")
    resume = ["train", "--resume", "--out", str(tmp_path / "run"), "--quiet"]
    assert cli.main([*resume, "--hidden", "11"]) == 1
    assert "--hidden 11 differs from the run" in capsys.readouterr().err
    assert cli.main([*resume, "--hidden", "10"]) == 0


def test_a_run_in_float16_can_be_resumed_in_float32(train, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        train("--quiet", "--precision", "float16")
    resume = ["train", "--resume", "--out", str(tmp_path / "run"), "--quiet"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 10)
        cli.main(resume)
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "run")]) == 0
    assert re.search(r"precision +float16\n", capsys.readouterr().out)
    assert cli.main([*resume, "--precision", "float32"]) == 0
    assert "on numpy, float32\n" in capsys.readouterr().out


def test_a_run_in_eager_mode_can_be_resumed_compiled(train, tmp_path, monkeypatch, capsys):
    modes = []
    monkeypatch.setattr(trainer, "compiling", lambda mode: modes.append(mode) or compiling(mode))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        train("--quiet", "--compiled", "no")
    assert len(modes) >= 5 and set(modes) == {False}
    del modes[:]
    monkeypatch.delenv("TINYGRAD_GRU_COMPILED")
    assert cli.main(["train", "--resume", "--out", str(tmp_path / "run"), "--compiled", "yes"]) == 0
    assert len(modes) >= 5 and set(modes) == {mode_of().target}
    assert "ran by the target eager so far" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-7], "not a whole checkpoint"),
        (lambda content: b"x" + content, "not a whole checkpoint"),
        (lambda content: b"", "the file is empty"),
    ],
)
def test_a_damaged_checkpoint_is_refused(train, tmp_path, capsys, damage, message):
    train("--quiet")
    path = tmp_path / "run" / CHECKPOINT
    path.write_bytes(damage(path.read_bytes()))
    for arguments in (["train", "--resume", "--out", str(path.parent)], ["generate", str(path)], ["info", str(path)]):
        capsys.readouterr()
        assert cli.main(arguments) == 1
        assert message in capsys.readouterr().err


def test_a_disk_that_fills_up_is_explained_and_the_last_checkpoint_is_whole(train, tmp_path, monkeypatch, capsys):
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len([path for path in calls if "heartbeat" not in str(path)]) > 3:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert train("--quiet") == 1
    assert re.search(r"could not write the checkpoint .*No space left on device; .*unharmed", capsys.readouterr().err)
    assert load_checkpoint(tmp_path / "run" / CHECKPOINT)["trainer"]["steps"] == 6


def test_training_that_diverges_is_explained(train, tmp_path, monkeypatch, capsys):
    original = Trainer.step

    def step(self):
        if self.steps == 5:
            next(iter(self.model.parameters())).data[...] = float("nan")
        return original(self)

    monkeypatch.setattr(Trainer, "step", step)
    assert train("--quiet") == 3
    assert "training has diverged" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "run" / CHECKPOINT)["trainer"]["steps"] == 4


def test_a_second_ctrl_c_prints_what_is_saved(train, tmp_path, monkeypatch, capsys):
    def step(self):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        assert train("--quiet") == 130
    assert "stopped before the first checkpoint" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        train("--quiet")
    monkeypatch.setattr(Trainer, "step", step)
    capsys.readouterr()
    assert cli.main(["train", "--resume", "--out", str(tmp_path / "run"), "--quiet"]) == 130
    assert "the checkpoint holds step 5" in capsys.readouterr().out


def test_a_checkpoint_of_something_else_cannot_be_resumed(tmp_path, capsys):
    save_checkpoint(tmp_path / CHECKPOINT, {"numbers": [1, 2]})
    assert cli.main(["train", "--resume", "--out", str(tmp_path)]) == 1
    assert "does not hold a text model" in capsys.readouterr().err


def test_ctrl_c_outside_of_training_prints_no_traceback(monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.models, "restore", interrupted)
    assert cli.main(["generate", "run"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_closed_pipe_prints_no_error(train, tmp_path):
    train("--quiet")
    command = [sys.executable, "-m", "tinygrad_gru", "generate", str(tmp_path / "run"), "--length", "9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        program.stdout.close()
        assert program.stderr.read() == ""


def test_the_module_runs_as_a_program(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tinygrad_gru", "generate", str(tmp_path / "nothing")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no checkpoint") and done.stdout == ""


def program(*arguments):
    return [sys.executable, "-m", "tinygrad_gru", *map(str, arguments)]


@pytest.mark.skipif(os.name != "posix", reason="redirections of a POSIX shell")
@pytest.mark.parametrize("redirection", ["| head -1", ">&- 2>&-"])
def test_failing_output_does_not_affect_a_run(text_file, tmp_path, redirection):
    command = shlex.join(program("train", "--text", text_file, "--out", tmp_path / "run", *SMALL))
    done = subprocess.run(
        f"( {command} ; echo $? > {tmp_path}/status ) {redirection}", shell=True, capture_output=True, text=True
    )
    assert (tmp_path / "status").read_text() == "0\n"
    assert done.stderr == ""
    assert load_checkpoint(tmp_path / "run" / CHECKPOINT)["trainer"]["steps"] == 20
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["characters_seen"] == 1280
    assert len(read_log(tmp_path / "run" / "log.jsonl")) == 20 + 11


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_output_to_a_full_disk_does_not_affect_a_run_but_fails_other_commands(train, monkeypatch, capsys):
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert train() == 0
        full.flush()
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert cli.main(["info"]) == 1
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"


def test_resuming_a_run_of_another_process_is_refused(train, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        train("--quiet")
    capsys.readouterr()
    resume = ["train", "--resume", "--out", str(tmp_path / "run"), "--quiet"]
    hold = "import sys; from tinygrad_gru.train.folder import RunFolder\nwith RunFolder(sys.argv[1]): print(); input()"
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", hold, str(tmp_path / "run")], **pipes) as other:
        other.stdout.readline()
        assert cli.main(resume) == 1
        assert re.search(rf"error: .*run is in use by another run: .*process {other.pid} on", capsys.readouterr().err)
        assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before
        other.kill()
    assert cli.main(resume) == 0


def test_of_two_runs_started_at_once_in_a_folder_one_is_refused(text_file, tmp_path):
    """Both may check that the folder is free before either has started."""
    command = program("train", "--text", text_file, "--out", tmp_path / "run", "--quiet", *SMALL)
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [one.communicate()[1] for one in both]
    assert sorted(one.returncode for one in both) == [0, 1]
    assert re.search("in use by another run|holds a run already", "".join(errors))
    assert len(read_log(tmp_path / "run" / "log.jsonl")) == 20 + 11


def test_resuming_removes_files_that_a_kill_left_behind(train, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        train("--quiet")
    folder = tmp_path / "run"
    for name in (".lock", f".{CHECKPOINT}.0a1b2c3d.part", ".summary.json.0a1b2c3d.part"):
        (folder / name).write_text("process 1 on this machine")
    assert cli.main(["train", "--resume", "--out", str(folder), "--quiet"]) == 0
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="a device")
def test_export_to_a_device_does_not_replace_it(train, capsys, tmp_path):
    pytest.importorskip("onnx")
    train("--quiet")
    before = os.stat("/dev/null")
    assert cli.main(["export", str(tmp_path / "run"), "/dev/null"]) == 0
    assert os.path.samestat(os.stat("/dev/null"), before)


def test_training_on_a_text_of_20_characters(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("01234567890123456789")
    size = ["--embedding", "2", "--hidden", "2", "--batch", "1", "--window", "4", "--characters", "16"]
    assert cli.main(["train", "--text", str(tmp_path / "text.txt"), "--out", str(tmp_path / "run"), *size]) == 0
    assert "18 characters for training, 2 held out" in capsys.readouterr().out


def test_a_text_of_leading_spaces_has_no_loss_without_them(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(" " * 3000)
    size = ["--embedding", "2", "--hidden", "2", "--batch", "1", "--window", "4", "--characters", "16", "--quiet"]
    assert cli.main(["train", "--text", str(tmp_path / "text.txt"), "--out", str(tmp_path / "run"), *size]) == 0
    assert "nats/char\nn-gram baselines" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["held_out_without_leading_spaces"] is None


def test_a_run_resumes_with_a_moved_text_but_not_with_a_changed_one(train, text_file, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        train("--quiet")
    resume = ["train", "--resume", "--out", str(tmp_path / "run"), "--quiet"]
    moved = text_file.rename(tmp_path / "moved.txt")
    capsys.readouterr()
    assert cli.main(resume) == 1
    assert f"the run's text, {text_file}, is not there: if it was moved, give its --text" in capsys.readouterr().err
    (tmp_path / "other.txt").write_text(moved.read_text().replace("1", "2"))
    assert cli.main([*resume, "--text", str(tmp_path / "other.txt")]) == 1
    assert "a text that has changed since" in capsys.readouterr().err
    moved.write_text("\ufeff" + moved.read_text(), encoding="utf-8", newline="\r\n")
    assert cli.main([*resume, "--text", str(moved)]) == 0
    (tmp_path / "run").rename(tmp_path / "resumed")
    moved.rename(text_file)
    assert train("--quiet") == 0
    left, right = (load_checkpoint(tmp_path / name / CHECKPOINT)["trainer"]["model"] for name in ("run", "resumed"))
    assert all((left[name] == right[name]).all() for name in left)


@pytest.mark.parametrize(("lr", "status"), [("100", 3), ("0.006", 0)])
def test_a_run_that_has_not_learned_ends_with_a_diagnosis(train, tmp_path, capsys, lr, status):
    assert train("--quiet", "--lr", lr) == status
    errors = capsys.readouterr().err
    assert ("the model has not learned (the learning rate may be too high)" in errors) == bool(status)
    assert (tmp_path / "run" / "summary.json").exists()
