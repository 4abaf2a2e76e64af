"""The engine: order, length, memory, and every way to ask for a gradient."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import AnomalyError, TapeError, Tensor, detect_anomaly, enable_grad, grad, no_grad, ops, tape
from tinygrad_gru.ops import op
from tinygrad_gru.tape import Node, name_of


@contextmanager
def without_collector():
    """Whatever is freed in this block is freed by reference counting."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def nodes_alive():
    return sum(type(o) is Node for o in gc.get_objects())


# -- the tape as a list --------------------------------------------------------------------------------------------


def test_the_tape_is_the_records_in_the_order_in_which_they_ran():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    late = ops.exp(x)  # runs first, is used last
    y = (ops.tanh(x * w) + late).sum()
    names = [record.op.__name__ for record in tape(y)]
    assert names == ["exp", "hadamard", "tanh", "add", "sum"]
    numbers = [record.number for record in tape(y)]
    assert numbers == sorted(numbers) and len(set(numbers)) == 5
    assert isinstance(tape(y), list)


def test_a_record_is_listed_once_however_often_it_is_used():
    x = leaf([2.0])
    h = x * x
    assert len(tape(h + h * h, h)) == 3


def test_the_tape_prints_one_record_a_line():
    x = leaf(np.ones((2, 3)))
    x.name = "x"
    h = x * np.ones(3)
    y = ops.tanh(h)
    first, second = map(name_of, (h.node, y.node))
    assert repr(tape(y)) == f"{first} hadamard (2, 3)  <-  x, a constant\n{second} tanh (2, 3)  <-  {first}"
    assert repr(x.node) == "x leaf (2, 3)"


def test_the_tape_of_several_roots_of_leaves_and_of_constants():
    x = leaf([1.0])
    assert tape(x) == [] and tape(constant([1.0])) == [] and repr(tape(x)) == ""
    assert [record.op.__name__ for record in tape(ops.exp(x), ops.sin(x))] == ["exp", "sin"]


# -- length and memory ---------------------------------------------------------------------------------------------


def test_two_hundred_thousand_chained_ops():
    """Recorded, printed in part, differentiated and freed without recursion."""
    x = leaf(1.0)
    h = x
    for _ in range(200_000):
        h = h + 0.0
    records = tape(h)
    assert len(records) == 200_000
    h.backward()
    assert x.grad.item() == 1.0
    del h, records


def test_two_hundred_thousand_ops_are_freed_without_being_differentiated():
    x = leaf(1.0)
    h = x
    for _ in range(200_000):
        h = -h
    record = h.node
    del h
    assert record.saved == ()
    del record


def test_each_record_is_visited_once_in_a_ladder_of_doublings():
    """2⁶⁰ paths lead from y to x, over 60 records."""
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60


@pytest.mark.parametrize("create_graph", [False, True])
def test_memory_is_freed_by_reference_counting_alone(create_graph):
    """A GRU-like step over some time: all records are gone with the loss, without the garbage collector."""
    W, U = leaf(np.full((3, 3), 0.1)), leaf(np.full((3, 3), 0.2))
    xs = constant(np.ones((5, 2, 3)))

    def loss():
        h = constant(np.zeros((2, 3)))
        for t in range(5):
            z = ops.sigmoid(xs[t] @ W + h @ U)
            h = (1 - z) * h + z * ops.tanh(xs[t] @ W + (h * z) @ U)
        return (h * h).mean()

    with without_collector():
        before = nodes_alive()
        y = loss()
        reference = weakref.ref(y.data)
        gradients = grad(y, [W, U], create_graph=create_graph)
        assert nodes_alive() > before
        del y, gradients
        assert reference() is None and nodes_alive() == before


def test_backward_without_create_graph_leaves_no_cycle():
    with without_collector():
        before = nodes_alive()
        x = leaf([1.0, 2.0])
        y = (ops.tanh(x) * x).sum()
        y.backward()
        del x, y
        assert nodes_alive() == before


def test_backward_frees_what_the_records_had_saved():
    x = leaf([1.0, 2.0])
    inner = ops.exp(x)
    y = (inner * inner).sum()
    reference = weakref.ref(inner.data)
    del inner
    assert reference() is not None
    y.backward()
    assert reference() is None


def test_an_error_in_the_midst_of_backward_leaves_nothing_behind():
    @op
    def broken(x):
        return x + 0.0

    def rule(g):
        raise RuntimeError("broken rule")

    broken.vjp(x=rule)
    with without_collector():
        before = nodes_alive()
        x = leaf([1.0])
        y = broken(x) * 2.0
        try:
            y.backward()
        except RuntimeError as error:
            assert str(error) == "broken rule"
            error.__traceback__ = None
        assert x.grad is None
        del x, y
        assert nodes_alive() == before


# -- accumulation and aliasing -------------------------------------------------------------------------------------


def test_gradients_add_up_over_uses_and_over_backwards():
    x = leaf([1.0, 2.0])
    (x * x + 3.0 * x).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]
    x.sum().backward()
    assert x.grad.tolist() == [6.0, 8.0]
    x.zero_grad()
    assert x.grad is None


def test_a_sum_that_shares_a_cotangent_with_another_is_not_written_into():
    """z = (a + b) + a: one array is handed to both; adding a's second share in place would change b's."""
    a, b = leaf([1.0, 1.0]), leaf([1.0, 1.0])
    ((a + b) + a).backward(np.ones(2))
    assert a.grad.tolist() == [2.0, 2.0] and b.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_own_their_arrays(create_graph):
    a, b, cotangent = leaf([1.0, 1.0]), leaf([1.0, 1.0]), np.ones(2)
    y = a + b
    y.retain_grad()
    y.backward(cotangent, create_graph=create_graph)
    a.grad.data[0] = 9.0
    cotangent[1] = 7.0
    assert a.grad.tolist() == [9.0, 1.0] and b.grad.tolist() == y.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("create_graph", [False, True])
def test_returned_gradients_own_their_arrays(create_graph):
    x, cotangent = leaf([1.0, 1.0]), np.ones(2)
    h, k = ops.tanh(x), ops.sin(x)
    first, second, third = grad(h + k, [h, k, x], cotangent, create_graph=create_graph)
    assert not any(
        np.shares_memory(p, q)
        for p, q in (
            (first.data, second.data),
            (first.data, cotangent),
            (third.data, cotangent),
            (first.data, third.data),
        )
    )
    assert first.data.flags.writeable


def test_a_second_backward_does_not_write_into_the_gradient_of_the_first():
    x = leaf([1.0])
    x.sum().backward()
    held = x.grad
    x.sum().backward()
    assert held.tolist() == [1.0] and x.grad.tolist() == [2.0]


def test_the_cotangent_is_not_written_into():
    x, cotangent = leaf([1.0, 2.0]), np.ones(2)
    h = x * 1.0
    (h + h + h).backward(cotangent)
    assert cotangent.tolist() == [1.0, 1.0] and x.grad.tolist() == [3.0, 3.0]


# -- backward ------------------------------------------------------------------------------------------------------


def test_a_scalar_needs_no_cotangent_and_others_say_so():
    x = leaf([1.0, 2.0])
    with pytest.raises(TapeError, match=r"shape \(2,\) needs a cotangent of that shape.*did you mean loss.mean\(\)"):
        (x * 2.0).backward()
    (x[:1] * 2.0).backward()  # one element, whatever its shape
    assert x.grad.tolist() == [2.0, 0.0]


@pytest.mark.parametrize("cotangent", [[1.0, 3.0], np.array([1.0, 3.0]), np.array([1, 3]), Tensor([1.0, 3.0])])
def test_a_cotangent_weighs_the_output(cotangent):
    x = leaf([1.0, 2.0])
    (x * x).backward(cotangent)
    assert x.grad.tolist() == [2.0, 12.0] and x.grad.dtype == "float64"


def test_a_number_weighs_a_scalar():
    x = leaf(3.0, "float32")
    (x * x).backward(0.5)
    assert x.grad.item() == 3.0 and x.grad.dtype == "float32"


@pytest.mark.parametrize("cotangent", [np.ones(3), np.ones((2, 1)), 1.0, np.ones((1, 2))])
def test_a_cotangent_of_another_shape(cotangent):
    y = leaf([1.0, 2.0]) * 2.0
    with pytest.raises(TapeError, match=r"cotangent: expected the shape of what is differentiated, \(2,\), got"):
        y.backward(cotangent)


@pytest.mark.parametrize("make", [lambda x: x.detach(), lambda x: constant([1.0]), lambda x: no_grad()(ops.exp)(x)])
def test_a_constant_cannot_be_differentiated(make):
    with pytest.raises(TapeError, match=r"backward: this tensor is a constant; no tensor that requires a gradient led"):
        make(leaf([1.0])).backward()


def test_a_leaf_is_its_own_gradient():
    x = leaf(3.0)
    x.backward()
    assert x.grad.item() == 1.0
    assert grad(x, x).item() == 1.0


@pytest.mark.parametrize("again", [lambda y: y.backward(), lambda y: (y * 2.0).backward()])
def test_a_second_backward_explains_retain_graph(again):
    x = leaf([2.0])
    y = (x * x).sum()
    y.backward()
    with pytest.raises(TapeError, match=r"has freed what #\d+ \w+ .* give the first backward retain_graph=True"):
        again(y)


def test_retain_graph_keeps_what_was_saved():
    x = leaf([2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [12.0]
    with pytest.raises(TapeError, match="retain_graph"):
        y.backward()


def test_a_part_of_the_graph_that_was_not_visited_is_not_freed():
    x, w = leaf([2.0]), leaf([3.0])
    h = x * x
    loss, other = (h * w).sum(), (h * h).sum()
    assert grad(loss, h).tolist() == [3.0]  # ends at h, so that x * x is still whole
    other.backward()
    assert x.grad.tolist() == [4 * 8.0]


def test_backward_in_two_parts_gives_what_one_gives():
    x = leaf([0.3, 0.5])
    h = ops.tanh(x)
    h.backward(grad((h * h).sum(), h))
    np.testing.assert_allclose(x.grad.numpy(), 2 * h.numpy() * (1 - h.numpy() ** 2), rtol=1e-15)


def test_gradients_of_integers_are_not_asked_for():
    x = leaf([1.0, 2.0])
    y = (x * Tensor([2, 3])).sum()
    y.backward()
    assert x.grad.tolist() == [2.0, 3.0]


# -- grad ----------------------------------------------------------------------------------------------------------


def test_grad_returns_and_touches_nothing():
    x, w = leaf([2.0]), leaf([3.0])
    y = x * w
    assert grad(y, x, retain_graph=True).tolist() == [3.0]
    first, second = grad(y, (x, w))
    assert (first.tolist(), second.tolist()) == ([3.0], [2.0])
    assert x.grad is None and w.grad is None


def test_grad_of_something_on_the_way():
    x = leaf([2.0])
    h = x * x
    y = h * h + x
    gh, gx = grad(y, [h, x])
    assert (gh.item(), gx.item()) == (8.0, 33.0)


def test_grad_visits_only_what_leads_to_the_inputs():
    called = []

    @op
    def watched(x):
        return x * 1.0

    watched.vjp(x=lambda g: called.append(1) or g)
    x, w = leaf([1.0]), leaf([1.0])
    y = watched(x) * w
    assert grad(y, w).tolist() == [1.0] and called == []


def test_inputs_that_did_not_lead_there():
    x, other = leaf([1.0]), leaf([1.0])
    other.name = "weight"
    with pytest.raises(
        TapeError, match=r"inputs\[1\] weight leaf \(1,\) did not lead to the outputs; pass allow_unused"
    ):
        grad(x * 2.0, [x, other])
    assert grad(x * 2.0, [x, other], allow_unused=True)[1] is None
    with pytest.raises(TapeError, match=r"grad, inputs\[0\]: this tensor is a constant"):
        grad(x * 2.0, constant([1.0]), allow_unused=True)


def test_grad_of_several_outputs():
    x = leaf([1.0, 2.0])
    y, z = x * x, ops.exp(x)
    g = grad([y, z], x, [np.array([1.0, 0.0]), np.array([0.0, 1.0])])
    np.testing.assert_allclose(g.numpy(), [2.0, np.exp(2.0)])
    y = x * x
    assert grad([y.sum(), y.sum()], x, retain_graph=True).tolist() == [4.0, 8.0]
    assert grad([y, y], x, [[1.0, 0.0], [1.0, 1.0]]).tolist() == [4.0, 4.0], "one output, named twice"


def test_one_cotangent_for_each_output():
    x = leaf([1.0])
    with pytest.raises(ValueError, match="cotangents: expected one for each of the 2 outputs, got 1"):
        grad([x * 1.0, x * 2.0], x, [np.ones(1)])
    assert grad([x * 1.0, x * 2.0], [x], [None, np.ones(1)])[0].tolist() == [3.0]


def test_an_output_among_the_inputs():
    x = leaf([3.0])
    y = x * x
    gy, gx = grad(y, [y, x])
    assert (gy.item(), gx.item()) == (1.0, 6.0)


def test_the_same_input_twice():
    x = leaf([3.0])
    assert [g.item() for g in grad(x * x, [x, x])] == [6.0, 6.0]


# -- higher orders -------------------------------------------------------------------------------------------------


def test_derivatives_of_every_order():
    x = leaf(0.7)
    y = ops.sin(x)
    for expected in (np.cos, lambda v: -np.sin(v), lambda v: -np.cos(v), np.sin, np.cos):
        y = grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(expected(0.7), rel=1e-12)


def test_double_backward_equals_torch(rng):
    """A penalty on the gradient, through a product, a nonlinearity, slices and a loss."""
    torch = pytest.importorskip("torch")
    values = [rng.standard_normal(s) for s in ((4, 3), (3, 5), (5,))]

    def loss(lib, x, w, b):
        h = lib.tanh(x @ w + b)
        return (lib.exp(h[1:] * 0.3) * h[:-1]).sum() + (h * h).mean()

    mine = [leaf(v) for v in values]
    peers = [torch.tensor(v, requires_grad=True) for v in values]
    penalty = sum((g * g).sum() for g in grad(loss(ops, *mine), mine, create_graph=True))
    penalty.backward()
    found = torch.autograd.grad(loss(torch, *peers), peers, create_graph=True)
    sum((g * g).sum() for g in found).backward()
    for m, p in zip(mine, peers):
        np.testing.assert_allclose(m.grad.numpy(), p.grad.numpy(), rtol=1e-11, atol=1e-12)


def test_backward_with_create_graph_can_be_differentiated():
    x = leaf([2.0])
    (x * x * x).sum().backward(create_graph=True)
    first = x.grad
    assert first.requires_grad
    x.zero_grad()
    first.backward()
    assert x.grad.tolist() == [12.0]


def test_create_graph_records_under_no_grad_too():
    x = leaf([2.0])
    y = x * x * x
    with no_grad():
        g = grad(y, x, create_graph=True)
    assert grad(g, x).item() == 12.0


def test_create_graph_records_slices_under_no_grad_too():
    x = leaf([2.0, 3.0])
    y = x[0] * x[0] * x[1]
    with no_grad():
        g = grad(y, x, create_graph=True)
    assert g.requires_grad
    assert grad(g.sum(), x).tolist() == [2 * 3.0 + 2 * 2.0, 2 * 2.0]


def test_inputs_may_come_one_by_one():
    x, z = leaf([2.0]), leaf([3.0])
    assert [g.item() for g in grad(x * z, (t for t in (x, z)))] == [3.0, 2.0]


def test_only_tensors_have_gradients():
    x = leaf([2.0])
    for outputs, inputs, name in ((3.0, x, "outputs"), (x, 3.0, "inputs"), (x, [x, None], "inputs")):
        with pytest.raises(TypeError, match=f"{name}: expected a tensor or a list of tensors, got"):
            grad(outputs, inputs)


def test_without_create_graph_gradients_are_constants():
    x = leaf([2.0])
    assert not grad(x * x, x).requires_grad
    (x * x).backward()
    assert not x.grad.requires_grad


def test_a_cotangent_that_is_itself_differentiated():
    """gᵀv is linear in v: its derivative with regard to v is g."""
    x, v = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    g = grad(x * x, x, v, create_graph=True)
    assert grad(g.sum(), v).tolist() == [2.0, 4.0]


# -- dtypes --------------------------------------------------------------------------------------------------------


def test_gradients_have_the_dtype_of_their_leaf():
    wide, narrow = leaf([1.0], "float64"), leaf([1.0], "float32")
    (wide * narrow).backward()
    assert wide.grad.dtype == "float64" and narrow.grad.dtype == "float32"
    narrow.zero_grad()
    g = grad(wide * narrow, narrow, create_graph=True)
    assert g.dtype == "float32" and g.requires_grad


@pytest.mark.parametrize("cotangent", [np.ones(1), np.ones(1, int), [1.0], Tensor([1.0], dtype="float64")])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_cotangent_takes_the_dtype_of_what_is_differentiated(cotangent, create_graph):
    h = leaf([2.0], "float32") * 1.0  # not a leaf, whose gradient is cast in any case
    g = grad(h * 3.0, h, cotangent, create_graph=create_graph)
    assert g.dtype == "float32" and g.tolist() == [3.0]


def test_the_gradient_of_a_record_has_its_dtype_too():
    h = leaf([2.0], "float32") * 1.0
    assert grad(h * np.ones(1), h).dtype == "float32"


# -- hooks, retain_grad --------------------------------------------------------------------------------------------


def test_a_hook_sees_the_whole_gradient_once():
    x, seen = leaf([1.0, 2.0]), []
    h = x * 2.0
    h.register_hook(lambda g: seen.append(g.tolist()))
    (h + h * 3.0).sum().backward()
    assert seen == [[4.0, 4.0]] and x.grad.tolist() == [8.0, 8.0]


def test_a_hook_may_change_the_gradient():
    x = leaf([1.0, 2.0])
    h = x * 2.0
    h.register_hook(lambda g: g * 10.0)
    x.register_hook(lambda g: g + 1.0)
    h.sum().backward()
    assert x.grad.tolist() == [21.0, 21.0]


def test_a_hook_that_writes_in_place_reaches_nobody_else():
    x, z, cotangent = leaf([1.0, 1.0]), leaf([1.0, 1.0]), np.ones(2)
    h, k = x * 1.0, z * 1.0
    h.register_hook(lambda g: g.data.fill(0.0))
    (h + k).backward(cotangent)
    assert z.grad.tolist() == [1.0, 1.0] and cotangent.tolist() == [1.0, 1.0]


def test_hooks_run_in_order_and_can_be_removed():
    x, seen = leaf([1.0]), []
    first = x.register_hook(lambda g: seen.append("first"))
    x.register_hook(lambda g: seen.append("second"))
    x.sum().backward()
    first()
    first()  # a second removal does nothing
    x.sum().backward()
    assert seen == ["first", "second", "second"]


def test_a_hook_that_removes_itself():
    x, seen = leaf([1.0]), []

    def once(g):
        seen.append(1)
        remove()

    remove = x.register_hook(once)
    x.register_hook(lambda g: seen.append(2))
    x.sum().backward()
    x.sum().backward()
    assert seen == [1, 2, 2]


@pytest.mark.parametrize("answer", [np.ones(2), constant([1.0]), 3.0, "g", Tensor([1, 2]), Tensor([True, False])])
def test_a_hook_returns_a_tensor_of_the_shape_or_nothing(answer):
    x = leaf([1.0, 2.0])
    x.register_hook(lambda g: answer)
    with pytest.raises(TypeError, match=r"hook must return None or a floating-point tensor of shape \(2,\) on 'numpy'"):
        x.sum().backward()
    assert x.grad is None


def test_a_hook_returns_a_tensor_of_the_same_device(stand_in):
    x = Tensor(np.ones(2, np.float32), requires_grad=True)
    x.register_hook(lambda g: g.to("cupy"))
    with pytest.raises(TypeError, match=r"a floating-point tensor of shape .* on 'numpy'"):
        x.sum().backward()


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
def test_what_a_hook_returns_takes_the_dtype_of_the_gradient(create_graph, recorded):
    x = leaf([1.0, 2.0], "float32")
    h, seen = x * 1.0 if recorded else x, []
    h.register_hook(lambda g: g.astype("float64") * 3.0)
    h.register_hook(lambda g: seen.append(g.dtype))
    g = grad((h * h).sum(), x, create_graph=create_graph, retain_graph=True)
    assert g.dtype == "float32" and g.tolist() == [6.0, 12.0] and seen == ["float32"]
    (h * h).sum().backward(create_graph=create_graph)
    assert x.grad.dtype == "float32"
    x.zero_grad()


def test_one_function_as_two_hooks():
    """Each removal takes away its own, however often it is called."""
    x = leaf([1.0])

    def doubled(g):
        return g * 2.0

    first, second = x.register_hook(doubled), x.register_hook(doubled)
    first()
    first()
    assert grad(x.sum(), x).tolist() == [2.0]
    second()
    assert grad(x.sum(), x).tolist() == [1.0]


def test_a_hook_can_be_recorded():
    x = leaf([2.0])
    x.register_hook(lambda g: g * g)
    g = grad((x * x * x).sum(), x, create_graph=True)
    assert g.item() == 144.0
    x._state("test").hooks.clear()
    assert grad(g, x).item() == 2 * 12 * 12  # d/dx (3x²)² = 2 · 3x² · 6x


def test_hooks_on_a_constant_are_refused():
    with pytest.raises(TapeError, match=r"register_hook: this tensor is a constant and will have no gradient"):
        constant([1.0]).register_hook(print)


def test_retain_grad_keeps_the_gradient_of_a_recorded_tensor():
    x = leaf([1.0, 2.0])
    h, k = (x * x).retain_grad(), x * 3.0
    (h * k).sum().backward()
    assert h.grad.tolist() == [3.0, 6.0] and k.grad is None
    assert x.grad.tolist() == [9.0, 36.0]


def test_retained_gradients_add_up_and_can_be_forgotten():
    x = leaf([1.0])
    h = (x * 2.0).retain_grad()
    y = h * 3.0
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    assert h.grad.tolist() == [6.0]
    h.zero_grad()
    assert h.grad is None


# -- what was changed in place -------------------------------------------------------------------------------------


def changed(x):
    with no_grad():
        x.data[...] = 7.0
    x.mark_changed()


@pytest.mark.parametrize(
    "change",
    [changed, lambda x: x.__setattr__("data", x.data.__iadd__(1.0)), lambda x: no_grad()(x.__setitem__)(0, 5.0)],
)
def test_a_leaf_that_was_changed_in_place_is_an_error_that_names_it(change):
    x = leaf([1.0, 2.0])
    x.name = "gru.W_r"
    y = (x * x).sum()
    change(x)
    with pytest.raises(TapeError, match=r"gru\.W_r \(2,\) was changed in place after #\d+ hadamard .* had saved it"):
        y.backward()


def test_in_place_operators_on_data_are_noticed():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    x.data += 1.0
    x.data *= 2.0
    assert x.tolist() == [4.0, 6.0]
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()


def test_a_change_is_noticed_through_a_chain_of_views():
    x = leaf(np.ones((2, 3)))
    y = (x.reshape(6)[1:4].expand_dims(0).T[::-1, 0] * leaf(np.ones(3))).sum()
    changed(x)
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()


def test_a_change_after_the_values_were_used_up_does_not_matter():
    x = leaf([1.0, 2.0])
    y = (x * 2.0 + 1.0).sum()  # nobody has saved x
    changed(x)
    y.backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_a_change_before_does_not_matter():
    x = leaf([1.0, 2.0])
    changed(x)
    y = (x * x).sum()
    y.backward()
    assert x.grad.tolist() == [14.0, 14.0]


def test_a_change_between_two_records_does_not_matter_to_the_later_one():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    early = w * w
    changed(x)
    (early + x * x).sum().backward()
    assert x.grad.tolist() == [14.0, 14.0] and w.grad.tolist() == [6.0, 8.0]


def test_a_change_between_steps_of_training_does_not_matter():
    x = leaf([1.0])
    for _ in range(3):
        x.zero_grad()
        (x * x).sum().backward()
        x.data -= 0.25 * x.grad.data
    assert x.tolist() == [0.125]


def test_a_change_of_one_leaf_does_not_touch_another():
    x, w = leaf([1.0]), leaf([2.0])
    y = (x * 2.0) * w  # keeps x * 2 and w, not x
    changed(x)
    y.backward()
    assert x.grad.tolist() == [4.0]


def test_an_output_that_was_saved_is_not_the_input():
    x = leaf([0.5])
    y = ops.tanh(x)
    changed(x)
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 1 - np.tanh(0.5) ** 2)


def test_turning_requires_grad_off_and_on_does_not_hide_a_change():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    x.requires_grad = False
    x.requires_grad = True
    x.data += 1.0
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()


def test_data_can_be_set_to_another_array_without_harm():
    """The record holds the old array; the leaf merely shows another one from now on."""
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    x.data = np.array([5.0, 6.0])
    y.backward()
    assert x.grad.tolist() == [2.0, 4.0] and x.tolist() == [5.0, 6.0]


def test_a_write_that_goes_around_us_is_seen_by_anomaly_mode():
    """NumPy writes into an array without a word to us."""
    for saved in (constant([3.0, 4.0]), leaf([3.0, 4.0])):
        x = leaf([1.0, 2.0])
        with detect_anomaly():
            y = (x * saved.detach()).sum()
            np.add(saved.data, 1.0, out=saved.data)
            with pytest.raises(AnomalyError, match="was written before backward"):
                y.backward()


# -- switches ------------------------------------------------------------------------------------------------------


def test_no_grad_and_enable_grad_nest():
    x = leaf([1.0])
    with no_grad():
        assert not (x * x).requires_grad
        with enable_grad():
            assert (x * x).requires_grad
            with no_grad():
                assert not (x * x).requires_grad
        assert not (x * x).requires_grad
    assert (x * x).requires_grad


def test_they_decorate_functions():
    x = leaf([1.0])

    @no_grad()
    def evaluate(scale):
        return x * scale

    @enable_grad()
    def measure():
        return x * 2.0

    assert not evaluate(2.0).requires_grad and not evaluate(3.0).requires_grad
    with no_grad():
        assert measure().requires_grad
    assert (x * x).requires_grad


def test_they_end_with_an_exception():
    x = leaf([1.0])
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * x).requires_grad


def test_threads_have_switches_of_their_own():
    x, inside, outside = leaf([1.0]), threading.Event(), threading.Event()
    seen = {}

    def other():
        with no_grad():
            inside.set()
            outside.wait(10)
            seen["other"] = (x * x).requires_grad

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    seen["main"] = (x * x).requires_grad
    outside.set()
    thread.join(10)
    assert seen == {"main": True, "other": False}


def test_threads_record_and_differentiate_side_by_side():
    x, results = leaf(np.ones(3)), {}

    def work(k):
        y = x
        for _ in range(200):
            y = y * 1.0 + 0.0
        results[k] = grad((y * float(k)).sum(), x).numpy().sum()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {k: 3.0 * k for k in range(4)}


def test_backward_works_under_no_grad():
    x = leaf([3.0])
    y = x * x
    with no_grad():
        y.backward()
    assert x.grad.tolist() == [6.0]


# -- on every backend ----------------------------------------------------------------------------------------------


def test_backward_stays_on_the_backend(backend):
    W = Tensor(backend.asarray([[0.1, 0.2], [0.3, 0.4]]), requires_grad=True)
    x = Tensor(backend.asarray([[1.0, -1.0]]))
    h = ops.tanh(x @ W)
    y = (h * h)[0, 1] + ops.logsumexp(h) + W[0, 0]
    gradients = grad(y, W, create_graph=True)
    (gradients * gradients).sum().backward()
    assert W.grad.device == gradients.device == backend.name
    host = [leaf([[0.1, 0.2], [0.3, 0.4]])]
    h = ops.tanh(constant([[1.0, -1.0]]) @ host[0])
    y = (h * h)[0, 1] + ops.logsumexp(h) + host[0][0, 0]
    expected = grad(y, host[0], create_graph=True)
    (expected * expected).sum().backward()
    np.testing.assert_allclose(gradients.numpy(), expected.numpy(), rtol=1e-13)
    np.testing.assert_allclose(W.grad.numpy(), host[0].grad.numpy(), rtol=1e-12)
