"""Random graphs: they compute what onnxruntime computes, or are refused."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from fuzz.onnx import random_model  # noqa: E402
from onnx_graphs import in_onnxruntime  # noqa: E402

from tinygrad_gru import compiling, no_grad  # noqa: E402
from tinygrad_gru.interop import InteropError  # noqa: E402
from tinygrad_gru.interop.onnx import load  # noqa: E402

X = np.array([[1.5, -2, 0.25], [3, -0.5, 7]], np.float32)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_graphs_agree_with_onnxruntime(capfd):
    """About one graph in ten is valid, with operators, types and attributes that both support."""
    agreed = 0
    for seed in range(400):
        graph = random_model(Random(f"d{seed}"), onnx)
        try:
            with compiling(False), no_grad():
                ours = load(graph)(X).numpy()
        except InteropError:
            continue
        graph.graph.output[0].type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(ours.dtype)
        try:
            (theirs,) = in_onnxruntime(graph, {"x": X})
        except Exception:  # it lacks some operators for some types
            continue
        label = f"{seed}: {[node.op_type for node in graph.graph.node]}"
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), label
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=label)
        agreed += 1
    assert agreed > 30
