"""Habits of users of PyTorch and Keras with recurrent layers: each works, or answers with what to type."""

from __future__ import annotations

import inspect
import pydoc

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, ops

X = np.random.default_rng(0).standard_normal((5, 4, 3))  # float64, as NumPy draws


def gru(**settings):
    return nn.GRU(3, 8, **settings)


def lstm(**settings):
    return nn.LSTM(3, 8, **settings)


WORKS = {
    "an array of float64": lambda: gru()(X)[0].dtype == "float32",
    "nested lists": lambda: gru()(X.tolist())[0].shape == (5, 4, 8),
    "lists of integers": lambda: gru()([[[1, 2, 3]]])[0].shape == (1, 1, 8),
    "zeros of NumPy as h_0": lambda: gru()(X, np.zeros((1, 4, 8)))[1].shape == (1, 4, 8),
    "(h_0, c_0) of NumPy": lambda: lstm()(X, (np.zeros((1, 4, 8)), np.zeros((1, 4, 8))))[0].shape == (5, 4, 8),
    "[h, c], as Keras has it": lambda: lstm()(X, [np.zeros((1, 4, 8))] * 2)[0].shape == (5, 4, 8),
    "output, (h_n, c_n)": lambda: (lambda output, state: state[0].shape)(*lstm()(X)) == (1, 4, 8),
    "h[-1] of a batch-first layer": lambda: (
        gru(num_layers=2, batch_first=True)(X.swapaxes(0, 1))[1][-1].shape == (4, 8)
    ),
    "state.detach()": lambda: not lstm()(X)[1].detach()[0].requires_grad,
    "h, c = cell(x, (h, c))": lambda: len(nn.LSTMCell(3, 8)(X[0], (np.zeros((4, 8)), np.zeros((4, 8))))) == 2,
    "a loop over steps": lambda: [h := None, [h := nn.GRUCell(3, 8)(x, h) for x in X]][1][-1].shape == (4, 8),
    "Sequential(LSTM, Linear)": lambda: nn.Sequential(lstm(), nn.Linear(8, 2))(X).shape == (5, 4, 2),
    "Sequential([…])": lambda: nn.Sequential([gru(), nn.LastStep(), nn.Linear(8, 2)])(X).shape == (4, 2),
    "two layers in a Sequential": lambda: nn.Sequential(gru(), nn.GRU(8, 4))(X)[1].shape == (1, 4, 4),
    "model[0], model[-1]": lambda: isinstance(nn.Sequential(gru(), nn.Linear(8, 2))[0], nn.GRU),
    "a function of ops": lambda: nn.Sequential(gru(), ops.tanh, nn.LastStep())(X).shape == (4, 8),
    "a list of sequences, batch first": lambda: gru(batch_first=True)([X[:, 0], X[:, 1]])[0].shape == (2, 5, 8),
    "lengths as a list": lambda: gru()(X, lengths=[5, 2, 3, 1])[0].shape == (5, 4, 8),
    "initial_state(batch)": lambda: lstm().initial_state(4).h.shape == (1, 4, 8),
    "activation as a string": lambda: nn.RNN(3, 8, activation="relu")(X)[0].shape == (5, 4, 8),
    "activation as a function": lambda: nn.RNN(3, 8, activation=ops.relu)(X)[0].shape == (5, 4, 8),
    "proj_size": lambda: lstm(proj_size=2)(X)[0].shape == (5, 4, 2),
    "dtype": lambda: gru(dtype="float64")(X)[0].dtype == "float64",
}

ANSWERS = {
    # Keras
    "units alone": (lambda: nn.GRU(32), "hidden_size is missing: write GRU\\(input_size, hidden_size\\)"),
    "units by name": (lambda: nn.LSTM(units=32), "'units'; here it is hidden_size"),
    "return_sequences": (lambda: nn.GRU(32, return_sequences=True), "output, state = layer\\(x\\) gives .* LastStep"),
    "return_state": (lambda: nn.LSTM(3, 8, return_state=True), "output, state = layer\\(x\\)"),
    "stateful": (lambda: gru(stateful=True), "output, state = layer\\(x, state\\), then state = state.detach\\(\\)"),
    "go_backwards": (lambda: gru(go_backwards=True), "reverse=True"),
    "merge_mode": (lambda: gru(merge_mode="ave"), "merge='concat', 'sum', 'mul' or 'mean' .* bidirectional=True"),
    "mask_zero": (lambda: gru(mask_zero=True), "mask=ids != 0"),
    "recurrent_activation": (lambda: gru(recurrent_activation="sigmoid"), "here it is gate_activation"),
    "use_bias": (lambda: gru(use_bias=False), "here it is bias"),
    "unroll": (lambda: gru(unroll=True), "not needed: the step is compiled"),
    "time_major": (lambda: gru(time_major=True), "batch_first, which is False by default"),
    "kernel_initializer": (lambda: gru(kernel_initializer="he_normal"), "load_state_dict.*nn.init"),
    "learning_rate": (lambda: gru(learning_rate=0.1), "optim.Adam\\(model.parameters\\(\\), lr="),
    "dropout of one layer": (lambda: gru(dropout=0.5), "dropout acts between layers.*input_dropout"),
    "an activation of Keras": (lambda: gru(activation="hard_sigmoid"), "lambda a: ops.clip"),
    "initial_state=": (lambda: gru()(X, initial_state=None), "'initial_state'; here it is state, \\(layers"),
    "training=": (lambda: gru()(X, training=True), "layer.train\\(\\) or layer.eval\\(\\)"),
    "reset_states()": (lambda: gru().reset_states(), "no layer keeps a state"),
    "get_weights()": (lambda: gru().get_weights(), "interop.keras.weights"),
    "model.add": (lambda: nn.Sequential().add(gru()), r"m.append\(layer\)"),
    # PyTorch
    "nonlinearity": (lambda: nn.RNN(3, 8, nonlinearity="relu"), "activation='relu'"),
    "hx=": (lambda: lstm()(X, hx=None), "'hx'; here it is state, .*\\(h, c\\)"),
    "input=": (lambda: gru()(input=X), "here it is x"),
    "sequence_length=": (lambda: gru()(X, sequence_length=[1]), "here it is lengths, \\(batch,\\) integers"),
    "weight_ih_l1_reverse": (lambda: gru(num_layers=2, bidirectional=True).weight_ih_l1_reverse, "cells\\[3\\]\\.W_"),
    "bias_hh of a cell": (lambda: nn.GRUCell(3, 8).bias_hh, "b of each gate, one for both of theirs"),
    "flatten_parameters()": (lambda: gru().flatten_parameters(), "not needed: leave the call out"),
    "a packed sequence": (lambda: gru()(Packed(X)), "packed sequence.*lengths="),
    "proj_size of a GRU": (lambda: gru(proj_size=2), "LSTM's alone"),
    "a state of (batch, hidden)": (lambda: gru()(X, np.zeros((4, 8))), "state\\[None\\]"),
    "the former batch-first state": (
        lambda: gru(num_layers=2, batch_first=True)(X.swapaxes(0, 1), np.zeros((4, 2, 8))),
        "state.moveaxis\\(0, 1\\); batch_first is for x and the output alone",
    ),
    "h alone for an LSTM": (lambda: lstm()(X, np.zeros((1, 4, 8))), "needs the tuple \\(h, c\\)"),
    "unbatched x": (lambda: gru()(X[0]), "an axis is missing: time \\(x\\[None\\]\\) or batch \\(x\\[:, None\\]\\)"),
    "a list of sequences": (lambda: gru()([X[:, 0], X[:, 1]]), r"sequences write np.stack\(x, axis=1\)"),
    "sequences of different lengths": (
        lambda: gru()([X[:2, 0], X[:5, 1]]),
        "data.pad_sequence\\(x\\), and lengths=.*SequenceBatches",
    ),
    "a float64 Tensor": (lambda: gru()(Tensor(X)), "x.astype\\('float32'\\)"),
    "token ids": (lambda: gru()(np.ones((5, 4, 3), int)), "token ids need an Embedding first"),
    "a list of Tensors": (lambda: gru()([Tensor(X[0]), Tensor(X[1])]), "join them: ops.stack\\(x\\)"),
    "linear(lstm(x))": (lambda: nn.Linear(8, 2)(lstm()(X)), "output, state = layer\\(x\\)"),
    "a class in a Sequential": (lambda: nn.Sequential(gru(), nn.LastStep), "write LastStep\\(…\\)"),
    "a misspelt keyword": (lambda: gru(batchfirst=True), "did you mean 'batch_first'"),
    "a misspelt argument": (lambda: gru()(X, lenghts=[1]), "did you mean 'lengths'"),
    "a misspelt activation": (lambda: gru(activation="tahn"), "did you mean 'tanh'"),
}


class Packed(tuple):
    """As PyTorch's: data and the batch size of every step."""

    def __new__(cls, data):
        return super().__new__(cls, (data, np.ones(1, int), None, None))

    batch_sizes = property(lambda self: self[1])


@pytest.mark.parametrize("habit", WORKS)
def test_it_works(habit):
    assert WORKS[habit]()


@pytest.mark.parametrize("habit", ANSWERS)
def test_it_answers_with_what_to_type(habit):
    run, answer = ANSWERS[habit]
    with pytest.raises((TypeError, ValueError, AttributeError), match=answer):
        run()


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM", "MGU", "RNNCell", "GRUCell", "LSTMCell", "MGUCell"])
def test_help_has_every_argument_the_equations_and_what_is_returned(name):
    of = getattr(nn, name)
    signature, text = inspect.signature(of), pydoc.plain(pydoc.render_doc(of))
    assert not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in signature.parameters.values())
    for parameter in signature.parameters:
        assert f"\n |      {parameter}  " in text, parameter
        assert f"{parameter}: " in text or f"{parameter}=" in text
    assert "h' = " in text.partition("Called as")[0] and ">>> " in text and "Xavier" in text
    assert "returns (output, state)" in text if not name.endswith("Cell") else "next state" in text
    assert "batch_first" in text and "past_end  " in text if not name.endswith("Cell") else "Returns the next" in text


def test_a_signature_has_the_keywords_of_the_cell_and_their_defaults():
    parameters = inspect.signature(nn.LSTM).parameters
    assert parameters["forget_bias"].default == 1.0 and parameters["dtype"].default == "float32"
    assert "reset_after" in inspect.signature(nn.GRU).parameters and "reset_after" not in parameters

    class Leaky(nn.GRUCell):
        def __init__(self, input_size, hidden_size, *, rate=0.5, **options):
            super().__init__(input_size, hidden_size, **options)

    class Fixed(nn.GRU):
        def __init__(self, size):
            super().__init__(size, size, clip=1.0)

    assert inspect.signature(Leaky).parameters["rate"].default == 0.5
    assert inspect.signature(nn.Recurrent.of(Leaky)).parameters["rate"].default == 0.5
    assert "clip" in inspect.signature(Leaky).parameters and list(inspect.signature(Fixed).parameters) == ["size"]
    assert Fixed(3).cells[0].clip == 1.0
    with pytest.raises(TypeError, match=r"did you mean 'rate'\?"):
        nn.Recurrent.of(Leaky)(3, 4, rat=0.1)
    assert inspect.signature(nn.GRU(3, 8).forward).parameters["past_end"].default == "zero"
