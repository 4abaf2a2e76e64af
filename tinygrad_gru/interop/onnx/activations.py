"""Activations of ONNX's recurrent operators, by their ONNX names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ... import ops
from ..errors import InteropError


class _Formula(NamedTuple):
    """A formula of x, α and β, with the defaults of α and β.

    A default of None means that runtimes do not agree on one; () means that the formula does not use the parameter.
    """

    formula: Callable[[Any, Any, Any], Any]
    alpha: Any = ()
    beta: Any = ()


_FORMULAS = {
    "Sigmoid": _Formula(lambda x, a, b: ops.sigmoid(x)),
    "Tanh": _Formula(lambda x, a, b: ops.tanh(x)),
    "Relu": _Formula(lambda x, a, b: ops.relu(x)),
    "Softplus": _Formula(lambda x, a, b: ops.softplus(x)),
    "Softsign": _Formula(lambda x, a, b: x / (1 + ops.absolute(x))),
    "Affine": _Formula(lambda x, a, b: a * x + b, None, None),
    "LeakyRelu": _Formula(lambda x, a, b: ops.leaky_relu(x, slope=a), 0.01),
    "ThresholdedRelu": _Formula(lambda x, a, b: ops.where(x >= a, x, 0.0), None),  # ONNX says 1, onnxruntime takes 0
    "ScaledTanh": _Formula(lambda x, a, b: a * ops.tanh(b * x), None, None),
    "HardSigmoid": _Formula(lambda x, a, b: ops.clip(a * x + b, low=0.0, high=1.0), 0.2, 0.5),
    "Elu": _Formula(lambda x, a, b: ops.elu(x, alpha=a), 1.0),
}
_NAMES = {name.lower(): name for name in _FORMULAS}


@dataclass(frozen=True)
class Activation:
    """An activation with its α and β: y = activation(x), elementwise. Made by `activation`."""

    name: str
    alpha: float | None = None
    beta: float | None = None

    def __call__(self, x: Any) -> Any:
        return _FORMULAS[self.name].formula(x, self.alpha, self.beta)

    @property
    def is_complementary(self) -> bool:
        """Whether f(−a) = 1 − f(a): only then does negating its weights turn a gate f into 1 − f."""
        return self.name == "Sigmoid" or (self.name in ("HardSigmoid", "Affine") and self.beta == 0.5)


def activation(name: str, alpha: float | None = None, beta: float | None = None) -> Activation:
    """The activation of that name (case-insensitive, as in ONNX), with ONNX's defaults for α and β."""
    known = _canonical(name)
    formula = _FORMULAS[known]
    return Activation(known, _parameter(known, "α", alpha, formula.alpha), _parameter(known, "β", beta, formula.beta))


def _canonical(name: str) -> str:
    known = _NAMES.get(name.lower())
    if known is None:
        raise InteropError(f"activation {name!r} is not one of ONNX's: {', '.join(_FORMULAS)}")
    return known


def _parameter(name: str, letter: str, given: float | None, default: Any) -> float | None:
    if default == ():
        return None
    if given is None and default is None:
        raise InteropError(f"activation {name}: its {letter} has no default that runtimes agree on, and none is given")
    return default if given is None else float(given)


def activations(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[Activation]:
    """A list of activations; each takes the next α and β of the lists if it uses them."""
    remaining: tuple[Iterator[float], Iterator[float]] = (iter(alphas), iter(betas))
    parsed = []
    for name in names:
        formula = _FORMULAS[_canonical(name)]
        parsed.append(activation(name, *(None if d == () else next(r, None) for d, r in zip(formula[1:], remaining))))
    for letter, rest in zip("αβ", remaining):
        if list(rest):
            raise InteropError(f"there are more {letter} than the activations {', '.join(names)} use")
    return parsed
