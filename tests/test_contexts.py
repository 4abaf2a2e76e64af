"""Blocks as context managers and decorators: also of generators and coroutines, open only while the body runs."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading

import numpy as np
import pytest

from tinygrad_gru import Tensor, compiling, detect_anomaly, enable_grad, no_grad
from tinygrad_gru.backend import immediate_checks
from tinygrad_gru.backend.cuda.index_checks import checks_are_immediate
from tinygrad_gru.contexts import recording
from tinygrad_gru.scan.modes import mode_of
from tinygrad_gru.tape import inspector

#: A block, how the variable that it sets is read, and the value while the block is open.
BLOCKS = {
    "no_grad": (no_grad, recording.get, False),
    "compiling": (lambda: compiling(False), lambda: mode_of().target, ""),
    "immediate_checks": (immediate_checks, checks_are_immediate, True),
    "detect_anomaly": (detect_anomaly, lambda: inspector.get() is not None, True),
}


@pytest.fixture(params=BLOCKS)
def block(request):
    decorate, read, inside = BLOCKS[request.param]
    with immediate_checks(False):
        assert read() is not inside
        yield decorate(), lambda: read() is inside
        assert read() is not inside


def test_decorated_function(block):
    decorate, is_set = block

    @decorate
    def function(a, *, b):
        """Adds."""
        return a + b, is_set()

    assert function(1, b=2) == (3, True) and function(2, b=2) == (4, True) and not is_set()
    assert function.__name__ == "function" and function.__doc__ == "Adds."


def test_decorated_generator(block):
    decorate, is_set = block

    @decorate
    def generator(n):
        for i in range(n):
            yield i, is_set()
        return is_set()

    assert inspect.isgeneratorfunction(generator)
    steps, seen = generator(3), []
    while True:
        try:
            seen.append((*next(steps), is_set()))
        except StopIteration as stop:
            assert stop.value is True
            break
    assert seen == [(0, True, False), (1, True, False), (2, True, False)] and not is_set()


def test_send_throw_and_close_of_a_decorated_generator(block):
    decorate, is_set = block
    log = []

    @decorate
    def generator():
        try:
            log.append((yield "first"))
            try:
                yield "second"
            except KeyError as error:
                log.append((error, is_set()))
            yield "third"
        finally:
            log.append(("closed", is_set()))

    steps, error = generator(), KeyError("thrown")
    assert next(steps) == "first" and steps.send(5) == "second" and steps.throw(error) == "third"
    steps.close()
    assert log == [5, (error, True), ("closed", True)] and not is_set()


def test_an_error_in_a_decorated_generator_propagates(block):
    decorate, is_set = block

    @decorate
    def generator():
        yield 1
        raise KeyError("inside")

    steps = generator()
    next(steps)
    with pytest.raises(KeyError, match="inside"):
        next(steps)
    assert not is_set() and list(steps) == []


def test_two_decorated_generators_interleaved(block):
    decorate, is_set = block

    @decorate
    def generator():
        yield from (is_set(), is_set())

    assert list(zip(generator(), generator())) == [(True, True)] * 2 and not is_set()


def test_decorated_coroutine_beside_another_task(block):
    decorate, is_set = block

    @decorate
    async def inside(log):
        for _ in range(3):
            log.append(is_set())
            await asyncio.sleep(0)
        return is_set()

    async def beside(log):
        for _ in range(3):
            log.append(is_set())
            await asyncio.sleep(0)

    async def main():
        first, second = [], []
        result, _ = await asyncio.gather(inside(first), beside(second))
        return first, second, result, is_set()

    assert inspect.iscoroutinefunction(inside)
    assert asyncio.run(main()) == ([True] * 3, [False] * 3, True, False)


def test_decorated_coroutine_that_is_cancelled(block):
    decorate, is_set = block
    log = []

    @decorate
    async def waits():
        try:
            await asyncio.sleep(60)
        finally:
            log.append(is_set())

    async def main():
        task = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        log.append(is_set())

    asyncio.run(main())
    assert log == [True, False]


def test_decorated_async_generator(block):
    decorate, is_set = block
    log = []

    @decorate
    async def generator():
        try:
            for i in range(5):
                await asyncio.sleep(0)
                try:
                    log.append((yield i, is_set()))
                except KeyError:
                    yield "caught", is_set()
        finally:
            log.append(("closed", is_set()))

    async def main():
        steps = generator()
        seen = [await steps.asend(None), await steps.asend("sent"), await steps.athrow(KeyError()), is_set()]
        await steps.aclose()
        return seen, [item async for item in generator()]

    assert inspect.isasyncgenfunction(generator)
    seen, items = asyncio.run(main())
    assert seen == [(0, True), (1, True), ("caught", True), False]
    assert items == [(i, True) for i in range(5)]
    assert log == ["sent", ("closed", True), *[None] * 5, ("closed", True)]


def test_decorated_callables_and_partials():
    class Reader:
        def __call__(self):
            yield recording.get()

        def read(self):
            yield recording.get()

        @staticmethod
        def plain():
            return recording.get()

    partial = functools.partial(lambda n: (yield from [recording.get()] * n), 2)
    assert list(no_grad()(Reader())()) == list(no_grad()(Reader().read)()) == [False]
    assert list(no_grad()(partial)()) == [False, False] and no_grad()(Reader.plain)() is False


def test_decorated_staticmethod_and_classmethod():
    class Reader:
        @no_grad()
        @staticmethod
        def static():
            yield recording.get()

        @no_grad()
        @classmethod
        def of_class(cls):
            return cls.__name__, recording.get()

    assert list(Reader.static()) == [False] and Reader().of_class() == ("Reader", False)


def test_decorated_function_that_returns_a_generator_or_coroutine():
    """Such as a generator expression, or a coroutine function that another decorator wraps."""

    @no_grad()
    def expression():
        return (recording.get() for _ in range(2))

    def hiding(function):
        return lambda *arguments: function(*arguments)

    @no_grad()
    @hiding
    async def coroutine(log):
        await asyncio.sleep(0)
        log.append(recording.get())

    @no_grad()
    @hiding
    async def async_generator():
        yield recording.get()

    async def main():
        log = []
        await coroutine(log)
        return log, [value async for value in async_generator()]

    assert list(expression()) == [False, False] and recording.get()
    assert asyncio.run(main()) == ([False], [False])


def test_decorating_a_class_raises():
    with pytest.raises(TypeError, match="decorates functions, got <class"):
        no_grad()(Tensor)
    with pytest.raises(TypeError, match="decorates functions, got 3"):
        no_grad()(3)


def test_recursion_and_reentry():
    @no_grad()
    def descend(n):
        with enable_grad():
            assert recording.get()
        return recording.get() if n == 0 else descend(n - 1)

    assert descend(3) is False and recording.get()
    off = no_grad()
    with off:
        with off:
            assert not recording.get()
        assert not recording.get()
    assert recording.get()


def test_one_block_entered_by_several_tasks_and_threads():
    off = no_grad()

    async def task(log):
        with off:
            await asyncio.sleep(0)
            log.append(recording.get())
        await asyncio.sleep(0)
        log.append(recording.get())

    async def main():
        logs = [], []
        await asyncio.gather(*map(task, logs))
        return logs

    assert asyncio.run(main()) == ([False, True], [False, True])
    inside, outside, seen = threading.Event(), threading.Event(), []

    def other():
        with off:
            inside.set()
            assert outside.wait(10)
            seen.append(recording.get())
        seen.append(recording.get())

    thread = threading.Thread(target=other)
    with off:
        thread.start()
        assert inside.wait(10)
    outside.set()
    thread.join(10)
    assert seen == [False, True] and recording.get()


def test_a_loop_over_a_no_grad_generator_is_recorded():
    """As in PyTorch: the generator records nothing, the loop that reads from it does."""
    w = Tensor([2.0], requires_grad=True)

    @no_grad()
    def batches():
        for x in (1.0, 2.0):
            yield w * x

    def gradient(tensor, generator):
        total = sum((tensor * batch).sum() for batch in generator())
        total.backward()
        return tensor.grad.tolist()

    mine = gradient(w, batches)
    assert mine == [6.0]
    torch = pytest.importorskip("torch")
    v = torch.tensor([2.0], requires_grad=True)

    @torch.no_grad()
    def peers():
        for x in (1.0, 2.0):
            yield v * x

    assert gradient(v, peers) == mine


def test_the_value_of_with_is_that_of_the_context_manager():
    with detect_anomaly() as anomaly:
        assert inspector.get() is anomaly
        np.testing.assert_array_equal((Tensor([1.0]) * 2.0).numpy(), [2.0])
