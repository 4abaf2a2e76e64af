"""Inputs of exercises, drawn and shrunk by Hypothesis: always the same ones, and nothing is left on the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np

try:
    from hypothesis import HealthCheck, Phase, Verbosity, find, given, settings
    from hypothesis import strategies as st
    from hypothesis.errors import NoSuchExample
    from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider
except ModuleNotFoundError as error:
    raise ImportError(
        f"the exercises need the package hypothesis, which draws their inputs ({error}): "
        "pip install 'tinygrad_gru[learn]', or pip install hypothesis"
    ) from error

_SIMPLEST_FIRST = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 1.5, -1.5, 0.25, -0.25, 0.75, -0.75, 1.25, -1.25, 1.75, -1.75)

#: Multiples of ¼ from −2 to 2: exact in binary, short when printed; 0 is the simplest, then 1, −1, 2.
numbers: st.SearchStrategy[float] = st.sampled_from(_SIMPLEST_FIRST)
#: The same without 0.
nonzero: st.SearchStrategy[float] = st.sampled_from(_SIMPLEST_FIRST[1:])
#: The same from ¼ to 2.
positive: st.SearchStrategy[float] = st.sampled_from([x for x in _SIMPLEST_FIRST if x > 0])
#: A length of an axis.
sizes: st.SearchStrategy[int] = st.integers(1, 3)


class SteadyProvider(HypothesisProvider):
    """Draws that depend on nothing but the seed: not, as Hypothesis' own, on numbers in the source of loaded modules.

    Reading that source takes longer than all the rest, and is kept in a folder of its own.
    """

    def _maybe_draw_constant(self, *arguments: Any, **settings: Any) -> None:
        return None


AVAILABLE_PROVIDERS["tinygrad_gru"] = SteadyProvider


class Formula:
    """A function that is shown as its text, such as `lambda x: x * x`; the text may use np and the names given."""

    def __init__(self, text: str, **names: Any) -> None:
        self.text, self._function = text, eval(text, {"np": np, **names})

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __repr__(self) -> str:
        return self.text

    def __deepcopy__(self, memo: Any) -> Formula:
        return self


def formulas(*texts: str, **names: Any) -> st.SearchStrategy[Formula]:
    """Functions by their text, the simplest first."""
    return st.sampled_from([Formula(text, **names) for text in texts])


@st.composite
def arrays(
    draw: Callable[[Any], Any], shape: Any, elements: st.SearchStrategy[Any] = numbers, dtype: str = "float64"
) -> np.ndarray:
    """Arrays of a shape (or of shapes that a strategy draws), whose simplest elements are zeros.

    >>> sample(arrays((2, 2)), 5)[0].shape
    (2, 2)
    """
    if isinstance(shape, st.SearchStrategy):
        shape = draw(shape)
    count = int(np.prod(shape, dtype=int))
    return np.array(draw(st.lists(elements, min_size=count, max_size=count)), dtype).reshape(shape)


def _settings(count: int, *phases: Phase) -> settings:
    return settings(
        max_examples=count, phases=phases, derandomize=True, database=None, deadline=None, print_blob=False,
        verbosity=Verbosity.quiet, suppress_health_check=list(HealthCheck), backend="tinygrad_gru",
    )  # fmt: skip


def sample(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """`count` different draws, or somewhat fewer where draws repeat; the same in every process.

    >>> sample(numbers, 40) == sample(numbers, 40)
    True
    """
    drawn: dict[str, Any] = {}

    @_settings(count + count // 5, Phase.generate)
    @given(strategy)
    def collect(value: Any) -> None:
        drawn.setdefault(repr(value), value)

    collect()
    return list(drawn.values())[:count]


def smallest(strategy: st.SearchStrategy[Any], condition: Callable[[Any], bool], count: int = 200) -> Any:
    """The simplest draw for which the condition holds, as Hypothesis shrinks it; None if there is none among `count`.

    >>> smallest(numbers, lambda x: x * x > 1)
    2.0
    """
    try:
        limits = _settings(count, Phase.generate, Phase.shrink)
        return find(strategy, condition, settings=limits, random=Random(0))
    except NoSuchExample:
        return None


def as_strategy(inputs: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    """The strategy of all arguments: a tuple of strategies, one an argument, or one that draws the tuple itself."""
    return st.tuples(*inputs) if isinstance(inputs, Sequence) else inputs
