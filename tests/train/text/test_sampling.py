from collections import Counter

import numpy as np
import pytest

from tinygrad_gru import nn
from tinygrad_gru.data import CharacterVocabulary
from tinygrad_gru.tensor import Tensor
from tinygrad_gru.train import CharacterModel, generate
from tinygrad_gru.train.text.sampling import draw


class Fixed(nn.Module):
    """A fake model that returns constant logits and records its inputs."""

    def __init__(self, logits):
        self.logits, self.asked = np.array(logits, dtype=np.float32), []

    def forward(self, ids, state):
        assert not self.training
        self.asked.append(np.asarray(ids).ravel().tolist())
        return Tensor(np.broadcast_to(self.logits, (*ids.shape, len(self.logits)))), state


VOCABULARY = CharacterVocabulary("\n ab")


def test_the_model_reads_the_prompt_and_then_every_sample():
    model = Fixed([0.0, 0.0, 5.0, 0.0])
    assert generate(model, VOCABULARY, 2, prompt="ba", temperature=0) == "aa"
    assert model.asked == [[3, 2], [2]]
    assert model.training


def test_the_mode_of_every_module_is_restored():
    model = CharacterModel(4, embedding=2, hidden=3, dropout=0.5)
    model.dropout.eval()
    modes = [part.training for _, part in model.named_modules()]
    assert modes.count(False) == 1
    generate(model, VOCABULARY, 2)
    assert [part.training for _, part in model.named_modules()] == modes


def test_an_empty_prompt_is_a_newline_or_the_first_symbol():
    for vocabulary, first in ((CharacterVocabulary("a\n"), 1), (CharacterVocabulary("ba"), 0)):
        model = Fixed([0.0, 1.0])
        generate(model, vocabulary, 1)
        assert model.asked == [[first]]


def test_a_repetition_ends_with_the_models_probability_at_any_temperature():
    """Logits that leave a space with probability 0.2: repetitions have 4 more than two spaces on average."""
    logits = np.log([0.06, 0.8, 0.09, 0.05])
    for settings in ({"temperature": 0.0}, {"temperature": 0.5}, {"top_p": 0.5}):
        text = generate(Fixed(logits), VOCABULARY, 6000, **settings)
        rows = [len(row) for row in text.replace("\n", "a").replace("b", "a").split("a") if len(row) > 1]
        assert np.mean(rows) == pytest.approx(2 + 4, abs=0.5)


def test_the_end_of_a_repetition_is_sampled_at_the_temperature():
    text = generate(Fixed(np.log([0.3, 0.3, 0.4, 0.0001])), VOCABULARY, 200, temperature=0)
    assert set(text) == {"a", "\n"} and "\n\n" not in text


def test_a_repetition_may_begin_in_the_prompt():
    model = Fixed([0.0, 50.0, 1.0, 0.0])
    assert generate(model, VOCABULARY, 3, prompt="  ", temperature=0) == "   "
    model = Fixed([0.0, -50.0, 1.0, 0.0])
    assert generate(model, VOCABULARY, 1, prompt="  ", temperature=0) == "a"


def test_sampling_from_a_vocabulary_of_one_symbol():
    assert generate(Fixed([1.0]), CharacterVocabulary("a"), 20) == "a" * 20


def test_a_seed_gives_one_text():
    model = CharacterModel(4, embedding=4, hidden=6)
    texts = [generate(model, VOCABULARY, 40, seed=seed) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 40


class Point:
    """A random generator that gives the coordinates of point k of a sequence that fills the square evenly."""

    def __init__(self, k):
        self.coordinates = [k * 0.5698402909980532 % 1, k * 0.7548776662466927 % 1]

    def random(self):
        return self.coordinates.pop()


def frequencies(logits, **settings):
    counts = Counter(draw(np.array(logits), Point(k), **settings) for k in range(1000))
    return [counts[index] / 1000 for index in range(len(logits))]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_softmax_at_that_temperature(temperature):
    logits = np.array([1.0, -0.5, 0.3, 0.0])
    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    assert frequencies(logits, temperature=temperature) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("top_p", "expected"), [(0.4, [0, 1, 0]), (0.6, [0.375, 0.625, 0]), (0.85, [0.3, 0.5, 0.2])])
def test_top_p_keeps_the_fewest_characters_that_have_that_probability(top_p, expected):
    assert frequencies(np.log([0.3, 0.5, 0.2]), top_p=top_p) == pytest.approx(expected, abs=0.005)


def test_the_index_as_is_keeps_its_probability_and_the_others_share_the_rest():
    logits = np.log([0.3, 0.5, 0.2])
    assert frequencies(logits, temperature=0, as_is=1) == pytest.approx([0.5, 0.5, 0], abs=0.005)
    assert frequencies(logits, as_is=1) == pytest.approx([0.3, 0.5, 0.2], abs=0.005)


def test_infinite_and_large_logits():
    assert frequencies([-np.inf, 1e4, 1e4]) == pytest.approx([0, 0.5, 0.5], abs=0.005)


def test_temperature_zero_is_greedy():
    assert frequencies([0.0, 0.1, 0.05], temperature=0) == [0, 1, 0]


@pytest.mark.parametrize(
    "settings", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"temperature": float("nan")}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match="expected length and temperature"):
        generate(Fixed([0.0, 1.0]), CharacterVocabulary("ab"), 1, **settings)


def test_nan_logits_are_refused():
    with pytest.raises(ValueError, match="did its training diverge"):
        generate(Fixed([0.0, np.nan]), CharacterVocabulary("ab"), 1)


@pytest.mark.parametrize("temperature", [1e-3, 1e-300, 1e-308, 5e-324])
def test_the_lowest_temperatures_are_greedy(temperature):
    assert frequencies([0.0, 3.0, 2.5, -1e30], temperature=temperature) == [0, 1, 0, 0]


@pytest.mark.parametrize("temperature", [1e-308, 0.8, 1e308])
def test_infinite_logits_share_all_of_the_probability(temperature):
    found = frequencies([0.0, np.inf, np.inf, -np.inf], temperature=temperature)
    assert found == pytest.approx([0, 0.5, 0.5, 0], abs=0.005)


def test_no_character_at_all_is_refused():
    with pytest.raises(ValueError, match="did its training diverge"):
        generate(Fixed([-np.inf, -np.inf]), CharacterVocabulary("ab"), 1)


def test_an_infinite_temperature_is_uniform():
    random = np.random.default_rng(0)
    logits = np.array([0.0, 1.0, -np.inf, 2.0, -1e308])
    counts = np.bincount([draw(logits, random, temperature=np.inf) for _ in range(4000)], minlength=5)
    assert counts[2] == 0
    np.testing.assert_allclose(counts[[0, 1, 3, 4]] / 4000, 0.25, atol=0.03)
    others = {draw(logits, random, temperature=np.inf, as_is=3) for _ in range(500)}
    assert others == {0, 1, 3, 4}
