"""Every control of the explorer's page does what it says."""

from __future__ import annotations

import numpy as np
import pytest
from reading import choose_value, loss, number, press, set_slider, settle, step_table, table
from samples import SIZE, TEXT, VOCABULARY, Leaky, character_model, explorer, mean_loss, step_losses

from tinygrad_gru import Tensor, data, ops, show, train


@pytest.fixture
def page(visit):
    return visit(explorer())


def type_text(page, text):
    page.fill("#text", text)
    settle(page)


def now(page):
    """The step and the unit that are shown."""
    return int(page.input_value("#step")), number(page.inner_text("#map-summary").split("at step")[0])


def test_typing_a_text(page):
    type_text(page, "a cat, a dog")
    assert loss(page) == pytest.approx(mean_loss(character_model(), "a cat, a dog"), abs=6e-4)
    assert page.inner_text("#strip").replace("\u00a0", " ") == "a cat, a dog"
    assert page.get_attribute("#step", "max") == "11"


def test_characters_that_the_model_does_not_know(visit):
    page = visit(explorer())
    type_text(page, "thé cat ÄÄ")
    assert page.inner_text("#text-note") == "Not among the 30 symbols of the model, so left out: “é”, “Ä”."
    assert loss(page) == pytest.approx(mean_loss(character_model(), "th cat "), abs=6e-4)
    type_text(page, "é")
    assert "at least two characters" in page.inner_text("#text-note")
    assert loss(page) == pytest.approx(mean_loss(character_model(), "th cat "), abs=6e-4)
    type_text(page, "the cat")
    assert page.inner_text("#text-note") == ""
    code = data.CharacterVocabulary.code()
    page = visit(show.explorer(train.CharacterModel(len(code), 4, 6), code, text="x = é"))
    assert page.inner_text("#text-note") == "Not among the 97 symbols of the model, so read as “\ufffd”: “é”."
    assert len(page.query_selector_all("#strip span")) == 5


def test_a_long_text_is_cut_and_it_says_so(page):
    type_text(page, "a" * 1200)
    assert "Only the first 1000 of 1200 symbols are read" in page.inner_text("#text-note")
    assert page.get_attribute("#step", "max") == "999"


def test_steps(page):
    last = len(TEXT) - 1
    assert now(page)[0] == last and page.is_disabled("#step-on")
    press(page, "#step-back", "#step-back")
    assert now(page)[0] == last - 2
    press(page, "#step-on")
    assert now(page)[0] == last - 1
    press(page, "#strip span:nth-of-type(5)")
    assert now(page)[0] == 4 and "After “c” (step 4)" in page.inner_text("#next-note")
    page.focus("#step")
    page.keyboard.press("ArrowRight")
    settle(page)
    assert now(page)[0] == 5 and "step 5" in page.inner_text("#panel-unit")


def test_playing(page):
    at = "step => +document.getElementById('step').value === step"
    press(page, "#play")  # from the end it begins again
    assert page.inner_text("#play") == "Pause"
    page.wait_for_function(at, arg=2)
    press(page, "#play")
    stopped = now(page)[0]
    page.wait_for_timeout(600)
    assert now(page)[0] == stopped and page.inner_text("#play") == "Play"
    type_text(page, "the")
    press(page, "#play")
    page.wait_for_function("() => document.getElementById('play').textContent === 'Play'")
    assert now(page)[0] == 2


def test_the_arrow_keys_move_in_the_heatmap_and_a_click_goes_to_a_cell(page):
    page.select_option("#order", "number")
    press(page, "#strip span:nth-of-type(4)")
    page.focus("#map")
    for key, expected in [
        ("Home", (0, None)), ("ArrowRight", (1, None)), ("PageUp", (1, 0)), ("ArrowDown", (1, 1)),
        ("ArrowDown", (1, 2)), ("ArrowUp", (1, 1)), ("ArrowLeft", (0, 1)), ("ArrowLeft", (0, 1)),
        ("PageDown", (0, SIZE - 1)), ("End", (len(TEXT) - 1, SIZE - 1)),
    ]:  # fmt: skip
        page.keyboard.press(key)
        settle(page)
        step, unit = now(page)
        assert (step, unit) == (expected[0], unit if expected[1] is None else expected[1]), key
    box = page.locator("#map").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 7.5 / len(TEXT), box["y"] + 22 * 2.5)
    settle(page)
    assert now(page) == (7, 2)
    press(page, "#unit-after")
    assert now(page) == (7, 3)
    press(page, "#unit-before", "#unit-before")
    assert now(page) == (7, 1)


@pytest.mark.parametrize("order", ["variance", "mean", "now", "is spaces", "given", "place", "surprise", "memory"])
def test_orders_of_the_units(page, order):
    model, ids = character_model(), VOCABULARY.encode(TEXT)
    h = model.recurrence(model.embedding(ids[:, None]))[0].numpy()[:, 0].astype("float64")
    page.select_option("#order", order)
    settle(page)
    if order == "given":
        page.fill("#given", "aou")
        settle(page)
    assert page.is_visible("#given") == (order == "given")
    signals = {"is spaces": [c == " " for c in TEXT], "given": [c in "aou" for c in TEXT], "place": range(len(TEXT))}
    if order == "surprise":
        h, signals["surprise"] = h[:-1], step_losses(model)
    if order in signals:
        expected = np.array(
            [np.corrcoef(h[:, unit], np.array(list(signals[order]), float))[0, 1] for unit in range(SIZE)]
        )
        ranks = np.argsort(-abs(expected), kind="stable")
    elif order == "memory":
        expected = np.array([np.corrcoef(h[:-1, unit], h[1:, unit])[0, 1] for unit in range(SIZE)])
        ranks = np.argsort(-expected, kind="stable")
    else:
        expected = {"variance": h.var(axis=0), "mean": h.mean(axis=0), "now": h[-1]}[order]
        ranks = np.argsort(-expected, kind="stable")
    shown = step_table(page)
    assert list(shown) == ranks.tolist()
    assert [numbers[-1] for numbers in shown.values()] == pytest.approx(expected[ranks].tolist(), abs=6e-4)


def test_filters_of_the_units(page):
    page.select_option("#order", "number")
    page.fill("#filter", "2, 4-5")
    assert list(step_table(page)) == [2, 4, 5]
    page.fill("#filter", "2, 99, x")
    settle(page)
    assert page.inner_text("#filter-note") == "Not unit numbers from 0 to 6: 99, x."
    assert list(step_table(page)) == [2]
    page.fill("#filter", "")
    press(page, "#unit-5")
    assert now(page)[1] == 5


def test_layers_and_values(visit):
    page = visit(explorer(layers=2))
    assert page.eval_on_selector_all("#layer option", "all => all.map(one => one.textContent)") == [
        "0 GRUCell (recurrence.cells.0)", "1 GRUCell (recurrence.cells.1)", "2 Linear (output)",
    ]  # fmt: skip
    page.select_option("#layer", "1")
    choose_value(page, "z")
    model = character_model(layers=2)
    _, _, records = model.recurrence(model.embedding(VOCABULARY.encode(TEXT)[:, None]), record=("z",))
    shown = step_table(page)
    assert shown[3][1] == pytest.approx(float(records[1]["z"].numpy()[-1, 0, 3]), abs=6e-4)
    assert "x is the output of layer 0" in page.inner_text("#panel-unit")
    press(page, "#panel-unit li button")
    assert page.eval_on_selector("#value", "select => select.selectedOptions[0].textContent") in page.inner_text(
        "#map-summary"
    )


def test_clamping_a_gate(page):
    """With z = 0 the state stays 0, so that every step predicts the same."""
    model, targets = character_model(), VOCABULARY.encode(TEXT)[1:]
    logits = model.output(Tensor(np.zeros((len(targets), SIZE), dtype="float32")))
    press(page, "#tab-change")
    before = page.inner_text("#written-now")
    page.select_option("#clamp-value", label="z")
    press(page, "#clamp-0")
    assert loss(page) == pytest.approx(ops.cross_entropy(logits, targets).item(), abs=6e-4)
    assert page.inner_text("#changes") == "z of all units is 0 remove"
    assert f"as it was made {mean_loss(model):.3f}" in page.inner_text("#loss-note")
    assert page.inner_text("#written-before") == before != page.inner_text("#written-now")
    press(page, "#clamp-1")
    assert page.inner_text("#changes") == "z of all units is 1 remove"
    press(page, "#undo", "#undo")
    assert loss(page) == pytest.approx(mean_loss(model), abs=6e-4) and page.inner_text("#written-now") == before
    press(page, "#redo")
    assert loss(page) == pytest.approx(ops.cross_entropy(logits, targets).item(), abs=6e-4)
    press(page, "#changes button")
    assert loss(page) == pytest.approx(mean_loss(model), abs=6e-4)


def test_clamping_one_unit_to_a_number(page):
    """The unit of z is then a constant, whatever its weights: a bias of logit(p) and no weights does the same."""
    page.fill("#filter", "4")
    press(page, "#tab-change")
    page.select_option("#clamp-value", label="z")
    page.select_option("#clamp-unit", "one")
    page.fill("#clamp-number", "0.3")
    press(page, "#clamp-to")
    assert page.inner_text("#changes") == "z of unit 4 is 0.300 remove"
    model = character_model()
    state = model.state_dict()
    for name, value in (("W_z", 0), ("U_z", 0), ("b_z", np.log(0.3 / 0.7))):
        state[f"recurrence.cells.0.{name}"][..., 4] = value
    model.load_state_dict(state)
    assert loss(page) == pytest.approx(mean_loss(model), abs=6e-4)
    choose_value(page, "z")
    assert step_table(page)[4][1] == 0.3


def test_moving_a_bias_and_scaling_a_matrix(page):
    page.fill("#filter", "2")
    press(page, "#tab-change")
    page.select_option("#bias-name", "recurrence.cells.0.b_z")
    set_slider(page, "#bias", 2.5)
    model = character_model()
    state = model.state_dict()
    state["recurrence.cells.0.b_z"][2] += 2.5
    model.load_state_dict(state)
    assert loss(page) == pytest.approx(mean_loss(model), abs=6e-4)
    page.select_option("#scale-name", "output.W")
    set_slider(page, "#scale", 0.25)
    state["output.W"] *= 0.25
    model.load_state_dict(state)
    assert loss(page) == pytest.approx(mean_loss(model), abs=6e-4)
    assert page.inner_text("#changes").splitlines() == [
        "recurrence.cells.0.b_z[2] moved by 2.500 remove",
        "output.W times 0.250 remove",
    ]
    press(page, "#undo")  # one step, whatever the slider passed on its way
    assert page.inner_text("#changes") == "recurrence.cells.0.b_z[2] moved by 2.500 remove"
    assert page.input_value("#scale") == "1"
    press(page, "#redo", "#reset")
    assert loss(page) == pytest.approx(mean_loss(character_model()), abs=6e-4) and page.is_disabled("#reset")
    press(page, "#undo")
    assert loss(page) == pytest.approx(mean_loss(model), abs=6e-4)


def test_walking(page):
    def place():
        step = number(page.inner_text("#walk-record p").split(", step")[-1])
        return int(number(page.inner_text("#walk-record p"))), int(step)

    press(page, "#strip span:nth-of-type(10)", "#tab-walk", "#loss-here")
    assert place() == (1, 9) and page.is_disabled("#walk-on") and page.input_value("#loss-step") == "9"
    assert "L = −log p(" in page.inner_text("#walk-loss")
    press(page, "#walk-back", "#walk-back")
    assert place() == (3, 9)
    press(page, "#walk-on")
    assert place() == (2, 9)
    press(page, "#walk-step")
    first_of_8 = place()
    assert first_of_8[1] == 8 and now(page)[0] == 8
    page.focus("#panel-walk")
    for key, expected in [
        ("ArrowLeft", (first_of_8[0] + 1, 8)),
        ("ArrowRight", first_of_8),
        ("Home", (1, 9)),
        ("Shift+ArrowLeft", first_of_8),
    ]:
        page.keyboard.press(key)
        settle(page)
        assert place() == expected, key
    assert "the step after, as h" in page.inner_text("#walk-record")
    while page.is_enabled("#walk-step"):
        press(page, "#walk-step")
    assert page.is_disabled("#walk-back") and place()[1] == 0
    press(page, "#walk-loss-again", "#walk-back", "#walk-back", "#walk-back")
    box = page.locator("#cotangents").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 5.5 / SIZE, box["y"] + 10)
    settle(page)
    assert now(page)[1] == 5 and "unit 5" in page.inner_text("#walk-table")
    press(page, "#loss-worst")
    losses = page.evaluate(
        "ids => Array.from(tinygradModels[0].forward(ids, { targets: [...ids.slice(1), -1] }).losses)",
        VOCABULARY.encode(TEXT).tolist(),
    )
    assert int(page.input_value("#loss-step")) == int(np.argmax(losses))


def test_a_clamp_stops_the_gradient(page):
    """What is clamped passes nothing on, and the finite differences are those of the model as it is now."""
    press(page, "#tab-change")
    page.select_option("#clamp-value", label="r")
    page.fill("#clamp-number", "0.4")
    press(page, "#clamp-to", "#tab-walk")
    page.fill("#loss-step", "9")
    settle(page)
    clamped = 0
    while "step 7" not in page.inner_text("#walk-record"):
        assert page.inner_text("#walk-table").count("✓") == 2, page.inner_text("#panel-walk")
        if "It is clamped" in page.inner_text("#walk-record"):
            clamped += 1
            press(page, "#walk-back")
            assert [row[1] for row in table(page, "#walk-table")] == ["0", "0"]
        press(page, "#walk-back")
    assert clamped == 2


def test_a_clamp_changes_the_reach(page):
    press(page, "#tab-change")
    page.select_option("#clamp-value", label="z")
    press(page, "#clamp-1", "#tab-reach", "#panel-reach summary")
    changed = [number(row[1]) for row in table(page, "#panel-reach")]
    press(page, "#tab-change", "#undo", "#tab-reach")
    assert "run" not in page.inner_text("#reach-text") and ", changed" not in page.inner_text("#reach-text")
    press(page, "#panel-reach summary")
    assert [number(row[1]) for row in table(page, "#panel-reach")] != changed


def test_reach_from_a_step(page):
    press(page, "#strip span:nth-of-type(6)", "#tab-reach", "#reach-here")
    assert "the loss at step 5" in page.inner_text("#panel-reach").replace("of the loss", "the loss")
    press(page, "#reach-last")
    assert f"step {len(TEXT) - 2}" in page.inner_text("#panel-reach")


def test_models_beside_one_another(visit):
    lstm = character_model("lstm")
    page = visit(explorer(beside={"an LSTM": lstm, "my own": (character_model(Leaky), VOCABULARY)}, name="a GRU"))
    press(page, "#tab-reach")
    names = [line.split(":")[0] for line in page.inner_text("#reach-text").splitlines()]
    assert [name.strip() for name in names] == ["a GRU", "an LSTM", "my own"]
    page.select_option("#model", label="an LSTM")
    settle(page)
    assert loss(page) == pytest.approx(mean_loss(lstm), abs=6e-4)
    assert "LSTMCell of 7 units" in page.inner_text("#facts")
    press(page, "#tab-unit")
    assert "c = f * c + i * g" in page.inner_text("#panel-unit")
    page.select_option("#model", label="my own")
    settle(page)
    assert "proposal = ops.tanh(x @ W + h @ U + b)" in page.inner_text("#panel-unit")


def test_writing(page):
    press(page, "#tab-write")
    set_slider(page, "#write-temperature", 0)
    set_slider(page, "#write-length", 40)
    expected = train.generate(character_model(), VOCABULARY, 40, TEXT, temperature=0)
    written = page.eval_on_selector("#written", "element => element.textContent")
    first = written.index(expected[:2], len(TEXT)) if TEXT in written else -1
    assert written.startswith(TEXT) and first == len(TEXT), written
    set_slider(page, "#write-temperature", 1)
    page.fill("#write-seed", "5")
    settle(page)
    five = page.inner_text("#written")
    press(page, "#write-again")
    assert page.input_value("#write-seed") == "6" and page.inner_text("#written") != five
    page.fill("#write-seed", "5")
    settle(page)
    assert page.inner_text("#written") == five
    set_slider(page, "#write-topP", 0.05)
    likeliest = page.inner_text("#written")
    assert likeliest != five
    press(page, "#write-use")
    assert page.input_value("#text").startswith(TEXT) and len(page.input_value("#text")) == len(TEXT) + 40


def test_colours(page):
    def background():
        return page.eval_on_selector("body", "body => getComputedStyle(body).backgroundColor")

    light = background()
    press(page, "#theme")
    assert background() == light and page.inner_text("#theme") == "◐ light"
    press(page, "#theme")
    assert background() != light and page.inner_text("#theme") == "◐ dark"
    press(page, "#theme")
    assert background() == light and page.inner_text("#theme") == "◐ auto"


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn", Leaky], ids=str)
def test_what_to_try(visit, cell):
    page = visit(explorer(cell))
    titles = page.eval_on_selector_all("#guide button", "all => all.map(one => one.textContent)")
    cut = {"gru": "Clamp z to 0", "lstm": "Clamp f to 0"}.get(cell, "Scale U to 0")
    assert len(titles) == 5 and titles[2] == f"3. {cut}"
    hints = set()
    for i, tab in enumerate(("unit", "unit", "change", "walk", "reach")):
        press(page, f"#try-{i}")
        assert page.get_attribute(f"#tab-{tab}", "aria-selected") == "true"
        assert (page.inner_text("#loss-note") != "") == (i == 2)
        hints.add(page.inner_text("#hint"))
    assert len(hints) == 5


def test_a_model_without_a_vocabulary_reads_ids(visit):
    model = train.CharacterModel(6, 4, 5)
    page = visit(show.explorer(model, text="1 2 3 1 2 3 0 5"))
    assert page.inner_text("#strip").split() == ["1", "2", "3", "1", "2", "3", "0", "5"]
    type_text(page, "1 2 9 x")
    assert page.inner_text("#text-note") == "Not among the 6 symbols of the model, so left out: “9”, “x”."


def test_a_model_that_cannot_read_the_text_of_another(visit):
    other = (train.CharacterModel(3, 4, 5), data.CharacterVocabulary("xyz"))
    page = visit(explorer(text="the cat", beside={"other": other}))
    page.select_option("#model", label="other")
    settle(page)
    assert "at least two characters" in page.inner_text("#text-note") and page.inner_text("#strip") == "xyz" * 2
    type_text(page, "zyx")
    assert page.inner_text("#text-note") == "" and page.inner_text("#strip") == "zyx"
