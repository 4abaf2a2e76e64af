"""The explorer's page at the demo's size, in headless Chromium: its size, how soon it opens, how soon it answers.

Needs Chromium and the extra `browser`. The model is untrained: what is computed is the same. An answer is the time from
an event to the end of the frame in which all that it changes is drawn, of which up to 16.7 ms are the wait for a frame.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tinygrad_gru import data, manual_seed, show, train

from .timing import report

COMMAND = "python -m benchmarks.explorer"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
ROUNDS = 15
TEXT = "def mean(values):\n    return sum(values) / len(values)\n\n\n" * 4

#: What is measured: a name, what is done before, and the event, which may count the rounds by `i`.
ACTIONS = [
    ("type a character", "unit", "text.value = text.value.slice(0, 199) + 'ab'[i % 2]; send(text, 'input')"),
    ("move to another step", "unit", "step.value = 50 + i; send(step, 'input')"),
    ("show another value", "unit", "value.selectedIndex = i % 3; send(value, 'change')"),
    ("order by correlation", "unit", "order.selectedIndex = 4 + i % 3; send(order, 'change')"),
    ("clamp a gate", "change", "at('clamp-' + i % 2).click()"),
    ("move a bias", "change", "at('bias').value = 1 + i % 3; send(at('bias'), 'input')"),
    ("scale a matrix", "change", "at('scale').value = 0.5 + 0.1 * (i % 3); send(at('scale'), 'input')"),
    (
        "choose a loss: gradients of all steps before it",
        "walk",
        "lossStep.value = 190 + i % 9; send(lossStep, 'input')",
    ),
    ("walk one record back", "walk", "at('walk-back').click()"),
    ("change the model and see its gradient's reach", "reach", "at('try-4').click(); send(text, 'input')"),
]

#: When the first loss has been drawn, in ms from the beginning of the navigation.
OPENED = """const look = () => {
  const loss = document.getElementById("loss");
  if (loss && loss.textContent) setTimeout(() => { window.opened = performance.now(); });
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);"""

MEASURE = """async ({ action, rounds }) => {
  const at = id => document.getElementById(id), send = (element, name) => element.dispatchEvent(new Event(name));
  const [text, step, value, order, lossStep] = ["text", "step", "value", "order", "loss-step"].map(at), times = [];
  const run = new Function("i", "at", "send", "text", "step", "value", "order", "lossStep", action);
  for (let i = 0; i < rounds; i++) {
    await new Promise(done => setTimeout(done, 150));  // what is written after a change is not in the next one's time
    const began = performance.now();
    run(i, at, send, text, step, value, order, lossStep);
    await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
    times.push(performance.now() - began);
  }
  return times;
}"""


def measure(path: Path, chromium: Any) -> list[str]:
    """Lines of the report."""
    loads = []
    for _ in range(7):
        page = chromium.new_page(viewport={"width": 1280, "height": 900}, bypass_csp=True)  # `new Function` above
        page.add_init_script(OPENED)
        page.goto(path.as_uri())
        page.wait_for_function("() => window.opened")
        loads.append(page.evaluate("window.opened"))
    size = (
        f"{path.stat().st_size / 1e6:.2f} MB; opens in {statistics.median(loads):.0f} ms, the fastest {min(loads):.0f}"
    )
    lines = [size, "", "| | ms, median | fastest |", "| --- | --- | --- |"]
    for name, tab, action in ACTIONS:
        page.click(f"#tab-{tab}")
        times = page.evaluate(MEASURE, {"action": action, "rounds": ROUNDS})[2:]
        lines.append(f"| {name} | {statistics.median(times):.0f} | {min(times):.0f} |")
    return lines


def main() -> None:
    from playwright.sync_api import sync_playwright

    vocabulary = data.CharacterVocabulary.code()
    manual_seed(0)
    model = train.CharacterModel(len(vocabulary), embedding=64, hidden=192)
    executable = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder, "page.html")
        show.explorer(model, vocabulary, text=TEXT[:200], path=path)
        chromium = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        about = f"GRU, hidden 192, embedding 64, 97 symbols, 200 characters; Chromium {chromium.version}"
        about += f"; load average of the machine {os.getloadavg()[0]:.1f}"
        lines = [about, "", *measure(path, chromium)]
        chromium.close()
    report("explorer", "The explorer's page", COMMAND, lines)


if __name__ == "__main__":
    main()
