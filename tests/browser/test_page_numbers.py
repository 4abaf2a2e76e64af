"""The numbers in the explorer's page are Python's."""

from __future__ import annotations

import numpy as np
import pytest
from reading import choose_value, head, loss, number, press, settle, step_table, table
from samples import SIZE, TEXT, VOCABULARY, Leaky, character_model, explorer, gru_cotangents, mean_loss, step_losses

from tinygrad_gru import manual_seed, nn, ops, show
from tinygrad_gru.show.explore.fresh import gradient_norms

CELLS = [("gru", 1), ("lstm", 1), ("rnn", 1), ("gru", 2), (Leaky, 1)]


@pytest.mark.parametrize("cell, layers", CELLS, ids=str)
def test_the_loss_and_its_parts(visit, cell, layers):
    page, model = visit(explorer(cell, layers)), character_model(cell, layers)
    assert loss(page) == pytest.approx(mean_loss(model), abs=6e-4)
    found = page.evaluate(
        """([ids]) => Array.from(tinygradModels[0].forward(ids, { targets: [...ids.slice(1), -1] }).losses)""",
        [VOCABULARY.encode(TEXT).tolist()],
    )
    np.testing.assert_allclose(found[:-1], step_losses(model), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("cell, layers", CELLS, ids=str)
def test_probabilities_of_what_comes_next(visit, cell, layers):
    page, model, t = visit(explorer(cell, layers)), character_model(cell, layers), 11
    page.fill("#step", str(t))
    settle(page)
    logits = model(VOCABULARY.encode(TEXT)[: t + 1, None])[0].numpy()[-1, 0].astype("float64")
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    shown = page.eval_on_selector_all("#next li", "items => items.map(item => item.innerText.split('\\n'))")
    assert len(shown) >= 8
    for symbol, text in [(parts[0], parts[-1]) for parts in shown]:
        symbol = {"␣": " ", "↵": "\n"}.get(symbol[0], symbol[0])
        expected = 100 * probabilities[VOCABULARY.symbols.index(symbol)]
        assert number(text) == pytest.approx(expected, abs=0.51 if expected > 9.5 else 0.051)
    assert TEXT[t + 1] in [parts[0][0] for parts in shown if "✓" in parts[0]]


@pytest.mark.parametrize(
    "cell, names, layer",
    [
        ("gru", {"r": "r", "z": "z", "h̃": "h_tilde"}, 0),
        ("lstm", dict(zip("ifgo", "ifgo")), 0),
        (Leaky, {"proposal": "proposal"}, 0),
    ],
    ids=str,
)
def test_values_of_a_step_by_name(visit, cell, names, layer):
    page, model, t = visit(explorer(cell)), character_model(cell), 9
    output, _, records = model.recurrence(
        model.embedding(VOCABULARY.encode(TEXT)[:, None]), record=tuple(names.values())
    )
    page.fill("#step", str(t))
    for name, ours in names.items():
        choose_value(page, name)
        shown, heads = step_table(page), head(page, "#table")
        assert sorted(shown) == list(range(SIZE))
        for unit, numbers in shown.items():
            assert numbers[heads.index(name) - 1] == pytest.approx(
                float(records[layer][ours].numpy()[t, 0, unit]), abs=6e-4
            )
            assert numbers[heads.index("h′, the new state") - 1] == pytest.approx(
                float(output.numpy()[t, 0, unit]), abs=6e-4
            )


def test_what_fed_a_unit(visit):
    """The products that are shown are those of the weights; with the rest they make up the number beside the name."""
    page, model, t, unit = visit(explorer()), character_model(), 6, 3
    (cell,), ids = model.recurrence.cells, VOCABULARY.encode(TEXT)
    page.fill("#step", str(t))
    page.fill("#filter", str(unit))
    settle(page)
    h = model.recurrence(model.embedding(ids[:t, None]))[0].numpy()[-1, 0]
    items = page.eval_on_selector_all("#panel-unit li", "items => items.map(item => item.innerText)")
    item = next(text for text in items if text.startswith("h @ U_z ="))
    products = h * cell.U_z.numpy()[:, unit]
    assert number(item.split("=")[1]) == pytest.approx(products.sum(), abs=6e-4)
    lines = [line.split("\t") for line in item.splitlines() if "\t" in line]
    largest = np.argsort(-abs(products))[:3]
    assert f"largest of h[i] · U_z[i,{unit}]" in item
    assert [f"h[{i}]" for i in largest] == [line[0] for line in lines[:3]]
    assert [number(line[2]) for line in lines[:3]] == pytest.approx(products[largest].tolist(), abs=6e-4)
    assert sum(number(line[2]) for line in lines) == pytest.approx(products.sum(), abs=3e-3)
    assert "z = sigmoid(x @ W_z + h @ U_z + b_z)" in page.inner_text("#panel-unit")


@pytest.mark.parametrize("back", [0, 1, 4])
def test_cotangents_and_their_finite_differences(visit, back):
    page, model, loss_step = visit(explorer()), character_model(), 14
    expected = gru_cotangents(model, loss_step)
    press(page, "#tab-walk")
    page.fill("#loss-step", str(loss_step))
    page.fill("#filter", "2")
    settle(page)
    for _ in range(back):
        press(page, "#walk-step")
    seen = set()
    for _ in range(40):
        press(page, "#walk-back")
        name = page.inner_text("#walk-name").split(" = ")[0]
        if number(page.inner_text("#panel-walk").split(", step")[1]) != loss_step - back:
            break
        rows = table(page, "#walk-table")
        assert all("✓" in row[2] for row in rows), (name, rows)
        if name in expected:
            seen.add(name)
            want = expected[name][loss_step - back]
            assert number(rows[0][1]) == pytest.approx(float(want[2]), rel=6e-3, abs=1e-3 * float(abs(want).max()))
            assert number(rows[1][1]) == pytest.approx(np.linalg.norm(want), rel=6e-3)
            assert number(rows[1][2]) == pytest.approx(np.linalg.norm(want), rel=1e-2, abs=1e-5)
    assert seen >= {"r", "z", "h̃"}, seen


@pytest.mark.parametrize("cell, layers", CELLS, ids=str)
def test_every_cotangent_of_two_steps_agrees_with_its_difference(visit, cell, layers):
    page = visit(explorer(cell, layers))
    press(page, "#tab-walk")
    page.fill("#loss-step", "8")
    settle(page)
    count, last = 0, "step 6"
    while last not in page.inner_text("#panel-walk"):
        assert "✗" not in page.inner_text("#walk-table"), page.inner_text("#panel-walk")
        assert page.inner_text("#walk-table").count("✓") == 2
        press(page, "#walk-back")
        count += 1
    assert count > 8


@pytest.mark.parametrize("cell, layers", CELLS, ids=str)
def test_how_far_back_the_gradient_reaches(visit, cell, layers):
    page, model = visit(explorer(cell, layers)), character_model(cell, layers)
    press(page, "#tab-reach", "#panel-reach summary")
    norms = gradient_norms(model.embedding, model.recurrence, model.output, VOCABULARY.encode(TEXT))
    rows = table(page, "#panel-reach")
    assert [row[0] for row in rows[:10]] == [str(k) for k in range(1, 11)]
    for k, shown, *_ in rows:
        if int(k) <= len(norms):
            assert number(shown) == pytest.approx(norms[int(k) - 1], rel=6e-3)  # 1.23e−5 has three digits
    assert head(page, "#panel-reach")[2:] == [f"{name} before training" for name in ("GRU", "LSTM", "RNN")]


LAYERS = {
    "layer_norm": lambda: nn.GRU(5, SIZE, layer_norm=True),
    "reset_after": lambda: nn.GRU(5, SIZE, reset_after=True),
    "peephole": lambda: nn.LSTM(5, SIZE, peephole=True),
    "projection": lambda: nn.LSTM(5, 9, proj_size=SIZE),
    "learned": lambda: nn.MGU(5, SIZE, learn_initial_state=True),
    "float64": lambda: nn.GRU(5, SIZE),
}


@pytest.mark.parametrize("name", LAYERS)
def test_cells_with_options(visit, name):
    """Their equations are in other lines, with values of other sizes; every cotangent agrees with its difference."""
    manual_seed(2)
    model = nn.Sequential(nn.Embedding(30, 5), LAYERS[name](), nn.Linear(SIZE, 30))
    page = visit(show.explorer(model.astype("float64") if name == "float64" else model, VOCABULARY, text=TEXT))
    logits = model(VOCABULARY.encode(TEXT)[:-1, None])
    assert loss(page) == pytest.approx(ops.cross_entropy(logits, VOCABULARY.encode(TEXT)[1:, None]).item(), abs=6e-4)
    press(page, "#table-view summary", "#tab-walk")
    page.fill("#loss-step", "5")
    settle(page)
    while "step 4" not in page.inner_text("#walk-record"):
        assert page.inner_text("#walk-table").count("✓") == 2, page.inner_text("#panel-walk")
        press(page, "#walk-back")
    press(page, "#tab-change", "#tab-reach", "#tab-write")


def test_the_curves_and_the_equations_of_a_unit(visit):
    page, model, t, unit = visit(explorer()), character_model(), 9, 4
    page.fill("#step", str(t))
    page.fill("#filter", str(unit))
    settle(page)
    output, _, records = model.recurrence(
        model.embedding(VOCABULARY.encode(TEXT)[:, None]), record=("r", "z", "h_tilde")
    )
    expected = [values.numpy()[:, 0, unit] for values in (*records[0].values(), output)]
    keys = page.eval_on_selector_all("#curves-keys label", "all => all.map(one => one.innerText.trim())")
    assert [text.split(" = ")[0] for text in keys] == ["r", "z", "h̃", "h′"]
    assert [number(text) for text in keys] == pytest.approx([values[t] for values in expected], abs=6e-4)
    rows = table(page, ".equations")
    assert [row[0].split(" ")[0] for row in rows] == ["r", "z", "h̃", "h′"]
    assert [number(row[1]) for row in rows] == pytest.approx([values[t] for values in expected], abs=6e-4)
    assert "reset gate" in rows[0][0] and "σ(x W_r + h U_r + b_r)" in rows[0][0]

    def drawn():
        return [
            np.array([[float(v) for v in place.split()] for place in path.replace("L", "M").split("M")[1:]])
            for path in page.eval_on_selector_all("#curves path", "all => all.map(one => one.getAttribute('d'))")
        ]

    for places, values in zip(drawn(), expected):
        assert places.shape == (len(TEXT), 2) and (np.diff(places[:, 0]) > 0).all()
        np.testing.assert_allclose(places[:, 1], 8 + (1 - values) / 2 * 116, atol=0.06)
    press(page, "#curve-1")
    assert len(drawn()) == 3 and not page.is_checked("#curve-1")
    press(page, "#curve-1")
    assert len(drawn()) == 4
    box = page.locator("#curves").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 5.5 / len(TEXT), box["y"] + 30)
    settle(page)
    assert page.input_value("#step") == "5"


def test_a_wide_curve_is_drawn_smaller_and_says_so(visit):
    page = visit(explorer())
    logits = character_model()(VOCABULARY.encode(TEXT)[:, None])[0].numpy()[:, 0]
    unit = int(abs(logits).max(axis=0).argmax())
    logits, most = logits[:, unit], abs(logits).max()
    assert most > 1.05
    page.select_option("#layer", "1")
    page.fill("#filter", str(unit))
    settle(page)
    assert number(page.inner_text("#curves-keys").split("drawn ÷")[1]) == pytest.approx(most, rel=6e-3)
    path = page.get_attribute("#curves path", "d").replace("L", "M").split("M")[1:]
    bottom = -1 if logits.min() < 0 else 0
    expected = 8 + (1 - logits / most) / (1 - bottom) * 116
    np.testing.assert_allclose([float(place.split()[1]) for place in path], expected, atol=0.06)


def test_the_probabilities_as_a_heatmap(visit):
    page, model, t = visit(explorer()), character_model(), 8
    page.fill("#step", str(t))
    page.select_option("#value", "p")
    page.select_option("#count", "0")
    settle(page)
    logits = model(VOCABULARY.encode(TEXT)[:, None])[0].numpy()[t, 0].astype("float64")
    expected = np.exp(logits) / np.exp(logits).sum()
    press(page, "#table-view summary")
    signs = {"␣": " ", "↵": "\n"}
    shown = {signs.get(row[0], row[0]): number(row[1]) for row in table(page, "#table")}
    assert [shown[symbol] for symbol in VOCABULARY.symbols] == pytest.approx(expected.tolist(), abs=6e-4)
    press(page, "#tab-change", "#clamp-0", "#undo", "#tab-walk", "#tab-unit")
    assert ", for “" in page.inner_text("#panel-unit h2")
