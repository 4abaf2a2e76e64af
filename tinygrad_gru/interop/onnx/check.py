"""`check`: finds GRU nodes whose `linear_before_reset` is wrong.

PyTorch's GRU applies the reset gate after the product (linear_before_reset=1); ONNX's default is before it.
PyTorch's exporter by torch.export (`dynamo=True`) left it at 0 with onnxscript up to 0.7.0. Such a file is a valid
graph of another network: outputs differ by some percent, silently (pytorch/pytorch#189225,
microsoft/onnxscript#2852). Metadata of the file and of its nodes show it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import onnx

from .model_file import graphs_in, opened
from .tensors import ONNX_DOMAINS, host_array

_SURE, _LIKELY, _POSSIBLE = "sure", "likely", "possible"


@dataclass(frozen=True)
class Finding:
    """A GRU node that probably computes another function than the trained one.

    node       its name, or that of its output
    certainty  "sure", "likely" or "possible"
    evidence   the reasons
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
    """The GRU nodes of a file whose linear_before_reset=0 is suspect, with how certain that is; [] if none.

    sure      the node's metadata says that it was exported from torch.nn.GRU, which has no such form
    likely    the file was exported by PyTorch, which has no such GRU
    possible  its candidate has a second bias, which is redundant in this form, so that libraries leave it 0

    A file may have the attribute wrong and show none of these signs; only comparing outputs with the original can tell.
    """
    with opened(source) as (model, _):
        constants = {array.name: array for array in model.graph.initializer}
        nodes = [node for graph in graphs_in(model.graph) for node in graph.node]
        grus = [node for node in nodes if node.op_type == "GRU" and node.domain in ONNX_DOMAINS]
        return [found for node in grus if (found := _finding(node, model, constants)) is not None]


def _finding(node: onnx.NodeProto, model: onnx.ModelProto, constants: dict[str, onnx.TensorProto]) -> Finding | None:
    attributes = {a.name: a.i for a in node.attribute}
    if attributes.get("linear_before_reset", 0):
        return None
    evidence = []
    certainty = ""
    if _second_bias(node, attributes, constants):
        evidence.append("the candidate has a second bias, which only acts where the reset gate comes after the product")
        certainty = _POSSIBLE
    if model.producer_name == "pytorch":
        version = f" {model.producer_version}" if model.producer_version else ""
        evidence.insert(
            0, f"the file was exported by PyTorch{version}, whose GRU applies the reset gate after the product"
        )
        certainty = _LIKELY
    origin = [f"{entry.key}={entry.value}" for entry in node.metadata_props]
    if any("torch.nn.modules.rnn.GRU" in entry or "aten.gru" in entry for entry in origin):
        evidence.insert(0, "the node's metadata says that it was torch.nn.GRU")
        certainty = _SURE
    return Finding(node.name or node.output[0] or node.output[-1], certainty, tuple(evidence)) if certainty else None


def _second_bias(node: onnx.NodeProto, attributes: dict, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether B has a recurrent bias of the candidate (the last third of its second half) that is not 0."""
    if len(node.input) < 4 or node.input[3] not in constants:
        return False
    biases = host_array(constants[node.input[3]])
    hidden = attributes.get("hidden_size", biases.shape[-1] // 6)
    return bool(np.any(biases[:, 5 * hidden :] != 0))
