"""Names and keywords of other libraries, and the answers to them."""

import re

import numpy as np
import pytest

from tinygrad_gru import data
from tinygrad_gru.data.epochs import KEYWORDS
from tinygrad_gru.data.tables.reading import KEYWORDS as CSV_KEYWORDS
from tinygrad_gru.data.tables.table import HINTS as TABLE


@pytest.mark.parametrize("name", data.HINTS)
def test_names_of_other_libraries_are_answered(name):
    with pytest.raises(AttributeError, match=re.escape(f"has no attribute {name!r}; here it is {data.HINTS[name]}")):
        getattr(data, name)
    with pytest.raises(ImportError, match=re.escape(data.HINTS[name])):
        exec(f"from tinygrad_gru.data import {name}")


def test_a_misspelt_name_is_answered():
    with pytest.raises(AttributeError, match=r"has no attribute 'Standardiser' \(did you mean 'Standardizer'"):
        _ = data.Standardiser


@pytest.mark.parametrize("name", TABLE)
def test_methods_of_frames_are_answered(name):
    with pytest.raises(AttributeError, match=re.escape(TABLE[name])):
        getattr(data.Table({"a": [1]}), name)


@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.parametrize(
    "batches",
    [
        lambda **others: data.ArrayBatches(np.zeros(3), **others),
        lambda **others: data.SequenceBatches([[1, 2]], **others),
        lambda **others: data.StreamBatches(np.zeros(9), np.zeros(9), 2, 2, **others),
    ],
)
def test_keywords_of_other_libraries_are_answered(batches, keyword):
    with pytest.raises(
        TypeError, match=re.escape(f"Batches has no keyword {keyword!r}; here it is {KEYWORDS[keyword]}")
    ):
        batches(**{keyword: True})
    with pytest.raises(TypeError, match="Batches has no keyword 'nothing'; it has "):
        batches(nothing=True)


@pytest.mark.parametrize("keyword", CSV_KEYWORDS)
def test_keywords_of_pandas_are_answered(keyword):
    answer = f"read_csv has no keyword {keyword!r}; here it is {CSV_KEYWORDS[keyword]}"
    with pytest.raises(TypeError, match=re.escape(answer)):
        data.read_csv("data.csv", **{keyword: 1})


def test_keywords_of_windows_are_answered():
    for keyword, answer in (("window", "width"), ("batch_size", "not here: train"), ("widht", "did you mean 'width'")):
        with pytest.raises(TypeError, match=re.escape(answer)):
            data.windows(np.zeros(9), **{keyword: 3})


def test_methods_of_a_scaler_are_answered():
    with pytest.raises(AttributeError, match=re.escape("here it is fit(training).transform(training)")):
        data.Standardizer().fit_transform(np.zeros(3))
    assert not hasattr(data.Standardizer(), "mean")


def test_a_frame_of_integers_stays_one():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": [2**60 + 1, 0]})
    batch = data.ArrayBatches(frame).next_batch().inputs
    assert batch.dtype == np.int64 and batch.tolist() == [[1, 2**60 + 1], [2, 0]]
    assert data.ArrayBatches(frame.assign(c=0.5)).next_batch().inputs.dtype == np.float64
