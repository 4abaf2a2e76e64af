"""Update rules written as mathematics, run in place.

An optimizer states its rule once, in the symbols of its paper:

    m = beta1 * m + (1 - beta1) * g

On arrays, every operator of that line would allocate. So the rule is read once a step on `Symbol`s, which
write down what is asked of them; `plan` decides where each result goes (home, once nobody needs the old value
any more, else to a scratch buffer that is free), and the list runs with `out=`. Hyperparameters are plain
numbers while a rule is read: it may compute with them and branch on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ..backend import backend_of, record_launches, xp_of
from .update_kernel import update_in_one_kernel

#: Elements that a rule works on at a time on the host: few enough for its operands to stay in the cache.
TILE = 65536


class Operation(NamedTuple):
    """A function of the array namespace, where it reads and where it writes; ~i names constant i."""

    function: str
    sources: tuple[int, ...]
    target: int


class Reading:
    """What a rule asks for. Values are numbered: first the arrays that it is given, then its results."""

    def __init__(self, arrays: int):
        self.arrays = arrays
        self.operations: list[Operation] = []
        self.constants: list[float] = []

    def record(self, function: str, *operands: Symbol | float) -> Symbol:
        sources = tuple(x.value if isinstance(x, Symbol) else self._constant(x) for x in operands)
        target = self.arrays + len(self.operations)
        self.operations.append(Operation(function, sources, target))
        return Symbol(self, target)

    def _constant(self, number: float) -> int:
        self.constants.append(float(number))  # a NumPy scalar would promote float32 arithmetic to float64
        return ~(len(self.constants) - 1)


class Symbol:
    """Stands for an array while a rule is read.

    Terms and factors that change nothing are left out: `g + weight_decay * p` is free without weight decay.
    """

    __slots__ = ("reading", "value")
    __array_ufunc__ = None  # a NumPy scalar on the left leaves the operation to the symbol

    def __init__(self, reading: Reading, value: int):
        self.reading = reading
        self.value = value

    def __add__(self, other: Symbol | float) -> Symbol:
        return self if _is_number(other, 0) else self.reading.record("add", self, other)

    def __sub__(self, other: Symbol | float) -> Symbol:
        return self if _is_number(other, 0) else self.reading.record("subtract", self, other)

    def __rsub__(self, other: float) -> Symbol:
        return self.reading.record("subtract", other, self)

    def __mul__(self, other: Symbol | float) -> Any:
        if _is_number(other, 0):
            return 0.0
        return self if _is_number(other, 1) else self.reading.record("multiply", self, other)

    def __truediv__(self, other: Symbol | float) -> Symbol:
        return self if _is_number(other, 1) else self.reading.record("divide", self, other)

    def __rtruediv__(self, other: float) -> Symbol:
        return self.reading.record("divide", other, self)

    __radd__ = __add__
    __rmul__ = __mul__

    def __bool__(self) -> bool:
        raise TypeError("an update rule cannot branch on the elements of an array: use maximum or arithmetic")


def _is_number(operand: Symbol | float, number: int) -> bool:
    return not isinstance(operand, Symbol) and operand == number


def sqrt(x: Symbol) -> Symbol:
    """√x, element by element."""
    return x.reading.record("sqrt", x)


def maximum(x: Symbol, other: Symbol | float) -> Symbol:
    """The larger of the two, element by element."""
    return x.reading.record("maximum", x, other)


@lru_cache(maxsize=256)
def plan(
    names: tuple[str, ...], operations: tuple[Operation, ...], results: tuple[tuple[str, int], ...]
) -> tuple[tuple[Operation, ...], int]:
    """The operations on registers (the arrays, then scratch), not values; and how much scratch they need.

    `results` are pairs (array, the value that it receives). A rule's structure alone decides, so that the
    plan of the first step serves the later ones.
    """
    home = {value: names.index(name) for name, value in results}
    last_read = {source: k for k, operation in enumerate(operations) for source in operation.sources}
    for array, name in enumerate(names):
        if array in last_read and name != "g" and array not in home.values():
            raise ValueError(f"the update rule reads {name!r}, which it does not return and so does not keep")

    register = {array: array for array in range(len(names))}
    used = len(names)
    free: list[int] = []
    planned: list[Operation] = []
    moves: list[Operation] = []
    for k, (function, sources, value) in enumerate(operations):
        places = tuple(register.get(source, source) for source in sources)
        done = {source for source in sources if source >= len(names) and last_read[source] == k} - home.keys()
        free += [register[source] for source in done]
        if value in home and last_read.get(home[value], k) <= k:
            target = home[value]
        elif free:
            target = free.pop()
        else:
            target, used = used, used + 1
        if value in home and target != home[value]:
            moves.append(Operation("positive", (target,), home[value]))
        register[value] = target
        planned.append(Operation(function, places, target))
    return (*planned, *moves), used - len(names)


class Program:
    """One update rule at one setting of its hyperparameters, ready to run on any number of parameters.

    `names` are the arrays of the rule's signature in order: p, g, then state. The rule returns a dictionary
    from name to new value. What it returns beside p is the state that it keeps; other state need not exist.
    """

    def __init__(self, rule: Callable[..., dict], names: tuple[str, ...], settings: Mapping[str, Any]):
        reading = Reading(len(names))
        symbols = [Symbol(reading, place) for place in range(len(names))]
        receiver: dict[int, str] = {}
        for name, value in rule(*symbols, **settings).items():
            if value.value < len(names) or value.value in receiver:
                value = reading.record("positive", value)  # a plain copy, as in `velocity = g`
            receiver[value.value] = name
        results = tuple((name, value) for value, name in receiver.items())
        self.state = tuple(name for name, _ in results if name != "p")
        self._names = names
        self._operations, self._scratch = plan(names, tuple(reading.operations), results)
        self._constants = reading.constants[::-1]  # the last registers, so that ~i finds constant i

    def run(self, arrays: Mapping[str, Any], scratch: Scratch) -> None:
        """Apply the rule: all arrays but g receive their new values, in place."""
        p = arrays["p"]
        if not p.size:
            return
        home, xp = backend_of(p), xp_of(p)
        # p also fills the places of arrays that the rule neither keeps nor reads.
        operands = [arrays.get(name, p) for name in self._names]
        if update_in_one_kernel(self._operations, operands, self._constants[::-1]):
            return
        operations = [(home.writing(name), sources, target) for name, sources, target in self._operations]
        if not p.shape:
            operands = [xp.reshape(array, (1,)) for array in operands]
        rows = operands[0].shape[0]
        width = p.size // rows
        tile = min(rows, max(1, TILE // width)) if home.is_host else rows
        buffers = scratch.take(p, self._scratch, tile * width)
        for start in range(0, rows, tile):
            registers = [array[start : start + tile, ...] for array in operands]
            shape, size = registers[0].shape, registers[0].size
            registers += [xp.reshape(buffers[i, :size], shape) for i in range(self._scratch)]
            registers += self._constants
            for function, sources, target in operations:
                function(*[registers[source] for source in sources], out=registers[target])
        if not home.is_host:
            record_launches(len(operations), "an update rule")  # on a device each is one: it gets no tiles


class Scratch:
    """Buffers that outlive a step, made anew only when larger ones are asked for."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, Any, int], Any] = {}

    def take(self, like: Any, number: int, size: int) -> Any:
        """An array of `number` buffers of at least `size` elements each, of the dtype and on the backend of `like`."""
        home = backend_of(like)
        key = home.name, like.dtype, number
        if key not in self._buffers or self._buffers[key].shape[1] < size:
            self._buffers[key] = home.empty((number, size), like.dtype)
        return self._buffers[key]
