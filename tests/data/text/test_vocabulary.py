import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_gru.data import CharacterVocabulary


@given(st.text(min_size=1))
def test_encode_and_decode_are_inverse(text):
    vocabulary = CharacterVocabulary.from_text(text)
    ids = vocabulary.encode(text)
    assert ids.shape == (len(text),)
    assert [vocabulary.symbols[number] for number in ids] == list(text)
    assert vocabulary.decode(ids) == text


def test_code_has_97_symbols_and_one_of_them_stands_for_the_rest():
    vocabulary = CharacterVocabulary.code()
    assert len(vocabulary) == 97
    assert vocabulary.decode(vocabulary.encode("x = 1\n")) == "x = 1\n"
    assert vocabulary.decode(vocabulary.encode("é\t\U0001f600\x7f~")) == "\ufffd" * 4 + "~"


@given(st.text())
def test_every_unlisted_character_becomes_the_other(text):
    assert CharacterVocabulary("abc", other="b").encode(text).tolist() == [
        {"a": 0, "c": 2}.get(character, 1) for character in text
    ]


def test_code_points_far_above_the_listed_ones_are_unlisted():
    listed = CharacterVocabulary("ab", other="b")
    assert listed.encode("".join(map(chr, range(0xD800)))).tolist().count(0) == 1


def test_ids_do_not_depend_on_positions():
    assert CharacterVocabulary("ab").encode("abba").tolist() == [0, 1, 1, 0]
    assert CharacterVocabulary("ba").encode("abba").tolist() == [1, 0, 0, 1]


def test_symbols_are_in_the_order_of_their_code_points():
    assert CharacterVocabulary.from_text("banana \n").symbols == "\n abn"


def test_an_unlisted_character_is_named_with_its_position():
    with pytest.raises(ValueError, match="'z' at position 2"):
        CharacterVocabulary("ab").encode("abz")


def test_a_character_between_the_listed_ones_is_unlisted_too():
    with pytest.raises(ValueError, match="'b' at position 0"):
        CharacterVocabulary("ac").encode("b")


def test_the_empty_text_has_no_ids():
    vocabulary = CharacterVocabulary("ab")
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.decode([]) == ""


@pytest.mark.parametrize("wrong", [-1, 2])
def test_decode_refuses_ids_out_of_range(wrong):
    with pytest.raises(ValueError, match=f"0 to 1, got {wrong}"):
        CharacterVocabulary("ab").decode([0, wrong])


def test_decode_refuses_floats():
    with pytest.raises(TypeError, match="float64"):
        CharacterVocabulary("ab").decode(np.array([0.5, 0.5]))


def test_decode_reads_any_shape_in_order():
    assert CharacterVocabulary("ab").decode(np.array([[0, 1], [1, 1]], dtype=np.uint8)) == "abbb"


@pytest.mark.parametrize("vocabulary", [CharacterVocabulary.code(), CharacterVocabulary("αβ\ud800")])
def test_the_description_builds_an_equal_vocabulary(vocabulary):
    description = json.loads(json.dumps(vocabulary.description()))
    assert CharacterVocabulary.from_description(description) == vocabulary


@pytest.mark.parametrize("description", [{}, {"symbols": "ab"}, {"symbols": None, "other": None}])
def test_a_wrong_description_is_refused(description):
    with pytest.raises(ValueError):
        CharacterVocabulary.from_description(description)


@pytest.mark.parametrize(
    ("symbols", "other", "message"),
    [("", None, "empty"), ("aba", None, r"repeats \['a'\]"), ("ab", "c", "other"), ("ab", "ab", "other")],
)
def test_invalid_symbols_are_refused(symbols, other, message):
    with pytest.raises(ValueError, match=message):
        CharacterVocabulary(symbols, other)
