"""Programs from their text: the reverse of `print(program)`."""

from __future__ import annotations

import ast
import re

import numpy as np

from tinygrad_gru.scan.ir import Graph, Program, Value

_LINE = re.compile(r"\s*(?P<name>v\d+) = (?P<op>\w+)\((?P<arguments>.*?)\) +(?P<shape>\(.*?\)) (?P<dtype>\w+)")


def parse(text: str) -> Program:
    """The program that prints as `text`; what follows the dtype in a line is ignored."""
    graph, names = Graph(), dict[str, Value]()
    *lines, interface = text.strip().splitlines()
    for line in lines:
        found = _LINE.match(line)
        assert found, f"no line of a graph: {line!r}"
        call = ast.parse(f"f({found['arguments']})", mode="eval").body
        assert isinstance(call, ast.Call)
        operands = [_operand(graph, names, argument) for argument in call.args]
        attributes = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        shape = ast.literal_eval(found["shape"])
        value = graph.add(found["op"], operands, shape, np.dtype(found["dtype"]), **attributes)
        assert value.name == found["name"], f"{value!r} is called {found['name']}"
        names[value.name] = value
    parts = dict(part.split(" ", 1) for part in interface.strip().split("; "))
    carry = [pair.split(" -> ") for pair in parts.get("carry", "").split(", ") if pair]
    xs, ys, sums = ([names[name] for name in parts.get(key, "").split(", ") if name] for key in ("xs", "ys", "sums"))
    old, new = ([names[pair[i]] for pair in carry] for i in (0, 1))
    return Program(graph, tuple(old), tuple(xs), tuple(new), tuple(ys), tuple(sums))


def _operand(graph: Graph, names: dict[str, Value], argument: ast.expr) -> Value:
    return names[argument.id] if isinstance(argument, ast.Name) else graph.scalar(ast.literal_eval(argument))
