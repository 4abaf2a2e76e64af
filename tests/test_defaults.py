"""docs/defaults.md is true: its values are read from the signatures of all three libraries, its rules are computed."""

from __future__ import annotations

import ast
import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, ops, optim, train

TEXT = (Path(__file__).parents[1] / "docs" / "defaults.md").read_text(encoding="utf-8")


def rows():
    """The rows of the tables: what, the values here, in PyTorch and in Keras; None where there is no such thing."""
    for line in re.findall(r"^\| (`.*|a recurrent.*) \|$", TEXT, re.M):
        what, *cells = re.split(r" \| ", line)
        found = [re.fullmatch(r"`(.*)`|–", cell) for cell in cells[:3]]
        assert all(found), line
        yield what, *(None if cell[1] is None else (ast.literal_eval(cell[1]),) for cell in found)


ROWS = {what: values for what, *values in rows()}


def default(function, name):
    return inspect.signature(function).parameters[name].default


def ours():
    correction = {default(f, "correction") for f in (ops.std, ops.var)}
    return {
        "`SGD`: lr": default(optim.SGD, "lr"),
        "`Adam`: ε": default(optim.Adam, "eps"),
        "`AdamW`: ε": default(optim.AdamW, "eps"),
        "`AdamW`: weight decay": default(optim.AdamW, "weight_decay"),
        "`RMSprop`: lr": default(optim.RMSprop, "lr"),
        "`RMSprop`: α (Keras's rho)": default(optim.RMSprop, "alpha"),
        "`RMSprop`: ε": default(optim.RMSprop, "eps"),
        "`Adagrad`: lr": default(optim.Adagrad, "lr"),
        "`Adagrad`: the accumulator's start": default(optim.Adagrad, "initial_accumulator_value"),
        "`Adagrad`: ε": default(optim.Adagrad, "eps"),
        "`LBFGS`: line search": default(optim.LBFGS, "line_search_fn"),
        "`ReduceOnPlateau`: the threshold is relative": default(optim.ReduceOnPlateau, "relative"),
        "`train.fit`: optimizer": default(train.fit, "optimizer"),
        "`GRU`: reset gate after the product": nn.GRU(2, 3).cells[0].settings()["reset_after"],
        "`LSTM`: the forget gate's bias starts at": float(nn.LSTM(2, 3).cells[0].b_f.numpy()[0]),
        "`LayerNorm`: ε": default(nn.LayerNorm, "eps"),
        "`Dropout`: p": default(nn.Dropout, "p"),
        "`LeakyReLU`: slope": default(nn.LeakyReLU, "slope"),
        "`GELU`": "tanh" if "0.044715" in ops.gelu.__doc__ else "none",
        "a recurrent layer's batch axis first": default(nn.GRU, "batch_first"),
        "a recurrent layer's output at every step": nn.GRU(2, 3)(np.zeros((5, 1, 2)))[0].shape == (5, 1, 3),
        "`cross_entropy`: a target that does not count": default(ops.cross_entropy, "ignore_index"),
        "`cross_entropy`: takes logits": ops.cross_entropy(np.full((1, 2), 7.0), [0]) == pytest.approx(math.log(2)),
        "`std`, `var`: correction": correction.pop() if len(correction) == 1 else correction,
        "`kl_divergence`: the mean is over": "distributions" if kl() == pytest.approx(math.log(2)) else "elements",
        "`one_hot`: dtype": str(ops.one_hot([0], depth=2).dtype),
    }


def kl():
    return ops.kl_divergence(np.log(np.full((3, 2), 0.5)), np.tile([1.0, 0.0], (3, 1)))


def pytorch():
    torch = pytest.importorskip("torch")
    o, layers, one = torch.optim, torch.nn, torch.tensor([1.0, 3.0])
    log_q, p = torch.full((3, 2), 0.5).log(), torch.tensor([[1.0, 0.0]] * 3)
    with pytest.warns(UserWarning, match="batchmean"):
        mean_kl = torch.nn.functional.kl_div(log_q, p, reduction=default(layers.KLDivLoss, "reduction")).item()
    return {
        "`SGD`: lr": default(o.SGD, "lr"),
        "`Adam`: ε": default(o.Adam, "eps"),
        "`AdamW`: ε": default(o.AdamW, "eps"),
        "`AdamW`: weight decay": default(o.AdamW, "weight_decay"),
        "`RMSprop`: lr": default(o.RMSprop, "lr"),
        "`RMSprop`: α (Keras's rho)": default(o.RMSprop, "alpha"),
        "`RMSprop`: ε": default(o.RMSprop, "eps"),
        "`Adagrad`: lr": default(o.Adagrad, "lr"),
        "`Adagrad`: the accumulator's start": default(o.Adagrad, "initial_accumulator_value"),
        "`Adagrad`: ε": default(o.Adagrad, "eps"),
        "`LBFGS`: line search": default(o.LBFGS, "line_search_fn"),
        "`ReduceOnPlateau`: the threshold is relative": default(o.lr_scheduler.ReduceLROnPlateau, "threshold_mode"),
        "`LayerNorm`: ε": default(layers.LayerNorm, "eps"),
        "`Dropout`: p": default(layers.Dropout, "p"),
        "`LeakyReLU`: slope": default(layers.LeakyReLU, "negative_slope"),
        "`GELU`": default(layers.GELU, "approximate"),
        "a recurrent layer's batch axis first": layers.GRU(2, 3).batch_first,
        "`cross_entropy`: a target that does not count": default(layers.CrossEntropyLoss, "ignore_index"),
        "`std`, `var`: correction": {1.0: 0, 2.0: 1}[round(torch.var(one).item(), 6)],
        "`kl_divergence`: the mean is over": "elements"
        if mean_kl == pytest.approx(math.log(2) / 2)
        else "distributions",
        "`one_hot`: dtype": str(torch.nn.functional.one_hot(torch.tensor([0])).dtype).rpartition(".")[2],
    }


def keras():
    pytest.importorskip("keras")
    import keras

    o, layers = keras.optimizers, keras.layers
    q, p = np.full((3, 2), 0.5, "float32"), np.tile(np.array([1.0, 0.0], "float32"), (3, 1))
    mean_kl = float(keras.losses.KLDivergence()(p, q))
    return {
        "`SGD`: lr": default(o.SGD, "learning_rate"),
        "`Adam`: ε": default(o.Adam, "epsilon"),
        "`AdamW`: ε": default(o.AdamW, "epsilon"),
        "`AdamW`: weight decay": default(o.AdamW, "weight_decay"),
        "`RMSprop`: lr": default(o.RMSprop, "learning_rate"),
        "`RMSprop`: α (Keras's rho)": default(o.RMSprop, "rho"),
        "`RMSprop`: ε": default(o.RMSprop, "epsilon"),
        "`Adagrad`: lr": default(o.Adagrad, "learning_rate"),
        "`Adagrad`: the accumulator's start": default(o.Adagrad, "initial_accumulator_value"),
        "`Adagrad`: ε": default(o.Adagrad, "epsilon"),
        "`train.fit`: optimizer": default(keras.Model.compile, "optimizer"),
        "`GRU`: reset gate after the product": default(layers.GRU, "reset_after"),
        "`LSTM`: the forget gate's bias starts at": default(layers.LSTM, "unit_forget_bias"),
        "`LayerNorm`: ε": default(layers.LayerNormalization, "epsilon"),
        "`LeakyReLU`: slope": default(layers.LeakyReLU, "negative_slope"),
        "`GELU`": default(keras.activations.gelu, "approximate"),
        "a recurrent layer's output at every step": default(layers.GRU, "return_sequences"),
        "`cross_entropy`: a target that does not count": default(
            keras.losses.SparseCategoricalCrossentropy, "ignore_class"
        ),
        "`cross_entropy`: takes logits": default(keras.losses.SparseCategoricalCrossentropy, "from_logits"),
        "`std`, `var`: correction": {1.0: 0, 2.0: 1}[round(float(keras.ops.var(np.array([1.0, 3.0]))), 6)],
        "`kl_divergence`: the mean is over": "distributions"
        if mean_kl == pytest.approx(math.log(2), 1e-4)
        else "elements",
        "`one_hot`: dtype": str(keras.ops.one_hot(np.array([0]), 2).dtype).rpartition(".")[2],
    }


@pytest.mark.parametrize(("column", "read"), [(0, ours), (1, pytorch), (2, keras)], ids=["ours", "pytorch", "keras"])
def test_every_value_of_the_tables_is_that_of_the_library(column, read):
    listed = {what: values[column][0] for what, values in ROWS.items() if values[column] is not None}
    assert len(listed) > 19
    assert listed == read()


def test_the_tables_list_what_differs():
    for what, (here, *peers) in ROWS.items():
        known = [peer for peer in peers if peer is not None]
        assert here is not None and (len(known) < 2 or any(peer != here for peer in known)), what


def test_the_settings_for_theirs_exist():
    tables = TEXT.partition("## Conventions")[0]
    settings = [(name, setting) for name, text in re.findall(r"^\| `(\w+)`.*\| (.*) \|$", tables, re.M)
                for setting in re.findall(r"`(\w+)=", text)]  # fmt: skip
    assert len(settings) > 15
    for name, setting in settings:
        function = next(getattr(place, name) for place in (optim, nn, ops) if hasattr(place, name))
        known = {*inspect.signature(function).parameters}
        if name in ("GRU", "LSTM"):
            known = set(function(2, 3).cells[0].settings())
        assert setting in known, (name, setting)


# -- conventions ---------------------------------------------------------------------------------------------------


@pytest.fixture
def keras_step():
    """One step of an optimizer of Keras on a single number, after the steps for which gradients are given."""
    pytest.importorskip("keras")
    import keras

    def run(optimizer, gradients, start=1.0):
        variable, values = keras.Variable(np.array([start], "float64"), dtype="float64"), []
        optimizer.build([variable])
        for g in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(np.array([g], "float64"))], [variable])
            values.append(variable.value.item())  # a tensor of PyTorch, see conftest.py
        return values

    return run


def our_steps(make, gradients, start=1.0):
    x, values = Tensor(np.array([start]), requires_grad=True), []
    optimizer = make([x])
    for g in gradients:
        x.grad = Tensor(np.array([g]))
        optimizer.step()
        values.append(x.item())
    return values


def test_where_epsilon_stands(keras_step):
    """With ε as large as the gradients: ours as the page writes it, Keras's as the page writes it."""
    import keras

    g, eps, lr = 0.5, 0.25, 0.1
    adam = our_steps(lambda p: optim.Adam(p, lr=lr, eps=eps), [g])[0]
    assert adam == pytest.approx(1 - lr * g / (g + eps), rel=1e-12)
    theirs = keras_step(keras.optimizers.Adam(lr, epsilon=eps), [g])[0]
    assert theirs == pytest.approx(1 - lr * g / (g + eps / math.sqrt(1 - 0.999)), rel=1e-5)
    assert 31 < 1 / math.sqrt(1 - 0.999) < 32
    rms = our_steps(lambda p: optim.RMSprop(p, lr=lr, alpha=0.9, eps=eps), [g])[0]
    assert rms == pytest.approx(1 - lr * g / (math.sqrt(0.1 * g * g) + eps), rel=1e-12)
    theirs = keras_step(keras.optimizers.RMSprop(lr, epsilon=eps), [g])[0]
    assert theirs == pytest.approx(1 - lr * g / math.sqrt(0.1 * g * g + eps), rel=1e-5)
    ada = our_steps(lambda p: optim.Adagrad(p, lr=lr, eps=eps), [g])[0]
    assert ada == pytest.approx(1 - lr * g / (g + eps), rel=1e-12)
    theirs = keras_step(keras.optimizers.Adagrad(lr, initial_accumulator_value=0.0, epsilon=eps), [g])[0]
    assert theirs == pytest.approx(1 - lr * g / math.sqrt(g * g + eps), rel=1e-5)


def test_weight_decay_and_momentum(keras_step):
    import keras

    gradients = [0.5, -0.25, 0.125]
    theirs = keras_step(keras.optimizers.Adam(0.1, weight_decay=0.1), gradients)
    decoupled = our_steps(lambda p: optim.AdamW(p, lr=0.1, eps=1e-7, weight_decay=0.1), gradients)
    coupled = our_steps(lambda p: optim.Adam(p, lr=0.1, eps=1e-7, weight_decay=0.1), gradients)
    np.testing.assert_allclose(theirs, decoupled, rtol=1e-5)
    assert abs(coupled[0] - theirs[0]) > 1e-3
    theirs = keras_step(keras.optimizers.SGD(0.1, momentum=0.9), gradients)
    np.testing.assert_allclose(theirs, our_steps(lambda p: optim.SGD(p, lr=0.1, momentum=0.9), gradients), rtol=1e-6)


def test_two_biases_move_twice_as_fast_and_count_twice(rng):
    """PyTorch's RNN beside ours with the sum of its biases: equal with twice the lr for the bias, and else not."""
    torch = pytest.importorskip("torch")
    x, lr = rng.standard_normal((5, 4, 2)), 0.1
    peer = torch.nn.RNN(2, 3, dtype=torch.float64)
    state = {name: value.detach().numpy() for name, value in peer.named_parameters()}
    weights = {
        "W": state["weight_ih_l0"].T,
        "U": state["weight_hh_l0"].T,
        "b": state["bias_ih_l0"] + state["bias_hh_l0"],
    }
    weights = {f"cells.0.{name}": np.array(value) for name, value in weights.items()}

    def trained(rate):
        layer = nn.RNN(2, 3, dtype="float64")
        layer.load_state_dict(weights)
        bias = [layer.cells[0].b]
        others = [layer.cells[0].W, layer.cells[0].U]
        optimizer = optim.SGD([{"parameters": bias, "lr": rate}, {"parameters": others}], lr=lr)
        for step in range(3):
            optimizer.zero_grad()
            layer(x)[0].square().sum().backward()
            if not step:
                of_bias = bias[0].grad.square().sum().item()
                norm = optim.clip_gradient_norm(optimizer.parameters(), np.inf).item()
            optimizer.step()
        return bias[0].numpy(), norm, of_bias

    theirs = torch.optim.SGD(peer.parameters(), lr=lr)
    for step in range(3):
        theirs.zero_grad()
        (peer(torch.tensor(x))[0] ** 2).sum().backward()
        if not step:
            norm = torch.nn.utils.clip_grad_norm_(peer.parameters(), math.inf).item()
        theirs.step()
    expected = (peer.bias_ih_l0 + peer.bias_hh_l0).detach().numpy()
    mine, our_norm, of_bias = trained(2 * lr)
    np.testing.assert_allclose(mine, expected, rtol=1e-9)
    assert np.abs(trained(lr)[0] - expected).max() > 1e-3
    assert norm**2 == pytest.approx(our_norm**2 + of_bias, rel=1e-9)


def test_initial_values(rng):
    torch = pytest.importorskip("torch")
    for layer, peer in ((nn.Linear(400, 300).W, torch.nn.Linear(400, 300).weight.T),
                        (nn.Embedding(400, 300).W, torch.nn.Embedding(400, 300).weight)):  # fmt: skip
        a, b = layer.numpy(), peer.detach().numpy()
        assert a.std() == pytest.approx(b.std(), rel=0.02) and a.max() == pytest.approx(b.max(), rel=0.2)
    cell = nn.LSTM(40, 30).cells[0]
    assert abs(cell.W_i.numpy()).max() <= math.sqrt(6 / 70)
    np.testing.assert_allclose(cell.U_i.numpy() @ cell.U_i.numpy().T, np.eye(30), atol=1e-5)
    assert not cell.b_i.numpy().any() and (cell.b_f.numpy() == 1).all()
    layer = nn.Linear(3, 2)
    layer.load_state_dict({"W": nn.init.xavier_uniform(3, 2), "b": nn.init.zeros(2)})
    assert layer.W.dtype == "float32" and not layer.b.numpy().any()
    nn.Embedding(3, 2).load_state_dict({"W": nn.init.uniform(3, 2, bound=0.05)})


def test_clipping_shapes_ties_and_what_does_not_count():
    torch = pytest.importorskip("torch")
    x, p = (
        Tensor(np.array([3.0, 4.0]), requires_grad=True),
        torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True),
    )
    (x * [3.0, 4.0]).sum().backward()
    (p * torch.tensor([3.0, 4.0])).sum().backward()
    optim.clip_gradient_norm([x], 1.0)
    torch.nn.utils.clip_grad_norm_([p], 1.0)
    assert x.grad.norm().item() == pytest.approx(1.0, rel=1e-14)
    assert p.grad.norm().item() == pytest.approx(5 / (5 + 1e-6), rel=1e-12)
    nothing = {"ignore_index": -100}
    assert ops.cross_entropy(np.zeros((1, 2)), [-100], **nothing) == 0
    assert math.isnan(torch.nn.functional.cross_entropy(torch.zeros(1, 2), torch.tensor([-100])).item())
    with pytest.raises(ValueError, match="must have the same shape"):
        ops.mse(np.zeros((3, 1)), np.zeros(3))
    with pytest.warns(UserWarning, match="target size"):
        assert torch.nn.functional.mse_loss(torch.zeros(3, 1), torch.ones(3), reduction="none").shape == (3, 3)
    x = np.linspace(-6, 6, 2001)
    exact = torch.nn.functional.gelu(torch.tensor(x)).numpy()
    assert 4e-4 < abs(ops.gelu(x) - exact).max() < 5e-4


def test_past_the_end_of_a_sequence():
    keras = pytest.importorskip("keras")
    layer, x = nn.RNN(2, 3), np.ones((1, 4, 2), "float32")
    output = layer(x.transpose(1, 0, 2), lengths=[2])[0].numpy()[:, 0]
    held = layer(x.transpose(1, 0, 2), lengths=[2], past_end="hold")[0].numpy()[:, 0]
    mask = np.array([[True, True, False, False]])
    theirs = keras.layers.SimpleRNN(3, return_sequences=True)(x, mask=mask)[0].detach().numpy()
    assert not output[2:].any() and (held[2:] == held[1]).all()
    np.testing.assert_array_equal(theirs[2:], theirs[[1, 1]])


def test_what_is_the_same():
    assert default(optim.Adam, "betas") == (0.9, 0.999) and default(optim.Adam, "lr") == 1e-3
    assert default(optim.SGD, "momentum") == 0 and not default(optim.SGD, "nesterov")
    assert default(ops.cross_entropy, "label_smoothing") == 0 and default(ops.huber, "delta") == 1
    assert default(ops.mse, "reduction") == "mean"
    assert default(nn.GRU, "dropout") == 0 and default(nn.GRU, "merge") == "concat"
    assert default(train.fit, "batch_size") == 32
    torch = pytest.importorskip("torch")
    assert default(torch.optim.Adam, "betas") == (0.9, 0.999) and default(torch.optim.Adam, "lr") == 1e-3
    assert default(torch.optim.SGD, "momentum") == 0 and not default(torch.optim.SGD, "nesterov")
    assert default(torch.nn.CrossEntropyLoss, "label_smoothing") == 0 and default(torch.nn.HuberLoss, "delta") == 1
    assert default(torch.nn.MSELoss, "reduction") == "mean" and torch.nn.GRU(2, 3).dropout == 0
    keras = pytest.importorskip("keras")
    adam = keras.optimizers.Adam
    assert [default(adam, name) for name in ("learning_rate", "beta_1", "beta_2")] == [1e-3, 0.9, 0.999]
    assert default(keras.losses.CategoricalCrossentropy, "label_smoothing") == 0
    assert default(keras.losses.Huber, "delta") == 1 and default(keras.layers.GRU, "dropout") == 0
    assert default(keras.layers.Bidirectional, "merge_mode") == "concat"
