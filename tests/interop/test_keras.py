"""Weights of Keras, frozen in golden/keras.json and live, and what is refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ours import assert_as_keras

from tinygrad_gru import nn
from tinygrad_gru.interop import InteropError
from tinygrad_gru.interop import keras as interop

GOLDEN = Path(__file__).parent / "golden"
*CASES, FILES = json.loads((GOLDEN / "keras.json").read_text())["cases"]


class Text(nn.Module):
    """The model of the golden files; its epsilon is that of Keras."""

    def __init__(self, eps=1e-3, merge="sum", **first):
        self.embedding = nn.Embedding(4, 2)
        self.first = nn.GRU(2, 2, bidirectional=True, merge=merge, batch_first=True, **{"reset_after": True, **first})
        self.second = nn.GRU(2, 2, batch_first=True)
        self.norm = nn.LayerNorm(2, eps=eps)
        self.output = nn.Linear(2, 3)

    def forward(self, ids):
        hidden, _ = self.second(self.first(self.embedding(ids))[0])
        return self.output(self.norm(hidden))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']} {case['settings']} {case['mask']}")
def test_layers_compute_what_keras_computed(case):
    assert_as_keras(case, 1e-10)


@pytest.mark.filterwarnings("ignore")  # of Keras itself
def test_layers_compute_what_keras_computes():
    """Output, states and every gradient within 1e-10: both conventions of the reset gate, masks with holes, merges."""
    pytest.importorskip("torch")  # as Keras's backend
    pytest.importorskip("keras")
    from keras_cases import grid, make

    for seed, (kind, settings, mask) in enumerate(grid()):
        assert_as_keras(make(kind, settings, mask, seed), 1e-10)


def sources():
    yield [np.array(array) for array in FILES["weights"]]
    yield from (GOLDEN / name for name in FILES["files"])


@pytest.mark.parametrize("source", list(sources()), ids=["list", *FILES["files"]])
def test_a_whole_model_computes_what_keras_computed(source):
    model = interop.load(Text(), source)
    np.testing.assert_allclose(model(np.array(FILES["ids"])).numpy(), FILES["output"], rtol=0, atol=1e-6)
    for array, expected in zip(interop.load(Text(), interop.weights(model)).state_dict().values(), model.parameters()):
        np.testing.assert_array_equal(array, expected.numpy())


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: Text(eps=1e-5), "norm: the layer 'layer_normalization.*has epsilon=0.001, and ours epsilon=1e-05"),
        (lambda: Text(merge="concat"), "merge_mode='sum', and ours merge_mode='concat'"),
        (lambda: Text(activation="relu"), "activation='tanh', and ours activation='relu'"),
        (lambda: Text(reset_after=False), "reset_after=True, and ours reset_after=False"),
        (lambda: nn.Sequential(nn.Embedding(4, 2)), "expected layers Embedding, the file has Embedding, Bidirectional"),
    ],
)
def test_settings_of_a_keras_file_must_match(model, reason):
    with pytest.raises(InteropError, match=reason):
        interop.load(model(), GOLDEN / "model.keras")


def test_unknown_weights_are_refused():
    message = r"weights that the module does not have: layers/bidirectional/backward_layer/.*layer_norm"
    with pytest.raises(InteropError, match=message):
        interop.load(nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 3)), GOLDEN / "model.weights.h5")


@pytest.mark.parametrize("name", ["broken.keras", "broken.weights.h5"])
def test_broken_files_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(InteropError, match=r"expected a \.keras or \.weights\.h5 file"):
        interop.load(Text(), tmp_path / name)
    with pytest.raises(FileNotFoundError):
        interop.load(Text(), tmp_path / "missing" / name)


def edited(folder, edit=lambda layers: None, members=lambda members: None, **options):
    """The golden .keras file with another configuration, and perhaps other members."""
    with zipfile.ZipFile(GOLDEN / "model.keras") as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    model = json.loads(contents["config.json"])
    edit({layer["class_name"]: layer for layer in model["config"]["layers"]})
    contents["config.json"] = json.dumps(model).encode()
    members(contents)
    path = folder / "edited.keras"
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def config(class_name, **settings):
    return lambda layers: layers[class_name]["config"].update(settings)


def within(name, **settings):
    return lambda layers: layers["Bidirectional"]["config"][name]["config"].update(settings)


POLICY = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (config("Dense", activation="relu"), "activation='relu', and ours activation='linear'.*get_weights"),
        (config("Dense", activation={"class_name": "LeakyReLU"}), "activation={'class_name': 'LeakyReLU'}"),
        (config("Dense", use_bias=False), "use_bias=False"),
        (config("Dense", quantization_config={"mode": "int8"}), "quantization_config="),
        (config("Dense", lora_rank=2), "lora_rank=2, and ours lora_rank=None"),
        (config("Dense", dtype=POLICY), "dtype='mixed_float16'"),
        (config("Embedding", mask_zero=True), "mask_zero=True, and ours mask_zero=None"),
        (config("LayerNormalization", axis=[1]), r"axis=\[1\], and ours axis=\[-1\]"),
        (config("LayerNormalization", axis=[1, 2]), r"axis=\[1, -1\], and ours"),
        (config("LayerNormalization", center=False), "center=False"),
        (config("LayerNormalization", scale=False), "scale=False"),
        (config("LayerNormalization", rms_scaling=True), "rms_scaling=True"),
        (config("GRU", go_backwards=True), "go_backwards=True"),
        (config("GRU", stateful=True), "stateful=True"),
        (config("GRU", time_major=True), "time_major=True"),
        (config("GRU", dropout=0.5), "dropout=0.5, and ours dropout=0.0"),
        (config("GRU", recurrent_dropout=0.5), "recurrent_dropout=0.5"),
        (config("GRU", recurrent_activation="hard_sigmoid"), "recurrent_activation='hard_sigmoid'"),
        (config("GRU", reset_after=True), "reset_after=True"),
        (config("GRU", anything="new"), "anything='new'"),
        (config("Bidirectional", merge_mode="ave"), "merge_mode='ave'"),
        (within("layer", go_backwards=True), "go_backwards=True"),
        (within("backward_layer", activation="relu"), "activation='relu'"),
        (within("backward_layer", go_backwards=False), "go_backwards=False"),
        (within("backward_layer", reset_after=False), "reset_after=False"),
        (lambda layers: layers["Bidirectional"]["config"]["backward_layer"].update(class_name="LSTM"), "='LSTM'"),
        (lambda layers: layers["GRU"].update(registered_name="mine>GRU"), "registered_name='mine>GRU'"),
        (lambda layers: layers["GRU"].update(module="mine"), "module='mine', and ours module='keras.layers'"),
        (lambda layers: layers["GRU"].update(config=None), "expected the configuration of the layer GRU, got None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_that_differs_is_refused(tmp_path, edit, reason):
    with pytest.raises(InteropError, match=reason):
        interop.load(Text(), edited(tmp_path, edit))


@pytest.mark.parametrize(
    "edit",
    [
        lambda layers: None,
        config("LayerNormalization", axis=[2]),
        config("LayerNormalization", axis=-1),
        config("GRU", unroll=True, seed=3, implementation=1, return_state=True, kernel_regularizer={"l2": 1}),
        config("Dense", dtype="float32", name="another"),
        lambda layers: layers["Bidirectional"]["config"].pop("backward_layer"),
    ],
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_settings_without_an_effect_are_ignored(tmp_path, edit, compression):
    model = interop.load(Text(), edited(tmp_path, edit, compression=compression))
    np.testing.assert_allclose(model(np.array(FILES["ids"])).numpy(), FILES["output"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("members", "options", "reason"),
    [
        (
            lambda m: m.update({"model.weights.h5": bytes(10**8)}),
            {"compression": zipfile.ZIP_DEFLATED},
            "requires more",
        ),
        (lambda m: m.update({"config.json": b"[" * 10**6}), {"compression": zipfile.ZIP_DEFLATED}, "JSON"),
        (lambda m: m.update({"config.json": b"[]"}), {}, "expected the configuration of the model"),
        (lambda m: m.update({"config.json": b'{"config": {"layers": 3}}'}), {}, "expected a list of layers"),
        (
            lambda m: m.update({"config.json": b'{"config": {"layers": [{"class_name": []}]}}'}),
            {},
            "expected layers Emb",
        ),
        (lambda m: m.pop("model.weights.h5"), {}, r"expected one model\.weights\.h5 in it, got 0"),
        (lambda m: None, {"compression": zipfile.ZIP_LZMA}, "compressed by an unsupported method"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_archives_that_are_not_of_keras_are_refused(tmp_path, members, options, reason):
    with pytest.raises(InteropError, match=reason):
        interop.load(Text(), edited(tmp_path, members=members, **options))


@pytest.mark.parametrize("dtype", [complex, bool, str, object])
def test_weights_that_are_not_real_are_refused(dtype):
    layer = nn.Linear(2, 3)
    with pytest.raises(InteropError, match="expected arrays of real numbers, got"):
        interop.load(layer, [np.ones((2, 3), dtype), np.ones(3, dtype)])


@pytest.mark.parametrize("name", ["vars/0", "layers/linear/vars/00", "layers/dense/vars/2", "layers/dense/0", "odd"])
def test_an_unknown_array_of_a_file_is_refused(tmp_path, name):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "more.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"], file["layers/dense/vars/1"] = np.ones((2, 3)), np.ones(3)
        file["optimizer/vars/0"] = file["layers/dense/seed_generator/vars/0"] = np.ones(2)  # which no layer needs
    assert interop.load(nn.Linear(2, 3), path).W.numpy().sum() == 6
    with h5py.File(path, "a") as file:
        file[name] = np.ones(3)
    with pytest.raises(InteropError, match=f"weights that the module does not have: .*{name}|expected 2 arrays, got 3"):
        interop.load(nn.Linear(2, 3), path)


@pytest.mark.parametrize("ours", [True, False])
def test_reset_before_and_reset_after_do_not_convert(ours):
    theirs = interop.weights(nn.GRU(2, 3, **({} if ours else {"reset_after": True})))
    layer = nn.GRU(2, 3, **({"reset_after": True} if ours else {}))
    with pytest.raises(InteropError, match=f"no weights make one .* Make it with reset_after={not ours}"):
        interop.load(layer, theirs)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.LSTM(2, 3, peephole=True), "Keras has no LSTM with peephole=True"),
        (nn.LSTM(2, 3, proj_size=2), "proj_size"),
        (nn.LSTM(2, 3, reverse=True), "go_backwards are in reversed order"),
        (nn.LSTM(2, 3, activation="relu", output_activation="tanh"), "one activation for candidate and output"),
        (nn.GRU(2, 3, gate_activation="relu"), "recurrent_activation='relu'"),
        (nn.LSTM(2, 3, activation="leaky_relu"), "activation='leaky_relu'"),
        (nn.RNN(2, 3, num_layers=2, residual=True), "residual"),
        (nn.RNN(2, 3, learn_initial_state=True), "learn_initial_state"),
        (nn.MGU(2, 3), "cells.0: Keras has no layer with the tensors W_f, W_h"),
    ],
    ids=lambda value: repr(value).splitlines()[0] if isinstance(value, nn.Module) else "",
)
def test_modules_without_a_counterpart_in_keras_are_refused(module, reason):
    with pytest.raises(InteropError, match=reason):
        interop.weights(module)


def test_lists_of_other_weights_are_refused():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4, bias=False))
    given = interop.weights(model)
    with pytest.raises(InteropError, match=r"expected 3 arrays, got 2 .*layers\.0 \(2\), layers\.1 \(1\)"):
        interop.load(model, given[:2])
    with pytest.raises(InteropError, match=r"layers\.0: expected Dense weights of shapes \[\(2, 3\), \(3,\)\]"):
        interop.load(model, given[::-1])
