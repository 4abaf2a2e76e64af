import hashlib
import os
import zlib

import pytest

from tinygrad_gru.data import standard_library, text_corpus
from tinygrad_gru.data.text.corpus import is_held_out


def test_the_standard_library_is_large_and_a_small_part_is_held_out():
    corpus = standard_library()
    assert corpus.files > 300
    assert 6_000_000 < len(corpus.training) < 10_000_000
    assert 0.05 < len(corpus.held_out) / (len(corpus.training) + len(corpus.held_out)) < 0.065
    assert len(corpus.digest) == 64


def test_the_held_out_rule_is_a_checksum_of_the_path():
    names = [f"package/module_{number}.py" for number in range(200)]
    assert [is_held_out(name) for name in names] == [zlib.crc32(name.encode()) % 20 == 0 for name in names]
    assert any(map(is_held_out, names))


@pytest.fixture
def library(tmp_path):
    held_out = next(f"m{number}.py" for number in range(1000) if zlib.crc32(f"m{number}.py".encode()) % 20 == 0)
    files = {
        "b.py": "second\n",
        "a/inner.py": "first\n",
        held_out: "kept apart\n",
        "test/b.py": "no",
        "a/tests/b.py": "no",
        "site-packages/b.py": "no",
        "config-3.11-x86_64/python-config.py": "no",
        "_sysconfigdata__linux.py": "no",
        "sitecustomize.py": "no",
        "a/notes.txt": "no",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_files_are_joined_in_the_order_of_their_paths_without_excluded_ones(library):
    corpus = standard_library(library)
    assert (corpus.training, corpus.held_out, corpus.files) == ("first\nsecond\n", "kept apart\n", 3)


def test_the_digest_depends_on_contents_and_names(library):
    digests = {standard_library(library).digest}
    (library / "b.py").write_text("other\n", encoding="utf-8")
    digests.add(standard_library(library).digest)
    (library / "b.py").rename(library / "c.py")
    digests.add(standard_library(library).digest)
    assert len(digests) == 3


def test_a_folder_without_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="too little Python source"):
        standard_library(tmp_path)


def test_the_last_tenth_of_a_text_is_held_out(tmp_path):
    path = tmp_path / "poem.txt"
    path.write_text("\ufeff" + "a" * 95 + "b" * 10, encoding="utf-8")
    corpus = text_corpus(path)
    assert (corpus.name, corpus.training, corpus.held_out, corpus.files) == ("poem.txt", "a" * 95, "b" * 10, 1)


def test_an_empty_text_is_refused(tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match="0 characters"):
        text_corpus(tmp_path / "empty.txt")


def test_a_binary_file_is_refused(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        text_corpus(tmp_path / "picture.png")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt"):
        text_corpus(tmp_path / "nowhere.txt")


@pytest.mark.parametrize("length", [0, 1, 10, 19])
def test_a_text_whose_held_out_tenth_is_too_short_is_refused(tmp_path, length):
    (tmp_path / "text.txt").write_text("x" * length)
    with pytest.raises(ValueError, match=f"holds {length} characters: too short"):
        text_corpus(tmp_path / "text.txt")


def test_the_digest_of_a_text_is_that_of_its_content(tmp_path):
    content = "a line\nand é\n" * 9
    (tmp_path / "text.txt").write_text(content, encoding="utf-8", newline="\n")
    (tmp_path / "other.txt").write_text(content, encoding="utf-8-sig", newline="\r\n")
    expected = hashlib.sha256(content.encode()).hexdigest()
    assert text_corpus(tmp_path / "text.txt").digest == text_corpus(tmp_path / "other.txt").digest == expected


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="a device without an end")
def test_a_device_is_refused():
    with pytest.raises(ValueError, match="/dev/zero is a device"):
        text_corpus("/dev/zero")
