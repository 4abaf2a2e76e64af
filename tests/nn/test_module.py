import copy
from collections import namedtuple

import numpy as np
import pytest

from tinygrad_gru import AnomalyError, Tensor, detect_anomaly, grad, nn, no_grad, ops, tape
from tinygrad_gru.optim import SGD
from tinygrad_gru.testing import gradcheck


class Affine(nn.Module):
    def __init__(self, size, start=1.0):
        self.scale = nn.Parameter(np.full(size, start))
        self.shift = nn.Parameter(np.zeros(size))

    def forward(self, x):
        return x * self.scale + self.shift


class Model(nn.Module):
    """Parameters before, between and after submodules, a buffer, lists, and attributes that are neither."""

    def __init__(self):
        self.first = nn.Parameter([1.0, 2.0])
        self.affine = Affine(2)
        self.middle = nn.Parameter([3.0])
        self.blocks = [Affine(1), Affine(3)]
        self.pair = (nn.Parameter([4.0]), Affine(4))
        self.table = Tensor([5, 6, 7])
        self.width, self.label = 3, "model"


NAMES = [
    "first", "affine.scale", "affine.shift", "middle", "blocks.0.scale", "blocks.0.shift", "blocks.1.scale",
    "blocks.1.shift", "pair.0", "pair.1.scale", "pair.1.shift", "table",
]  # fmt: skip


def values(module):
    return {name: tensor.numpy() for name, tensor in module.named_tensors()}


def assert_same_values(one, other):
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


# -- submodules ---------------------------------------------------------------------------------------------------


def test_named_tensors_are_in_the_order_of_assignment():
    model = Model()
    assert [name for name, _ in model.named_tensors()] == NAMES
    assert [name for name, _ in model.named_parameters()] == NAMES[:-1]
    assert list(model.state_dict()) == NAMES
    parameters = list(model.parameters())
    assert parameters[0] is model.first and parameters[3] is model.middle and parameters[8] is model.pair[0]
    assert model.parameter_count() == sum(parameter.size for parameter in parameters) == 24


def test_named_modules():
    model = Model()
    assert [name for name, _ in model.named_children()] == ["affine", "blocks.0", "blocks.1", "pair.1"]
    assert [name for name, _ in model.named_modules()] == ["", "affine", "blocks.0", "blocks.1", "pair.1"]
    assert dict(nn.Sequential(nn.Sequential(model)).named_modules())["layers.0.layers.0.pair.1"] is model.pair[1]


def test_a_reassigned_parameter_keeps_its_position():
    model = Model()
    model.first = nn.Parameter([7.0])
    assert next(iter(model.named_parameters())) == ("first", model.first)


def test_shared_tensors_and_modules_appear_once_under_their_first_name():
    model = nn.Module()
    model.encoder = nn.Linear(3, 3)
    model.decoder = nn.Linear(3, 3)
    model.decoder.W = model.encoder.W
    model.again = model.encoder
    assert [name for name, _ in model.named_parameters()] == ["encoder.W", "encoder.b", "decoder.b"]
    assert [name for name, _ in model.named_modules()] == ["", "encoder", "decoder"]
    assert model.parameter_count() == 9 + 3 + 3
    # Both uses add to the one gradient.
    x = Tensor(np.ones((1, 3)), dtype="float32")
    (model.encoder(x).sum() + 2 * model.decoder(x).sum()).backward()
    np.testing.assert_allclose(model.encoder.W.grad.numpy(), np.full((3, 3), 3.0))


def test_a_submodule_may_refer_to_its_parent():
    model = Model()
    model.affine.parent = model
    assert [name for name, _ in model.named_tensors()] == NAMES


def test_computed_tensors_are_neither_parameters_nor_buffers():
    model = Affine(2)
    model.last_output = model(Tensor([1.0, 1.0]))
    assert [name for name, _ in model.named_tensors()] == ["scale", "shift"]
    model.freeze().unfreeze()
    model.load_state_dict(model.state_dict())


def test_a_module_without_forward_raises():
    with pytest.raises(NotImplementedError, match="Model has no forward"):
        Model()(1)


def test_sequential_runs_its_layers_in_order_and_functions_too():
    layers = nn.Sequential(Affine(2, 2.0), ops.tanh, lambda x: x + 1, Affine(2, 3.0))
    np.testing.assert_allclose(layers(Tensor([0.5, 0.0])).numpy(), [3 * (np.tanh(1.0) + 1), 3.0], rtol=1e-6)
    assert [name for name, _ in layers.named_modules()] == ["", "layers.0", "layers.3"]


# -- saving and loading ----------------------------------------------------------------------------------------------


def test_state_dict_round_trip(device):
    source, target = nn.GRU(3, 4, num_layers=2, device=device), nn.GRU(3, 4, num_layers=2, device=device)
    target.load_state_dict(source.state_dict())
    assert_same_values(values(source), values(target))
    assert all(type(value) is np.ndarray for value in source.state_dict().values())
    assert all(tensor.device.partition(":")[0] == device for tensor in target.parameters())


def test_state_dict_copies():
    model = Affine(2)
    state = model.state_dict()
    state["scale"][:] = 9
    np.testing.assert_array_equal(model.scale.numpy(), [1.0, 1.0])
    state["scale"][:] = 8
    model.load_state_dict(state)
    state["scale"][:] = 7
    np.testing.assert_array_equal(model.scale.numpy(), [8.0, 8.0])


def test_load_state_dict_keeps_the_tensor_objects_that_an_optimizer_holds():
    model = Affine(2)
    optimizer = SGD(model.parameters(), lr=1.0)
    model.load_state_dict({"scale": [5.0, 5.0], "shift": Tensor([1.0, 1.0], requires_grad=True)})
    model.scale.grad = Tensor(np.ones(2), dtype=model.scale.dtype)
    optimizer.step()
    np.testing.assert_array_equal(model.scale.numpy(), [4.0, 4.0])
    np.testing.assert_array_equal(model.shift.numpy(), [1.0, 1.0])


def test_load_state_dict_keeps_the_dtype_of_the_module():
    model = nn.Linear(2, 2)
    model.load_state_dict({"W": np.eye(2), "b": np.zeros(2)})
    assert model.W.dtype == model.b.dtype == np.float32


def test_load_state_dict_between_forward_and_backward_raises():
    model = nn.Linear(2, 2)
    y = model(Tensor(np.ones((1, 2)), dtype="float32", requires_grad=True)).sum()
    model.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match=r"Linear\.W \(2, 2\) was changed in place"):
        y.backward()


def test_load_state_dict_lists_all_errors_and_changes_nothing():
    model = Model()
    before, state = values(model), model.state_dict()
    state = {name: value + 1 for name, value in state.items()}
    del state["first"], state["blocks.1.shift"]
    state["affine.scale"] = np.zeros((2, 1))
    state["pair.0"] = np.float32(3)
    state["stranger"] = np.zeros(6)
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state)
    for text in [
        "does not fit Model",
        "missing: first (2,)",
        "missing: blocks.1.shift (3,)",
        "unknown: stranger (6,)",
        "affine.scale: expected shape (2,), got (2, 1)",
        "pair.0: expected shape (1,), got ()",
    ]:
        assert text in str(error.value)
    assert_same_values(values(model), before)


def test_load_state_dict_of_non_numbers_changes_nothing():
    model = Affine(1)
    with pytest.raises(ValueError):
        model.load_state_dict({"scale": [7.0], "shift": ["seven"]})
    np.testing.assert_array_equal(model.scale.numpy(), [1.0])


class Mixed(nn.Module):
    def __init__(self):
        self.weight, self.half = nn.Parameter([0.0, 0.0]), nn.Parameter([0.0, 0.0], dtype="float16")
        self.count, self.flag = Tensor(np.zeros(2, "i4")), Tensor(np.zeros(2, "?"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight", np.array([1, 2j])),
        ("weight", np.array([1e300, 0])),
        ("weight", np.array(["1", "2"])),
        ("weight", np.array([None, 1])),
        ("half", np.array([1e5, 0], "f4")),
        ("half", np.array([10**6, 0])),
        ("count", np.array([1.5, 2])),
        ("count", np.array([2**31, 0])),
        ("count", np.array([-1, 2**32], "i8")),
        ("flag", np.array([0, 1])),
        ("flag", np.array([0.0, 1.0])),
    ],
)
def test_load_state_dict_refuses_values_that_the_dtype_cannot_represent(name, value):
    model = Mixed()
    state = model.state_dict() | {"weight": np.ones(2, "f4"), name: value}
    with pytest.raises(ValueError, match=f"{name}: expected"):
        model.load_state_dict(state)
    assert not any(tensor.numpy().any() for _, tensor in model.named_tensors())


def test_load_state_dict_rounds_at_most():
    model = Mixed()
    state = {
        "weight": [1, 2],
        "half": np.array([1 / 3, np.inf]),
        "count": np.array([True, False]),
        "flag": [True, False],
    }
    model.load_state_dict(state)
    assert model.weight.tolist() == [1, 2] and model.half.tolist() == [np.float16(1 / 3), np.inf]
    assert model.count.tolist() == [1, 0] and model.flag.tolist() == [True, False]


# -- modes -----------------------------------------------------------------------------------------------------------


def test_train_and_eval_set_the_mode_of_every_submodule():
    model = nn.Sequential(nn.Dropout(), Model(), nn.Sequential(nn.Dropout()))
    assert model.training
    assert model.eval() is model
    assert [module.training for _, module in model.named_modules()] == [False] * 9
    assert nn.Dropout().training, "the mode of one module is not that of all"
    model.layers[2].train()
    assert [model.training, model.layers[2].layers[0].training] == [False, True]
    model.train(False)
    assert not model.layers[2].layers[0].training


def test_freezing_one_part_trains_the_others():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model.layers[0].freeze()
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["layers.1.W", "layers.1.b"]
    assert list(model.state_dict()) == ["layers.0.W", "layers.0.b", "layers.1.W", "layers.1.b"]
    model(Tensor(np.ones((1, 2)), dtype="float32")).sum().backward()
    assert model.layers[0].W.grad is None and model.layers[1].W.grad is not None
    model.unfreeze()
    model(Tensor(np.ones((1, 2)), dtype="float32")).sum().backward()
    assert model.layers[0].W.grad is not None


def test_unfreeze_leaves_integer_buffers_alone():
    model = Model().freeze()
    assert not model.trainable
    assert [name for name, _ in model.unfreeze().named_parameters()] == NAMES[:-1]


def test_zero_grad_resets_all_gradients():
    model = Affine(2)
    model(Tensor([1.0, 2.0])).sum().backward()
    model.zero_grad()
    assert model.scale.grad is None and model.shift.grad is None


def test_to_keeps_tensor_objects_values_and_gradients(device):
    model = nn.Sequential(nn.Linear(2, 2), Model())
    tensors, before = list(model.named_tensors()), values(model)
    model.layers[0](Tensor(np.ones((1, 2)), dtype="float32")).sum().backward()
    gradient = model.layers[0].W.grad.numpy()
    assert model.to(device) is model
    assert [(name, id(tensor)) for name, tensor in model.named_tensors()] == [(n, id(t)) for n, t in tensors]
    assert {tensor.device.partition(":")[0] for _, tensor in model.named_tensors()} == {device}
    np.testing.assert_array_equal(model.layers[0].W.grad.numpy(), gradient)
    assert model.layers[0].W.grad.device.partition(":")[0] == device
    assert_same_values(values(model.to("numpy")), before)


def test_to_an_unknown_device_raises_and_changes_nothing():
    model = Affine(2)
    with pytest.raises(RuntimeError, match="unknown backend 'abacus'"):
        model.to("abacus")
    assert model.scale.device == "numpy"


def test_a_deep_copy_is_independent():
    model = nn.Linear(2, 2)
    other = copy.deepcopy(model)
    with no_grad():
        other.W[:] = 0.0
    other(Tensor(np.ones((1, 2)), dtype="float32")).sum().backward()
    assert np.all(model.W.numpy() != 0) and model.W.grad is None and other.W.grad is not None


# -- repr and names ----------------------------------------------------------------------------------------------------


def test_repr_shows_the_tree_with_settings_and_counts():
    model = nn.Sequential(
        nn.Embedding(1000, 8), nn.GRU(8, 4, num_layers=2, dropout=0.5), nn.Linear(4, 2, bias=False), nn.LayerNorm(2)
    )
    model.layers[2].freeze()
    assert repr(model).splitlines() == [
        "Sequential()  8,268 parameters, 8 frozen",
        "  layers.0: Embedding(1000, 8)  8,000 parameters",
        "  layers.1: GRU(8, 4, num_layers=2, dropout=0.5)  264 parameters",
        "    cells.0: GRUCell(8, 4)  156 parameters",
        "    cells.1: GRUCell(4, 4)  108 parameters",
        "  layers.2: Linear(4, 2, bias=False)  0 parameters, 8 frozen",
        "  layers.3: LayerNorm(2, eps=1e-05)  4 parameters",
    ]


def test_parameters_on_the_tape_are_named_after_their_attributes():
    model = Model()
    model.pair[1].load_state_dict(model.pair[1].state_dict())
    for _ in range(2):
        y = model.pair[1](model.pair[0])
        product, total = tape(y)
        assert repr(product).endswith("<-  Model.pair.0, Affine.scale")
        assert repr(total).endswith("Affine.shift")
        model.freeze().unfreeze()  # the leaves are made again, and named again


def test_an_explicit_tensor_name_is_kept():
    model = Affine(2)
    parameter = nn.Parameter([1.0, 1.0])
    parameter.name = "temperature"
    model.scale = parameter
    assert model.scale.name == "temperature"


def test_anomaly_mode_names_the_path_of_the_module():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(Affine(2), Affine(2, np.inf)))
    x = Tensor(np.ones((1, 2)), dtype="float32")
    message = r"hadamard .* in Sequential\.layers\.1\.layers\.1, at .*test_module\.py"
    with pytest.raises(AnomalyError, match=message), detect_anomaly():
        model(x)
    with pytest.raises(AnomalyError, match=r"in Affine, at"), detect_anomaly():
        model.layers[1].layers[1](x)


# -- with_tensors ----------------------------------------------------------------------------------------------------


def test_with_tensors_returns_a_copy_and_does_not_change_the_module():
    model = Model()
    before = values(model)
    middle, inner = Tensor([30.0]), Tensor([70.0])
    other = model.with_tensors({"middle": middle, "blocks.0.scale": inner})
    assert type(other) is Model and other.middle is middle and other.blocks[0].scale is inner
    assert other.blocks[1].scale is model.blocks[1].scale and other.pair[0] is model.pair[0]
    assert_same_values(values(model), before)
    other.blocks.append(Affine(1))
    assert len(model.blocks) == 2


def test_with_tensors_replaces_shared_tensors_everywhere():
    shared = Affine(2)
    model = nn.Sequential(shared, shared)
    scale = Tensor([2.0, 3.0])
    other = model.with_tensors({"layers.0.scale": scale})
    assert other.layers[0] is other.layers[1] and other.layers[1].scale is scale
    assert model.layers[0].scale is not scale


def test_with_tensors_takes_computed_parameters():
    """Such as one step of gradient descent through which one differentiates."""
    layer, x = nn.GRU(2, 3, dtype="float64"), Tensor(np.ones((4, 1, 2)))
    names, parameters = zip(*layer.named_parameters())
    rate = Tensor(np.array(0.1), requires_grad=True)

    def after_a_step(rate):
        gradients = grad(layer(x)[0].sum(), parameters, create_graph=True)
        stepped = {name: p - rate * g for name, p, g in zip(names, parameters, gradients)}
        return layer.with_tensors(stepped)(x)[0].sum()

    assert gradcheck(after_a_step, [rate])
    after_a_step(rate).backward()
    assert rate.grad.item() < 0


def test_with_tensors_refuses_unknown_names():
    with pytest.raises(ValueError, match=r"Affine has no tensors bias, weight; it has scale, shift"):
        Affine(2).with_tensors({"weight": Tensor([1.0]), "bias": Tensor([1.0])})


# -- paths in errors -------------------------------------------------------------------------------------------------


class Classifier(nn.Module):
    def __init__(self):
        self.encoder = nn.Sequential(nn.GRU(3, 4), ops.tanh, nn.Linear(5, 2))
        self.other = nn.Linear(2, 2)

    def forward(self, x):
        return self.encoder(x)


@pytest.mark.parametrize(
    "features, error, message",
    [
        (2, ValueError, r"GRU: expected x .* got shape \(5, 2, 2\).* \(in Classifier\.encoder\.layers\.0\)$"),
        (3, ValueError, r"Linear: x has shape \(5, 2, 4\).* \(in Classifier\.encoder\.layers\.2\)$"),
    ],
)
def test_an_error_names_the_path_of_the_submodule_that_raised_it(features, error, message):
    with pytest.raises(error, match=message):
        Classifier()(Tensor(np.zeros((5, 2, features), dtype="float32")))


def test_errors_of_the_module_itself_and_of_other_types_are_not_changed():
    with pytest.raises(ValueError, match=r"the 5 in_features$"):
        nn.Linear(5, 2)(Tensor(np.zeros((2, 4), dtype="float32")))

    def fail(x):
        raise IndexError("first", "second")

    with pytest.raises(IndexError) as caught:
        nn.Sequential(nn.Sequential(fail))(1)
    assert caught.value.args == ("first", "second")

    def fail_with_words(x):
        raise IndexError("words")

    with pytest.raises(IndexError, match=r"^words \(in Sequential\.layers\.0\)$"):
        nn.Sequential(nn.Sequential(fail_with_words))(1)


def test_evaluating_restores_each_modules_mode():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)), nn.Linear(2, 2))
    model.layers[1].eval()
    modes = [module.training for _, module in model.named_modules()]

    @model.evaluating()
    def evaluate():
        return [module.training for _, module in model.named_modules()]

    assert evaluate() == [False] * 5 and modes == [True, True, False, False, True]
    with pytest.raises(KeyError), model.evaluating():
        raise KeyError
    assert [module.training for _, module in model.named_modules()] == modes


Weights = namedtuple("Weights", "scale shift")


def test_with_tensors_replaces_those_in_named_tuples():
    class Model(nn.Module):
        def __init__(self):
            self.weights = Weights(nn.Parameter([2.0]), nn.Parameter([1.0]))
            self.by_name = {"scale": self.weights.scale, "text": "unchanged"}

        def forward(self, x):
            return x * self.weights.scale + self.weights.shift + self.by_name["scale"]

    model = Model()
    other = model.with_tensors({"weights.0": Tensor([5.0])})
    assert type(other.weights) is Weights and other.weights.shift is model.weights.shift
    assert (model(Tensor([1.0])).item(), other(Tensor([1.0])).item()) == (5.0, 11.0)
