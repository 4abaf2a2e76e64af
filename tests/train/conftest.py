import random

import pytest
from support.samples import short_samples as short_samples

from tinygrad_gru.train import TextSettings

SYLLABLES = ["ba", "be", "do", "du", "ka", "ko", "mi", "mu", "ra", "ti"]


@pytest.fixture
def text_file(tmp_path):
    """A small text with some structure, indented like code."""
    choose = random.Random(0)
    lines = [
        " " * choose.choice([0, 4]) + " ".join("".join(choose.choices(SYLLABLES, k=2)) for _ in range(4)) + "\n"
        for _ in range(60)
    ]
    path = tmp_path / "text.txt"
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def small(text_file):
    """Settings of a run of 20 steps that takes a fraction of a second: `small(cell="lstm")`."""

    def settings(**changes):
        sizes = {"embedding": 6, "hidden": 10, "batch": 4, "window": 16, "characters": 20 * 4 * 16}
        return TextSettings(**{"text": str(text_file), **sizes, **changes})

    return settings
