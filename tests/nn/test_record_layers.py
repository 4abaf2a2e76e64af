"""`layer(x, state, record=names)`: local variables of the cells' steps at every step, laid out like the output."""

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, ops
from tinygrad_gru.testing import gradcheck


def make(**options):
    layer = nn.GRU(3, 4, dtype="float64", **options)
    random = np.random.default_rng(1)
    layer.load_state_dict({name: random.standard_normal(t.shape) for name, t in layer.state_dict().items()})
    return layer, random.standard_normal((6, 2, 3))


def sigma(a):
    return 1 / (1 + np.exp(-a))


def by_numpy(cell, xs, reverse):
    """r, z and the next state of one cell at every step of xs (T, 3), from zeros."""
    p = {name: value.numpy() for name, value in cell.named_parameters()}
    h, found = np.zeros(4), np.empty((3, len(xs), 4))
    for t in range(len(xs))[:: -1 if reverse else 1]:
        r = sigma(xs[t] @ p["W_r"] + h @ p["U_r"] + p["b_r"])
        z = sigma(xs[t] @ p["W_z"] + h @ p["U_z"] + p["b_z"])
        h = (1 - z) * h + z * np.tanh(xs[t] @ p["W_h"] + (r * h) @ p["U_h"] + p["b_h"])
        found[:, t] = r, z, h
    return dict(zip(("r", "z", "h'"), found))


@pytest.mark.parametrize("lengths", [None, [6, 2], [0, 5]])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2}, {"bidirectional": True, "num_layers": 2}, {"reverse": True}], ids=str
)
@pytest.mark.parametrize("mode", [{"compiled": False}, {}, {"checkpoint_every": 4}], ids=["eager", "compiled", "k=4"])
def test_records_are_those_of_each_sequence_alone_in_each_cell(lengths, batch_first, options, mode):
    layer, x = make(batch_first=batch_first, **options, **mode)
    names = ("r", "z", "h'")
    settings = {"lengths": lengths, "past_end": -7.0}
    output, state, records = layer(x.swapaxes(0, 1) if batch_first else x, record=names, **settings)
    plain_output, plain_state = layer(x.swapaxes(0, 1) if batch_first else x, **settings)
    np.testing.assert_allclose(output.numpy(), plain_output.numpy(), rtol=1e-12)
    np.testing.assert_allclose(state.numpy(), plain_state.numpy(), rtol=1e-12)
    assert len(records) == len(layer.cells) and all(tuple(one) == names for one in records)
    got = [{n: t.numpy().swapaxes(0, 1) if batch_first else t.numpy() for n, t in one.items()} for one in records]
    for b, length in enumerate(lengths or [6, 6]):
        below = x[:length, b]
        for first in range(0, len(layer.cells), layer.directions):
            outputs = []
            for k in range(first, first + layer.directions):
                expected = by_numpy(layer.cells[k], below, layer.reverse or k > first)
                outputs.append(expected["h'"])
                for name in names:
                    np.testing.assert_allclose(got[k][name][:length, b], expected[name], rtol=1e-10)
                    assert np.all(got[k][name][length:, b] == -7.0), "padding"
            below = np.concatenate(outputs, axis=1)


def test_padding_is_filled_like_the_output():
    layer, x = make()

    def records(past_end):
        return layer(x, lengths=[2, 6], past_end=past_end, record=("z", "h'"))[2][0]

    padding = np.s_[2:, 0]
    assert np.all(records("zero")["z"].numpy()[padding] == 0)
    assert np.all(np.isnan(records("nan")["z"].numpy()[padding]))
    held = records("hold")
    assert np.all(held["z"].numpy()[padding] == 0)
    assert np.array_equal(held["h'"].numpy(), layer(x, lengths=[2, 6], past_end="hold")[0].numpy())


@pytest.mark.parametrize("mode", [False, True])
def test_a_record_keeps_its_dtype_at_padding(mode, device):
    class Rectifier(nn.Cell):
        def __init__(self, input_size, hidden_size, **options):
            super().__init__(input_size, hidden_size, **options)
            self.W = self.new_W()

        def step(self, h, x):
            a = x @ self.W + h
            positive = a > 0
            return ops.where(positive, a, 0.1 * a)

    layer = nn.Recurrent.of(Rectifier)(3, 4, dtype="float64", device=device, compiled=mode)
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    for past_end in ("zero", "hold"):
        y, _, (record,) = layer(x, lengths=[3, 5], past_end=past_end, record=("positive", "a"))
        assert record["positive"].dtype == bool and record["a"].dtype == np.float64
        valid = np.s_[:3]
        assert np.array_equal(record["positive"].numpy()[valid], y.numpy()[valid] > 0)
        assert not record["positive"].numpy()[3:, 0].any() and not record["a"].numpy()[3:, 0].any()


def test_gradients_flow_through_records_and_not_from_padding():
    layer, x = make(num_layers=2)
    x = Tensor(np.where(np.arange(6)[:, None, None] < [[[2], [6]]][0], x, np.nan), requires_grad=True)

    def loss(*_):
        records = layer(x, lengths=[2, 6], record=("r", "h_tilde"))[2]
        return sum((ops.square(one["r"]) * one["h_tilde"]).sum() for one in records)

    loss().backward()
    gradient = x.grad.numpy()
    assert np.all(gradient[2:, 0] == 0) and np.all(gradient[:2] != 0)
    gradcheck(loss, [layer.cells[0].W_r, layer.cells[1].U_h])


def test_an_lstm_and_options_of_cells():
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    lstm = nn.LSTM(3, 4, dtype="float64")
    output, state, (record,) = lstm(x, record=("i", "f", "g", "o", "c", "h'"))
    c = np.zeros((2, 4))
    for t in range(5):
        c = record["f"].numpy()[t] * c + record["i"].numpy()[t] * record["g"].numpy()[t]
        np.testing.assert_allclose(record["c"].numpy()[t], c, rtol=1e-12)
    np.testing.assert_allclose(state[1].numpy()[0], c, rtol=1e-12)
    assert np.array_equal(record["h'"].numpy(), output.numpy())
    for options in ({"reset_after": True}, {"zoneout": 0.3}, {"recurrent_dropout": 0.5}, {"layer_norm": True}):
        gru = nn.GRU(3, 4, dtype="float64", **options)
        output, _, (record,) = gru(x, record=("z", "h_tilde", "h", "h'"))
        assert np.array_equal(record["h'"].numpy(), output.numpy())
        assert np.array_equal(record["h"].numpy()[1:], output.numpy()[:-1])
        if "zoneout" not in options:
            z, candidate, h = (record[name].numpy() for name in ("z", "h_tilde", "h"))
            np.testing.assert_allclose((1 - z) * h + z * candidate, output.numpy(), rtol=1e-12)


def test_errors_name_the_layer_and_what_there_is():
    layer, x = make()
    model = nn.Sequential(layer, nn.Linear(4, 2, dtype="float64"))
    with pytest.raises(ValueError, match=r"record: the step GRUCell.step has no Tensor named 'i'; it has h, x, r, z"):
        layer(x, record="i")
    with pytest.raises(TypeError, match="record"):
        model(x, record="z")  # a Sequential has no records

    class Scaled(nn.Cell):
        def __init__(self, *sizes, **options):
            super().__init__(*sizes, **options)
            self.W = self.new_W()

        def step(self, h, x):
            scale = self.W.sum()
            return h + scale * (x @ self.W)

    with pytest.raises(
        ValueError, match=r"record: 'scale' has the shape \(\) at a step, without the axis of the batch"
    ):
        nn.Recurrent.of(Scaled)(3, 4)(x.astype("float32"), record="scale")
