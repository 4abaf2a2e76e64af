from __future__ import annotations

import math

import numpy as np
import pytest

from tinygrad_gru import Tensor, grad, native
from tinygrad_gru.backend import backend_of
from tinygrad_gru.optim import clip_gradient_norm, clip_gradient_value, clipping


def gradients(parameters):
    return [parameter.grad.numpy() for parameter in parameters]


@pytest.fixture
def with_gradients(parameter):
    def make(*arrays, dtype="float64"):
        return [parameter(np.zeros(np.shape(array)), array, dtype=dtype) for array in arrays]

    return make


def test_a_long_gradient_keeps_its_direction(with_gradients):
    parameters = with_gradients([3.0, 0.0], [[-4.0]])
    assert clip_gradient_norm(parameters, 2.5) == 5.0
    np.testing.assert_allclose(gradients(parameters)[0], [1.5, 0.0])
    np.testing.assert_allclose(gradients(parameters)[1], [[-2.0]])


@pytest.mark.parametrize("max_norm", [5.0, 6.0, math.inf])
def test_a_gradient_within_the_limit_is_not_changed(with_gradients, max_norm):
    parameters = with_gradients([3.0, 0.0], [[-4.0]])
    before = [parameter.grad for parameter in parameters]
    assert clip_gradient_norm(parameters, max_norm) == 5.0
    assert [gradient.tolist() for gradient in gradients(parameters)] == [old.tolist() for old in before]
    if backend_of(before[0].data).is_host:
        assert all(parameter.grad is old for parameter, old in zip(parameters, before, strict=True)), "for nothing"


def test_equals_torch(with_gradients):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in [(20, 30), (7,), (), (0, 3)]]
    ours = with_gradients(*arrays)
    theirs = [torch.zeros(array.shape, dtype=torch.float64, requires_grad=True) for array in arrays]
    for tensor, array in zip(theirs, arrays, strict=True):
        tensor.grad = torch.tensor(array)
    norm = torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    assert float(clip_gradient_norm(iter(ours), 1.0)) == pytest.approx(norm.item(), rel=1e-12)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-6)  # torch adds 1e-6 to the norm


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dtype_is_kept(with_gradients, dtype):
    parameters = with_gradients([3.0, 4.0], dtype=dtype)
    clip_gradient_norm(parameters, 1.0)
    assert parameters[0].grad.dtype == dtype
    clip_gradient_value(parameters, 0.1)
    assert parameters[0].grad.dtype == dtype


@pytest.mark.parametrize(("dtype", "size"), [("float16", 3e4), ("float32", 1e30)])
def test_a_finite_gradient_whose_squares_overflow_is_clipped(with_gradients, dtype, size):
    parameters = with_gradients(np.full(4, size), dtype=dtype)
    assert float(clip_gradient_norm(parameters, 2.0)) == pytest.approx(2 * size, rel=1e-3)
    np.testing.assert_allclose(gradients(parameters)[0], 1.0, rtol=1e-2)


def test_parameters_without_gradient_are_skipped(parameter):
    tensors = [parameter([1.0]), parameter([0.0], [3.0])]
    assert clip_gradient_norm(tensors, 1.0) == 3.0
    clip_gradient_value(tensors, 0.5)
    assert tensors[0].grad is None
    assert tensors[1].grad.numpy() == [0.5]


def test_the_norm_is_a_tensor_where_the_gradients_are(with_gradients, device):
    norm = clip_gradient_norm(with_gradients([3.0, 4.0], dtype="float32"), 1.0)
    assert norm.device == device and norm.shape == () and norm.dtype == "float64" and not norm.requires_grad
    assert f"{norm:.2f}" == "5.00" and math.isfinite(norm)


def test_no_gradient_at_all(parameter):
    assert clip_gradient_norm([parameter([1.0])], 1.0) == 0.0
    assert clip_gradient_norm([], 1.0) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_nonfinite_norm_is_returned_and_changes_nothing(with_gradients, bad):
    parameters = with_gradients([3.0], [1.0, bad, bad])
    norm = clip_gradient_norm(parameters, 1.0)
    assert not math.isfinite(norm)
    np.testing.assert_array_equal(gradients(parameters)[0], [3.0])
    np.testing.assert_array_equal(gradients(parameters)[1], [1.0, bad, bad])


def test_error_if_nonfinite_names_the_parameters(with_gradients):
    parameters = with_gradients([3.0], [1.0, math.nan, math.inf], [math.nan])
    parameters[2].name = "cell.W_r"
    with pytest.raises(FloatingPointError) as error:
        clip_gradient_norm(parameters, 1.0, error_if_nonfinite=True)
    assert "parameter 1 in 2 of 3 elements" in str(error.value)
    assert "parameter 2 (cell.W_r) in 1 of 1 elements" in str(error.value)
    assert "parameter 0" not in str(error.value)


def test_finite_gradients_with_an_infinite_norm(with_gradients):
    with np.errstate(over="ignore"), pytest.raises(FloatingPointError, match="every element is finite"):
        clip_gradient_norm(with_gradients([1e200]), 1.0, error_if_nonfinite=True)


def test_clip_gradient_value_clips_on_both_sides(with_gradients):
    parameters = with_gradients([-3.0, -0.5, 0.0, 0.25, 7.0, math.nan, math.inf])
    clip_gradient_value(parameters, 0.5)
    np.testing.assert_array_equal(gradients(parameters)[0], [-0.5, -0.5, 0.0, 0.25, 0.5, math.nan, 0.5])


def test_clipping_does_not_write_into_the_old_gradient(with_gradients):
    parameters = with_gradients([3.0, 4.0], [1.0, 1.0])
    shared = parameters[0].grad
    parameters[1].grad = shared
    clip_gradient_norm(parameters[:1], 1.0)
    clip_gradient_value(parameters[:1], 0.1)
    np.testing.assert_array_equal(shared.numpy(), [3.0, 4.0])


def test_a_recorded_gradient_stays_differentiable(parameter):
    tensor = parameter([3.0])
    (tensor * tensor * tensor).sum().backward(create_graph=True)
    clip_gradient_value([tensor], 100.0)
    np.testing.assert_allclose(grad(tensor.grad.sum(), tensor).numpy(), [18.0])


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
def test_a_limit_must_be_above_zero(with_gradients, limit):
    with pytest.raises(ValueError, match="max_norm"):
        clip_gradient_norm(with_gradients([1.0]), limit)
    with pytest.raises(ValueError, match="max_value"):
        clip_gradient_value(with_gradients([1.0]), limit)


@pytest.mark.parametrize("clip", [clip_gradient_norm, clip_gradient_value])
def test_a_tensor_instead_of_a_list_raises(with_gradients, clip):
    with pytest.raises(TypeError, match=r"write \[x\]"):
        clip(with_gradients([1.0])[0], 1.0)


def test_a_parameter_that_is_listed_twice_is_clipped_once(with_gradients):
    a, b = with_gradients([3.0], [4.0])
    alias = Tensor.from_node(a.data, a.node)  # another tensor of the same node, as in mixed precision
    assert clip_gradient_norm([a, b, a, alias], 2.5) == 5.0
    assert gradients([a, b]) == [[1.5], [2.0]]
    clip_gradient_value([a, b, a], 1.75)
    assert gradients([a, b]) == [[1.5], [1.75]]


def test_a_million_gradients_in_half_precision():
    x = Tensor(np.zeros(10**6, np.float16), requires_grad=True)
    x.grad = Tensor(np.full(10**6, 3.0, np.float16))
    assert float(clip_gradient_norm([x], 1.0)) == 3000
    assert x.grad.dtype == np.float16
    assert np.linalg.norm(x.grad.numpy().astype(float)) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_norm_of_many_elements_is_exact_in_every_layout(dtype, rng):
    g = rng.standard_normal((301, 203)).astype(dtype)
    expected = math.sqrt(math.fsum(float(x) ** 2 for x in g.ravel()))
    for layout in (g, np.asfortranarray(g), g[::-1]):
        p = Tensor(np.zeros(g.shape, dtype), requires_grad=True)
        p.grad = Tensor.from_node(layout, None)
        assert float(clip_gradient_norm([p], 1e9)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.skipif(not native.is_available(), reason="needs llvmlite")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_norm_by_a_native_loop_is_that_of_numpy(with_gradients, monkeypatch, dtype):
    monkeypatch.setattr(clipping, "_LEAST_NATIVE", 0)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((37, 5)), rng.standard_normal((4, 6)).T, rng.standard_normal(()), np.zeros((0, 3))]
    parameters = with_gradients(*arrays, [1e20 if dtype == "float32" else 1e150], dtype=dtype)
    for used in (parameters, parameters[:-1]):
        expected = np.linalg.norm(np.concatenate([g.ravel().astype(np.float64) for g in gradients(used)]))
        assert clip_gradient_norm(used, math.inf).item() == pytest.approx(expected, rel=1e-14)
    for wrong in (math.nan, -math.inf):
        parameters = with_gradients(*arrays, [1.0, wrong], dtype=dtype)
        np.testing.assert_equal(clip_gradient_norm(parameters, 1.0).item(), abs(wrong))
