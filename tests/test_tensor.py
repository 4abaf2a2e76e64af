"""Tensor: construction, in-place writes, gradient attributes, Python's protocols, devices."""

from __future__ import annotations

import copy
import operator

import numpy as np
import pytest
from support.strict import STRICT
from support.tensors import constant, leaf

import tinygrad_gru as tg
from tinygrad_gru import BackendError, TapeError, Tensor, enable_grad, grad, nn, no_grad, ops, tape, use
from tinygrad_gru.backend import as_array

# -- construction ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (1.5, "float32", ()),
        (2, "int64", ()),
        (True, "bool", ()),
        ([1.0, 2.0], "float32", (2,)),
        ([[1, 2], [3, 4]], "int64", (2, 2)),
        ((1.0, 2), "float32", (2,)),
        ([], "float32", (0,)),
        (np.ones((2, 3)), "float64", (2, 3)),
        (np.ones(2, np.float16), "float16", (2,)),
        (np.float64(1.5), "float64", ()),
        (np.array([True]), "bool", (1,)),
        (np.array([1, 2], np.uint8), "uint8", (2,)),
        ([Tensor(1.0), Tensor(2.0)], "float32", (2,)),
    ],
    ids=repr,
)
def test_dtype_and_shape_follow_the_data(data, dtype, shape):
    t = Tensor(data)
    assert t.dtype == dtype and t.shape == shape and (t.ndim, t.size) == (len(shape), int(np.prod(shape)))
    assert not t.requires_grad and t.is_leaf and t.grad is None and t.device == "numpy"


@pytest.mark.parametrize(
    "data", ["abc", None, {}, 1 + 2j, object(), ["a"], np.array(["a"])], ids=lambda data: type(data).__name__
)
def test_data_that_is_not_numeric_raises(data):
    with pytest.raises(TypeError, match="data: expected real numbers or booleans, got"):
        Tensor(data)


def test_a_masked_array_raises():
    x = np.ma.array([1.0, 2.0], mask=[True, False])
    for make in (Tensor, lambda x: ops.mse(Tensor([1.0, 2.0]), x), nn.Linear(2, 1)):
        with pytest.raises(TypeError, match="a masked array has values that are missing"):
            make(x)
    assert Tensor(np.ma.array([1.0, 2.0])).tolist() == [1, 2]


def test_a_ragged_list_raises():
    with pytest.raises(ValueError, match="inhomogeneous"):
        Tensor([1, [2, 3]])


def test_data_is_copied():
    values = np.ones(2)
    t, again = Tensor(values), Tensor(Tensor(values))
    values[0] = 9.0
    assert t.tolist() == again.tolist() == [1.0, 1.0]


def test_dtype_argument():
    for dtype in ("float16", np.float16, np.dtype("float16")):
        assert Tensor([1.0], dtype=dtype).dtype == np.float16
    assert Tensor(np.ones(2), dtype="float32", requires_grad=True).dtype == "float32"
    with pytest.raises(TypeError, match="dtype: 'foo' is not a dtype"):
        Tensor([1.0], dtype="foo")


@pytest.mark.parametrize("data", [1, [1, 2], True, np.array([1], np.uint8)])
def test_integers_cannot_require_a_gradient(data):
    with pytest.raises(TypeError, match=r"only a floating-point tensor can require a gradient, got \w+: convert it"):
        Tensor(data, requires_grad=True)
    t = Tensor(data)
    with pytest.raises(TypeError, match="only a floating-point tensor can require a gradient"):
        t.requires_grad = True


def test_an_unknown_device_raises():
    with pytest.raises(BackendError, match="unknown backend 'tpu': expected 'numpy' or 'cupy'"):
        Tensor([1.0], device="tpu")
    with pytest.raises(BackendError, match="unknown backend"):
        Tensor([1.0]).to("tpu")


def test_numpy_returns_a_copy():
    t = Tensor([1.0, 2.0])
    values = t.numpy()
    values[0] = 9.0
    assert t.tolist() == [1.0, 2.0] and type(values) is np.ndarray
    assert t[1].item() == 2.0 and type(t[1].item()) is float and type(Tensor(2).item()) is int


def test_item_of_several_elements_raises():
    assert Tensor([[3.0]]).item() == 3.0
    with pytest.raises(ValueError, match=r"item: expected a tensor with one element, got shape \(2,\)"):
        Tensor([1.0, 2.0]).item()
    with pytest.raises(ValueError, match="item"):
        Tensor([]).item()


def test_format_of_a_one_element_tensor():
    x = Tensor([2.5], requires_grad=True)
    assert f"{x:.2f}" == "2.50" and f"{x}" == str(x) == repr(x)
    with pytest.raises(ValueError, match="item: expected a tensor with one element, got"):
        f"{Tensor([1.0, 2.0]):.2f}"


def test_repr_shows_values_dtype_device_and_op():
    assert repr(Tensor([1.0])) == "Tensor([1.], dtype=float32)"
    assert repr(Tensor([1.0], requires_grad=True)) == "Tensor([1.], dtype=float32, requires_grad=True)"
    assert repr(Tensor([1.0], requires_grad=True) * 2) == "Tensor([2.], dtype=float32, op=hadamard)"
    assert "device='array_api_strict'" in repr(Tensor([1.0], device=STRICT))


@pytest.mark.parametrize(
    "data", [lambda x: [x.sum(), x.mean()], lambda x: [[1.0, x[0]]], lambda x: x, lambda x: x * 2.0], ids=[0, 1, 2, 3]
)
def test_a_constant_of_tensors_that_require_a_gradient_is_refused(data):
    x = leaf([1.0, 2.0])
    for create in (Tensor, tg.tensor):
        with pytest.raises(TapeError, match=r"would lose it: write ops\.stack.*, \.detach\(\).*requires_grad=True"):
            create(data(x))
        assert create(data(x), requires_grad=True).is_leaf
        with no_grad():
            assert not create(data(x)).requires_grad
        assert not create(data(x.detach())).requires_grad


# -- PyTorch's names -------------------------------------------------------------------------------------------------

TORCH_METHODS = [
    lambda x: x.view(3, 2),
    lambda x: x.view((-1,)),
    lambda x: x.reshape(3, 2).permute(1, 0),
    lambda x: x.unsqueeze(1),
    lambda x: x.unsqueeze(-1).squeeze(-1),
    lambda x: x.unsqueeze(0).flatten(),
    lambda x: x.unsqueeze(0).flatten(1),
    lambda x: x.unsqueeze(0).flatten(0, 1),
    lambda x: x.sum().flatten(),
    lambda x: x.clamp(min=1.5),
    lambda x: x.clamp(0.5, 2.5),
    lambda x: x.clamp(max=2.5),
    lambda x: x.clone(),
    lambda x: x.sum().clone(),
    lambda x: x.unsqueeze(1).expand(-1, 4, 3),
    lambda x: x.expand(2, -1, -1),
    lambda x: x.swapaxes(0, 1),
    lambda x: x.float() + x.double(),
    lambda x: x.sum(dim=1, keepdim=True) + x.mean(dim=(0, 1)),
    lambda x: x.std(dim=1, correction=1) + x.var(dim=1, correction=0),
    lambda x: x.softmax(dim=0) + x.log_softmax(dim=-1),
    lambda x: x.prod(dim=1) + x.logsumexp(dim=1) + x.norm(dim=1),
    lambda x: x.cumsum(dim=1),
    lambda x: x.masked_fill(x > 2, 0.0),
    lambda x: x.topk(2)[0] + x.topk(2, dim=1, largest=False)[0],
    lambda x: x.chunk(2, dim=1)[0],
    lambda x: x % 2 + (-x) % 2,
    lambda x: x.T.contiguous().cpu(),
    lambda x: +x,
]


@pytest.mark.parametrize("method", range(len(TORCH_METHODS)))
def test_methods_do_what_those_of_pytorch_do(method):
    torch, method = pytest.importorskip("torch"), TORCH_METHODS[method]
    values = [[0.3, 1.0, 2.0], [3.0, 4.25, 1.75]]
    x, theirs = leaf(values), torch.tensor(values, dtype=torch.float64, requires_grad=True)
    y, expected = method(x), method(theirs)
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-6)
    weight = np.random.default_rng(0).standard_normal(y.shape)
    (y * weight).sum().backward()
    (expected * torch.tensor(weight)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), theirs.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        lambda x: x.long(),
        lambda x: x.bool(),
        lambda x: x.half(),
        lambda x: (x > 1).any(dim=1) | (x > 0).all(dim=1),
        lambda x: (x > 1) & (x < 3) ^ ~(x > 2),
        lambda x: x.argmax(dim=1) + x.argmin(dim=1),
        lambda x: x.argsort(dim=1),
        lambda x: x // 2 + (-x) // 2,
    ],
)
def test_methods_whose_results_are_not_differentiated(method):
    torch = pytest.importorskip("torch")
    values = [[0.25, 1.0, 2.0], [3.0, 4.5, 0.0]]
    result, expected = method(Tensor(values)), method(torch.tensor(values)).numpy()
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.numpy(), expected)


def test_sizes():
    t = Tensor(np.ones((2, 3)))
    assert t.size == 6 and t.size() == (2, 3) and t.size(-1) == 3 and t.numel() == 6
    assert isinstance(t.size, int) and f"{t.size}" == "6" and t.size / 2 == 3.0


def test_a_clone_has_memory_of_its_own(device):
    x = Tensor([1.0, 2.0], requires_grad=True, device=device)
    before = x.detach().clone()
    with no_grad():
        x *= 2.0
    assert before.tolist() == [1.0, 2.0]


def test_to_a_dtype():
    x = Tensor([1.0, 2.0], requires_grad=True)
    for dtype in ("float64", np.float64, np.dtype("float64")):
        assert x.to(dtype).dtype == np.float64 and x.to(dtype).requires_grad


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x & x, TypeError, "&: expected booleans, such as x > 0, got float64"),
        (lambda x: ~x, TypeError, "~: expected booleans"),
        (lambda x: 1 | (x > 0), TypeError, r"\|: expected booleans, such as x > 0, got int"),
        (lambda x: [0, 1][x[0, 0]], TypeError, r"expected an integer, got a tensor of float64: int\(tensor\)"),
        (lambda x: x.transpose(0, 1), ValueError, r"write swapaxes\(0, 1\)"),
        (lambda x: x.unsqueeze(0).transpose(-2, -1), ValueError, r"write swapaxes\(-2, -1\)"),
        (lambda x: x.flatten(1, 2), ValueError, "axis 2 is out of bounds for an array of 2 axes"),
        (lambda x: x.swapaxes(0, 2), ValueError, "axis 2 is out of bounds"),
        (lambda x: x.max(dim=1), TypeError, "write axis=… for the values alone, or return_indices=True for both"),
        (lambda x: x.std(dim=1), TypeError, "PyTorch's default is correction=1"),
    ],
)
def test_a_method_that_would_do_something_else_than_that_of_pytorch_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(leaf([[1.0, 2.0], [3.0, 4.0]]))


# -- arrays and tensors together -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operate", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul]
)
def test_arrays_and_tensors_in_both_orders(operate, device):
    """Arrays of users' backends; those of array-api-strict raise instead of returning NotImplemented."""
    a, b = [[1.0, 2.0], [3.0, 4.0]], [[2.0, 1.0], [1.0, 3.0]]
    array, tensor = as_array(a, "float64", device), Tensor(b, requires_grad=True, dtype="float64", device=device)
    for y, expected in (
        (operate(array, tensor), operate(np.array(a), np.array(b))),
        (operate(tensor, array), operate(np.array(b), np.array(a))),
    ):
        assert type(y) is Tensor and y.requires_grad
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.float64(2), np.int64(2)])
def test_scalars_and_tensors_in_both_orders(number):
    x = leaf([1.0, 2.0], "float32")
    for y in (
        number + x,
        x + number,
        number * x,
        x * number,
        number - x,
        x - number,
        number / x,
        x / number,
        x**number,
    ):
        assert type(y) is Tensor and y.requires_grad and y.dtype == "float32"
    assert (number - x).tolist() == [1.0, 0.0] and (number / x).tolist() == [2.0, 1.0]


def test_a_conversion_to_numpy_of_a_tensor_that_requires_a_gradient_raises():
    x = leaf([1.0, 2.0])
    with pytest.raises(TypeError, match=r"NumPy would lose this tensor's gradient: say tensor\.detach\(\)\.numpy\(\)"):
        np.asarray(x)
    np.testing.assert_array_equal(np.asarray(x.detach()), [1.0, 2.0])
    assert np.asarray(constant([1.0, 2.0]), dtype="float32").dtype == np.float32


def test_a_tensor_of_pytorch_becomes_one_of_ours_by_name():
    torch = pytest.importorskip("torch")
    assert Tensor(torch.ones(2)).tolist() == [1.0, 1.0]
    for operate in (lambda x, t: x * t, lambda x, t: t * x):
        with pytest.raises(TypeError, match=r"hadamard: .*for a tensor of torch write Tensor\(x\)"):
            operate(leaf([1.0, 2.0]), torch.ones(2, dtype=torch.float64))


def test_mixed_backends_raise():
    with pytest.raises((TypeError, ValueError), match=r"on array_api_strict and numpy: move one with \.to\('numpy'\)"):
        ops.where(Tensor([True]), Tensor([1.0], device=STRICT), Tensor([1.0]))


# -- in-place writes -------------------------------------------------------------------------------------------------


def test_setitem_on_a_constant():
    c = constant(np.zeros(3))
    c[0] = 1.0
    c[1:] = Tensor([2.0, 3.0])
    c[[0, 2]] = np.array([5.0, 6.0])
    assert c.tolist() == [5.0, 2.0, 6.0]


def test_setitem_on_a_constant_does_not_change_what_records_saved():
    c, w = constant([1.0, 2.0]), leaf([3.0, 4.0])
    y = (c * w).sum()
    c[0] = 100.0
    y.backward()
    assert w.grad.tolist() == [1.0, 2.0]


def test_setitem_on_a_detached_tensor_does_not_change_the_original():
    x = leaf([1.0, 2.0])
    d = x.detach()
    d[0] = 9.0
    assert x.tolist() == [1.0, 2.0]


def test_setitem_of_a_recorded_value_into_a_constant_raises():
    c, w = constant(np.zeros(3)), leaf(2.0)
    for value in (w, w * 3.0):
        with pytest.raises(TapeError, match="its gradient would be lost"):
            c[0] = value
    with no_grad():
        c[0] = w
    assert c.tolist() == [2.0, 0.0, 0.0]


def test_setitem_on_a_tensor_that_requires_a_gradient_raises():
    x = leaf([1.0, 2.0])
    with pytest.raises(
        TapeError, match=r"cannot be written in place: use where or scatter_add.*write under no_grad\(\)"
    ):
        x[0] = 5.0
    with pytest.raises(TapeError, match=r"use where or scatter_add, which are recorded$"):
        (x * 2.0)[0] = 5.0
    with no_grad():
        x[0] = 5.0
        with enable_grad():
            y = x * 2.0
        with pytest.raises(TapeError, match="cannot be written in place"):
            y[0] = 1.0
    assert x.tolist() == [5.0, 2.0]


def test_setting_data_of_another_shape_or_dtype_raises():
    x = leaf([1.0, 2.0])
    for wrong in (np.ones(3), np.ones(2, np.float32), 1.0, np.ones((2, 1))):
        with pytest.raises(ValueError, match=r"data: expected shape \(2,\) and float64, got"):
            x.data = wrong
    x.data = constant([3.0, 4.0])
    assert x.tolist() == [3.0, 4.0] and x.requires_grad


def test_setting_data_of_a_recorded_tensor_raises():
    y = leaf([1.0]) * 2.0
    with pytest.raises(TapeError, match=r"data: this tensor was computed by #\d+ hadamard .*; it can only be set on a"):
        y.data = np.ones(1)
    with pytest.raises(TapeError, match=r"mark_changed: this tensor was computed by"):
        y.mark_changed()


def test_tensors_have_no_other_attributes():
    with pytest.raises(AttributeError):
        Tensor([1.0]).colour = "red"


# -- requires_grad, names, gradients ---------------------------------------------------------------------------------


def test_requires_grad_can_be_turned_on_and_off():
    x = constant([1.0])
    x.requires_grad = True
    x.requires_grad = True
    assert x.is_leaf and (x * x).requires_grad
    x.requires_grad = False
    assert not (x * x).requires_grad and x.grad is None
    assert x.requires_grad_() is x and x.requires_grad and not x.requires_grad_(False).requires_grad
    with pytest.raises(TapeError, match=r"requires_grad: this tensor was computed by .*; use detach\(\)"):
        (leaf([1.0]) * 2.0).requires_grad = False


def test_detach_shares_the_array_and_is_a_constant():
    x = leaf([1.0, 2.0])
    d = x.detach()
    assert d.data is x.data and not d.requires_grad and d.is_leaf
    assert grad((x * d).sum(), x).tolist() == [1.0, 2.0]


def test_a_name_is_shown_in_reports():
    x = leaf([1.0])
    assert x.name is None and constant([1.0]).name is None
    x.name = "embedding.weight"
    assert "embedding.weight" in repr(tape(x * 2.0))
    with pytest.raises(TapeError, match="name: this tensor is a constant"):
        constant([1.0]).name = "bias"


def test_a_gradient_can_be_set_and_cleared():
    x = leaf([1.0, 2.0])
    x.grad = constant([3.0, 4.0])
    x.sum().backward()
    assert x.grad.tolist() == [4.0, 5.0]
    x.zero_grad()
    assert x.grad is None
    constant([1.0]).zero_grad()  # nothing to clear


@pytest.mark.parametrize("gradient", [constant([1.0]), constant([1.0, 2.0], "float32"), np.ones(2), 1.0])
def test_setting_a_gradient_of_another_shape_or_dtype_raises(gradient):
    x = leaf([1.0, 2.0])
    with pytest.raises((TypeError, ValueError), match="grad: expected"):
        x.grad = gradient


def test_setting_the_gradient_of_a_constant_raises():
    with pytest.raises(TapeError, match="grad: this tensor is a constant"):
        constant([1.0]).grad = constant([1.0])


# -- Python's protocols ----------------------------------------------------------------------------------------------


def test_len_iter_bool_float_int():
    t = Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert len(t) == 2 and [row.tolist() for row in t] == [[1.0, 2.0], [3.0, 4.0]]
    assert float(Tensor([2.5])) == 2.5 and int(Tensor(2)) == 2 and bool(Tensor([[True]])) and not Tensor(0.0)
    with pytest.raises(TypeError, match="a tensor without axes has no length"):
        len(Tensor(1.0))
    with pytest.raises(TypeError):
        list(Tensor(1.0))
    with pytest.raises(ValueError, match="is neither true nor false"):
        bool(Tensor([1.0, 2.0]))


def test_iteration_is_recorded():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    first, second = x
    (first * second).sum().backward()
    assert x.grad.tolist() == [[3.0, 4.0], [1.0, 2.0]]


def test_deepcopy_is_a_new_leaf():
    x = leaf([1.0, 2.0])
    x.sum().backward()
    y = copy.deepcopy(x)
    y.data[...] = 5.0
    (y * 2.0).sum().backward()
    assert x.tolist() == [1.0, 2.0] and x.grad.tolist() == [1.0, 1.0]
    assert y.requires_grad and y.node is not x.node


def test_methods_are_ops():
    x = leaf([[0.3, 0.5]])
    for name in ("exp", "log", "sqrt", "square", "sin", "cos", "tanh", "sigmoid", "relu", "softmax", "log_softmax"):
        assert getattr(x, name)().tolist() == getattr(ops, name)(x).tolist()
    assert x.abs().tolist() == abs(x).tolist() and (-x).tolist() == [[-0.3, -0.5]]
    assert x.std(axis=1, keepdims=True).shape == (1, 1) and x.norm().shape == ()
    assert x.argmin().item() == 0 and x.min().item() == 0.3


# -- devices ---------------------------------------------------------------------------------------------------------


def test_to_another_backend_and_back():
    for there in (STRICT,):
        x = Tensor([[1.0, 2.0]], requires_grad=True)
        moved = x.to(there)
        assert moved.device == there.name and moved.requires_grad and moved.is_leaf and moved.node is not x.node
        assert not constant([1.0]).to(there).requires_grad
        (moved * moved).sum().backward()
        back = moved.grad.to("numpy")
        assert back.device == "numpy" and back.tolist() == [[2.0, 4.0]]
        assert moved.to(there) is moved and x.to("cpu") is x


def test_to_of_a_recorded_tensor_raises():
    y = leaf([1.0]) * 2.0
    with pytest.raises(
        TapeError, match=r"to: .* computed by #\d+ hadamard .*; move its leaves from 'numpy', or detach it"
    ):
        y.to(STRICT)
    assert y.to("numpy") is y and y.detach().to(STRICT).device == STRICT.name


def test_use_sets_the_device_of_new_tensors():
    with use(STRICT):
        t = Tensor([1.0, 2.0], requires_grad=True)
        assert t.device == STRICT.name and t.dtype == STRICT.xp.float32
        assert Tensor(np.ones(2)).device == "numpy", "an array stays where it is"
        assert Tensor(np.ones(2), device=STRICT).device == STRICT.name
        assert (t * 2.0 + 1.0).sum().item() == 8.0
    assert Tensor([1.0]).device == "numpy"
