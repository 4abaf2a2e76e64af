"""`show.tape`: what it shows is what ran, its cotangents are the gradients, and steps that are alike are shown once."""

import gc
import re
import weakref
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tinygrad_gru import Tensor, compiling, grad, nn, op, ops, scan, show, tape
from tinygrad_gru.ops.movement import indexing, shape
from tinygrad_gru.ops.rule_texts import RuleTexts
from tinygrad_gru.show.graph.fold import Block

SVG = "{http://www.w3.org/2000/svg}"


def leaf(*values):
    return Tensor(np.array(values, float).reshape(() if len(values) == 1 else -1), requires_grad=True)


def items(picture):
    return {picture.name(item): item for item in picture.items()}


def blocks(picture):
    return [entry for entry in picture.entries if isinstance(entry, Block)]


def texts(svg):
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_a_tensor_shows_what_its_tape_has_kept():
    a, b = leaf(2.0), leaf(3.0)
    c = a * b
    y = ops.exp(c) + c
    picture = show.tape(y)
    assert str(picture).splitlines() == [
        "a = leaf            ()  2",
        "b = leaf            ()  3",
        "c = hadamard(a, b)  ()         ∂a = g * b, ∂b = g * a",  # its value is not a residual
        "#4 = exp(c)         ()  403.4  ∂c = g * y",
        "y = add(#4, c)      ()  409.4  ∂#4 = ∂c = g",
    ]
    assert [item.op for item in picture.items() if not item.is_leaf] == [r.op.__name__ for r in tape(y)]
    assert repr(picture) == str(picture)


def test_names_are_those_of_parameters_then_of_variables():
    layer, x = nn.Linear(2, 3, dtype="float64"), leaf(1.0, 2.0)
    _hidden = layer(x)
    assert {"W", "b", "x"} <= set(items(show.tape(_hidden)))
    two = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    assert {"W₁", "b₁", "W₂", "b₂"} <= set(items(show.tape(two(np.ones(2, np.float32)))))
    text = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 3))
    assert {"Embedding.W", "Linear.W", "b"} <= set(items(show.tape(text([1]))))
    assert "signal" in items(show.tape(_hidden, names={"signal": x}))


def test_a_function_shows_its_variables_all_values_and_the_places():
    def f(a, b):
        product = a * b
        shifted = product - 6
        return ops.tanh(shifted) * product

    a, b = leaf(2.0), leaf(3.5)
    picture = show.tape(f, a, b)
    found, line = items(picture), f.__code__.co_firstlineno
    assert list(found) == ["a", "b", "product", "shifted", "#5", "#6"]
    assert repr(found["product"]) == "product = hadamard ()"
    values = [float(item.value) for item in found.values()]
    np.testing.assert_allclose(values, [2, 3.5, 7, 1, np.tanh(1), 7 * np.tanh(1)], rtol=1e-12)
    assert [item.place.line - line for item in list(found.values())[2:]] == [1, 2, 3, 3]
    assert "shifted = subtract(product, 6)" in str(picture)
    assert f"{__file__.rpartition('/')[2]}:{line + 1}" in str(picture)
    assert show.tape(lambda x: (x * 2, "a state"), a).entries[-1].value == 4


def test_a_function_leaves_nothing_behind():
    class Local:
        pass

    seen = []

    def f(x):
        local = Local()
        seen.append(weakref.ref(local))
        return ops.tanh(x * 2)

    gc.disable()  # so that a reference cycle would show
    try:
        show.tape(f, leaf(1.0))
        assert seen[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("as_function", [False, True])
def test_cotangents_are_the_gradients_and_nothing_is_changed(as_function):
    random = np.random.default_rng(0)
    x = Tensor(random.standard_normal((3, 2)), requires_grad=True)
    W = Tensor(random.standard_normal((2, 2)), requires_grad=True)

    def f(x, W):
        hidden = ops.tanh(x @ W)
        return (hidden * hidden).sum() + hidden.sum()

    hidden = ops.tanh(x @ W)
    y = (hidden * hidden).sum() + hidden.sum()
    picture = show.tape(f, x, W, backward=True) if as_function else show.tape(y, backward=True)
    expected = dict(zip(("x", "W", "hidden"), grad(y, [x, W, hidden], retain_graph=True)))
    for name, gradient in expected.items():
        np.testing.assert_allclose(items(picture)[name].cotangent, gradient.numpy(), rtol=1e-12)
    assert x.grad is None and W.grad is None
    y.backward()  # nothing was freed
    assert "∂L" in str(show.tape(f, x, W))  # gradients that are kept


def test_the_cotangent_of_what_is_no_scalar_is_given():
    x = leaf(1.0, 2.0)
    y = x * 3
    with pytest.raises(ValueError, match=r"backward=True is for a scalar, got a y of shape \(2,\)"):
        show.tape(y, backward=True)
    with pytest.raises(ValueError, match=r"backward: expected y's shape \(2,\), got \(3,\)"):
        show.tape(y, backward=np.ones(3))
    assert items(show.tape(y, backward=[1.0, 10.0]))["x"].cotangent.tolist() == [3.0, 30.0]


def test_what_has_no_tape_is_refused():
    for y, got in (
        (Tensor(1.0), "a constant. Nothing .* requires a gradient"), (3.0, "a float; expected a Tensor, or a function"),
        (np.ones(2), "a ndarray, and what is computed with arrays is not recorded"), (None, "None; did a function end"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=f"y has no tape: it is {got}"):
            show.tape(y)
        with pytest.raises(TypeError, match=f"y has no tape: the function returned {got}"):
            show.tape(lambda: y)  # noqa: B023
    with pytest.raises(TypeError, match="names: expected a dictionary, name -> Tensor, got a list"):
        show.tape(leaf(1.0) * 2, names=[1])
    with pytest.raises(TypeError, match=r"backward: expected True or numbers of y's shape \(\), got 'x'"):
        show.tape(leaf(1.0) * 2, backward="x")
    with pytest.raises(TypeError, match="inputs are for a function"):
        show.tape(leaf(1.0), leaf(2.0))


# -- folded over time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("layer_type", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_recurrences_are_folded_and_have_the_names_of_the_equations(layer_type, reverse, requires_grad):
    layer = layer_type(3, 4, num_layers=2, reverse=reverse, dtype="float64")
    x = Tensor(np.random.default_rng(0).standard_normal((6, 2, 3)), requires_grad)

    def loss(x):
        return ops.square(layer(x)[0]).sum()

    picture = show.tape(loss, x, backward=True)
    assert [block.count for block in blocks(picture)] == [6, 6]
    y = loss(x)
    for parameter, gradient in zip(layer.parameters(), grad(y, layer.parameters())):
        (item,) = [item for item in picture.items() if item.node is parameter.node]
        np.testing.assert_allclose(item.cotangent, gradient.numpy(), rtol=1e-9)
    expected = {nn.GRU: "r z h_tilde h", nn.LSTM: "i f g o c h", nn.RNN: "h"}[layer_type].split()
    for block in blocks(picture):
        assert set(expected) <= {item.name for item in block.items}
        carried = {item.name for item in block.carried.values()}
        assert carried == ({"h", "c"} if layer_type is nn.LSTM else {"h"})
        assert all(len(item.steps) == 6 and item.steps[-1] is item for item in block.items)
    unfolded = show.tape(loss, x, fold=False)
    assert len(list(unfolded.items())) > 5 * len(list(picture.items())) - 6 * len(layer.state_dict())
    assert not blocks(unfolded)


def test_a_compiled_scan_is_one_record_or_unfolded_into_its_step():
    layer = nn.GRU(3, 4, dtype="float64")
    x = Tensor(np.random.default_rng(0).standard_normal((5, 2, 3)), requires_grad=True)
    y = ops.square(layer(x)[0]).sum()
    closed = show.tape(y, backward=True)
    assert [item.op for item in closed.items() if not item.is_leaf] == ["compiled scan", "ys", "square", "sum"]
    unfolded = show.tape(y, backward=True, unfold=True)
    with compiling(False):
        eager = show.tape(ops.square(layer(x)[0]).sum(), backward=True)
    (ours,), (theirs,) = blocks(unfolded), blocks(eager)
    assert ours.count == theirs.count == 5
    assert [item.op for item in ours.items] == [item.op for item in theirs.items]
    assert {"r", "z", "h_tilde", "h"} <= {item.name for item in ours.items}
    assert any("z * h_tilde" in str(item.place) for item in ours.items)
    text = str(unfolded)
    assert "x₂ = slice(x₁)" in text and "matmul(x₂, W_r)" in text and "∂W_r = x₂ᵀ g" in text
    assert "∂h[t-1] = g U_rᵀ" in text and "∂U_r = h[t-1]ᵀ g" in text and "(at first constant (2, 4))" in text
    assert max(map(len, text.splitlines())) <= 120
    for a, b in zip(ours.items, theirs.items):
        for one, other in zip(a.steps, b.steps):
            assert (one.cotangent is None) == (other.cotangent is None)
            if one.cotangent is not None:
                np.testing.assert_allclose(one.cotangent, other.cotangent, rtol=1e-9, atol=1e-12)
    y.backward()
    assert "see unfold=True" in str(closed) and "… 10 more" in str(closed)
    assert "freed by backward" in str(show.tape(y, unfold=True))  # freed: it cannot be replayed


def test_an_unfolded_step_has_its_names_as_long_as_it_is_there():
    class Model:
        W = Tensor(np.eye(2), requires_grad=True)

        def step(self, carry, x):
            h, c = carry
            mixed = h @ self.W
            c = c * x
            return ops.tanh(mixed + c), c

    model, h, xs = Model(), leaf(1.0, 2.0), Tensor(np.ones((6, 2)))
    y = scan(model.step, (h, h * 1), xs)[1].sum()
    (block,) = blocks(show.tape(y, unfold=True))
    assert block.count == 6
    assert [item.name for item in block.items] == ["mixed", "c", "", "h"]  # the next h
    np.testing.assert_allclose(block.items[1].value, [1.0, 2.0])  # all values are known: the step is replayed
    del model, xs
    (block,) = blocks(show.tape(y, unfold=True))
    assert [item.op for item in block.items] == ["matmul", "hadamard", "add", "tanh"]
    assert not any(item.name for item in block.items)
    layer = nn.LSTM(3, 4)
    y = layer(np.ones((6, 2, 3), np.float32), lengths=[6, 2])[0].sum()
    (block,) = blocks(show.tape(y, unfold=True))
    assert block.count == 6  # the last c, which no output needs, too
    (block,) = blocks(show.tape(nn.GRU(3, 4)(np.ones((6, 2, 3), np.float32))[0].sum(), unfold=True))
    assert {"r", "z", "h_tilde", "h"} <= {item.name for item in block.items}  # of a layer that is gone


def test_what_begins_a_recurrence_is_shown():
    start, xs = leaf(1.0, 2.0), Tensor(np.ones((4, 2)))

    def f(start):
        return scan(lambda h, x: ops.tanh(h * start + x), start, xs, compiled=False)[0].sum()

    picture = show.tape(f, start)
    (block,) = blocks(picture)
    ((carried, initial),) = block.initial.items()
    assert block.count == 4 and carried.name == "h" and repr(block) == "× 4 steps of 3 records"
    assert "h₂[t-1] is the h₂ of the step before (at first h₁)" in str(picture)
    assert "|∂L|" not in str(picture)
    assert "|∂L| from the last step to the first" in " ".join(str(show.tape(f, start, backward=True)).split())
    assert initial.name == "h" or initial.is_leaf


def test_layers_that_are_alike_but_have_weights_of_their_own_are_no_loop():
    layers = [nn.Linear(4, 4) for _ in range(4)]
    model = nn.Sequential(*(part for layer in layers for part in (layer, ops.tanh)))
    assert not blocks(show.tape(model(np.ones((2, 4), np.float32))))
    x = leaf(1.5)
    y = x
    for factor in (2, 3, 2, 3, 5, 7):
        y = y * factor
    assert not blocks(show.tape(y))
    for _ in range(7):
        y = y * 2
    assert [block.count for block in blocks(show.tape(y))] == [7]


# -- forms -----------------------------------------------------------------------------------------------------------


def pictures():
    a, b = leaf(2.0), leaf(3.0)
    a.name = '<b> & "x" 1. `#;'
    layer = nn.GRU(2, 3)
    yield show.tape(ops.tanh(a * b), backward=True)
    yield show.tape(lambda x: layer(x)[0].sum(), np.ones((5, 1, 2), np.float32), backward=True)


@pytest.mark.parametrize("which", [0, 1])
def test_the_svg_shows_every_value_once_and_boxes_do_not_overlap(which):
    picture = list(pictures())[which]
    svg = picture.svg()
    root = ElementTree.fromstring(svg)
    shown = texts(svg)
    for item in picture.items():
        assert any(text == picture.title(item) or text.endswith("…") for text in shown)
    boxes = []
    for group in root.iter(f"{SVG}g"):
        rectangle = group.find(f"{SVG}rect")
        boxes.append([float(rectangle.get(name)) for name in ("x", "y", "width", "height")])
    assert len(boxes) == len(list(picture.items())) + len({i for b in blocks(picture) for i in b.carried.values()})
    for k, (x, y, w, h) in enumerate(boxes):
        for u, v, p, q in boxes[:k]:
            assert x + w <= u + 0.11 or u + p <= x + 0.11 or y + h <= v or v + q <= y
    left, top, width, height = map(float, root.get("viewBox").split())
    assert all(left <= x and x + w <= left + width and top <= y and y + h <= top + height for x, y, w, h in boxes)
    assert root.get("role") == "img" and root.find(f"{SVG}desc").text
    assert 'fill="black"' not in svg and "currentColor" in svg


def test_edges_lead_downwards_from_what_was_computed_before():
    picture = next(iter(pictures()))
    centers = {}
    for group in ElementTree.fromstring(picture.svg()).iter(f"{SVG}g"):
        rectangle = group.find(f"{SVG}rect")
        centers[group.find(f"{SVG}text").text] = float(rectangle.get("y"))
    for item in picture.items():
        for argument, *_ in picture.edges(item):
            assert centers[picture.title(argument)] < centers[picture.title(item)]


def test_mermaid_escapes_labels_and_has_every_node_and_edge():
    for picture in pictures():
        lines = picture.mermaid().splitlines()
        assert lines[0] == "flowchart TD"
        node, edge = r'\s+n\d+(\(\["[^"]*"\]\)|\["[^"]*"\])', r'\s+n\d+ (-->|-\.->)(\|"[^"]*"\|)? n\d+'
        kinds = [
            "node" if re.fullmatch(node, line) else "edge" if re.fullmatch(edge, line) else line.strip()
            for line in lines[1:]
        ]
        assert kinds.count("node") == len(list(picture.items()))
        others = [kind for kind in kinds if kind not in ("node", "edge")]
        assert others == [line for b in blocks(picture) for line in (f'subgraph b9["× {b.count} steps"]', "end")]
        for text in re.findall(r'"([^"]*)"', "\n".join(lines)):
            assert not re.search(r"[<>&`$](?!br/>)", text.replace("<br/>", "")), text
    assert "#60;b#62; #38; #34;x#34; 1. #96;#35;#59;" in next(iter(pictures())).mermaid()


def test_save_takes_the_form_from_the_ending(tmp_path):
    picture = next(iter(pictures()))
    for name, content in (("a.svg", picture.svg()), ("a.mmd", picture.mermaid()), ("a.txt", f"{picture}\n")):
        picture.save(tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8") == content
    with pytest.raises(ValueError, match=r"ends in .svg, .mmd, .txt, got '.*a.gif'"):
        picture.save(tmp_path / "a.gif")
    html = picture._repr_html_()
    assert "<svg" in html and "&lt;b&gt; &amp;" in html
    ElementTree.fromstring(html)


def test_rules_of_users_are_read_from_their_source():
    from tinygrad_gru import op

    @op
    def product(a, b):
        return a * b

    def rule_of_b(g, a):
        return g * a

    product.vjp(a=lambda g, b: g * b, b=rule_of_b)
    a, b = leaf(2.0), leaf(3.0)
    assert "∂a = g * b, ∂b = rule_of_b(g, a)" in str(show.tape(product(a, b)))
    product.vjp(a=lambda g, b: g * b, b=lambda g, a: g + a)  # two on a line
    assert "∂a = g * b, ∂b = g + a" in str(show.tape(product(a, b)))
    product.vjp(**{name: eval(f"lambda g, {other}: g * {other} * 1") for name, other in (("a", "b"), ("b", "a"))})
    assert "∂a = ∂b = …" in str(show.tape(product(a, b)))  # without source
    product.vjp(a=long_rule, b=long_rule)
    assert "∂a = ∂b = g b, in few words" in str(show.tape(product(a, b)))


def long_rule(g, b):
    """g b, in few words"""
    return g * b


def test_a_rule_that_is_a_function_is_shown_as_the_equation_of_the_op_unless_it_is_another():
    W, x = Tensor(np.ones((2, 2)), requires_grad=True), leaf(1.0, 2.0)
    assert "∂x = g Wᵀ, ∂W = xᵀ g" in str(show.tape(x @ W))
    product = str(show.tape(np.ones(2) @ W))
    assert "matmul(a: constant (2,), W)" in product and "∂W = aᵀ g" in product
    assert "∂x = g ⊙ 3 x^(3 − 1)" in str(show.tape(x**3))
    assert "∂x = g at index i of that axis\n" in str(show.tape(ops.stack([x, x]))) + "\n"
    assert "∂x = g + g\n" in str(show.tape(x + x)) + "\n"
    assert "∂x = g at the indices" in str(show.tape(x[[0, 1]])) or "g added" in str(show.tape(x[[0, 1]]))
    rules = ops.tanh.rules
    try:
        ops.tanh.vjp(x=long_rule_of_tanh)
        assert "∂x = long_rule_of_tanh(g, y)" in str(show.tape(ops.tanh(x)))
    finally:
        ops.tanh.vjp(**rules)


def long_rule_of_tanh(g, y):
    return g * y


@pytest.mark.parametrize("are_given_again", [False, True], ids=["", "given again"])
def test_every_op_says_what_its_rules_do_in_a_few_words(are_given_again, monkeypatch):
    """No name of a helper of ours is in a picture, for it would say nothing; also after a test of mutants."""
    texts = RuleTexts()
    for module in (ops.elementwise, ops.activation, ops.linear, ops.reduction, ops.comparison, shape, indexing):
        for name, function in vars(module).items():
            if are_given_again and hasattr(function, "redefined"):
                monkeypatch.setattr(function, "redefined", 1)
            for text in texts.of(function).values() if getattr(function, "rules", None) else ():
                assert text and not re.search(r"\b_|[a-z]_rule", text) and len(text) <= 70, (name, text)


def test_a_step_that_takes_another_value_of_the_step_before_is_another():
    """The second argument is that of two steps before: a match by ops alone would fold it like the first."""
    x = leaf(1.5)
    values = [x, ops.sin(x)]
    for k in range(8):
        values.append(values[-1] * values[-2] if k % 3 else values[-1] * values[0])
    assert [block.count for block in blocks(show.tape(values[-1])) if len(block.items) == 1] == []


def test_what_comes_after_a_loop_is_drawn_below_it():
    def f(x):
        h = x
        for _ in range(7):
            h = ops.tanh(h)
        side = ops.exp(x)  # needs nothing of the loop
        return h * side

    picture = show.tape(f, leaf(1.0))
    (block,) = blocks(picture)
    root = ElementTree.fromstring(picture.svg())
    rectangles = {g.find(f"{SVG}text").text: g.find(f"{SVG}rect") for g in root.iter(f"{SVG}g")}
    bottom = max(float(rectangles[picture.title(item)].get("y")) for item in block.items)
    assert float(rectangles["side = exp"].get("y")) > bottom


def test_a_long_tape_is_small_and_its_middle_is_left_out():
    x = leaf(0.5)
    y = x
    for _ in range(3000):
        y = y * 1.0001
    assert str(show.tape(y)).splitlines()[1:] == [
        "× 3000 steps, which are alike. The last one, where y[t-1] is the y of the step before (at first x)",
        f"    y = hadamard(y[t-1], 1.0001)  ()  {0.5 * 1.0001**3000:.4g}  ∂y[t-1] = g * 1.0001",
    ]
    y = x
    functions = [ops.tanh, ops.sin, ops.cos, ops.sigmoid, ops.negative, lambda z: z + x, lambda z: z * x]
    for k in np.random.default_rng(0).integers(0, len(functions), 3000):
        y = functions[k](y)
    picture = show.tape(y)
    lines = str(picture).splitlines()
    (place,) = [k for k, line in enumerate(lines) if re.fullmatch(r"… [\d,]+ more …", line)]
    assert 250 < len(lines) < 400 and 50 < place < 100 and lines[-1].startswith("y = ")
    assert picture.hidden + len(list(picture.items())) > 2800
    ElementTree.fromstring(picture.svg())
    assert len(picture.svg()) < 1e6 and picture.mermaid().count("-->") < 700


def test_the_rule_of_a_users_op_is_its_code_whatever_the_docstring_says():
    @op
    def cube(x):
        """y = x³        ∂L/∂x = 3 g ⊙ x²"""
        return x * x * x

    cube.vjp(x=lambda g, x: 2 * g * x * x + 0 * x * g)
    assert RuleTexts().of(cube) == {"x": "2 * g * x * x + 0 * x * g"}
