"""Function transformations: grad, vjp, jvp, hvp, jacobian, hessian, and remat (recomputation).

All use the backward walk over a recorded function (`tape.walk`), and work to any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import ops
from .backend import RandomStream, as_array, backend_of, drawing_from, random_state
from .contexts import enable_grad
from .cotangents import summed_by_node
from .fingerprint import Digest, fingerprint
from .ops.multi_output import record_multi_output
from .ops.op import unwrap
from .tape import Node, TapeError, Variable, history, inspector, leaf, name_of, walk
from .tensor import Tensor, cotangent_node, initial_cotangent
from .writes import tick


def grad(
    outputs: Variable | Sequence[Variable],
    inputs: Variable | Sequence[Variable] | None = None,
    cotangents: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> Any:
    """The gradients of `outputs` with respect to `inputs`, returned; no tensor's `grad` is changed.

    For one input its gradient, for a sequence a tuple. `cotangents` weigh the outputs as in `Tensor.backward`, one for
    each. An input that did not lead to the outputs is an error, or gives None with `allow_unused`.

    >>> x, w = Tensor(3.0, requires_grad=True), Tensor(2.0, requires_grad=True)
    >>> [g.item() for g in grad(x * x * w, [x, w])]
    [12.0, 9.0]
    """
    roots, targets = _tensors(outputs, "outputs"), _tensors(inputs, "inputs")
    weights = [cotangents] if isinstance(outputs, Variable) else cotangents
    weights = [None] * len(roots) if weights is None else list(weights)
    if len(weights) != len(roots):
        raise ValueError(f"cotangents: expected one for each of the {len(roots)} outputs, got {len(weights)}")
    tensor_type = type(targets[0]) if targets else Variable
    root_nodes = [cotangent_node(root, "grad") for root in roots]
    given = [initial_cotangent(root, weight, create_graph) for root, weight in zip(roots, weights)]
    start = summed_by_node(zip(root_nodes, given), create_graph)
    nodes = [cotangent_node(x, f"grad, inputs[{i}]") for i, x in enumerate(targets)]
    retain_graph = create_graph if retain_graph is None else retain_graph
    gradients = walk(tensor_type, start, frozenset(nodes), create_graph, retain_graph)
    results = []
    for i, (x, node) in enumerate(zip(targets, nodes)):
        gradient = gradients.get(node)
        if gradient is None and not allow_unused:
            raise TapeError(
                f"inputs[{i}] {node!r} did not lead to the outputs; pass allow_unused=True to get None for it"
            )
        if gradient is not None:
            gradient = gradient if create_graph else tensor_type.from_node(as_array(gradient), None)
            dtype = x._data.dtype
            gradient = gradient if gradient._data.dtype == dtype else gradient.astype(dtype)
        results.append(gradient)
    return results[0] if isinstance(inputs, Variable) else tuple(results)


def vjp(function: Callable[..., Any], *primals: Tensor) -> tuple[Tensor, Callable[[Any], tuple[Tensor, ...]]]:
    """y = f(x…), and the function of a cotangent v of y that gives vᵀ ∂y/∂x, one for each x

    A y with one element needs no cotangent (None). The returned function may be called any number of times, and is
    itself recorded, also under no_grad.

    >>> y, apply_vjp = vjp(lambda x: x * x, Tensor([1.0, 2.0]))
    >>> apply_vjp(Tensor([1.0, 10.0]))[0].tolist()
    [2.0, 40.0]
    """
    _check_function(function)
    with enable_grad():
        inputs = [_fresh(x) for x in primals]
        y = function(*inputs)
    if not isinstance(y, Tensor):
        raise TypeError(
            f"function: expected one that returns a Tensor, got {_type(y)} (several: join them, or call it)"
        )

    def apply_vjp(cotangent: Any) -> tuple[Tensor, ...]:
        if y.node is None:
            return tuple(map(_zeros_like, inputs))
        gradients = grad(y, inputs, cotangent, create_graph=True, allow_unused=True)
        return tuple(_zeros_like(x) if g is None else g for x, g in zip(inputs, gradients))

    return y, apply_vjp


def jvp(function: Callable[..., Any], primals: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """y = f(x…), and Σ ∂y/∂x · t, the derivative of y along the tangents t

    Forward mode by two reverse modes: vᵀ J is linear in v, and its derivative with respect to v, weighted by t, is J t.

    >>> y, derivative = jvp(lambda x: x * x, [Tensor([1.0, 2.0])], [Tensor([1.0, 10.0])])
    >>> derivative.tolist()
    [2.0, 40.0]
    """
    for name, value in (("primals", primals), ("tangents", tangents)):
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"{name}: expected a list, one for each argument of the function, got {_type(value)}")
    if len(tangents) != len(primals):
        raise ValueError(f"tangents: expected one for each of the {len(primals)} primals, got {len(tangents)}")
    for i, (x, t) in enumerate(zip(primals, tangents)):
        if not (hasattr(x, "shape") and hasattr(t, "shape")):
            raise TypeError(f"primals and tangents: expected Tensors, got {_type(x)} and {_type(t)} at {i}")
        if tuple(t.shape) != tuple(x.shape):
            raise ValueError(f"tangents[{i}]: expected the shape {tuple(x.shape)} of its primal, got {tuple(t.shape)}")
    y, apply_vjp = vjp(function, *primals)
    v = _fresh(_zeros_like(y))
    pairs = [(g, t) for g, t in zip(apply_vjp(v), tangents) if g.node is not None]
    if not pairs:
        return y, _zeros_like(y)
    gradients, weights = zip(*pairs)
    derivative = grad(list(gradients), v, list(weights), create_graph=True, allow_unused=True)
    return y, _zeros_like(y) if derivative is None else derivative


def hvp(function: Callable[[Tensor], Tensor], x: Tensor, vector: Any) -> Tensor:
    """H v, H = ∂²f/∂x² of a scalar f: the gradient of gᵀ v, g = ∂f/∂x. H itself is never formed.

    >>> hvp(lambda x: (x * x * x).sum(), Tensor([1.0, 2.0]), Tensor([1.0, 0.0])).tolist()
    [6.0, 0.0]
    """
    _check_function(function)
    with enable_grad():
        x = _fresh(x)
        y = _scalar(function(x), "hvp")
    if y.node is None:
        return _zeros_like(x)
    g = grad(y, x, create_graph=True, allow_unused=True)
    if g is None or g.node is None:
        return _zeros_like(x)
    result = grad(g, x, vector, create_graph=True, allow_unused=True)
    return _zeros_like(x) if result is None else result


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """J = ∂f/∂x, of shape f(x).shape + x.shape: one vector–Jacobian product for each element of f(x)

    >>> jacobian(lambda x: x * x, Tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """
    y, apply_vjp = vjp(function, x)
    if not y.size:
        return Tensor(backend_of(y.data).zeros((*y.shape, *x.shape), x.dtype))
    elements = backend_of(y.data).arange(y.size)
    identity = ops.reshape(ops.one_hot(elements, depth=y.size, dtype=y.dtype), shape=(y.size, *y.shape))
    with enable_grad():
        rows = ops.stack([apply_vjp(identity[i, ...])[0] for i in range(y.size)])
        return ops.reshape(rows, shape=(*y.shape, *x.shape))


def hessian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """H = ∂²f/∂x² of a scalar f, of shape x.shape + x.shape: the Jacobian of the gradient

    >>> hessian(lambda x: (x * x * x).sum(), Tensor([1.0, 2.0])).tolist()
    [[6.0, 0.0], [0.0, 12.0]]
    """
    return jacobian(lambda x: vjp(lambda x: _scalar(function(x), "hessian"), x)[1](None)[0], x)


def remat(function: Callable[..., Any], *inputs: Any) -> Any:
    """f(x…) with rematerialisation: only the inputs are kept for backward, which runs f again.

    What f computes takes memory while f runs and while its backward runs, not in between; the price is one more
    forward pass. Random numbers are replayed. Leaves that f closes over, such as a module's parameters, get their
    gradients too. f returns a Tensor or a tuple of Tensors. The recomputation must give what was computed: backward
    raises TapeError if a closure, say, has changed since. PyTorch's name for this, `checkpoint`, is an alias.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> remat(lambda x: x.exp().log(), x).sum().backward()
    >>> x.grad.tolist()
    [1.0, 1.0]
    """
    _check_function(function)
    observer = inspector.get()
    if observer is not None and not observer.recomputes:
        return function(*inputs)
    state, start = random_state(), tick()
    given, arrays = [x.node if isinstance(x, Tensor) else None for x in inputs], [unwrap(x) for x in inputs]
    result = function(*inputs)
    results = list(result) if isinstance(result, (tuple, list)) else [result]
    if not_tensors := [y for y in results if not isinstance(y, Tensor)]:
        raise TypeError(f"remat: the function must return a Tensor or a tuple of Tensors, got {_type(not_tensors[0])}")
    if not any(y.node is not None for y in results):
        return result
    records, ends = history([y.node for y in results], start)
    closed_over = [node for node in ends if node not in given]
    digests = [Digest.of(y.data) for y in results]
    operation = Recomputation(function, state, given, digests, set(ends), fingerprint(records))
    saved = (*arrays, {node: node.grad_state.array for node in closed_over if node.op is None and node.grad_state})
    outputs = record_multi_output(Tensor, operation, (*given, *closed_over), saved, [y.data for y in results])
    outputs = [recorded if y.node is not None else y for recorded, y in zip(outputs, results)]
    return tuple(outputs) if isinstance(result, (tuple, list)) else outputs[0]


checkpoint = remat


class Recomputation:
    """The op of a `remat`: its vjp runs the function again, recorded, and walks back over that.

    Its parents are the nodes of the function's inputs, then those that it closes over. It saves the arrays of the
    inputs and, last, those of the leaves that it closes over, by their nodes.

    given        the nodes of the inputs
    digests      of the outputs
    ends         the nodes that gradients reach from the outputs
    fingerprint  of the records; an enclosing `remat` compares it too
    """

    __name__ = "remat"

    def __init__(
        self, function: Callable[..., Any], state: dict[str, int], given: list[Node | None], digests: list[Digest],
        ends: set[Node], recorded: int,
    ):  # fmt: skip
        self.function = function
        self.state, self.given = state, given
        self.digests, self.ends, self.fingerprint = digests, ends, recorded

    def apply_vjp(self, parents: tuple, saved: tuple, cotangents: list, accumulate: Callable) -> None:
        create_graph = any(isinstance(g, Variable) for g in cotangents)
        *given, leaves = saved
        for node, array in leaves.items():
            if node.grad_state.array is not array:
                raise TapeError(
                    f"{name_of(node)} {node.shape} was given other data after a function under remat had used it, "
                    "which would be recomputed with other values: set data after backward"
                )
        # Also those inputs that this walk leaves out, which `parents` lack, are parts of what is recomputed.
        inputs = [Tensor.from_node(unwrap(x), node) if node is not None else x for x, node in zip(given, self.given)]
        start = tick()
        with drawing_from(RandomStream(**self.state)), enable_grad():
            result = self.function(*inputs)
        results = list(result) if isinstance(result, (tuple, list)) else [result]
        self._check(results, start)
        backward_through(results, cotangents, parents, accumulate, create_graph, start)

    def _check(self, results: list[Tensor], start: int) -> None:
        """Raise TapeError if other values were computed than before, from other tensors or by other rules."""
        records, ends = history([y.node for y in results], start)
        same = len(results) == len(self.digests) and all(
            digest.matches(y.data) for digest, y in zip(self.digests, results)
        )
        if not same or set(ends) != self.ends or fingerprint(records) != self.fingerprint:
            raise TapeError(
                "a function under remat gave other values in backward than in forward, or used other tensors, rules, "
                "settings or hooks: something that it reads has changed since (a variable of a closure, an attribute, "
                "train() or eval())"
            )

    def lift(self, tensor_type: type[Variable], record: Node) -> tuple:
        assert record.saved is not None
        *given, leaves = record.saved
        inputs = zip(given, record.parents)
        return (*(tensor_type.from_node(x, node) if node is not None else x for x, node in inputs), leaves)


def backward_through(
    results: Sequence[Tensor],
    cotangents: Sequence[Any],
    parents: tuple,
    accumulate: Callable,
    create_graph: bool,
    since: int,
) -> None:
    """Carry cotangents back over what was recorded since the time `since`, and accumulate them at the parents."""
    pairs = [(y.node, g) for y, g in zip(results, cotangents) if g is not None and y.node is not None]
    start = summed_by_node(pairs, create_graph)
    for node, gradient in walk(Tensor, start, frozenset(), create_graph, create_graph, since).items():
        if node in parents:
            accumulate(node, gradient)


def _tensors(value: Any, name: str) -> list[Variable]:
    """One tensor or an iterable of them, as a list."""
    tensors = list(value) if isinstance(value, Iterable) and not isinstance(value, Variable) else [value]
    for tensor in tensors:
        if not isinstance(tensor, Variable):
            what = "a function: write y = f(x), then grad(y, x)" if callable(tensor) else type(tensor).__name__
            raise TypeError(f"{name}: expected a tensor or a list of tensors, got {what}")
    return tensors


def _check_function(function: Any) -> None:
    if not callable(function):
        raise TypeError(f"function: expected a function, which comes before its arguments, got {_type(function)}")


def _type(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _fresh(x: Any) -> Tensor:
    """x at a node of its own, to differentiate with respect to: a record that leads to x, or a leaf of a constant."""
    if not isinstance(x, Tensor):
        if not hasattr(x, "dtype"):
            raise TypeError(f"expected a Tensor to differentiate with respect to, got {_type(x)}")
        return Tensor(x, requires_grad=True)
    return ops.reshape(x, shape=x.shape) if x.node is not None else Tensor.from_node(x.data, leaf(x.data))


def _zeros_like(x: Tensor) -> Tensor:
    return Tensor(backend_of(x.data).zeros(x.shape, x.dtype))


def _scalar(y: Tensor, caller: str) -> Tensor:
    if y.size != 1:
        raise TapeError(f"{caller}: the function must return a scalar, got shape {y.shape}")
    return y
