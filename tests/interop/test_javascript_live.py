"""The parameters of a script are live: what is computed from them follows when they change, or is refused."""

import json

import numpy as np
import pytest
from support.node import needs_node, run

import tinygrad_gru as tg
from tinygrad_gru import Tensor, nn, ops
from tinygrad_gru.interop import InteropError, javascript

V, T, N = 5, 4, 4
IDS, TARGETS, WEIGHTS = [0, 3, 2, 1], [3, 2, 1, 4], [0.5, -1.0, 0.25, 2.0]


def cell_of(weights):
    """A class of cells with W, U, b, frozen s (N), and `weights(cell)` -> (W, U, b) in its step."""

    class Derived(nn.Cell):
        def __init__(self, input_size, hidden_size, **options):
            super().__init__(input_size, hidden_size, **options)
            self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b()
            self.s = Tensor(np.linspace(-1, 1, N))  # requires no gradient

        def step(self, h, x):
            w, u, b = weights(self)
            return ops.tanh(x @ w + h @ u + b)

    return Derived


def without_gradient(cell):
    with tg.no_grad():
        scale = ops.exp(cell.b)
    return cell.W * scale, cell.U, cell.b


DERIVED = {
    "mask": lambda c: (c.W, c.U, ops.where(c.b > 0, c.b, 0.1 * c.b)),
    "mask of two": lambda c: (c.W, ops.where(c.U * c.s > ops.absolute(c.W), c.U, 0.0), c.b),
    "detached": lambda c: (c.W / ops.sqrt(ops.sum(c.W.detach() ** 2)), c.U.detach(), c.b),
    "no_grad": without_gradient,
    "frozen": lambda c: (c.W, c.U * ops.tanh(c.s), c.b + 2 * c.s),
    "weight norm": lambda c: (ops.exp(c.s) * c.W / ops.sqrt(ops.sum(c.W**2, axis=0)), c.U, c.b),
    "shared": lambda c: (c.U, c.U, c.b),
    "selection": lambda c: (c.W[:, ::-1], c.U, ops.concatenate([c.b[1:], c.s[:1]])),
    "maximum": lambda c: (ops.maximum(c.W, c.U), c.U - ops.max(c.U, axis=0), c.b),
    "integers": lambda c: (c.W, c.U, c.b * (c.s > 0).astype("float64")),
    "outside": lambda c: (c.W * OUTSIDE, c.U + ops.exp(OUTSIDE), c.b),
}
OUTSIDE = Tensor(np.linspace(0.5, 1.5, N), requires_grad=True)


def model_of(name):
    tg.manual_seed(3)
    embedding = nn.Embedding(V, N)
    layer = nn.Recurrent.of(cell_of(DERIVED[name]))(N, N, num_layers=2, learn_initial_state=True)
    return nn.Sequential(embedding, layer, nn.LayerNorm(N), nn.TiedLinear(embedding)).astype("float64")


def changed(parameters):
    random = np.random.default_rng(7)
    return {name: random.standard_normal(p.shape) for name, p in parameters}


def in_python(model):
    with model.evaluating():
        logits = model(np.array(IDS)[:, None])
        losses = ops.cross_entropy(logits, np.array(TARGETS)[:, None], reduction="none")[:, 0]
        model.zero_grad()
        (losses * Tensor(WEIGHTS)).sum().backward()
    gradients = {n: np.zeros(p.shape) if p.grad is None else p.grad.numpy() for n, p in model.named_parameters()}
    return losses.numpy(), gradients


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    models = {name: model_of(name) for name in DERIVED}
    sources = [javascript.source(model, name=f"model{i}") for i, model in enumerate(models.values())]
    news = {name: changed(model.named_tensors()) for name, model in models.items()}
    text = json.dumps([{p: a.ravel().tolist() for p, a in new.items()} for new in news.values()])
    main = f"""
    const main = () => {text}.map((changed, i) => {{
      const model = [{", ".join(f"model{i}" for i in range(len(models)))}][i];
      const before = model.forward({IDS}, {{targets: {TARGETS}}});
      for (const [name, numbers] of Object.entries(changed)) model.parameters[name].set(numbers);
      const run = model.forward({IDS}, {{targets: {TARGETS}}});
      return {{losses: run.losses, gradients: model.backward(run, {WEIGHTS}).parameters,
               late: model.backward(before, {WEIGHTS}).parameters, before: before.losses}};
    }});"""
    results = run("\n".join([*sources, main]), tmp_path_factory.mktemp("node"))
    return {name: (models[name], news[name], result) for name, result in zip(models, results)}


def compare(gradients, expected):
    assert gradients.keys() == expected.keys()
    for path, gradient in expected.items():
        got = np.reshape(gradients[path], gradient.shape)
        np.testing.assert_allclose(got, gradient, rtol=1e-9, atol=1e-12, err_msg=path)


@needs_node
@pytest.mark.parametrize("name", DERIVED)
def test_what_is_computed_from_parameters_follows_them(name, found):
    model, new, result = found[name]
    losses, gradients = in_python(model)
    np.testing.assert_allclose(result["before"], losses, rtol=1e-11)
    compare(result["late"], gradients)  # those of the run, though the parameters are others by then
    for path, tensor in model.named_tensors():
        tensor.data = new[path]
    losses, gradients = in_python(model)
    np.testing.assert_allclose(result["losses"], losses, rtol=1e-11)
    compare(result["gradients"], gradients)


def by_numpy(cell):
    return cell.W, cell.U, cell.b * Tensor((cell.b.numpy() > 0).astype("float64"))


def by_a_decision(cell):
    return (cell.W if cell.b.sum().item() > 0 else cell.U), cell.U, cell.b


class OwnStart(nn.GRUCell):
    def initial_state(self, batch):
        return super().initial_state(batch) + 1


class Doubling(nn.GRUCell):
    def scan_arguments(self, x, valid=None):
        step, xs = super().scan_arguments(x, valid)
        return step, 2 * xs


class Scaled(nn.Embedding):
    def forward(self, ids):
        return 2 * super().forward(ids)


class Called(nn.GRU):
    def __call__(self, *arguments):
        output, state = super().__call__(*arguments)
        return 2 * output, state


class Halving(nn.Dropout):
    def forward(self, x):
        return x * 0.5


class Integers(nn.Linear):
    """A layer with an integer that float32 has not, booleans, and an int64 that the output does not need."""

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.large = Tensor(np.full(V, 2**24 + 1, "int32"))
        self.mask, self.count = Tensor(np.arange(V) % 2 == 0), Tensor(np.array(7))

    def forward(self, x):
        return ops.where(self.mask, super().forward(x), (self.large > 2**24).astype("float32"))


def sequential(*layers):
    return nn.Sequential(nn.Embedding(V, N), *layers)


def with_start(value):
    model = sequential(nn.GRU(N, V))
    model.layers[1].cells[0].h_0 = value(nn.Parameter(np.ones(V), "float32"))
    return model


def patched():
    model = sequential(nn.GRU(N, V))
    forward = model.layers[1].forward
    model.layers[1].forward = lambda *arguments: forward(*arguments)
    return model


REFUSED = {
    "NumPy": (lambda: sequential(nn.Recurrent.of(cell_of(by_numpy))(N, V)), "decision, or takes a scalar"),
    "decision": (lambda: sequential(nn.Recurrent.of(cell_of(by_a_decision))(N, V)), "decision, or takes a scalar"),
    "start": (lambda: sequential(nn.Recurrent.of(OwnStart)(N, V)), "OwnStart. .* its initial_state is its own"),
    "a number": (lambda: with_start(lambda h: h.sum().detach()), "h_0 is no parameter of 5 numbers"),
    "computed": (lambda: with_start(lambda h: 2 * h), "h_0 is no parameter of 5 numbers"),
    "x": (lambda: sequential(nn.Recurrent.of(Doubling)(N, V)), "scan_arguments changes x before the steps"),
    "embedding": (lambda: nn.Sequential(Scaled(V, N), nn.GRU(N, V)), "layers.0 .Scaled. .* its forward is its own"),
    "call": (lambda: sequential(Called(N, V)), "layers.1 .Called. .* its __call__ is its own"),
    "patched": (patched, "layers.1 .GRU. .* its forward is its own"),
    "axis": (lambda: sequential(lambda x: ops.softmax(x, axis=1), nn.GRU(N, V)), "no function of one step"),
    "dtypes": (lambda: with_start(lambda h: h.astype("float64").detach()), "GRUCell. has no program .* several dtypes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_follow_is_refused(name):
    make, message = REFUSED[name]
    model = make()
    with pytest.raises(InteropError, match=message):
        javascript.source(model)
    assert all(type(tensor.data) is np.ndarray for _, tensor in model.named_tensors())


@needs_node
@pytest.mark.parametrize("make", [Halving, lambda: Integers(N, N + 1)], ids=["Halving", "Integers"])
def test_layers_of_ones_own_and_tensors_of_other_dtypes(make, tmp_path):
    tg.manual_seed(0)
    layer = make()
    model = sequential(nn.GRU(N, N), layer, nn.Linear(N + isinstance(layer, Integers), V))
    script = javascript.source(model) + f"const main = () => tinygradModel.forward({IDS}).logits;"
    with model.evaluating():
        expected = model(np.array(IDS)[:, None]).numpy().ravel()
    np.testing.assert_allclose(run(script, tmp_path), expected, rtol=1e-5)


class Singular(nn.Cell):
    """A cell whose ops' rules use their own values."""

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b(0.1)

    def step(self, h, x):
        a = x @ self.W + h @ self.U
        root = ops.sqrt(1 + a * a) + ops.exp(self.b)
        top = ops.max(a, axis=-1, keepdims=True)
        return ops.softmax(a / root) * ops.tanh(top) + 1 / (1 + ops.sqrt(0.5 + ops.sum(a * a, axis=-1, keepdims=True)))


@needs_node
def test_gradients_of_a_run_whose_values_were_changed_are_its_finite_differences(tmp_path):
    """Of every record one element at one step is overwritten, or all at all steps, with 0 too."""
    tg.manual_seed(2)
    model = sequential(nn.Recurrent.of(Singular)(N, N), nn.Linear(N, V)).astype("float64")
    script = (
        javascript.source(model)
        + f"""
    const main = () => {{
      const {{info, parameters, forward, backward}} = tinygradModel, found = [];
      info.layers.forEach((layer, l) => layer.records.forEach((record, i) => {{
        for (const [all, value] of [[false, 0.37], [true, 0.37], [false, 0], [true, 0]]) {{
          const inspect = (a, b, t, row) => {{
            if (a !== l || b !== i || !(all || t === (record.invariant ? -1 : 2))) return;
            all ? row.fill(value) : (row[i % record.size] = value);
          }};
          const run = forward({IDS}, {{targets: {TARGETS}, inspect}}), gradients = backward(run, {WEIGHTS}).parameters;
          const loss = (by) => {{
            for (const name in gradients) parameters[name].forEach((x, j, of) => {{ of[j] += by * Math.sin(j + 1); }});
            const {{losses}} = forward({IDS}, {{targets: {TARGETS}, inspect}});
            return losses.reduce((sum, x, t) => sum + {WEIGHTS}[t] * x, 0);
          }};
          const eps = 1e-6, above = loss(eps), below = loss(-2 * eps), here = loss(eps);
          if (!(Math.abs(above - 2 * here + below) < 1e-3 * eps)) continue;  // a kink, or 1 / 0
          let slope = 0;
          for (const name in gradients) gradients[name].forEach((g, j) => {{ slope += g * Math.sin(j + 1); }});
          found.push([record.text, all, value, slope, (above - below) / (2 * eps)]);
        }}
      }}));
      return found;
    }};"""
    )
    found = run(script, tmp_path)
    assert {"sqrt", "max", "softmax"} <= {text.partition("(")[0] for text, *_ in found}
    for *what, slope, difference in found:
        assert abs(float(slope) - float(difference)) < 1e-7 * (1 + abs(float(slope))), (what, slope, difference)
