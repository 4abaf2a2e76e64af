"""Code generation: the source of the two functions behind an op, one that calls it and one that applies its rules.

Why: an op that looked at its signature and its rules whenever it is called would spend more time on that than NumPy
does on a small array. So `@op` looks once, and generates the straight-line code that one would write by hand for these
inputs and these rules. When: at the first call, for compiling all ops would take half as long as importing the package.
How: `source` puts the text together, `load` compiles it. What `print(hadamard.source())` prints, for the `hadamard` of
`op.py`, is

    def hadamard(a, b):
        _type = None
        _mixed = False
        if _isinstance(a, _Variable):
            _type, _a_node, a = _type_of(a), a.node, a._data
        else:
            _a_node, _mixed = None, True
        if _isinstance(b, _Variable):
            _type, _b_node, b = _type_of(b), b.node, b._data
        else:
            _b_node, _mixed = None, True
        if _mixed and _type and (
            a.__class__ is _list or a.__class__ is _tuple or
            b.__class__ is _list or b.__class__ is _tuple
        ):
            (a, b) = _arrays_of((a, b))
        _observer = _inspector()
        try:
            if _observer is None:
                _y = _formula(a, b)
            else:
                _y = _observer.run(_op, (a, b), {})
        except _ERRORS as _error:
            if _type is None and _any_list((a, b)):
                return _op(*_arrays_of((a, b)))
            raise _add_op_context(_op, _error, (a, b)) from _error
        if _type is None:
            return _y
        if _type_of(_y) is not _HostArray:
            _y = _as_array(_y)
        if _y.dtype is _DOUBLE or _mixed and _y.dtype is _SINGLE:
            _y = _demote_float64(_y, (a, b))
        elif _mixed and _y.dtype in _COMPLEX:
            _no_complex(_op)
        _result = _variable_new(_type)
        _result._data = _y
        if _a_node is None and _b_node is None or not _recording():
            _result.node = None
        else:
            _result.node = _node = _Node()
            _node.number = _tick()
            _node.op = _op
            _node.parents = (_a_node, _b_node)
            _node.saved = (None if _a_node is None else b, None if _b_node is None else a)
            _node.shape = _y.shape
            _node.grad_state = None
        if _observer is not None:
            _observer.forward(_op, (a, b), _result)
        return _result

    def vjp_hadamard(parents, saved, g, accumulate):
        node = parents[0]
        if node is not None:
            cotangent = _a_rule(g, saved[0])
            try:
                if cotangent.shape != node.shape:
                    cotangent = _sum_to_shape(cotangent, node.shape)
            except _MISFITS as _error:
                raise _misfit(_op, 'a', cotangent, node) from _error
            accumulate(node, cotangent)
        node = parents[1]
        if node is not None:
            cotangent = _b_rule(g, saved[1])
            try:
                if cotangent.shape != node.shape:
                    cotangent = _sum_to_shape(cotangent, node.shape)
            except _MISFITS as _error:
                raise _misfit(_op, 'b', cotangent, node) from _error
            accumulate(node, cotangent)

Settings can be given by position, too; those that the op does not know arrive in `_others` (`arguments.py`).
Arrays in, an array out; Variables in, a Variable of their type out, with a record on the tape that has saved the
residuals: what the rules of the inputs that require a gradient name. Beside the names of inputs and settings all names
begin with an underscore, which those of inputs and settings may not; `_SCOPE` in `op.py` lists their values.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from keyword import iskeyword
from typing import Any


class Interface:
    """What the generated code depends on: the name of an op, its inputs and settings, and the residuals of its rules.

    inputs     names of the positional parameters; of the one that takes any number of them if `variadic`
    settings   names of the keyword-only parameters, which callers may give by position where `positional`
    residuals  by input with a rule: what the rule names after `g`; None until rules are given
    """

    def __init__(self, name: str, signature: Signature):
        parameters = signature.parameters.values()
        kinds = [p.kind for p in parameters]
        self.name = name
        self.inputs = [p.name for p in parameters if p.kind is not Parameter.KEYWORD_ONLY]
        self.settings = [p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY]
        self.defaults = {f"_{p.name}_default": p.default for p in parameters if p.default is not Parameter.empty}
        self.variadic = Parameter.VAR_POSITIONAL in kinds
        required = [p.default is Parameter.empty for p in parameters]
        #: whether settings can be given by position, too: not where one that must be given would follow one that may
        self.positional = not self.variadic and required == sorted(required, reverse=True)
        self.residuals: dict[str, list[str]] | None = None
        if Parameter.VAR_KEYWORD in kinds or (self.variadic and len(self.inputs) > 1):
            raise TypeError(f"{name}{signature}: the inputs of an op are named one by one, or all taken by one *xs")
        for taken in [n for n in signature.parameters if n == "y" or n.startswith("_")]:
            reason = "y is the output of an op" if taken == "y" else "the generated code begins its own names with _"
            raise TypeError(f"{name}: inputs and settings cannot be called {taken!r}; rename it ({reason})")

    @property
    def respellable(self) -> list[str]:
        """A last setting `axis` that must be given: it may come in `_others`, by the name that PyTorch has for it."""
        required = [name for name in self.settings if f"_{name}_default" not in self.defaults]
        return [name for name in required[-1:] if name == "axis"]

    def call_signature(self, signature: Signature) -> Signature:
        """The signature that callers see."""
        if not self.positional:
            return signature
        parameters = signature.parameters.values()
        return signature.replace(parameters=[p.replace(kind=Parameter.POSITIONAL_OR_KEYWORD) for p in parameters])

    @property
    def differentiable(self) -> list[str]:
        """The inputs that can have a gradient."""
        return self.inputs if self.residuals is None else list(self.residuals)

    def saved(self) -> list[tuple[str, str]]:
        """The layout of a record's `saved`: (input, residual of its rule)."""
        return [(name, residual) for name, residuals in (self.residuals or {}).items() for residual in residuals]


def source(op: Interface) -> str:
    """The text of both functions."""
    name = op.name if op.name.isidentifier() and not iskeyword(op.name) else "op"  # for `<lambda>`
    call = [f"def {name}({_parameters(op)}):", *(f"    {line}" for line in _call(op))]
    vjp = [f"def vjp_{name}(parents, saved, g, accumulate):", *(f"    {line}" for line in _vjp(op))]
    return "\n".join([*call, "", *vjp, ""])


def load(text: str, filename: str, scope: dict[str, Any]) -> list[Callable]:
    """The functions of a text with `scope` as their globals; debuggers and tracebacks find the text by its filename."""
    linecache.cache[filename] = _cache_entry(text, filename)
    functions: dict[str, Any] = {}  # apart from the globals, so that an op of any name overwrites none of them
    exec(compile(text, filename, "exec"), scope, functions)
    return list(functions.values())


def unique_filename(name: str) -> str:
    """A filename that no other op has, reserved in Python's cache of source lines."""
    filename, number = f"<op {name}>", 1
    while linecache.cache.setdefault(filename, entry := _cache_entry("", filename)) is not entry:
        number += 1
        filename = f"<op {name} {number}>"
    return filename


def _cache_entry(text: str, filename: str) -> tuple:
    return len(text), None, text.splitlines(keepends=True), filename


def _parameters(op: Interface) -> str:
    def declaration(name: str) -> str:
        if f"_{name}_default" in op.defaults:
            return f"{name}=_{name}_default"
        return f"{name}=_required" if name in op.respellable else name

    inputs = [f"*{op.inputs[0]}"] if op.variadic else [declaration(name) for name in op.inputs]
    keyword_only = [] if op.positional or op.variadic or not op.settings else ["*"]
    others = ["**_others"] if op.settings else []
    return ", ".join([*inputs, *keyword_only, *map(declaration, op.settings), *others])


def _call(op: Interface) -> list[str]:
    """The body of the function that users call."""
    arguments = [f"*{op.inputs[0]}"] if op.variadic else op.inputs
    arrays = op.inputs[0] if op.variadic else _tuple(op.inputs)
    settings = f"{{{', '.join(f'{name!r}: {name}' for name in op.settings)}}}"
    respelt = ["if _others:", f"    return _op({', '.join(arguments)}, **_respelt(_op, {settings}, _others))"]
    passed = [f"{name}={name}" for name in op.settings]
    on_lists = [
        f"    if _type is None and _any_list({arrays}):",
        f"        return _op({', '.join([f'*_arrays_of({arrays})', *passed])})",
    ]
    several = len(op.inputs) > 1
    is_wider, is_complex = "_y.dtype is _DOUBLE", "_y.dtype in _COMPLEX"
    if several:  # NumPy does not know that Python scalars are weakly typed beside bfloat16
        is_wider, is_complex = f"{is_wider} or _mixed and _y.dtype is _SINGLE", f"_mixed and {is_complex}"
    demoted = [f"if {is_wider}:", f"    _y = _demote_float64(_y, {arrays})"]
    if several or op.variadic:  # no Tensor is, but an array or a scalar beside one may be
        demoted += [f"elif {is_complex}:", "    _no_complex(_op)"]
    missing = [line for name in op.respellable for line in (
        f"if {name} is _required:", f'    raise TypeError("{op.name}() missing 1 required argument: {name!r}")'
    )]  # fmt: skip
    return [
        *(respelt if op.settings else []),
        *missing,
        *(_unwrap_all(op.inputs[0]) if op.variadic else _unwrap_each(op.inputs)),
        "_observer = _inspector()",
        "try:",
        "    if _observer is None:",
        f"        _y = _formula({', '.join([*arguments, *passed])})",
        "    else:",
        f"        _y = _observer.run(_op, {arrays}, {settings})",
        "except _ERRORS as _error:",
        *([] if op.variadic else on_lists),
        f"    raise _add_op_context(_op, _error, {arrays}) from _error",
        "if _type is None:",
        "    return _y",
        "if _type_of(_y) is not _HostArray:",
        "    _y = _as_array(_y)",
        *([] if "dtype" in op.settings else demoted),
        "_result = _variable_new(_type)",
        "_result._data = _y",
        *_record(op),
        "if _observer is not None:",
        f"    _observer.forward(_op, {arrays}, _result)",
        "return _result",
    ]


def _unwrap_each(inputs: list[str]) -> list[str]:
    """The statements that take arrays and nodes out of the inputs. `_mixed`: not all of several are Variables."""
    several = len(inputs) > 1
    lines = ["_type = None", *(["_mixed = False"] if several else [])]
    for x in inputs:
        lines += [
            f"if _isinstance({x}, _Variable):",
            f"    _type, _{x}_node, {x} = _type_of({x}), {x}.node, {x}._data",
            "else:",
            f"    _{x}_node, _mixed = None, True" if several else f"    _{x}_node = None",
        ]
    if several:  # a list beside a Variable, which would reach the rules as a list
        tests = [f"    {x}.__class__ is _list or {x}.__class__ is _tuple or" for x in inputs]
        tests[-1] = tests[-1].removesuffix(" or")
        arrays = _tuple(inputs)
        lines += ["if _mixed and _type and (", *tests, "):", f"    {arrays} = _arrays_of({arrays})"]
    return lines


def _unwrap_all(xs: str) -> list[str]:
    return [
        "_type = None",
        "_nodes, _arrays = [], []",
        f"for _x in {xs}:",
        "    if _isinstance(_x, _Variable):",
        "        _type = _type_of(_x)",
        "        _nodes.append(_x.node)",
        "        _arrays.append(_x._data)",
        "    else:",
        "        _nodes.append(None)",
        "        _arrays.append(_x)",
        f"{xs} = _tuple(_arrays)",
    ]


def _record(op: Interface) -> list[str]:
    """The statements that put a record on the tape. Field by field: an __init__ would cost 10 % more."""
    differentiable = op.differentiable
    if not differentiable:
        return ["_result.node = None"]
    if op.variadic:
        nodes, constant = "_tuple(_nodes)", "not _any(_nodes)"
    else:
        nodes = _tuple([f"_{x}_node" if x in differentiable else "None" for x in op.inputs])
        constant = " and ".join(f"_{x}_node is None" for x in differentiable)
    condition = [] if len(differentiable) == 1 else differentiable  # where one input has rules, it has a node here
    saved = [
        f"None if _{x}_node is None else {_residual(op, residual)}" if x in condition else _residual(op, residual)
        for x, residual in op.saved()
    ]
    if op.residuals is None:
        return [f"if {constant} or not _recording():", "    _result.node = None", "else:", "    _no_rules(_op)"]
    return [
        f"if {constant} or not _recording():",
        "    _result.node = None",
        "else:",
        "    _result.node = _node = _Node()",
        "    _node.number = _tick()",
        "    _node.op = _op",
        f"    _node.parents = {nodes}",
        f"    _node.saved = {_tuple(saved)}",
        "    _node.shape = _y.shape",
        "    _node.grad_state = None",
    ]


def _residual(op: Interface, residual: str) -> str:
    """The expression for a residual."""
    if residual == "y":
        return "_y"
    if residual in (*op.inputs, *op.settings):
        return residual
    name, _, attribute = residual.rpartition("_")
    return f"[_x.{attribute} for _x in {name}]" if op.variadic else f"{name}.{attribute}"


def _vjp(op: Interface) -> list[str]:
    """The body of the function that applies the rules to `g` and accumulates their cotangents."""
    if op.variadic:
        return [
            "for i, node in enumerate(parents):",
            "    if node is not None:",
            f"        cotangent = _{op.inputs[0]}_rule(g, i, *saved)",
            *(f"        {line}" for line in _fitted(op.inputs[0])),
            "        accumulate(node, cotangent)",
        ]
    lines, positions = [], iter(range(len(op.saved())))
    for x, residuals in (op.residuals or {}).items():
        arguments = ", ".join(["g", *(f"saved[{next(positions)}]" for _ in residuals)])
        lines += [
            f"node = parents[{op.inputs.index(x)}]",
            "if node is not None:",
            f"    cotangent = _{x}_rule({arguments})",
            *(f"    {line}" for line in _fitted(x)),
            "    accumulate(node, cotangent)",
        ]
    return lines or ["pass"]


def _fitted(x: str) -> list[str]:
    """The statements that sum a cotangent to the shape of its input; if it has none, the error names the rule."""
    return [
        "try:",
        "    if cotangent.shape != node.shape:",
        "        cotangent = _sum_to_shape(cotangent, node.shape)",
        "except _MISFITS as _error:",
        f"    raise _misfit(_op, {x!r}, cotangent, node) from _error",
    ]


def _tuple(items: Iterable[str]) -> str:
    items = list(items)
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
