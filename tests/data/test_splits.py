import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_gru.data import split, split_by_group, split_by_time

FRACTIONS = st.lists(st.integers(1, 9), min_size=2, max_size=4).map(lambda parts: [p / sum(parts) for p in parts])


@given(FRACTIONS, st.integers(100, 300))
def test_parts_in_time_are_the_whole_series_in_order(fractions, steps):
    series = np.arange(steps)
    parts = split_by_time(series, fractions)
    assert np.array_equal(np.concatenate(parts), series)
    for part, fraction in zip(parts, fractions):
        assert abs(len(part) - fraction * steps) <= 1
        assert np.shares_memory(part, series)


def test_several_series_are_split_at_the_same_step():
    x, y = np.arange(20).reshape(10, 2), list(range(10))
    training, test = split_by_time((x, y), 0.75)
    assert len(training[0]) == len(training[1]) == 8
    assert test[0].tolist() == [[16, 17], [18, 19]] and test[1] == [8, 9]
    training, test = split_by_time({"x": x, "y": y}, (0.5, 0.5))
    assert list(test) == ["x", "y"] and test["y"] == [5, 6, 7, 8, 9]


def test_frames_are_split_by_position():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": range(4)}, index=[9.5, 7.5, 8.5, 1.5])
    training, test = split_by_time(frame, 0.5)
    assert training["a"].tolist() == [0, 1] and test["a"].tolist() == [2, 3]


@given(st.lists(st.integers(1, 5), min_size=20, max_size=30), st.integers(0, 5))
def test_no_group_is_in_two_parts(sizes, seed):
    groups = np.random.default_rng(0).permutation(np.repeat([f"group {k}" for k in range(len(sizes))], sizes)).tolist()
    parts = split_by_group(groups, (0.6, 0.2, 0.2), seed)
    assert sorted(np.concatenate(parts)) == list(range(len(groups)))
    members = [{groups[k] for k in part} for part in parts]
    assert sum(map(len, members)) == len(sizes)
    for part, fraction in zip(parts, (0.6, 0.2, 0.2)):
        assert abs(len(part) - fraction * len(groups)) <= max(sizes)


def test_groups_are_shuffled_by_the_seed_alone():
    groups = np.repeat(np.arange(20), 3)
    first, again, other = (split_by_group(groups, 0.5, seed)[0].tolist() for seed in (0, 0, 1))
    assert first == again != other


@given(st.integers(50, 200), FRACTIONS, st.integers(0, 5))
def test_a_random_split_has_every_example_once(count, fractions, seed):
    parts = split(count, fractions, seed)
    assert sorted(np.concatenate(parts)) == list(range(count))
    for part, fraction in zip(parts, fractions):
        assert abs(len(part) - fraction * count) <= 1
        assert (np.diff(part) > 0).all()
    assert [p.tolist() for p in parts] == [p.tolist() for p in split(count, fractions, seed)]
    assert parts[0].tolist() != split(count, fractions, seed + 1)[0].tolist()


def test_a_stratified_split_divides_every_class():
    classes = np.array(["rare"] * 10 + ["frequent"] * 190)
    for seed in range(5):
        training, test = split(200, 0.8, seed, stratify=classes)
        assert [(classes[part] == "rare").sum() for part in (training, test)] == [8, 2]
        assert len(test) == 40


@pytest.mark.parametrize("function", [lambda f: split_by_time(range(9), f), lambda f: split(9, f)])
@pytest.mark.parametrize("fractions", [(0.5, 0.4), (1.0,), (0.5, 0.6), (1.2, -0.2), 1.0, 0, 0.0])
def test_fractions_are_positive_and_add_up_to_one(function, fractions):
    with pytest.raises(ValueError, match="positive numbers that add up to 1"):
        function(fractions)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split_by_time(np.zeros(3), (0.9, 0.1)), "part 1 of 2 would be empty: there are only 3 steps"),
        (lambda: split_by_time((np.zeros(3), np.zeros(4)), 0.5), r"same length, got \[3, 4\]"),
        (lambda: split_by_group(["a"] * 5, 0.5), "part 1 of 2 would be empty: there are only 1 groups of 5 examples"),
        (lambda: split_by_group(np.zeros((3, 2)), 0.5), r"\(N,\), got the shape \(3, 2\)"),
        (lambda: split(1, 0.5), "part 1 of 2 would be empty: there are only 1 examples"),
        (lambda: split(5, 0.5, stratify=[1, 2]), r"class of each of 5 examples, got the shape \(2,\)"),
    ],
)
def test_what_cannot_be_split_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split_by_time(5, 0.5), "expected a series, or a tuple or dict of series, got 5"),
        (lambda: split_by_group(["a", None], 0.5), "groups must be numbers or strings alone, none missing"),
        (lambda: split_by_group([1.0, np.nan], 0.5), "groups must be .* none missing: some are NaN"),
        (lambda: split(4, 0.5, stratify=[1, np.nan, 1, np.nan]), "stratify must be .* none missing: some are NaN"),
        (lambda: split(np.zeros((4, 2)), 0.5), "count must be an integer, got array"),
    ],
)
def test_what_is_no_data_is_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call()
