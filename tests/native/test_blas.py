"""Threads of BLAS: products have one, and large ones are cut into pieces, unless a user has set a number."""

import os
import subprocess
import sys
from threading import Thread

import numpy as np
import pytest

from tinygrad_gru.native import blas
from tinygrad_gru.native.blas import LARGE, Threads, in_one_thread, in_pieces, threads_of_numpy
from tinygrad_gru.native.cores import Cores


class Counted:
    """A library with a number of threads, and the numbers with which products ran."""

    def __init__(self, number):
        self.number, self.ran = number, []

    def product(self, a, b, *out):
        self.ran.append(self.number)
        return np.matmul(a, b, *out)

    def limited(self):
        return in_one_thread(self.product, Threads(lambda: self.number, lambda n: setattr(self, "number", n)))


@pytest.mark.parametrize(
    "shapes, threads",
    [
        (((64, 64), (64, 63)), 4),  # OpenBLAS itself uses one
        (((64, 64), (64, 64)), 1),
        (((1024, 64, 64), (64, 128)), 1),  # each of a stack is small
        (((8, 64, 63), (8, 63, 64)), 4),
        (((90,), (90, 90)), 4),
        (((1, 91), (91, 91)), 1),
        (((100, 100), (100,)), 1),
        (((10_000,), (10_000,)), 1),
        (((0, 5), (5, 9000)), 4),
    ],
)
def test_products_are_in_one_thread(shapes, threads):
    library = Counted(4)
    product = library.limited()
    a, b = (np.ones(shape, np.float32) for shape in shapes)
    assert product(a, b).shape == (a @ b).shape
    assert (library.ran, library.number) == ([threads], 4)


def test_the_number_of_threads_is_restored_after_an_error_and_one_stays_one():
    library = Counted(4)
    product = library.limited()
    with pytest.raises(ValueError, match="mismatch"):
        product(np.ones((300, 300)), np.ones((299, 300)))
    with pytest.raises(ValueError, match="does not have enough dimensions"):
        product(np.ones(()), np.ones((300, 300)))
    assert library.number == 4
    library.number = 1  # by a user
    product(np.ones((300, 300)), np.ones((300, 300)))
    assert library.number == 1


def test_the_number_in_the_environment_is_the_users_word(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert threads_of_numpy() is None
    assert in_one_thread(np.matmul, None) is np.matmul


class Pieces:
    """Products of a known size in a number of threads, and the shapes of the operands."""

    def __init__(self, monkeypatch, threads):
        self.monkeypatch, self.shapes = monkeypatch, []
        monkeypatch.setattr(blas, "cores", lambda: Cores(threads, "the test says so"))

    def __call__(self, work, a, b, *out):
        def matmul(a, b, out=None):
            self.shapes.append((a.shape, b.shape))
            return numpys(a, b, out)

        numpys = np.matmul
        with self.monkeypatch.context() as patch:
            patch.setattr(np, "matmul", matmul)
            return in_pieces(np.matmul, work, a, b, *out)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("rows", "columns", "work", "pieces"),
    [
        (100, 60, 2**25, [(64, 60), (36, 60)]),
        (60, 100, 2**28, [(60, 64), (60, 36)]),
        (130, 7, 2**29, [(48, 7), (48, 7), (34, 7)]),
        (64, 64, 2**29, [(32, 32)] * 4),
        (96, 33, 2**31, [(32, 32)] * 3 + [(32, 1)] * 3),
        (5, 33, 2**40, [(5, 16), (5, 16), (5, 1)]),
    ],
)
def test_pieces_of_a_product_give_the_same_bits_in_any_number_of_threads(
    rows, columns, work, pieces, dtype, rng, monkeypatch
):
    a, b = rng.standard_normal((rows, 90)).astype(dtype), rng.standard_normal((90, columns)).astype(dtype)
    wide = np.empty((rows, 2 * columns), dtype)
    for out in ((), (np.empty((rows, columns), dtype),), (wide[:, ::2],), (np.empty((columns, rows), dtype).T,)):
        found = []
        for threads in (1, 2, 3):
            product = Pieces(monkeypatch, threads)
            result = product(work, a, b, *out)
            assert not out or result is out[0]
            found.append(result.copy())
            assert sorted((left[0], right[1]) for left, right in product.shapes) == sorted(pieces)
        np.testing.assert_array_equal(found[1], found[0])
        np.testing.assert_array_equal(found[2], found[0])
        np.testing.assert_allclose(found[0], a.astype("float64") @ b, rtol=1e-4, atol=1e-4)


def test_what_is_not_cut(rng, monkeypatch):
    """Integers, stacks, two dtypes, and a result that overlaps with an operand, for which NumPy makes copies."""
    product, a = Pieces(monkeypatch, 2), rng.standard_normal((40, 40))
    for left, right in (
        (np.arange(1600).reshape(40, 40), np.arange(1600).reshape(40, 40)),
        (np.stack([a, a]), a),
        (a.astype("float32"), a),
        (a[0], a),
    ):
        np.testing.assert_array_equal(product(2**30, left, right), left @ right)
    expected = a @ a.T
    assert product(2**30, a, a.T, a) is a
    np.testing.assert_allclose(a, expected, rtol=1e-12)
    assert len(product.shapes) == 5
    assert product(2**30, a, a, np.empty((40, 40), "float32")).dtype == np.float32
    assert len(product.shapes) == 6
    with pytest.raises(ValueError, match="mismatch"):
        product(2**30, a, a, np.empty((40, 41)))
    with pytest.raises(ValueError, match="mismatch"):
        product(2**30, a, a[1:])


@pytest.mark.parametrize("threads", [1, 4])
def test_large_products_are_cut_whatever_the_number_of_threads(threads, monkeypatch):
    seen = []
    monkeypatch.setattr(blas, "in_pieces", lambda function, work, a, b, *out: seen.append(work) or function(a, b, *out))
    product = Counted(threads).limited()
    a = np.ones((512, 256), np.float32)
    product(a, np.ones((256, 255), np.float32))
    assert seen == []
    product(a, np.ones((256, 256), np.float32))
    assert seen == [LARGE]


PROGRAM = """
import os, sys
import numpy as np
from tinygrad_gru import Tensor, ops
from tinygrad_gru.native import blas

threads = blas.threads_of_numpy()
if threads is None or threads.get() == 1:
    sys.exit("no threads")
seen = []
blas_dot = blas.in_one_thread(lambda a, b: seen.append(threads.get()) or a.dot(b), threads)
blas_dot(np.ones((100, 100)), np.ones((100, 100)))
before = threads.get()
x = Tensor(np.ones((100, 100)), requires_grad=True)
ops.matmul(x, x).sum().backward()
child = os.fork()
if not child:
    ops.matmul(x, x)
    os._exit(threads.get() - before)
assert os.waitpid(child, 0)[1] == 0
assert (seen, threads.get()) == ([1], before), (seen, threads.get(), before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_numpys_own_library_is_limited_and_survives_a_fork():
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60)
    if done.returncode and done.stderr.strip() == "no threads":
        pytest.skip("NumPy's products are not by OpenBLAS with threads of its own, or there is one core")
    assert done.returncode == 0, done.stderr


def test_products_in_several_python_threads_leave_the_number_as_it_was():
    library = Counted(3)
    product = library.limited()
    a = np.ones((80, 80))

    def work():
        for _ in range(300):
            product(a, a)

    workers = [Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert library.number == 3
    assert LARGE > 80**3
