import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_gru.data import CharacterVocabulary, ShardedArray, encoded_text, ngram_losses, text_corpus
from tinygrad_gru.data.text import encoded, reading

TEXT = "a line\r\nänd é\r € 𝄞 " * 400


@pytest.fixture(params=["memory", "disk"])
def place(request, monkeypatch):
    """Whether a text is held in memory or on the disk; blocks end within characters and line ends."""
    monkeypatch.setattr(encoded, "_IN_MEMORY", 10**6 if request.param == "memory" else 1)
    monkeypatch.setattr(reading.text_blocks, "__defaults__", (7,))
    return request.param


def write(path, text=TEXT, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def ids_of(text):
    vocabulary = CharacterVocabulary(text.symbols)
    return vocabulary, *map(np.asarray, text.encode(vocabulary))


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_text_is_that_of_a_corpus_in_memory(tmp_path, place, bom):
    path = write(tmp_path / "text.txt", bom + TEXT)
    corpus, text = text_corpus(path), encoded_text(path, tmp_path / "cache")
    vocabulary, training, held_out = ids_of(text)
    python = path.read_text(encoding="utf-8-sig")
    assert vocabulary == CharacterVocabulary.from_text(python)
    assert vocabulary.decode(training) + vocabulary.decode(held_out) == python
    assert (vocabulary.decode(held_out), text.digest, text.name) == (corpus.held_out, corpus.digest, corpus.name)
    assert training.dtype == np.int32 and len(text) == len(python)
    assert (tmp_path / "cache").exists() == (place == "disk")


def test_shards_are_one_text(tmp_path, place):
    whole = encoded_text(write(tmp_path / "whole.txt"))
    middle = TEXT.index("\n", 2000) + 1
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "part-0.txt", TEXT[:middle])
    write(tmp_path / "parts" / "part-1.txt", TEXT[middle:])
    for name in ("notes.md", ".part-0.txt", "._part-1.txt"):  # the last ones are hidden
        write(tmp_path / "parts" / name, "not a part")
    for source in (tmp_path / "parts", tmp_path / "parts" / "part-*.txt"):
        text = encoded_text(source, tmp_path / "cache")
        assert (text.digest, text.symbols, len(text)) == (whole.digest, whole.symbols, len(whole))
        assert text.files == 2 and text.ends[0] == len(TEXT[:middle].replace("\r\n", "\n"))
        np.testing.assert_array_equal(ids_of(text)[1], ids_of(whole)[1])


def test_shards_are_one_corpus_with_their_number_and_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        write(tmp_path / f"{number}.txt")
    for source, name in ((tmp_path, tmp_path.name), (tmp_path / "?.txt", "?.txt"), (".", tmp_path.name)):
        corpus, text = text_corpus(source), encoded_text(source)
        assert (corpus.name, corpus.files) == (text.name, text.files) == (name, 3)
        assert corpus.digest == text.digest


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_shard_of_a_byte_order_mark_alone_is_empty(tmp_path, place, number):
    for k in range(3):
        write(tmp_path / f"{k}.txt", "\ufeff" if k == number else TEXT)
    with pytest.raises(ValueError, match=rf"{number}\.txt is empty"):
        encoded_text(tmp_path, tmp_path / "cache")


@pytest.mark.parametrize(("symbols", "size"), [(256, 1), (257, 2), (65_536, 2), (65_537, 4)])
def test_ids_on_the_disk_have_the_smallest_type(tmp_path, monkeypatch, symbols, size):
    monkeypatch.setattr(encoded, "_IN_MEMORY", 1)
    characters = "".join(chr(0x10000 + number) for number in range(symbols))
    text = encoded_text(write(tmp_path / "text.txt", characters), tmp_path)
    assert text._ids.dtype.itemsize == size
    assert len(list(tmp_path.glob(".*.part"))) == 0
    vocabulary, training, held_out = ids_of(text)
    assert vocabulary.decode(np.concatenate([training, held_out])) == characters


def test_a_text_is_encoded_once_until_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(encoded, "_IN_MEMORY", 1)
    path, written = write(tmp_path / "text.txt"), []
    original = encoded._write
    monkeypatch.setattr(encoded, "_write", lambda *arguments: written.append(1) or original(*arguments))
    first = encoded_text(path, tmp_path / "cache")
    ids = ids_of(first)[1]
    assert encoded_text(path, tmp_path / "cache").digest == first.digest and len(written) == 1
    before = path.stat()
    write(path, TEXT.replace("line", "lime"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the size and the time of change are as before
    second = encoded_text(path, tmp_path / "cache")
    assert second.digest != first.digest and len(written) == 2
    assert len(list((tmp_path / "cache").iterdir())) == 1
    if os.name == "posix":
        np.testing.assert_array_equal(ids_of(first)[1], ids)  # a run that has begun goes on with its own text


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege")
def test_a_link_that_leads_to_another_text_is_seen(tmp_path, monkeypatch):
    """Files that are written in one tick of the clock have the same times."""
    monkeypatch.setattr(encoded, "_IN_MEMORY", 1)
    for name, text in (("a.txt", TEXT), ("b.txt", TEXT.replace("line", "lime"))):
        write(tmp_path / name, text)
    link, times = tmp_path / "text.txt", os.stat(tmp_path / "a.txt")
    digests = []
    for name in ("a.txt", "b.txt"):
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        with monkeypatch.context() as patch:
            patch.setattr(encoded, "os", SimpleNamespace(**{**vars(os), "stat": lambda path: times}))
            digests.append(encoded_text(link, tmp_path / "cache").digest)
    assert digests[0] != digests[1]


def test_a_damaged_file_is_written_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(encoded, "_IN_MEMORY", 1)
    path = write(tmp_path / "text.txt")
    text = encoded_text(path, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    flipped = [bytearray(whole) for _ in range(2)]
    flipped[0][200] ^= 1  # an id: another character
    place = whole.index(b'"symbols": "') + 13  # or what the ids stand for
    flipped[1][place : place + 1] = b"Q"
    for content in (b"", whole[:100], whole[:-3], whole[:-40] + bytes(40), b"x" + whole, *flipped):
        file.write_bytes(content)
        assert encoded_text(path, tmp_path / "cache").digest == text.digest
        assert file.read_bytes() == whole


def test_without_a_cache_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(encoded, "_IN_MEMORY", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    text = encoded_text(write(tmp_path / "text.txt"))
    assert isinstance(ids_of(text)[1], np.ndarray) and len(list((tmp_path / "temporary").iterdir())) == 1
    del text
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("position", [0, 1, 6, 7, 20])
def test_the_byte_that_is_not_utf8_is_named(tmp_path, place, position, bom):
    (tmp_path / "a.txt").write_bytes(b"good\n" * 10)
    (tmp_path / "b.txt").write_bytes(bom + b"x" * position + b"\xff" + b"y" * 30)
    with pytest.raises(ValueError, match=rf"b\.txt is not UTF-8 text: byte {position + len(bom)} cannot"):
        encoded_text(tmp_path / "?.txt", tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*"))


def test_a_shard_that_ends_within_a_character_is_named(tmp_path, place):
    write(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_bytes(b"x" * 30 + "é".encode()[:1])
    with pytest.raises(ValueError, match=r"b\.txt is not UTF-8 text: byte 30 cannot"):
        encoded_text(tmp_path, tmp_path / "cache")


def test_a_text_that_grows_while_it_is_read_is_refused(tmp_path, place):
    path = write(tmp_path / "text.txt")
    blocks = reading.text_blocks([path], 100)
    next(blocks)
    with open(path, "ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match=r"text\.txt changed while it was read"):
        list(blocks)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit for the size of files")
def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    import resource

    path = write(tmp_path / "text.txt", "some words " * 1_600_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, hard))
    try:
        with pytest.raises(OSError, match=r"the encoded text needs up to 0\.0 GB there; TINYGRAD_GRU_CACHE"):
            encoded_text(path, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "cache").iterdir())


def test_a_character_of_a_later_shard_that_the_vocabulary_lacks_is_named(tmp_path, place):
    write(tmp_path / "a.txt", "abc" * 50)
    write(tmp_path / "b.txt", "abcabcж" + "abc" * 50)
    text = encoded_text(tmp_path, tmp_path / "cache")
    with pytest.raises(ValueError, match=r"b\.txt has an unknown character at position 6: .*'ж'"):
        text.encode(CharacterVocabulary("abc"))
    assert text.encode(CharacterVocabulary("abc?", other="?"))[0][156] == 3


def test_ngrams_of_a_text_on_the_disk_are_those_in_memory(tmp_path, monkeypatch, rng):
    ids = rng.integers(0, 40, 5000)
    np.save(tmp_path / "ids.npy", ids)
    expected = ngram_losses(ids, ids[:500], 40, 3)
    for block in (97, 2**20):  # with it a table of all n-grams is too large, or is not
        monkeypatch.setattr("tinygrad_gru.data.text.ngrams._BLOCK", block)
        assert ngram_losses(ShardedArray([tmp_path / "ids.npy"]), ids[:500], 40, 3) == expected


BOUNDED = """
import sys
from tinygrad_gru.train import Progress, TextRun, TextSettings, summarize
settings = TextSettings(sys.argv[1], embedding=8, hidden=16, batch=32, window=32, characters=32 * 32 * 8, evaluations=1)
run = TextRun(settings)
loop = run.loop(sys.argv[2])
loop.run(Progress())
source = run.trainer.source
source.load_state_dict({**source.state_dict(), "epoch": 1, "index": len(source) - 1})
run.trainer.step()
with open("/proc/self/status") as file:  # getrusage would count the process that started this one
    resident = next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
print(resident, len(run.training), type(run.training).__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the largest resident memory is in /proc")
def test_a_text_is_trained_on_in_less_memory_than_it_has(tmp_path):
    line = "".join(map(chr, range(32, 127))) + " é ж € \n"
    size = 240_000_000
    with open(tmp_path / "big.txt", "wb") as file:
        block = line.encode() * 10_000
        for _ in range(size // len(block)):
            file.write(block)
    environment = {**os.environ, "TINYGRAD_GRU_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(Path.cwd())}
    result = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(tmp_path / "big.txt"), str(tmp_path / "run")],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    resident, characters, kind = result.stdout.split()
    assert kind == "_Ids" and int(characters) > 200e6
    assert float(resident) < 190, "MiB, of which Python, NumPy and this package take about 100"


@pytest.fixture
def ids_and_text(tmp_path):
    text = TEXT.replace("\r\n", "\n").replace("\r", "\n")
    vocabulary = CharacterVocabulary("".join(sorted(set(text), reverse=True)) + "z")
    (tmp_path / "vocabulary.json").write_text(json.dumps(vocabulary.description()))
    for number, part in enumerate(np.split(vocabulary.encode(text), [1000])):
        np.save(tmp_path / f"{number}.npy", part.astype(np.uint8))
    return text


def test_shards_of_ids_are_the_text_that_they_were(tmp_path, place, ids_and_text):
    text = encoded_text(tmp_path / "?.npy", tmp_path / "cache")
    plain = encoded_text(write(tmp_path / "text.txt"), tmp_path / "cache")
    assert (text.digest, text.symbols, text.ends) == (plain.digest, plain.symbols, (1000, len(ids_and_text)))
    np.testing.assert_array_equal(ids_of(text)[1], ids_of(plain)[1])


def test_ids_need_their_vocabulary_and_no_others(tmp_path, place, ids_and_text):
    np.save(tmp_path / "2.npy", np.array([0, 1, 200], np.uint8))
    with pytest.raises(ValueError, match=r"2\.npy, rows from 0 on: ids must be from 0 to \d+, got 200"):
        encoded_text(tmp_path / "?.npy", tmp_path / "cache")
    np.save(tmp_path / "2.npy", np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"2\.npy holds float64 of shape \(3, 2\), but a shard of a text is of ids"):
        encoded_text(tmp_path / "?.npy", tmp_path / "cache")
    (tmp_path / "2.npy").unlink()
    (tmp_path / "vocabulary.json").write_text('{"symbols": 3}')
    with pytest.raises(ValueError, match=r"vocabulary\.json: expected a description"):
        encoded_text(tmp_path / "?.npy", tmp_path / "cache")
    (tmp_path / "vocabulary.json").unlink()
    with pytest.raises(FileNotFoundError, match="ids need their vocabulary beside them"):
        encoded_text(tmp_path / "?.npy", tmp_path / "cache")
