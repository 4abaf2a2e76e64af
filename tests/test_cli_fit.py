"""The commands `fit` and `predict`."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest

from tinygrad_gru import cli

FEW = ["--window", "8", "--hidden", "8", "--epochs", "4"]


@pytest.fixture
def csv_file(tmp_path):
    rows = [f"2024-01-{k % 28 + 1:02};{10 + 3 * np.sin(k / 4):.4f};{'ab'[k // 3 % 2]}" for k in range(200)]
    (tmp_path / "data.csv").write_text("\n".join(["day;load;city", *rows]), encoding="utf-8")
    return str(tmp_path / "data.csv")


def test_a_forecast_writes_a_model_predictions_and_a_picture(csv_file, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "run"
    assert cli.main(["fit", csv_file, "--target", "load", *FEW, "--out", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "200 rows, 3 columns" in out and "not read: day (a date)" in out
    assert re.search(r"forecast of load from 8 rows of load, city\non the last 22 rows:\n  rmse +[\d.]+\n", out)
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 < summary["rmse"] < summary["rmse of the last value"] and summary["settings"]["target"] == "load"
    assert len((folder / "predictions.csv").read_text().splitlines()) == 23
    assert (folder / "fit.png").read_bytes().startswith(b"\x89PNG")

    assert cli.main(["predict", str(folder), csv_file]) == 0
    names, first, *others = capsys.readouterr().out.splitlines()
    assert names == "row,1 ahead" and first.startswith("7,") and others[-1].startswith("199,")


def test_a_run_goes_on_as_if_it_had_never_ended(csv_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    def fit(folder, epochs, *more):
        how = ["--target", "load", *FEW[:-1], epochs, "--dropout", "0.2", "--layers", "2", "--quiet", *more]
        return cli.main(["fit", csv_file, *how, "--out", str(tmp_path / folder)])

    assert fit("whole", "4") == 0
    assert (
        fit("parts", "2", "--resume", "auto")
        == fit("parts", "4", "--resume", "auto")
        == fit("parts", "4", "--resume")
        == 0
    )
    for name in ("log.jsonl", "model.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for change, words in (
        (["--lr", "0.5"], "other settings"),
        (["--dropout", "0.3"], "dropout of the run was 0.2, and is 0.3 now"),
    ):
        assert fit("parts", "4", "--resume", *change) == 1 and words in capsys.readouterr().err
    assert fit("nothing", "4", "--resume") == 1 and "there is no checkpoint" in capsys.readouterr().err


def test_a_class(csv_file, tmp_path, capsys):
    assert cli.main(["fit", csv_file, "--target", "city", *FEW, "--quiet", "--out", str(tmp_path / "run")]) in (0, 1)
    assert re.search(r"class of city from 8 rows of load\non the last 23 rows:\n  accuracy +", capsys.readouterr().out)
    assert cli.main(["predict", str(tmp_path / "run" / "model.safetensors"), csv_file]) == 0
    assert {line.split(",")[1] for line in capsys.readouterr().out.splitlines()[1:]} <= {"a", "b"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "laod"], "error: no column 'laod' (did you mean 'load'?)"),
        (["--target", "load", "--features", "town"], "error: no column 'town'"),
        (["--target", "load", "--window", "100"], "error: window: a part of 30 rows"),
        (["--target", "load", "--delimiter", ","], "error: no column 'load'"),
        (
            ["--target", "load", "--decimal", ","],
            "are numbers with decimal='.', thousands=',': give these (--decimal, --thousands)",
        ),
    ],
)
def test_bad_input_is_explained(csv_file, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["fit", csv_file, *arguments, "--quiet"]) == 1
    assert message in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path, capsys):
    assert cli.main(["fit", str(tmp_path / "nothing.csv"), "--target", "x"]) == 1
    assert "nothing.csv" in capsys.readouterr().err


def fit_of(text, tmp_path, *arguments, encoding="utf-8"):
    (tmp_path / "table.csv").write_text(text, encoding=encoding)
    return cli.main(["fit", str(tmp_path / "table.csv"), *FEW, "--out", str(tmp_path / "run"), *arguments])


def rows(*columns):
    return "\n".join([",".join(row) for row in zip(*columns)])


NUMBERS = [f"{np.sin(k / 4):.4f}" for k in range(120)]
CLASSES = [str(k // 5 % 2) for k in range(120)]


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (rows(["x", *NUMBERS], ["kind", "", *"ab" * 60]), ["--fill", "interpolate"], "(category) there is nothing"),
        (rows(["x", *NUMBERS[:3]]), [], "3 rows are too few to split into training, validation and test"),
        ("x\n1.234,5\n-\n-9\n", [*"--decimal , --thousands . --missing - --missing -9".split()], "3 rows are too few"),
        (rows(["x", *NUMBERS], ["kind", *["a"] * 120]), ["--target", "kind"], "'kind' is 'a' in all rows for training"),
        (rows(["x", *NUMBERS], ["kind", *"ab" * 60]).partition("\n")[2], [], "(--header yes or no)"),
        (rows(["x", *NUMBERS[:50], "", *NUMBERS[51:]], ["k", *CLASSES]), [], "or 'interpolate'; --fill), or leave"),
    ],
)
def test_a_table_that_does_not_do_is_explained(tmp_path, capsys, text, arguments, message):
    assert fit_of(text, tmp_path, "--target", "x", *arguments) == 1
    assert message in capsys.readouterr().err


def test_another_encoding_a_delimiter_by_its_name_and_no_header(tmp_path, capsys):
    text = rows(["größe", *NUMBERS], ["x", *NUMBERS]).replace(",", "\t")
    assert fit_of(text, tmp_path, "--target", "x", encoding="cp1252") == 1
    assert "(--encoding; or is it no text file?)" in capsys.readouterr().err
    assert fit_of(text, tmp_path, "--target", "x", "--encoding", "cp1252", "--delimiter", "tab", encoding="cp1252") == 0
    assert "rows of größe, x" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        fit_of(text, tmp_path, "--target", "x", "--delimiter", "ab")
    assert "expected one character, or tab, got 'ab'" in capsys.readouterr().err


def test_columns_without_names_have_numbers(tmp_path, capsys):
    assert fit_of(rows(NUMBERS, CLASSES), tmp_path, "--target", "column 0", "--header", "no", "--quiet") == 0
    assert cli.main(["predict", str(tmp_path / "run"), str(tmp_path / "table.csv"), "--header", "no"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"119,-?\d\.\d{1,10}", last)


@pytest.mark.parametrize(
    ("column", "arguments", "note"),
    [
        (CLASSES, [], "x has 2 values, and is forecast as a number: --task classify for its class\n"),
        (["7"] * 120, [], "x is 7 in all rows: there is nothing to forecast\n"),
        (CLASSES, ["--task", "forecast"], ""),
        (NUMBERS, [], ""),
    ],
)
def test_a_target_that_may_be_meant_otherwise_is_noted(tmp_path, capsys, column, arguments, note):
    fit_of(rows(["x", *column], ["y", *NUMBERS]), tmp_path, "--target", "x", *arguments)
    out = capsys.readouterr().out
    assert note in out and ("--task classify" in out) == ("--task classify" in note)


def test_a_file_that_is_missing_is_named_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["fit", "nothing.csv", "--target", "x"]) == 1
    assert capsys.readouterr().err == "error: nothing.csv: No such file or directory\n"


def test_options_of_other_programs_are_answered(capsys):
    for option, answer in (("--epochs", "--characters or --seconds"), ("--learning-rate", "--lr")):
        with pytest.raises(SystemExit):
            cli.main(["train", option, "3"])
        assert f"unrecognized arguments: {option} 3 (here it is {answer})" in capsys.readouterr().err
