"""Tensor: an array, its gradient, and its place on the tape; its operators and methods are the ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy import array2string

from ..backend import Backend, as_array, astype, backend_of, copy_of, is_floating, move, resolve, xp_of
from ..contexts import recording
from ..html import tensor_html
from ..ops.op import unwrap
from ..tape import GradState, Node, TapeError, Variable, leaf, name_of, walk
from ..writes import writes
from .in_place import InPlace
from .operators import Operators
from .protocols import Protocols, node_of, values_of


class Tensor(InPlace, Operators, Protocols, Variable):
    """An array whose computation is recorded, so that it can be differentiated.

    data           scalars, a nested list, or an array of any backend; copied, so that a later write into the
                   original cannot change recorded values
    requires_grad  whether it is a leaf of the tape, with respect to which gradients are computed
    dtype          as given, or that of `data`; Python floats become float32
    device         "numpy", "cupy", …; by default that of `data` if it is an array, else the default of `use`

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    Tensor([2., 4.], dtype=float32)
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None, device: str | Backend | None = None):
        if not requires_grad and recording.get():
            _check_constant(data)
        elif isinstance(requires_grad, int) and not isinstance(requires_grad, bool):
            raise TypeError(f"requires_grad: expected True or False, got {requires_grad} (a shape? write zeros(shape))")
        if isinstance(data, Variable):
            data = data._data
        is_array = hasattr(data, "dtype")
        backend = resolve(device) if device is not None or not is_array else backend_of(data)
        array = copy_of(move(data, backend)) if is_array else backend.asarray(_scalars(data))
        if not is_floating(array.dtype) and not xp_of(array).isdtype(array.dtype, ("bool", "integral")):
            raise TypeError(f"data: expected real numbers or booleans, got {type(data).__name__} ({array.dtype})")
        if dtype is not None:
            array = astype(array, dtype)
        elif not is_array and is_floating(array.dtype):
            array = astype(array, "float32")
        self._data = array
        self.node = leaf(array) if requires_grad else None

    @property
    def _leaf(self) -> Node | None:
        """The leaf that this tensor is, or was before it was frozen; None for a record or any other constant."""
        if self.node is None:
            return getattr(self, "_frozen", None)
        return self.node if self.node.op is None else None

    def _rebind(self, array: Any) -> None:
        """Replace the array, also in the gradient state of a leaf."""
        self._data = array
        if (node := self._leaf) is not None and node.grad_state is not None:
            node.grad_state.array, node.grad_state.dtype = array, array.dtype

    def _require_leaf(self, caller: str, advice: str) -> None:
        if self.node is not None and self.node.op is not None:
            raise TapeError(f"{caller}: this tensor was computed by {self.node!r}; {advice}")

    # -- the array ---------------------------------------------------------------------------------------------

    @property
    def data(self) -> Any:
        """The array itself. If you write into it, call `mark_changed`; backward may still need the old values.

        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> x.data -= 1.0  # an in-place operator is logged by itself
        >>> x.data
        array([0., 1.], dtype=float32)
        """
        return self._data

    @data.setter
    def data(self, array: Any) -> None:
        if array is self._data:  # an in-place operator such as `t.data += 1`
            self.mark_changed()
            return
        self._require_leaf("data", "it can only be set on a leaf or a constant (detach it)")
        array = as_array(unwrap(array))
        if array.shape != self._data.shape or array.dtype != self._data.dtype:
            raise ValueError(
                f"data: expected shape {self._data.shape} and {self._data.dtype}, got {array.shape} and {array.dtype}"
            )
        self._rebind(array)

    def mark_changed(self) -> None:
        """Log that the array of this leaf or constant was written in place.

        Backward through older records that have saved it, or anything that shares its memory, is then an error.

        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> x.data[0] = 5.0
        >>> x.mark_changed()
        """
        writes.add(self._data, f"{name_of(self.node or self._leaf)} {self.shape}")
        self._require_leaf("mark_changed", "only a leaf or a constant may be written")

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return self._data.shape

    @property
    def dtype(self) -> Any:
        """The dtype of the array, in its library."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    @property
    def device(self) -> str:
        """The name of the array's backend: "numpy", "cupy", …"""
        return backend_of(self._data).name

    def numpy(self) -> Any:
        """A NumPy copy of the values, without the gradient.

        >>> Tensor([1.0, 2.0]).numpy()
        array([1., 2.], dtype=float32)
        """
        host = values_of(self._data)
        return host.copy() if host is self._data else host

    def item(self) -> Any:
        """The only element, as a Python scalar.

        >>> Tensor([[3.0]]).item()
        3.0
        """
        if self._data.size != 1:
            raise ValueError(f"item: expected a tensor with one element, got shape {self.shape}")
        return values_of(self._data).item()

    def tolist(self) -> Any:
        """The values as nested lists of Python scalars."""
        return values_of(self._data).tolist()

    def to(self, device: Any = None, dtype: Any = None) -> Tensor:
        """A copy on another backend: a leaf of a leaf, a constant of a constant; on the same backend the tensor itself.

        A recorded tensor cannot be moved; move the leaves from which it was computed. A dtype, in place of a device or
        after it, is for `astype`, as PyTorch's users write it.

        >>> Tensor([1.0, 2.0]).to("cpu").to("float64").dtype
        dtype('float64')
        """
        if dtype is not None:
            return (self if device is None else self.to(device)).astype(dtype)
        is_name = isinstance(device, str)
        if not isinstance(device, Backend) and (not is_name or backend_of(self._data).dtype(device)):
            return self.astype(device)
        target = resolve(device)
        if target.name == self.device:
            return self
        self._require_leaf("to", f"move its leaves from {self.device!r}, or detach it first")
        return Tensor(self._data, self.requires_grad, device=target)

    def relocate(self, device: str | Backend) -> None:
        """Move this leaf or constant, and its gradient, to another backend in place; older records do not move."""
        self._require_leaf("relocate", "move the leaves from which it was computed")
        target = resolve(device)
        self._rebind(move(self._data, target))
        grad_state = self._leaf.grad_state if self._leaf is not None else None
        if grad_state is not None and grad_state.grad is not None:
            grad_state.grad = Tensor.from_node(move(grad_state.grad._data, target), None)

    # -- the tape ----------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to or through this tensor; settable on a leaf or a constant.

        A leaf for which it was turned off is frozen: its gradient is kept, and no more is added until it is turned on
        again.

        >>> x = Tensor([1.0])
        >>> x.requires_grad = True
        >>> (2 * x).requires_grad
        True
        """
        return node_of(self) is not None

    @requires_grad.setter
    def requires_grad(self, on: bool) -> None:
        self._require_leaf("requires_grad", "use detach() to cut it from the tape")
        node = self._leaf
        if node is None:
            self.node = leaf(self._data) if on else None
            return
        assert node.grad_state is not None
        node.grad_state.keep = on
        self.node, self._frozen = (node, None) if on else (None, node)

    def requires_grad_(self, on: bool = True) -> Tensor:
        """Turn `requires_grad` on or off; returns the tensor."""
        self.requires_grad = on
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no op computed it: a constant, or where gradients accumulate."""
        return (node := node_of(self)) is None or node.op is None

    @property
    def is_frozen(self) -> bool:
        """Whether it required a gradient until `requires_grad` was turned off."""
        return self.node is None and self._leaf is not None

    @property
    def name(self) -> str | None:
        """The name of this tensor in reports, None if it was given none."""
        return self.node.grad_state.name if self.node is not None and self.node.grad_state is not None else None

    @name.setter
    def name(self, name: str) -> None:
        self._state("name").name = name

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward has accumulated here, None if there is none; of the tensor's shape and dtype."""
        return self.node.grad_state.grad if self.node is not None and self.node.grad_state is not None else None  # type: ignore[return-value]

    @grad.setter
    def grad(self, gradient: Tensor | None) -> None:
        grad_state = self._state("grad")
        if gradient is not None and not isinstance(gradient, Tensor):
            raise TypeError(f"grad: expected a Tensor or None, got {type(gradient).__name__}")
        if gradient is not None and (gradient.shape != self.shape or gradient.dtype != self.dtype):
            raise ValueError(
                f"grad: expected shape {self.shape} and {self.dtype}, got {gradient.shape} and {gradient.dtype}"
            )
        grad_state.grad = gradient

    def zero_grad(self) -> None:
        """Set the gradient to None, also that of a frozen leaf."""
        node = self._leaf or self.node
        if node is not None and node.grad_state is not None:
            node.grad_state.grad = None

    def retain_grad(self) -> Tensor:
        """Have backward keep the gradient of this recorded tensor, too; returns the tensor.

        >>> x = Tensor(3.0, requires_grad=True)
        >>> y = (2 * x).retain_grad()
        >>> (y * y).backward()
        >>> y.grad.item()
        12.0
        """
        self._state("retain_grad").keep = True
        return self

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Have backward call `hook` with the complete gradient; a Tensor that it returns replaces the gradient.

        Returns a function that removes the hook.

        >>> x = Tensor(3.0, requires_grad=True)
        >>> remove = x.register_hook(lambda gradient: 10 * gradient)
        >>> (2 * x).backward()
        >>> x.grad.item()
        20.0
        """
        hooks, key = self._state("register_hook").hooks, object()
        hooks[key] = hook

        def remove() -> None:
            hooks.pop(key, None)

        return remove

    def _state(self, caller: str) -> GradState:
        """The gradient state of this tensor's node, added to a record that has none."""
        if self.node is None:
            raise TapeError(f"{caller}: this tensor is a constant and will have no gradient (requires_grad=True?)")
        if self.node.grad_state is None:
            self.node.grad_state = GradState(self.dtype, keep=False)
        return self.node.grad_state

    def detach(self) -> Tensor:
        """The same array as a constant, cut from the tape.

        >>> x = Tensor(3.0, requires_grad=True)
        >>> (x * x.detach()).backward()  # the second factor counts as a constant
        >>> x.grad.item()
        3.0
        """
        return Tensor.from_node(self._data, None)

    def backward(self, cotangent: Any = None, create_graph: bool = False, retain_graph: bool | None = None) -> None:
        """Add the gradient of this tensor to the `grad` of every leaf that led to it.

        cotangent     v, of the shape of this tensor y: the gradients are vᵀ · ∂y/∂leaf. A scalar needs none
        create_graph  record the backward pass too, so that the gradients can be differentiated again
        retain_graph  keep the residuals of the records, for a second backward (default: as `create_graph`)

        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).backward(Tensor([1.0, 10.0]))
        >>> x.grad.tolist()
        [2.0, 40.0]

        With `create_graph` a leaf holds a gradient whose record leads back to the leaf, a cycle that lasts until the
        gradient is cleared; `grad` returns its gradients and makes none.
        """
        start = {cotangent_node(self, "backward"): initial_cotangent(self, cotangent, create_graph)}
        retain_graph = create_graph if retain_graph is None else retain_graph
        for node, gradient in walk(type(self), start, frozenset(), create_graph, retain_graph).items():
            if node.grad_state is not None and node.grad_state.keep:
                node.grad_state.accumulate(gradient if create_graph else type(self).from_node(as_array(gradient), None))

    def __repr__(self) -> str:
        body = array2string(values_of(self._data), separator=", ", prefix="Tensor(")
        node = "" if self.node is None else ", requires_grad=True"
        if self.node is not None and self.node.op is not None:
            node = f", op={self.node.op.__name__}"
        device = "" if self.device == "numpy" else f", device={self.device!r}"
        return f"Tensor({body}, dtype={self.dtype}{device}{node})"

    def _repr_html_(self) -> str:
        return tensor_html(self, array2string(values_of(self._data), threshold=100, precision=4))


def cotangent_node(tensor: Variable, caller: str) -> Node:
    """The node of a tensor, where cotangents are given or requested."""
    if tensor.node is None:
        raise TapeError(
            f"{caller}: this tensor is a constant; no tensor that requires a gradient led to it "
            "(made under no_grad, detached, or requires_grad=True was forgotten?)"
        )
    return tensor.node


def initial_cotangent(root: Variable, cotangent: Any, create_graph: bool) -> Any:
    """The cotangent of `root` as the walk takes it: an array, with `create_graph` a Tensor; for a scalar None is 1."""
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
        raise TapeError(f"cotangent: expected the shape of the differentiated tensor, {shape}, got {array.shape}")
    if array.dtype != root._data.dtype:
        array = astype(array, root._data.dtype)
    if not create_graph:
        return array
    if not isinstance(cotangent, Variable):
        return type(root).from_node(array, None)
    return cotangent if cotangent._data is array else cotangent.astype(array.dtype)  # type: ignore[attr-defined]


def _check_constant(data: Any) -> None:
    """Raise TapeError for data that would lose gradients in a new constant: Tensors on the tape, alone or in lists."""
    if isinstance(data, (list, tuple)):
        for part in data:
            _check_constant(part)
    elif isinstance(data, Variable) and data.node is not None:
        raise TapeError(
            "data: a new constant of a tensor that requires a gradient would lose it: write ops.stack([…]) for a "
            "stack of tensors, .detach() for the values alone, or requires_grad=True for a new leaf"
        )


def _scalars(value: Any) -> Any:
    """A nested list with the values of the one-element tensors in it."""
    if isinstance(value, (list, tuple)):
        return [_scalars(part) for part in value]
    return value.item() if isinstance(value, Tensor) else value
