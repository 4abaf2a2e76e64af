"""Names and keywords of other libraries, and the answers to them."""

import re

import numpy as np
import pytest

from tinygrad_gru import data
from tinygrad_gru.data.epochs import KEYWORDS
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
