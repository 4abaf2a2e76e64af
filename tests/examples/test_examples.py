"""The examples: each runs as a user would run it, with quick settings, and its output is checked."""

import ast
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tinygrad_gru import load

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


@pytest.fixture
def run(tmp_path):
    """Runs an example in an empty folder and returns what it printed; a warning is an error."""

    def run_example(name, *arguments):
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-W", "error", ROOT / "examples" / f"{name}.py", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_example


def test_xor_by_hand(run):
    printed = run("xor_by_hand")
    assert re.findall(r"(\d) xor (\d) = (\d)", printed) == [tuple("000"), tuple("011"), tuple("101"), tuple("110")]
    losses = [float(loss) for loss in re.findall(r"loss (\d\.\d+)", printed)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.01
    by_tape, by_difference = map(float, re.search(r"∂W1\[0, 0\] = (\S+); .*: (\S+)", printed).groups())
    assert by_tape == pytest.approx(by_difference, rel=0.02)
    assert "matmul (4, 8)  <-  a constant, W1" in printed


def test_gru_from_the_paper(run):
    source = (ROOT / "examples" / "gru_from_the_paper.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 60
    printed = run("gru_from_the_paper")
    assert re.search(r"first derivatives agree: \d+ derivatives of order 1", printed)
    assert re.search(r"second derivatives agree: \d+ derivatives of order 2", printed)
    assert len(re.findall(r"^#\d+ \w+ \(2, 4\)  <-  ", printed, re.MULTILINE)) == 20
    assert len(re.findall(r"‖∂loss/∂\w+‖ = 0\.0+$", printed, re.MULTILINE)) == 0


def test_adding_problem(run):
    """Sequences short enough for the GRU and the LSTM to learn it in seconds; the result depends on the seed alone."""

    def figures(*arguments):
        rows = re.findall(
            r"^(RNN|GRU|LSTM) +([\d,]+) +[\d.]+ +([\d.]+)   (\S+)   (.*)$", run("adding_problem", *arguments), re.M
        )
        assert [row[0] for row in rows] == ["RNN", "GRU", "LSTM"]
        return rows

    rows = figures("--length", 8, "--steps", 500, "--hidden", 16)
    errors = {name: float(error) for name, _, error, _, _ in rows}
    assert max(errors["GRU"], errors["LSTM"]) < 0.01
    assert all(re.match(r"solved after [\d,]+ sequences", row[4]) for row in rows[1:])
    assert all(len(row[3]) == 32 for row in rows)

    few = ("--length", 8, "--steps", 20, "--hidden", 8)
    first = figures(*few)
    assert first == figures(*few) != figures(*few, "--seed", 1)
    assert first[0][4] == "no better than the baseline"


def test_gru_vs_lstm(run, tmp_path):
    text = "".join(f"{'do re mi fa so'[k % 12 :]} {k % 7}\n" for k in range(400))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    few = ("--text", "text.txt", "--hidden", 16, "--characters", 20480, "--evaluations", 2)
    printed = run("gru_vs_lstm", *few)
    rows = re.findall(r"^((?:GRU|LSTM) (\d+)[a-z, ]*?) +([\d,]+) +([\d.]+) +(\d\.\d{3})$", printed, re.M)
    parameters = [int(row[2].replace(",", "")) for row in rows]
    assert [row[1] for row in rows[:2]] == ["16", "16"] and 10 <= int(rows[2][1]) < 16
    assert parameters[1] > parameters[0]
    assert parameters[2] == pytest.approx(parameters[0], rel=0.05)
    assert all(0 < float(row[4]) < 4 for row in rows)
    assert len(re.findall(r"^LSTM .*: a step takes [\d.]+ times as long", printed, re.M)) == 2
    if "no plot" not in printed:
        assert (tmp_path / "runs" / "gru_vs_lstm.png").read_bytes().startswith(b"\x89PNG")


def test_watch_it_learn(run, tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "text.txt").write_text("do re mi fa so\n" * 800, encoding="utf-8")
    printed = run("watch_it_learn", "--text", "text.txt", "--hidden", 8, "--characters", 20480)
    assert re.search(r"after [\d,]+ characters, \d\.\d\d nats/char:\n\ndef ", printed)
    with image.open(tmp_path / "runs" / "watch_it_learn.gif") as picture:
        assert picture.n_frames > 5


def test_digits_by_row(run):
    if not find_spec("sklearn"):  # importing it takes as long as the example
        pytest.skip("needs scikit-learn")
    printed = run("digits_by_row", "--epochs", 10)
    share = float(re.search(r"held out: ([\d.]+)% right", printed)[1])
    assert share >= 96
    assert sum(map(int, re.findall(r" of (\d+)$", printed, re.M))) == 360
    assert len(re.findall(r"\d, predicted \d", printed)) == min(5, int(re.search(r"(\d+) of 360 wrong", printed)[1]))


def test_custom_cell(run, tmp_path):
    printed = run("custom_cell", "--length", 10, "--steps", 300, "--hidden", 16)
    assert re.search(r"first derivatives agree: \d+ derivatives of order 1", printed)
    assert re.search(r"second derivatives agree: \d+ derivatives of order 2", printed)
    rows = re.findall(r"^(\w+) +([\d,]+) +[\d.]+ +(\d\.\d+)$", printed, re.M)
    assert [row[0] for row in rows] == ["GRU", "MinGRU"]
    assert all(float(row[2]) < 0.08 for row in rows)
    targets, predictions = (
        list(map(float, text.split())) for text in re.findall(r"\[([^]]+)\]", printed.splitlines()[-1])
    )
    assert len(targets) == 5 and sum(abs(a - b) for a, b in zip(targets, predictions)) / 5 < 0.4
    assert (tmp_path / "runs" / "min_gru.npz").exists()


def test_weights_that_travel(run, tmp_path):
    pytest.importorskip("onnxruntime")
    printed = run("weights_that_travel")
    sums = re.findall(r"([\d,]+) \+ ([\d,]+) += +([\d,]+)   in onnxruntime +([\d,]+)   right", printed)
    assert len(sums) == 4
    for row in sums:
        one, other, ours, theirs = (int(number.replace(",", "")) for number in row)
        assert one + other == ours == theirs
    assert all(float(size) < 1e-4 for size in re.findall(r"(\d\.\de[+-]\d\d)$", printed, re.M))
    assert "no weights make one of them compute the other" in printed and "on the wrong side: 0" in printed
    assert (tmp_path / "runs" / "adder.onnx").exists()


@pytest.fixture
def package_of_recordings(tmp_path, monkeypatch):
    """A package that shadows aeon, with made-up recordings of three speakers, which fails if it is imported."""
    package = tmp_path / "packages" / "aeon"
    folder = package / "datasets" / "data" / "JapaneseVowels"
    folder.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('its files are read, and it is not imported')")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    random = np.random.default_rng(0)
    for part, count in (("TRAIN", 60), ("TEST", 30)):
        lines = ["#made up", "@problemName JapaneseVowels", "@equalLength false", "@classLabel true 1 2 3", "@data"]
        for number in range(count):
            sounds = random.normal([[-0.5], [number % 3]], 0.2, (2, random.integers(3, 9)))
            channels = [",".join(f"{value:.4f}" for value in channel) for channel in sounds]
            lines.append(":".join([*channels, str(number % 3 + 1)]))
        (folder / f"JapaneseVowels_{part}.ts").write_text("\n".join(lines) + "\n")
    return folder


def accuracies_of_speakers(printed):
    """The accuracies of the networks, after the output on padding is checked."""
    assert len(re.findall(r"^logits padded with .*: the same, bit for bit$", printed, re.M)) == 3
    assert float(re.search(r"by itself: (\S+)$", printed)[1]) < 1e-4
    rows = re.findall(r"^(GRU|LSTM), both directions +[\d,]+ +[\d.]+ +([\d.]+)%", printed, re.M)
    assert [name for name, _ in rows] == ["GRU", "LSTM"]
    return [float(share) for _, share in rows]


def test_speakers_by_vowel(run, package_of_recordings):
    printed = run("speakers_by_vowel", "--seeds", 1, "--batch", 10, "--hidden", 8)
    assert printed.startswith("60 and 30 recordings of 3 speakers")
    assert min(accuracies_of_speakers(printed)) >= 90


def test_speakers_by_vowel_on_the_real_recordings(run):
    if not any(map(find_spec, ("aeon", "sktime"))):
        pytest.skip("needs aeon or sktime")
    printed = run("speakers_by_vowel", "--seeds", 1, "--epochs", 10, "--hidden", 32)
    assert printed.startswith("270 and 370 recordings of 9 speakers")
    assert min(accuracies_of_speakers(printed)) > 94.1  # what the classifier of the paper gets


def test_speakers_by_vowel_without_recordings_names_the_package(run, package_of_recordings):
    package_of_recordings.rename(package_of_recordings.with_name("Others"))
    sktime = package_of_recordings.parents[3] / "sktime"
    sktime.mkdir()
    (sktime / "__init__.py").touch()
    with pytest.raises(AssertionError, match="pip install --no-deps aeon"):
        run("speakers_by_vowel")


def lines_of(example, function):
    """The lines of code of a function, without its docstring."""
    tree = ast.parse((ROOT / "examples" / f"{example}.py").read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    return found.end_lineno - found.body[1].lineno + 1


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder for packages that shadow installed ones."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    return tmp_path / "packages"


def errors_by_step(printed):
    rows = re.findall(r"^(\d) +(\d+\.\d+) +(\d+\.\d+)$", printed, re.M)
    assert [row[0] for row in rows] == ["1", "4", "7"]
    return [(float(network), float(as_today)) for _, network, as_today in rows]


def test_forecast_from_csv(run, tmp_path):
    """A made-up series with a period of eight steps, without a package."""
    assert lines_of("forecast_from_csv", "forecast") <= 12
    random = np.random.default_rng(0)
    load = 5 + 3 * np.sin(np.arange(400) * np.pi / 4) + random.normal(0, 0.1, 400)
    rows = "".join(f"{value:.3f};{day % 7}\n" for day, value in enumerate(load))
    (tmp_path / "load.csv").write_text(f"load;weekday\n{rows}")
    printed = run("forecast_from_csv", "--csv", "load.csv", "--columns", "load", "weekday", "--epochs", 15)
    assert "400 rows, 2 columns" in printed and "error of load in the 80 last windows" in printed
    assert all(network < 0.3 * as_today for network, as_today in errors_by_step(printed))


def test_forecast_from_csv_of_the_weather(run):
    if not find_spec("vega_datasets"):
        pytest.skip("needs vega_datasets: pip install --no-deps vega_datasets")
    printed = run("forecast_from_csv")
    assert "1461 rows, 6 columns" in printed
    assert all(network < as_today for network, as_today in errors_by_step(printed))


def shares_right(printed, *names):
    return [float(re.search(rf"^  {name} +([\d.]+)%$", printed, re.M)[1]) for name in names]


def test_classify_token_lists(run, packages):
    """Made-up names of two countries, which have the same letters in another order, so that counting them is no use."""
    assert lines_of("classify_token_lists", "classify") <= 15
    folder = packages / "pycountry" / "databases"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise SystemExit('its file is read, and it is not imported')")
    random = np.random.default_rng(0)
    names = ["".join(random.permutation(list("ao" * random.integers(1, 4)))) for _ in range(200)]
    places = [{"code": f"{'XY'[k % 2]}Z-{k}", "name": name + ["rik", "kir"][k % 2]} for k, name in enumerate(names)]
    (folder / "iso3166-2.json").write_text(json.dumps({"3166-2": places}))
    printed = run("classify_token_lists", "--countries", 2, "--epochs", 8, "--hidden", 8)
    network, by_letters, frequent = shares_right(printed, "network", "naive Bayes", "most frequent country")
    assert network >= 95 and by_letters <= 75 and frequent == 50
    assert len(re.findall(r"rik +XZ, predicted XZ$|kir +YZ, predicted YZ$", printed, re.M)) >= 7


def test_classify_token_lists_of_pycountry(run):
    if not find_spec("pycountry"):
        pytest.skip("needs pycountry: pip install pycountry")
    printed = run("classify_token_lists", "--epochs", 10)
    network, by_letters, frequent = shares_right(printed, "network", "naive Bayes", "most frequent country")
    assert network > by_letters > frequent


def test_label_sequences(run):
    printed = run("label_sequences", "--lines", 1500, "--epochs", 6, "--hidden", 32)
    network, by_character = shares_right(printed, "network", "most frequent label of the character")
    assert network > 85 and 40 < by_character < 75


def test_sequence_to_sequence(run):
    printed = run("sequence_to_sequence", "--dates", 2000, "--epochs", 4)
    by_rules, without, network = shares_right(printed, "strptime", "without attention", "with attention")
    assert without < by_rules < network and 60 < by_rules < 80
    shown = re.findall(r"^  .{28} (\d{4}-\d\d(?:-\d\d)?) +(\d{4}\S*)$", printed, re.M)
    assert len(shown) == 6 and sum(truth == translation for truth, translation in shown) >= 4


def test_fine_tune(run):
    """Fine-tuning is better than beginning anew; and the weights of one run are those that another one starts from."""

    def losses(characters, *arguments):
        printed = run("fine_tune", "--characters", characters, "--hidden", 64, *arguments)
        return [float(loss) for loss in re.findall(r"^  \D+ (\d\.\d{3})$", printed, re.M)]

    trigrams, beginner, knows_python, fine_tuned = losses(5000, "--pretraining", 400_000)
    assert fine_tuned < beginner < trigrams and fine_tuned < knows_python
    assert losses(600, "--from", "runs/pretrained.safetensors")[2] == knows_python


def test_modern_recurrences(run, tmp_path):
    """What the claims of the papers come to at a size of seconds: the linear cells guess at parity, the others know."""
    arguments = ("--runs", 1, "--steps", 200, "--length", 12, "--letters", 2, "--timed", 8, 16, "--repetitions", 1)
    printed = run("modern_recurrences", *arguments)
    assert len(re.findall(r"^ +\d+ +[\d.]+ +[\d.]+ +[\d.]+$", printed, re.M)) == 2
    one, two, _ = (float(share) for share in re.findall(r"^minGRU, \d layers? +([\d.]+) %", printed, re.M))
    assert 30 < one < two
    last = dict(re.findall(r"^(\w+) .* ([\d.]+) %  \([^)]+\)$", printed.partition("3. Parity")[2], re.M))
    assert all(float(last[name]) == 100 for name in ("GRU", "LSTM", "sLSTM"))
    assert all(40 < float(last[name]) < 60 for name in ("minGRU", "minLSTM", "LRU"))


def test_inside_your_cell(run, tmp_path):
    """A page of the trained model, which holds the lines of its step, and the weights in a file."""
    printed = run("inside_your_cell", "--steps", 25, "--hidden", 16, "--out", "inside.html")
    assert float(re.search(r"(\S+) nats/char; wrote inside.html", printed)[1]) < 4.2
    page = (tmp_path / "inside.html").read_text(encoding="utf-8")
    assert "h_tilde = tanh(x @ self.W_h + h @ self.U_h + self.b_h)" in page
    weights = load(tmp_path / "inside.safetensors")
    assert weights["recurrence.cells.0.U_z"].shape == (16, 16) and weights["output.W"].shape == (16, 97)


@pytest.mark.parametrize(
    ("example", "package"), [("forecast_from_csv", "vega_datasets"), ("classify_token_lists", "pycountry")]
)
def test_an_example_without_its_data_names_the_package(run, packages, example, package):
    packages.mkdir()
    (packages / f"{package}.py").touch()
    with pytest.raises(AssertionError, match=f"pip install (--no-deps )?{package}"):
        run(example)


def test_every_example_has_a_test_and_a_docstring():
    assert [f"test_{name}" for name in EXAMPLES if f"test_{name}" not in globals()] == []
    for name in EXAMPLES:
        source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
        text = ast.get_docstring(ast.parse(source))
        assert "What one learns here" in text and f"python examples/{name}.py" in text, name
