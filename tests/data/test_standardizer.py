import numpy as np
import pytest

from tinygrad_gru.data import Standardizer, Table


def test_features_get_mean_0_and_standard_deviation_1(rng):
    values = rng.normal([3, -200, 1e-9], [2, 0.1, 1e-10], (500, 3))
    transformed = Standardizer().fit(values).transform(values)
    assert np.allclose(transformed.mean(axis=0), 0) and np.allclose(transformed.std(axis=0), 1)


@pytest.mark.parametrize("shape", [(40,), (40, 3), (5, 8, 3)])
def test_the_inverse_gives_the_values_back(rng, shape):
    values = rng.normal(5, 3, shape)
    standardizer = Standardizer().fit(values)
    transformed = standardizer.transform(values)
    assert transformed.shape == shape
    assert np.allclose(standardizer.inverse_transform(transformed), values)


def test_the_inverse_of_some_features(rng):
    values = rng.normal([1, 2, 3], [4, 5, 6], (40, 3))
    standardizer = Standardizer().fit(values)
    transformed = standardizer.transform(values)
    assert np.allclose(standardizer.inverse_transform(transformed[:, [2, 0]], [2, 0]), values[:, [2, 0]])
    assert np.allclose(standardizer.inverse_transform(transformed[:, 1], 1), values[:, 1])


def test_the_statistics_are_those_of_the_training_part_alone():
    standardizer = Standardizer().fit([[0.0], [2.0]])
    assert standardizer.transform([[101.0]]).tolist() == [[100.0]]
    assert (standardizer.mean, standardizer.std) == ([1.0], [1.0])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8 + 0.1, -3])
def test_a_constant_feature_becomes_0(constant):
    values = np.stack([np.full(1000, constant), np.arange(1000)], axis=1)
    standardizer = Standardizer().fit(values)
    assert standardizer.constant.tolist() == [True, False]
    assert (standardizer.transform(values)[:, 0] == 0).all()
    assert standardizer.transform(values + 2)[:, 0].tolist() == [pytest.approx(2)] * 1000
    assert "constant: [0]" in repr(standardizer)


def test_nan_is_left_out_of_the_statistics_stays_and_is_reported():
    values = np.array([[1.0, 1], [np.nan, 2], [3, 4]])
    standardizer = Standardizer().fit(values)
    assert standardizer.mean.tolist() == [2, pytest.approx(7 / 3)]
    assert standardizer.missing.tolist() == [1, 0]
    assert "missing values: [1, 0]" in repr(standardizer)
    assert np.isnan(standardizer.transform(values)).tolist() == np.isnan(values).tolist()


def test_floating_dtypes_stay_and_integers_become_float64():
    standardizer = Standardizer().fit([[1], [2]])
    for dtype, expected in ((np.float32, np.float32), (np.float16, np.float16), (np.int32, np.float64)):
        values = np.ones((3, 1), dtype)
        assert standardizer.transform(values).dtype == standardizer.inverse_transform(values).dtype == expected


def test_the_state_travels(rng):
    standardizer, other = Standardizer().fit(rng.standard_normal((9, 2))), Standardizer()
    other.load_state_dict(standardizer.state_dict())
    values = rng.standard_normal((4, 2))
    assert np.array_equal(other.transform(values), standardizer.transform(values))
    assert repr(other) == repr(standardizer)


@pytest.mark.parametrize("use", ["transform", "inverse_transform"])
def test_nothing_is_transformed_before_the_fit(use):
    standardizer = Standardizer()
    assert repr(standardizer) == "Standardizer(not fitted)"
    with pytest.raises(RuntimeError, match="fit it on the training part alone"):
        getattr(standardizer, use)([[1.0]])
    with pytest.raises(RuntimeError, match="fit it on the training part alone"):
        standardizer.state_dict()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Standardizer().fit([[1.0, np.nan], [2, np.nan]]), "feature 1 has no value but NaN"),
        (lambda: Standardizer().fit(np.zeros((0, 2))), "feature 0 has no value"),
        (lambda: Standardizer().fit([[1.0, np.inf], [2, 0]]), "feature 1 has infinite values"),
        (lambda: Standardizer().fit([[-1e300], [1e300]]), "feature 0 has values whose squares are infinite"),
        (
            lambda: Standardizer().fit(Table({"a": [1, 2], "b": [3, 4]})).transform(Table({"b": [3], "a": [1]})),
            r"columns must be those of the fit, \['a', 'b'\], in this order, got \['b', 'a'\]",
        ),
        (lambda: Standardizer().fit(np.eye(2)).transform(np.zeros((4, 3))), r"2 features, .* got the shape \(4, 3\)"),
        (lambda: Standardizer().fit(np.eye(2)).inverse_transform(np.zeros(4)), r"2 features, .* got the shape \(4,\)"),
        (lambda: Standardizer().load_state_dict({"mean": [0.0]}), "expected the statistics mean, std"),
        (
            lambda: Standardizer().load_state_dict({"mean": [0.0], "std": [1, 2], "constant": [0], "missing": [0]}),
            "one entry a feature",
        ),
    ],
)
def test_what_has_no_statistics_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
