"""The commands `fit` and `predict`."""

from __future__ import annotations

import json
import re

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
    ],
)
def test_bad_input_is_explained(csv_file, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["fit", csv_file, *arguments, "--quiet"]) == 1
    assert message in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path, capsys):
    assert cli.main(["fit", str(tmp_path / "nothing.csv"), "--target", "x"]) == 1
    assert "nothing.csv" in capsys.readouterr().err
