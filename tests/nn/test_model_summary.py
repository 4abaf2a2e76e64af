"""nn.summary and what modules show in notebooks; shapes and counts by hand."""

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, no_grad, ops, random_state
from tinygrad_gru.optim import Adam
from tinygrad_gru.train import mixed_precision


class Model(nn.Module):
    def __init__(self, **options):
        self.embedding = nn.Embedding(10, 4, **options)
        self.recurrence = nn.LSTM(4, 4, num_layers=2, dropout=0.5, **options)
        self.unused = nn.Linear(3, 2, **options).freeze()
        self.output = nn.TiedLinear(self.embedding)
        self.count = Tensor(np.zeros(3, "i4"))
        self.calls = 0

    def forward(self, ids, lengths=None):
        self.calls += 1
        return self.output(self.recurrence(self.embedding(ids), lengths=lengths)[0])


IDS = np.zeros((5, 2), int)


def rows_of(summary):
    return {row.path: row[1:] for row in summary.rows}


def test_rows_have_shapes_and_parameters():
    lstm = 2 * 4 * (4 * 4 + 4 * 4 + 4)  # layers, gates, W and U and b
    assert rows_of(nn.summary(Model(), IDS)) == {
        "": ("Model()", "(5, 2, 10)", 0, ""),
        "embedding": ("Embedding(10, 4)", "(5, 2, 4)", 40, ""),
        "recurrence": ("LSTM(4, 4, num_layers=2, dropout=0.5)", "(5, 2, 4), (2, 2, 4), (2, 2, 4)", lstm, ""),
        "unused": ("Linear(3, 2)", "not called", 8, "frozen"),
        "output": ("TiedLinear(4, 10)", "(5, 2, 10)", 10, "W tied to embedding.W"),
    }


def test_the_counts_add_up():
    model = Model()
    summary = nn.summary(model, IDS)
    assert summary.parameters == sum(row.parameters for row in summary.rows)
    assert summary.parameters - summary.frozen == model.parameter_count() and summary.frozen == 8


def test_memory_is_that_of_the_arrays(backend):
    model = Model(dtype="float64").to(backend)
    optimizer = Adam(model.parameters())
    trained = model.parameter_count() * 8
    assert nn.summary(model, optimizer=optimizer).memory == {
        "parameters": trained + 8 * 8, "gradients": trained, "buffers": 12, "optimizer state": 0,
    }  # fmt: skip
    model(Tensor(IDS, device=backend)).sum().backward()
    optimizer.step()
    memory = nn.summary(model, optimizer=optimizer).memory
    arrays = [array for arrays in optimizer.state for array in arrays.values()]
    assert memory["optimizer state"] == sum(8 * array.size for array in arrays) == 2 * trained
    assert "optimizer state" not in nn.summary(model).memory


def test_the_call_leaves_no_trace():
    model = Model()
    model.train()
    random, attributes = random_state(), {name: dict(vars(module)) for name, module in model.named_modules()}
    types = [type(module) for module in model.modules()]
    model.recurrence(np.ones((2, 2, 4), "f4"))[0].sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    random = random_state()
    nn.summary(model, IDS, lengths=[5, 2])
    assert random_state() == random and model.calls == 0 and model.training
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == attributes
    assert [type(module) for module in model.modules()] == types
    assert all(p.grad is gradients[name] for name, p in model.named_parameters())


def test_what_forward_appends_to_is_left_alone():
    class Recording(nn.Module):
        def __init__(self):
            self.outputs, self.by_name, self.layer = [], {}, nn.Linear(2, 2)

        def forward(self, x):
            self.outputs.append(self.layer(x))
            self.by_name["last"] = self.outputs[-1]
            return self.outputs[-1]

    model = Recording()
    nn.summary(model, (3, 2))
    assert model.outputs == [] and model.by_name == {}


def test_the_call_is_in_evaluation_mode_and_records_nothing():
    seen = []

    class Watching(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            y = self.layer(x)
            seen.append((self.training, self.layer.training, y.requires_grad))
            return y

    model = Watching()
    nn.summary(model, (5, 3))
    assert seen == [(False, False, False)] and model.training and model(np.ones((1, 3))).requires_grad


@pytest.mark.parametrize("dtype, size", [("float16", 2), ("float32", 4), ("float64", 8)])
def test_bytes_are_those_of_the_dtype(dtype, size):
    assert nn.summary(nn.Linear(3, 2, dtype=dtype)).memory == {"parameters": 8 * size, "gradients": 8 * size}


def test_random_numbers_that_forward_draws_are_given_back():
    class Noisy(nn.Module):
        def forward(self, x):
            return ops.dropout(x, p=0.5)

    failing = nn.Sequential(Noisy(), nn.Linear(3, 2), lambda x: x + "a")
    random = random_state()
    nn.summary(Noisy(), np.ones((2, 3)))
    assert random_state() == random
    with pytest.raises(TypeError):
        nn.summary(failing, (2, 3))
    assert random_state() == random


def test_printed_it_is_a_table():
    model = nn.Sequential(nn.GRU(3, 4, bidirectional=True), nn.LastStep(), nn.Linear(8, 2), ops.tanh)
    assert str(nn.summary(model, (5, 2, 3))).splitlines() == [
        "path      layer                          output                parameters",
        "─────────────────────────────────────────────────────────────────────────",
        "          Sequential()                   (2, 2)                         0",
        "layers.0  GRU(3, 4, bidirectional=True)  (5, 2, 8), (2, 2, 4)         192",
        "layers.1  LastStep()                     (2, 8)                         0",
        "layers.2  Linear(8, 2)                   (2, 2)                        18",
        "layers.3  ops.tanh                                                      0",
        "─────────────────────────────────────────────────────────────────────────",
        "210 parameters",
        "memory: parameters 840 bytes, gradients 840 bytes",
    ]
    assert "layers.0" in str(nn.summary(model)) and "(5, 2, 8)" not in str(nn.summary(model))


def test_shared_modules_are_shown_once():
    layer = nn.Linear(3, 3)
    rows = rows_of(nn.summary(nn.Sequential(layer, layer), np.ones((2, 3))))
    assert rows["layers.0"] == ("Linear(3, 3)", "(2, 3)", 12, "")
    assert rows["layers.1"] == ("Linear(3, 3)", "", 0, "layers.0 again")


def test_a_model_in_mixed_precision_has_one_too():
    model = mixed_precision(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), "float16")
    rows = rows_of(nn.summary(model, np.ones((5, 3), "f4")))
    assert [row[1] for row in rows.values()] == ["(5, 2)", "(5, 2)", "(5, 4)", "(5, 2)"]
    with no_grad():
        assert model(np.ones((5, 3), "f4")).shape == (5, 2)


def test_an_error_of_the_call_names_the_module():
    with pytest.raises(ValueError, match=r"last axis must have the 4 in_features \(in Sequential\.layers\.1\)"):
        nn.summary(nn.Sequential(nn.Linear(3, 5), nn.Linear(4, 2)), np.ones((5, 3)))


def test_notebooks_show_a_table():
    model = Model()
    html = model._repr_html_()
    for text in ("Model()", "LSTM(4, 4, num_layers=2, dropout=0.5)", "W tied to embedding.W", ">288<", "memory: param"):
        assert text in html
    assert "(5, 2, 10)" in nn.summary(model, IDS)._repr_html_() and "(5, 2, 10)" not in html
    assert nn.Sequential(lambda x: x < 3)._repr_html_().count("x &lt; 3") == 1
