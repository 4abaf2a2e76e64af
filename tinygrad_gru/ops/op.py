"""`@op`: from a formula and one rule an input to a function that runs, records and differentiates.

    @op
    def hadamard(a, b):
        return a * b

    hadamard.vjp(a=lambda g, b: g * b,
                 b=lambda g, a: g * a)

The formula is written for arrays. Arrays in: it runs, at their speed. Tensors in: it runs and is recorded. A rule
gives the cotangent of one input from `g`, the cotangent of the output, and from what it names besides: `y` (the
output), inputs and settings by their names, `x_shape` or `x_dtype` (those of input x, without keeping x alive).
What no rule of a wanted gradient names is not kept. Rules know nothing of broadcasting: a cotangent is summed to
the shape of its input here, once for all. They never write in place, and they use ops themselves, so that they
serve raw arrays and, for higher derivatives, Tensors.

To be fast in spite of all that an op can be asked for, `@op` writes the straight-line function that one would
write by hand for these inputs and these rules; print it with `print(hadamard.source())`. All
inspection happens when an op is defined, none when it is called.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable
from keyword import iskeyword
from threading import Lock
from types import FunctionType
from typing import Any, Protocol

from ..backend import as_array, backend_of, with_memory_report, xp_of
from ..backend.numpy import DOUBLE, SINGLE, HostArray
from ..contexts import recording
from ..tape import Node, Variable, inspector
from ..writes import tick, writes
from .precision import accumulate_in_float32, demote_float64, pairwise_sum

#: Names that the written functions use themselves, besides their globals.
_RESERVED = frozenset(
    "any arrays cotangent enumerate accumulate error g i isinstance kind node nodes number parent parents result saved tuple "
    "type observer y".split()
)


class Op(Protocol):
    """What `@op` returns: a function that carries its formula, its rules, and the source that was written for it."""

    __name__: str
    formula: Callable
    rules: dict[str, Callable | None] | None
    redefined: int
    vjp: Callable[..., None]
    source: Callable[[], str]
    apply_vjp: Callable
    lift: Callable[[type[Variable], Node], tuple]

    def __call__(self, *inputs: Any, **settings: Any) -> Any: ...


def op(formula: Callable) -> Any:
    """Make an op of a formula (see the module's text).

    Positional parameters are the inputs (`*xs` for any number), keyword-only ones the settings.
    """
    return _Writer(formula).function


def _first_call(*inputs: Any, **settings: Any) -> Any:
    """The body of an op until it is called for the first time: it has the real one written, and runs that."""
    return write()(*inputs, **settings)  # type: ignore[name-defined]  # noqa: F821  (a global of the op's own)


class _Writer:
    """Writes the two functions of one op, when it is first called: an import so pays for none of them."""

    def __init__(self, formula: Callable):
        self.signature = inspect.signature(formula)
        parameters = self.signature.parameters.values()
        self.formula, self.name = formula, formula.__name__.lstrip("_")
        self.inputs = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        self.settings = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.rules: dict[str, Callable | None] | None = None  # until `vjp` gives them
        self.lock = Lock()  # held while the op is given another body, by whatever thread
        self.residuals: dict[str, list[str]] = {name: [] for name in self.inputs}  # what each rule asks for
        self.globals: dict[str, Any] = {
            "formula": formula, "Variable": Variable, "Node": Node, "tick": tick, "as_array": as_array,
            "HostArray": HostArray, "SINGLE": SINGLE, "DOUBLE": DOUBLE, "new": Variable.__new__, "blank": Node.__new__,
            "recording": recording.get, "inspector": inspector.get, "add_op_context": add_op_context, "sum_to_shape": sum_to_shape, "demote_float64": demote_float64,
            "no_rules": no_rules, "write": self.write,
        }  # fmt: skip
        reserved = {*_RESERVED, *self.globals, *(("x",) if self.variadic else ())}
        taken = reserved.intersection([*self.inputs, *self.settings])
        if taken:
            raise TypeError(f"{self.name}: inputs and settings cannot be called {sorted(taken)}; call them otherwise")
        if not self.name.isidentifier() or iskeyword(self.name):
            raise TypeError(f"an op is written as a function of the name of its formula, which cannot be {self.name!r}")
        self.globals |= {f"default_{p.name}": p.default for p in parameters if p.default is not p.empty}
        self.globals["this"] = self.function = self._unwritten()

    def _unwritten(self) -> Any:
        function: Any = FunctionType(_first_call.__code__, self.globals, self.name)
        function.__doc__, function.__module__ = self.formula.__doc__, self.formula.__module__
        function.__qualname__ = self.formula.__qualname__  # by which pickle finds it
        function.__signature__ = self.signature
        function.formula, function.rules, function.vjp, function.lift = self.formula, None, self.vjp, self.lift
        function.redefined = 0  # when it was given other rules
        function.source = lambda: f"{self._call()}\n\n{self._pull()}"
        return function

    def vjp(self, **rules: Callable | None) -> None:
        """Give the rules: one for every input, by its name; None declares that an input has no gradient."""
        if set(rules) != set(self.inputs):
            raise TypeError(f"{self.name}.vjp: expected a rule for each of {self.inputs}, got {sorted(rules)}")
        described = [f"{name}_{what}" for name in self.inputs for what in ("shape", "dtype")]
        offered = ["y", *self.inputs, *self.settings, *described]
        first = 2 if self.variadic else 1  # after `g`, in a variadic op after `g, i`
        residuals = {n: list(inspect.signature(rule).parameters)[first:] if rule else [] for n, rule in rules.items()}
        for name in rules:
            for asked in residuals[name]:
                if asked not in offered:
                    raise TypeError(f"{self.name}.vjp: the rule of {name} asks for {asked!r}; it can have {offered}")
        with self.lock:
            if self.rules is not None:
                self.function.redefined = writes.add_redefinition()
            self.residuals, self.rules, self.function.rules = residuals, rules, rules
            self.globals |= {f"{name}_rule": rule for name, rule in rules.items()}
            self.function.__code__ = _first_call.__code__
            self.function.__defaults__ = self.function.__kwdefaults__ = None

    def write(self) -> Any:
        """Give the op the body that is written for it. It stays the same function, for a class may hold it."""
        with self.lock:
            if self.function.__code__ is _first_call.__code__:  # else another thread was faster
                written = self._compile(self._call(), self.name)
                self.function.apply_vjp = self._compile(self._pull(), f"vjp_{self.name}")
                self.function.__defaults__, self.function.__kwdefaults__ = written.__defaults__, written.__kwdefaults__
                self.function.__code__ = written.__code__
            return self.function

    def _wanted(self) -> list[str]:
        """The inputs that can have a gradient."""
        return self.inputs if self.rules is None else [n for n in self.inputs if self.rules[n] is not None]

    def _saved(self) -> list[tuple[str, str]]:
        """(whose rule, what it asks for): the layout of a record's `saved`."""
        return [(name, asked) for name in self.inputs for asked in self.residuals[name]]

    def _value(self, asked: str) -> str:
        """The expression for something that a rule asks for."""
        name, _, what = asked.rpartition("_")
        if asked in ("y", *self.inputs, *self.settings):
            return asked
        return f"[x.{what} for x in {name}]" if self.variadic else f"{name}.{what}"

    def _signature(self) -> str:
        def declare(name: str) -> str:
            return f"{name}=default_{name}" if f"default_{name}" in self.globals else name

        inputs = [f"*{self.inputs[0]}"] if self.variadic else [declare(name) for name in self.inputs]
        keyword_only = [] if self.variadic or not self.settings else ["*"]
        return ", ".join([*inputs, *keyword_only, *map(declare, self.settings)])

    def _call(self) -> str:
        inputs, wanted = self.inputs, self._wanted()
        settings = "".join(f", {name}={name}" for name in self.settings)
        lines = [
            f"def {self.name}({self._signature()}):",
            "    kind = None" + ("; number = False" if len(inputs) > 1 else ""),
        ]
        if self.variadic:
            xs = inputs[0]
            lines += [
                "    nodes = []; arrays = []",
                f"    for x in {xs}:",
                "        if isinstance(x, Variable): kind = type(x); nodes.append(x.node); arrays.append(x._data)",
                "        else: nodes.append(None); arrays.append(x)",
                f"    {xs} = tuple(arrays)",
            ]
            arguments, nodes, constant = f"*{xs}", "tuple(nodes)", "not any(nodes)"
        else:
            for name in inputs:
                lines += [
                    f"    if isinstance({name}, Variable): "
                    f"kind = type({name}); {name}_node = {name}.node; {name} = {name}._data",
                    f"    else: {name}_node = None" + ("; number = True" if len(inputs) > 1 else ""),
                ]
            arguments = ", ".join(inputs)
            nodes = "(" + "".join(f"{name}_node, " if name in wanted else "None, " for name in inputs) + ")"
            constant = " and ".join(f"{name}_node is None" for name in wanted)
        saved = "".join(
            f"{self._value(asked)}, "
            if len(wanted) == 1
            else f"None if {name}_node is None else {self._value(asked)}, "
            for name, asked in self._saved()
        )
        # Field by field: a call of Node's __init__ would be a tenth of all that an op costs.
        fields = f"number = tick(); node.op = this; node.parents = {nodes}; node.saved = ({saved})"
        record = f"node = blank(Node); node.{fields}; node.shape = y.shape; node.grad_state = None"
        wide = "y.dtype is DOUBLE"
        if len(inputs) > 1:  # NumPy does not know that numbers are weak beside bfloat16
            wide += " or number and y.dtype is SINGLE"
        by_name = ", ".join(f"{name!r}: {name}" for name in self.settings)
        lines += [
            "    observer = inspector()",
            f"    try: y = formula({arguments}{settings}) if observer is None else "
            f"observer.run(this, ({arguments},), {{{by_name}}})",
            "    except (IndexError, TypeError, ValueError, MemoryError) as error: "
            f"raise add_op_context(this, error, ({arguments},)) from error",
            "    if kind is None: return y",
            "    if type(y) is not HostArray: y = as_array(y)",
            *([] if "dtype" in self.settings else [f"    if {wide}: y = demote_float64(y, ({arguments},))"]),
            "    result = new(kind)",
            "    result._data = y",
            f"    if {constant or True} or not recording(): node = None",
            f"    else: {record if self.rules else 'no_rules(this)'}",
            "    result.node = node",
            f"    if observer is not None: observer.forward(this, ({arguments},), result)",
            "    return result",
        ]
        return "\n".join(lines) + "\n"

    def _pull(self) -> str:
        head = f"def vjp_{self.name}(parents, saved, g, accumulate):"
        if self.variadic:
            xs = self.inputs[0]
            return "\n".join([
                head,
                "    for i, parent in enumerate(parents):",
                f"        if parent is not None: accumulate(parent, sum_to_shape({xs}_rule(g, i, *saved), parent.shape))",
            ]) + "\n"  # fmt: skip
        lines, place = [head], 0
        for position, name in enumerate(self.inputs):
            if name not in self._wanted():
                continue
            arguments = "".join(f", saved[{place + k}]" for k in range(len(self.residuals[name])))
            place += len(self.residuals[name])
            lines += [
                f"    node = parents[{position}]",
                "    if node is not None:",
                f"        cotangent = {name}_rule(g{arguments})",
                "        accumulate(node, cotangent if cotangent.shape == node.shape else sum_to_shape(cotangent, node.shape))",
            ]
        return "\n".join(lines if len(lines) > 1 else [head, "    pass"]) + "\n"

    def lift(self, kind: type[Variable], record: Node) -> tuple:
        """`record.saved` with its inputs and its output as Variables on the tape, for a recorded backward.

        Constants too: not every library leaves `array @ variable` to the variable.
        """
        places = {"y": record} if self.variadic else {"y": record, **dict(zip(self.inputs, record.parents))}

        def variable(value: Any, node: Node | None) -> Any:
            return kind.from_node(value, node) if hasattr(value, "dtype") and not isinstance(value, float) else value

        def lifted(asked: str, value: Any) -> Any:
            if self.variadic and asked == self.inputs[0]:
                return tuple(map(variable, value, record.parents))
            return variable(value, places[asked]) if asked in places else value

        assert record.saved is not None
        return tuple(lifted(asked, value) for (_, asked), value in zip(self._saved(), record.saved))

    def _compile(self, source: str, name: str) -> Any:
        filename = f"<op {name}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)  # for tracebacks
        exec(compile(source, filename, "exec"), self.globals)
        return self.globals.pop(name)


def unwrap(value: Any) -> Any:
    """The array of a Variable; any other value as it is."""
    return value._data if isinstance(value, Variable) else value


def add_op_context(this: Op, error: Exception, inputs: tuple) -> Exception:
    """The error again, saying which op it was and what it was given, or, if memory has run out, what holds it."""
    if isinstance(error, MemoryError):
        return with_memory_report(error)
    kind = next(kind for kind in (ValueError, TypeError, IndexError) if isinstance(error, kind))
    described = ", ".join(
        f"{type(x).__name__}" if not hasattr(x, "dtype") else f"{tuple(x.shape)} {x.dtype}" for x in inputs
    )
    homes = {home.name: home for home in (backend_of(x) for x in inputs if hasattr(x, "dtype"))}
    if len(homes) > 1:
        hint = f"; the inputs are on {' and '.join(sorted(homes))}: move one with .to(...)"
    else:
        hint = "".join(home.advice() for home in homes.values())
    return kind(f"{this.__name__}: {error} (inputs: {described}{hint})")


def no_rules(this: Op) -> Node:
    raise TypeError(
        f"{this.__name__} has no rules yet, so it cannot be differentiated: give one for each input with "
        f"{this.__name__}.vjp(...), or None to declare that an input has no gradient"
    )


def sum_to_shape(cotangent: Any, shape: tuple[int, ...]) -> Any:
    """A cotangent summed over the axes along which its input was broadcast."""
    return cotangent if cotangent.shape == shape else sum_to(cotangent, shape=shape)


@op
def broadcast_to(x, *, shape):
    """y = x repeated along new axes and axes of length 1, to `shape`        ∂L/∂x = g, summed to x's shape"""
    return xp_of(x).broadcast_to(x, shape)


@op
@accumulate_in_float32
def sum_to(x, *, shape):
    """y = x summed over the axes along which `shape` would be broadcast to x        ∂L/∂x = g, broadcast"""
    xp, extra = xp_of(x), len(x.shape) - len(shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(shape, x.shape[extra:])):
        raise ValueError(
            f"{tuple(shape)} cannot be broadcast to {tuple(x.shape)}, so that this is no sum over broadcast axes "
            "(a rule whose cotangent has not the shape of its input?)"
        )
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1)
    return xp.reshape(pairwise_sum(x, axis=axes), shape)


broadcast_to.vjp(x=lambda g: g)
sum_to.vjp(x=lambda g, x_shape: broadcast_to(g, shape=x_shape))
