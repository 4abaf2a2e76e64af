"""Reading the explorer's page: its numbers, and its tables."""

from __future__ import annotations

import re

from conftest import settle


def number(text):
    """The first number of a text, as the page writes numbers."""
    found = re.search(r"−?\d+(?:\.\d+)?(?:e−?\d+)?", text)
    return float(found[0].replace("−", "-"))


def table(page, selector):
    """The rows of a table as lists of texts, without its head."""
    return page.eval_on_selector_all(
        f"{selector} tbody tr", "rows => rows.map(row => Array.from(row.cells, cell => cell.innerText))"
    )


def press(page, *selectors):
    """Click, one after the other."""
    for selector in selectors:
        page.click(selector)
        settle(page)


def set_slider(page, selector, value):
    """Move a slider, as a hand does: input events on the way, a change event at the end."""
    page.eval_on_selector(
        selector,
        """(slider, value) => {
          for (const part of [slider.value / 2 + value / 2, value]) {
            slider.value = part;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
          }
          slider.dispatchEvent(new Event("change", { bubbles: true }));
        }""",
        value,
    )
    settle(page)


def loss(page):
    return number(page.inner_text("#loss"))


def choose_value(page, label):
    page.select_option("#value", label=label)
    settle(page)


def step_table(page):
    """The table of the step: {unit: numbers}."""
    if not page.eval_on_selector("#table-view", "view => view.open"):
        press(page, "#table-view summary")
    return {int(cells[0]): [number(text) for text in cells[1:]] for cells in table(page, "#table")}


def head(page, selector):
    return page.eval_on_selector_all(f"{selector} thead th", "cells => cells.map(cell => cell.innerText)")
