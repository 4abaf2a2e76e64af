"""A text model in JavaScript gives what it gives in Python: logits, losses, every value and every gradient."""

import json
from dataclasses import replace
from functools import partial
from itertools import cycle

import numpy as np
import pytest
from support.node import needs_node, run

import tinygrad_gru as tg
from tests.scan.random_cells import READ, WIDTH, draw
from tinygrad_gru import data, nn, ops, train
from tinygrad_gru.interop import InteropError, javascript

pytestmark = needs_node
V, T = 7, 6


class Leaky(nn.Cell):
    """A cell of a user's own: a comparison, a scalar, a weight computed in the step, a constant, two states."""

    states = ("h", "memory")
    mask = np.array([True, False, True, True, False])

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b(0.1)

    def step(self, carry, x):
        h, memory = carry
        inner = ops.tanh(x @ self.W + h @ ops.tanh(0.5 * self.U) + self.b) + 0.3 * ops.tanh(x @ self.W)
        gate = ops.where(inner > 0.1, inner, 0.2 * h)
        memory = 0.9 * memory + ops.where(self.mask, gate, 0.0)
        h = ops.layer_norm(memory + h)
        return (ops.concatenate([h[:, 2:], h[:, :2]], axis=1), memory)


def sequential(*layers):
    return nn.Sequential(nn.Embedding(V, 4, padding_idx=2), *layers)


MODELS = {
    "gru": lambda: train.CharacterModel(V, 4, 19),  # of which products are computed in eights and a rest
    "lstm": lambda: train.CharacterModel(V, 4, 5, layers=2, cell="lstm", dropout=0.5),
    "rnn": lambda: train.CharacterModel(V, 4, 5, cell="rnn"),
    "own cell": lambda: train.CharacterModel(V, 4, 5, cell=Leaky),
    "reset after": lambda: sequential(nn.GRU(4, 5, reset_after=True, learn_initial_state=True), nn.Linear(5, V)),
    "peephole": lambda: sequential(nn.LSTM(4, 5, peephole=True, zoneout=0.2), ops.tanh, nn.Linear(5, V, bias=False)),
    "layer norm": lambda: sequential(nn.GRU(4, 5, layer_norm=True), nn.LayerNorm(5), nn.MGU(5, 3), nn.Linear(3, V)),
    "residual": lambda: sequential(nn.LSTM(4, 4, 3, residual=True, zoneout=0.1), nn.Linear(4, V)),
    "tied": lambda: tied(),
    "no output layer": lambda: sequential(nn.RNN(4, V)),
}


def random_model(seed):
    """A model of a random cell, whose step draws its operations from the seed."""
    drawn = replace(draw(seed), batch=1)

    class Random(nn.Cell):
        states = ("a", "b", "c")[: drawn.parts]

        def __init__(self, input_size, hidden_size, **options):
            super().__init__(input_size, hidden_size, **options)
            random = np.random.default_rng(seed)
            shapes = [(WIDTH, WIDTH)] * 3 + [(READ, WIDTH)] * 2 + [(WIDTH,), (1, WIDTH), (1, 1)]
            self.drawn = [nn.Parameter(0.6 * random.standard_normal(shape)) for shape in shapes]

        def step(self, carry, x):
            output = replace(drawn, parameters=self.drawn, xs=1).step(carry, x)
            return output[0] if drawn.outputs else output

    return nn.Sequential(nn.Embedding(V, READ), nn.Recurrent.of(Random)(READ, WIDTH), nn.Linear(WIDTH, V))


MODELS |= {f"random {seed}": partial(random_model, seed) for seed in range(20)}
CASES = [
    (name, dtype)
    for name in MODELS
    for dtype in ("float32", "float64")
    if not (dtype == "float32" and "random" in name)
]


def tied():
    embedding = nn.Embedding(V, 4)
    return nn.Sequential(embedding, nn.GRU(4, 4), nn.TiedLinear(embedding))


def made(name, dtype):
    tg.manual_seed(1)
    model = MODELS[name]().astype(dtype)
    for i, parameter in enumerate(model.parameters()):  # no zeros, at which a wrong gradient may go unseen
        parameter.data[...] += 0.1 * np.random.default_rng(i).standard_normal(parameter.shape)
    return model


def expected(model, ids, targets, weights):
    """Logits, losses, and by name the gradients of the weighted losses."""
    with model.evaluating():
        output = model(ids[:, None])
        logits = output[0] if isinstance(output, tuple) else output
        losses = ops.cross_entropy(logits, targets[:, None], reduction="none")
        model.zero_grad()
        (losses[:, 0] * weights).sum().backward()
    gradients = {n: np.zeros(p.shape) if p.grad is None else p.grad.numpy() for n, p in model.named_parameters()}
    return logits.numpy()[:, 0], losses.numpy()[:, 0], gradients


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What Node.js gives for every model, in one process."""
    random = np.random.default_rng(0)
    ids, targets, weights = random.integers(0, V, T), random.integers(0, V, T), random.standard_normal(T).round(3)
    models = {case: made(*case) for case in CASES}
    scripts = [javascript.source(model, "abcdefg", f"model{i}") for i, model in enumerate(models.values())]
    arguments = ", ".join(json.dumps(list(map(float, x))) for x in (ids, targets, weights))
    script = "\n".join([*scripts, MAIN % (", ".join(f"model{i}" for i in range(len(models))), arguments)])
    found = run(script, tmp_path_factory.mktemp("node"))
    return {case: (model, ids, targets, weights, one) for (case, model), one in zip(models.items(), found)}


MAIN = """
const main = () => [%s].map((model) => {
  const [ids, targets, weights] = [%s];
  const run = model.forward(ids, {targets}), gradients = model.backward(run, weights);
  let state = null;
  const steps = ids.map((id) => { const one = model.step(state, id); state = one.state; return one.logits; });
  return {run: {...run, runs: null}, gradients, steps, info: model.info, state, differences: differences(model)};

  // Each cotangent of each record at each step, beside a finite difference of a value that is changed by hand.
  function differences(model) {
    const loss = (inspect) => {
      const {losses} = model.forward(ids, {targets, inspect});
      return losses.reduce((sum, l, t) => sum + weights[t] * l, 0);
    };
    const eps = 1e-6, found = [];
    model.info.layers.forEach((layer, l) => layer.records.forEach((record, i) => {
      if (!record.differentiable) return;
      const t = record.invariant ? -1 : 3, k = record.size - 1;
      const change = (by) => loss((a, b, c, row) => { if (a === l && b === i && c === t) row[k] += by; });
      const [above, here, below] = [change(eps), change(0), change(-eps)];
      if (Math.abs(above - 2 * here + below) > 1e-3 * eps) return;  // a kink
      const cotangent = gradients.cotangents[l][i][Math.max(t, 0) * record.size + k];
      found.push([layer.name + ": " + record.text, cotangent, (above - below) / (2 * eps)]);
    }));
    return found;
  }
});
"""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_model_gives_what_it_gives_in_python(case, results):
    model, ids, targets, weights, found = results[case]
    logits, losses, gradients = expected(model, ids, targets, weights)
    tolerance = {"rtol": 1e-12, "atol": 1e-13} if case[1] == "float64" else {"rtol": 2e-5, "atol": 2e-6}
    run, parameters = found["run"], found["gradients"]["parameters"]
    np.testing.assert_allclose(np.reshape(run["logits"], logits.shape), logits, **tolerance)
    np.testing.assert_allclose(run["losses"], losses, **tolerance)
    np.testing.assert_allclose(np.reshape(found["steps"], logits.shape), logits, **tolerance)
    assert parameters.keys() == gradients.keys()
    for path, gradient in gradients.items():
        np.testing.assert_allclose(np.reshape(parameters[path], gradient.shape), gradient, **tolerance, err_msg=path)
    assert found["state"] == run["state"]


@pytest.mark.parametrize("name", MODELS)
def test_cotangents_of_records_are_finite_differences(name, results):
    *_, found = results[name, "float64"]
    records = [record for layer in found["info"]["layers"] for record in layer["records"] if record["differentiable"]]
    assert len(found["differences"]) == len(records) if name == "gru" else found["differences"]
    for text, cotangent, difference in found["differences"]:
        assert abs(cotangent - difference) < 1e-6 * (1 + abs(cotangent)), (text, cotangent, difference)


def test_no_cotangent_passes_through_what_was_clamped(results, tmp_path):
    """With z clamped to 0.25 everywhere, the gradients are those of a cell whose z is that constant."""
    model, ids, targets, *_ = results["gru", "float64"]
    script = (
        javascript.source(model)
        + f"""
    const main = () => {{
      const z = tinygradModel.info.layers[0].records.findIndex((record) => record.name === "z");
      const inspect = (layer, index, t, row) => {{ if (layer === 0 && index === z) row.fill(0.25); }};
      const run = tinygradModel.forward({ids.tolist()}, {{targets: {targets.tolist()}, inspect}});
      const gradients = tinygradModel.backward(run);
      return {{losses: run.losses, parameters: gradients.parameters, z: gradients.cotangents[0][z]}};
    }};"""
    )
    found = run(script, tmp_path)
    cell = model.recurrence.cells[0]

    def step(h, x):
        r = ops.sigmoid(x @ cell.W_r + h @ cell.U_r + cell.b_r)
        return 0.75 * h + 0.25 * ops.tanh(x @ cell.W_h + (r * h) @ cell.U_h + cell.b_h)

    _, hs = tg.scan(step, cell.initial_state(1), model.embedding(ids[:, None]))
    losses = ops.cross_entropy(model.output(hs), targets[:, None], reduction="none")
    model.zero_grad()
    losses.mean().backward()
    np.testing.assert_allclose(found["losses"], losses.numpy()[:, 0], rtol=1e-12)
    for name, parameter in model.named_parameters():
        gradient = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy()
        np.testing.assert_allclose(found["parameters"][name], gradient.ravel(), rtol=1e-11, atol=1e-14, err_msg=name)
    assert np.abs(found["z"]).max() > 1e-4  # it is reported, though it does not pass


def test_info_is_the_step_in_the_words_of_its_source(results):
    info = results["gru", "float32"][-1]["info"]
    assert info["vocabulary"] == list("abcdefg") and info["symbols"] == V
    recurrent, output = info["layers"]
    assert recurrent["name"] == "recurrence.cells.0" and recurrent["carry"][0]["name"] == "h"
    texts = {record["name"]: record["text"] for record in recurrent["records"] if record["name"]}
    assert texts.keys() == {"r", "z", "h_tilde", "h'"} and texts["r"].startswith("sigmoid(v")
    (product, *_) = recurrent["records"]
    assert product["inputs"] == ["x", "recurrence.cells.0.W_r"] and product["text"] == "x @ W_r"
    assert "r = sigmoid(x @ self.W_r" in recurrent["source"][product["line"]]
    assert recurrent["next"] == [recurrent["output"]] == [len(recurrent["records"]) - 1]
    assert (output["cell"], output["carry"], output["records"][0]["text"]) == ("Linear", [], "x @ W")
    own = results["own cell", "float32"][-1]["info"]["layers"][0]
    names = {record["name"]: record for record in own["records"] if record["name"]}
    assert {"inner", "gate", "memory'"} <= names.keys() and [part["name"] for part in own["carry"]] == ["h", "memory"]
    invariant = [record for record in own["records"] if record["invariant"]]
    assert [record["text"] for record in invariant] == ["U * 0.5", f"tanh(v{invariant[0]['index']})"]
    assert invariant[0]["inputs"][1] == {"value": 0.5}
    *_, normed, right, left, last = own["records"]  # the variable h has another value than the state h
    n = normed["index"]
    assert [record["text"] for record in (right, left)] == [f"v{n}[:, 2:]", f"v{n}[:, :2]"] and last["name"] == "h'"
    assert [record["op"] for record in own["records"] if not record["differentiable"]] == ["greater"]


def test_generation_draws_as_python_does(results, tmp_path):
    """With the same logits and the same random numbers the same symbols, for every temperature and top_p."""
    model = results["gru", "float32"][0]
    random = np.random.default_rng(3)
    cases = [
        (random.normal(0, scale, V), float(temperature), float(top_p), as_is, random.random(2).tolist())
        for temperature in (0, 5e-324, 0.3, 1, 2, np.inf)
        for top_p in (0.2, 0.9, 1)
        for as_is in (None, 1)
        for scale in (3, 3, 3, 3, 400)
    ]
    for (logits, *_), infinite in zip(cases[::2], cycle((-np.inf, np.inf, -np.inf))):
        logits[random.integers(V, size=2)] = infinite

    class Numbers:
        def __init__(self, numbers):
            self.random = iter(numbers).__next__

    drawn = [train.text.sampling.draw(x, Numbers(u), t, p, as_is) for x, t, p, as_is, u in cases]
    text = json.dumps([[x.tolist(), *rest] for x, *rest in cases])
    script = (
        javascript.source(model, "abcdefg")
        + f"""
    const main = () => {{
      const m = tinygradModel, options = {{temperature: 0.9, seed: 5}};
      const texts = [5, 5, 6].map((seed) => m.decode(m.generate(m.encode("ab"), 30, {{temperature: 1.5, seed}})));
      const greedy = m.decode(m.generate([0, 1], 1, {{temperature: 0}}));
      const errors = [() => m.forward([7]), () => m.encode("z"), () => m.forward([0], {{targets: [0, 1]}}),
                      () => m.backward(m.forward([0])), () => m.generate([], 3),
                      () => m.backward(m.forward([0], {{targets: [1]}}), [1, 2]), () => m.generate([0], 1, {{topP: 0}}),
                      () => m.forward([NaN]), () => m.forward([0.5]), () => m.forward([-1]),
                      () => m.forward([0], {{state: [[new Float32Array(5)], []]}})]
        .map((f) => {{ try {{ return f(); }} catch (error) {{ return error.message; }} }});
      const drawn = {text}.map(([logits, temperature, topP, asIs, numbers]) =>
        m.draw(logits, () => numbers.shift(), {{temperature, topP, asIs}}));
      return {{texts, greedy, drawn, errors}};
    }};"""
    )
    found = run(script, tmp_path)
    assert found["drawn"] == drawn
    first, again, other = found["texts"]
    assert first == again != other and len(first) == 30 and set(first) <= set("abcdefg")
    assert found["greedy"] == train.generate(model, data.CharacterVocabulary("abcdefg"), 1, "ab", temperature=0)
    said = """ids[0] is 7|no "z"|2 targets for 1 ids|needs a run with targets|at least one|2 weights for 1 losses|
        topP in (0, 1]|ids[0] is NaN|ids[0] is 0.5|ids[0] is -1|expected arrays of [[19],[]] numbers, got [[5],[]]"""
    said = [part.strip() for part in said.split("|")]
    assert all(part in error for part, error in zip(said, found["errors"], strict=True)), found["errors"]


class Counting(nn.Cell):
    """A cell that does not compile."""

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.W = self.new_W()

    def step(self, h, x):
        return h * float(h.sum() > 0) + x @ self.W


class Precomputed(Counting):
    """A cell that uses a tensor computed from a parameter outside of the step."""

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.doubled = [2 * self.W]

    def step(self, h, x):
        return h + x @ self.doubled[0]


REFUSED = {
    "bidirectional": (lambda: sequential(nn.GRU(4, 5, bidirectional=True), nn.Linear(10, V)), "layers.1 .GRU.*bidirec"),
    "reverse": (lambda: sequential(nn.GRU(4, 5, reverse=True), nn.Linear(5, V)), "layers.1 .GRU.*from the end"),
    "embedding": (lambda: nn.Sequential(nn.GRU(4, 5), nn.Linear(5, V)), "the first layer must be an Embedding"),
    "nothing after": (lambda: nn.Sequential(nn.Embedding(V, 4)), "must be an Embedding, .* another must follow"),
    "last step": (lambda: sequential(nn.GRU(4, 5), nn.LastStep(), nn.Linear(5, V)), "layers.2 .LastStep.*one step"),
    "own module": (lambda: nn.Linear(3, 4), "a CharacterModel or a Sequential"),
    "own cell": (lambda: sequential(nn.Recurrent.of(Counting)(4, V)), "layers.1 .Counting.*decision"),
    "outside": (lambda: sequential(nn.Recurrent.of(Precomputed)(4, V)), "computed from parameters .compute it in the"),
    "float16": (lambda: train.CharacterModel(V, 4, 5).astype("float16"), "embedding: JavaScript has no float16"),
    "symbols": (lambda: sequential(nn.GRU(4, 5), nn.Linear(5, 3)), "7 ids, and the logits are of 3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_an_error_that_says_why(name):
    make, message = REFUSED[name]
    with pytest.raises(InteropError, match=message):
        javascript.source(make())


def test_a_vocabulary_of_another_size_is_an_error():
    with pytest.raises(InteropError, match="vocabulary: it has 2 symbols, and the model's logits are 7"):
        javascript.source(train.CharacterModel(V, 4, 5), "ab")
    symbols = ["</script>", "<!--", *"abcde"]
    script = javascript.source(train.CharacterModel(V, 4, 5), symbols)
    assert "</script" not in script and "<!--" not in script and '"\\x3c/script>"' in script
    with pytest.raises(ValueError, match="name: expected the name of a variable in JavaScript, got '1x'"):
        javascript.source(train.CharacterModel(V, 4, 5), name="1x")


def test_losses_of_infinite_and_undefined_logits_are_those_of_python(tmp_path):
    """The logits are the output layer's bias."""
    inf, nan = np.inf, np.nan
    rows = [[1, 2, -inf], [-inf, 3, -inf], [-inf, -inf, -inf], [inf, 1, 2], [nan, 1, 2], [9e4, -9e4, 1e300], [0, 0, 0]]
    model = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 3)).astype("float64")
    model.layers[0].W.data[...] = 0
    targets = [0, 2, 1]
    script = (
        javascript.source(model)
        + f"""
    const main = () => {json.dumps(rows)}.map((row) => {{
      tinygradModel.parameters["layers.1.b"].set(row);
      const run = tinygradModel.forward([0, 1, 2], {{targets: {targets}}});
      return {{probabilities: run.probabilities, losses: run.losses, logits: tinygradModel.backward(run).logits}};
    }});"""
    )
    for row, found in zip(rows, run(script, tmp_path), strict=True):
        with np.errstate(all="ignore"):
            logits = tg.Tensor(np.array([row] * 3, float), requires_grad=True)
            losses = ops.cross_entropy(logits, targets, reduction="none")
            (gradient,) = tg.grad(losses.mean(), [logits])
            pairs = (("probabilities", ops.softmax(logits)), ("losses", losses), ("logits", gradient))
        for name, expected in pairs:
            got = np.array(found[name], float).reshape(expected.shape)
            np.testing.assert_allclose(got, expected.numpy(), rtol=1e-12, atol=1e-15, err_msg=f"{row} {name}")
