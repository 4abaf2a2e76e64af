"""Sequential as a list of layers, on recurrent layers, and with padding; LastStep; what repr shows of functions."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tinygrad_gru import Tensor, manual_seed, nn, ops
from tinygrad_gru.nn.sequential import function_name
from tinygrad_gru.testing import gradcheck

LENGTHS = [5, 2, 3, 1]
MASK = np.array([[1, 1, 0, 1, 0], [0, 0, 1, 1, 1], [1, 0, 0, 0, 0], [0, 1, 0, 1, 1]], bool).T


def random(*shape, **options):
    return Tensor(np.random.default_rng(0).standard_normal(shape), **{"dtype": "float64", **options})


def layer(kind="GRU", **settings):
    manual_seed(0)
    return getattr(nn, kind)(3, 4, dtype="float64", **settings)


def test_a_sequential_is_a_list_of_layers():
    first, second = nn.Linear(2, 3), nn.Linear(3, 1)
    model = nn.Sequential([first, ops.tanh, second])
    assert len(model) == 3 and list(model) == [first, ops.tanh, second]
    assert model[0] is first and model[-1] is second
    tail = model[1:]
    assert isinstance(tail, nn.Sequential) and list(tail) == [ops.tanh, second]
    x = random(5, 2, dtype="float32")
    np.testing.assert_array_equal(tail(first(x)).numpy(), model(x).numpy())
    with pytest.raises(IndexError):
        model[3]
    model[-1] = nn.Linear(3, 4)
    assert model.append(nn.Dropout())(x).shape == (5, 4)
    assert [name for name, _ in model.named_parameters()] == ["layers.0.W", "layers.0.b", "layers.2.W", "layers.2.b"]
    assert nn.Sequential()(x) is x


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.Dropout), r"layer 1 is the class Dropout: write Dropout\(…\)"),
        (lambda: nn.Sequential(Tensor(1.0)), "layer 0 must be a module or a function, got Tensor"),
        (lambda: nn.Sequential(nn.Linear(2, 3)).append(3), "layer 1 must be a module or a function, got int"),
        (lambda: nn.Sequential({"a": nn.Linear(2, 3)}), r"got a dict: write Sequential\(\*layers.values\(\)\)"),
    ],
)
def test_what_is_no_layer_is_refused_at_once(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM", "MGU"])
def test_the_output_of_a_recurrent_layer_is_passed_on(kind):
    recurrent, head, x = layer(kind), nn.Linear(4, 2, dtype="float64"), random(5, 4, 3)
    expected = head(recurrent(x)[0])
    for model in (nn.Sequential(recurrent, head), nn.Sequential(nn.Sequential(ops.tanh, recurrent)[1:], head)):
        np.testing.assert_array_equal(model(x).numpy(), expected.numpy())
    output, state = nn.Sequential(head.W.moveaxis, recurrent)[1:](x)  # of the last layer both
    np.testing.assert_array_equal(output.numpy(), recurrent(x)[0].numpy())
    assert type(state) is type(recurrent(x)[1])


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize("settings", [{}, {"bidirectional": True}, {"reverse": True}, {"num_layers": 2}], ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("padding", [{}, {"lengths": LENGTHS}, {"mask": MASK}], ids=str)
def test_last_step_is_the_last_state_of_each_direction(kind, settings, batch_first, padding):
    recurrent, x = layer(kind, batch_first=batch_first, **settings), random(5, 4, 3)
    if batch_first:
        x, padding = x.moveaxis(0, 1), {name: value.T if name == "mask" else value for name, value in padding.items()}
    state = recurrent(x, **padding)[1]
    h = state[0] if kind == "LSTM" else state
    expected = ops.concatenate([h[-2], h[-1]], axis=-1) if settings.get("bidirectional") else h[-1]
    found = nn.Sequential(recurrent, nn.LastStep())(x, **padding)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-13)


def test_last_step_has_gradients():
    last = nn.LastStep(bidirectional=True)
    assert gradcheck(lambda x: last(x, lengths=[5, 2, 3, 0]), [random(5, 4, 2, requires_grad=True)])


def test_last_step_of_a_sequence_without_steps_is_zero(device):
    model = nn.Sequential(nn.GRU(3, 4, bidirectional=True, device=device), nn.LastStep())
    last = model(np.ones((5, 2, 3)), lengths=[0, 2]).numpy()
    assert not last[0].any() and last[1].all()


def test_arrays_are_moved_to_the_backend_of_the_weights(backend):
    model = nn.Sequential(nn.LSTM(3, 4, bidirectional=True, batch_first=True), nn.LastStep())
    x, state = random(2, 5, 3).numpy(), [np.ones((2, 2, 4))] * 2
    expected, after = model(x, lengths=[5, 2]), model[0](x, state)[1]
    model.to(backend)
    found, there = model(x, lengths=[5, 2]), model[0](x, state)[1]
    assert {found.device, there.h.device, there.c.device} == {backend.name}
    for one, other in ((found, expected), *zip(there, after)):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-7)


def test_layers_between_a_recurrent_layer_and_last_step():
    recurrent, x = layer(batch_first=True), random(4, 5, 3)
    model = nn.Sequential(recurrent, ops.tanh, nn.LastStep())
    np.testing.assert_array_equal(model(x).numpy(), np.tanh(recurrent(x)[0].numpy()[:, -1]))
    with pytest.raises(ValueError, match="put it directly after the bidirectional layer"):
        nn.Sequential(layer(bidirectional=True), ops.tanh, nn.LastStep())(x)
    with pytest.raises(ValueError, match=r"merge='concat' .*state\[-2\]"):
        nn.Sequential(layer(bidirectional=True, merge="sum"), nn.LastStep())(x)
    with pytest.raises(ValueError, match=r"LastStep: expected x \(time, batch, features\) .*, got \(4, 3\)"):
        nn.LastStep()(x[:, 0])
    with pytest.raises(ValueError, match=r"with a step or more, got \(0, 4, 3\)"):
        nn.LastStep()(x[:, :0].moveaxis(0, 1))


@pytest.mark.parametrize("padding", [{}, {"lengths": [5, 2, 3, 1]}])
def test_last_step_and_the_recurrent_layer_in_different_sequentials(padding):
    recurrent, linear, x = layer(batch_first=True), nn.Linear(4, 2, dtype="float64"), random(4, 5, 3)
    expected = linear(nn.Sequential(recurrent, nn.LastStep())(x, **padding)).numpy()
    for model in (
        nn.Sequential(nn.Sequential(recurrent, linear), nn.LastStep()),
        nn.Sequential(recurrent, nn.Sequential(nn.LastStep(), nn.Sequential(linear))),
        nn.Sequential(recurrent, nn.Sequential(nn.Sequential(linear), nn.LastStep())),
    ):
        np.testing.assert_array_equal(model(x, **padding).numpy(), expected)


def test_layouts_that_contradict_each_other_are_refused():
    for between in ([], [nn.Dropout()]):
        with pytest.raises(ValueError, match=r"layer \d has batch_first=False, the recurrent layer before it True"):
            nn.Sequential(layer(batch_first=True), *between, nn.GRU(4, 4))
    nn.Sequential(layer(batch_first=True), lambda x: x.moveaxis(0, 1), nn.GRU(4, 4))
    for setting in ("batch_first", "bidirectional"):
        with pytest.raises(ValueError, match="are those of the recurrent layer before it in a Sequential"):
            nn.Sequential(layer(), nn.LastStep(**{setting: True}))(random(5, 4, 3))


class Mean(nn.Module):
    def forward(self, x, lengths=None):
        return x.sum(axis=0) / (len(x) if lengths is None else np.array(lengths)[:, None])


def test_lengths_reach_every_layer_that_takes_them():
    first, second, x = layer(), nn.LSTM(4, 4, dtype="float64"), random(5, 4, 3)
    model = nn.Sequential(first, nn.Sequential(second, nn.Dropout(0.5)), Mean()).eval()
    output, _ = second(first(x, lengths=LENGTHS)[0], lengths=LENGTHS)
    expected = output.numpy().sum(axis=0) / np.array(LENGTHS)[:, None]
    np.testing.assert_allclose(model(x, lengths=LENGTHS).numpy(), expected, rtol=1e-14)
    with pytest.raises(TypeError, match="no layer takes lengths"):
        nn.Sequential(nn.Linear(3, 2), ops.tanh)(x.astype("float32"), lengths=LENGTHS)


def test_a_carried_state_goes_to_each_recurrent_layer():
    first, second, head, x = layer(), nn.LSTM(4, 4, dtype="float64"), nn.Linear(4, 2, dtype="float64"), random(6, 4, 3)
    inner = nn.Sequential(second, ops.tanh, returns_state=True)
    model = nn.Sequential(first, inner, head, returns_state=True)
    whole, last = model(x)
    start, state = model(x[:4])
    assert [type(part) for part in state] == [Tensor, nn.State] and state.detach()[1][0][0].requires_grad is False
    rest, state = model(x[4:], state)
    np.testing.assert_allclose(np.concatenate([start.numpy(), rest.numpy()]), whole.numpy(), rtol=1e-12)
    np.testing.assert_allclose(state[1][0].c.numpy(), last[1][0].c.numpy(), rtol=1e-12)
    np.testing.assert_array_equal(nn.Sequential(first, inner, head)(x).numpy(), whole.numpy())
    lengths = nn.Sequential(first, nn.LastStep(), returns_state=True)(x, state=[np.ones((1, 4, 4))], lengths=LENGTHS)
    np.testing.assert_allclose(lengths[0].numpy(), lengths[1][0].numpy()[0], rtol=1e-12)
    assert repr(lengths[1]) == "State((1, 4, 4) float64)"


def test_a_state_that_would_be_lost_is_refused():
    x = random(5, 4, 3)
    with pytest.raises(TypeError, match=r"this Sequential carries none on: .*returns_state=True"):
        nn.Sequential(layer())(x, np.zeros((1, 4, 4)))
    with pytest.raises(TypeError, match=r"layer 1 has recurrent layers: make it with returns_state=True too"):
        nn.Sequential(ops.tanh, nn.Sequential(nn.Sequential(layer())), returns_state=True)
    with pytest.raises(
        TypeError, match="expected a tuple of 1, one for each recurrent layer, as was returned, got Tensor"
    ):
        nn.Sequential(layer(), returns_state=True)(x, Tensor(np.zeros((1, 4, 4))))
    with pytest.raises(TypeError, match="one for each recurrent layer, as was returned, got list of 2"):
        nn.Sequential(layer(), returns_state=True)(x, [None, None])


def test_repr_shows_functions():
    scale = 2
    model = nn.Sequential(nn.Linear(2, 1), ops.tanh, lambda x: x * scale, nn.Sequential(lambda x: x[:, 0], np.sort))
    assert repr(model).splitlines() == [
        "Sequential()  3 parameters",
        "  layers.0: Linear(2, 1)  3 parameters",
        "  layers.1: ops.tanh",
        "  layers.2: lambda x: x * scale",
        "  layers.3: Sequential()  0 parameters",
        "    layers.0: lambda x: x[:, 0]",
        "    layers.1: sort",
    ]


def test_names_of_functions():
    assert function_name(partial(ops.softmax, axis=-1)) == "partial(ops.softmax, axis=-1)"
    assert function_name(partial(max, 3)) == "partial(max, 3)"
    assert function_name(eval("lambda x: x")) == "<lambda>"
    first, second = lambda x: x + 1, lambda x: x + 2
    assert [function_name(first), function_name(second)] == ["lambda x: x + 1", "lambda x: x + 2"]
    third = partial(
        lambda x, y=(
            1
        ): x + y
    )  # fmt: skip
    assert function_name(third) == "partial(<lambda>)"
