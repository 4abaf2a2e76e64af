"""Update rules written as mathematics, run in place.

An optimizer states its rule once, in the notation of its paper:

    m = beta1 * m + (1 - beta1) * g

On arrays, every operator of that line would allocate. So the rule is traced once per step on symbolic arrays, which
record the operations; register allocation assigns each result a buffer (its own array once the old value is dead, else
a free scratch buffer), and the operations run with `out=`. Hyperparameters are
Python scalars while a rule is traced: it may compute with them and branch on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ..backend import backend_of, record_launches, xp_of
from ..backend.duck_array import DuckArray
from .update_kernel import NativeUpdates, update_in_one_kernel

#: Elements per tile on the host: few enough for a rule's operands to stay in the cache.
TILE = 65536


class Operation(NamedTuple):
    """A function of the array namespace, its operands and its result; ~i names constant i."""

    function: str
    sources: tuple[int, ...]
    target: int


class UpdateTrace:
    """The operations of an update rule, recorded while it runs: the namespace of symbolic arrays.

    Values are numbered: first the arrays that the rule is given, then its results. Terms and factors that change
    nothing are left out: `g + weight_decay * p` costs nothing without weight decay.
    """

    def __init__(self, arrays: int):
        self.arrays = arrays
        self.operations: list[Operation] = []
        self.constants: list[float] = []

    def __getattr__(self, function: str) -> Any:
        raise TypeError(f"an update rule cannot use {function}: it has +, -, *, /, abs, optim.sqrt and optim.maximum")

    def add(self, a: Any, b: Any) -> SymbolicArray:
        if type(a) is not SymbolicArray:
            a, b = b, a
        return self.record("add", a, b) if type(b) is SymbolicArray or b != 0 else a

    def subtract(self, a: Any, b: Any) -> SymbolicArray:
        return self.record("subtract", a, b) if type(b) is SymbolicArray or b != 0 else a

    def multiply(self, a: Any, b: Any) -> Any:
        if type(a) is not SymbolicArray:
            a, b = b, a
        if type(b) is SymbolicArray or b not in (0, 1):
            return self.record("multiply", a, b)
        return a if b == 1 else 0.0

    def divide(self, a: Any, b: Any) -> SymbolicArray:
        return self.record("divide", a, b) if type(b) is SymbolicArray or b != 1 else a

    def negative(self, a: Any) -> Any:
        return self.multiply(a, -1)

    def abs(self, a: Any) -> SymbolicArray:
        return self.maximum(a, -a)

    def sqrt(self, a: Any) -> SymbolicArray:
        return self.record("sqrt", a)

    def maximum(self, a: Any, b: Any) -> SymbolicArray:
        return self.record("maximum", a, b)

    def record(self, function: str, *operands: Any) -> SymbolicArray:
        """The result of an operation, which is recorded."""
        sources = tuple([x.value if type(x) is SymbolicArray else self._constant(x) for x in operands])
        target = self.arrays + len(self.operations)
        self.operations.append(Operation(function, sources, target))
        return SymbolicArray(self, target)

    def _constant(self, scalar: float) -> int:
        self.constants.append(float(scalar))  # a NumPy scalar would promote float32 arithmetic to float64
        return ~(len(self.constants) - 1)


class SymbolicArray(DuckArray):
    """A symbolic array: value number `value` of the update rule that is traced."""

    __slots__ = ("namespace", "value")

    def __init__(self, trace: UpdateTrace, value: int):
        self.namespace, self.value = trace, value

    def concretize(self, conversion: type) -> Any:
        raise TypeError("an update rule cannot branch on the elements of an array: use maximum or arithmetic")


def sqrt(x: SymbolicArray) -> SymbolicArray:
    """√x, elementwise, in the rule of an optimizer.

    >>> class RootOfSquares(optim.Optimizer):
    ...     allowed = {"lr": (0, 1)}
    ...
    ...     @staticmethod
    ...     def rule(p, g, s, *, step, lr):
    ...         s = s + g * g
    ...         return {"p": p - lr * g / optim.sqrt(s), "s": s}
    """
    return x.namespace.sqrt(x)


def maximum(x: SymbolicArray, other: SymbolicArray | float) -> SymbolicArray:
    """The larger of the two, elementwise, in the rule of an optimizer.

    >>> class NeverBelowZero(optim.Optimizer):
    ...     allowed = {"lr": (0, 1)}
    ...
    ...     @staticmethod
    ...     def rule(p, g, *, step, lr):
    ...         return {"p": optim.maximum(p - lr * g, 0.0)}
    """
    return x.namespace.maximum(x, other)


@lru_cache(maxsize=256)
def allocate_registers(
    names: tuple[str, ...], operations: tuple[Operation, ...], results: tuple[tuple[str, int], ...]
) -> tuple[tuple[Operation, ...], int]:
    """The operations on registers (the arrays, then scratch) instead of values, and the number of scratch registers.

    `results` are pairs (array, the value that it receives). The structure of a rule alone decides, so the allocation
    of the first step serves later ones.
    """
    destination = {value: names.index(name) for name, value in results}
    last_use = {source: k for k, operation in enumerate(operations) for source in operation.sources}
    for array, name in enumerate(names):
        if array in last_use and name != "g" and array not in destination.values():
            raise ValueError(f"the update rule reads {name!r}, which it does not return and so would not be kept")

    register = {array: array for array in range(len(names))}
    used = len(names)
    free: list[int] = []
    allocated: list[Operation] = []
    copies: list[Operation] = []
    for k, (function, sources, value) in enumerate(operations):
        operands = tuple(register.get(source, source) for source in sources)
        dead = {source for source in sources if source >= len(names) and last_use[source] == k} - destination.keys()
        free += [register[source] for source in dead]
        if value in destination and last_use.get(destination[value], k) <= k:
            target = destination[value]
        elif free:
            target = free.pop()
        else:
            target, used = used, used + 1
        if value in destination and target != destination[value]:
            copies.append(Operation("positive", (target,), destination[value]))
        register[value] = target
        allocated.append(Operation(function, operands, target))
    return (*allocated, *copies), used - len(names)


class UpdateRule:
    """An update rule at one setting of its hyperparameters, compiled; it runs on any number of parameters.

    `names` are the arrays of the rule's signature in order: p, g, then state. The rule returns a dictionary
    from name to new value. What it returns besides p is its state; other state arrays need not exist.
    """

    def __init__(self, rule: Callable[..., dict], names: tuple[str, ...], settings: Mapping[str, Any]):
        trace = UpdateTrace(len(names))
        arrays = [SymbolicArray(trace, number) for number in range(len(names))]
        receiver: dict[int, str] = {}
        for name, array in rule(*arrays, **settings).items():
            if array.value < len(names) or array.value in receiver:
                array = trace.record("positive", array)  # a copy, as in `velocity = g`
            receiver[array.value] = name
        results = tuple((name, value) for value, name in receiver.items())
        self.state = tuple(name for name, _ in results if name != "p")
        self._names = names
        self._operations, self._scratch = allocate_registers(names, tuple(trace.operations), results)
        self._constants = trace.constants[::-1]  # the last registers, so that ~i finds constant i
        self._functions: tuple[Any, list] = None, []  # the backend that was used last, and its functions

    def run(self, arrays: Mapping[str, Any], scratch: Scratch, waiting: NativeUpdates | None = None) -> None:
        """Apply the rule: all arrays but g receive their new values, in place, now or when those that wait are run."""
        p = arrays["p"]
        if not p.size:
            return
        backend, xp = backend_of(p), xp_of(p)
        # p also stands in for arrays that the rule neither returns nor reads.
        operands = [arrays.get(name, p) for name in self._names]
        if update_in_one_kernel(self._operations, operands, self._constants[::-1]):
            return
        if waiting is not None and waiting.add(self._operations, operands, self._constants[::-1]):
            return
        if self._functions[0] is not backend:
            self._functions = backend, [backend.function_with_out(op.function) for op in self._operations]
        if not p.shape:
            operands = [xp.reshape(array, (1,)) for array in operands]
        rows = operands[0].shape[0]
        width = p.size // rows
        tile = min(rows, max(1, TILE // width)) if backend.is_host else rows
        buffers = scratch.take(p, self._scratch, tile * width)
        for start in range(0, rows, tile):
            registers = [array[start : start + tile, ...] for array in operands]
            shape, size = registers[0].shape, registers[0].size
            registers += [xp.reshape(buffers[i, :size], shape) for i in range(self._scratch)]
            registers += self._constants
            for function, (_, sources, target) in zip(self._functions[1], self._operations):
                function(*[registers[source] for source in sources], out=registers[target])
        if not backend.is_host:
            record_launches(len(self._operations), "an update rule")  # one launch per operation: a device gets no tiles


class Scratch:
    """Scratch buffers that are reused from step to step, and reallocated when larger ones are needed."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, Any, int], Any] = {}

    def take(self, like: Any, count: int, size: int) -> Any:
        """`count` buffers of at least `size` elements each, as one array of the dtype and on the backend of `like`."""
        backend = backend_of(like)
        key = backend.name, like.dtype, count
        if key not in self._buffers or self._buffers[key].shape[1] < size:
            self._buffers[key] = backend.empty((count, size), like.dtype)
        return self._buffers[key]
