"""Hints: what to write here instead of a name that PyTorch, Keras or NumPy has and this package has not.

One table for each place where such a name is looked up: from the foreign name to one line that says what to write,
or that there is no such thing. The line completes "module 'tinygrad_gru.nn' has no attribute 'MSELoss'; here it is …".
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from opcode import opmap
from typing import Any

#: Of the package itself.
PACKAGE = {
    "anomaly": "tinygrad_gru.debug",
    "sanitizer": "tinygrad_gru.debug",
    "Variable": "Tensor(data, requires_grad=True)",
    "from_numpy": "Tensor(array)",
    "as_tensor": "Tensor(data)",
    "set_grad_enabled": "a block: `with no_grad():` or `with enable_grad():`",
    "inference_mode": "a block: `with no_grad():`",
    "optimizers": "optim",
    "layers": "nn",
    "losses": "a function of ops: ops.cross_entropy(logits, targets), ops.mse(y, targets), …",
}

#: Of a Tensor.
TENSOR = {
    "add": "t + other",
    "sub": "t - other",
    "mul": "t * other",
    "div": "t / other",
    "pow": "t ** other",
    "neg": "-t",
    "eq": "t == other",
    "ne": "t != other",
    "lt": "t < other",
    "le": "t <= other",
    "gt": "t > other",
    "ge": "t >= other",
    "matmul": "t @ other",
    "mm": "t @ other",
    "bmm": "t @ other",
    "mv": "t @ other",
    "dot": "t @ other",
    "t": "t.T, or t.mT for the last two axes",
    "dim": "t.ndim",
    "ndimension": "t.ndim",
    "nelement": "t.numel()",
    "int": "t.astype('int32')",
    "type": "t.dtype, or t.astype(dtype)",
    "type_as": "t.astype(other.dtype)",
    "bfloat16": "t.astype('bfloat16')",
    "copy": "t.clone()",
    "deepcopy": "copy.deepcopy(t), or t.clone()",
    "grad_fn": "t.node, the record that computed it; print(tape(t)) shows all that led to it",
    "is_cuda": "t.device == 'cupy'",
    "is_contiguous": "not needed: no op depends on the order in memory",
    "get_device": "t.device",
    "split": "ops.split(t, parts, axis) as NumPy's, with the number of parts, or t.chunk(parts, axis)",
    "unbind": "list(t)",
    "narrow": "a slice: t[:, start : start + length]",
    "select": "t[:, index]; ops.select(condition, a, b) is another thing",
    "index_select": "t.take(indices, axis)",
    "scatter": "ops.scatter_add(t, values, index), which adds",
    "scatter_add": "ops.scatter_add(t, values, index)",
    "masked_select": "t[mask]",
    "where": "ops.where(condition, t, other)",
    "repeat": "ops.repeat(t, repeats, axis) as NumPy's; for PyTorch's repeat ops.concatenate([t] * n, axis)",
    "tile": "ops.concatenate([t] * n, axis)",
    "ravel": "t.flatten()",
    "round": "for values: np.round(t.numpy())",
    "sort": "ops.sort(t, axis), with ops.argsort(t, axis) for the indices",
    "values": "the result itself: max and min give values; return_indices=True gives (values, indices)",
    "indices": "t.argmax(axis), or t.max(axis, return_indices=True) for both",
    "is_floating_point": "t.dtype.kind == 'f'",
    "tensor_split": "ops.split(t, parts, axis)",
    "addmm": "bias + a @ b",
    "rsqrt": "1 / t.sqrt()",
    "reciprocal": "1 / t",
    "new_zeros": "zeros(shape, dtype=t.dtype)",
    "new_ones": "ones(shape, dtype=t.dtype)",
    "new_tensor": "tensor(data, dtype=t.dtype)",
    "nbytes": "t.data.nbytes",
    "itemsize": "t.dtype.itemsize",
    "strides": "t.data.strides",
    "stride": "t.data.strides, in bytes",
    "add_": "under no_grad: t += other",
    "sub_": "under no_grad: t -= other",
    "mul_": "under no_grad: t *= other",
    "div_": "under no_grad: t /= other",
    "zero_": "under no_grad: t *= 0, or t.data[...] = 0; for a gradient t.zero_grad()",
    "fill_": "under no_grad: t[...] = value",
    "copy_": "under no_grad: t[...] = other",
    "clamp_": "under no_grad: t[...] = t.clip(low, high)",
    "uniform_": "under no_grad: t[...] = rand(*t.shape), or an initialiser of nn.init",
    "normal_": "under no_grad: t[...] = randn(*t.shape), or an initialiser of nn.init",
    "detach_": "t = t.detach()",
    "assign": "t.data[...] = value, or `t.data = array`",
}

#: Of `nn`.
NN = {"functional": "ops: ops.relu(x), ops.cross_entropy(logits, targets), …"}

#: Of `ops`.
OPS = {"cat": "ops.concatenate(arrays, axis=0)"}

#: Of `optim`.
OPTIM = {
    "lr_scheduler": "a schedule of optim: optim.StepDecay, OneCycle, ReduceOnPlateau, WarmupCosine, WarmupLinear",
    "StepLR": "optim.StepDecay(optimizer, every=step_size, decay=gamma)",
    "ExponentialLR": "optim.StepDecay(optimizer, every=1, decay=gamma)",
    "CosineAnnealingLR": "optim.WarmupCosine(optimizer, total_steps=T_max, warmup=0.0)",
    "CosineDecay": "optim.WarmupCosine(optimizer, total_steps=decay_steps, warmup=0.0)",
    "LinearLR": "optim.WarmupLinear(optimizer, total_steps)",
    "OneCycleLR": "optim.OneCycle(optimizer, total_steps), whose peak is the lr of the optimizer",
    "ReduceLROnPlateau": "optim.ReduceOnPlateau(optimizer, decay=factor), then schedule.step(metric)",
    "LambdaLR": "a class: `class Mine(optim.Schedule):` with `def factor(self, t): return …`",
    "LearningRateSchedule": "optim.Schedule",
    "LRScheduler": "optim.Schedule",
    "clip_grad_norm_": "optim.clip_gradient_norm(parameters, max_norm)",
    "clip_grad_value_": "optim.clip_gradient_value(parameters, max_value)",
    **dict.fromkeys(
        (
            "Adadelta",
            "Adafactor",
            "Adamax",
            "Ftrl",
            "Lamb",
            "Lion",
            "Muon",
            "NAdam",
            "Nadam",
            "RAdam",
            "Rprop",
            "SparseAdam",
        ),
        "optim.Adam or optim.AdamW; an optimizer of your own is its rule, a few lines: help(optim.Optimizer)",
    ),
}


def missing_attribute(owner: str, name: str, hints: Mapping[str, str], known: Iterable[str] = ()) -> AttributeError:
    """The error for an attribute that `owner` has not: with its hint, or else with the `known` name most like it."""
    if name in hints:
        return AttributeError(f"{owner} has no attribute {name!r}; here it is {hints[name]}")
    return AttributeError(f"{owner} has no attribute {name!r}{did_you_mean(name, known)}")


def missing_name(module: str, name: str, hints: Mapping[str, str], known: Iterable[str] = ()) -> Exception:
    """`missing_attribute` for the `__getattr__` of a module, which raises it.

    For `from module import name` it is an ImportError, since that statement would hide the text of an AttributeError.
    """
    error = missing_attribute(f"module {module!r}", name, hints, known)
    caller = sys._getframe(2)
    imports = caller.f_lasti >= 0 and caller.f_code.co_code[caller.f_lasti] == opmap["IMPORT_FROM"]
    return ImportError(f"cannot import {name!r}: {error}") if imports else error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message: the known name most like this one, or nothing."""
    found: list[Any] = get_close_matches(name, [k for k in known if not k.startswith("_")], n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
