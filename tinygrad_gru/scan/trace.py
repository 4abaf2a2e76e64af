"""Trace: the step, run once on symbols, and its backward, run once by the ops' own rules."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import is_floating, is_on_cuda, random_state
from ..tape import Node, Tape, enable_grad, history, leaf, tick, walk
from ..tensor import Tensor
from .listing import Listing, Value
from .plain import parts_of, split_result
from .symbols import Symbol, Untraceable, captured, is_array


class Key:
    """A long key: its hash is computed once."""

    __slots__ = ("hash", "parts")

    def __init__(self, parts: Hashable):
        self.parts, self.hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.parts == other.parts


@dataclass
class Forward:
    """One step, as a listing.

    carry, xs  the values that are read
    new, ys    the values that are made
    captured   the nodes of the tensors from outside that want gradients, in the order in which they were made
    records    what the step left on the tape since the moment `start`
    """

    listing: Listing
    carry: list[Value]
    xs: list[Value]
    new: list[Value]
    ys: list[Value]
    captured: list[Node]
    key: Hashable
    single_y: bool
    start: int
    records: Tape
    inputs: list[Tensor]
    outputs: list[Tensor]


@dataclass
class Backward:
    """The backward of one step, in the same listing.

    cotangents           of each part of the carry and of each y
    carry, xs, captured  the gradients, None where there is none
    """

    cotangents: list[Value]
    carry: list[Value | None]
    xs: list[Value | None]
    captured: list[Value | None]


def trace_forward(step: Callable, carry: Any, xs: Any) -> Forward:
    """Run `step` on symbols in the place of the carry and of one x. Raises Untraceable with the reason it cannot."""
    random_before = random_state()
    listing = Listing(type(parts_of(carry)[0].data))
    start = tick()

    def symbol(kind: str, position: int, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        can_be_run = isinstance(like.data, np.ndarray) or is_on_cuda(like.data)
        if not can_be_run or not isinstance(like.data, listing.arrays):
            raise Untraceable(f"there is no emitter for arrays on {like.device!r}")
        array = Symbol(listing, listing.add(kind, (), tuple(shape), like.dtype, position=position))
        return Tensor.at(array, leaf(array) if is_floating(like.dtype) else None)

    carries = [symbol("carry", i, part, part.shape) for i, part in enumerate(parts_of(carry))]
    reads = [symbol("step", i, x, x.shape[1:]) for i, x in enumerate(_xs(xs))]
    arguments = (
        tuple(carries) if isinstance(carry, tuple) else carries[0],
        tuple(reads) if isinstance(xs, tuple) else reads[0] if reads else None,
    )
    with enable_grad(), _on_symbols():
        new, y = split_result(step(*arguments), carry)
    if random_state() != random_before:
        raise Untraceable("it draws random numbers at every step")
    news, ys = list(parts_of(new)), [y_part for y_part in parts_of(y) if y_part is not None]
    if len(news) != len(carries):
        raise Untraceable("the carry changes its parts")
    for before, after in zip(carries, news):
        if not isinstance(after, Tensor) or after.shape != before.shape or after.dtype != before.dtype:
            raise Untraceable("the carry changes its shape or dtype")
    outputs = [*news, *ys]
    values = [_value(listing, t) for t in outputs]
    inputs = [*carries, *reads]
    own = {t.node for t in inputs}
    records, ends = history(outputs, start)
    captured = [node for node in ends if node not in own]
    for record in records:  # what backward will read of what was computed of weights alone, anew at every call
        for x in record.saved or ():
            _symbolic(listing, x)
    key = Key((listing.key(), tuple(v.number for v in values), _tape_key(records, captured, inputs, outputs)))
    count = len(news)
    return Forward(
        listing, [_value(listing, t) for t in carries], [_value(listing, t) for t in reads], values[:count],
        values[count:], captured, key, not isinstance(y, tuple), start, records, inputs, outputs,
    )  # fmt: skip


def trace_backward(forward: Forward, xs_wanted: Sequence[bool]) -> Backward:
    """Pull symbolic cotangents back through the traced step, to the carry, the captured, and those xs that want one."""
    listing = forward.listing
    for record in forward.records:
        # The rules must see a weight as a symbol too: what they make of it is then made anew at every call.
        record.saved = tuple(_symbolic(listing, x) for x in record.saved or ())
    weights: dict[Node, Any] = {}
    cotangents: list[Value] = []
    for i, output in enumerate(forward.outputs):
        value = listing.add("cotangent", (), output.shape, output.dtype, position=i)
        cotangents.append(value)
        if output.node is not None:
            cotangent = Symbol(listing, value)
            weights[output.node] = weights[output.node] + cotangent if output.node in weights else cotangent
    inputs_wanted = [True] * len(forward.carry) + list(xs_wanted)  # time runs through the carry, whoever started it
    wanted = [t.node for t, needed in zip(forward.inputs, inputs_wanted) if needed and t.node is not None]
    wanted += forward.captured
    with _on_symbols():
        found = walk(Tensor, weights, frozenset(wanted), since=forward.start) if weights and wanted else {}

    def gradient(node: Node | None) -> Value | None:
        array = found.get(node) if node is not None else None
        return None if array is None else _value_of(listing, array)

    gradients = [gradient(t.node) for t in forward.inputs]
    count = len(forward.carry)
    return Backward(cotangents, gradients[:count], gradients[count:], [gradient(node) for node in forward.captured])


@contextmanager
def _on_symbols() -> Iterator[None]:
    """A formula or a rule may ask of an array what a symbol cannot give: then it is run plainly, which will tell."""
    try:
        yield
    except Untraceable:
        raise
    except Exception as error:
        raise Untraceable(f"on symbols it fails with {type(error).__name__}: {error}") from error


def _symbolic(listing: Listing, x: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(_symbolic(listing, part) for part in x)
    return Symbol(listing, captured(listing, x)) if isinstance(x, listing.arrays) else x


def _xs(xs: Any) -> tuple:
    return xs if isinstance(xs, tuple) else () if xs is None else (xs,)


def _value(listing: Listing, tensor: Any) -> Value:
    if not isinstance(tensor, Tensor):
        raise Untraceable(f"it returns a {type(tensor).__name__} where a Tensor is needed")
    return _value_of(listing, tensor.data)


def _value_of(listing: Listing, array: Any) -> Value:
    if isinstance(array, Symbol):
        return array.value
    if not is_array(listing, array):
        raise Untraceable(f"it returns a {type(array).__name__}")
    return captured(listing, array)


def _tape_key(records: Tape, captured: list[Node], inputs: list[Tensor], outputs: list[Tensor]) -> Hashable:
    """Which records the trace made and how they hang together: the listing alone does not say who wants a gradient."""
    names: dict[Any, Any] = {None: None}
    names |= {node: ("captured", i) for i, node in enumerate(captured)}
    names |= {t.node: ("input", i) for i, t in enumerate(inputs) if t.node is not None}
    rows = []
    for i, record in enumerate(records):
        names[record] = i
        rows.append((record.op.__name__, tuple(names.get(parent) for parent in record.parents)))
    return (*rows, tuple(names.get(t.node) for t in outputs))
