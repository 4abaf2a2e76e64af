"""Threads of BLAS: products have one, unless they are large or a user has set a number."""

import os
import subprocess
import sys
from threading import Thread

import numpy as np
import pytest

from tinygrad_gru.native.blas import LARGE, Threads, in_one_thread, threads_of_numpy


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
        (((512, 512), (512, 1023)), 1),
        (((512, 512), (512, 1024)), 4),
        (((1024, 64, 64), (64, 128)), 1),  # each of a stack is small
        (((8, 64, 63), (8, 63, 64)), 4),
        (((90,), (90, 90)), 4),
        (((1, 91), (91, 91)), 1),
        (((100, 100), (100,)), 1),
        (((10_000,), (10_000,)), 1),
        (((0, 5), (5, 9000)), 4),
    ],
)
def test_products_are_in_one_thread_unless_they_are_large(shapes, threads):
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


PROGRAM = """
import os, sys
import numpy as np
from tinygrad_gru import Tensor, ops
from tinygrad_gru.native import blas

threads = blas.threads_of_numpy()
if threads is None:
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
