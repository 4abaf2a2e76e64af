"""The tape: the record of each op that ran, in execution order, and the backward walk over it.

A `Variable` is an array and its place on the tape, a `Node`. A node is either a leaf, where gradients accumulate, or
the record of one op: the nodes of its inputs, and the residuals that its rules need. Records point to earlier nodes
and never back, so reference counting alone frees them, and a number that grows with every node puts them in order.
That order, read from its end, is backpropagation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from operator import attrgetter
from threading import Lock
from typing import Any

from .backend import astype, backend_of, is_floating, is_unshared, with_memory_report
from .collector import young_generation
from .completion import watched, with_completions
from .contexts import enable_grad, recording
from .cotangents import Cotangents, Sparse, own_copy
from .html import tape_html
from .writes import stale_record, tick, writes

#: The `Inspector` that observes every op and every rule, None for none.
inspector: ContextVar[Any] = ContextVar("inspector", default=None)
#: Held while a thread replaces an accumulated gradient.
_lock = Lock()


class TapeError(RuntimeError):
    """The tape cannot give the gradient that was requested."""


class Variable:
    """An array (`_data`) and its place on the tape (`node`; None for a constant).

    `_frozen` is the leaf that a constant was before `requires_grad` was turned off; unset if it was none.
    """

    __slots__ = ("_data", "_frozen", "node")
    _data: Any
    _frozen: Node | None
    node: Node | None

    @classmethod
    def from_node(cls, data: Any, node: Node | None) -> Any:
        """The Variable of an array, not copied, at a node of the tape; a constant for None."""
        variable = cls.__new__(cls)
        variable._data = data
        variable.node = node
        return variable

    def __reduce_ex__(self, protocol: Any) -> Any:  # the older protocols know no slots
        return super().__reduce_ex__(max(protocol, 2))


class Node:
    """A place on the tape: the record of one op, or a leaf (`op` is None)."""

    __slots__ = ("grad_state", "number", "op", "parents", "saved", "shape")
    number: int  # its time on the logical clock, by which nodes are ordered
    op: Any  # the op that ran
    parents: tuple[Node | None, ...]  # the node of every input; None for an input that requires no gradient
    saved: tuple | None  # the residuals that the op's rules need; None once backward has used and freed them
    shape: tuple[int, ...]  # of the value
    grad_state: GradState | None  # gradient, hooks and name, on every leaf; on a record None until it is needed

    @classmethod
    def of(cls, op: Any, parents: tuple, saved: tuple, shape: tuple[int, ...], state: GradState | None = None) -> Node:
        node = cls()
        node.number, node.op, node.parents, node.saved = tick(), op, parents, saved
        node.shape, node.grad_state = shape, state
        return node

    def __reduce__(self) -> tuple:
        if self.op is not None:
            raise TapeError(f"{self!r} cannot be copied or pickled, for it is a record: detach() gives a constant")
        return _new_leaf, (self.shape, self.grad_state)

    def __repr__(self) -> str:
        op = "leaf" if self.op is None else self.op.__name__
        sources = f"  <-  {', '.join(map(name_of, self.parents))}" if self.parents else ""
        return f"{name_of(self)} {op} {self.shape}{sources}"


class GradState:
    """The gradient state of a node: the accumulated gradient, hooks, and the name.

    array  the values of a leaf, None for a record
    dtype  of the values, which the gradient takes
    keep   whether `grad` accumulates: always on a leaf that is not frozen, on request elsewhere
    """

    __slots__ = ("array", "dtype", "grad", "hooks", "keep", "name")

    def __init__(self, dtype: Any, keep: bool, array: Any = None):
        self.array = array
        self.dtype = dtype
        self.keep = keep
        self.grad: Variable | None = None
        self.hooks: dict[object, Callable] = {}  # by the key with which each is removed
        self.name: str | None = None

    def accumulate(self, gradient: Variable) -> None:
        """Add to `grad`; nothing is lost if several threads do so at once."""
        while True:
            before = self.grad
            after = gradient if before is None else before + gradient  # type: ignore[operator]
            with _lock:
                if self.grad is before:
                    self.grad = after
                    return

    def run_hooks(self, tensor_type: type[Variable], cotangent: Any, create_graph: bool) -> Any:
        """The complete cotangent of the node in the dtype of its values, after its hooks."""

        def cast(cotangent: Any) -> Any:
            if cotangent.dtype == self.dtype:
                return cotangent
            return cotangent.astype(self.dtype) if create_graph else astype(cotangent, self.dtype)

        cotangent = cast(cotangent)
        if self.hooks:
            cotangent = own_copy(tensor_type, cotangent, create_graph)
        for hook in tuple(self.hooks.values()):
            changed = hook(cotangent if create_graph else tensor_type.from_node(cotangent, None))
            if changed is None:
                continue
            backend = backend_of(cotangent._data if create_graph else cotangent)
            fits = isinstance(changed, Variable) and changed._data.shape == cotangent.shape
            if not (fits and is_floating(changed._data.dtype) and backend_of(changed._data).name == backend.name):
                raise TypeError(
                    f"a hook must return None or a floating-point tensor of shape {cotangent.shape} on "
                    f"{backend.name!r}, got {changed!r}"
                )
            cotangent = cast(changed if create_graph else changed._data)
        return cotangent


def leaf(array: Any) -> Node:
    """A new leaf: the node where gradients with respect to `array` accumulate."""
    if not is_floating(array.dtype):
        raise TypeError(f"only a floating-point tensor can require a gradient, got {array.dtype}: convert it first")
    return _new_leaf(array.shape, GradState(array.dtype, keep=True, array=array))


def _new_leaf(shape: tuple[int, ...], grad_state: GradState) -> Node:
    return Node.of(None, (), (), shape, grad_state)


def name_of(node: Node | None) -> str:
    """The name of a node in reports: the one that it was given, else its number."""
    if node is None:
        return "a constant"
    return node.grad_state.name if node.grad_state and node.grad_state.name else f"#{node.number}"


class Tape(list):
    """A list of records in execution order; prints one per line."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "no record: nothing was recorded, for no input requires a gradient"

    def _repr_html_(self) -> str:
        return tape_html(self, name_of)


def tape(*roots: Variable) -> Tape:
    """The records that led to `roots`, in execution order.

    >>> x = Tensor(3.0, requires_grad=True)
    >>> [record.op.__name__ for record in tape((x * x).exp())]
    ['hadamard', 'exp']
    """
    for root in roots:
        if not isinstance(root, Variable):
            raise TypeError(f"tape: expected Tensors, whose records it lists, got {root!r:.60}")
    return history(root.node for root in roots)[0]


def history(nodes: Iterable[Node | None], since: int = 0) -> tuple[Tape, list[Node]]:
    """The records that led to `nodes`, and the nodes at which they end, both in order.

    The ends are leaves, and nodes older than the time `since`. There is no recursion, so the length is not limited.
    """
    found: list[Any] = list({node for node in nodes if node is not None})
    seen = {None, *found}
    for node in found:  # which grows meanwhile
        if node.number >= since:
            for parent in node.parents:
                if parent not in seen:
                    seen.add(parent)
                    found.append(parent)
    found.sort(key=attrgetter("number"))
    records = Tape([node for node in found if node.op is not None and node.number >= since])
    return records, [node for node in found if node.op is None or node.number < since]


def walk(
    tensor_type: type[Variable],
    start: Mapping[Node, Any],
    wrt: frozenset[Node] = frozenset(),
    create_graph: bool = False,
    retain_graph: bool = False,
    since: int = 0,
) -> dict[Node, Any]:
    """The backward walk: carry cotangents from the nodes where they `start` back to the leaves; return the gradients.

    In reverse execution order the sum at each record is complete when it is visited, and its op's rules give its
    parents their shares. With `wrt` the gradients are those of these nodes, and only what leads to them is visited.
    With `create_graph` the rules run on Variables and are recorded. Nodes older than `since` are ends, as leaves are.
    """
    if create_graph and not recording.get():
        with enable_grad():
            return walk(tensor_type, start, wrt, create_graph, retain_graph, since)
    records, _ = history(start, since)
    young_generation.make_room(len(records))
    path = _path_to(wrt, records) if wrt else None
    checked = _check_saved_arrays(records, path)
    if watched.get() and not (wrt or since or create_graph):
        records = with_completions(records)
    observer = inspector.get()
    cotangents = Cotangents(start, create_graph, observer)
    sums, accumulate = cotangents.sums, cotangents.accumulate
    gradients: dict[Node, Any] = {}
    while records:
        record = records.pop()
        cotangent = sums.pop(record, None)
        if cotangent is None:
            if record.op is None:  # no record is left that leads to its leaf
                gradients |= record.told(_end_gradients(tensor_type, cotangents, record.leaf, since))
            continue
        if type(cotangent) is Sparse:
            cotangent = cotangent.dense()
        if record.grad_state is not None:
            cotangent = record.grad_state.run_hooks(tensor_type, cotangent, create_graph)
            if writes.latest > checked:  # a hook has written in place
                checked = _check_saved_arrays(Tape([*records, record]), path)
            if record.grad_state.keep:
                gradients[record] = own_copy(tensor_type, cotangent, create_graph)
        parents, saved = record.parents, record.saved
        if path is not None:
            if record in wrt:
                gradients[record] = own_copy(tensor_type, cotangent, create_graph)
            parents = tuple([parent if parent in path else None for parent in parents])
            if not any(parents):
                continue
        if saved is None:
            raise TapeError(_freed(record, history(start, since)[0]))
        if create_graph:
            saved = record.op.lift(tensor_type, record)
        try:
            if observer is None:
                record.op.apply_vjp(parents, saved, cotangent, accumulate)
            else:
                observer.backward(record, cotangent)
                observer.apply_vjp(record, parents, saved, cotangent, accumulate)
        except MemoryError as error:
            raise with_memory_report(error) from error
        if not retain_graph:
            record.saved = None
    return gradients | _end_gradients(tensor_type, cotangents, wrt, since)


def _freed(record: Node, records: Tape) -> str:
    """The message for a record that an earlier backward has freed, of those in this walk."""
    text = f"backward has run through {record!r} before and freed its residuals"
    if record is records[-1]:
        return f"{text}: to run it twice, give the first backward retain_graph=True"
    return (
        f"{text}, and what is newer depends on it. A state that is carried over from an earlier step goes on as "
        "`state.detach()` (truncated backpropagation through time); for two losses of one graph, add them, or give the "
        "first backward retain_graph=True"
    )


def _end_gradients(tensor_type: type[Variable], cotangents: Cotangents, wrt: frozenset[Node], since: int) -> dict:
    """The gradients at the ends of the walk: leaves, and nodes older than `since`, whose hooks run elsewhere."""
    gradients: dict[Node, Any] = {}
    for node in [node for node in cotangents.sums if not wrt or node in wrt]:
        is_own = node in cotangents.owned or is_unshared(cotangents.sums, node)
        cotangent = cotangents.sums.pop(node)
        if type(cotangent) is Sparse:
            cotangent = cotangent.dense()
        elif not is_own:
            cotangent = own_copy(tensor_type, cotangent, cotangents.create_graph)
        state = node.grad_state if node.number >= since else None
        if state is not None and (state.hooks or cotangent.dtype != state.dtype):
            cotangent = state.run_hooks(tensor_type, cotangent, cotangents.create_graph)
        if cotangents.observer is not None:
            cotangents.observer.leaf_gradient(node, cotangent)
        gradients[node] = cotangent
    return gradients


def _path_to(wrt: frozenset[Node], records: Tape) -> set[Node]:
    """These nodes and every record from which one of them can be reached."""
    path = set(wrt)
    for record in records:
        if not path.isdisjoint(record.parents):
            path.add(record)
    return path


def _check_saved_arrays(records: Tape, path: set[Node] | None) -> int:
    """Raise TapeError if one of the records is stale (see `writes.stale_record`); returns the time of the check."""
    now = writes.latest
    if reason := stale_record(records, path):
        raise TapeError(reason)
    return now
