"""Golden outputs of onnxruntime (golden/onnxruntime.json), for machines without it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from tinygrad_gru.interop.onnx import load  # noqa: E402

CASES = json.loads((Path(__file__).parent / "golden" / "onnxruntime.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']} {case['settings']}")
def test_graphs_agree_with_golden_outputs(case):
    graph = load(onnx.load_from_string(base64.b64decode(case["model"])))
    results = graph(*(np.array(case["inputs"][i.name], i.dtype) for i in graph.inputs))
    for ours, theirs in zip(results, case["results"], strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6, atol=1e-6)
