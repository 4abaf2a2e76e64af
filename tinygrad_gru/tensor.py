"""Tensor: an array, its gradient, and its place on the tape; operators and methods are the ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from numpy import array2string

from . import ops
from .backend import Backend, as_array, astype, backend_of, copy_of, is_floating, move, resolve, to_host, xp_of
from .ops.op import unwrap
from .tape import GradState, Node, TapeError, Variable, backward, leaf, name_of, recording
from .writes import writes


class Tensor(Variable):
    """An array that remembers how it was made.

    data           numbers, a nested list, or an array of any backend; copied, so that a later write to what was given
                   cannot change what has been recorded
    requires_grad  whether gradients with regard to it are wanted: it becomes a leaf of the tape
    dtype          as given, or that of `data`; Python floats become float32
    device         "numpy", "cupy", …; where `data` lives already, else the default of `use`
    """

    __slots__ = ()
    __array_ufunc__ = None  # array * tensor is ours to answer

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None, device: str | Backend | None = None):
        if isinstance(data, Variable):
            data = data._data
        is_array = hasattr(data, "dtype")
        home = resolve(device) if device is not None or not is_array else backend_of(data)
        array = copy_of(move(data, home)) if is_array else home.asarray(_numbers(data))
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
        """The leaf that it is, or was before it was frozen; None for a record or any other constant."""
        return getattr(self, "_frozen", None) if self.node is None else self.node if self.node.op is None else None

    def _rebind(self, array: Any) -> None:
        """Show another array from now on."""
        self._data = array
        if (place := self._leaf) is not None and place.grad_state is not None:
            place.grad_state.array, place.grad_state.dtype = array, array.dtype

    # -- the array ---------------------------------------------------------------------------------------------

    @property
    def data(self) -> Any:
        """The array itself. Write into it only outside of what backward still needs, and call `mark_changed` after."""
        return self._data

    @data.setter
    def data(self, array: Any) -> None:
        if array is self._data:  # an in-place operator such as `t.data += 1`
            self.mark_changed()
            return
        if not self.is_leaf:
            raise TapeError(
                f"data: {self.node!r} made this tensor; it can only be set on a leaf or a constant (detach it)"
            )
        array = as_array(unwrap(array))
        if array.shape != self._data.shape or array.dtype != self._data.dtype:
            raise ValueError(
                f"data: expected shape {self._data.shape} and {self._data.dtype}, got {array.shape} and {array.dtype}"
            )
        self._rebind(array)

    def mark_changed(self) -> None:
        """Say that the array of this leaf or constant was written in place.

        Backward through older records that have saved it, or anything that shares memory with it, will then refuse.
        """
        writes.note(self._data, f"{name_of(self.node or self._leaf)} {self.shape}")
        if not self.is_leaf:
            raise TapeError(f"mark_changed: {self.node!r} made this tensor; only a leaf or a constant may be written")

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> Any:
        return self._data.dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def device(self) -> str:
        """The name of the backend where the array lives."""
        return backend_of(self._data).name

    def numpy(self) -> Any:
        """A NumPy copy of the values."""
        host = to_host(self._data)
        return host.copy() if host is self._data else host

    def item(self) -> Any:
        """The only element, as a Python number."""
        if self._data.size != 1:
            raise ValueError(f"item: only a tensor with one element is a number, this one has shape {self.shape}")
        return to_host(self._data).item()

    def tolist(self) -> Any:
        return to_host(self._data).tolist()

    def to(self, device: str | Backend) -> Tensor:
        """The same values on another backend: a new leaf if this is one, a constant if this is one.

        A recorded tensor cannot be moved; move the leaves that it was made of.
        """
        target = resolve(device)
        if target.name == self.device:
            return self
        if self.node is not None and self.node.op is not None:
            raise TapeError(f"to: {self.node!r} was recorded on {self.device!r}; move its leaves, or detach it first")
        return Tensor(self._data, self.requires_grad, device=target)

    def relocate(self, device: str | Backend) -> None:
        """Move this leaf or constant itself, and its gradient, to another backend; whoever holds it holds it there.

        What was recorded with it before stays where it was.
        """
        if self.node is not None and self.node.op is not None:
            raise TapeError(f"relocate: {self.node!r} was recorded; move the leaves that it was made of")
        target = resolve(device)
        self._rebind(move(self._data, target))
        grad_state = self._leaf.grad_state if self._leaf is not None else None
        if grad_state is not None and grad_state.grad is not None:
            grad_state.grad = Tensor.from_node(move(grad_state.grad._data, target), None)

    # -- the tape ----------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to or through this tensor; settable on a leaf or a constant.

        A leaf for which it was turned off is frozen: no gradients come to it, and those that it has are kept until it
        is turned on again.
        """
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, on: bool) -> None:
        if self.node is not None and self.node.op is not None:
            raise TapeError(f"requires_grad: {self.node!r} made this tensor; use detach() to cut it from the tape")
        place = self._leaf
        if place is None:
            self.node = leaf(self._data) if on else None
            return
        assert place.grad_state is not None
        place.grad_state.keep = on
        self.node, self._frozen = (place, None) if on else (None, place)

    @property
    def is_leaf(self) -> bool:
        return self.node is None or self.node.op is None

    @property
    def is_frozen(self) -> bool:
        """Whether it required a gradient until `requires_grad` was turned off."""
        return self.node is None and self._leaf is not None

    @property
    def name(self) -> str | None:
        """How reports call this leaf, if it was given a name."""
        return self.node.grad_state.name if self.node is not None and self.node.grad_state is not None else None

    @name.setter
    def name(self, name: str) -> None:
        self._watched("name").name = name

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward has gathered here, None if it has not."""
        return self.node.grad_state.grad if self.node is not None and self.node.grad_state is not None else None  # type: ignore[return-value]

    @grad.setter
    def grad(self, gradient: Tensor | None) -> None:
        grad_state = self._watched("grad")
        if gradient is not None and not isinstance(gradient, Tensor):
            raise TypeError(f"grad: expected a Tensor or None, got {type(gradient).__name__}")
        if gradient is not None and (gradient.shape != self.shape or gradient.dtype != self.dtype):
            raise ValueError(
                f"grad: expected shape {self.shape} and {self.dtype}, got {gradient.shape} and {gradient.dtype}"
            )
        grad_state.grad = gradient

    def zero_grad(self) -> None:
        """Forget the gradient; of a frozen leaf, too."""
        place = self._leaf or self.node
        if place is not None and place.grad_state is not None:
            place.grad_state.grad = None

    def retain_grad(self) -> Tensor:
        """Keep the gradient of this recorded tensor too in backward; returns the tensor."""
        self._watched("retain_grad").keep = True
        return self

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call `hook` with the whole gradient when it arrives here; what it returns, if anything, takes its place.

        Returns a function that removes the hook.
        """
        hooks, key = self._watched("register_hook").hooks, object()
        hooks[key] = hook

        def remove() -> None:
            hooks.pop(key, None)

        return remove

    def _watched(self, caller: str) -> Any:
        if self.node is None:
            raise TapeError(f"{caller}: this tensor is a constant and will have no gradient (requires_grad=True?)")
        if self.node.grad_state is None:
            self.node.grad_state = GradState(self.dtype, keep=False)
        return self.node.grad_state

    def detach(self) -> Tensor:
        """The same array as a constant, cut from the tape."""
        return Tensor.from_node(self._data, None)

    def backward(self, cotangent: Any = None, create_graph: bool = False, retain_graph: bool | None = None) -> None:
        """Add the gradient of this tensor to the `grad` of every leaf that led to it (see `tape.backward`)."""
        backward(self, cotangent, create_graph, retain_graph)

    # -- operators ---------------------------------------------------------------------------------------------

    __add__ = ops.add
    __sub__ = ops.subtract
    __mul__ = ops.hadamard
    __truediv__ = ops.divide
    __matmul__ = ops.matmul
    __pow__ = ops.power
    __neg__ = ops.negative
    __abs__ = ops.absolute
    __lt__ = ops.less
    __le__ = ops.less_equal
    __gt__ = ops.greater
    __ge__ = ops.greater_equal
    __radd__ = __add__
    __rmul__ = __mul__
    __hash__ = object.__hash__

    def __eq__(self, other: Any) -> Any:
        return ops.equal(self, other)

    def __ne__(self, other: Any) -> Any:
        return ops.not_equal(self, other)

    def __rsub__(self, other: Any) -> Any:
        return ops.subtract(other, self)

    def __rtruediv__(self, other: Any) -> Any:
        return ops.divide(other, self)

    def __rmatmul__(self, other: Any) -> Any:
        return ops.matmul(other, self)

    def __rpow__(self, other: Any) -> Any:
        return ops.power(other, self)

    def __getitem__(self, index: Any) -> Any:
        return ops.getitem(self, index=index)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Write into a constant (into a copy, so that no record is disturbed), or under no_grad into a leaf."""
        if self.node is not None and (self.node.op is not None or recording.get()):
            raise TapeError(
                "a tensor that requires a gradient cannot be written in place: use where or scatter_add, which are "
                "recorded" + ("" if self.node.op is not None else ", or write under no_grad()")
            )
        if isinstance(value, Variable) and value.node is not None and recording.get():
            raise TapeError("a recorded value cannot be written into a tensor: its gradient would be lost (see where)")
        if self.node is None:
            self._rebind(copy_of(self._data))
        self._data[tuple(map(unwrap, index)) if isinstance(index, tuple) else unwrap(index)] = unwrap(value)
        if self.node is not None:
            self.mark_changed()

    # -- Python's own protocols ------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self.requires_grad:
            raise TypeError("NumPy would lose this tensor's gradient: say tensor.detach().numpy() if that is meant")
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        body = array2string(to_host(self._data), separator=", ", prefix="Tensor(")
        place = (
            ""
            if self.node is None
            else ", requires_grad=True"
            if self.is_leaf
            else f", made by {self.node.op.__name__}"
        )
        device = "" if self.device == "numpy" else f", device={self.device!r}"
        return f"Tensor({body}, dtype={self.dtype}{device}{place})"

    # -- ops as methods --------------------------------------------------------------------------------------------

    exp = ops.exp
    log = ops.log
    sqrt = ops.sqrt
    square = ops.square
    abs = ops.absolute
    sin = ops.sin
    cos = ops.cos
    tanh = ops.tanh
    sigmoid = ops.sigmoid
    relu = ops.relu

    @property
    def T(self) -> Any:  # noqa: N802  (NumPy's name)
        return ops.transpose(self)

    @property
    def mT(self) -> Any:  # noqa: N802
        return ops.matrix_transpose(self)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return ops.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        return ops.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        return ops.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        return ops.min(self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Any = None, keepdims: bool = False) -> Any:
        return ops.prod(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Any = None, keepdims: bool = False, correction: int = 0) -> Any:
        return ops.var(self, axis=axis, keepdims=keepdims, correction=correction)

    def std(self, axis: Any = None, keepdims: bool = False, correction: int = 0) -> Any:
        return ops.std(self, axis=axis, keepdims=keepdims, correction=correction)

    def norm(self, axis: Any = None, keepdims: bool = False) -> Any:
        return ops.norm(self, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: int) -> Any:
        return ops.cumsum(self, axis=axis)

    def argmax(self, axis: int | None = None) -> Any:
        return ops.argmax(self, axis=axis)

    def argmin(self, axis: int | None = None) -> Any:
        return ops.argmin(self, axis=axis)

    def clip(self, low: Any = None, high: Any = None) -> Any:
        return ops.clip(self, low=low, high=high)

    def reshape(self, *shape: Any) -> Any:
        return ops.reshape(self, shape=_unpacked(shape))

    def transpose(self, *axes: Any) -> Any:
        return ops.transpose(self, axes=_unpacked(axes) or None)

    def moveaxis(self, source: Any, destination: Any) -> Any:
        return ops.moveaxis(self, source=source, destination=destination)

    def expand_dims(self, axis: Any) -> Any:
        return ops.expand_dims(self, axis=axis)

    def squeeze(self, axis: Any = None) -> Any:
        return ops.squeeze(self, axis=axis)

    def broadcast_to(self, shape: tuple[int, ...]) -> Any:
        return ops.broadcast_to(self, shape=shape)

    def astype(self, dtype: Any) -> Any:
        return ops.astype(self, dtype=dtype)

    def softmax(self, axis: int = -1) -> Any:
        return ops.softmax(self, axis=axis)

    def log_softmax(self, axis: int = -1) -> Any:
        return ops.log_softmax(self, axis=axis)


def _unpacked(arguments: tuple) -> tuple:
    """`(2, 3)` of both `f(2, 3)` and `f((2, 3))`."""
    return tuple(arguments[0]) if len(arguments) == 1 and isinstance(arguments[0], (tuple, list)) else arguments


def _numbers(value: Any) -> Any:
    """A nested list in which tensors stand for their values."""
    return (
        [_numbers(v) for v in value]
        if isinstance(value, (list, tuple))
        else value.item()
        if isinstance(value, Tensor)
        else value
    )
