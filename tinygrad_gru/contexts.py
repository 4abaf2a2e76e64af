"""Context managers that decorate functions of every kind.

Those of `contextlib` are left before the body of a generator or a coroutine begins, so that as decorators of one they
do nothing. Here what a block sets is set while the body runs, step by step, and not in between, where others run.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, Generic, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
Open = Callable[[], AbstractContextManager]


#: The blocks in which a thread (or a task of asyncio) is, each with its context manager.
_entered: ContextVar[tuple[tuple[Block, AbstractContextManager], ...]] = ContextVar("entered", default=())


class Block(Generic[T]):
    """A block (`with no_grad():`) and a decorator (`@no_grad()`). `open` makes the context manager of one entry."""

    def __init__(self, open: Callable[[], AbstractContextManager[T]]):
        self._open = open

    def __enter__(self) -> T:
        manager = self._open()
        value = manager.__enter__()
        _entered.set((*_entered.get(), (self, manager)))
        return value

    def __exit__(self, *error: Any) -> bool | None:
        entered = _entered.get()
        for place in reversed(range(len(entered))):
            if entered[place][0] is self:
                _entered.set(entered[:place] + entered[place + 1 :])
                return entered[place][1].__exit__(*error)
        raise RuntimeError("a block ends in another thread, or another task, than it began in")

    def __call__(self, function: Callable) -> Any:
        """The function, with the block open while its body runs; that of a generator or a coroutine, at each step."""
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self(function.__func__))
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"a block like this decorates functions, got {function!r}")
        body = function.func if isinstance(function, partial) else function
        body = body if inspect.isroutine(body) else type(body).__call__
        decorate = next((decorate for is_kind, _, decorate in _KINDS if is_kind(body)), _plain)
        return wraps(function)(decorate(function, self._open))


def block(function: Callable[P, Iterator[T]]) -> Callable[P, Block[T]]:
    """`contextlib.contextmanager` whose context managers decorate functions of every kind."""
    manager = contextmanager(function)

    @wraps(function)
    def make(*arguments: P.args, **settings: P.kwargs) -> Block[T]:
        return Block(lambda: manager(*arguments, **settings))

    return make


def _stepped(steps: Any, open: Open) -> Generator[Any, Any, Any]:
    """A generator, or the iterator of an awaitable, with the block open while it runs."""

    def advance(move: Callable, *arguments: Any) -> tuple[bool, Any]:
        with open():
            try:
                return False, move(*arguments)
            except StopIteration as stop:
                return True, stop.value

    done, value = advance(steps.send, None)
    while not done:
        try:
            received = yield value
        except GeneratorExit:
            with open():
                steps.close()
            raise
        except BaseException as error:
            done, value = advance(steps.throw, error)
        else:
            done, value = advance(steps.send, received)
    return value


class _Steps:
    """An awaitable, with the block open while it runs."""

    def __init__(self, awaitable: Any, open: Open):
        self._awaitable, self._open = awaitable, open

    def __await__(self) -> Generator[Any, Any, Any]:
        return _stepped(self._awaitable.__await__(), self._open)


def _generator(function: Callable, open: Open) -> Callable:
    def run(*arguments: Any, **settings: Any) -> Generator:
        return (yield from _stepped(function(*arguments, **settings), open))

    return run


def _coroutine(function: Callable, open: Open) -> Callable:
    async def run(*arguments: Any, **settings: Any) -> Any:
        return await _Steps(function(*arguments, **settings), open)

    return run


def _async_generator(function: Callable, open: Open) -> Callable:
    async def run(*arguments: Any, **settings: Any) -> AsyncGenerator:
        steps = function(*arguments, **settings)
        try:
            value = await _Steps(steps.asend(None), open)
            while True:
                try:
                    received = yield value
                except GeneratorExit:
                    await _Steps(steps.aclose(), open)
                    raise
                except BaseException as error:
                    value = await _Steps(steps.athrow(error), open)
                else:
                    value = await _Steps(steps.asend(received), open)
        except StopAsyncIteration:
            return

    return run


def _plain(function: Callable, open: Open) -> Callable:
    def run(*arguments: Any, **settings: Any) -> Any:
        with open():
            result = function(*arguments, **settings)
        for _, is_kind, decorate in _KINDS:
            if is_kind(result):  # it has not run yet
                return decorate(lambda: result, open)()
        return result

    return run


#: How a function of a kind is known, how its result is known, and what decorates it.
_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any], bool], Callable[[Callable, Open], Callable]], ...] = (
    (inspect.isasyncgenfunction, inspect.isasyncgen, _async_generator),
    (inspect.iscoroutinefunction, inspect.iscoroutine, _coroutine),
    (inspect.isgeneratorfunction, inspect.isgenerator, _generator),
)


#: Whether ops are recorded on the tape.
recording: ContextVar[bool] = ContextVar("recording", default=True)


@block
def _set_recording(on: bool) -> Iterator[None]:
    token = recording.set(on)
    try:
        yield
    finally:
        recording.reset(token)


def no_grad() -> Block[None]:
    """A block (`with no_grad():`) or decorator (`@no_grad()`) in which nothing is recorded.

    Generators and coroutines can be decorated, too: nothing is recorded while their bodies run. A `with` around a
    `yield` instead stays on in the code that reads from the generator.
    """
    return _set_recording(False)


def enable_grad() -> Block[None]:
    """A block or decorator in which ops are recorded, even inside `no_grad`."""
    return _set_recording(True)
