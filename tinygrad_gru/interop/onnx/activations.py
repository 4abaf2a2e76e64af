"""The activations that ONNX's recurrent operators can be given, by their names there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ... import ops
from ..errors import InteropError


class _Curve(NamedTuple):
    """What a name stands for: a formula of x, α and β, and what α and β are if the file does not say.

    A default of None means that there is none that one can count on; a curve that does not use α or β has () there.
    """

    formula: Callable[[Any, Any, Any], Any]
    alpha: Any = ()
    beta: Any = ()


_CURVES = {
    "Sigmoid": _Curve(lambda x, a, b: ops.sigmoid(x)),
    "Tanh": _Curve(lambda x, a, b: ops.tanh(x)),
    "Relu": _Curve(lambda x, a, b: ops.relu(x)),
    "Softplus": _Curve(lambda x, a, b: ops.softplus(x)),
    "Softsign": _Curve(lambda x, a, b: x / (1 + ops.absolute(x))),
    "Affine": _Curve(lambda x, a, b: a * x + b, None, None),
    "LeakyRelu": _Curve(lambda x, a, b: ops.leaky_relu(x, slope=a), 0.01),
    "ThresholdedRelu": _Curve(lambda x, a, b: ops.where(x >= a, x, 0.0), None),  # ONNX says 1, onnxruntime takes 0
    "ScaledTanh": _Curve(lambda x, a, b: a * ops.tanh(b * x), None, None),
    "HardSigmoid": _Curve(lambda x, a, b: ops.clip(a * x + b, low=0.0, high=1.0), 0.2, 0.5),
    "Elu": _Curve(lambda x, a, b: ops.elu(x, alpha=a), 1.0),
}
_NAMES = {name.lower(): name for name in _CURVES}


@dataclass(frozen=True)
class Activation:
    """A curve with its numbers: y = activation(x), elementwise. Made by `activation`."""

    name: str
    alpha: float | None = None
    beta: float | None = None

    def __call__(self, x: Any) -> Any:
        return _CURVES[self.name].formula(x, self.alpha, self.beta)

    @property
    def is_complementary(self) -> bool:
        """Whether f(−a) = 1 − f(a): only then can the sense of a gate be turned by negating its weights."""
        return self.name == "Sigmoid" or (self.name in ("HardSigmoid", "Affine") and self.beta == 0.5)


def activation(name: str, alpha: float | None = None, beta: float | None = None) -> Activation:
    """The activation of that name, which ONNX writes in capitals or small letters; α and β as ONNX defines them."""
    known = _known(name)
    curve = _CURVES[known]
    return Activation(known, _number(known, "α", alpha, curve.alpha), _number(known, "β", beta, curve.beta))


def _known(name: str) -> str:
    known = _NAMES.get(name.lower())
    if known is None:
        raise InteropError(f"activation {name!r} is none of ONNX's: {', '.join(_CURVES)}")
    return known


def _number(name: str, letter: str, given: float | None, default: Any) -> float | None:
    if default == ():
        return None
    if given is None and default is None:
        raise InteropError(f"activation {name}: its {letter} has no sure default, and none is given")
    return default if given is None else float(given)


def activations(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[Activation]:
    """Activations in a row, which take from the rows of α and of β in turn, each as it uses them."""
    remaining: tuple[Iterator[float], Iterator[float]] = (iter(alphas), iter(betas))
    made = []
    for name in names:
        curve = _CURVES[_known(name)]
        made.append(activation(name, *(None if d == () else next(r, None) for d, r in zip(curve[1:], remaining))))
    for letter, rest in zip("αβ", remaining):
        if list(rest):
            raise InteropError(f"there are more {letter} than the activations {', '.join(names)} use")
    return made
