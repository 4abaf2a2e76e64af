"""The JavaScript target equals the interpreter under Node.js, on programs of all kinds, and NumPy on whole scans."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from support.node import needs_node, run

from tests.scan.interpreter import interpret
from tests.scan.programs import CELLS, traced_cell, traced_random_cell
from tests.scan.random_programs import draw_program
from tinygrad_gru import Tensor, compiling, explain, grad, nn, ops, scan
from tinygrad_gru.interop import InteropError, javascript
from tinygrad_gru.scan.targets.javascript import JavaScriptTarget, products
from tinygrad_gru.scan.targets.javascript.operations import ARRAYS
from tinygrad_gru.scan.targets.source import build
from tinygrad_gru.scan.tracing.traced_array import Untraceable
from tinygrad_gru.trees import flatten

RANDOM_PROGRAMS, RANDOM_CELLS = 150, 60


def text(array):
    """An array as JavaScript."""
    array = np.asarray(array)
    return f"{ARRAYS[array.dtype.name]}.from({json.dumps(array.astype(float).ravel().tolist())})"


def texts(arrays):
    return f"[{', '.join(map(text, arrays))}]"


def check(found, expected, hint, tolerance=1e-9):
    expected = np.asarray(expected, float)
    found = np.array(found, float).reshape(expected.shape)
    scale = max(1.0, np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale, err_msg=str(hint))


# -- programs ----------------------------------------------------------------------------------------------------------


class Programs:
    """Programs with their arrays, run together in one process."""

    def __init__(self):
        self.calls, self.expected, self.hints, self.refused = [], [], [], 0

    def add(self, example, length, hint):
        example = replace(example, xs=[x[:length] for x in example.xs])
        program = example.program
        try:
            source = build(JavaScriptTarget(), program, "program", example.kept).source.text
        except Untraceable:
            self.refused += 1
            return
        with np.errstate(all="ignore"):
            steps = interpret(program, example.carry, example.xs, length, example.reverse) if length else None
        arguments = [texts(program.graph.constants), texts(example.carry), texts(example.xs)]
        reverse = json.dumps(bool(example.reverse))
        self.calls.append(f"(() => {{ {source} return program({', '.join(arguments)}, {length}, {reverse}); }})")
        expected = [example.carry, [()] * len(program.ys), [np.zeros(v.shape) for v in program.sums]]
        self.expected.append([steps.carry, steps.ys, steps.sums] if steps else expected)
        self.hints.append((hint, length))

    def check(self, folder):
        calls = ",\n".join(self.calls)
        script = f"{products()}\nconst main = () => [{calls}].map((f) => f()).map((r) => [r.carry, r.ys, r.sums]);"
        for found, expected, hint in zip(run(script, folder), self.expected, self.hints, strict=True):
            for kind, of_kind, right in zip(("carry", "ys", "sums"), found, expected, strict=True):
                for i, (one, other) in enumerate(zip(of_kind, right, strict=True)):
                    check(one, other, (hint, kind, i))


@needs_node
def test_random_programs(tmp_path):
    """Products of up to three axes, views of all kinds, reductions, selections, scatters, casts; 4, 1 and no steps."""
    programs = Programs()
    for seed in range(RANDOM_PROGRAMS):
        programs.add(draw_program(seed), (4, 1, 4, 0)[seed % 4], seed)
    assert programs.refused < RANDOM_PROGRAMS / 10
    programs.check(tmp_path)


@needs_node
def test_random_cells_forward_and_backward(tmp_path):
    programs = Programs()
    for seed in range(RANDOM_CELLS):
        for name, example in traced_random_cell(seed).examples().items():
            programs.add(example, (4, 1)[seed % 2], f"{seed} {name}")
    for cell in CELLS:
        for name, example in traced_cell(cell).examples().items():
            programs.add(example, 4, f"{cell} {name}")
    assert not programs.refused
    programs.check(tmp_path)


# -- scans -------------------------------------------------------------------------------------------------------------

W, B = np.random.default_rng(0).standard_normal((2, 4, 4)) * 0.5, np.linspace(-1, 1, 4)


def two_states(weight, bias):
    """Two parts of the carry, two inputs, two outputs, of which one is no state; a detached value and a comparison."""

    def step(carry, xs):
        h, c = carry
        x, m = xs
        c = c * m + ops.tanh(x @ weight[0] + h @ weight[1])
        h = ops.where(c > bias, ops.softmax(c), 0.5 * h.detach())
        return (h, c), (h * bias, ops.sum(c, axis=1))

    return step, (Tensor(np.ones((2, 4))), Tensor(np.zeros((2, 4)))), (inputs(2, 4), inputs(2, 1))


def counting(weight, bias):
    """An integer that counts the steps, and no inputs."""

    def step(carry, x):
        h, n = carry
        return (ops.tanh(h @ weight[0] + ops.where(n > 2, bias, 2.0)), n + 1)

    return step, (Tensor(np.ones((1, 4))), Tensor(np.array([0], np.int32))), None


def vectors(weight, bias):
    """No batch: products with vectors, a product of batches, a maximum over time, a scalar carry."""

    def step(carry, x):
        h, top = carry
        scores = ops.matmul(ops.stack([weight[0], weight[1]]), ops.reshape(h, shape=(4, 1)))[:, :, 0]
        one = ops.matmul(ops.reshape(h, shape=(1, 1, 4)), ops.reshape(weight[1], shape=(1, 4, 4)))  # a batch of one
        h = ops.sin(x @ weight[0] + weight[1] @ h) * bias + 0.1 * scores[1] * one[0, 0]
        return (h, ops.maximum(top, ops.max(h)))

    return step, (Tensor(np.ones(4)), Tensor(-1.0, dtype="float64")), inputs(4)


def decoding(weight, bias):
    """A token that is fed back: rows of a table, the argmax of a long axis with equal elements, a loss of class ids."""

    def step(carry, x):
        h, token = carry
        h = ops.tanh(ops.embedding(weight[0], token) + h @ weight[1] + x)
        scores = ops.repeat(h @ weight[1], repeats=18, axis=1)
        best = ops.argmax(scores, axis=1)
        token = (best // 18 - ops.argmin(h, axis=1)) % 4
        loss = ops.cross_entropy(scores, best, reduction="none")
        return (h, token), (best, loss, ops.scatter_add(h, h[:, ::-1], index=(slice(None), [0, 3, 3, 1])))

    return step, (Tensor(np.ones((2, 4))), Tensor(np.array([1, 3]))), inputs(2, 4)


def inputs(*shape):
    return Tensor(np.random.default_rng(7).standard_normal((5, *shape)), requires_grad=True)


def of_cell(make):
    def case(weight, bias):
        cell = make()
        return cell.step, cell.initial_state(2), inputs(2, 3)

    return case


SCANS = {
    "two states": two_states, "counting": counting, "vectors": vectors, "decoding": decoding,
    "gru": of_cell(lambda: nn.GRUCell(3, 11)),
    "reset after": of_cell(lambda: nn.GRUCell(3, 4, reset_after=True)),
    "layer norm": of_cell(lambda: nn.LSTMCell(3, 4, layer_norm=True, peephole=True)),
    "projected": of_cell(lambda: nn.LSTMCell(3, 5, proj_size=2)),
    "mgu": of_cell(lambda: nn.MGUCell(3, 4, activation="relu")),
}  # fmt: skip


class Scan:
    """A scan in Python and in JavaScript: its results, and its gradients for random cotangents."""

    def __init__(self, name, dtype, length, reverse):
        self.name, self.tolerance = (name, dtype, length, reverse), 1e-10 if dtype == "float64" else 2e-5
        closure = Tensor(W.astype(dtype), requires_grad=True), Tensor(B.astype(dtype), requires_grad=True)
        step, carry, xs = SCANS[name](*closure)
        if hasattr(step, "__self__"):
            closure = list(step.__self__.astype(dtype).parameters())
        carry, xs = (self.converted(tree, dtype, length) for tree, length in ((carry, None), (xs, length)))
        self.reverse, self.length = reverse, length
        self.script = javascript.scan_source(step, carry, xs, name="recurrence")
        self.carry, self.xs = flatten(carry), flatten(xs)
        last, ys = scan(step, carry, xs, length=length, reverse=reverse, compiled=False)
        self.last, self.ys = flatten(last), flatten(ys)
        random = np.random.default_rng(3)
        outputs = [*self.last, *self.ys]
        self.cotangents = [random.standard_normal(y.shape).astype(y.dtype) for y in outputs]
        if length == 3:
            self.cotangents[0][...] = 0  # in JavaScript null
        pairs = [(y, Tensor(g)) for y, g in zip(outputs, self.cotangents) if y.requires_grad]
        wanted = [*self.carry, *self.xs, *closure]
        differentiable = [t for t in wanted if np.dtype(t.dtype).kind == "f"]
        found = grad([y for y, _ in pairs], differentiable, [g for _, g in pairs], allow_unused=True) if pairs else []
        by_id = {id(t): g for t, g in zip(differentiable, found)}
        self.gradients = [by_id.get(id(t)) for t in wanted]

    @staticmethod
    def converted(tree, dtype, length):
        def one(t):
            array = t.numpy()[:length] if length is not None else t.numpy()
            if array.dtype.kind != "f":
                return Tensor(array)
            return Tensor(array.astype(dtype), requires_grad=True)

        return tuple(map(one, tree)) if isinstance(tree, tuple) else None if tree is None else one(tree)

    def call(self):
        count = len(self.last)
        of_carry = [text(g) if g.any() else "null" for g in self.cotangents[:count]]
        options = f"{{length: {self.length}, reverse: {json.dumps(self.reverse)}}}"
        arrays = f"{texts(t.numpy() for t in self.carry)}, {texts(t.numpy() for t in self.xs)}"
        return (
            f"(() => {{ {self.script} const run = recurrence.forward({arrays}, {options});"
            f" const back = recurrence.backward(run, {{carry: [{', '.join(of_carry)}],"
            f" ys: {texts(self.cotangents[count:])}}}); return {{run: {{carry: run.carry, ys: run.ys}}, back}}; }})()"
        )

    def check(self, found):
        for kind, expected in (("carry", self.last), ("ys", self.ys)):
            for one, y in zip(found["run"][kind], expected, strict=True):
                check(one, y.numpy(), (self.name, kind), self.tolerance)
        back = found["back"]
        closed_over = [g for g in back["closedOver"] if g is not None]
        count = len(self.carry) + len(self.xs)
        for one, g in zip([*back["carry"], *back["xs"]], self.gradients):
            if g is not None:
                check(one, g.numpy(), (self.name, "inputs"), self.tolerance)
        right = [g for g in self.gradients[count:] if g is not None]
        for one, g in zip(closed_over, right, strict=bool(right)):
            check(one, g.numpy(), (self.name, "closed over"), self.tolerance)


@needs_node
def test_scans_and_all_their_gradients(tmp_path):
    lengths = {"float32": [(5, False), (3, True)], "float64": [(5, True), (1, False), (0, False)]}
    scans = [Scan(name, dtype, *of) for name in SCANS for dtype in lengths for of in lengths[dtype]]
    script = f"const main = () => [{', '.join(one.call() for one in scans)}];"
    for one, found in zip(scans, run(script, tmp_path), strict=True):
        one.check(found)


@needs_node
def test_a_run_keeps_what_it_was_given(tmp_path):
    script = (
        javascript.scan_source(lambda h, x: (h * x, x), Tensor([0.0]), Tensor([[1.0], [1.0]]))
        + """
    const main = () => {
      const xs = Float32Array.of(2, 3), first = tinygradScan.forward([Float32Array.of(1)], [xs]);
      xs.fill(0);
      const again = tinygradScan.forward([Float32Array.of(5)], [xs]);
      const {carry, xs: [ofX]} = tinygradScan.backward(first, {carry: [Float32Array.of(1)]});
      return [first.carry[0], first.ys[0], carry[0], ofX, again.carry[0]];
    };"""
    )
    assert run(script, tmp_path) == [[6], [2, 3], [6], [3, 2], [0]]


@needs_node
def test_constants_are_live_and_wrong_arrays_are_errors(tmp_path):
    """What the step computes of constants alone follows them: `stays` is 1 as long as decay > 0."""
    decay = Tensor([0.5])

    def step(h, x):
        stays = (decay > 0).astype("float32")
        return stays * decay * h + x

    script = (
        javascript.scan_source(step, Tensor([0.0]), Tensor([[1.0], [1.0]]))
        + """
    const main = () => {
      const zero = new Float32Array(1), ones = new Float32Array(2).fill(1), {forward, constants} = tinygradScan;
      const before = forward([zero], [ones]).carry[0][0];
      constants[0][0] = 2;
      const calls = [() => forward([], [ones]), () => forward([zero], [Float64Array.of(1, 2)]), () => forward([zero])];
      const run = forward([zero], [ones]), {backward} = tinygradScan;
      calls.push(() => backward(run, {carry: [new Float32Array(2)]}), () => backward(run, {ys: [zero]}));
      const errors = calls.map((f) => { try { return f(); } catch (error) { return error.message; } });
      constants[0][0] = -7;  // a run keeps what it was given
      const gradient = backward(run, {carry: [ones.slice(1)]}).carry[0][0];
      return [before, run.carry[0][0], gradient, forward([zero], [ones]).carry[0][0], constants.length, errors];
    };"""
    )
    before, after, gradient, negative, count, (no_carry, doubles, nothing, carry, ys) = run(script, tmp_path)
    assert (before, after, gradient, negative, count) == (1.5, 3, 4, 1, 1)
    assert carry == "carry: expected [Float32Array(1)], got [Float32Array(2)]"
    assert ys == "ys: expected [Float32Array(2)], got [Float32Array(1)]"
    assert no_carry == "carry: expected [Float32Array(1)], got []"
    assert doubles == "xs: expected [Float32Array(2)], got [Float64Array(2)]"
    assert nothing == "length: the number of steps is unknown; give xs or length"


@needs_node
def test_an_index_that_another_element_has_is_out_of_bounds(tmp_path):
    """Eager mode refuses these, although there is memory: of another row, or counted from the end."""
    table, fixed = Tensor(np.arange(12.0).reshape(4, 3)), Tensor(np.array([0, 5]))
    steps = {
        "ids must lie in 0 … 3, got -1": (lambda h, x: (h + ops.embedding(table, x), h), -1),
        "targets must lie in 0 … 2, got 4": (lambda h, x: (h, ops.cross_entropy(h, x, reduction="none")), 4),
        "ids must lie in 0 … 2, got 3": (lambda h, x: (h, ops.one_hot(x, depth=3, dtype="float64")), 3),
        "index -4 is out of bounds for axis 1 with size 3": (lambda h, x: (h, table[1, x]), -4),
    }
    h, calls = Tensor(np.ones((2, 3))), []
    for message, (step, wrong) in steps.items():
        ids = np.array([[0, 1], [2, 0], [0, 0]])
        script = javascript.scan_source(step, h, Tensor(ids), name="recurrence")
        calls.append(f"{script} recurrence.forward({texts([h.numpy()])}, {texts([ids])}); return 'in bounds';")
        ids[1, 0] = wrong
        calls.append(f"{script} recurrence.forward({texts([h.numpy()])}, {texts([ids])}); return 'nothing';")
        with pytest.raises(IndexError, match=message):
            scan(step, h, Tensor(ids), compiled=False)
    caught = ", ".join(f"() => {{ {call} }}" for call in calls)
    caught = f"[{caught}].map((f) => {{ try {{ return f(); }} catch (error) {{ return error.message; }} }})"
    found = [text for text in run(f"const main = () => {caught};", tmp_path) if text != "in bounds"]
    for one, message in zip(found, steps, strict=True):
        assert one.startswith(message), (one, message)
    with pytest.raises(IndexError, match="index 5 is out of bounds for axis 0 with size 4"):
        javascript.scan_source(lambda h, x: (h, table[fixed]), h, Tensor(ids))


# -- errors and the printed form ---------------------------------------------------------------------------------------


def test_python_does_not_run_it_and_says_who_does():
    step, carry, xs = two_states(Tensor(W), Tensor(B))
    for call in (lambda: scan(step, carry, xs, compiled="javascript"), lambda: compiling("javascript").__enter__()):
        with pytest.raises(ValueError, match=r"Node.js or a page.*interop.javascript.scan_source\(step, carry, xs\)"):
            call()
    executable = build(JavaScriptTarget(), traced_cell("RNN").forward.program, "forward")
    for call in (lambda: executable.run([], None), lambda: executable.workspace(1, False, {})):
        with pytest.raises(NotImplementedError, match="run by Node"):
            call()


@pytest.mark.parametrize(
    ("step", "dtype", "reason"),
    [
        (lambda h, x: h + x * float(x.sum() > 0), "float32", "it makes a decision"),
        (lambda h, x: ops.where(x > 0, h, 0.5 * h), "int16", "it computes in int16, which JavaScript does not have"),
        (lambda h, x: h + ops.tanh(h.astype("float16")).astype("float32"), "float32", "it computes in float16"),
    ],
    ids=["decision", "int16", "float16"],
)
def test_what_has_no_program_says_why(step, dtype, reason):
    carry, xs = Tensor([1.0]), Tensor(np.ones((3, 1), dtype))
    with pytest.raises(InteropError, match=f"the step has no program in JavaScript: {reason}"):
        javascript.scan_source(step, carry, xs)
    assert reason in explain(step, carry, xs, compiled="javascript")


def test_explain_prints_the_program_with_the_names_of_the_step():
    cell = nn.GRUCell(3, 4)
    printed = explain(cell.step, cell.initial_state(1), Tensor(np.zeros((5, 1, 3), np.float32)), compiled="javascript")
    for line in (
        "function forward(constants, carry, xs, length, reverse = false) {",
        "const w2 = constants[0];  // W_r",
        "product(length, 3, 4, V1, 0, 3, 1, w2, 0, 4, 1, V3, 0, 4);",
        "const v14 = Math.fround(v11 / v13);  // r",
        "const v34 = Math.fround(Math.tanh(v33));  // h_tilde",
        "function backward(constants, carry, xs, length, reverse = false) {",
        "addProduct(4, length, 4, V28, 0, 1, 4, V50, 0, 4, 1, T5, 0, 4);",
    ):
        assert line in printed
