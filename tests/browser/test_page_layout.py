"""The explorer's page on a phone and on a screen, light and dark, by keyboard alone, in a notebook, and attacked."""

from __future__ import annotations

from pathlib import Path

import pytest
from reading import loss, number, press, settle
from samples import VOCABULARY, Leaky, character_model, explorer, mean_loss

from tinygrad_gru import data, show, train
from tinygrad_gru.train.text.model import prediction_loss

TABS = ("unit", "change", "walk", "reach", "write")

LEGIBLE = (Path(__file__).parent / "legible.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_tab_fits_can_be_read_and_has_names(visit, width, scheme):
    page = visit(explorer(layers=2), width, scheme)
    press(page, "#table-view summary")
    for i, tab in enumerate(TABS):
        press(page, f"#try-{i}", f"#tab-{tab}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
        assert page.evaluate(f"{LEGIBLE}.faint()") == [], tab
        assert page.evaluate(f"{LEGIBLE}.nameless()") == [], tab


def test_a_picture_of_many_units_and_characters_on_a_phone(visit):
    vocabulary = data.CharacterVocabulary.code()
    text = "def mean(values):\n    return sum(values) / len(values)\n" * 4
    page = visit(show.explorer(train.CharacterModel(len(vocabulary), 8, 192), vocabulary, text=text), 360)
    for i in range(len(TABS)):
        press(page, f"#try-{i}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.select_option("#count", "0")
    settle(page)
    assert page.eval_on_selector("#map", "map => map.clientWidth") >= 5 * len(text)  # scrolls in its frame
    colours = page.eval_on_selector(
        "#map",
        """map => {
          const pixels = map.getContext("2d").getImageData(0, 0, map.width, map.height).data;
          return new Set(new Uint32Array(pixels.buffer)).size;
        }""",
    )
    assert colours > 50


def test_a_picture_of_a_long_text_is_no_wider_than_a_phone_can_draw(visit):
    page = visit(explorer(text="the cat " * 125), 360, device_scale_factor=3)
    assert 16000 < page.eval_on_selector("#map", "map => map.width") <= 16384


def test_by_keyboard_alone(visit):
    page = visit(explorer())
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
              const { id, className } = document.activeElement, style = getComputedStyle(document.activeElement);
              return [id || className, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
            }"""
        )
        assert focused[1] or focused[0] in ("", "skip"), f"the focus on {focused[0]} is not seen"
        seen.append(focused[0])
        if focused[0] == "panel-unit":
            break
    order = [
        "skip",
        "theme",
        "try-0",
        "try-4",
        "hint-close",
        "text",
        "step-back",
        "step",
        "layer",
        "value",
        "order",
        "count",
        "filter",
        "map",
        "curve-0",
        "tab-unit",
        "panel-unit",
    ]
    assert [name for name in seen if name in order] == order
    page.focus("#try-2")
    page.keyboard.press("Enter")
    settle(page)
    assert page.inner_text("#changes") == "z of all units is 0 remove"
    page.focus("#tab-change")
    page.keyboard.press("ArrowRight")
    settle(page)
    assert page.is_visible("#panel-walk") and page.evaluate("document.activeElement.id") == "tab-walk"
    page.focus("#walk-back")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    settle(page)
    assert number(page.inner_text("#walk-record p")) == 3 and page.evaluate("document.activeElement.id") == "walk-back"
    page.focus("#tab-unit")
    page.keyboard.press("Enter")
    settle(page)
    page.focus("#unit-after")
    page.keyboard.press("Enter")
    settle(page)
    assert page.evaluate("document.activeElement.id") == "unit-after"  # drawn again, and still there


def test_without_motion(visit):
    page = visit(explorer(), reduced_motion="reduce")
    assert page.eval_on_selector(".bars .bar", "bar => getComputedStyle(bar).transitionDuration") == "0s"


def test_in_a_frame_of_a_notebook(visit):
    class Notebook:
        def save(self, path):
            path.write_text(f"<!doctype html><title>n</title>{explorer()._repr_html_()}", encoding="utf-8")

    page = visit(Notebook())
    frame = page.frames[1]
    frame.wait_for_function("() => document.getElementById('loss').textContent")
    assert number(frame.inner_text("#loss")) == pytest.approx(mean_loss(character_model()), abs=6e-4)


ATTACK = "</script><script>alert(1)</script><!--<script>\u2028<img src=x onerror=alert(2)>'\"&{{models}}`${1}"


def test_what_comes_from_untrusted_files_stays_text(visit):
    vocabulary = data.CharacterVocabulary("".join(sorted(set(ATTACK))))
    model = train.CharacterModel(len(vocabulary), 4, 5, cell=Leaky)
    page = visit(show.explorer(model, vocabulary, text=ATTACK, name=ATTACK, beside={ATTACK + "2": model}))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    assert page.inner_text("#title").strip().startswith("</script><script>alert(1)")
    assert page.input_value("#text") == ATTACK
    assert page.eval_on_selector_all("img, script[src]", "all => all.length") == 0
    ids = vocabulary.encode(ATTACK)[:, None]
    assert loss(page) == pytest.approx(prediction_loss(model, ids[:-1], ids[1:])[0].item(), abs=6e-4)
    for tab in TABS:
        press(page, f"#tab-{tab}")


def test_weights_that_diverged(visit):
    model = character_model()
    state = model.state_dict()
    state["recurrence.cells.0.U_z"][2, 3] = float("nan")
    model.load_state_dict(state)
    page = visit(show.explorer(model, VOCABULARY, text="the cat sat"))
    assert page.inner_text("#loss").startswith("Loss NaN")
    for tab in TABS:
        press(page, f"#tab-{tab}")
    assert "not finite" in page.inner_text("#written") and "not finite" in page.inner_text("#loss-meaning")
    assert "magenta where it is not finite" in page.inner_text("#legend-text")
    magenta = page.eval_on_selector(
        "#map",
        """map => {
          const pixels = map.getContext("2d").getImageData(0, 0, map.width, map.height).data;
          return new Uint32Array(pixels.buffer).some(pixel => pixel === 0xffff00ff);
        }""",
    )
    assert magenta
    press(page, "#tab-walk")
    assert "of unit 0, the largest" in page.inner_text("#walk-table")


@pytest.mark.parametrize("width", [360, 640, 1280])
def test_what_there_is_to_see_stays_in_sight(visit, width):
    page = visit(explorer(), width, reduced_motion="reduce")
    for i in range(len(TABS)):
        press(page, f"#try-{i}")
        hint, seen = (page.locator(at).bounding_box() for at in ("#hint-bar", "#map-card" if i < 2 else "#tabs"))
        assert hint["y"] >= 0 and hint["y"] + hint["height"] <= seen["y"] < 800 - 40, i
    press(page, "#hint-close")
    assert page.is_hidden("#hint-bar")
    press(page, "#try-0")
    assert page.is_visible("#hint-bar")


def test_the_heatmap_scrolls_to_the_step_and_keeps_the_names_of_the_units(visit):
    page = visit(explorer(text="the cat sat on the mat. " * 8), 360)

    def column():
        return page.evaluate(
            """() => {
              const box = document.getElementById("map-scroll").getBoundingClientRect();
              const map = document.getElementById("map").getBoundingClientRect();
              const names = document.getElementById("map-units").getBoundingClientRect();
              const cell = map.width / (+document.getElementById("step").max + 1);
              const x = map.left + cell * document.getElementById("step").value;
              return [names.left - box.left, x >= names.right - 1 && x + cell <= box.right + 1];
            }"""
        )

    assert column() == [0, True]
    for step in ("0", "100", "20"):
        page.fill("#step", step)
        settle(page)
        assert column() == [0, True], step
