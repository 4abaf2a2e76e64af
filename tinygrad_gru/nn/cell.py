"""Cell: the base class of recurrent cells. A cell is one time step, a pure function of the state and the input.

    carry = cell.step(carry, x)

A cell keeps no state. Its parameters are named as in the equations: W multiplies the input, U the state, b is added.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..backend import backend_of, dtype_name, random_stream
from ..contexts import no_grad
from ..keywords import unknown_keyword
from ..ops import broadcast_to, select, where
from ..scan import pure
from ..scan.protocol import split_output
from ..tensor import Tensor
from ..trees import flatten
from . import init
from .base.recurrent_docs import documented
from .base.recurrent_names import KEYWORDS, RecurrentNames, Signature, keywords_of
from .checks import check_input, check_probability, check_sizes
from .lengths import PADDING_VALUE
from .module import Module, Parameter
from .states import State, check_state_part, joined, state_parts

_RENAMED_METHODS = {"drawn": "sample_noise", "with_drawn": "with_noise", "prepared": "scan_arguments"}


class Cell(RecurrentNames, Module):
    """Recurrent cell: the base class. A subclass creates its parameters and defines `step`; one with several states
    names them in `states`.

    Features of a state other than hidden_size are given by `state_sizes`. `Recurrent.of(MyCell)` is the layer that runs
    a cell over time.

    >>> class LeakyCell(nn.Cell):
    ...     def __init__(self, input_size, hidden_size, *, rate=0.5, **options):
    ...         super().__init__(input_size, hidden_size, **options)
    ...         self.rate, self.W, self.U, self.b = rate, self.new_W(), self.new_U(), self.new_b()
    ...
    ...     def step(self, h, x):
    ...         return (1 - self.rate) * h + self.rate * ops.tanh(x @ self.W + h @ self.U + self.b)
    >>> cell = LeakyCell(3, 8, rate=0.1)
    >>> h = cell(np.ones((4, 3)))            # one step, from the initial state
    >>> cell(np.ones((4, 3)), h).shape
    (4, 8)
    """

    __signature__: Any = Signature()
    states: tuple[str, ...] = ("h",)

    #: Keywords of the constructor. Their defaults are attributes of the class, and `repr` shows those that differ.
    keywords: tuple[str, ...] = ("zoneout",)
    zoneout: float | tuple[float, ...] = 0.0
    #: Further keywords, which change the equations of `step`. A subclass that overrides a `step` must list here those
    #: that its own `step` follows.
    equation_keywords: tuple[str, ...] = ()

    #: The layer class that runs it over time, once there is one (see `Recurrent.of`).
    layer_type: Any

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        learn_initial_state: bool = False,
        dtype: Any = "float32",
        device: Any = None,
        **options: Any,
    ):
        accepted = ("bias", "learn_initial_state", "dtype", "device", *self.accepted_keywords())
        for name in options:
            if name not in accepted:
                raise unknown_keyword(type(self).__name__, name, KEYWORDS, accepted)
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.has_bias, self.learns_initial_state = bias, learn_initial_state
        self._dtype, self._device = dtype, device
        for name, value in options.items():
            setattr(self, self._attribute(name), value)
        self.check_settings()
        zoneout = self.zoneout
        self._zoneout_rates = zoneout if isinstance(zoneout, tuple) else (zoneout,) * len(self.states)
        for state, size in zip(self.states, self.state_sizes) if learn_initial_state else ():
            setattr(self, f"{state}_0", self._vector(0.0, size))

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for old in _RENAMED_METHODS.keys() & vars(cls).keys():
            raise TypeError(f"{cls.__name__}.{old}: the method of Cell is called {_RENAMED_METHODS[old]} now")

    # -- keywords ------------------------------------------------------------------------------------------------

    @classmethod
    def accepted_keywords(cls) -> tuple[str, ...]:
        """The keywords that the constructor accepts; `equation_keywords` only if the class's `step` follows them."""
        order = cls.__mro__
        steps = [base for base in order if "step" in vars(base) and base is not Cell]
        declares = next(base for base in order if "equation_keywords" in vars(base))
        overridden = len(steps) > 1 and order.index(declares) > order.index(steps[0])
        return cls.keywords if overridden else cls.equation_keywords + cls.keywords

    @classmethod
    def option_parameters(cls) -> list[inspect.Parameter]:
        """The keywords of the constructors of the base classes, and `accepted_keywords`."""
        order = [base for base in cls.__mro__[1:] if "__init__" in vars(base) and issubclass(base, RecurrentNames)]
        inherited = {p.name: p for base in order for p in keywords_of(vars(base)["__init__"])}
        defaults = {name: getattr(cls, cls._attribute(name)) for name in cls.accepted_keywords()}
        kind = inspect.Parameter.KEYWORD_ONLY
        return [*inherited.values(), *(inspect.Parameter(n, kind, default=value) for n, value in defaults.items())]

    @classmethod
    def _attribute(cls, keyword: str) -> str:
        """The name of the attribute with the value of a keyword as given: `_activation`, because `activation` is the
        function itself."""
        return f"_{keyword}" if isinstance(getattr(cls, keyword, None), property) else keyword

    def check_settings(self) -> None:
        """Raise ValueError unless the values of the keywords are possible. Called before there are parameters."""
        rates = self.zoneout
        if isinstance(rates, tuple) and len(rates) != len(self.states):
            raise ValueError(f"zoneout: expected a number, or one for each of {self.states}, got {rates!r}")
        for rate in rates if isinstance(rates, tuple) else (rates,):
            check_probability(zoneout=rate)

    def settings(self) -> dict[str, Any]:
        """The values of the keywords, as they were given."""
        return {name: getattr(self, self._attribute(name)) for name in self.equation_keywords + self.keywords}

    def changed_settings(self) -> list[str]:
        """The keywords whose values are not the default, as `name=value`."""
        defaults = {name: getattr(type(self), self._attribute(name)) for name in self.settings()}
        changed = {name: value for name, value in self.settings().items() if value != defaults[name]}
        return [
            *([] if self.has_bias else ["bias=False"]),
            *(["learn_initial_state=True"] if self.learns_initial_state else []),
            *(f"{name}={getattr(value, '__name__', repr(value))}" for name, value in changed.items()),
        ]

    def describe(self) -> str:
        return ", ".join([str(self.input_size), str(self.hidden_size), *self.changed_settings()])

    # -- sizes and parameters ------------------------------------------------------------------------------------

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Features of each state."""
        return (self.hidden_size,) * len(self.states)

    @property
    def output_size(self) -> int:
        """Features of an output: those of the first state, which is the output unless `step` returns another."""
        return self.state_sizes[0]

    def new_W(self) -> Tensor:  # noqa: N802
        """A weight of the input, (input_size, hidden_size): Xavier uniform."""
        return Parameter(init.xavier_uniform(self.input_size, self.hidden_size), self._dtype, self._device)

    def new_U(self) -> Tensor:  # noqa: N802
        """A weight of the first state, (its size, hidden_size): orthogonal."""
        return Parameter(init.orthogonal(self.state_sizes[0], self.hidden_size), self._dtype, self._device)

    def new_b(self, start: float = 0.0) -> Any:
        """A bias, (hidden_size); the scalar 0 in a cell without biases."""
        return self._vector(start) if self.has_bias else 0.0

    def _vector(self, start: float, size: int | None = None) -> Tensor:
        return Parameter(np.full(size or self.hidden_size, start), self._dtype, self._device)

    @property
    def weight(self) -> Tensor:
        """One of the weights: its backend and dtype are those of the cell."""
        for value in vars(self).values():  # at every call, and nearly always the first attributes
            if type(value) is Tensor:
                return value
        for _, tensor in self.named_tensors():
            return tensor
        raise ValueError(f"{type(self).__name__} has no parameters, from which its dtype and device are known")

    # -- one step ------------------------------------------------------------------------------------------------

    def step(self, carry: Any, x: Tensor) -> Any:
        """The next carry, from the previous one (batch, hidden_size) and the input x (batch, input_size).

        Or (carry, y), where an output y is not the first state.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def forward(self, x: Tensor, state: Any = None) -> Any:
        """One step: the next state, from x and a state, the initial one if None.

        x      (batch, input_size): a Tensor of the dtype of the weights; arrays and lists are converted to it
        state  (batch, hidden_size), a Tensor or an array; for a cell with several states a tuple, as of an LSTM (h, c)

        Returns the next state, laid out like `state`; or (state, output), where `step` returns an output too.
        """
        name, weight = type(self).__name__, self.weight
        x = check_input(name, x, ("batch", "input_size"), self.input_size, weight)
        batch = x.shape[0]
        if state is None:
            state = self.initial_state(batch)
        parts = state_parts(name, self.states, state, weight)
        for state_name, part, size in zip(self.states, parts, self.state_sizes):
            if part.shape != (batch, size):
                cause = "the state of another batch, such as a last, shorter one?"
                if part.shape == (1, batch, size):
                    cause = f"the state of a layer, whose first axis is of layers and directions: {state_name}[0]"
                check_state_part(state_name, part, (batch, size), "(batch, hidden_size)", cause)
        step, xs = self.scan_arguments(x)
        carry = joined(parts, self.states)
        output = step(carry, xs)
        after = (output,) if len(parts) == 1 else output
        if type(after) is tuple and len(after) == len(parts) and {*map(type, after)} == {Tensor}:
            return joined(after, self.states)  # a carry laid out like `states`: nothing is to be looked for
        new, y = split_output(output, carry)
        is_state, new = y is flatten(new)[0], joined(flatten(new), self.states)
        return new if is_state else (new, y)

    def initial_state(self, batch: int) -> Any:
        """The carry before the first step, for a batch of that size: zeros, or the learned state.

        >>> cell, xs = nn.GRUCell(3, 8), np.ones((5, 4, 3), np.float32)
        >>> h, hs = scan(cell.step, cell.initial_state(4), xs)     # what a layer does
        >>> h.shape, hs.shape
        ((4, 8), (5, 4, 8))
        """
        weight = self.weight
        parts = [self._initial(state, (batch, size), weight) for state, size in zip(self.states, self.state_sizes)]
        return State(parts, self.states) if len(parts) > 1 else parts[0]

    def _initial(self, state: str, shape: tuple[int, int], weight: Tensor) -> Tensor:
        learned = vars(self).get(f"{state}_0")
        if learned is not None:
            return broadcast_to(learned, shape=shape)
        return Tensor.from_node(backend_of(weight.data).zeros(shape, weight.dtype), None)

    @property
    def output_is_state(self) -> bool:
        """Whether the output of a step is the first state, i.e. `step` returns the carry alone."""
        weight, carry = self.weight, self.initial_state(1)
        x = Tensor.from_node(backend_of(weight.data).zeros((1, self.input_size), weight.dtype) + PADDING_VALUE, None)
        with no_grad():
            new, y = split_output(self.step(carry, x), carry)
        return y is flatten(new)[0]

    # -- many steps: noise and padding ---------------------------------------------------------------------------

    def sample_noise(self, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """The noise in the equations, sampled for one pass over x (*shape, input_size): a step reads its slice."""
        return ()

    def with_noise(self, noise: Iterator[Tensor]) -> Cell:
        """A shallow copy of this cell that uses one step's slices of `sample_noise`."""
        return self

    def scan_arguments(self, x: Tensor, valid: Tensor | None = None) -> tuple[Callable, Any]:
        """(step, xs) for `scan` over x (T, batch, input_size), or for one step, (batch, input_size).

        Noise is sampled here, before the loop, so that the step stays pure and can be compiled.

        valid  booleans (T, batch, 1): where False, the carry stays as it is
        """
        has_zoneout = any(self._zoneout_rates)
        xs = self.sample_noise(x.shape[:-1])
        if has_zoneout and self.training:
            xs += self._zoneout_masks(x.shape[:-1])
        if valid is not None:
            xs = (*xs, valid)
        if not xs and not has_zoneout:
            return self.step, x
        if getattr(self.step, "is_pure", False):
            return self.masked_step, (x, *xs)
        return lambda carry, xs: self.masked_step(carry, xs), (x, *xs)  # not pure either

    @pure
    def masked_step(self, carry: Any, xs: tuple[Tensor, ...]) -> Any:
        """`step` with zoneout, h' = m ⊙ h + (1 − m) ⊙ step(h, x), and h' = h at padding.

        xs  (x, noise …, m …, valid): the slices of `sample_noise`; in training a mask m (batch, size) for each state
            that has zoneout (in evaluation m is its rate); `valid` (batch, 1), if there is padding
        """
        x, *rest = xs
        remaining = iter(rest)
        new, y = split_output(self.with_noise(remaining).step(carry, x), carry)
        before, after = flatten(carry), tuple(flatten(new))
        is_state = y is after[0]

        def with_zoneout(rate: float, old: Tensor, new: Tensor) -> Tensor:
            if rate == 0:
                return new
            return where(next(remaining), old, new) if self.training else rate * old + (1 - rate) * new

        after = tuple(map(with_zoneout, self._zoneout_rates, before, after))
        for valid in remaining:
            after = tuple(select(valid, new, old) for new, old in zip(after, before))
        carry = after if isinstance(carry, tuple) else after[0]
        return carry if is_state else (carry, y)

    def _zoneout_masks(self, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Booleans (*shape, size) for each state that has zoneout."""
        weight, stream = self.weight, random_stream()
        backend = backend_of(weight.data)
        dtype = "float64" if dtype_name(weight.dtype) == "float64" else "float32"  # half precision would round them
        return tuple(
            Tensor.from_node(stream.uniform((*shape, size), dtype, backend) < rate, None)
            for rate, size in zip(self._zoneout_rates, self.state_sizes)
            if rate
        )


documented(Cell)
