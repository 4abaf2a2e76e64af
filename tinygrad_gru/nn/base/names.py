"""Methods of Module by PyTorch's names, each a line of those by ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...tensor import Tensor


class PyTorchNames:
    """Methods of Module by PyTorch's names."""

    def buffers(self: Any) -> Iterator[Tensor]:
        """Yield all buffers."""
        return (tensor for _, tensor in self.named_buffers())

    def register_buffer(self: Any, name: str, tensor: Any) -> None:
        """Set a constant, an array too, as an attribute that is saved and moved along, as assigning a Tensor does.

        >>> model = nn.Module()
        >>> model.register_buffer("mean", np.zeros(3))
        >>> list(model.state_dict())
        ['mean']
        """
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
