import numpy as np
import pytest

from tinygrad_gru.data import CharacterVocabulary
from tinygrad_gru.train import CharacterModel, character_losses, leading_spaces
from tinygrad_gru.train.text.evaluate import excerpts
from tinygrad_gru.train.text.model import prediction_loss


def one_stream_losses(model, ids):
    """The definition: the whole text as one stream, without windows."""
    return prediction_loss(model, ids[:-1, None], ids[1:, None], reduction="none")[0].numpy()[:, 0]


@pytest.fixture
def model():
    return CharacterModel(7, embedding=4, hidden=6, dropout=0.5)


@pytest.mark.parametrize("length", [2, 3, 65, 500])
def test_a_short_text_is_one_stream_with_a_carried_state(model, length):
    ids = np.random.default_rng(length).integers(0, 7, length)
    losses = character_losses(model, ids, window=16)
    assert losses.shape == (length - 1,)
    assert np.allclose(losses, one_stream_losses(model.eval() or model, ids), atol=1e-5)


@pytest.mark.parametrize("length", [3 * 1024 + 1, 3 * 1024 + 3, 4 * 1024])
def test_losses_of_a_long_text_are_in_the_order_of_its_characters(model, length):
    ids = np.random.default_rng(0).integers(0, 7, length)
    losses = character_losses(model, ids)
    model.eval()
    expected = one_stream_losses(model, ids)
    assert losses.shape == (length - 1,)
    # Only the first characters of the second and the third stream have less context.
    assert (np.abs(losses - expected) < 1e-4).sum() > length - 100


@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode_and_dropout_is_off(model, training):
    model.train(training)
    ids = np.arange(50) % 7
    assert np.array_equal(character_losses(model, ids), character_losses(model, ids))
    assert model.training == training


def test_the_mode_of_every_module_is_restored(model):
    model.dropout.eval()
    modes = [part.training for _, part in model.named_modules()]
    assert True in modes and False in modes
    character_losses(model, np.arange(50) % 7)
    assert [part.training for _, part in model.named_modules()] == modes


@pytest.mark.parametrize("length", [0, 1])
def test_a_text_that_leaves_nothing_to_predict_is_refused(model, length):
    with pytest.raises(ValueError, match="nothing to predict"):
        character_losses(model, np.zeros(length, dtype=int))


def test_excerpts_are_whole_pieces_from_the_beginning_to_the_end():
    pieces = excerpts(np.arange(1000), count=5, length=20).reshape(5, 20)
    assert pieces[:, 0].tolist() == [0, 245, 490, 735, 980]
    assert (np.diff(pieces) == 1).all()
    assert excerpts(np.arange(100), count=5, length=20).tolist() == list(range(100))


def test_leading_spaces_are_those_that_begin_a_line():
    text = "  a b\n    c\n\n  \n x  "
    vocabulary = CharacterVocabulary.code()
    marked = leading_spaces(vocabulary.encode(text), vocabulary)
    assert "".join("^" if mark else "." for mark in marked) == "^^....^^^^...^^.^..."


def test_a_vocabulary_without_spaces_or_newlines_has_no_leading_spaces():
    vocabulary = CharacterVocabulary("ab")
    assert not leading_spaces(vocabulary.encode("abba"), vocabulary).any()
