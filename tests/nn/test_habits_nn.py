"""Habits of users of PyTorch and Keras, typed blindly: each works, or is answered with what to type."""

import re

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, no_grad, ops, optim
from tinygrad_gru.nn.base import hints

X = np.ones((2, 3), "f4")


def model_():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(3, 4)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(0.2)
        self.fc2 = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc2(self.drop(self.act(self.fc1(x))))


def train_like_pytorch():
    net, criterion = Net(), nn.CrossEntropyLoss()
    optimizer = optim.Adam(net.parameters(), lr=1e-3)
    net.train()
    optimizer.zero_grad()
    loss = criterion(net(X), np.array([0, 1]))
    loss.backward()
    optim.clip_gradient_norm(net.parameters(), 1.0)
    optimizer.step()
    net.eval()
    with no_grad():
        return net(X).shape == (2, 2)


def initialise_like_pytorch():
    def init_weights(m):
        if isinstance(m, nn.Linear):
            m.W[:] = nn.init.xavier_uniform(*m.W.shape)
            m.b[:] = 0.0

    with no_grad():
        net = Net().apply(init_weights)
    return not net.fc1.b.numpy().any() and net.fc1.W.numpy().any()


def freeze_like_pytorch():
    net = Net()
    for parameter in net.fc1.parameters():
        parameter.requires_grad = False
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    for parameter in net.parameters():  # later on, to fine-tune all
        parameter.requires_grad = True
    before = net.fc1.W.numpy()
    net(np.ones((2, 3))).sum().backward()
    optimizer.step()
    return frozen == ["fc1.W", "fc1.b"] and (net.fc1.W.numpy() != before).any()


def freeze_a_module_as_if_it_were_a_tensor():
    net = Net()
    net.fc1.requires_grad = False
    return [name for name, p in net.named_parameters() if p.requires_grad] == [
        "fc2.W",
        "fc2.b",
    ] and not net.fc1.requires_grad


def freeze_like_keras():
    net = Net()
    net.fc1.trainable = False
    return [name for name, p in net.named_parameters() if p.requires_grad] == ["fc2.W", "fc2.b"] and net.trainable


def replace_the_head():
    net = Net()
    net.fc2 = nn.Linear(4, 7)
    return net(X).shape == (2, 7)


def remove_the_head():
    net = Net()
    net.fc2 = nn.Identity()
    return net(X).shape == (2, 4)


def count_like_pytorch():
    return sum(p.numel() if hasattr(p, "numel") else p.size for p in Net().parameters() if p.requires_grad) == 26


def save_and_load():
    net, other = Net(), Net()
    other.load_state_dict(net.state_dict())
    return np.array_equal(net.eval()(X).numpy(), other.eval()(X).numpy())


def load_partly():
    net = Net()
    state = {name: value for name, value in net.state_dict().items() if name.startswith("fc1")}
    missing, unexpected = net.load_state_dict(state, strict=False)
    return missing == ["fc2.W", "fc2.b"] and unexpected == []


def buffers():
    net = Net()
    net.register_buffer("mean", np.zeros(3))
    return "mean" in net.state_dict() and len(list(net.buffers())) == 1


def tie_to_an_embedding():
    embedding = nn.Embedding(10, 4)
    return nn.TiedLinear(embedding)(embedding([1, 2])).shape == (2, 10)


def functions_for_modules():
    return nn.Sequential(nn.Linear(3, 4), ops.relu, nn.Softmax(dim=-1))(X).shape == (2, 4)


def lists_of_modules():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)])
            self.heads = nn.ModuleDict({"a": nn.Linear(3, 1)})

        def forward(self, x):
            for layer in self.layers:
                x = layer(x).relu()
            return self.heads["a"](x)

    return Deep()(X).shape == (2, 1) and len(list(Deep().parameters())) == 8


WORK = [
    train_like_pytorch, initialise_like_pytorch, freeze_like_pytorch, freeze_like_keras, replace_the_head,
    freeze_a_module_as_if_it_were_a_tensor, remove_the_head, count_like_pytorch, save_and_load, load_partly, buffers,
    tie_to_an_embedding, functions_for_modules, lists_of_modules,
    lambda: model_().double()(np.ones((2, 3))).dtype == np.float64,
    lambda: model_().to("cpu").cpu().float() is not None,
    lambda: [type(m) for m in Net().modules()] == [Net, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear],
    lambda: [name for name, _ in Net().named_children()] == ["fc1", "act", "drop", "fc2"],
    lambda: nn.Embedding(5, 3, padding_idx=0)([[0, 1]]).shape == (1, 2, 3),
    lambda: nn.MSELoss()(model_()(X), np.zeros((2, 2))).shape == (),
    lambda: nn.BCEWithLogitsLoss(pos_weight=[2.0])(Tensor([0.5]), [1.0]).item() > 0,
    lambda: nn.Flatten()(Tensor(np.zeros((2, 3, 4)))).shape == (2, 12),
    lambda: nn.Linear(3, 2)([[1.0, 2.0, 3.0]]).shape == (1, 2),
    lambda: model_().requires_grad_(False).zero_grad() is None,
    lambda: nn.Parameter(np.ones(3)).requires_grad,
    lambda: nn.Embedding.from_pretrained(np.ones((4, 2)), freeze=False, padding_idx=0)([3]).shape == (1, 2),
    lambda: Net().train(mode=False).training is False,
]  # fmt: skip


@pytest.mark.parametrize("habit", WORK, ids=lambda habit: habit.__name__)
def test_it_works(habit):
    assert habit()


ANSWERED = {
    "nn.functional.relu(X)": "ops.relu(x)",
    "nn.utils.clip_grad_norm_(model_().parameters(), 1.0)": "optim.clip_gradient_norm(parameters, max_norm)",
    "nn.utils.rnn.pack_padded_sequence(X, [1])": "lengths=lengths",
    "nn.Dense(3)": "nn.Linear(in_features, out_features)",
    "nn.SimpleRNN(3)": "nn.RNN(input_size, hidden_size)",
    "nn.Bidirectional(nn.GRU(3, 4))": "bidirectional=True",
    "nn.Conv2d(1, 2, 3)": "no convolutions",
    "nn.BatchNorm1d(3)": "nn.LayerNorm(features)",
    "nn.TransformerEncoderLayer(8, 2)": "no attention layers",
    "nn.BCELoss()": "nn.BCEWithLogitsLoss()",
    "nn.SmoothL1Loss()": "nn.HuberLoss()",
    "nn.ParameterList([])": "a list of nn.Parameter",
    "nn.init.xavier_uniform_(nn.Linear(3, 2).W)": "nn.init.xavier_uniform(*m.W.shape)",
    "nn.init.kaiming_normal_(nn.Linear(3, 2).W)": "nn.init.he_normal(*m.W.shape)",
    "nn.init.glorot_uniform(3, 2)": "nn.init.xavier_uniform(fan_in, fan_out)",
    "nn.Linear(3, 2).weight": "W (in_features, out_features), the transpose of PyTorch's weight",
    "nn.Linear(3, 2).bias.data": "b (out_features,)",
    "nn.Embedding(3, 2).weight": "W (num_embeddings, embedding_dim)",
    "setattr(nn.Linear(2, 3), 'weight', nn.Embedding(3, 2).W)": "W (in_features, out_features), the transpose of PyTor",
    "setattr(nn.Linear(2, 3), 'bias', None)": "b (out_features,)",
    "setattr(nn.Embedding(2, 3), 'weight', nn.Parameter(X))": "W (num_embeddings, embedding_dim)",
    "nn.TiedLinear(nn.Embedding(3, 2)).weight": "W (num_embeddings, embedding_dim)",
    "nn.Sequential(nn.Linear(3, 4)).add(nn.ReLU())": "m.append(layer)",
    "nn.ModuleList([nn.Linear(3, 4)])(X)": "nn.Sequential(*layers)",
    "nn.GRU(3, 2).weight_ih_l0": "m.cells[0].W_",
    "nn.GRU(3, 2).flatten_parameters()": "not needed",
    "model_().register_forward_hook(print)": "nn.summary(model, x)",
    "model_().compile('adam', 'mse')": "train.fit(m, loss, data, optimizer='adam')",
    "model_().fit(X, X)": "train.fit(m, loss, data, epochs=10)",
    "model_().predict(X)": "train.predict(m, data)",
    "model_().summary()": "nn.summary(m, x)",
    "model_().get_weights()": "m.state_dict()",
    "model_().load_weights('a.h5')": "m.load_state_dict(load('model.safetensors'))",
    "nn.ReLU(inplace=True)": "not needed",
    "nn.Linear(3, 4, activation='relu')": "nn.Linear(3, 4), nn.ReLU()",
    "nn.Linear(3, 4, biass=False)": "did you mean 'bias'?); it has in_features, out_features, bias, dtype, device",
    "nn.Linear(3, 4, kernel_initializer='zeros')": "m.W[:] = nn.init.xavier_uniform(*m.W.shape) under no_grad()",
    "nn.Embedding(3, 4, mask_zero=True)": "layer(x, mask=ids != 0)",
    "nn.Dropout(rate=0.5)": "here it is p",
    "nn.LayerNorm(4, epsilon=0.1)": "here it is eps",
    "nn.LeakyReLU(negative_slope=0.1)": "here it is slope",
    "nn.CrossEntropyLoss(from_logits=True)": "losses take logits",
    "nn.Linear(3, 4)(X, training=False)": "m.train() or m.eval()",
    "nn.Sequential(nn.Linear(3, 4))(inputs=X)": "by position",
    "Net(hidden=3)": "Net has no keyword 'hidden'; it has none",
    "type('Empty', (nn.Module,), {})(3)": "Empty takes no arguments: it has no __init__",
    "nn.Embedding(3, 2, 'float32')": "dtype and device are keywords",
    "setattr(nn.Linear(2, 2), 'W', np.ones((2, 2)))": "m.W[:] = …` under no_grad()",
    "setattr(nn.Linear(2, 3), 'W', nn.Embedding(3, 2).W)": "nn.TiedLinear(embedding)",
    "setattr(nn.Linear(2, 3), 'W', nn.Embedding(3, 2).W.T)": "nn.TiedLinear(embedding)",
    "nn.Linear(3, 2)(Tensor(np.ones((2, 3))))": "x.astype('float32')",
    "nn.Linear(3, 2)(np.ones((2, 4)))": "its last axis must have the 3 in_features",
    "nn.GRU(3, 2).load_state_dict({'weight_ih_l0': X})": "interop.torch.load(model, state)",
    "nn.Module().register_buffer('a', X, persistent=False)": "write m.a = array",
}


@pytest.mark.parametrize("typed", ANSWERED)
def test_it_is_answered_with_what_to_type(typed):
    with pytest.raises((AttributeError, NotImplementedError, TypeError, ValueError)) as error:
        eval(typed)
    assert ANSWERED[typed] in str(error.value)


def test_the_hints_of_initialisers_do_what_they_say():
    for name, hint in hints.INIT.items():
        m, n = nn.Linear(3, 3), 3
        assert not hasattr(nn.init, name)
        if name.endswith("_"):
            with no_grad():
                exec(hint.removesuffix(" under no_grad()"), {"m": m, "nn": nn, "np": np, "value": 2.0, "n": n})


@pytest.mark.parametrize("table, owner", [
    (hints.MODULE, nn.Dropout()), (hints.LINEAR, nn.Linear(1, 1)), (hints.EMBEDDING, nn.Embedding(1, 1)),
    (hints.RECURRENT, nn.GRU(1, 1)), (nn.Sequential._hints, nn.Sequential()),
])  # fmt: skip
def test_hints_are_lines_for_names_that_do_not_exist(table, owner):
    for name, hint in table.items():
        assert not hasattr(owner, name) and getattr(owner, name, None) is None
        assert hint == hint.strip() and "\n" not in hint and len(hint) < 120
        with pytest.raises(AttributeError, match=rf"has no attribute '{name}'; here it is {re.escape(hint)}"):
            getattr(owner, name)
    with pytest.raises(AttributeError, match=r"^'\w+' object has no attribute 'nonsense'$"):
        owner.nonsense  # noqa: B018


def test_names_that_hints_mention_exist():
    for table in (hints.NN, hints.MODULE, hints.INIT, hints.LINEAR, hints.RECURRENT):
        for hint in table.values():
            for package, name in re.findall(r"\b(nn|ops|optim)\.(\w+)", hint):
                module = {"nn": nn, "ops": ops, "optim": optim}[package]
                assert hasattr(module, name), hint


def test_a_name_of_ones_own_needs_no_hint():
    class WithBias(nn.Linear):
        bias = property(lambda self: self.b)

    assert WithBias(3, 2).bias.shape == (2,)

    class Mine(nn.Module):
        def __init__(self):
            self.weights = [1, 2]
            self.fit = self.layers = 3

        def save(self):
            return "saved"

    assert (Mine().weights, Mine().fit, Mine().save(), Mine().layers) == ([1, 2], 3, "saved", 3)


def test_an_error_in_a_property_is_not_hidden():
    class Mine(nn.Module):
        @property
        def weights(self):
            return self.misspelt

    with pytest.raises(AttributeError, match="'Mine' object has no attribute 'misspelt'"):
        Mine().weights  # noqa: B018


def test_an_error_of_an_inner_call_is_not_taken_for_one_of_the_call():
    class Outer(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(3, 2)

        def forward(self, x):
            return self.inner(x, training=True)

    with pytest.raises(TypeError, match=r"a call of Linear has no keyword 'training'.*\(in Outer\.inner\)$"):
        Outer()(X)

    class Direct(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(3, 2)

        def forward(self, x):
            return self.inner.forward(x, training=True)

    with pytest.raises(TypeError, match=r"^Linear\.forward\(\) got an unexpected keyword argument 'training'$"):
        Direct()(X)

    class Passing(nn.Module):
        def __init__(self, **settings):
            self.settings = settings

        def forward(self, x, **settings):
            return settings

    assert Passing(any=3).settings == {"any": 3} and Passing()(X, training=True) == {"training": True}
