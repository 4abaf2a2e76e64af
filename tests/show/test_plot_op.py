"""The plot of an op: its values, the derivative that its rules give, and what is not drawn."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import ops, show

pytest.importorskip("matplotlib")


def curves(figure, panel=0):
    return {line.get_label(): line.get_xydata().T for line in figure.axes[panel].lines}


def test_the_curves_are_the_op_and_its_derivative():
    drawn = curves(show.plot_op(ops.tanh, (-3, 2)))
    x, y = drawn["y"]
    assert (x[0], x[-1]) == (-3, 2)
    np.testing.assert_allclose(y, np.tanh(x), rtol=1e-12)
    np.testing.assert_allclose(drawn["∂y/∂x"][1], 1 / np.cosh(x) ** 2, rtol=1e-9)


def test_an_op_of_two_inputs_has_a_panel_for_each():
    figure = show.plot_op(ops.power, (0.5, 3), at=3.0)
    (a, da), (b, db) = curves(figure, 0)["∂y/∂a"], curves(figure, 1)["∂y/∂b"]
    np.testing.assert_allclose(da, 3 * a**2, rtol=1e-9)
    np.testing.assert_allclose(db, np.log(3) * 3**b, rtol=1e-9)
    assert figure.axes[1].get_title() == "power, a = 3"


def test_nothing_is_drawn_where_the_op_is_not_finite_or_has_no_derivative():
    x, y = curves(show.plot_op(ops.log))["y"]
    assert np.isnan(y[x <= 0]).all()
    assert np.isfinite(y[x > 0]).all()
    assert list(curves(show.plot_op(ops.sign))) == ["y"]


def test_a_pole_does_not_stretch_the_axis():
    low, high = show.plot_op(ops.divide).axes[1].get_ylim()
    assert high - low < 100


def test_settings_and_composed_functions(tmp_path):
    x, y = curves(show.plot_op(ops.leaky_relu, slope=0.5))["y"]
    np.testing.assert_allclose(y, np.where(x > 0, x, x / 2))
    show.plot_op(lambda x: ops.sin(x) * x, path=tmp_path / "op.svg")
    assert (tmp_path / "op.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(("op", "settings"), [(ops.softmax, {}), (ops.sum, {}), (ops.cumsum, {"axis": 0})])
def test_an_op_that_is_not_elementwise_is_refused(op, settings):
    with pytest.raises(ValueError, match=f"expected an elementwise op, got {op.__name__}, of which"):
        show.plot_op(op, **settings)


def test_wrong_domains_are_refused():
    with pytest.raises(ValueError, match=r"low < high, got .* and \(2, 1\)"):
        show.plot_op(ops.tanh, (2, 1))
    with pytest.raises(ValueError, match=r"low < high, got .* and 3"):
        show.plot_op(ops.tanh, 3)


def test_what_is_no_op_is_refused():
    with pytest.raises(TypeError, match="op: expected an op, or a function of ops, got 3"):
        show.plot_op(3)
    with pytest.raises(TypeError, match=r"NumPy's functions are not recorded: ops\.tanh"):
        show.plot_op(np.tanh)
