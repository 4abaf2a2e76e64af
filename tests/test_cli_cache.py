"""The command `cache`."""

import pytest

from tinygrad_gru.cli import main
from tinygrad_gru.native import cache


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
