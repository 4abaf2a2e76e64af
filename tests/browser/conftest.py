"""Pages in headless Chromium, driven by Playwright; skipped, with the reason, where one of them is missing."""

from __future__ import annotations

import shutil

import pytest

#: Debian's Chromium as it runs in a container, with nothing that it would do on its own.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@pytest.fixture(scope="session")
def chromium():
    """The browser, without a network."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install tinygrad_gru[browser]")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, tmp_path):
    """Open an Explorer's page from a file, offline. Messages on the console, errors and requests fail the test."""
    complaints, contexts = [], []

    def request(of):
        if not of.url.startswith(("file:", "data:", "blob:")):
            complaints.append(f"request: {of.url}")

    def visit(explorer, width=1280, scheme="light", **options):
        path = tmp_path / f"page {len(contexts)}.html"
        explorer.save(path)
        size = {"width": width, "height": 800}
        contexts.append(chromium.new_context(viewport=size, color_scheme=scheme, offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("request", request)
        page.set_default_timeout(5000)
        page.goto(path.as_uri())
        settle(page)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not complaints, complaints


def settle(page):
    """Wait until what was changed is drawn, and written too."""
    page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 60))))"
    )
