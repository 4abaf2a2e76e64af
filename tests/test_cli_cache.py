"""The command `cache`."""

import pytest

from tinygrad_gru.cli import main
from tinygrad_gru.io import replacing
from tinygrad_gru.native import cache
from tinygrad_gru.train import TextRun, TextSettings


@pytest.fixture(autouse=True)
def base(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGRAD_GRU_CACHE", str(tmp_path))


def test_it_says_how_much_there_is_and_removes_it(capsys, tmp_path):
    cache.store("0" * 32, bytes(3 * 2**19))
    assert main(["cache"]) == 0
    said = capsys.readouterr().out
    assert f"folder   {tmp_path / 'native'}\n" in said and "not used" not in said
    assert "holds    1 compiled function, 1.5 MiB, of at most 64.0 MiB\n" in said
    assert main(["cache", "--clear"]) == 0
    assert capsys.readouterr().out == f"removed 1 compiled function, 1.5 MiB from {tmp_path / 'native'}\n"
    assert cache.usage() == (0, 0)


def test_it_says_why_it_is_not_used(capsys, monkeypatch, tmp_path):
    (tmp_path / "native").write_text("in the way")
    assert main(["cache"]) == 0
    assert "not used, because it is not a folder: what is needed is compiled" in capsys.readouterr().out
    monkeypatch.setenv("TINYGRAD_GRU_CACHE", "off")
    assert main(["cache"]) == 0
    assert "not used, because TINYGRAD_GRU_CACHE is off" in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0
    assert capsys.readouterr().out == "no folder: TINYGRAD_GRU_CACHE is off\n"


def test_encoded_texts_are_counted_and_removed(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tinygrad_gru.data.text.encoded._IN_MEMORY", 10)
    (tmp_path / "text.txt").write_text("a line\n" * 300)
    TextRun(TextSettings(str(tmp_path / "text.txt"), embedding=2, hidden=2, batch=2, window=8))
    (text,) = (tmp_path / "texts").iterdir()
    assert main(["cache"]) == 0
    assert f"texts    1 encoded text, 0.0 MiB, in {tmp_path / 'texts'}\n" in capsys.readouterr().out
    for name in (text.name, "0123abcd.npy"):  # of a process that was killed, whose text may be there meanwhile
        text.with_name(f".{name}.01234567.part").write_bytes(bytes(2**20))
    assert main(["cache"]) == 0
    assert f"texts    3 encoded texts, 2.0 MiB, in {tmp_path / 'texts'}\n" in capsys.readouterr().out
    with replacing(tmp_path / "texts" / "written.npy") as file:
        file.write(b"a part that another process is writing")
        assert main(["cache", "--clear"]) == 0
    assert f"removed 3 encoded texts, 2.0 MiB from {tmp_path / 'texts'}\n" in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0  # and now it is written
    assert not list((tmp_path / "texts").iterdir())
