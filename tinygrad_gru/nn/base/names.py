"""Methods of Module by the names of PyTorch and Keras, each a line of those by ours; hints for other names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from ...keywords import AnsweredKeywords, unknown_keyword
from ...tensor import Tensor
from .hints import ARGUMENTS, KEYWORDS, MODULE


class ForeignNames(AnsweredKeywords):
    """Methods of Module by the names of PyTorch and Keras. Names that it has not are answered by `hints`."""

    #: Hints for attributes, for keywords of the constructor, and for those of a call.
    _hints: ClassVar[Mapping[str, str]] = MODULE
    _keyword_hints: ClassVar[Mapping[str, str]] = KEYWORDS
    _argument_hints: ClassVar[Mapping[str, str]] = ARGUMENTS

    def __new__(cls, *inputs: Any, **settings: Any) -> Any:
        if (inputs or settings) and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__} takes no arguments: it has no __init__")
        return super().__new__(cls, *inputs, **settings)

    def _reword(self: Any, error: Exception) -> None:
        """In an error for a keyword that `forward` has not, say what there is instead."""
        unexpected = f"{getattr(self.forward, '__qualname__', '')}() got an unexpected keyword argument '"
        if str(error).startswith(unexpected):
            name, known = str(error).split("'")[1], inspect.signature(self.forward).parameters
            error.args = (str(unknown_keyword(f"a call of {type(self).__name__}", name, self._argument_hints, known)),)

    def __getattr__(self, name: str) -> Any:
        if name in self._hints and not hasattr(type(self), name):
            hint = self._hints[name]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}; here it is {hint}")
        return object.__getattribute__(self, name)  # the error that led here, also one in a property

    def buffers(self: Any) -> Iterator[Tensor]:
        """Yield all buffers."""
        return (tensor for _, tensor in self.named_buffers())

    def register_buffer(self: Any, name: str, tensor: Any, persistent: bool = True) -> None:
        """Set a constant, an array too, as an attribute that is saved and moved along, as assigning a Tensor does.

        One that is not to be saved, persistent=False, is a NumPy array as an attribute, which is not moved either.

        >>> model = nn.Module()
        >>> model.register_buffer("mean", np.zeros(3))
        >>> list(model.state_dict())
        ['mean']
        """
        if not persistent:
            raise ValueError(f"persistent: every buffer is saved; for one that is not write m.{name} = array")
        self._register(name, None if tensor is None else Tensor(tensor))

    def register_parameter(self: Any, name: str, parameter: Tensor | None) -> None:
        """Set a parameter as an attribute, as assigning it does."""
        self._register(name, parameter)

    def add_module(self: Any, name: str, module: Any) -> None:
        """Set a submodule as an attribute, as assigning it does."""
        self._register(name, module)

    def _register(self, name: str, value: Any) -> None:
        if not name.isidentifier():
            raise ValueError(f"name: expected the name of an attribute, got {name!r} (modules by key: nn.ModuleDict)")
        setattr(self, name, value)

    def apply(self: Any, function: Callable[[Any], Any]) -> Any:
        """Call a function with this module and with every submodule, such as one that initialises weights.

        Returns the module.

        >>> def start_at_zero(module):
        ...     if isinstance(module, nn.Linear):
        ...         module.b[:] = 0.0
        >>> with no_grad():
        ...     model = nn.Sequential(nn.Linear(3, 2)).apply(start_at_zero)
        """
        for module in list(self.modules()):
            function(module)
        return self

    @property
    def trainable(self: Any) -> bool:
        """Whether it has parameters that are not frozen; setting it is `unfreeze()` or `freeze()`, as in Keras."""
        return any(parameter.requires_grad for parameter in self.parameters())

    @trainable.setter
    def trainable(self: Any, on: bool) -> None:
        self.requires_grad_(on)

    requires_grad = trainable  # in PyTorch setting it on a module freezes nothing

    def requires_grad_(self: Any, on: bool = True) -> Any:
        """`unfreeze()`, or with False `freeze()`."""
        return self.unfreeze() if on else self.freeze()

    def cuda(self: Any) -> Any:
        """`to("cupy")`"""
        return self.to("cupy")

    def cpu(self: Any) -> Any:
        """`to("numpy")`"""
        return self.to("numpy")

    def float(self: Any) -> Any:
        """`astype("float32")`"""
        return self.astype("float32")

    def double(self: Any) -> Any:
        """`astype("float64")`"""
        return self.astype("float64")

    def half(self: Any) -> Any:
        """`astype("float16")`, to compute with. To train, `train.mixed_precision` keeps the parameters in float32, so
        that small updates are not rounded away."""
        return self.astype("float16")

    def extra_repr(self) -> str:
        """`describe()`, if that is not overridden: the settings that `repr` shows."""
        return ""
