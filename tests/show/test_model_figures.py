"""`show.gates`, `saturation` and `gradient_reach`: what is drawn is what the equations give."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_gru import Tensor, compiling, data, grad, nn, ops, show, train
from tinygrad_gru.show.reach import reach
from tinygrad_gru.show.states import inputs_of, recurrent_layers, variables_of
from tinygrad_gru.show.units import saturated

pytest.importorskip("matplotlib")

TEXT = "abca bca\nab"
VOCABULARY = data.CharacterVocabulary.from_text(TEXT)


def text_model(**options):
    return train.CharacterModel(len(VOCABULARY), embedding=5, hidden=6, **options)


def images(figure):
    return {axes.get_title(): axes.images[0].get_array() for axes in figure.axes if axes.get_title()}


def test_gates_are_drawn_over_the_characters_of_a_text(tmp_path):
    model = text_model()
    figure = show.gates(model, TEXT, VOCABULARY, names=("z", "h"), path=tmp_path / "gates.png")
    x = model.embedding(VOCABULARY.encode(TEXT)[:, None])
    output, _, (records,) = model.recurrence(x, record=("z",))
    drawn = images(figure)
    assert list(drawn) == ["z", "h"]
    np.testing.assert_allclose(drawn["z"], records["z"].numpy()[:, 0].T, rtol=1e-6)
    np.testing.assert_allclose(drawn["h"], output.numpy()[:, 0].T, rtol=1e-6)
    assert "".join(label.get_text() for label in figure.axes[0].get_xticklabels()) == "abca␣bca⏎ab"
    assert [axes.images[0].get_clim()[0] < 0 for axes in figure.axes[:2]] == [False, True]  # a gate is 0 … 1
    assert (tmp_path / "gates.png").read_bytes().startswith(b"\x89PNG")
    assert "forward" not in vars(model.recurrence)  # nothing stays behind
    restored = SimpleNamespace(model=model, vocabulary=VOCABULARY)
    np.testing.assert_array_equal(images(show.gates(restored, TEXT, names="z"))["z"], drawn["z"])


def test_by_default_all_that_a_step_computes_is_drawn():
    expected = {"gru": "r z h_tilde h", "lstm": "i f g o c h", "rnn": "h"}
    for cell, names in expected.items():
        model = text_model(cell=cell)
        assert sorted(variables_of(model.recurrence.cells[0])) == sorted(names.split())
        assert set(images(show.gates(model, TEXT, VOCABULARY))) == set(names.split())
    assert variables_of(nn.GRUCell(2, 3, reset_after=True))[-2:] == ["h_tilde", "h"]


def test_each_cell_of_a_model_and_the_units_that_are_asked_for():
    model = nn.Sequential(nn.GRU(3, 4, batch_first=True), nn.LSTM(4, 60, num_layers=2, batch_first=True))
    x = np.random.default_rng(0).standard_normal((2, 7, 3)).astype(np.float32)
    hidden, _ = model[0](x)
    output, _ = model[1](hidden)
    assert [type(layer).__name__ for layer in recurrent_layers(model)] == ["GRU", "LSTM"]
    first = images(show.gates(model, x))
    np.testing.assert_allclose(first["h"], hidden.numpy()[0].T, rtol=1e-5)
    figure = show.gates(model[1], hidden, names=("h", "f"), cell=1)
    drawn = images(figure)
    assert drawn["h"].shape == (48, 7)  # those that vary most, the same of all
    numbers = [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes[:2]]
    assert numbers[0] == numbers[1]
    chosen = images(show.gates(model[1], hidden, names="h", cell=1, units=[59, 0]))["h"]
    np.testing.assert_allclose(chosen, output.numpy()[0].T[[59, 0]], rtol=1e-5)


def test_dropout_is_off_and_the_mode_comes_back():
    model = text_model(dropout=0.5, layers=2).train()
    once, again = (images(show.gates(model, TEXT, VOCABULARY, names="h", cell=1))["h"] for _ in range(2))
    assert np.array_equal(once, again) and model.training


def test_saturation_is_the_share_of_steps_beyond_the_bounds():
    array = np.array([[[0.05, 0.95, 0.5]], [[0.5, 0.95, 0.05]]])  # (T, B, units)
    left, right = saturated(array, 0.1, 0.9)
    assert left.tolist() == [0.5, 0.0, 0.5] and right.tolist() == [0.0, 1.0, 0.0]
    layer = nn.LSTM(3, 5)
    x = 4 * np.random.default_rng(0).standard_normal((30, 2, 3)).astype(np.float32)
    figure = show.saturation(layer, x)
    assert [axes.get_title() for axes in figure.axes] == ["i", "f", "o"]
    f = layer(x, record="f")[2][0]["f"].numpy().reshape(60, 5)
    offsets = figure.axes[1].collections[0].get_offsets()
    np.testing.assert_allclose(offsets, np.stack([(f > 0.9).mean(0), (f < 0.1).mean(0)], axis=1))
    with pytest.raises(ValueError, match="nothing that is from 0 to 1"):
        show.saturation(nn.RNN(3, 5), x)
    with pytest.raises(ValueError, match="expected low < high"):
        show.saturation(layer, x, low=0.9, high=0.1)


@pytest.mark.parametrize("cell_type", [nn.GRUCell, nn.LSTMCell])
def test_the_reach_is_the_norm_of_the_gradient_for_the_state_after_each_step(cell_type):
    """Against gradients for zeros that are added to the state before each step, in a loop over the cell."""
    cell = cell_type(3, 4, dtype="float64")
    layer = nn.Recurrent.of(cell_type)(3, 4, dtype="float64")
    layer.cells[0].load_state_dict(cell.state_dict())
    x = np.random.default_rng(0).standard_normal((6, 2, 3))
    state, nudges = cell.initial_state(2), []
    for t in range(6):
        state = cell.step(state, Tensor(x[t]))
        parts = state if isinstance(state, tuple) else (state,)
        nudges.append([Tensor(np.zeros(part.shape), requires_grad=True) for part in parts])
        parts = tuple(part + nudge for part, nudge in zip(parts, nudges[-1]))
        state = parts if isinstance(state, tuple) else parts[0]
    loss = 0.5 * ops.square(parts[0]).sum()
    found = reach(inputs_of(layer, Tensor(x)))
    assert tuple(found) == cell.states
    of_h, *of_c = (
        [None if g is None else g.numpy() for g in grad(loss, list(part), allow_unused=True, retain_graph=True)]
        for part in zip(*nudges)
    )
    np.testing.assert_allclose(found["h"], [np.linalg.norm(g) for g in reversed(of_h)], rtol=1e-9)
    if of_c:  # c also acts through h = o ⊙ tanh(c) of its own step
        ((o, c),) = [[one[name].numpy() for name in ("o", "c")] for one in layer(Tensor(x), record=("o", "c"))[2]]
        through_h = [g * o[t] * (1 - np.tanh(c[t]) ** 2) for t, g in enumerate(of_h)]
        expected = [b if a is None else a + b for a, b in zip(of_c[0], through_h)]
        np.testing.assert_allclose(found["c"], [np.linalg.norm(g) for g in reversed(expected)], rtol=1e-9)


def test_the_loss_of_a_text_is_that_of_its_last_character():
    model = text_model()
    ids = VOCABULARY.encode(TEXT)[:, None]
    with compiling(False):
        hidden, _ = model.recurrence(model.embedding(ids[:-1]))
        loss = ops.cross_entropy(model.output(hidden[-1]), ids[-1])
        (expected,) = grad(loss, [hidden])
    (norms,) = reach(inputs_of(model, TEXT, VOCABULARY)).values()
    assert len(norms) == len(TEXT) - 1
    np.testing.assert_allclose(norms[0], np.linalg.norm(expected.numpy()[-1]), rtol=1e-5)
    assert all(p.grad is None for p in model.parameters())


def test_several_models_are_in_one_figure(tmp_path):
    models = {"GRU": text_model(), "LSTM": text_model(cell="lstm")}
    figure = show.gradient_reach(models, TEXT, VOCABULARY, path=tmp_path / "reach.svg")
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["GRU, h", "LSTM, h", "LSTM, c"]
    assert axes.get_yscale() == "log" and (tmp_path / "reach.svg").exists()
    with pytest.raises(ValueError, match="frozen"):
        show.gradient_reach(text_model().freeze(), TEXT, VOCABULARY)


def test_errors_say_what_is_missing(monkeypatch):
    model, layer = text_model(), nn.GRU(3, 4)
    x = np.ones((5, 1, 3), np.float32)
    for call, error, message in (
        (lambda: show.gates(model, TEXT), TypeError, "vocabulary: a text needs the model's"),
        (lambda: show.gates("runs/a", TEXT), TypeError, "model: expected a module"),
        (lambda: show.gates(model, TEXT, "abc"), TypeError, "a text needs the model's, got 'abc'"),
        (lambda: show.gates(model, "", VOCABULARY), ValueError, "text: expected a character or more"),
        (lambda: show.gradient_reach(model, "a", VOCABULARY), ValueError, "two characters or more"),
        (lambda: show.gradient_reach([model], "a", VOCABULARY), TypeError, "models: expected a model, or several"),
        (lambda: show.gates(layer, None), TypeError, r"an array x \(time, batch, features\), got None"),
        (lambda: show.gates(layer, x[:0]), ValueError, "with a step or more"),
        (lambda: show.gates(layer, x, names=3), TypeError, "names: expected names of local variables"),
        (lambda: show.gates(layer, x, cell="0"), TypeError, "cell: expected the index"),
        (lambda: show.gates(layer, x, units="a"), TypeError, "units: expected indices"),
        (lambda: show.saturation(layer, x, names="h_tilde"), ValueError, "names: 'h_tilde' is no gate: from -"),
        (lambda: show.gates(nn.Linear(3, 4), x), ValueError, "Linear has no recurrent layer"),
        (lambda: show.gates(layer, x, names="q"), ValueError, "no Tensor named 'q'; it has h, x, r, z"),
        (lambda: show.gates(layer, x, cell=1), ValueError, "the model has 1 cells, 0 to 0, got 1"),
        (lambda: show.gates(layer, x, units=[4]), ValueError, "indices of 4 units"),
        (lambda: show.gradient_reach(layer, x, cell=2), ValueError, "the model has 1 cells"),
        (lambda: show.heat, AttributeError, "heat"),
        (lambda: show.plot_loss, AttributeError, "show.loss"),
    ):
        with pytest.raises(error, match=message):
            call()
    assert "forward" not in vars(layer)
    assert show.gates(model, "a", VOCABULARY).axes[0].get_title() == "r"  # one character will do
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(show.PlotError, match="the gates was not plotted"):
        show.gates(layer, x)
