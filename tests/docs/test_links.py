"""Links between the pages, and from them into the repository, lead somewhere; others lead to hosts that we know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tinygrad_gru import nn, ops

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
    if "reference" not in path.parts  # which are made when the site is built, and checked by Sphinx
}
#: Hosts of links that leave the repository.
HOSTS = {
    "arxiv.org", "data-apis.org", "docs.jax.dev", "docs.nvidia.com", "docs.pytorch.org", "doi.org", "github.com",
    "llvm.org", "mpi-forum.org", "numpy.org",
}  # fmt: skip
LINK = re.compile(r"\]\(([^)\s]+)\)")


def links(text):
    """Targets of links outside of code."""
    prose = re.sub(r"^( *)(`{3,}).*?^\1\2`*$|`[^`\n]+`", "", text, flags=re.S | re.M)
    return LINK.findall(prose)


def anchors(path):
    """The anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def is_generated(target):
    """Whether the site has this page of the reference."""
    match target.relative_to(ROOT / "docs" / "reference").with_suffix("").parts:
        case ("ops" | "nn" | "api" | "results", "index") | ("exercises",):
            return True
        case ("ops", name):
            return name in ops.__all__
        case ("nn", name):
            return name in nn.__all__
    return False


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = PAGES[name]
    for link in links(page.read_text(encoding="utf-8")):
        if scheme := re.match(r"https?://([^/]+)", link):
            assert scheme[1].removeprefix("www.") in HOSTS, f"{link}: a host that is not in HOSTS"
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.is_relative_to(ROOT / "docs" / "reference"):
            assert is_generated(target), f"{link}: the reference has no such page"
            continue
        assert target.exists(), f"{link}: there is no such file"
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), f"{link}: no such heading"


def test_a_link_in_code_is_none():
    assert links("[a](b.md) `f[0](x)`\n```python\nf[1](y)\n```\n[c](d.md)") == ["b.md", "d.md"]
