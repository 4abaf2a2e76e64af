"""Activations, losses, and lists and dicts of modules; PyTorch's of the same names are the oracle."""

import copy
import pickle

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, ops
from tinygrad_gru.train import mixed_precision

torch = pytest.importorskip("torch")

ACTIVATIONS = [
    ("ReLU", {}, {}), ("LeakyReLU", {"slope": 0.2}, {"negative_slope": 0.2}), ("ELU", {"alpha": 0.5}, {"alpha": 0.5}),
    ("Tanh", {}, {}), ("Sigmoid", {}, {}), ("SiLU", {}, {}), ("GELU", {}, {"approximate": "tanh"}),
    ("Softplus", {}, {}),
    ("Softmax", {"dim": 1}, {"dim": 1}), ("Softmax", {}, {"dim": -1}), ("LogSoftmax", {"axis": 0}, {"dim": 0}),
    ("Identity", {}, {}), ("Flatten", {}, {}), ("Flatten", {"start_dim": 0}, {"start_dim": 0}),
]  # fmt: skip
LOSSES = [
    ("MSELoss", {}, "values"), ("MSELoss", {"reduction": "sum"}, "values"), ("L1Loss", {}, "values"),
    ("HuberLoss", {"delta": 0.5}, "values"), ("BCEWithLogitsLoss", {}, "probabilities"),
    ("BCEWithLogitsLoss", {"pos_weight": [2.0] * 4}, "probabilities"), ("CrossEntropyLoss", {}, "ids"),
    ("CrossEntropyLoss", {"weight": [1.0, 2.0, 3.0, 0.5]}, "ids"), ("CrossEntropyLoss", {"ignore_index": 2}, "ids"),
    ("CrossEntropyLoss", {"label_smoothing": 0.1, "reduction": "none"}, "ids"), ("NLLLoss", {}, "ids"),
    ("NLLLoss", {"weight": [1.0, 2.0, 3.0, 0.5], "ignore_index": 0}, "ids"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "ours", "theirs"), ACTIVATIONS)
def test_activations_are_those_of_pytorch(rng, name, ours, theirs):
    x = rng.standard_normal((3, 4, 5))
    layer, peer = getattr(nn, name)(**ours), getattr(torch.nn, name)(**theirs)
    np.testing.assert_allclose(layer(Tensor(x)).numpy(), peer(torch.tensor(x)).numpy(), atol=1e-12)
    assert not list(layer.parameters()) and type(pickle.loads(pickle.dumps(layer))) is type(layer)
    np.testing.assert_array_equal(layer.eval()(Tensor(x)).numpy(), layer.train()(Tensor(x)).numpy())


@pytest.mark.parametrize(("name", "settings", "kind"), LOSSES)
def test_losses_are_those_of_pytorch(rng, name, settings, kind):
    x, ids = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    targets = {"values": rng.standard_normal((6, 4)), "probabilities": rng.random((6, 4)), "ids": ids}[kind]
    theirs = {key: torch.tensor(v, dtype=torch.float64) if isinstance(v, list) else v for key, v in settings.items()}
    loss, peer = getattr(nn, name)(**settings), getattr(torch.nn, name)(**theirs)
    expected = peer(torch.tensor(x), torch.tensor(targets)).numpy()
    np.testing.assert_allclose(loss(Tensor(x), targets).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(loss.eval()(Tensor(x), Tensor(targets)).numpy(), expected, rtol=1e-12)


def test_repr_shows_what_is_not_the_default():
    modules = [nn.ReLU(), nn.LeakyReLU(), nn.LeakyReLU(0.1), nn.Softmax(dim=1), nn.Flatten(), nn.Flatten(2),
               nn.CrossEntropyLoss(ignore_index=0), nn.MSELoss(reduction="sum")]  # fmt: skip
    assert [repr(module.eval()).partition("  ")[0] for module in modules] == [
        "ReLU()", "LeakyReLU()", "LeakyReLU(slope=0.1)", "Softmax(axis=1)", "Flatten()", "Flatten(start_dim=2)",
        "CrossEntropyLoss(ignore_index=0)", "MSELoss(reduction='sum')",
    ]  # fmt: skip


def test_class_weights_are_buffers_and_move(backend):
    loss = nn.CrossEntropyLoss(weight=[1.0, 3.0]).to(backend)
    logits = Tensor([[1.0, 2.0], [0.5, 0.0]], device=backend)
    expected = torch.nn.CrossEntropyLoss(torch.tensor([1.0, 3.0]))(torch.tensor(logits.numpy()), torch.tensor([1, 0]))
    assert loss(logits, Tensor([1, 0], device=backend)).item() == pytest.approx(expected.item(), rel=1e-6)
    assert list(loss.state_dict()) == ["weight"] and not list(loss.parameters())


def test_settings_that_there_are_not():
    with pytest.raises(
        TypeError, match="ReLU has no keyword 'inplace'; here it is not needed: recorded values are never"
    ):
        nn.ReLU(inplace=True)
    with pytest.raises(TypeError, match=r"Tanh has no keyword 'alpha'; it has none$"):
        nn.Tanh(alpha=1)
    with pytest.raises(ValueError, match="approximate: expected 'tanh', the only form here, got 'none'"):
        nn.GELU(approximate="none")
    with pytest.raises(ValueError, match=r"Flatten: start_dim 2 is no axis of x \(3, 4\)"):
        nn.Flatten(2)(Tensor(np.zeros((3, 4))))


def test_in_a_sequential_they_equal_the_functions(rng):
    x = Tensor(rng.standard_normal((3, 4)))
    modules = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.Identity(), nn.Softmax())
    functions = nn.Sequential(ops.relu, ops.tanh, lambda x: x, ops.softmax)
    np.testing.assert_array_equal(modules(x).numpy(), functions(x).numpy())


# -- ModuleList ------------------------------------------------------------------------------------------------------


def test_module_list_is_a_list_of_modules():
    layers = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
    layers.append(nn.ReLU())
    layers.extend([nn.Tanh()])
    layers.insert(0, nn.Sigmoid())
    layers += [nn.Dropout()]
    assert [type(layer).__name__ for layer in layers] == ["Sigmoid", "Linear", "Linear", "ReLU", "Tanh", "Dropout"]
    assert len(layers) == 6 and layers[-1] is layers[5] and isinstance(layers[1:3], nn.ModuleList)
    assert list(layers[1:3]) == [layers[1], layers[2]]
    layers[0] = nn.Linear(1, 1)
    del layers[1]
    assert isinstance(layers.pop(), nn.Dropout) and len(layers) == 4
    layers[2:] = [nn.GELU()]
    assert [name for name, _ in layers.named_children()] == ["0", "1", "2"]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
        self.heads = nn.ModuleDict({"a": nn.Linear(2, 1), "b": nn.ModuleList([nn.Linear(2, 3)])})

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.heads["a"](x)


def test_module_list_has_the_names_of_pytorch():
    model = Model()
    names = ["blocks.0", "blocks.1", "heads.a", "heads.b.0"]
    assert [name for name, _ in model.named_parameters()] == [f"{name}.{letter}" for name in names for letter in "Wb"]
    assert repr(model).splitlines()[1:4] == [
        "  blocks: ModuleList()  12 parameters",
        "    0: Linear(2, 2)  6 parameters", "    1: Linear(2, 2)  6 parameters",
    ]  # fmt: skip
    other = Model()
    other.load_state_dict(model.state_dict())
    x = np.ones((1, 2), "f4")
    np.testing.assert_array_equal(other(x).numpy(), model(x).numpy())
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.with_tensors({})):
        np.testing.assert_array_equal(copied(x).numpy(), model(x).numpy())
    bias = Tensor(np.full(1, 9.0, "f4"))
    replaced = model.with_tensors({"heads.a.b": bias})
    assert replaced.heads["a"].b is bias and model.heads["a"].b is not bias
    np.testing.assert_allclose(mixed_precision(model, "float16")(x).numpy(), model(x).numpy(), atol=1e-2)
    model.blocks[0] = nn.Linear(2, 2)
    assert not np.array_equal(other(x).numpy(), model(x).numpy())
    with pytest.raises(ValueError, match=r"last axis must have the 2 in_features \(in Model\.blocks\.0\)$"):
        model(np.ones((1, 3)))


def test_lists_and_dicts_take_modules_alone():
    with pytest.raises(TypeError, match="ModuleList: expected a module at 0, got function"):
        nn.ModuleList([lambda x: x])
    with pytest.raises(TypeError, match="ModuleList: expected a module at 0, got Tensor"):
        nn.ModuleList([nn.ReLU()])[0] = Tensor([1.0])
    with pytest.raises(TypeError, match="ModuleDict: expected a module at 'a', got int"):
        nn.ModuleDict({"a": 3})


# -- ModuleDict ------------------------------------------------------------------------------------------------------


def test_module_dict_is_a_dict_of_modules():
    heads = nn.ModuleDict([("a", nn.ReLU())])
    heads["b"] = nn.Linear(1, 1)
    heads.update({"c": nn.Tanh(), "a": nn.Sigmoid()})
    assert list(heads) == list(heads.keys()) == ["a", "b", "c"] and len(heads) == 3 and "b" in heads
    assert [type(head).__name__ for head in heads.values()] == ["Sigmoid", "Linear", "Tanh"]
    assert isinstance(heads.pop("c"), nn.Tanh)
    del heads["a"]
    assert dict(heads.items()) == {"b": heads["b"]} and [name for name, _ in heads.named_parameters()] == ["b.W", "b.b"]
    with pytest.raises(KeyError):
        heads["a"]


@pytest.mark.parametrize("key", ["a.b", "", 3])
def test_keys_are_parts_of_names(key):
    with pytest.raises(ValueError, match="ModuleDict: expected a key without a dot"):
        nn.ModuleDict({key: nn.ReLU()})


def test_modules_are_compared_and_hashed_by_identity():
    one, other = nn.ModuleDict({"a": nn.ReLU()}), nn.ModuleDict({"a": nn.ReLU()})
    assert one != other and len({one, other, nn.ModuleList()}) == 3


def test_attributes_of_ones_own_are_no_settings():
    layer, loss = nn.LeakyReLU(0.5), nn.MSELoss()
    layer.label = loss.label = "mine"
    assert layer(Tensor([-2.0])).item() == -1.0 and loss(Tensor([1.0]), [3.0]).item() == 4.0
