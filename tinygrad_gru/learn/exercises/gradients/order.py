"""Exercises 7 and 8: why order matters."""

from __future__ import annotations

from ...draws import nonzero, st
from ...exercise import exercise


@st.composite
def graphs(draw):
    """A graph {node: its inputs} and its root; a node may use another twice, or none at all."""
    names = draw(st.permutations("abcdef"))[: draw(st.integers(1, 9))]  # six are more frequent, so that orders matter
    inputs_of = {}
    for k, name in enumerate(names):
        count = min(draw(st.integers(0, 4)), 2) if k else 0
        inputs_of[name] = [names[draw(st.integers(0, k - 1))] for _ in range(count)]
    keys = draw(st.permutations(names))
    return {name: inputs_of[name] for name in keys}, names[-1]


class Visited(dict):
    """A dictionary that refuses the 200th look at one key."""

    def __init__(self, entries):
        super().__init__(entries)
        self.looks = dict.fromkeys(entries, 0)

    def __getitem__(self, key):
        self.looks[key] = self.looks.get(key, 0) + 1
        if self.looks[key] > 200:
            raise RuntimeError("a node was visited more than 200 times: every path is walked, not every node")
        return super().__getitem__(key)


def _properties(solution, inputs_of, root):
    found = solution(Visited(inputs_of), root)
    if not isinstance(found, (list, tuple)):
        raise TypeError(f"expected a list of nodes, got {type(found).__name__}: {found!r:.80}")
    too_early = [n for k, n in enumerate(found) if not set(inputs_of.get(n, ())) <= set(found[:k])]
    return {"the nodes, sorted": sorted(found), "nodes that come before one of their inputs": too_early}


@exercise(
    7,
    "Topological order",
    inputs=graphs(),
    example=({"loss": ["y", "x"], "y": ["x"], "x": [], "other": []}, "loss"),
    cases=[
        ({"a": ["b", "c"], "b": ["f", "f"], "c": ["d"], "d": ["f"], "f": []}, "a"),
        ({name: [of] if of else [] for name, of in zip("afbecd", ["f", "b", "e", "c", "d", ""])}, "a"),
        ({"a": ["b", "c", "d"], "b": [], "c": [], "d": []}, "a"),
        ({n: [m, m] if m else [] for m, n in zip(["", *"abcdefghi"], "abcdefghij")}, "j"),
    ],
    run=_properties,
    header="",
    understood="In such an order values can be computed; in its reverse, each cotangent is complete before it is used.",
    hints=[
        "When may a node be put into the list? When all of its inputs are in it. Who puts them there?",
        "visit(node): if it is not in the list, visit each of its inputs, then append the node. Begin at root.",
    ],
)
def order(inputs_of, root):
    """inputs_of is a graph, {node: [the nodes that it is computed from]}; a node may use another one twice.

    Return a list of the nodes that root needs, root included: each once, and after all of its inputs. Any such order
    will do. Nodes that root does not need, directly or indirectly, are left out.
    """
    found = []

    def visit(node):
        if node not in found:
            for source in inputs_of[node]:
                visit(source)
            found.append(node)

    visit(root)
    return found


@order.mistake("a node that is used twice is listed twice", hint="Ask first whether the node is in the list already.")
def _(inputs_of, root):
    return [node for source in inputs_of[root] for node in _mistaken_twice(inputs_of, source)] + [root]


def _mistaken_twice(inputs_of, node):
    return [n for source in inputs_of[node] for n in _mistaken_twice(inputs_of, source)] + [node]


def _preorder(inputs_of, root):
    found, stack = [], [root]
    while stack:
        node = stack.pop()
        if node not in found:
            found.append(node)
            stack += reversed(inputs_of[node])
    return found


@order.mistake("a node is listed before its inputs", hint="Append after the visits to the inputs, not before them.")
def _(inputs_of, root):
    return _preorder(inputs_of, root)


@order.mistake(
    "the reverse of a walk from the root is no such order",
    hint="root → a → c and root → b → a: the first walk meets a before b. Reversed, b comes before a, which it needs.",
)
def _(inputs_of, root):
    found = [root]
    for node in found:
        found += [source for source in dict.fromkeys(inputs_of[node]) if source not in found]
    return found[::-1]


@order.mistake("nodes that root does not need are listed", hint="Begin at the root and follow the inputs from there.")
def _(inputs_of, root):
    return [node for start in inputs_of for node in order.reference(inputs_of, start)]


@order.mistake("the root itself is missing", hint="The root is a node like the others: it comes last.")
def _(inputs_of, root):
    return order.reference(inputs_of, root)[:-1]


@st.composite
def weighted_graphs(draw):
    """A graph {node: [(input, derivative)]} and its root."""
    inputs_of, root = draw(graphs())
    return {n: [(source, draw(nonzero)) for source in sources] for n, sources in inputs_of.items()}, root


@exercise(
    8,
    "Mend the walk",
    inputs=weighted_graphs(),
    example=({"y": [("x", 3.0)], "x": []}, "y"),
    cases=[
        ({"a": [("b", 2.0), ("c", 3.0)], "b": [("c", 1.0)], "c": []}, "a"),
        ({"d": [("a", 1.0), ("c", 1.0)], "c": [("a", 1.0)], "a": [("x", 2.0)], "x": []}, "d"),
        ({n: [(m, 1.0), (m, 0.5)] if m else [] for m, n in zip(["", *"abcdefghi"], "abcdefghij")}, "j"),
    ],
    run=lambda solution, edges, root: solution(Visited(edges), root),
    header="",
    understood="A node hands on its cotangent once, when it is complete: after all nodes that use it. Hence the order.",
    hints=[
        "Take y = a·a with a = x·x on paper: how often is x's gradient handed on to, and with which values of a's?",
        "First find the order of exercise 7; then go through it from the end, so that each node is visited once.",
    ],
    starter='''
def gradients(edges, root):
    """edges is a graph with derivatives: {node: [(input, ∂node/∂input), …]}; an input may be there twice.

    Return {node: ∂root/∂node} for all nodes that root depends on, and root itself (1.0).

    What follows was written in a hurry. It is right for a chain of nodes, and even for y = x·x. For some graphs it is
    wrong: find out which, and mend it. (A walk along every path would be right, but there are too many paths.)
    """
    found = {root: 1.0}
    queue = [root]
    while queue:
        node = queue.pop(0)
        for source, derivative in edges[node]:
            found[source] = found.get(source, 0.0) + found[node] * derivative
            queue.append(source)
    return found
''',
)
def gradients(edges, root):
    """Each node once, after all the nodes that use it."""
    order, found = [], {root: 1.0}

    def visit(node):
        if node not in order:
            for source, _ in edges[node]:
                visit(source)
            order.append(node)

    visit(root)
    for node in reversed(order):
        for source, derivative in edges[node]:
            found[source] = found.get(source, 0.0) + found[node] * derivative
    return found


@gradients.check_with
def _(edges, root):
    """The sum over all paths."""
    found = {root: 1.0}
    for source, derivative in edges[root]:
        for node, further in gradients.oracle(edges, source).items():
            found[node] = found.get(node, 0.0) + derivative * further
    return found


@gradients.mistake(
    "it is as it was: a node hands on what it has already handed on",
    hint="On its second visit a node hands on its whole cotangent, the part from the first visit included.",
)
def _(edges, root):
    found, queue = {root: 1.0}, [root]
    while queue:
        node = queue.pop(0)
        for source, derivative in edges[node]:
            found[source] = found.get(source, 0.0) + found[node] * derivative
            queue.append(source)
    return found


@gradients.mistake(
    "each node is visited once, but before its cotangent is complete",
    hint="“Once” is right. But if x is visited before another node that uses it, what that one adds goes no further.",
)
def _(edges, root):
    found, queue, done = {root: 1.0}, [root], set()
    while queue:
        node = queue.pop(0)
        if node in done:
            continue
        done.add(node)
        for source, derivative in edges[node]:
            found[source] = found.get(source, 0.0) + found[node] * derivative
            queue.append(source)
    return found


@gradients.mistake(
    "a gradient is overwritten where it should be added to", hint="Two uses of a node are two effects on the root: `+`."
)
def _(edges, root):
    found = dict.fromkeys([root], 1.0)
    for node in reversed(order.reference({n: [s for s, _ in edges[n]] for n in edges}, root)):
        for source, derivative in edges[node]:
            found[source] = found[node] * derivative
    return found


@gradients.mistake(
    "every path is walked",
    hint="It is right, and takes time 2ⁿ for n nodes in a ladder: hand on sums, not single paths.",
)
def _(edges, root):
    found = {}

    def walk(node, product):
        found[node] = found.get(node, 0.0) + product
        for source, derivative in edges[node]:
            walk(source, product * derivative)

    walk(root, 1.0)
    return found
