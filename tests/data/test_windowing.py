import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_gru.data import split_by_time, windows


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 20), st.sampled_from([(), (1,), (3,)]))
def test_windows_are_the_steps_that_the_docstring_says(width, horizon, stride, spare, features):
    steps = width + horizon + spare
    series = np.random.default_rng(0).standard_normal((steps, *features))
    targets = np.random.default_rng(1).standard_normal((steps, 2))
    x, y = windows(series, width, horizon, stride)
    _, of_targets = windows(series, width, horizon, stride, targets)
    assert len(x) == len(y) == len(of_targets) == (steps - width - horizon) // stride + 1
    for n in range(len(x)):
        s = n * stride
        assert np.array_equal(x[n], series[s : s + width].reshape(width, -1))
        assert np.array_equal(y[n], series[s + width : s + width + horizon].reshape(horizon, -1))
        assert np.array_equal(of_targets[n], targets[s + width : s + width + horizon])


def test_no_target_is_among_its_inputs():
    time = np.arange(50.0)
    for width, horizon, stride in ((7, 1, 1), (3, 4, 2), (1, 1, 5)):
        x, y = windows(time, width, horizon, stride)
        assert (x.max(axis=(1, 2)) + 1 == y.min(axis=(1, 2))).all()


def test_windows_of_the_parts_of_a_series_share_no_step():
    training, test = split_by_time(np.arange(100.0), 0.7)
    seen = np.concatenate([part.ravel() for part in windows(training, 5, 2)])
    new = np.concatenate([part.ravel() for part in windows(test, 5, 2)])
    assert seen.max() < 70 <= new.min()


def test_windows_of_one_series_are_views_that_cannot_be_written_to():
    series = np.zeros((1000, 3), np.float32)
    x, y = windows(series, 100)
    assert x.dtype == y.dtype == np.float32
    assert np.shares_memory(x, series) and np.shares_memory(y, series)
    with pytest.raises(ValueError, match="read-only"):
        x[0, 0] = 1


def test_windows_of_several_series_span_none_of_them():
    several = [np.arange(5.0), 100 + np.arange(4.0)]
    x, y = windows(several, width=2, horizon=2)
    assert x[:, :, 0].tolist() == [[0, 1], [1, 2], [100, 101]]
    assert y[:, :, 0].tolist() == [[2, 3], [3, 4], [102, 103]]
    _, y = windows([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], 2, targets=[[7.0, 8.0, 9.0], [6.0, 5.0, 4.0]])
    assert y.ravel().tolist() == [9, 4]


def test_integers_are_numbers_here():
    x, y = windows([1, 2, 3, 4], 2)
    assert x.dtype == y.dtype == float and x.shape == (2, 2, 1)


def test_windows_with_nan_are_refused_dropped_or_kept_by_the_word_of_the_caller():
    series = np.arange(10.0)
    series[4] = np.nan
    with pytest.raises(ValueError, match=r"4 of 7 windows have a NaN \(the first is window 1\): .* nan='drop'"):
        windows(series, 3)
    x, y = windows(series, 3, nan="drop")
    assert x[:, 0, 0].tolist() == [0, 5, 6] and y.ravel().tolist() == [3, 8, 9]
    x, y = windows(series, 3, nan="keep")
    assert len(x) == 7 and np.isnan(x).sum() == 3 and np.isnan(y).sum() == 1
    targets = np.where(np.arange(10) == 9, np.nan, 0.0)
    with pytest.raises(ValueError, match="1 of 7 windows"):
        windows(np.arange(10.0), 3, targets=targets)
    assert len(windows(series[5:], 3)[0]) == 2


@pytest.mark.parametrize(
    ("series", "settings", "message"),
    [
        (np.zeros(4), {"width": 3, "horizon": 2}, "series has 4 steps, but a window of width 3 and horizon 2 needs 5"),
        ([np.zeros(9), np.zeros(2)], {"width": 2}, r"series\[1\] has 2 steps, but .* needs 3"),
        (np.zeros((3, 4, 5)), {"width": 1}, r"series must have the shape \(T,\) or \(T, F\), .* got \(3, 4, 5\)"),
        ([np.zeros((5, 2)), np.zeros((5, 3))], {"width": 1}, r"series\[1\] must have .* same F .* got \(5, 3\)"),
        (np.zeros(5), {"width": 1, "targets": np.zeros(4)}, "series has 5 steps, but its targets have 4"),
        ([np.zeros(5)] * 2, {"width": 1, "targets": np.zeros(5)}, "targets must be of the same 2 series, got 1"),
        (np.zeros(5), {"width": 0}, "width must be at least 1"),
        (np.zeros(5), {"width": 1, "stride": 0}, "stride must be at least 1"),
        (np.zeros(5), {"width": 1, "nan": "ignore"}, "nan must be 'refuse', 'drop' or 'keep', got 'ignore'"),
        ([[[1.0, 2], [3]]], {"width": 1}, r"series\[0\] is not one array"),
        (0.5, {"width": 1}, r"series must have the shape .* got \(\)"),
    ],
)
def test_invalid_series_are_refused(series, settings, message):
    with pytest.raises(ValueError, match=message):
        windows(series, **settings)
