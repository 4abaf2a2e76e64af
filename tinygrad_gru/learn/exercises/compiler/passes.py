"""Exercises 31 to 33: what leaves the loop, before it and after it, and what need not be computed at all.

A program is a list of records (name, op, arguments), in the order in which they run: name = op(*arguments).
"""

from __future__ import annotations

import numpy as np

from ...draws import arrays, sizes, st
from ...exercise import exercise

STEP = [("a", "matmul", ("x", "W")), ("b", "matmul", ("h", "U")), ("c", "add", ("a", "b"))]


@st.composite
def programs(draw, given, ops, most):
    """Programs of up to `most` records on the names `given`; ops are names with a number of arguments."""
    names, program = list(given), []  # what records made is there twice, and so drawn more often
    for name in "abcdefgh"[: draw(st.integers(1, most))]:
        op, count = draw(st.sampled_from(ops))
        program.append((name, op, tuple(draw(st.sampled_from(names)) for _ in range(count))))
        names += [name, name]
    return program


# -- 31 ----------------------------------------------------------------------------------------------------------------
@exercise(
    31,
    "What may leave the loop",
    inputs=(
        programs(("x", "h", "W", "U", "c_0"), (("matmul", 2), ("add", 2), ("tanh", 1)), 5),
        st.sampled_from((("h",), ("h", "c_0"))),
    ),
    example=(STEP, ("h",)),
    cases=[
        ([("e", "tanh", ("h",)), ("d", "tanh", ("e",)), ("c", "tanh", ("d",)), ("b", "tanh", ("c",))], ("h",)),
        ([("b", "matmul", ("x", "W")), ("a", "tanh", ("b",)), ("c", "add", ("c_0", "a"))], ("h", "c_0")),
    ],
    understood="What does not see the state is known for all steps at once: T small products become one large one.",
    hints=[
        "Keep a set of the names that depend on the carry; at first it is the carry itself.",
        "The records are in order: a record that has an argument in the set puts its own name into the set.",
    ],
    header="",
)
def hoistable(program, carry):
    """A step of a recurrence as a list of records (name, op, arguments), in the order in which they run. The names in
    `carry` hold the state, which comes from the step before. All others that no record makes are known before the loop:
    the weights, and the inputs x of all steps.

    What depends on nothing in the carry can leave the loop, and is computed for all steps at once. Return the list of
    the names of these records, in order.
    """
    depends, names = set(carry), []
    for name, _op, arguments in program:
        if depends.isdisjoint(arguments):
            names.append(name)
        else:
            depends.add(name)
    return names


@hoistable.check_with
def _(program, carry):
    records = {name: arguments for name, _, arguments in program}

    def leaves(name):
        return {name} if name not in records else set().union(*map(leaves, records[name]))

    return [name for name in records if not leaves(name) & set(carry)]


@hoistable.mistake(
    "only direct arguments are looked at",
    hint="A record whose argument was made of the state depends on the state, too.",
)
def _(program, carry):
    return [name for name, _, arguments in program if set(carry).isdisjoint(arguments)]


@hoistable.mistake(
    "x is taken for a part of the state",
    hint="x changes from step to step, but all the x are there before the first step. The state isn't.",
)
def _(program, carry):
    return hoistable.reference(program, (*carry, "x"))


@hoistable.mistake(
    "it stops at the first record that has to stay",
    hint="Further down there may be records that see nothing of the state.",
)
def _(program, carry):
    names = hoistable.reference(program, carry)
    prefix = [name for name, _, _ in program]
    return [name for k, name in enumerate(prefix) if prefix[: k + 1] == names[: k + 1]]


@hoistable.mistake("these are the records that have to stay", hint="Asked are those that may leave.")
def _(program, carry):
    names = hoistable.reference(program, carry)
    return [name for name, _, _ in program if name not in names]


@hoistable.mistake(
    "only what depends on weights alone leaves, or on x alone",
    hint="x W has both x and a weight as arguments. Is one of them not known before the loop?",
)
def _(program, carry):
    known = {name: name for name in "xWU"}
    for name, _, arguments in program:
        kinds = {"x" if known.get(a) == "x" else "weights" if a in known else None for a in arguments}
        if len(kinds) == 1 and None not in kinds:
            known[name] = kinds.pop()
    return [name for name in known if name not in "xWU"]


# -- 32 ----------------------------------------------------------------------------------------------------------------
@st.composite
def rows_over_time(draw):
    steps, batch, inputs, hidden = draw(sizes), draw(sizes), draw(sizes), draw(sizes)
    return draw(arrays((steps, batch, inputs))), draw(arrays((steps, batch, hidden)))


def run_counted(solution, xs, gs):
    """What a solution gives, and how many products it needed."""
    products = []

    def matmul(a, b):
        if not np.ndim(a) == np.ndim(b) == 2:
            raise ValueError(f"matmul: expected two matrices, got shapes {np.shape(a)} and {np.shape(b)}")
        products.append(np.matmul(a, b))
        return products[-1]

    gradient = solution(xs, gs, matmul)
    if len(products) == 1 and not any(np.array_equal(gradient, p) for p in (products[0], products[0].T)):
        products.clear()  # it counts if it gives the result
    return {"the gradient": gradient, "products that make it": len(products)}


@exercise(
    32,
    "T products become one",
    inputs=rows_over_time(),
    example=(np.array([[[1.0, 2.0]], [[3.0, 4.0]]]), np.array([[[1.0]], [[10.0]]])),
    understood="A sum of products is one product of longer matrices; the weights' gradient can wait for it.",
    hints=[
        "Write the sum over t and b: each is a row of x times a row of g. Does it matter which step a row is from?",
        "Look at xs as one matrix of T · B rows. `xs.reshape(-1, xs.shape[-1])` is that, and copies nothing.",
        "The gradient of W is X.T times G, where X is (T · B, inputs) and G (T · B, hidden).",
    ],
    run=run_counted,
    call="xs = {xs}\ngs = {gs}\nweight_gradient(xs, gs, np.matmul)",
)
def weight_gradient(xs, gs, matmul):
    """In each step a = x W + …, and g_t is ∂L/∂a_t. So W, which all steps share, has the gradient Σ_t x_tᵀ g_t: a
    product of matrices for each of the T steps. But nothing in the loop needs it before the loop is over.

    xs is (T, B, inputs), gs is (T, B, hidden). Return the gradient of W, (inputs, hidden), with a single product:
    matmul(a, b) computes one, of two matrices, and counts how often you call it. (By hand, give it np.matmul.)
    """
    return matmul(xs.reshape(-1, xs.shape[-1]).T, gs.reshape(-1, gs.shape[-1]))


@weight_gradient.check_with
def _(xs, gs):
    return {"the gradient": np.einsum("tbi,tbh->ih", xs, gs), "products that make it": 1}


@weight_gradient.mistake(
    "a product for each step",
    hint="The gradient is right, the number of products isn't. Rows of different steps may stand in one matrix.",
)
def _(xs, gs, matmul):
    return sum(matmul(x.T, g) for x, g in zip(xs, gs))


@weight_gradient.mistake(
    "the product is not done by `matmul`",
    hint="`a @ b` and np.einsum are products, too, but nobody counts them. Call the `matmul` that is given, once.",
)
def _(xs, gs, matmul):
    return np.tensordot(xs, gs, ([0, 1], [0, 1]))


@weight_gradient.mistake("the transpose of the gradient", hint="W is (inputs, hidden), and so is its gradient.")
def _(xs, gs, matmul):
    return matmul(gs.reshape(-1, gs.shape[-1]).T, xs.reshape(-1, xs.shape[-1]))


@weight_gradient.mistake(
    "reshape in place of a transpose",
    hint="reshape keeps the order of the numbers in memory; it can't make columns of rows. Make rows, then transpose.",
)
def _(xs, gs, matmul):
    return matmul(xs.reshape(xs.shape[-1], -1), gs.reshape(-1, gs.shape[-1]))


@weight_gradient.mistake("the last step alone", hint="W has worked in every step, and each has its share.")
def _(xs, gs, matmul):
    return matmul(xs[-1].T, gs[-1])


@weight_gradient.mistake("the mean over the steps", hint="Shares of a gradient add up.")
def _(xs, gs, matmul):
    return weight_gradient.reference(xs, gs, matmul) / len(xs)


@weight_gradient.mistake(
    "a stack of T products in place of one",
    hint="An array of three axes is T matrices to `matmul`, and T products. Make one matrix of all rows.",
)
def _(xs, gs, matmul):
    return matmul(xs.transpose(0, 2, 1), gs).sum(axis=0)


# -- 33 ----------------------------------------------------------------------------------------------------------------
@st.composite
def repetitive_programs(draw):
    """Programs with a twin `i` of a record, with `j` and `k` that differ by the twin or by the order of arguments, and
    some with two records that nobody needs; and the outputs."""
    program = draw(programs(("x", "y"), (("sub", 2), ("tanh", 1), ("exp", 1)), 3))
    name, *record = draw(st.sampled_from(program))
    op, *arguments = draw(st.sampled_from((("sub", "x", name), ("sub", name, "x"), ("tanh", name))))
    again = draw(st.sampled_from(([{name: "i"}.get(a, a) for a in arguments], arguments[::-1])))
    program += [("i", *record), ("j", op, tuple(arguments)), ("k", op, tuple(again))]
    dead = [("p", "tanh", ("y",)), ("q", "tanh", ("p",))] if draw(st.booleans()) else []
    return dead + program, draw(st.lists(st.sampled_from("kji" + name), min_size=1, max_size=2))


@exercise(
    33,
    "Two names, one value",
    inputs=repetitive_programs(),
    example=([("a", "tanh", ("x",)), ("b", "tanh", ("x",)), ("c", "sub", ("a", "b")), ("d", "tanh", ("y",))], ["c"]),
    cases=[
        ([("a", "tanh", ("x",)), ("b", "exp", ("x",)), ("c", "sub", ("a", "b"))], ["c"]),
        ([("a", "mul", ("x", "y")), ("b", "mul", ("y", "x")), ("c", "sub", ("a", "b"))], ["c"]),
        ([(name, "tanh", (of,)) for name, of in zip("abcdef", "xabcde")] + [("g", "exp", ("x",))], ["g"]),
    ],
    outputs=("the program", "the outputs"),
    understood="Two passes in a dozen lines: common subexpressions on the way down, dead code on the way up.",
    hints=[
        "Keep a dict from (op, arguments) to the first name that computed it, and one from each name to the name that "
        "stands for it. Rename a record's arguments before you look it up.",
        "Dead code is found from the end: at first the outputs are needed, and a record that is needed needs its "
        "arguments.",
    ],
    header="",
)
def simplify(program, outputs):
    """A program is a list of records (name, op, arguments), in the order in which they run; `outputs` is the list of
    the names that are asked for. All ops are pure: the same op on the same arguments, in the same order, gives the same
    value.

    Of the records that compute the same value keep the first, and let its name stand for the others everywhere, in the
    outputs too, whose list keeps its length. Then drop the records that no output needs. Return (program, outputs).
    """
    first, stands_for, kept = {}, {}, []
    for name, op, arguments in program:
        arguments = tuple(stands_for.get(a, a) for a in arguments)
        stands_for[name] = first.setdefault((op, arguments), name)
        if stands_for[name] == name:
            kept.append((name, op, arguments))
    outputs = [stands_for.get(name, name) for name in outputs]
    needed, live = set(outputs), []
    for name, op, arguments in reversed(kept):
        if name in needed:
            needed.update(arguments)
            live.append((name, op, arguments))
    return live[::-1], outputs


@simplify.check_with
def _(program, outputs):
    values = {"x": "x", "y": "y"}  # a name -> its value, written out as text
    for name, op, arguments in program:
        values[name] = f"{op}({','.join(values[a] for a in arguments)})"
    firsts = {text: name for name, text in reversed(values.items())}
    parts = {name: [firsts[values[a]] for a in arguments] for name, _, arguments in program}
    needed = {firsts[values[name]] for name in outputs}
    while more := {part for name in needed for part in parts.get(name, ())} - needed:
        needed |= more
    live = [(name, op, tuple(parts[name])) for name, op, _ in program if name in needed]
    return live, [firsts[values[name]] for name in outputs]


def merged(program, outputs, key=lambda op, renamed, arguments: (op, renamed)):
    """The first pass alone; records with the same key are taken for the same."""
    first, stands_for, kept = {}, {}, []
    for name, op, arguments in program:
        renamed = tuple(stands_for.get(a, a) for a in arguments)
        stands_for[name] = first.setdefault(key(op, renamed, arguments), name)
        if stands_for[name] == name:
            kept.append((name, op, renamed))
    return kept, [stands_for.get(name, name) for name in outputs]


def without_dead_code(program, outputs):
    """The second pass alone."""
    needed, live = set(outputs), []
    for name, op, arguments in reversed(program):
        if name in needed:
            needed.update(arguments)
            live.append((name, op, arguments))
    return live[::-1], outputs


@simplify.mistake("the order of the arguments is ignored", hint="a − b and b − a are two values.")
def _(program, outputs):
    return without_dead_code(*merged(program, outputs, key=lambda op, renamed, _: (op, *sorted(renamed))))


@simplify.mistake(
    "arguments are compared before they are renamed",
    hint="tanh(a) and tanh(b) are the same if b stands for a. Rename first, then look for a record that is the same.",
)
def _(program, outputs):
    return without_dead_code(*merged(program, outputs, key=lambda op, _, arguments: (op, arguments)))


@simplify.mistake(
    "what only dead code uses is kept",
    hint="If nobody needs c, and only c uses a, nobody needs a. In which direction must you go through the program?",
)
def _(program, outputs):
    kept, outputs = merged(program, outputs)
    used = {a for _, _, arguments in kept for a in arguments} | set(outputs)
    return [record for record in kept if record[0] in used], outputs


@simplify.mistake("dead code is kept", hint="The second part is missing: drop the records that no output needs.")
def _(program, outputs):
    return merged(program, outputs)


@simplify.mistake(
    "common subexpressions are kept",
    hint="The first part is missing: two records with the same op and the same arguments compute one value.",
)
def _(program, outputs):
    return without_dead_code(program, outputs)


@simplify.mistake(
    "the outputs keep their old names",
    hint="An output may be the name of a record that you dropped. Which name stands for it?",
)
def _(program, outputs):
    return without_dead_code(merged(program, outputs)[0], outputs)
