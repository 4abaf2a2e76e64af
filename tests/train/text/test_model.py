import numpy as np
import pytest

from tinygrad_gru.backend import manual_seed
from tinygrad_gru.train import CharacterModel
from tinygrad_gru.train.text.model import prediction_loss

CELLS = ["gru", "lstm", "rnn"]
IDS = np.random.default_rng(0).integers(0, 7, (5, 3))


def parts(state):
    return [part.numpy() for part in (state if isinstance(state, tuple) else (state,))]


@pytest.mark.parametrize("cell", CELLS)
def test_shapes(cell):
    logits, state = CharacterModel(7, embedding=4, hidden=6, layers=2, cell=cell)(IDS)
    assert logits.shape == (5, 3, 7)
    assert [part.shape for part in parts(state)] == [(2, 3, 6)] * (2 if cell == "lstm" else 1)


@pytest.mark.parametrize("cell", CELLS)
def test_two_windows_with_a_carried_state_equal_one(cell):
    model = CharacterModel(7, embedding=4, hidden=6, layers=2, cell=cell)
    whole, last = model(IDS)
    first, state = model(IDS[:2])
    second, state = model(IDS[2:], state)
    assert np.allclose(np.concatenate([first.numpy(), second.numpy()]), whole.numpy(), atol=1e-6)
    assert all(np.allclose(ours, theirs, atol=1e-6) for ours, theirs in zip(parts(state), parts(last)))


@pytest.mark.parametrize("cell", CELLS)
def test_every_parameter_has_a_gradient(cell):
    model = CharacterModel(7, embedding=4, hidden=6, cell=cell)
    loss, _ = prediction_loss(model, IDS, IDS)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert np.abs(parameter.grad.numpy()).max() > 0, name


def test_loss_is_the_cross_entropy_of_the_logits():
    model = CharacterModel(7, embedding=4, hidden=6)
    logits = model(IDS)[0].numpy().astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = -np.take_along_axis(log_p, IDS[..., None], axis=-1)[..., 0]
    assert np.allclose(prediction_loss(model, IDS, IDS, reduction="none")[0].numpy(), expected, atol=1e-5)
    assert prediction_loss(model, IDS, IDS)[0].item() == pytest.approx(expected.mean(), abs=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_acts_while_training_only(layers):
    manual_seed(0)
    model = CharacterModel(7, embedding=4, hidden=6, layers=layers, dropout=0.5)
    first, second = (model(IDS)[0].numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    model.eval()
    first, second = (model(IDS)[0].numpy() for _ in range(2))
    assert np.array_equal(first, second)


def test_an_unknown_cell_is_refused():
    with pytest.raises(ValueError, match="unknown cell 'mgu': expected one of gru, lstm, rnn"):
        CharacterModel(7, cell="mgu")


def test_ids_out_of_range_are_refused():
    with pytest.raises(IndexError, match="ids must lie in 0 … 6, got 7"):
        CharacterModel(7, embedding=4, hidden=6)(IDS + 1)
