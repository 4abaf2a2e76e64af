"""Blocks: context managers that also decorate generators and coroutines; and the first of them, `no_grad`.

As a decorator of a generator or a coroutine, a context manager of `contextlib` is left before the body begins, and so
has no effect. A block is open whenever the body runs, and closed whenever it is suspended and other code runs.
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

#: The blocks that a thread (or a task of asyncio) has entered, each with its context manager.
_entered: ContextVar[tuple[tuple[Block, AbstractContextManager], ...]] = ContextVar("entered", default=())


@contextmanager
def setting(variable: ContextVar[T], value: T) -> Iterator[None]:
    """A context manager in which a context variable has another value."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


class Block(Generic[T]):
    """A context manager (`with no_grad():`) and decorator (`@no_grad()`). `open` returns a new one for each entry."""

    def __init__(self, open: Callable[[], AbstractContextManager[T]]):
        self._open = open

    def __enter__(self) -> T:
        manager = self._open()
        value = manager.__enter__()
        _entered.set((*_entered.get(), (self, manager)))
        return value

    def __exit__(self, *error: Any) -> bool | None:
        entered = _entered.get()
        for i in reversed(range(len(entered))):
            if entered[i][0] is self:
                _entered.set(entered[:i] + entered[i + 1 :])
                return entered[i][1].__exit__(*error)
        raise RuntimeError("a block was exited in another thread or task than it was entered in")

    def __call__(self, function: Callable) -> Any:
        """The function with the block open while its body runs, also if it is a generator or a coroutine."""
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self(function.__func__))
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"a block like this decorates functions, got {function!r}")
        body = function.func if isinstance(function, partial) else function
        body = body if inspect.isroutine(body) else type(body).__call__
        decorate = next((decorate for is_type, _, decorate in _BODY_TYPES if is_type(body)), _function)
        return wraps(function)(decorate(function, self._open))


def block(function: Callable[P, Iterator[T]]) -> Callable[P, Block[T]]:
    """`contextlib.contextmanager` for blocks."""
    manager = contextmanager(function)

    @wraps(function)
    def make(*arguments: P.args, **settings: P.kwargs) -> Block[T]:
        return Block(lambda: manager(*arguments, **settings))

    return make


def _driven(body: Any, open: Open) -> Generator[Any, Any, Any]:
    """A generator, or the iterator of an awaitable, with the block open while it runs."""

    def advance(resume: Callable, *arguments: Any) -> tuple[bool, Any]:
        with open():
            try:
                return False, resume(*arguments)
            except StopIteration as stop:
                return True, stop.value

    done, value = advance(body.send, None)
    while not done:
        try:
            received = yield value
        except GeneratorExit:
            with open():
                body.close()
            raise
        except BaseException as error:
            done, value = advance(body.throw, error)
        else:
            done, value = advance(body.send, received)
    return value


class _Awaitable:
    """An awaitable with the block open while it runs."""

    def __init__(self, awaitable: Any, open: Open):
        self._awaitable, self._open = awaitable, open

    def __await__(self) -> Generator[Any, Any, Any]:
        return _driven(self._awaitable.__await__(), self._open)


def _generator(function: Callable, open: Open) -> Callable:
    def run(*arguments: Any, **settings: Any) -> Generator:
        return (yield from _driven(function(*arguments, **settings), open))

    return run


def _coroutine(function: Callable, open: Open) -> Callable:
    async def run(*arguments: Any, **settings: Any) -> Any:
        return await _Awaitable(function(*arguments, **settings), open)

    return run


def _async_generator(function: Callable, open: Open) -> Callable:
    async def run(*arguments: Any, **settings: Any) -> AsyncGenerator:
        body = function(*arguments, **settings)
        try:
            value = await _Awaitable(body.asend(None), open)
            while True:
                try:
                    received = yield value
                except GeneratorExit:
                    await _Awaitable(body.aclose(), open)
                    raise
                except BaseException as error:
                    value = await _Awaitable(body.athrow(error), open)
                else:
                    value = await _Awaitable(body.asend(received), open)
        except StopAsyncIteration:
            return

    return run


def _function(function: Callable, open: Open) -> Callable:
    def run(*arguments: Any, **settings: Any) -> Any:
        with open():
            result = function(*arguments, **settings)
        for _, is_type, decorate in _BODY_TYPES:
            if is_type(result):  # a generator, say, whose body has not run yet
                return decorate(lambda: result, open)()
        return result

    return run


#: For each type of function: the test of a function, the test of its result, and the decorator.
_BODY_TYPES: tuple[tuple[Callable[[Any], bool], Callable[[Any], bool], Callable[[Callable, Open], Callable]], ...] = (
    (inspect.isasyncgenfunction, inspect.isasyncgen, _async_generator),
    (inspect.iscoroutinefunction, inspect.iscoroutine, _coroutine),
    (inspect.isgeneratorfunction, inspect.isgenerator, _generator),
)


#: Whether ops are recorded on the tape.
recording: ContextVar[bool] = ContextVar("recording", default=True)


def no_grad() -> Block[None]:
    """A block (`with no_grad():`) or decorator (`@no_grad()`) in which nothing is recorded.

    Generators and coroutines can be decorated, too: nothing is recorded while their bodies run. A `with` around a
    `yield` instead stays on in the code that reads from the generator.

    >>> w = Tensor(3.0, requires_grad=True)
    >>> with no_grad():
    ...     w -= 1.0
    >>> w.item()
    2.0
    """
    return Block(lambda: setting(recording, False))


def enable_grad() -> Block[None]:
    """A block or decorator in which ops are recorded, even inside `no_grad`.

    >>> x = Tensor(3.0, requires_grad=True)
    >>> with no_grad(), enable_grad():
    ...     y = x * x
    >>> y.requires_grad
    True
    """
    return Block(lambda: setting(recording, True))
