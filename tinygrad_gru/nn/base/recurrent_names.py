"""What recurrent layers and cells answer to words of PyTorch and Keras: keywords, arguments of a call, attributes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from .hints import RECURRENT

_BOTH_ARE_RETURNED = (
    "not needed: output, state = layer(x) gives the output at every step, and the state after the last one"
)
_INITIAL = (
    "a start of your own, after the layer is made: layer.load_state_dict({**layer.state_dict(), 'cells.0.W_h': …}), "
    "with a function of nn.init (weights start Xavier uniform, U orthogonal, biases at 0)"
)
_PENALTY = "the optimizer's weight_decay, or a term of the loss"

SIZES = ("input_size", "hidden_size")

#: Keywords of the constructor.
KEYWORDS = {
    # Keras's
    "units": "hidden_size, after input_size: GRU(input_size, hidden_size)",
    "return_sequences": _BOTH_ARE_RETURNED + " (in a Sequential, LastStep takes the last step's)",
    "return_state": _BOTH_ARE_RETURNED,
    "return_all_outputs": _BOTH_ARE_RETURNED,
    "stateful": "done by hand: output, state = layer(x, state), then state = state.detach(); no layer keeps a state",
    "go_backwards": "reverse=True (an output keeps its time step, where Keras reverses them)",
    "merge_mode": "merge='concat', 'sum', 'mul' or 'mean' (Keras's 'ave'), with bidirectional=True",
    "mask_zero": "given when the layer is called: layer(x, mask=ids != 0), or lengths=",
    "recurrent_activation": "gate_activation",
    "use_bias": "bias",
    "time_major": "batch_first, which is False by default: time-major",
    "unroll": "not needed: the step is compiled (compiled=False runs it op by op)",
    "implementation": "not needed: the step is compiled (compiled=False runs it op by op)",
    "use_cudnn": "not needed: a layer runs where its parameters are, after layer.to('cupy') on the GPU",
    "zero_output_for_mask": "given when the layer is called: layer(x, lengths, past_end='zero'), the default",
    "unit_forget_bias": "forget_bias=1.0, the default, or forget_bias=0.0",
    "kernel_initializer": _INITIAL,
    "recurrent_initializer": _INITIAL,
    "bias_initializer": _INITIAL,
    "kernel_regularizer": _PENALTY,
    "recurrent_regularizer": _PENALTY,
    "bias_regularizer": _PENALTY,
    "activity_regularizer": "a term of the loss",
    "kernel_constraint": "a change of the weights after every step of the optimizer",
    "input_shape": "input_size, the features of x",
    "input_dim": "input_size, the features of x",
    "trainable": "layer.freeze(), after the layer is made",
    "name": "not needed: a layer is named after the attribute that it is assigned to",
    "seed": "manual_seed(0), before the layer is made",
    "learning_rate": "the optimizer's: optim.Adam(model.parameters(), lr=1e-3)",
    # PyTorch's
    "nonlinearity": "activation: activation='relu'",
    "proj_size": "LSTM's alone: LSTM(input_size, hidden_size, proj_size=…)",
    "recurrent_layers": "num_layers",
    "hidden_dim": "hidden_size",
    "num_units": "hidden_size",
    "in_features": "input_size",
    "out_features": "hidden_size",
    "zoneout_prob": "zoneout",
}

#: Values of the keywords for activations.
ACTIVATIONS = {
    "linear": "lambda a: a",
    "identity": "lambda a: a",
    "swish": "'silu'",
    "exponential": "'exp'",
    "hard_sigmoid": "lambda a: ops.clip(a / 6 + 0.5, low=0, high=1)",
    "hard_tanh": "lambda a: ops.clip(a, low=-1, high=1)",
    "softsign": "lambda a: a / (1 + ops.absolute(a))",
}

_STATE = "state, (layers·directions, batch, hidden_size); an LSTM's is the tuple (h, c)"
_LENGTHS = "lengths, (batch,) integers in any order; x stays padded, and nothing is packed"

#: Keyword arguments of a call.
ARGUMENTS = {
    "hx": _STATE, "h_0": _STATE, "h0": _STATE, "hidden": _STATE, "hidden_state": _STATE, "h": _STATE,
    "initial_state": _STATE, "states": _STATE, "c_0": _STATE, "c0": _STATE,
    "sequence_length": _LENGTHS, "sequence_lengths": _LENGTHS, "sequence_lens": _LENGTHS, "seq_lengths": _LENGTHS,
    "seq_len": _LENGTHS, "batch_sizes": _LENGTHS, "enforce_sorted": _LENGTHS,
    "input": "x", "inputs": "x", "sequence": "x", "sequences": "x",
    "training": "a mode of the layer: layer.train() or layer.eval()",
    "padding_value": "past_end: 'zero', 'nan', a number or 'hold'",
    "attention_mask": "mask, booleans like x without features, True where there is a step",
}  # fmt: skip

#: "weight_ih_l0_reverse" of a layer in PyTorch, "weight_ih" of a cell.
_TORCH_WEIGHT = re.compile(r"(weight|bias)_(ih|hh|hr)(?:_l(\d+)(_reverse)?)?")


class RecurrentNames:
    """Errors of recurrent layers and cells that give our word for one of PyTorch's or Keras's."""

    _keyword_hints: ClassVar[Mapping[str, str]] = KEYWORDS
    _argument_hints: ClassVar[Mapping[str, str]] = ARGUMENTS

    def __new__(cls, *sizes: Any, **keywords: Any) -> Any:
        module = super().__new__(cls, *sizes, **keywords)
        if sizes or keywords:  # not for a copy
            _check_sizes(cls, len(sizes), keywords)
        return module

    _hints: ClassVar[Mapping[str, str]] = RECURRENT

    def __getattr__(self, name: str) -> Any:
        if weight := _TORCH_WEIGHT.fullmatch(name):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}; here it is {_ours(self, weight)}"
            )
        return super().__getattr__(name)  # type: ignore[misc]


def _check_sizes(cls: type, count: int, keywords: Iterable[str]) -> None:
    """Raise TypeError if a size is missing."""
    parameters = inspect.signature(cls).parameters
    for name in list(parameters)[count:]:
        if name in SIZES and parameters[name].default is inspect.Parameter.empty and name not in keywords:
            raise TypeError(
                f"{cls.__name__}: {name} is missing: write {cls.__name__}(input_size, hidden_size); input_size, the "
                "features of x, is not inferred"
            )


def _ours(module: Any, weight: re.Match) -> str:
    """What to write for a weight of PyTorch's, of which ours are the gates, and transposed."""
    kind, side, layer, reverse = weight.groups()
    ours = "P" if side == "hr" else {"ih": "W", "hh": "U"}[side] if kind == "weight" else "b"
    index = "" if layer is None else f".cells[{int(layer) * getattr(module, 'directions', 1) + bool(reverse)}]"
    note = ", one for both of theirs" if ours == "b" else ", transposed"
    return (
        f"{ours} of each gate{note}: m{index}.{ours}_…; interop.torch.state_dict(m)[{weight[0]!r}] is in "
        "PyTorch's layout"
    )


class Signature:
    """`__signature__` of a class whose constructor passes `**options` on: with the names of those keywords, which its
    `option_parameters` gives."""

    def __get__(self, instance: object, owner: Any) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        own = [p for p in _parameters(owner.__init__) if p.name != "self"]
        if own and own[-1].kind is own[-1].VAR_KEYWORD:
            taken = {parameter.name for parameter in own}
            own[-1:] = [option for option in owner.option_parameters() if option.name not in taken]
        return inspect.Signature(own)


def keywords_of(function: Any) -> list[inspect.Parameter]:
    """The parameters of a constructor or class, but for sizes and those without a name, as keyword-only ones."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [p for p in _parameters(function) if p.kind not in variable and p.name not in ("self", *SIZES)]
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in named]


def _parameters(function: Any) -> list[inspect.Parameter]:
    """The parameters of a function, their types not as strings."""
    try:
        return list(inspect.signature(function, eval_str=True).parameters.values())
    except NameError:  # of a type that is imported for type checkers alone
        return list(inspect.signature(function).parameters.values())
