"""Views: the text of an expression that shows an array in another way."""

from __future__ import annotations

from ..ir import Value
from ..tracing.traced_array import as_index


def view_text(value: Value, source: str, lead: bool) -> str:
    """The expression for a view of `source`; `lead` says that a first axis runs over steps."""
    if value.op == "reshape":
        shape = f"{source}.shape[:1] + {value.shape}" if lead else f"{value.shape}"
        return f"{source}.reshape({shape})"
    if value.op == "transpose":
        axes = (0, *(a + 1 for a in value["axes"])) if lead else value["axes"]
        return f"{source}.transpose({axes})"
    if value.op == "getitem":
        return f"{source}[{index_text(value['index'], lead)}]"
    missing = len(value.shape) - len(value.inputs[0].shape)  # broadcast_to
    if lead:
        aligned = f"{source}[:{', None' * missing}, ...]" if missing else source
        return f"broadcast_to({aligned}, {source}.shape[:1] + {value.shape})"
    return f"broadcast_to({source}, {value.shape})"


def index_text(plain: tuple, lead: bool) -> str:
    """The text between the brackets."""
    parts = [":"] if lead else []
    for p in as_index(plain):
        parts.append(str(p) if isinstance(p, int) else f"{p.start}:{'' if p.stop is None else p.stop}:{p.step}")
    return ", ".join([*parts, "..."])  # a view also where every axis has an integer
