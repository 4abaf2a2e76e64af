"""`tinygrad-gru show`: each picture of a trained model in one line."""

import sys

import pytest

from tinygrad_gru.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("show")
    (folder / "text.txt").write_text("the cat sat on the mat. " * 200)
    command = "train --characters 1500 --hidden 6 --embedding 4 --batch 4 --window 16 --evaluations 1 --quiet"
    assert main([*command.split(), "--text", str(folder / "text.txt"), "--out", str(folder / "run")]) == 0
    return str(folder / "run")


@pytest.mark.parametrize(
    "command", ["gates RUN --names r,h --cell 0", "saturation RUN", "reach RUN", "loss RUN", "loss RUN RUN", "tape RUN"]
)
def test_each_picture_is_written(run, command, tmp_path, capsys):
    name = command.partition(" ")[0]
    if name != "tape":
        pytest.importorskip("matplotlib")
    out = tmp_path / ("tape.svg" if name == "tape" else f"{name}.png")
    text = [] if name == "loss" else ["--text", "the cat"]
    assert main(["show", *command.replace("RUN", run).split(), *text, "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    assert out.read_bytes().startswith(b"<svg" if name == "tape" else b"\x89PNG")


def test_the_tape_is_printed_and_a_text_may_be_in_a_file(run, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("the cat sat")
    assert main(["show", "tape", run, "--file", str(tmp_path / "a.txt")]) == 0
    printed = capsys.readouterr().out
    assert "× 10 steps" in printed and "h_tilde = tanh(" in printed and "W_z = leaf" in printed


def test_errors_are_a_line(run, capsys, monkeypatch):
    assert main(["show", "gates", run, "--text", "the", "--names", "q"]) == 1
    assert "error: names: the step GRUCell.step has no Tensor named 'q'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["show", "gates", run, "--text", "the"]) == 1
    assert "pip install 'tinygrad_gru[plot]'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["show", "gates", run])
    assert "--text --file" in capsys.readouterr().err
