"""Line charts: points are where they should be, labels are round."""

from xml.etree import ElementTree

import numpy as np
import pytest

from tinygrad_gru.show.svg import line_chart

SVG = "{http://www.w3.org/2000/svg}"


def parts(chart):
    """The curves of a chart as lists of points, and its texts with their places."""
    tree = ElementTree.fromstring(chart)
    curves = [
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        for line in tree.iter(f"{SVG}polyline")
    ]
    return curves, {text.text: (float(text.attrib["x"]), float(text.attrib["y"])) for text in tree.iter(f"{SVG}text")}


def test_points_and_ticks_are_on_one_scale():
    x, y = np.array([0.0, 50.0, 100.0]), np.array([2.0, 1.0, 0.0])
    ((first, middle, last),), texts = parts(line_chart({"a<b": (x, y)}, "t & u", "step"))
    assert middle == pytest.approx(((first[0] + last[0]) / 2, (first[1] + last[1]) / 2))
    assert texts["0"][0] == first[0] or texts["100"][0] == last[0]
    assert texts["100"][0] == last[0] and texts["2"][1] == pytest.approx(first[1] + 4)
    assert {"20", "40", "60", "80", "0.5", "1", "1.5", "a<b", "t & u", "step"} <= texts.keys()
    assert first[1] < last[1], "y grows upwards"


def test_logarithmic_axes():
    x, y = 10.0 ** np.arange(-5, 1), np.array([1.0, 10, 100, 1000, -1, 0])
    (curve,), texts = parts(line_chart({"a": (x, y)}, "", "lr", log_x=True, log_y=True))
    assert len(curve) == 4, "what has no logarithm is left out"
    assert np.diff([point[0] for point in curve]) == pytest.approx(curve[1][0] - curve[0][0], abs=0.2)
    assert {"1e-05", "0.0001", "0.001", "0.01"} <= texts.keys() and {"1", "10", "100", "1000"} <= texts.keys()
    _, texts = parts(line_chart({"a": (np.arange(3), np.array([1.0, 3.0, 9.0]))}, "", "", log_y=True))
    assert {"1", "2", "5"} <= texts.keys() and "10" not in texts


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [-2.0, -2.0]])
def test_equal_values(values):
    (curve,), _ = parts(line_chart({"a": (np.arange(len(values)), np.array(values))}, "", ""))
    assert np.isfinite(curve).all()


@pytest.mark.parametrize("scale", [1e-9, 1.0, 12345.0, 1e12])
def test_there_are_a_few_ticks_at_any_scale(scale):
    for spread in np.geomspace(1.01, 99, 20):
        chart = line_chart({"a": (np.arange(2), np.array([0.3, 0.3 + spread]) * scale)}, "", "")
        assert 2 <= chart.count("opacity=") <= 7, spread


def test_nothing_to_draw():
    assert line_chart({"a": (np.zeros(1), np.array([np.nan]))}, "", "") == ""
    curves, texts = parts(line_chart({"a": np.zeros((2, 0)), "b": (np.zeros(1), np.ones(1))}, "", ""))
    assert len(curves) == 1 and "a" not in texts
