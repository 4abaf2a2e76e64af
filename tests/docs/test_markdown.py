"""Blocks of Markdown run as in a notebook, and say where they fail."""

from __future__ import annotations

import inspect
import traceback
from pathlib import Path

import pytest
from support.markdown import blocks, run

PAGE = """# A page

```{code-cell} python
def f(x):
    return 1 / x
```

````{dropdown} An answer
```{code-cell} python
never = 1
```
````

```{code-cell} python
:tags: [hide-input]

y = f(2)
y
```

```python
y = "not a cell"
```

```{code-cell} python
f(0)
```
"""


def cells(text):
    return [block for block in blocks(text) if block.is_cell]


def test_cells_run_in_one_namespace_and_show_their_last_value(capsys):
    names = {}
    run(cells(PAGE)[:2], Path("page.md"), names)
    assert names["y"] == 0.5
    assert "never" not in names
    assert capsys.readouterr().out == "0.5\n"


def test_a_traceback_has_the_lines_of_the_page():
    with pytest.raises(ZeroDivisionError) as error:
        run(cells(PAGE), Path("page.md"), {})
    places = [(frame.filename, frame.lineno, frame.line) for frame in traceback.extract_tb(error.tb)[-2:]]
    assert places == [("page.md", 26, "f(0)"), ("page.md", 5, "return 1 / x")]


def test_inspect_finds_the_source_of_what_a_cell_defines():
    names = {}
    run(cells(PAGE)[:1], Path("page.md"), names)
    assert inspect.getsource(names["f"]) == "def f(x):\n    return 1 / x\n"


def test_a_cell_that_should_raise_must_raise():
    text = "```{code-cell} python\n:tags: [raises-exception]\n1 / 0\n```\n"
    run(cells(text), Path("page.md"), {})
    with pytest.raises(AssertionError, match=r"page.md, line 3: this cell should raise"):
        run(cells(text.replace("1 / 0", "1 / 1")), Path("page.md"), {})


def test_a_value_is_shown_as_a_notebook_would():
    text = "```{code-cell} python\nclass Broken:\n    def _repr_html_(self):\n        return 1 / 0\n\nBroken()\n```\n"
    with pytest.raises(ZeroDivisionError):
        run(cells(text), Path("page.md"), {})
