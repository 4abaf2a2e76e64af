"""The explorer's page as it is built: one file without a network, its parts escaped; errors; the command."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tinygrad_gru import data, grad, manual_seed, nn, ops, random_state, show, train
from tinygrad_gru.cli import main
from tinygrad_gru.interop import InteropError
from tinygrad_gru.show.explore import build
from tinygrad_gru.show.explore.fresh import gradient_norms
from tinygrad_gru.show.explore.text import LONGEST, Symbols

VOCABULARY = data.CharacterVocabulary.from_text("to be or not\n")


@pytest.fixture
def model():
    manual_seed(0)
    return train.CharacterModel(len(VOCABULARY), embedding=3, hidden=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a small run."""
    folder = tmp_path_factory.mktemp("runs")
    text = folder / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 60)
    sizes = ["--hidden", "4", "--embedding", "3", "--batch", "2", "--window", "8", "--characters", "200"]
    assert main(["train", "--text", str(text), *sizes, "--out", str(folder / "a run"), "--quiet"]) == 0
    return folder / "a run"


class Page(HTMLParser):
    """What a browser finds in a page: {tag: [(attributes, content)]}."""

    def __init__(self, html):
        super().__init__()
        self.found, self.open = {}, []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.setdefault(tag, []).append((dict(attributes), []))
        self.open.append(tag)

    def handle_data(self, text):
        for tag in ("script", "title", "style"):
            if self.open and self.open[-1] == tag:
                self.found[tag][-1][1].append(text)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def content(self, tag):
        return ["".join(parts) for _, parts in self.found[tag]]


def test_one_file_without_a_network(model):
    html = show.explorer(model, VOCABULARY).html
    page = Page(html)
    assert "{{" not in html.replace("${", "") and len(page.found["script"]) == 4
    attributes = [a for elements in page.found.values() for a, _ in elements]
    links = [a[name] for a in attributes for name in ("src", "href") if name in a]
    assert links == ["data:,", "#text-card"]
    policy = next(a["content"] for a in attributes if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    ids = [a["id"] for a in attributes if "id" in a]
    assert len(ids) == len(set(ids))


def test_every_script_and_style_is_in_the_page(model):
    folder = Path(build.__file__).parent / "page"
    scripts = {path.relative_to(folder / "script").with_suffix("").as_posix(): path for path in folder.rglob("*.js")}
    assert sorted(scripts) == sorted(build.SCRIPTS)
    html = show.explorer(model, VOCABULARY).html
    for path in [*scripts.values(), folder / "style.css"]:
        text = path.read_text(encoding="utf-8")
        assert text.splitlines()[0] in html
        assert len(text.splitlines()) < 400, path


ATTACK = "</script><script>alert(1)</script><!--\u2028<img src=x>'\"&{{models}}"


@pytest.mark.parametrize("attack", [ATTACK, "</SCRIPT >", "<!--<script>"])
def test_names_texts_and_symbols_stay_text(attack):
    vocabulary = data.CharacterVocabulary("".join(dict.fromkeys(attack + "ab")))
    model = train.CharacterModel(len(vocabulary), 3, 4)
    html = show.explorer(model, vocabulary, text=attack + "ab", name=attack, beside={"b" + attack: model}).html
    page = Page(html)
    assert len(page.found["script"]) == 5 and "img" not in page.found
    assert [unescape(title) for title in page.content("title")] == [attack]
    assert "\u2028" not in "".join(page.content("script"))
    about = json.loads(page.content("script")[-2])
    assert about["text"] == attack + "ab" and about["names"] == [attack, "b" + attack]
    assert not re.search(r"<!--|<script|</script", "".join(page.content("script")), re.IGNORECASE)


def test_the_page_in_a_notebook(model):
    page = show.explorer(model, VOCABULARY, name='a "run"')
    ((attributes, _),) = Page(page._repr_html_()).found["iframe"]
    assert attributes["srcdoc"] == page.html and attributes["sandbox"] == "allow-scripts"
    assert attributes["title"] == 'Explorer: a "run"'
    assert repr(page) == f"Explorer('a \"run\"', {len(page.html) / 1e6:.1f} MB)"


def test_path_is_written_and_a_missing_folder_is_an_error(model, tmp_path):
    page = show.explorer(model, VOCABULARY, path=tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page.html
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"):
        page.save(tmp_path / "nowhere" / "page.html")


def test_wrong_arguments(model):
    for text in ("", "ÄÖÜ", "t"):
        with pytest.raises(
            ValueError, match=r"text: expected at least two characters of the \d+ that the model knows, got"
        ):
            show.explorer(model, VOCABULARY, text=text)
    with pytest.raises(ValueError, match=r"beside: 'x' is the name of the model itself"):
        show.explorer(model, VOCABULARY, name="x", beside={"x": model})
    with pytest.raises(InteropError, match="bidirectional"):
        both = nn.Sequential(nn.Embedding(5, 3), nn.GRU(3, 4, bidirectional=True), nn.Linear(8, 5))
        show.explorer(both)
    with pytest.raises(InteropError, match="Linear"):
        show.explorer(nn.Linear(3, 4))


def test_the_text_that_a_page_begins_with(model):
    def first(model, vocabulary):
        return json.loads(Page(show.explorer(model, vocabulary).html).content("script")[-2])["text"]

    assert set(first(model, VOCABULARY)) == set(VOCABULARY.symbols)
    code = data.CharacterVocabulary.code()
    assert first(train.CharacterModel(len(code), 3, 4), code).startswith("def mean(values):")
    assert first(train.CharacterModel(3, 3, 4), None).split() == ["0", "1", "2"] * 8


def test_line_ends_are_those_of_a_text_field(model):
    about = json.loads(Page(show.explorer(model, VOCABULARY, text="to\r\nbe\ror").html).content("script")[-2])
    assert about["text"] == "to\nbe\nor"


def test_a_text_is_read_as_in_the_page(model):
    tokens = (Path(build.__file__).parent / "page/script/tokens.js").read_text(encoding="utf-8")
    assert f"const LONGEST = {LONGEST};" in tokens
    assert len(Symbols.of(model, VOCABULARY).encode("to" * LONGEST)) == LONGEST
    assert Symbols("012", None, False).encode(" 1, 2;0,\n2 9") == [1, 2, 0, 2]


def test_the_equations_of_cells_are_those_of_their_docstrings(model):
    class Documented(nn.RNNCell):
        """A cell:

        a  = x + h      a sum
        h' = tanh(a)
        """

    assert build._cell_equations(model)["GRUCell"][1] == ["z  = σ(x W_z + h U_z + b_z)", "update gate"]
    assert build._cell_equations(Documented(2, 3)) == {"Documented": [["a  = x + h", "a sum"], ["h' = tanh(a)", ""]]}
    assert build._cell_equations(nn.GRU(2, 3, reset_after=True)) == {}


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_gradient_norms_are_those_by_the_states(kind):
    manual_seed(1)
    embedding, recurrence, output, ids = nn.Embedding(5, 3), kind(3, 4, 2), nn.Linear(4, 5), np.array([1, 4, 2, 0, 3])
    norms = gradient_norms(embedding, recurrence, output, ids)
    for k in (1, 2, 3):  # restart k steps before the end, from a state that requires a gradient
        _, state = recurrence(embedding(ids[: 4 - k, None]))
        parts = [part.detach().requires_grad_() for part in (state if isinstance(state, tuple) else (state,))]
        y, _ = recurrence(embedding(ids[4 - k : 4, None]), tuple(parts) if len(parts) > 1 else parts[0])
        gradients = grad(ops.cross_entropy(output(y[-1]), ids[4:]), parts)
        expected = np.sqrt(sum((g.numpy().astype("float64") ** 2).sum() for g in gradients))
        assert norms[k - 1] == pytest.approx(expected, rel=1e-4)
    assert len(norms) == 3


def test_random_numbers_go_on_as_if_no_page_had_been_made(model):
    before = random_state()
    show.explorer(model, VOCABULARY)
    assert random_state() == before


def test_the_command(run, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["explore", str(run), str(run), "-o", str(out), "--text", "to be"]) == 0
    assert f"wrote {out}, " in capsys.readouterr().out
    about = json.loads(Page(out.read_text(encoding="utf-8")).content("script")[-2])
    assert about["names"] == ["a run", "a run (2)"] and about["text"] == "to be" and about["fresh"] == []
    for arguments, reason in [
        (["explore", str(tmp_path / "none")], "none"),
        (["explore", str(run), "-o", str(tmp_path / "no" / "page.html")], "does not exist: create it first"),
        (["explore", str(run), "--text", ""], "text: expected at least two characters"),
        (["explore", str(out)], "page.html"),
    ]:
        assert main(arguments) == 1
        assert reason in capsys.readouterr().err
