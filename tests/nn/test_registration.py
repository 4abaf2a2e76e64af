"""Which attributes are registered, under which names, and what may replace them."""

import copy
from collections import deque

import numpy as np
import pytest

from tinygrad_gru import TapeError, Tensor, nn, no_grad, ops
from tinygrad_gru.backend import resolve
from tinygrad_gru.train import mixed_precision


class Heads(nn.Module):
    """Modules and parameters in dicts, and in lists and dicts inside of them."""

    def __init__(self):
        self.heads = {"policy": nn.Linear(2, 3), "value": nn.Linear(2, 1, bias=False)}
        self.grid = [[nn.Linear(1, 1, bias=False)], ({"x": nn.Parameter([1.0])}, nn.Parameter([2.0]))]
        self.by_number = {3: nn.Parameter([3.0]), -1: Tensor([4.0])}
        self.settings = {"width": 3, "names": ["a", "b"], "odd": {(1, 2): "c"}}

    def forward(self, x):
        return self.heads["policy"](x)


NAMES = [
    "heads.policy.W", "heads.policy.b", "heads.value.W", "grid.0.0.W", "grid.1.0.x", "grid.1.1", "by_number.3",
    "by_number.-1",
]  # fmt: skip


# -- containers ------------------------------------------------------------------------------------------------------


def test_modules_and_tensors_in_dicts_and_nested_containers_have_paths():
    model = Heads()
    assert [name for name, _ in model.named_tensors()] == NAMES
    assert [name for name, _ in model.named_buffers()] == NAMES[-1:]
    assert [name for name, _ in model.named_modules()] == ["", "heads.policy", "heads.value", "grid.0.0"]
    assert [name for name, _ in model.named_children()] == ["heads.policy", "heads.value", "grid.0.0"]
    assert list(model.children()) == [model.heads["policy"], model.heads["value"], model.grid[0][0]]
    assert next(iter(model.modules())) is model
    assert model.grid[1][0]["x"].name == "Heads.grid.1.0.x"


def test_they_are_saved_and_loaded_moved_frozen_and_copied(backend):
    model, other = Heads(), Heads()
    other.load_state_dict(model.state_dict())
    for (name, ours), (_, theirs) in zip(model.named_tensors(), other.named_tensors(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=name)
    assert not any(p.requires_grad for p in model.freeze().parameters())
    assert len(list(model.unfreeze().parameters())) == 7
    model.to(backend)
    assert {tensor.device for _, tensor in model.named_tensors()} == {backend.name}
    weight = Tensor(np.zeros((2, 3), "f4"))
    clone = model.with_tensors({"heads.policy.W": weight})
    assert clone.heads["policy"].W is weight and model.heads["policy"].W is not weight
    assert clone.heads["value"].W is model.heads["value"].W
    deep = copy.deepcopy(model)
    assert deep.heads["policy"] is not model.heads["policy"]
    model.eval()
    assert not model.heads["value"].training


def test_containers_that_change_later_are_seen():
    model = Heads()
    model.heads["extra"] = nn.Linear(2, 2)
    model.grid[0].append(nn.Linear(2, 2))
    del model.heads["value"]
    names = [name for name, _ in model.named_modules()]
    assert names == ["", "heads.policy", "heads.extra", "grid.0.0", "grid.0.1"]


def test_mixed_precision_sees_them_too():
    model = Heads()
    half = mixed_precision(model, "float16")
    x = np.ones((1, 2), "f4")
    before = half(x).numpy()
    model.heads["policy"] = nn.Linear(2, 3)
    expected = model(x).numpy()
    assert not np.allclose(before, expected, atol=1e-2)
    np.testing.assert_allclose(half(x).numpy(), expected, atol=1e-2)


def test_mixed_precision_sees_a_parameter_that_is_replaced_in_a_dict():
    class Scale(nn.Module):
        def __init__(self):
            self.parts = {"a": [nn.Parameter([2.0])]}

        def forward(self, x):
            return x * self.parts["a"][0]

    model = Scale()
    half = mixed_precision(model, "float16")
    assert half(Tensor([1.0])).item() == 2
    model.parts["a"][0] = nn.Parameter([3.0])
    assert half(Tensor([1.0])).item() == 3


@pytest.mark.parametrize(
    "colliding", [{1: nn.Parameter([1.0]), "1": nn.Parameter([2.0])},
                  {"a": {"b": nn.Parameter([1.0])}, "a.b": nn.Parameter([2.0])}]
)  # fmt: skip
def test_keys_that_give_one_path_are_an_error(colliding):
    model = nn.Module()
    model.parts = colliding
    with pytest.raises(ValueError, match=r"two tensors would be saved as 'parts\.(1|a\.b)' .*rename one"):
        model.state_dict()


@pytest.mark.parametrize(
    ("container", "kind"),
    [(set, "set"), (deque, "deque"), (lambda layers: dict(enumerate(layers)).values(), "dict_values")],
)
def test_modules_in_another_container_are_refused(container, kind):
    model = nn.Module()
    model.labels = container(["a", "b"])
    with pytest.raises(TypeError, match=f"heads: modules in a {kind} would not be registered; use a list or a dict"):
        model.heads = container([nn.Linear(1, 1)])


@pytest.mark.parametrize("value", [nn.Linear(1, 1), nn.Parameter([1.0])])
def test_modules_and_parameters_in_the_body_of_a_class_are_refused(value):
    assert type("WithConstant", (nn.Module,), {"constant": Tensor([1.0])}).constant.tolist() == [1.0]
    with pytest.raises(TypeError, match=r"Model\.layer: in the body of a class it would not be registered"):
        type("Model", (nn.Module,), {"layer": value})


def test_init_of_the_base_class_may_be_called_or_forgotten():
    class Silent(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 2)

    class Polite(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

    class Old(nn.Module):
        def __init__(self):
            super(Old, self).__init__()  # noqa: UP008
            self.layer = nn.Linear(2, 2)

    for kind in (Silent, Polite, Old):
        assert [name for name, _ in kind().named_parameters()] == ["layer.W", "layer.b"]
        assert kind().training


# -- by PyTorch's names ----------------------------------------------------------------------------------------------


def test_register_sets_an_attribute():
    model = nn.Module()
    model.register_buffer("mean", np.arange(3.0, dtype="f4"))
    model.register_buffer("none", None)
    model.register_parameter("scale", nn.Parameter([1.0]))
    model.register_parameter("bias", None)
    model.add_module("layer", nn.Linear(2, 2))
    assert list(model.state_dict()) == ["mean", "scale", "layer.W", "layer.b"]
    assert model.none is None and model.bias is None
    assert [name for name, _ in model.named_buffers()] == ["mean"] and next(model.buffers()) is model.mean
    with pytest.raises(ValueError, match=r"name: expected the name of an attribute, got 'a\.b' .*ModuleDict"):
        model.add_module("a.b", nn.Linear(2, 2))


def test_a_recorded_tensor_is_no_buffer():
    model, x = nn.Module(), Tensor([2.0], requires_grad=True)
    with pytest.raises(TapeError, match=r"\.detach\(\) for the values alone"):
        model.register_buffer("square", x * x)
    model.register_buffer("square", (x * x).detach())
    assert model.square.item() == 4 and not model.square.requires_grad and list(model.state_dict()) == ["square"]


def test_apply_visits_each_module_once_and_returns_the_module():
    model, visited = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Dropout())), []
    assert model.apply(visited.append) is model
    assert visited == list(model.modules())


def test_requires_grad_freezes_and_unfreezes():
    model = Heads()
    assert model.requires_grad_(False) is model and not any(p.requires_grad for p in model.parameters())
    model.requires_grad_()
    assert len(list(model.parameters())) == 7, "a buffer stays one"


def test_dtypes_are_converted_in_place():
    model = nn.Sequential(nn.Embedding(4, 2), nn.GRU(2, 3))
    model.layers[1].count = Tensor(np.zeros(2, "i4"))
    tensors, ids = list(model.parameters()), np.array([[0, 1], [2, 3]])
    model(ids)[0].sum().backward()
    assert model.double() is model and all(p.dtype == np.float64 and p.grad is None for p in tensors)
    assert model.layers[1].count.dtype == np.int32
    output = model(ids)[0]
    assert output.dtype == np.float64
    output.sum().backward()
    assert all(p.grad.dtype == np.float64 for p in model.parameters())
    assert [id(p) for p in model.parameters()] == [id(p) for p in tensors]
    assert model.half().layers[0].W.dtype == np.float16
    assert model.float().layers[0].W.dtype == model.to("float32").layers[0].W.dtype == np.float32
    assert model.to(np.float64).layers[0].W.dtype == np.float64
    assert model.cpu() is model and model.layers[0].W.device == "numpy"


def test_extra_repr_is_shown():
    class Old(nn.Module):
        def extra_repr(self):
            return "width=3"

    assert repr(Old()) == "Old(width=3)  0 parameters"


# -- replacement -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value, kind", [
    (np.ones((2, 2)), "a value of type ndarray"),
    ([[1.0, 2.0]], "a value of type list"), (1.0, "a value of type float"),
    (Tensor(np.ones((2, 2))), "a Tensor without requires_grad"),
])  # fmt: skip
def test_a_parameter_is_not_replaced_by_what_would_not_be_trained(value, kind):
    model = nn.Linear(2, 2)
    before = model.W
    with pytest.raises(TypeError) as error:
        model.W = value
    assert f"Linear.W is a parameter, and {kind} would take its place, which would not be trained" in str(error.value)
    assert "`m.W[:] = …` under no_grad()" in str(error.value) and "m.W = nn.Parameter(…)" in str(error.value)
    assert model.W is before
    with no_grad():  # as the message says
        model.W[:] = np.ones((2, 2))
    assert model.W.tolist() == [[1, 1], [1, 1]]
    model.W = nn.Parameter(np.zeros((2, 2)), dtype="float32")
    assert [name for name, _ in model.named_parameters()] == ["W", "b"]


def test_a_buffer_is_not_replaced_by_an_array():
    model = nn.Module()
    model.mean = Tensor(np.zeros(3))
    with pytest.raises(
        TypeError, match=r"Module\.mean is a Tensor, and a value of type ndarray .*m\.mean = Tensor\(arr"
    ):
        model.mean = np.ones(3)
    model.mean = Tensor(np.ones(3))
    model.mean = model.mean * 0.5
    assert model.state_dict()["mean"].tolist() == [0.5] * 3
    model.mean = (model.mean, 1)


def test_a_frozen_parameter_is_one():
    model = nn.Linear(2, 2).freeze()
    with pytest.raises(TypeError, match=r"Linear\.b is a parameter"):
        model.b = np.zeros(2)
    model.b = nn.Linear(2, 2).freeze().b
    assert len(list(model.unfreeze().parameters())) == 2


def test_a_computed_value_over_a_parameter_is_refused():
    model, encoder = nn.Linear(2, 3), nn.Embedding(3, 2)
    with pytest.raises(TypeError, match=r"a computed Tensor would take its place, which does not follow.*nn\.TiedLin"):
        model.W = encoder.W.T
    with pytest.raises(TypeError, match="compute it in forward"):
        model.b = model.b * 2


def test_none_and_modules_may_replace_and_anything_after_del():
    model = nn.Sequential(nn.Linear(2, 2))
    model.layers[0].b = None
    assert [name for name, _ in model.named_parameters()] == ["layers.0.W"]
    assert model(np.ones((1, 2))).shape == (1, 2)
    del model.layers[0].W
    model.layers[0].W = np.ones((2, 2))
    assert not list(model.parameters())
    model.count = Tensor([1])
    model.count = model.count + 1
    model.count = 3


def test_a_submodule_is_not_replaced_by_an_output():
    class Model(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            self.layer = self.layer(x)
            return self.layer

    model = Model()
    with pytest.raises(TypeError, match=r"Model\.layer is a module, and a computed Tensor would take its place: anot"):
        model(np.ones((1, 2)))
    with pytest.raises(TypeError, match=r"a value of type function would take its place.*nn\.Sequential"):
        model.layer = lambda x: x
    model.layer = [nn.Linear(2, 2), nn.Linear(2, 2)]
    assert model.parameter_count() == 12
    model.layer = nn.Linear(2, 2)
    model.layer = None
    assert model.parameter_count() == 0


# -- loading ---------------------------------------------------------------------------------------------------------


def test_load_state_dict_works_where_numpy_does_not_know_the_dtypes(backend):
    source, target = nn.GRU(2, 3), nn.GRU(2, 3, device=backend)
    target.load_state_dict(source.state_dict())
    for (name, ours), (_, theirs) in zip(source.named_tensors(), target.named_tensors(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=name)
    source.load_state_dict({name: tensor * 2 for name, tensor in target.named_tensors()})
    target.load_state_dict({name: tensor.data for name, tensor in target.named_tensors()})
    for (name, ours), (_, theirs) in zip(source.named_tensors(), target.named_tensors(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), 2 * theirs.numpy(), err_msg=name)
    with pytest.raises(ValueError, match=r"unknown: stranger \(2,\)"):
        target.load_state_dict({**source.state_dict(), "stranger": resolve(backend).asarray([1.0, 2.0])})


def test_tensors_of_pytorch_are_loaded():
    torch = pytest.importorskip("torch")
    model = nn.Linear(2, 2)
    model.load_state_dict({"W": torch.ones(2, 2), "b": torch.zeros(2)})
    assert model.W.tolist() == [[1, 1], [1, 1]]


def test_without_strict_what_fits_is_loaded_and_the_rest_is_returned():
    model = nn.Linear(2, 2)
    b = model.b.numpy()
    missing, unexpected = keys = model.load_state_dict({"W": np.eye(2), "other": np.zeros(3)}, strict=False)
    assert (missing, unexpected) == (["b"], ["other"]) and keys.missing_keys == ["b"]
    np.testing.assert_array_equal(model.W.numpy(), np.eye(2))
    np.testing.assert_array_equal(model.b.numpy(), b)
    assert model.load_state_dict(model.state_dict()) == ([], [])
    with pytest.raises(ValueError, match=r"W: expected shape \(2, 2\), got \(3, 2\)"):
        model.load_state_dict({"W": np.ones((3, 2))}, strict=False)


@pytest.mark.parametrize("name", ["weight_ih_l0", "rnn.weight_hh_l1_reverse", "head.weight", "rnn.bias_ih"])
def test_names_of_pytorch_are_recognised(name):
    with pytest.raises(ValueError, match=rf"does not fit GRU \(names such as {name} are PyTorch's: interop\.torch\.lo"):
        nn.GRU(2, 3).load_state_dict({name: np.zeros(3)})


def test_names_of_keras_are_recognised_and_other_things_than_a_mapping_refused():
    with pytest.raises(ValueError, match=r"names such as dense/kernel:0 are Keras's: interop\.keras\.load"):
        nn.Linear(2, 3).load_state_dict({"dense/kernel:0": np.zeros(3)})
    with pytest.raises(TypeError, match=r"state: expected arrays by name, as state_dict.. gives, got str"):
        nn.Linear(2, 3).load_state_dict("model.safetensors")


def test_functions_in_a_model_are_layers():
    assert nn.Sequential(ops.relu)(Tensor([-1.0, 1.0])).tolist() == [0, 1]
