"""The tape: what ran, in the order in which it ran, and what each step needs to be differentiated.

A `Variable` is an array and its place on the tape, a `Node`. A node is either a leaf, where gradients are wanted,
or the record of one op: the nodes of its inputs, and what its rules asked to keep. Records point to earlier nodes
and never back, so that memory is freed by reference counting alone, and a number that grows with every node puts
them in order. That order, read from its end, is backpropagation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from operator import attrgetter
from threading import Lock
from typing import Any

from .backend import as_array, astype, backend_of, copy_of, is_floating, with_memory_report, xp_of
from .contexts import Block, block
from .writes import tick, writes

recording: ContextVar[bool] = ContextVar("recording", default=True)
#: Sees every op and every pull while it is set: anomaly mode.
inspector: ContextVar[Any] = ContextVar("inspector", default=None)
#: Held while a sum of gradients takes the place of another, by whatever thread.
_lock = Lock()


class TapeError(RuntimeError):
    """The tape cannot give the gradient that was asked for."""


class Variable:
    """An array (`_data`) and its place on the tape (`node`; None for a constant).

    `_frozen` is the leaf that a constant was before gradients with regard to it were turned off; unset if it was none.
    """

    __slots__ = ("_data", "_frozen", "node")
    _data: Any
    _frozen: Node | None
    node: Node | None

    @classmethod
    def from_node(cls, data: Any, node: Node | None) -> Any:
        variable = cls.__new__(cls)
        variable._data = data
        variable.node = node
        return variable

    def __reduce__(self) -> tuple:
        return _restored, (type(self), self._data, self.node, getattr(self, "_frozen", None))


def _restored(kind: type[Variable], data: Any, node: Node | None, frozen: Node | None) -> Variable:
    """A Variable that was copied or pickled."""
    variable = kind.from_node(data, node)
    variable._frozen = frozen
    return variable


class Node:
    """A place on the tape: the record of one op, or a leaf (`op` is None).

    number   when it was made, among all nodes
    op       which op ran
    parents  the node of every input; None for an input that wants no gradient
    saved    what the op's rules asked to keep; None once backward has used and freed it
    shape    of the value
    watch    what somebody wants to know of the gradient here; None if nobody does
    """

    __slots__ = ("number", "op", "parents", "saved", "shape", "grad_state")

    def __init__(self, number: int, op: Any, parents: tuple, saved: tuple | None, shape: tuple[int, ...]):
        self.number = number
        self.op = op
        self.parents = parents
        self.saved = saved
        self.shape = shape
        self.grad_state: GradState | None = None

    def __reduce__(self) -> tuple:
        if self.op is not None:
            raise TapeError(
                f"{self!r} cannot be copied or pickled, for it is a record of the tape: only leaves and constants can "
                "(detach() gives a constant)"
            )
        return _restored_leaf, (self.shape, self.grad_state)

    def __repr__(self) -> str:
        made_by = "leaf" if self.op is None else self.op.__name__
        sources = f"  <-  {', '.join(map(name_of, self.parents))}" if self.parents else ""
        return f"{name_of(self)} {made_by} {self.shape}{sources}"


def _restored_leaf(shape: tuple[int, ...], grad_state: GradState) -> Node:
    """A leaf that was copied or pickled; its number is of this process."""
    node = Node(tick(), None, (), (), shape)
    node.grad_state = grad_state
    return node


class GradState:
    """What somebody wants to know of the gradient at a node: every leaf has one, a record when it is asked for."""

    __slots__ = ("array", "dtype", "grad", "hooks", "keep", "name")

    def __init__(self, dtype: Any, keep: bool):
        self.dtype = dtype
        self.keep = keep  # whether `grad` is to hold the gradient
        self.grad: Variable | None = None
        self.hooks: dict[object, Callable] = {}  # by what `register_hook` removes them by
        self.array: Any = None  # the values of a leaf
        self.name: str | None = None

    def add_to_grad(self, gradient: Variable) -> None:
        """Add to `grad`; nothing is lost if several threads do so at once."""
        while True:
            before = self.grad
            after = gradient if before is None else before + gradient  # type: ignore[operator]
            with _lock:
                if self.grad is before:
                    self.grad = after
                    return


def name_of(node: Node | None) -> str:
    """How reports call a node: by the name it was given, else by its number."""
    if node is None:
        return "a constant"
    return node.grad_state.name if node.grad_state and node.grad_state.name else f"#{node.number}"


def leaf(array: Any) -> Node:
    """A new leaf: the place where gradients with regard to `array` gather."""
    if not is_floating(array.dtype):
        raise TypeError(f"only a floating-point tensor can require a gradient, got {array.dtype}: convert it first")
    node = Node(tick(), None, (), (), array.shape)
    node.grad_state = GradState(array.dtype, keep=True)
    node.grad_state.array = array
    return node


class Tape(list):
    """Records in the order in which they ran; prints one a line."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))


def tape(*roots: Variable) -> Tape:
    """The records that led to `roots`, in the order in which they ran."""
    return history(roots)[0]


def history(roots: Sequence[Variable], since: int = 0) -> tuple[Tape, list[Node]]:
    """The records that led to `roots`, back to the moment `since`, and the nodes at which they end; both in order."""
    records, ends = _collect([root.node for root in roots if root.node is not None], since)
    return records, sorted(ends, key=attrgetter("number"))


def _collect(roots: Sequence[Node], since: int = 0) -> tuple[Tape, list[Node]]:
    """All records behind `roots`, in order, and the nodes at which they end. No recursion, so any length will do.

    The ends are the leaves, and the nodes that are older than the moment `since`.
    """
    seen = set(roots)
    leaves = [node for node in seen if node.op is None or node.number < since]
    stack = [node for node in seen if node.op is not None and node.number >= since]
    records = Tape()
    while stack:
        record = stack.pop()
        records.append(record)
        for parent in record.parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                (leaves if parent.op is None or parent.number < since else stack).append(parent)
    records.sort(key=attrgetter("number"))
    return records, leaves


class Sparse:
    """A cotangent that is zero outside a few places: a sum of (where, value) pieces, made dense once.

    So the backward of T slices of one tensor costs T small pieces and one dense array, not T dense arrays.
    `assemble(shape, pieces)` makes the dense array; `base` is a dense part of the sum, None where there is none.
    """

    __slots__ = ("assemble", "base", "pieces", "shape")
    __array_ufunc__ = None  # array + Sparse is ours to answer

    def __init__(self, shape: tuple[int, ...], pieces: list[tuple[Any, Any]], assemble: Callable, base: Any = None):
        self.shape = shape
        self.pieces = pieces
        self.assemble = assemble
        self.base = base

    def __add__(self, other: Any) -> Sparse:
        total = Sparse(self.shape, list(self.pieces), self.assemble, self.base)
        total += other
        return total

    __radd__ = __add__

    def __iadd__(self, other: Any) -> Sparse:
        if isinstance(other, Sparse):
            self.pieces += other.pieces
            other = other.base
        if other is not None:
            self.base = other if self.base is None else self.base + other
        return self

    def dense(self) -> Any:
        pieces = self.assemble(self.shape, self.pieces)
        return pieces if self.base is None else self.base + pieces


def walk(
    kind: type[Variable],
    cotangents: dict[Node, Any],
    wanted: frozenset[Node] = frozenset(),
    create_graph: bool = False,
    retain_graph: bool = False,
    since: int = 0,
) -> dict[Node, Any]:
    """Carry cotangents back from the nodes at which they are given; return the gradients of the leaves.

    Each record is visited once, in the reverse of the order in which it ran, and pulls its cotangent back through
    the rules of its op. If any nodes are `wanted`, theirs are the gradients returned, and only what leads to them
    is visited. With `create_graph` the rules run on Variables and are recorded in their turn, else on raw arrays.
    Nodes older than the moment `since` are ends, as leaves are.
    """
    if create_graph and not recording.get():
        with enable_grad():
            return walk(kind, cotangents, wanted, create_graph, retain_graph, since)
    records, _ = _collect(list(cotangents), since)
    path = _path_to(wanted, records) if wanted else None
    _check_unchanged(records, path)
    checked = writes.latest
    owned: set[Node] = set()  # whose sum is an array made by this walk, so that it may be added to in place
    gradients: dict[Node, Any] = {}
    observer = inspector.get()

    def accumulate(node: Node, cotangent: Any) -> None:
        previous = cotangents.get(node)
        if previous is None:
            cotangents[node] = cotangent
            return
        if observer is not None:
            observer.added(previous, cotangent)
        if type(cotangent) is Sparse:  # on the left, for an array or a Variable would not know what to do with it
            if type(previous) is Sparse and node in owned:
                previous += cotangent
            else:
                cotangents[node] = cotangent + previous
                owned.add(node)
        elif node in owned:
            cotangents[node] += cotangent
        else:
            cotangents[node] = previous + cotangent
            if not create_graph or type(previous) is Sparse:
                owned.add(node)

    while records:
        record = records.pop()
        cotangent = cotangents.pop(record, None)
        if cotangent is None:
            continue
        if type(cotangent) is Sparse:
            cotangent = cotangent.dense()
        if record.grad_state is not None:
            cotangent = _arrive(kind, record.grad_state, cotangent, create_graph)
            if writes.latest > checked:  # a hook may have written
                _check_unchanged(Tape([*records, record]), path)
                checked = writes.latest
            if record.grad_state.keep:
                gradients[record] = _own(kind, cotangent, create_graph)
        parents = record.parents
        if path is not None:
            if record in wanted:
                gradients[record] = _own(kind, cotangent, create_graph)
            parents = tuple(parent if parent in path else None for parent in parents)
            if not any(parents):
                continue
        saved = record.saved
        if saved is None:
            raise TapeError(
                f"backward was here before and has freed what {record!r} had saved: to go back through a record "
                "twice, give the first backward retain_graph=True"
            )
        if create_graph:
            saved = record.op.lift(kind, record)
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

    for node, cotangent in cotangents.items():  # only the ends are left
        if wanted and node not in wanted:
            continue
        if type(cotangent) is Sparse:
            cotangent = cotangent.dense()
        elif create_graph or node not in owned:
            cotangent = _own(kind, cotangent, create_graph)
        if node.grad_state is not None and node.number >= since:
            cotangent = _arrive(kind, node.grad_state, cotangent, create_graph)
        if observer is not None:
            observer.arrived(node, cotangent)
        gradients[node] = cotangent
    return gradients


def _own(kind: type[Variable], cotangent: Any, create_graph: bool) -> Any:
    """A gradient with an array of its own: a rule may hand one array to two inputs, and users write into gradients."""
    return kind.from_node(copy_of(cotangent._data), cotangent.node) if create_graph else copy_of(cotangent)


def _arrive(kind: type[Variable], grad_state: GradState, cotangent: Any, create_graph: bool) -> Any:
    """The whole cotangent of a watched node, in its dtype and as its hooks would have it."""

    def fitted(cotangent: Any) -> Any:
        if cotangent.dtype == grad_state.dtype:
            return cotangent
        return cotangent.astype(grad_state.dtype) if create_graph else astype(cotangent, grad_state.dtype)

    cotangent = fitted(cotangent)
    if grad_state.hooks:
        cotangent = _own(kind, cotangent, create_graph)
    for hook in tuple(grad_state.hooks.values()):
        changed = hook(cotangent if create_graph else kind.from_node(cotangent, None))
        if changed is None:
            continue
        home = backend_of(cotangent._data if create_graph else cotangent)
        if (
            not isinstance(changed, Variable)
            or changed._data.shape != cotangent.shape
            or not is_floating(changed._data.dtype)
            or backend_of(changed._data).name != home.name
        ):
            raise TypeError(
                f"a hook must return None or a floating-point tensor of shape {cotangent.shape} on {home.name!r}, "
                f"got {changed!r}"
            )
        cotangent = fitted(changed if create_graph else changed._data)
    return cotangent


def _path_to(wanted: frozenset[Node], records: Tape) -> set[Node]:
    """The wanted nodes and every record from which one of them can be reached."""
    path = set(wanted)
    for record in records:
        if not path.isdisjoint(record.parents):
            path.add(record)
    return path


def _check_unchanged(records: Tape, path: set[Node] | None) -> None:
    """Raise TapeError if an array that one of the records (on the path) has saved was written in place since."""
    if not records or writes.latest < records[0].number:
        return
    known: dict[int, Any] = {}  # the last write into an array, by its identity, for what one op made the next has saved
    for record in records:
        if path is not None and path.isdisjoint(record.parents):
            continue
        if getattr(record.op, "redefined", 0) > record.number:
            raise TapeError(f"{record.op.__name__} was given other rules after {record!r} ran: run it again with them")
        for array in arrays_in(record.saved):
            if id(array) not in known:
                known[id(array)] = writes.last(array)
            write = known[id(array)]
            if write is not None and write.moment > record.number:
                raise TapeError(
                    f"{write.name} was changed in place after {record!r} had saved it, so that "
                    "gradients would be wrong: change it after backward (an optimiser's step, too), or make a new one"
                )


def arrays_in(saved: Any) -> Iterator[Any]:
    """The arrays that a record has saved, alone or in tuples, lists and dictionaries."""
    if isinstance(saved, (tuple, list)):
        for part in saved:
            yield from arrays_in(part)
    elif isinstance(saved, dict):
        yield from arrays_in(list(saved.values()))
    elif hasattr(saved, "dtype") and hasattr(saved, "shape"):
        yield saved


def backward(
    root: Variable, cotangent: Any = None, create_graph: bool = False, retain_graph: bool | None = None
) -> None:
    """Add the gradient of `root` to the `grad` of every leaf that led to it.

    root          what is differentiated; a scalar unless a cotangent is given
    cotangent     its weight, of the shape of `root`: the result is cotangentᵀ · ∂root/∂leaf
    create_graph  record the backward pass too, so that the gradients can be differentiated again
    retain_graph  keep what the records had saved, for a second backward (default: as `create_graph`)

    With `create_graph` a leaf holds a gradient whose record leads back to the leaf, a cycle that lasts until the
    gradient is forgotten; `grad` returns its gradients and makes none.
    """
    start = {_place(root, "backward"): _cotangent(root, cotangent, create_graph)}
    retain_graph = create_graph if retain_graph is None else retain_graph
    for node, gradient in walk(type(root), start, frozenset(), create_graph, retain_graph).items():
        grad_state = node.grad_state
        if grad_state is not None and grad_state.keep:
            gradient = gradient if create_graph else type(root).from_node(as_array(gradient), None)
            grad_state.add_to_grad(gradient)


def grad(
    outputs: Variable | Sequence[Variable],
    inputs: Variable | Sequence[Variable],
    cotangents: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> Any:
    """The gradients of `outputs` with regard to `inputs`, returned; the `grad` of no tensor is touched.

    For one input its gradient, for a sequence a tuple. `cotangents` weighs the outputs as in `backward`, one for
    each. An input that did not lead to the outputs is an error, or gives None with `allow_unused`.
    """
    roots, goals = _variables(outputs, "outputs"), _variables(inputs, "inputs")
    weights = (
        [cotangents]
        if isinstance(outputs, Variable)
        else [None] * len(roots)
        if cotangents is None
        else list(cotangents)
    )
    if len(weights) != len(roots):
        raise ValueError(f"cotangents: expected one for each of the {len(roots)} outputs, got {len(weights)}")
    kind = type(goals[0]) if goals else Variable
    start: dict[Node, Any] = {}
    for root, weight in zip(roots, weights):
        root_place, cotangent = _place(root, "grad"), _cotangent(root, weight, create_graph)
        start[root_place] = start[root_place] + cotangent if root_place in start else cotangent
    places = [_place(goal, f"grad, inputs[{i}]") for i, goal in enumerate(goals)]
    retain_graph = create_graph if retain_graph is None else retain_graph
    gradients = walk(kind, start, frozenset(places), create_graph, retain_graph)
    results = []
    for i, (goal, place) in enumerate(zip(goals, places)):
        gradient = gradients.get(place)
        if gradient is None and not allow_unused:
            raise TapeError(
                f"inputs[{i}] {place!r} did not lead to the outputs; pass allow_unused=True to get None for it"
            )
        if gradient is not None:
            gradient = gradient if create_graph else kind.from_node(as_array(gradient), None)
            dtype = goal._data.dtype
            gradient = gradient if gradient._data.dtype == dtype else gradient.astype(dtype)
        results.append(gradient)
    return results[0] if isinstance(inputs, Variable) else tuple(results)


def _variables(value: Any, name: str) -> list[Variable]:
    """One tensor or a sequence of them, as a list."""
    variables = list(value) if isinstance(value, Iterable) and not isinstance(value, Variable) else [value]
    for variable in variables:
        if not isinstance(variable, Variable):
            raise TypeError(f"{name}: expected a tensor or a list of tensors, got {type(variable).__name__}")
    return variables


def _place(variable: Variable, caller: str) -> Node:
    if variable.node is None:
        raise TapeError(
            f"{caller}: this tensor is a constant; no tensor that requires a gradient led to it "
            "(made under no_grad, detached, or requires_grad=True was forgotten?)"
        )
    return variable.node


def _cotangent(root: Variable, cotangent: Any, create_graph: bool) -> Any:
    """The cotangent in the form in which the walk carries it, checked against `root`."""
    backend, shape = backend_of(root._data), root._data.shape
    if cotangent is None:
        if root._data.size != 1:
            raise TapeError(
                f"backward from a tensor of shape {shape} needs a cotangent of that shape; "
                "only a tensor with one element can do without (did you mean loss.mean() or loss.sum()?)"
            )
        cotangent = xp_of(root._data).reshape(backend.asarray(1.0, root._data.dtype), shape)
    array = cotangent._data if isinstance(cotangent, Variable) else cotangent
    array = backend.asarray(array) if isinstance(array, (int, float, list)) else as_array(array)
    if array.shape != shape:
        raise TapeError(f"cotangent: expected the shape of what is differentiated, {shape}, got {array.shape}")
    if array.dtype != root._data.dtype:
        array = astype(array, root._data.dtype)
    if not create_graph:
        return array
    if not isinstance(cotangent, Variable):
        return type(root).from_node(array, None)
    return cotangent if cotangent._data is array else cotangent.astype(array.dtype)  # type: ignore[attr-defined]


@block
def _set_recording(on: bool) -> Iterator[None]:
    token = recording.set(on)
    try:
        yield
    finally:
        recording.reset(token)


def no_grad() -> Block[None]:
    """In this block (`with no_grad():`) or function (`@no_grad()`) nothing is recorded.

    A generator or a coroutine is decorated, too: nothing is recorded while it runs. A `with` around a `yield` instead
    stays on in whoever reads from the generator.
    """
    return _set_recording(False)


def enable_grad() -> Block[None]:
    """In this block or function ops are recorded, even inside `no_grad`."""
    return _set_recording(True)
