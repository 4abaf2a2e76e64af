"""The report says what the numbers say, and no more."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from line_study import Line

from tinygrad_gru.reproduce import Outcome, Result, StepTime, claim, draw, report, shown, table, write_report
from tinygrad_gru.reproduce.statistics import Interval
from tinygrad_gru.show import PlotError

pytest.importorskip("scipy")


def outcome(small, large, *, ratio=0.5, quick=False, parameters=(2, 25), higher=False):
    study = Line()
    study.higher_is_better = higher
    results = {
        ("line", cell): [Result(count, value, [[0, 9.0], [10 * (k + 1), value]], {}) for k, value in enumerate(values)]
        for cell, values, count in (("small", small, parameters[0]), ("large", large, parameters[1]))
    }
    small_time = StepTime(1e-3 * ratio, 1e-4, ratio, ratio - 0.02, ratio + 0.02)
    times = {("line", "small"): small_time, ("line", "large"): StepTime(1e-3, 9e-4, 1.0, 1.0, 1.0)}
    baselines = {"line": {"baseline: nothing": 3.0}}
    return Outcome(study, quick, ["line"], len(small), results, times, baselines, "a laptop", study.settings)


@pytest.mark.parametrize(
    ("small", "large", "more", "words"),
    [([1.0, 1.1, 1.2], [1.0, 1.11, 1.2], {}, "for less” is supported. As well, yes: Small − Large is -0.00333"),
     ([1.0, 1.1, 1.2], [1.5, 1.61, 1.7], {}, ": Small is better. For less, yes: Small has 92.0% fewer"),
     ([1.0, 1.1, 1.2], [1.0, 1.11, 1.2], {"ratio": 1.03}, "is refuted. As well, yes: "),
     ([1.0, 1.1, 1.2], [1.0, 1.11, 1.2], {"ratio": 0.99}, "is undecided. As well, yes: "),
     ([1.5, 1.6, 1.71], [1.0, 1.1, 1.2], {}, "is refuted. As well, no: Small − Large is +0.503"),
     ([1.0, 1.3, 1.2], [1.2, 1.0, 1.3], {}, "is undecided. As well, undecided: "),
     ([1.0, 1.3, 1.2], [1.2, 1.0, 1.3], {"ratio": 1.03}, "is refuted. As well, undecided: "),
     ([1.5, 1.6, 1.71], [1.0, 1.1, 1.2], {"higher": True}, ": Small is better"),
     ([1.0, 1.1, 1.2], [1.5, 1.6, 1.71], {"higher": True}, ": Small is worse by more than 0.1"),
     ([1.0], [1.5], {}, "not tested, for one seed has no interval"),
     ([1.0, 1.1, 1.2], [1.5, 1.6, 1.7], {"quick": True}, "nothing follows from --quick")],
)  # fmt: skip
def test_the_claim_is_tested(small, large, more, words):
    assert words in claim(outcome(small, large, **more), "line")


@pytest.mark.parametrize(
    ("large", "higher", "words"),
    [([1.5, 1.61, 1.7], False, ". Small is better than Large: Small − Large is -0.503 (95% interval, paired by seed, "),
     ([1.5, 1.61, 1.7], True, ". Small is worse than Large: "),
     ([1.0, 1.3, 1.2], False, ". Which of Small and Large is better is undecided: ")],
)  # fmt: skip
def test_the_first_cell_is_compared_with_the_others(large, higher, words):
    found = outcome([1.0, 1.1, 1.2], large, higher=higher)
    found.study.claim = ("small", "large", "large")
    assert words in claim(found, "line")


def test_costs_are_in_the_sentence():
    assert "Small has 92.0% fewer parameters and takes 0.50 of the time" in claim(
        outcome([1.0, 1.1], [1.0, 1.2]), "line"
    )
    same = outcome([1.0, 1.1], [1.0, 1.2], parameters=(7, 7))
    assert "has as many parameters" in claim(same, "line")


def test_the_table_has_the_papers_figures_and_the_baselines():
    lines = table(outcome([1.0, 1.1, 1.2], [1.5, 1.6, 1.7]), "line")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[2] == ["Small, one layer", "2", "0.5 (0.1)", "1.10 ± 0.25", "0.5"]
    assert rows[3] == ["Large, two layers", "25", "1 (0.9)", "1.60 ± 0.25", "none"]
    assert rows[4] == ["baseline: nothing", "", "", "3", ""]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("interval", "text"),
    [((8.5432, 0.0213, 3), "8.543 ± 0.021"), ((8.5432, 2.13, 3), "8.5 ± 2.1"), ((41.2, 33.0, 3), "41 ± 33"),
     ((5.3e-5, 1.2e-6, 3), "5.3e-05 ± 1.2e-06"), ((0.25, 0.0, 3), "0.25 ± 0"), ((8.5432, float("nan"), 1), "8.543"),
     ((412.0, 330.0, 2), "412 ± 330"), ((12345.6, 2.0, 3), "12345.6 ± 2"), ((1e-9, 0.5, 3), "1e-09 ± 0.5")],
)  # fmt: skip
def test_figures_have_the_digits_that_mean_something(interval, text):
    assert shown(Interval(*interval)) == text


def test_the_report_says_how_and_where():
    text = report(outcome([1.0, 1.1, 1.2], [1.5, 1.6, 1.7]), "tinygrad-gru reproduce line")
    for words in (
        "MSE: averaged over all points",
        "Student's t with 2 degrees",
        "`tinygrad-gru reproduce line`",
        "a laptop",
    ):
        assert words in text
    assert "no result" not in text
    assert "no result" in report(outcome([1.0, 1.1], [1.5, 1.6], quick=True))
    assert "one seed, of which there is no confidence interval" in report(outcome([1.0], [1.5]))


def test_the_report_is_written_with_figures_and_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    text = write_report(outcome([1.0, 1.1], [1.5, 1.6]), tmp_path)
    assert (tmp_path / "report.md").read_text() == text
    figures = json.loads((tmp_path / "results.json").read_text())
    assert figures["tasks"]["line"]["cells"]["small"]["mean"] == pytest.approx(1.05)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    write_report(outcome([1.0], [1.5]), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["tasks"]["line"]["cells"]["small"]["half_width"] is None


def test_the_picture_has_every_cell_however_many_there_are(tmp_path):
    pytest.importorskip("matplotlib")
    found = outcome([1.0, 1.1], [1.5, 1.6])
    cells = {f"{k}": f"cell {k}" for k in range(12)}
    found.study.cells = cells
    found = replace(
        found,
        results={("line", cell): found.results["line", "small"] for cell in cells},
        baselines={"line": {"far": 1e6}},
    )
    figure = draw(found, tmp_path / "picture.png")
    assert [line.get_label() for line in figure.axes[0].lines] == list(cells.values())
    assert figure.axes[1].get_ylim()[1] < 10  # a baseline that is far away does not press the others together


def test_without_matplotlib_all_but_the_picture_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match="was not plotted"):
        write_report(outcome([1.0, 1.1], [1.5, 1.6]), tmp_path)
    assert (tmp_path / "report.md").exists() and (tmp_path / "results.json").exists()


def test_curves_that_were_not_finite_are_left_out_of_the_picture_and_null_in_the_figures(tmp_path):
    pytest.importorskip("matplotlib")
    found = outcome([1.0, 1.1], [1.5, 1.6])
    nan, inf = float("nan"), float("inf")
    found.results["line", "small"][0].curve[:1] = [[0, nan], [1, inf]]
    for curve in (found.results["line", "large"][0].curve, found.results["line", "large"][1].curve):
        curve[:] = [[0, nan]]
    write_report(found, tmp_path)
    runs = json.loads((tmp_path / "results.json").read_text())["tasks"]["line"]["cells"]["small"]["runs"]
    assert runs[0]["curve"] == [[0, None], [1, None], [10, 1.0]]


def test_a_task_on_which_all_seeds_diverged_is_in_the_report_and_the_picture(tmp_path):
    pytest.importorskip("matplotlib")
    nan = float("nan")
    found = outcome([nan, nan], [nan, nan])
    found.study.tasks = {"line": replace(found.study.tasks["line"], published={})}
    found = replace(found, diverged={key: ["at step 3"] * 2 for key in found.results})
    for results in found.results.values():
        results[:] = [result._replace(curve=[]) for result in results]
    text = write_report(found, tmp_path)
    assert text.count("diverged, with every seed") == 2 and (tmp_path / "picture.png").exists()
    assert "is undecided. As well, undecided: there is no seed by which to compare Small and Large, and" in text
