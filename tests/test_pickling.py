"""Copies and pickles of tensors, ops, modules and optimizers: they compute and train identically, bit for bit, and
share no memory with the original."""

from __future__ import annotations

import copy
import functools
import pickle

import numpy as np
import pytest
from nn.cell_option_cases import VARIANTS

from tinygrad_gru import TapeError, Tensor, manual_seed, nn, ops, optim, remat
from tinygrad_gru.ops.op import unwrap
from tinygrad_gru.train.precision import mixed_precision

COPIES = {"pickle": lambda value: pickle.loads(pickle.dumps(value)), "deepcopy": copy.deepcopy}


@pytest.fixture(params=COPIES)
def copied(request):
    return COPIES[request.param]


class LeakyCell(nn.VariedCell):
    """A user's cell."""

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b()

    def step(self, h, x):
        return 0.5 * h + 0.5 * self.activation(self.affine("", x, h))


@ops.op
def swish(x, *, slope=1.0):
    """A user's op."""
    return x / (1 + np.exp(-slope * x))


swish.vjp(x=lambda g, x, slope: g * (ops.sigmoid(slope * x) * (1 + slope * x * ops.sigmoid(-slope * x))))


class Activated(nn.Module):
    """A module with an op as an attribute, and one as a default of its class."""

    curve = staticmethod(swish)

    def __init__(self):
        self.activation = swish

    def forward(self, x):
        return self.activation(x) * 0.5 + self.curve(x) * 0.5


X = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)
MODULES = {
    "Linear": lambda: nn.Linear(4, 3),
    "LayerNorm": lambda: nn.LayerNorm(4),
    "Embedding": lambda: nn.Embedding(5, 4),
    "Dropout": lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)),
    "Sequential": lambda: nn.Sequential(nn.Linear(4, 4), ops.tanh, nn.Linear(4, 1)),
    "GRU": lambda: nn.GRU(4, 3, num_layers=2, bidirectional=True, dropout=0.2, zoneout=0.1),
    "LSTM": lambda: nn.LSTM(4, 3, learn_initial_state=True, recurrent_dropout=0.3),
    "RNN": lambda: nn.RNN(4, 3, activation=ops.sin),
    "one's own cell": lambda: nn.Recurrent.of(LeakyCell)(4, 3, num_layers=2),
    "mixed precision": lambda: mixed_precision(nn.GRU(4, 3, reset_after=True), "float16"),
    **{name: lambda layer=layer, options=options: getattr(nn, layer)(4, 4, **options)
       for name, (layer, options) in VARIANTS.items()},
    "frozen": lambda: nn.Linear(4, 3).freeze(),
}  # fmt: skip


def learn(model, optimizer, steps):
    """The losses of some steps, with a fixed seed."""
    manual_seed(3)
    x = Tensor(np.array([[0, 3], [4, 0]])) if isinstance(model, nn.Embedding) else Tensor(X)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        y = model(x)
        loss = ops.sum(ops.square(y[0] if isinstance(y, tuple) else y))
        losses.append(loss.item())
        if loss.requires_grad:
            loss.backward()
        optimizer.step()
    return losses


@pytest.mark.parametrize("name", MODULES)
def test_a_copy_of_a_module_computes_and_trains_identically(name, copied):
    model = MODULES[name]()
    frozen = not list(model.parameters())
    optimizer = optim.Adam((model.unfreeze() if frozen else model).parameters(), lr=0.01)
    if frozen:
        model.freeze()
    learn(model, optimizer, 1)
    other, its_optimizer = copied((model, optimizer))
    before = other.state_dict()
    assert repr(other) == repr(model) and type(other) is type(model)
    assert [(n, p.name) for n, p in other.named_parameters()] == [(n, p.name) for n, p in model.named_parameters()]
    losses = learn(model, optimizer, 2)
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg="the copy shares memory with the model")
    assert learn(other, its_optimizer, 2) == losses
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, model.state_dict()[name])
    if frozen:
        assert len(list(other.unfreeze().parameters())) == 2


class Tagger(nn.Module):
    """A model that is exported as operators, a GRU node and a Scan node."""

    def __init__(self):
        self.layer, self.own, self.head = nn.GRU(4, 3), nn.Recurrent.of(LeakyCell)(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return ops.softmax(self.head(self.own(self.layer(x)[0])[0]), axis=-1)


def test_graph_loaded_from_onnx(copied, tmp_path):
    pytest.importorskip("onnx")
    from tinygrad_gru.interop import onnx

    model = Tagger()
    onnx.save(model, tmp_path / "model.onnx", (Tensor(X),))
    graph = onnx.load(tmp_path / "model.onnx")
    other = copied(graph)
    np.testing.assert_array_equal(other(Tensor(X)).numpy(), graph(Tensor(X)).numpy())
    np.testing.assert_allclose(other(Tensor(X)).numpy(), model(Tensor(X)).numpy(), rtol=1e-5)
    assert repr(other) == repr(graph)


def test_ops_are_copied_by_reference(copied):
    every = [value for value in vars(ops).values() if hasattr(value, "vjp")]
    assert len(every) > 40
    for function in every:
        assert copied(function) is function


def test_ops_of_a_users_module_and_objects_that_hold_them(copied):
    assert copied(swish) is swish
    held = copied({"partial": functools.partial(swish, slope=2.0), "cell": nn.RNNCell(4, 3, activation=swish)})
    assert held["partial"].func is swish and held["cell"].activation is swish
    assert held["partial"](1.0) == swish(1.0, slope=2.0)
    assert copied(Activated())(Tensor([1.0])).item() == pytest.approx(swish(1.0))


def test_pickling_a_local_op_or_a_lambda_raises_with_the_reason():
    @ops.op
    def local(x):
        return x

    with pytest.raises((AttributeError, pickle.PicklingError), match=r"local object '.*<locals>\.local'"):
        pickle.dumps(local)
    with pytest.raises((AttributeError, pickle.PicklingError), match="<lambda>"):
        pickle.dumps(ops.op(lambda x: x))
    assert copy.deepcopy(local) is local


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_optimizers(name, copied):
    model = nn.Linear(4, 3)
    optimizer = getattr(optim, name)(model.parameters(), lr=0.01)
    learn(model, optimizer, 2)
    other, its_optimizer = copied((model, optimizer))
    assert learn(other, its_optimizer, 2) == learn(model, optimizer, 2)


# -- tensors ---------------------------------------------------------------------------------------------------------


def doubled(g):
    return g * 2.0


def test_leaf_keeps_gradient_name_and_hooks(copied):
    x = Tensor([1.0, 2.0], requires_grad=True)
    x.name = "x"
    (x * x).sum().backward()
    x.register_hook(doubled)
    y = copied(x)
    assert (y.name, y.requires_grad, y.is_leaf, y.grad.tolist()) == ("x", True, True, [2.0, 4.0])
    (y * y).sum().backward()
    assert y.grad.tolist() == [6.0, 12.0] and x.grad.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_constants_are_pickled_by_every_protocol(protocol):
    x = pickle.loads(pickle.dumps(Tensor([1.0, 2.0]), protocol))
    assert x.tolist() == [1.0, 2.0] and not x.requires_grad


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "bool"])
@pytest.mark.parametrize("shape", [(), (0, 2), (3, 2)])
def test_constants(dtype, shape, copied):
    x = Tensor(np.ones(shape, dtype))
    y = copied(x)
    assert (y.dtype, y.shape, y.tolist(), y.requires_grad) == (x.dtype, x.shape, x.tolist(), False)
    y.data[...] = 0
    assert x.tolist() == np.ones(shape, dtype).tolist()


def test_shared_tensors_stay_shared(copied):
    x = Tensor([1.0], requires_grad=True)
    y, z, cast = copied((x, x, Tensor.from_node(x.data.astype("float16"), x.node)))
    assert y is z and y is not x and cast.node is y.node


def test_frozen_leaf_stays_frozen(copied):
    x = Tensor([1.0], requires_grad=True)
    x.name = "x"
    x.requires_grad = False
    y = copied(x)
    assert y.is_frozen and not y.requires_grad
    y.requires_grad = True
    assert y.name == "x"


def test_copying_a_recorded_tensor_raises(copied):
    """As in PyTorch: it references its whole history."""
    x = Tensor([1.0], requires_grad=True)
    with pytest.raises(TapeError, match=r"#\d+ hadamard .* cannot be copied or pickled.*detach\(\) gives a constant"):
        copied(x * x)
    assert copied((x * x).detach()).tolist() == [1.0]


def test_shallow_copy_shares_the_node():
    x = Tensor([3.0], requires_grad=True)
    y = copy.copy(x * x)
    y.backward()
    assert x.grad.tolist() == [6.0] and copy.copy(x).node is x.node


def test_restored_leaf_has_a_number_of_this_process():
    """Its number compares with those of this process, so that hooks run once, at the outermost walk."""
    x = Tensor([1.0], requires_grad=True)
    x.node.number = 10**15  # of a process that has lived long
    y, calls = copy.deepcopy(x), []
    y.register_hook(lambda g: calls.append(1))
    remat(lambda: y * 2.0).backward()
    assert calls == [1] and unwrap(y).tolist() == [1.0]
