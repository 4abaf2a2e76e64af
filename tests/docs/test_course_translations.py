"""The chapters in Chinese have the programs of the English ones: only comments and docstrings are translated."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support.markdown import Block, blocks

COURSE = Path(__file__).parents[2] / "docs" / "course"


def programs(path: Path) -> list[Block]:
    return [block for block in blocks(path.read_text(encoding="utf-8")) if block.is_cell]


def without_docstrings(program: Block) -> str:
    tree = ast.parse(program.split()[1].text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.unparse(tree)


@pytest.mark.parametrize("name", sorted(path.name for path in (COURSE / "zh").glob("[0-9]*.md")))
def test_programs_are_those_of_the_english_chapter(name):
    translated, original = programs(COURSE / "zh" / name), programs(COURSE / name)
    assert [without_docstrings(p) for p in translated] == [without_docstrings(p) for p in original]
