import sys

import numpy as np
import pytest

from tinygrad_gru.show.figures import PlotError, smooth
from tinygrad_gru.show.loss import _curve, plot_loss

RECORDS = [
    {"step": 0, "characters": 0, "held_out": 4.5},
    {"step": 1, "characters": 100, "loss": 4.0},
    {"step": 2, "characters": 200, "loss": 3.0},
    {"step": 2, "characters": 200, "held_out": 3.1},
]


@pytest.mark.parametrize("records", [RECORDS, RECORDS[:1], RECORDS[1:2]])
def test_plot_loss_writes_a_png(tmp_path, records):
    pytest.importorskip("matplotlib")
    plot_loss(tmp_path / "loss.png", records, {"unigram": 3.17, "bigram": 2.44}, "a run")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match=r"pip install 'tinygrad_gru\[plot\]'"):
        plot_loss(tmp_path / "loss.png", RECORDS, {}, "a run")
    assert not (tmp_path / "loss.png").exists()


def test_the_running_mean_is_over_previous_values():
    values = np.random.default_rng(0).random(400)
    expected = [values[max(0, end - 4) : end].mean() for end in range(1, 401)]
    assert np.allclose(smooth(values), expected)


def test_records_without_finite_values_are_skipped():
    records = [
        {"characters": 10**6, "loss": 2.0}, {"characters": None, "loss": 1.0}, {"loss": 1.0}, {"characters": 1},
        {"characters": 2 * 10**6, "loss": float("nan")}, {"characters": 3 * 10**6, "loss": float("inf")},
        {"characters": 4 * 10**6, "loss": 1}, {"step": 1},
    ]  # fmt: skip
    assert _curve(records, "loss").tolist() == [[1.0, 4.0], [2.0, 1.0]]
    assert _curve([], "loss").shape == (2, 0)
