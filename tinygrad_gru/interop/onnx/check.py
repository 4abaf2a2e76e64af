"""`check`: does a file carry a GRU whose `linear_before_reset` is wrong?

PyTorch's GRU applies the reset gate after the product (linear_before_reset=1 in ONNX), and ONNX's default is before.
PyTorch's exporter by torch.export (`dynamo=True`) left it at 0 with onnxscript up to 0.7.0. Such a file is a valid
graph of another network: outputs differ by some percent, and nothing says so (pytorch/pytorch#189225,
microsoft/onnxscript#2852). What a file still knows of its origin gives it away.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

_SURE, _LIKELY, _POSSIBLE = "sure", "likely", "possible"


@dataclass(frozen=True)
class Finding:
    """A GRU that probably is not the one that was trained.

    node       its name, or that of its output
    certainty  "sure", "likely" or "possible"
    evidence   what speaks for it
    """

    node: str
    certainty: str
    evidence: tuple[str, ...]

    def __str__(self) -> str:
        how = {_SURE: "surely"}.get(self.certainty, self.certainty)
        return (
            f"{self.node}: linear_before_reset=0 is {how} wrong: {'; '.join(self.evidence)}. Set it to 1 in the node, "
            "or export again, with onnxscript 0.7.1 or later or with dynamo=False, and compare the outputs"
        )


def check(source: str | os.PathLike[str] | onnx.ModelProto) -> list[Finding]:
    """The GRU nodes of a file that have linear_before_reset=0 and should not, and how sure that is; [] if none.

    sure      the node itself says that it was made from torch.nn.GRU, which has no such form
    likely    the file was made by PyTorch, which has no such GRU
    possible  it has a second bias for the candidate, which in this form is of no use, so that libraries leave it 0

    A file may have the attribute wrong and bear none of these marks; only comparing outputs with the original can tell.
    """
    model = source if isinstance(source, onnx.ModelProto) else onnx.load(str(Path(source)))
    constants = {array.name: array for array in model.graph.initializer}
    return [found for node in _nodes(model) if (found := _finding(node, model, constants)) is not None]


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All GRU nodes, those in functions and in the bodies of other nodes among them."""
    remaining = [model.graph.node, *(function.node for function in model.functions)]
    while remaining:
        for node in remaining.pop():
            remaining += [a.g.node for a in node.attribute if a.HasField("g")]
            if node.op_type == "GRU" and node.domain in ("", "ai.onnx"):
                yield node


def _finding(node: onnx.NodeProto, model: onnx.ModelProto, constants: dict[str, onnx.TensorProto]) -> Finding | None:
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if settings.get("linear_before_reset", 0):
        return None
    evidence = []
    certainty = ""
    if _second_bias(node, settings, constants):
        evidence.append("the candidate has a second bias, which only acts where the reset gate comes after the product")
        certainty = _POSSIBLE
    if model.producer_name == "pytorch":
        version = f" {model.producer_version}" if model.producer_version else ""
        evidence.insert(0, f"the file was made by PyTorch{version}, whose GRU applies the reset gate after the product")
        certainty = _LIKELY
    origin = [f"{entry.key}={entry.value}" for entry in node.metadata_props]
    if any("torch.nn.modules.rnn.GRU" in entry or "aten.gru" in entry for entry in origin):
        evidence.insert(0, "the node's own record says that it was torch.nn.GRU")
        certainty = _SURE
    return Finding(node.name or node.output[0] or node.output[-1], certainty, tuple(evidence)) if certainty else None


def _second_bias(node: onnx.NodeProto, settings: dict, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether the last third of the recurrent half of B is there and not 0."""
    if len(node.input) < 4 or node.input[3] not in constants:
        return False
    biases = numpy_helper.to_array(constants[node.input[3]])
    hidden = settings.get("hidden_size", biases.shape[-1] // 6)
    return bool(np.any(biases[:, 5 * hidden :] != 0))
