"""Cell: what all recurrent cells share. A cell is one step of time, as a pure function of the state and the input.

    carry = cell.step(carry, x)

A cell keeps no state. Its parameters are named as in the equations: W multiplies the input, U the state, b is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..backend import backend_of, random_stream
from ..contexts import no_grad
from ..ops import broadcast_to, select, where
from ..scan import pure
from ..scan.protocol import split_output, tree_leaves
from ..tensor import Tensor
from . import init
from .checks import check_input, check_part, check_probability, check_sizes, state_parts
from .lengths import REGULAR
from .module import Module, Parameter


class Cell(Module):
    """A recurrent cell: a subclass makes its parameters and gives `step`, and names its states if it has several.

    input_size, hidden_size  features of x, and of each state (a cell with others says so in `state_sizes`)
    bias                     whether there are b; without, they are 0
    learn_initial_state      the state before the first step is learned, from zeros on
    zoneout                  in training every number of the state is kept from the step before with this probability,
                             in evaluation the two are mixed in this proportion (Krueger et al. 2016); a tuple gives
                             every state its own
    """

    states: tuple[str, ...] = ("h",)

    #: Keywords whose defaults are attributes of the class; `repr` shows those that were changed.
    keywords: tuple[str, ...] = ("zoneout",)
    zoneout: float | tuple[float, ...] = 0.0

    # What variants can change, as the textbook has it.
    activation: Any = "tanh"
    gate_activation: Any = "sigmoid"
    clip: float | None = None
    layer_norm = False
    recurrent_dropout = 0.0

    #: The class that has the equations with more keywords, if there is one (see `variant_of`).
    variant: type[Cell] | None = None
    #: The class that runs it over time, once there is one (see `Recurrent.of`).
    layer_type: Any

    def __new__(cls, *sizes: int, **options: Any) -> Cell:
        variant = vars(cls).get("variant")  # not inherited: a subclass has equations of its own
        varied = variant is not None and not options.keys().isdisjoint(set(variant.keywords) - set(cls.keywords))
        return super().__new__(variant if varied else cls)  # type: ignore[arg-type]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        learn_initial_state: bool = False,
        dtype: Any = "float32",
        device: Any = None,
        *,
        zoneout: float | tuple[float, ...] = 0.0,
        **unknown: Any,
    ):
        if unknown:
            raise TypeError(f"{type(self).__name__} has no keyword {', '.join(unknown)}; it has {self._all_keywords()}")
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.zoneout = input_size, hidden_size, zoneout
        self.has_bias, self.learns_initial_state = bias, learn_initial_state
        rates = zoneout if isinstance(zoneout, tuple) else (zoneout,) * len(self.states)
        if len(rates) != len(self.states):
            raise ValueError(f"zoneout: expected a number, or one for each of {self.states}, got {zoneout!r}")
        for rate in rates:
            check_probability(zoneout=rate)
        self._zoneout_rates = rates
        self._dtype, self._device = dtype, device
        for state, size in zip(self.states, self.state_sizes) if learn_initial_state else ():
            setattr(self, f"{state}_0", self._vector(0.0, size))

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Features of every state."""
        return (self.hidden_size,) * len(self.states)

    @property
    def output_size(self) -> int:
        """Features of an output: those of the first state, which is the output unless `step` returns another."""
        return self.state_sizes[0]

    # -- parameters ----------------------------------------------------------------------------------------------

    def new_W(self) -> Tensor:  # noqa: N802
        """A weight of the input, (input_size, hidden_size): Xavier uniform."""
        return Parameter(init.xavier_uniform(self.input_size, self.hidden_size), self._dtype, self._device)

    def new_U(self) -> Tensor:  # noqa: N802
        """A weight of the first state, (its size, hidden_size): orthogonal."""
        return Parameter(init.orthogonal(self.state_sizes[0], self.hidden_size), self._dtype, self._device)

    def new_b(self, start: float = 0.0) -> Any:
        """A bias, (hidden_size); the number 0 in a cell without them."""
        return self._vector(start) if self.has_bias else 0.0

    def _vector(self, start: float, size: int | None = None) -> Tensor:
        return Parameter(np.full(size or self.hidden_size, start), self._dtype, self._device)

    @property
    def weight(self) -> Tensor:
        """One of the weights: the cell computes where it lives and in its dtype."""
        return next(t for _, module in self.named_modules() for t in vars(module).values() if isinstance(t, Tensor))

    # -- one step ------------------------------------------------------------------------------------------------

    def step(self, carry: Any, x: Tensor) -> Any:
        """The next carry: from the last one (batch, hidden_size) and the input x (batch, input_size).

        Or (carry, y), where an output y is not the first state.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def drawn(self, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """What is random in the equations, drawn for one pass over x (*shape, input_size); every step reads its own."""
        return ()

    def with_drawn(self, reads: Iterator[Tensor]) -> Cell:
        """This cell with what a step reads of `drawn` in its place; this one stays as it is."""
        return self

    @property
    def output_is_state(self) -> bool:
        """Whether the output of a step is the first state: `step` returns no other beside it."""
        weight, carry = self.weight, self.initial_state(1)
        x = Tensor.from_node(backend_of(weight.data).zeros((1, self.input_size), weight.dtype) + REGULAR, None)
        with no_grad():
            new, y = split_output(self.step(carry, x), carry)
        return y is tree_leaves(new)[0]

    def prepared(self, x: Tensor, valid: Tensor | None = None) -> tuple[Callable, Any]:
        """(step, xs) for one pass over x (T, batch, input_size), or for one step, (batch, input_size).

        Random numbers are drawn here, before time begins, so that the step stays pure and can be compiled.

        valid  booleans (T, batch, 1): elsewhere the carry stays as it is
        """
        reads = self.drawn(x.shape[:-1]) + self._zones(x.shape[:-1])
        if valid is not None:
            reads = (*reads, valid)
        if not reads and not any(self._zoneout_rates):
            return self.step, x
        if getattr(self.step, "is_pure", False):
            return self.guarded_step, (x, *reads)
        return lambda carry, reads: self.guarded_step(carry, reads), (x, *reads)  # which promises nothing either

    @pure
    def guarded_step(self, carry: Any, reads: tuple[Tensor, ...]) -> Any:
        """`step` with what may be around it: h' = m ⊙ h + (1 − m) ⊙ step(h, x) for zoneout, and h' = h if not valid.

        reads  (x, …, m, …, valid): what was `drawn`; in training m (batch, size), booleans, for every state that has
               zoneout, elsewhere m is its expectation; valid (batch, 1), booleans, if some steps are not
        """
        x, *rest = reads
        remaining = iter(rest)
        new, y = split_output(self.with_drawn(remaining).step(carry, x), carry)
        before, after = tree_leaves(carry), tree_leaves(new)
        is_state = y is after[0]

        def zoned(rate: float, old: Tensor, new: Tensor) -> Tensor:
            if rate == 0:
                return new
            return where(next(remaining), old, new) if self.training else rate * old + (1 - rate) * new

        after = tuple(map(zoned, self._zoneout_rates, before, after))
        for valid in remaining:
            after = tuple(select(valid, new, old) for new, old in zip(after, before))
        carry = after if isinstance(carry, tuple) else after[0]
        return carry if is_state else (carry, y)

    def _zones(self, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """The masks of zoneout, as booleans (*shape, size), for every state that has a rate; none in evaluation."""
        weight, stream = self.weight, random_stream()
        backend = backend_of(weight.data)
        return tuple(
            Tensor.from_node(stream.uniform((*shape, size), weight.dtype, backend) < rate, None)
            for rate, size in zip(self._zoneout_rates, self.state_sizes)
            if rate and self.training
        )

    def initial_state(self, batch: int) -> Any:
        """The carry before the first step, for a batch of that size: zeros, or what was learned."""
        parts = tuple(self._initial(state, (batch, size)) for state, size in zip(self.states, self.state_sizes))
        return parts if len(parts) > 1 else parts[0]

    def _initial(self, state: str, shape: tuple[int, int]) -> Tensor:
        learned = getattr(self, f"{state}_0", None)
        if learned is not None:
            return broadcast_to(learned, shape=shape)
        weight = self.weight
        return Tensor.from_node(backend_of(weight.data).zeros(shape, weight.dtype), None)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        """One step by itself: x (batch, input_size) and a state, zeros if None, to the next state."""
        name, dtype = type(self).__name__, self.weight.dtype
        check_input(name, x, ("batch", "input_size"), self.input_size, dtype)
        batch = x.shape[0]
        if state is None:
            state = self.initial_state(batch)
        for state_name, part, size in zip(self.states, state_parts(name, self.states, state), self.state_sizes):
            cause = "the state of another batch, such as a last, shorter one?"
            check_part(state_name, part, (batch, size), "(batch, hidden_size)", dtype, cause)
        step, xs = self.prepared(x)
        return step(state, xs)

    # -- how it prints -------------------------------------------------------------------------------------------

    def changed_settings(self) -> list[str]:
        """The keywords that were given another value than their default, as `name=value`."""
        values = {name: getattr(self, name) for name in self.keywords}
        changed = {name: value for name, value in values.items() if value != getattr(type(self), name)}
        shown = {name: getattr(value, "__name__", repr(value)) for name, value in changed.items()}
        return [
            *([] if self.has_bias else ["bias=False"]),
            *(["learn_initial_state=True"] if self.learns_initial_state else []),
            *(f"{name}={value}" for name, value in shown.items()),
        ]

    @classmethod
    def _all_keywords(cls) -> str:
        own = (cls.variant or cls).keywords
        return ", ".join(("bias", "learn_initial_state", "dtype", "device", *own))

    def describe(self) -> str:
        return ", ".join([str(self.input_size), str(self.hidden_size), *self.changed_settings()])


def variant_of(textbook: type[Cell]) -> Callable[[type[Cell]], type[Cell]]:
    """Decorates the class whose instance `textbook(…)` makes when it is given a keyword that only that class knows."""

    def register(variant: type[Cell]) -> type[Cell]:
        textbook.variant, variant.__name__ = variant, textbook.__name__  # pickle finds it by its __qualname__
        return variant

    return register
