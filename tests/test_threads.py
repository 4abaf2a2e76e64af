"""Threads: concurrent work gives the results of sequential work."""

from __future__ import annotations

import sys
import threading
from itertools import chain

import numpy as np
import pytest

from tinygrad_gru import Tensor, manual_seed, nn, no_grad, op, ops, optim, random_state, remat
from tinygrad_gru.backend import RandomStream, random_stream, resolve


@pytest.fixture(autouse=True)
def frequent_switches():
    """Threads are switched every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(*functions):
    """Run each in a thread, all started at a barrier; return the results, or raise the first error."""
    start, results = threading.Barrier(len(functions)), [None] * len(functions)

    def run(i):
        start.wait(10)
        try:
            results[i] = functions[i]()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def test_concurrent_backward_loses_no_gradient():
    w = Tensor([0.0], requires_grad=True)

    def work():
        for _ in range(3000):
            (w * 1.0).sum().backward()

    together(work, work)
    assert w.grad.tolist() == [6000.0]


def test_concurrent_first_calls_of_an_op():
    x = Tensor([3.0], requires_grad=True)
    for _ in range(30):

        @op
        def scaled(a, b, *, by=2.0):
            return a * by + b

        scaled.vjp(a=lambda g, by: g * by, b=lambda g: g)
        assert together(*[lambda scaled=scaled: scaled(x, 1.0).item()] * 8) == [7.0] * 8
        x.zero_grad()
        scaled(x, 1.0, by=5.0).backward()
        assert x.grad.tolist() == [5.0]


def test_concurrent_resolve_gives_one_backend(stand_in):
    assert len(set(together(*[lambda: id(resolve("cupy"))] * 6))) == 1


# -- random numbers --------------------------------------------------------------------------------------------------


def mask():
    return ops.dropout(Tensor(np.ones(64, np.float32)), p=0.5).tolist()


def test_an_unseeded_thread_continues_the_stream_of_the_main_thread():
    manual_seed(0)
    expected = [mask(), mask(), mask()]
    manual_seed(0)
    assert [mask(), *together(mask), mask()] == expected


def test_concurrent_draws_share_one_stream():
    manual_seed(0)
    expected = [mask() for _ in range(80)]
    manual_seed(0)
    draws = together(*[lambda: [mask() for _ in range(20)]] * 4)
    assert sorted(chain(*draws)) == sorted(expected) and random_state() == {"seed": 0, "position": 80}


def test_a_seeded_thread_has_a_stream_of_its_own():
    def seeded(seed):
        manual_seed(seed)
        return [mask() for _ in range(20)]

    alone = [seeded(seed) for seed in (1, 2, 3)]
    manual_seed(0)
    before = mask()
    assert together(*[lambda seed=seed: seeded(seed) for seed in (1, 2, 3)]) == alone
    after = mask()
    manual_seed(0)
    assert [mask(), mask()] == [before, after], "the main thread's numbers are its own, too"


def test_remat_replays_only_the_draws_of_its_thread():
    """While one recomputes, another draws: neither moves the other's stream."""
    x = Tensor(np.ones(64, np.float32), requires_grad=True)

    def recompute():
        manual_seed(5)
        gradients = []
        for _ in range(30):
            leaf = Tensor(x.data, requires_grad=True)
            y = remat(lambda x: ops.dropout(x, p=0.5), leaf)
            y.sum().backward()
            assert leaf.grad.tolist() == y.tolist()
            gradients.append(leaf.grad.tolist())
        return gradients

    alone = recompute()
    manual_seed(0)
    expected = [mask() for _ in range(30)]
    manual_seed(0)
    assert together(recompute, lambda: [mask() for _ in range(30)]) == [alone, expected]


def test_a_replay_does_not_move_the_stream():
    manual_seed(0)
    stream, state = random_stream(), random_state()
    x = Tensor(np.ones(8, np.float32), requires_grad=True)
    remat(lambda x: ops.dropout(x, p=0.5), x).sum().backward()
    assert random_stream() is stream and random_state() == {**state, "position": 1}


def test_concurrent_draws_are_distinct():
    stream = RandomStream(7)
    draws = together(*[lambda: [float(stream.uniform((1,), "float64")[0]) for _ in range(200)]] * 4)
    expected = RandomStream(7)
    assert sorted(chain(*draws)) == sorted(float(expected.uniform((1,), "float64")[0]) for _ in range(800))


# -- training --------------------------------------------------------------------------------------------------------


def trained(seed, steps=6):
    """The losses and weights of a recurrent model that is trained for some steps."""
    manual_seed(seed)
    rng = np.random.default_rng(seed)
    layer, head = nn.GRU(3, 4, zoneout=0.2), nn.Linear(4, 1)
    optimizer = optim.Adam([*layer.parameters(), *head.parameters()], lr=0.05)
    x, target = Tensor(rng.standard_normal((5, 2, 3)).astype(np.float32)), Tensor(np.ones((5, 2, 1), np.float32))
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = ops.mse(head(ops.dropout(layer(x)[0], p=0.3)), target)
        loss.backward()
        optimizer.step()
        if step % 2:
            with no_grad():
                losses.append(loss.item() + layer(x)[0].sum().item())
    return [losses, *(p.tolist() for p in optimizer.parameters())]


def test_separate_models_train_concurrently_as_sequentially():
    """They share plans, ops and the write log; results are equal bit for bit."""
    alone = [trained(seed) for seed in range(4)]
    assert together(*[lambda seed=seed: trained(seed) for seed in range(4)]) == alone


def test_a_shared_model_accumulates_the_gradients_of_all_threads():
    """Sums of integers, which do not depend on the order."""
    rng = np.random.default_rng(0)
    model = nn.Linear(3, 2)
    xs = [Tensor(rng.integers(-9, 9, (4, 3)).astype(np.float32)) for _ in range(6)]

    def work(k):
        for _ in range(100):
            model(xs[k]).sum().backward()

    together(*[lambda k=k: work(k) for k in range(len(xs))])
    columns = 100 * sum(x.numpy().sum(0) for x in xs)
    np.testing.assert_array_equal(model.W.grad.numpy(), np.stack([columns, columns], axis=1))
    np.testing.assert_array_equal(model.b.grad.numpy(), [100 * 4 * 6] * 2)


def test_a_shared_recurrence_runs_concurrently():
    layer = nn.LSTM(3, 4)
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((5, 2, 3)).astype(np.float32) for _ in range(4)]

    def gradient(k):
        x = Tensor(xs[k], requires_grad=True)
        for _ in range(5):
            x.zero_grad()
            layer(x)[0].sum().backward()
        return x.grad.tolist()

    alone = [gradient(k) for k in range(4)]
    assert together(*[lambda k=k: gradient(k) for k in range(4)]) == alone
