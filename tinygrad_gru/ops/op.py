"""Op: a function of arrays that also runs on Variables, records itself on the tape, and has a rule for each input.

    @op
    def hadamard(a, b):
        return a * b

    hadamard.vjp(a=lambda g, b: g * b,
                 b=lambda g, a: g * a)

The formula is written for arrays. Arrays in: it is executed, at their speed. Variables in: it is recorded, too. Traced
arrays in: it is traced into the graph of a scan.

A rule is the vector-Jacobian product of one input: its cotangent from `g`, the cotangent of the output, and from what
it names besides: `y` (the output), inputs and settings by their names, `x_shape` or `x_dtype` (those of input x, which
is then not kept alive). These residuals are saved, and nothing else: the rule's signature is the memory contract. Rules
know nothing of broadcasting: a cotangent is summed to the shape of its input here, once for all. They never write in
place, and they use ops themselves, so that they serve arrays and, for higher derivatives, Variables.

All inspection happens when an op is defined, none when it is called: what runs is generated (`codegen.py` says why and
shows it), and `print(hadamard.source())` prints it.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable
from functools import update_wrapper
from sys import version_info
from threading import Lock
from types import FunctionType
from typing import Any, Protocol
from weakref import finalize

from ..arguments import ERROR_TYPES, add_op_context, any_list, arrays_of, misfit, no_complex, no_rules, respelt
from ..backend import as_array, xp_of
from ..backend.numpy import COMPLEX, DOUBLE, SINGLE, HostArray
from ..contexts import recording
from ..tape import Node, Variable, inspector
from ..writes import tick, writes
from .codegen import Interface, load, source, unique_filename
from .precision import accumulate_in_float32, demote_float64, pairwise_sum, sum_of_rows


class Op(Protocol):
    """What `@op` returns: a function that carries its formula, its rules, and the source that was generated for it.

    >>> print(ops.tanh.source())
    def tanh(...
    """

    __name__: str
    formula: Callable
    rules: dict[str, Callable | None] | None
    redefined: int
    vjp: Callable[..., None]
    source: Callable[[], str]
    apply_vjp: Callable
    lift: Callable[[type[Variable], Node], tuple]

    def __call__(self, *inputs: Any, **settings: Any) -> Any: ...


def is_op(value: Any) -> bool:
    """Whether a value is an op. A function to which `functools.wraps` has copied the attributes of one is not."""
    if not isinstance(value, FunctionType):
        return False
    definition = getattr(value.__globals__.get("_generate"), "__self__", None)
    return isinstance(definition, _Definition) and definition.function is value


def unwrap(value: Any) -> Any:
    """The array of a Variable; any other value unchanged."""
    return value._data if isinstance(value, Variable) else value


def sum_to_shape(cotangent: Any, shape: tuple[int, ...]) -> Any:
    """A cotangent summed over the axes along which its input was broadcast."""
    if type(cotangent) is HostArray and cotangent.dtype is SINGLE and cotangent.shape[1:] == shape:
        return sum_of_rows(cotangent)  # for a bias: what `sum_to` does, 2 µs faster
    return cotangent if cotangent.shape == shape else sum_to(cotangent, shape=shape)


#: The globals that the generated code of all ops shares. Those of one op are `_formula`, `_op`, and for an input or
#: setting x `_x_rule` and `_x_default`; no name here ends like these, nor like the local `_x_node`.
_SCOPE = {
    "_Variable": Variable, "_variable_new": Variable.__new__, "_Node": Node, "_tick": tick,
    "_recording": recording.get, "_inspector": inspector.get, "_as_array": as_array, "_HostArray": HostArray,
    "_SINGLE": SINGLE, "_DOUBLE": DOUBLE, "_demote_float64": demote_float64, "_sum_to_shape": sum_to_shape,
    "_no_rules": no_rules, "_misfit": misfit, "_respelt": respelt, "_required": inspect.Parameter.empty,
    "_any_list": any_list, "_arrays_of": arrays_of, "_add_op_context": add_op_context, "_COMPLEX": COMPLEX,
    "_MISFITS": (AttributeError, TypeError, ValueError), "_ERRORS": (*ERROR_TYPES, MemoryError),
    "_isinstance": isinstance, "_type_of": type, "_list": list, "_tuple": tuple, "_any": any, "_no_complex": no_complex,
}  # fmt: skip


def op(formula: Callable) -> Any:
    """An op with this formula: positional parameters are inputs (`*xs`: any number), keyword-only ones are settings.

    >>> @op
    ... def cube(x):
    ...     return x**3
    >>> cube.vjp(x=lambda g, x: 3 * g * x**2)
    >>> x = Tensor(2.0, requires_grad=True)
    >>> cube(x).backward()
    >>> x.grad.item()
    12.0
    """
    return _Definition(formula).function


def _generate_and_call(*inputs: Any, **settings: Any) -> Any:
    """The code of an op before its first call: it generates the op's own code, and calls that."""
    return _generate()(*inputs, **settings)  # type: ignore[name-defined]  # noqa: F821  (a global of the op's own)


class _Definition:
    """A formula, its rules, and the function of both, which is never replaced, since users may hold it.

    Only its code object is replaced: by generated code at the first call, and back when rules are given.
    """

    def __init__(self, formula: Callable):
        signature = inspect.signature(formula)
        name = getattr(formula, "__name__", type(formula).__name__).lstrip("_")
        self.name, self.interface = name, Interface(name, signature)
        self.lock = Lock()  # held while the code of the function is exchanged
        self.filename: str | None = None  # of the generated code
        self.scope: dict[str, Any] = {
            "__name__": formula.__module__, "_formula": formula, "_generate": self._generate,
            **_SCOPE, **self.interface.defaults,
        }  # fmt: skip
        named: dict[str, Any] = {"co_name": name}  # which debuggers, profilers and tracebacks show
        if version_info >= (3, 11):
            named["co_qualname"] = name
        self.first_code = _generate_and_call.__code__.replace(**named)
        function: Any = FunctionType(self.first_code, self.scope, name)
        update_wrapper(function, formula)  # with the module and the qualified name by which pickle finds it
        function.__name__, function.__signature__ = name, self.interface.call_signature(signature)
        function.formula, function.rules, function.vjp, function.lift = formula, None, self.vjp, self.lift
        function.redefined = 0  # when it was given other rules
        function.source = lambda: source(self.interface)
        self.scope["_op"] = self.function = function

    def vjp(self, /, **rules: Callable | None) -> None:
        """Give the rules: one for every input, by its name; None declares that an input has no gradient."""
        interface = self.interface
        if set(rules) != set(interface.inputs):
            raise TypeError(f"{self.name}.vjp: expected a rule for each of {interface.inputs}, got {sorted(rules)}")
        described = [f"{name}_{attribute}" for name in interface.inputs for attribute in ("shape", "dtype")]
        offered = ["y", *interface.inputs, *interface.settings, *described]
        first = 2 if interface.variadic else 1  # after `g`, in a variadic op after `g, i`
        residuals = {
            name: list(inspect.signature(rule).parameters)[first:]
            for name in interface.inputs
            if (rule := rules[name]) is not None
        }
        for name, names in residuals.items():
            for unknown in [residual for residual in names if residual not in offered]:
                raise TypeError(f"{self.name}.vjp: the rule of {name} takes {unknown!r}; it can take {offered}")
        with self.lock:
            if self.function.rules is not None:
                self.function.redefined = writes.add_redefinition()
            interface.residuals, self.function.rules = residuals, rules
            self.scope |= {f"_{name}_rule": rule for name, rule in rules.items()}
            self.function.__code__ = self.first_code
            self.function.__defaults__ = self.function.__kwdefaults__ = None

    def _generate(self) -> Any:
        """Give the function its generated code, unless another thread was faster."""
        with self.lock:
            function = self.function
            if function.__code__ is self.first_code:
                if self.filename is None:
                    self.filename = unique_filename(f"{function.__module__}.{function.__qualname__}")
                    finalize(function, linecache.cache.pop, self.filename, None).atexit = False
                call, function.apply_vjp = load(source(self.interface), self.filename, self.scope)
                function.__defaults__, function.__kwdefaults__ = call.__defaults__, call.__kwdefaults__
                function.__code__ = call.__code__
            return function

    def lift(self, tensor_type: type[Variable], record: Node) -> tuple:
        """`record.saved` with its inputs and its output as Variables on the tape, for a recorded backward.

        Constants too: not every library leaves `array @ variable` to the variable.
        """
        interface = self.interface
        nodes = {"y": record} if interface.variadic else {"y": record, **dict(zip(interface.inputs, record.parents))}

        def variable(value: Any, node: Node | None) -> Any:
            is_array = hasattr(value, "dtype") and not isinstance(value, float)
            return tensor_type.from_node(value, node) if is_array else value

        def lifted(residual: str, value: Any) -> Any:
            if interface.variadic and residual == interface.inputs[0]:
                return tuple(map(variable, value, record.parents))
            return variable(value, nodes[residual]) if residual in nodes else value

        assert record.saved is not None
        return tuple(lifted(residual, value) for (_, residual), value in zip(interface.saved(), record.saved))


@op
def broadcast_to(x, *, shape):
    """y = x repeated along new axes and axes of length 1, to `shape`        ∂L/∂x = g, summed to x's shape

    >>> ops.broadcast_to(Tensor([1.0, 2.0]), shape=(2, 2))
    Tensor([[1., 2.],
            [1., 2.]], dtype=float32)
    """
    return xp_of(x).broadcast_to(x, shape)


@op
@accumulate_in_float32
def sum_to(x, *, shape):
    """y = x summed over the axes along which `shape` would be broadcast to x        ∂L/∂x = g, broadcast

    >>> ops.sum_to(Tensor([[1.0, 2.0], [3.0, 4.0]]), shape=(1, 2))
    Tensor([[4., 6.]], dtype=float32)
    """
    extra = len(x.shape) - len(shape)
    if x.shape[extra:] == shape:  # as a bias, in every step of a recurrence
        return pairwise_sum(x, axis=tuple(range(extra)))
    if extra < 0 or any(n not in (1, m) for n, m in zip(shape, x.shape[extra:])):
        raise ValueError(
            f"{tuple(shape)} cannot be broadcast to {tuple(x.shape)}, so this is not a sum over broadcast axes"
        )
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1)
    return xp_of(x).reshape(pairwise_sum(x, axis=axes), shape)


broadcast_to.vjp(x=lambda g: g)
sum_to.vjp(x=lambda g, x_shape: broadcast_to(g, shape=x_shape))
