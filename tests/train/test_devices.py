"""Training on other backends than NumPy, and checkpoints moved between backends."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest
from support.stand_in_cuda import COMPILER
from support.stand_in_cupy import stand_in_cupy
from support.strict import STRICT

from tinygrad_gru import Tensor, compiling, manual_seed, nn, ops, optim, use
from tinygrad_gru.backend import available, backend_of
from tinygrad_gru.cli import main
from tinygrad_gru.train import TextRun, TextSettings, generate, load_checkpoint, restore, save_checkpoint
from tinygrad_gru.train.text import run

#: The module; the package has a function of its name.
scan_api = importlib.import_module("tinygrad_gru.scan.api")
without_gpu = pytest.mark.skipif("cupy" in available(), reason="CuPy itself is here")

LAYERS = {
    "RNN": lambda: nn.RNN(3, 4),
    "GRU": lambda: nn.GRU(3, 4, num_layers=2),
    "GRU, reset after": lambda: nn.GRU(3, 4, reset_after=True, layer_norm=True),
    "LSTM both ways": lambda: nn.LSTM(3, 2, bidirectional=True, learn_initial_state=True),
    "LSTM with peepholes": lambda: nn.LSTM(3, 5, peephole=True, proj_size=4, clip=2.0),
    "MGU": lambda: nn.MGU(3, 4),
    "GRU with noise": lambda: nn.GRU(3, 4, num_layers=2, dropout=0.3, zoneout=0.1, recurrent_dropout=0.2),
}
OPTIMIZERS = {
    "Adam": lambda p: optim.Adam(p, lr=1e-2, amsgrad=True),
    "SGD": lambda p: optim.SGD(p, lr=1e-1, momentum=0.9, nesterov=True),
    "RMSprop": lambda p: optim.RMSprop(p, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p),
}


def losses(layer, optimizer, backend, lengths=None):
    """Losses and gradient norms of three training steps of a model on a backend, and the weights after them."""
    manual_seed(0)
    embedding, recurrence, norm, head = nn.Embedding(6, 3), LAYERS[layer](), nn.LayerNorm(4), nn.Linear(4, 6)
    model = nn.Sequential(embedding, recurrence, norm, head).to(backend)
    update = OPTIMIZERS[optimizer](model.parameters())
    ids = np.arange(6).reshape(3, 2)
    found = []
    for step in range(3):
        inputs, targets = Tensor(ids, device=backend), Tensor((ids + 1 + step) % 6, device=backend)
        hidden, _ = recurrence(embedding(inputs), lengths=lengths)
        loss = ops.cross_entropy(head(norm(hidden)), targets, label_smoothing=0.1)
        update.zero_grad()
        loss.backward()
        length = optim.clip_gradient_norm(model.parameters(), 0.5)
        update.step()
        found += [loss.item(), length.item()]
    assert {backend_of(p.data).name for p in model.parameters()} == {getattr(backend, "name", backend)}
    return found, model.state_dict()


CASES = [
    *((layer, "Adam", None) for layer in LAYERS),
    *(("RNN", optimizer, None) for optimizer in OPTIMIZERS if optimizer != "Adam"),
    *((layer, "SGD", [3, 0]) for layer in ("GRU", "LSTM both ways")),
]


@pytest.mark.parametrize(("layer", "optimizer", "lengths"), CASES)
@pytest.mark.parametrize("away", [STRICT, "cupy"], ids=["standard", "cupy"])
def test_eager_training_on_other_backends_equals_numpy(gpu, away, layer, optimizer, lengths):
    """Without implicit copies to the host or NumPy-only functions, from the ids to the weights after three steps."""
    with compiling(False):
        (expected, weights), (found, others) = (
            losses(layer, optimizer, backend, lengths) for backend in ("numpy", away)
        )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for name, weight in weights.items():
        np.testing.assert_allclose(others[name], weight, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("away", [STRICT, "cupy"], ids=["standard", "cupy"])
def test_a_module_moves_to_another_backend_and_back(gpu, away):
    layer = nn.LSTM(3, 4, layer_norm=True)
    before, names = layer.state_dict(), [p.name for p in layer.parameters()]
    layer.to(away)
    ops.sum(ops.square(layer(Tensor(np.ones((2, 1, 3), "float32"), device=away))[0])).backward()
    gradients = [p.grad.numpy() for p in layer.parameters()]
    layer.to("numpy")
    assert [p.name for p in layer.parameters()] == names
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    for parameter, gradient in zip(layer.parameters(), gradients):
        np.testing.assert_array_equal(parameter.grad.numpy(), gradient)
    layer(Tensor(np.ones((2, 1, 3), "float32")))[0].sum().backward()


# -- checkpoints of one backend, on another ----------------------------------------------------------------------------


@without_gpu
@pytest.mark.parametrize(("first", "second"), [("cupy", "numpy"), ("numpy", "cupy"), ("cupy", "cupy:1")])
def test_a_run_is_resumed_on_another_backend(monkeypatch, small, tmp_path, first, second):
    with stand_in_cupy(monkeypatch, devices=2), compiling(False):
        settings = small(dropout=0.2)
        with use(first):
            interrupted = TextRun(settings, first).trainer
            for _ in range(3):
                interrupted.step()
            save_checkpoint(tmp_path / "checkpoint", interrupted.state_dict())
            expected = [interrupted.step().loss for _ in range(3)]
        with use(second):
            resumed = TextRun(settings, second).trainer
            resumed.load_state_dict(load_checkpoint(tmp_path / "checkpoint"))
            assert resumed.model.device == second
            np.testing.assert_allclose([resumed.step().loss for _ in range(3)], expected, rtol=1e-5)


@without_gpu
def test_a_model_trained_on_a_gpu_is_restored_without_one(monkeypatch, tmp_path, capsys):
    """By the command line: train on one machine, and sample text on another without CuPy."""
    monkeypatch.setattr(run, "_SAMPLE_LENGTH", 2)
    text, folder = tmp_path / "text.txt", tmp_path / "run"
    text.write_text("Words that are read again and again. " * 40)
    options = "--hidden 4 --embedding 3 --batch 4 --window 5 --characters 200 --quiet".split()
    with stand_in_cupy(monkeypatch) as cupy, compiling(False):
        command = ["train", "--text", str(text), *options, "--backend", "cupy", "--out", str(folder)]
        assert main(command) == 0, capsys.readouterr().err
        assert cupy.machine.count("launch") > 1000
        there = generate(*restore(folder, "cupy")[:2], 20, "W")
    model, vocabulary, state = restore(folder)
    assert model.device == "numpy" and state["about"]["versions"].keys() >= {"cupy", "numpy"}
    assert generate(model, vocabulary, 20, "W") == there
    assert main(["generate", str(folder), "--length", "5", "--backend", "numpy"]) == 0
    capsys.readouterr()
    assert main(["generate", str(folder), "--length", "5", "--backend", "cupy"]) == 1
    assert "CuPy is not installed: install exactly one of" in capsys.readouterr().err


with_kernels = pytest.mark.skipif(
    COMPILER is None and "cupy" not in available(), reason="needs a C++ compiler instead of CUDA's"
)


@with_kernels
@pytest.mark.parametrize(("layer", "optimizer", "lengths"), CASES)
def test_compiled_training_on_other_backends_equals_numpy(gpu, monkeypatch, layer, optimizer, lengths):
    """And no recurrence falls back to eager mode."""
    expected, weights = losses(layer, optimizer, "numpy", lengths)
    monkeypatch.setattr(scan_api, "scan_eager", None)
    found, others = losses(layer, optimizer, "cupy", lengths)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for name, weight in weights.items():
        np.testing.assert_allclose(others[name], weight, rtol=1e-4, atol=1e-5, err_msg=name)


@with_kernels
@pytest.mark.parametrize(
    ("settings", "apart"),
    [
        ({}, 1e-5),
        ({"cell": "lstm", "layers": 2, "dropout": 0.3}, 1e-5),
        ({"precision": "float16"}, 1e-3),
        ({"precision": "bfloat16"}, 1e-2),
    ],
    ids=["GRU", "LSTM with dropout", "float16", "bfloat16"],
)
def test_the_main_job_compiled_for_a_gpu(gpu, settings, apart, tmp_path):
    """Losses equal those on NumPy in float32: of the first step, launched directly, and of the captured ones."""
    if settings.get("precision") == "bfloat16":
        pytest.importorskip("ml_dtypes")
    text = tmp_path / "text.txt"
    text.write_text("A text that is short, and read again and again. " * 300)
    whole = TextSettings(text=str(text), embedding=4, hidden=16, batch=4, window=8, characters=4000, **settings)

    def losses_of(settings, device):
        trainer = TextRun(settings, device).trainer
        return [trainer.step().loss for _ in range(6)]

    expected = losses_of(replace(whole, precision="float32"), "numpy")
    assert losses_of(whole, "cupy") == pytest.approx(expected, abs=apart)
