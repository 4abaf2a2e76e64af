"""The check for a wrong linear_before_reset, on files that have it and on files that do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx_graphs import recurrent  # noqa: E402

from tinygrad_gru import nn  # noqa: E402
from tinygrad_gru.interop.onnx import check, load, save  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"
FAULTY = json.loads((GOLDEN / "torch_gru.json").read_text())


def gru(model):
    return next(node for node in model.graph.node if node.op_type == "GRU")


def without(node, name):
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def test_a_faulty_file_of_pytorchs_exporter():
    """Its outputs differ from PyTorch's; with the attribute set they agree."""
    path, x = GOLDEN / FAULTY["file"], np.array(FAULTY["x"], np.float32)
    (finding,) = check(path)
    assert finding.certainty == "sure" and finding.node == "node_gru__1"
    assert "surely wrong" in str(finding) and "torch.nn.GRU" in str(finding) and "PyTorch 2.13" in str(finding)
    assert np.abs(load(path)(x)[0].numpy() - FAULTY["output"]).max() > 0.01
    model = onnx.load(path)
    without(gru(model), "linear_before_reset")
    assert check(model)[0].certainty == "sure"  # the attribute was left out before
    gru(model).attribute.append(onnx.helper.make_attribute("linear_before_reset", 1))
    np.testing.assert_allclose(load(model)(x)[0].numpy(), FAULTY["output"], rtol=0, atol=1e-6)
    assert check(model) == []


def test_certainty_depends_on_the_metadata():
    model = onnx.load(GOLDEN / FAULTY["file"])
    del gru(model).metadata_props[:]
    (finding,) = check(model)
    assert finding.certainty == "likely" and len(finding.evidence) == 2
    model.producer_name = "another"
    (finding,) = check(model)
    assert finding.certainty == "possible" and "second bias" in finding.evidence[0]
    model.producer_name = "pytorch"
    biases = next(array for array in model.graph.initializer if array.name == gru(model).input[3])
    values = onnx.numpy_helper.to_array(biases).copy()
    values[:, -2:] = 0
    biases.CopyFrom(onnx.numpy_helper.from_array(values, biases.name))
    (finding,) = check(model)
    assert finding.certainty == "likely" and len(finding.evidence) == 1
    model.producer_name = ""
    assert check(model) == []


def test_correct_nodes_are_not_flagged(tmp_path):
    for reset_after in (False, True):
        layer = nn.GRU(2, 3, **({"reset_after": True} if reset_after else {}))
        for parameter in layer.parameters():
            parameter.data += 0.1
        save(layer, tmp_path / "gru.onnx", np.zeros((4, 1, 2), np.float32))
        assert check(tmp_path / "gru.onnx") == []
    assert check(recurrent("GRU", linear_before_reset=1)[0]) == []
    assert check(recurrent("LSTM")[0]) == []
    assert check(recurrent("GRU", bias=False)[0]) == []


def test_nodes_in_subgraphs_are_found():
    model, _ = recurrent("GRU")
    inner = onnx.helper.make_graph(list(model.graph.node), "inner", [], [])
    condition = onnx.helper.make_node("If", ["condition"], ["y"], then_branch=inner, else_branch=inner)
    del model.graph.node[:]
    model.graph.node.append(condition)
    assert [finding.certainty for finding in check(model)] == ["possible", "possible"]
