"""The reader of HDF5 files: it reads what h5py writes for Keras, and refuses the rest."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

from tinygrad_gru.interop import InteropError, hdf5  # noqa: E402

ARRAYS = [
    np.arange(6.0).reshape(2, 3), np.float32(3), np.zeros((0, 3), "f4"), np.arange(3, dtype=">f4"),
    np.arange(3, dtype="u1"), np.arange(-1, 3, dtype=">i8"), np.array([1, np.inf], "f2"), np.ones((1, 2, 1, 3), "f4"),
]  # fmt: skip


def written(fill, **options):
    """The bytes of a file written by `fill`."""
    content = io.BytesIO()
    with h5py.File(content, "w", **options) as file:
        fill(file)
    return content.getvalue()


@pytest.mark.parametrize("track_order", [False, True])
@pytest.mark.parametrize("libver", [None, "earliest", "latest", "v108", "v114"])
def test_reads_what_h5py_writes(libver, track_order):
    expected = {f"layers/{k % 3}/vars/{k}": array for k, array in enumerate(ARRAYS)}

    def fill(file):
        for name, array in expected.items():
            file[name] = array
        file["layers"].attrs["name"] = "x" * 3000

    found = hdf5.read(written(fill, libver=libver, track_order=track_order))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def test_large_groups():
    """B-trees of several levels."""

    def fill(file):
        for k in range(1000):
            file[f"{'long' * (k % 9)}{k}"] = np.float32(k)

    found = hdf5.read(written(fill))
    assert sorted(found) == sorted(f"{'long' * (k % 9)}{k}" for k in range(1000))
    assert all(array == int(name.removeprefix("long" * (int(array) % 9))) for name, array in found.items())


def external(file):
    file.create_dataset("0", shape=(8, 8), dtype="u1", external=[("secret.txt", 0, 64)])


def virtual(file):
    layout = h5py.VirtualLayout(shape=(3,), dtype="f4")
    layout[:] = h5py.VirtualSource("secret.h5", "0", shape=(3,))
    file.create_virtual_dataset("0", layout)


def cycle(file):
    file.create_group("a/b")
    file["a/b/c"] = file["a"]


def twice(file):
    file["0"] = np.ones(3)
    file["1"] = file["0"]


def doubled(file):
    group = file
    for _ in range(40):
        inner = group.create_group("a")
        group["b"] = inner
        group = inner


def deep(file):
    group = file
    for _ in range(3000):
        group = group.create_group("a")


def dense(file):
    group = file.create_group("a", track_order=True)
    for k in range(9):
        group[str(k)] = np.ones(1)


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (external, "'0' is stored in another file"),
        (virtual, "'0' is put together from other datasets"),
        (lambda file: file.__setitem__("0", h5py.ExternalLink("secret.h5", "0")), "'0' is a link to another path"),
        (lambda file: file.__setitem__("0", h5py.SoftLink("/1")), "'0' is a link to another path"),
        (cycle, "two links lead to byte"),
        (twice, "two links lead to byte"),
        (doubled, "two links lead to byte"),
        (deep, "more than 64 deep"),
        (
            lambda file: file.create_dataset("0", (10**6, 10**6), "f4"),
            "is declared, and its numbers are not in the file",
        ),
        (lambda file: file.create_dataset("0", (10**6,), "f4", chunks=(10,)), "is stored in chunks"),
        (lambda file: file.create_dataset("0", (10**6,), "f4", compression="gzip"), "is compressed"),
        (lambda file: file.__setitem__("0", np.ones(3, complex)), "of a type that is not read here"),
        (lambda file: file.__setitem__("0", "text"), "of a type that is not read here"),
        (lambda file: file.__setitem__("0", h5py.Empty("f4")), "it has no shape"),
        (dense, "keeps its links in a heap"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_unsupported_features_are_refused_and_no_other_file_is_opened(tmp_path, monkeypatch, fill, reason, libver):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_text("not part of the file" * 10)
    with h5py.File("secret.h5", "w") as secret:
        secret["0"] = np.ones(3, "f4")
    content = written(fill, libver=libver)
    if libver == "latest" and fill is not dense:
        reason += "|keeps its links in a heap|two links lead|shared between"
    tracemalloc.start()
    try:
        with pytest.raises(InteropError, match=reason):
            hdf5.read(content)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(content) + 10**6
    finally:
        tracemalloc.stop()


def test_truncated_and_changed_files_raise_interop_error_or_are_read():
    """Every byte in turn is cut off before, and is changed to four values: nothing but InteropError, no other shape."""
    content = written(lambda file: file.create_dataset("a/b", data=np.ones((2, 3), "f4")))
    used = len(content)
    for k in range(0, used, 7):
        with pytest.raises(InteropError):
            hdf5.read(content[:k])
    changed = bytearray(content)
    for k in range(used):
        for value in (0, 1, 127, 255):
            changed[k] = value
            try:
                found = hdf5.read(bytes(changed))
            except InteropError:
                continue
            assert sum(array.nbytes for array in found.values()) <= 8 * len(content)
        changed[k] = content[k]
