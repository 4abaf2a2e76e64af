"""Docstrings of recurrent layers and cells: each is its own text, its cell's equations, and what its arguments mean."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable
from typing import TypeVar

Class = TypeVar("Class", bound=type)

#: By argument of a constructor: what it is.
ARGUMENTS = {
    "input_size": "features of x",
    "hidden_size": "features of the state, and of the output of one direction",
    "num_layers": "how many layers: the output of each is the input of the next",
    "bias": "whether there are b: one for each gate, where PyTorch has two",
    "batch_first": "x and the output are (batch, time, features) instead of (time, batch, features); the state stays "
    "(layers·directions, batch, hidden_size), as in PyTorch",
    "dropout": "probability with which an output is dropped between layers, in training, and not after the last "
    "(Keras's dropout is input_dropout)",
    "bidirectional": "a second cell in every layer runs backwards in time",
    "learn_initial_state": "the state before the first step is a parameter that starts at zero, instead of zeros",
    "merge": "how the outputs of both directions are combined: 'concat' (forward first), 'sum', 'mul' or 'mean'",
    "residual": "y = layer(dropout(x)) + x from the second layer on",
    "reverse": "run from each sequence's end to its beginning; an output keeps its time step",
    "input_dropout": "probability with which a feature of an input is dropped, in the first layer too: sampled once "
    "per pass for every sequence, the same at all steps (Gal & Ghahramani 2016)",
    "compiled": "for `scan`: False is eager mode, 'llvm' compiles to machine code, None is what `compiling` says",
    "checkpoint_every": "for `scan`: keep the state of every k-th step for backward, which recomputes the others",
    "dtype": "of the parameters, and so of x and the state: 'float32', 'float64', 'float16' or 'bfloat16'",
    "device": "of the parameters: 'numpy', 'cupy', …; by default that of `use`",
    "zoneout": "in training each unit of the state keeps its previous value with this probability, in evaluation the "
    "two are averaged with this weight (Krueger et al. 2016); a tuple has a probability for each state",
    "reset_after": "True: the reset gate after the product, h̃ = tanh(x W_h + b_h + r ⊙ (h U_h + c_h)), as PyTorch, "
    "cuDNN and Keras have it by default; neither form can be turned into the other",
    "gate_activation": "σ of the gates: the name of a function in ops, or a function",
    "activation": "φ of the candidate, tanh above: the name of a function in ops such as 'relu', or a function",
    "output_activation": "ψ of the output, tanh(c') above; None: as activation",
    "clip": "bounds the arguments of the activations to −clip … clip, as ONNX has it",
    "layer_norm": "normalizes each product x W and h U over the units, with a gain that starts at 1; in an LSTM c' "
    "too, before the output (Ba et al. 2016)",
    "recurrent_dropout": "in training probability with which a unit of h is dropped where it meets U: sampled once "
    "per pass for every sequence, the same at all steps and for all gates (Gal & Ghahramani 2016)",
    "forget_bias": "at which b_f starts; PyTorch's starts at random, Keras's at 1",
    "peephole": "True: the gates see the cell, p ⊙ c; 'full': every unit sees all of it, c V (Gers & Schmidhuber 2000)",
    "proj_size": "h' = (o ⊙ tanh(c')) P is narrower than c: P (hidden_size, proj_size); 0: without P (Sak et al. 2014)",
    "coupled": "f = 1 − i, without parameters of f (Greff et al. 2015)",
}

#: Of all layers and cells.
STARTS = """Every W starts Xavier uniform, U(−a, a) with a = √(6 / (input_size + hidden_size)), every U orthogonal and
every b at 0 (an LSTM's b_f at forget_bias). PyTorch draws all of them from U(−a, a), a = 1/√hidden_size; Keras's W
has a = √(6 / (input_size + gates · hidden_size)). To start as PyTorch does:

    layer.load_state_dict({name: nn.init.uniform(*p.shape, bound=a) for name, p in layer.named_parameters()})"""

#: Of all layers.
LAYER_CALL = """Called as layer(x), layer(x, state) or layer(x, lengths=lengths); returns (output, state):

    x       (time, batch, input_size): a Tensor, an array or nested lists
    state   (layers·directions, batch, hidden_size), at index layer·directions + direction: before the first step, by
            default the initial state, and returned after the last; a `State` (h, c) for an LSTM
    output  (time, batch, directions·hidden_size): of the last layer, at every step

`lengths`, `mask` and `past_end` are for sequences of different lengths: see `forward`."""

#: Of all cells.
CELL_CALL = """Called as cell(x) or cell(x, state): one step. x is (batch, input_size), the state and what is returned,
the next state, (batch, hidden_size); a `State` (h, c) for an LSTM. The layer of a cell runs it over time."""

_WIDTH = 112


class _Documentation:
    """`__doc__` of a class, made when it is read: at import it would take milliseconds."""

    def __init__(self, text: str):
        self.paragraphs = inspect.cleandoc(text).split("\n\n")

    def __get__(self, instance: object, owner: type) -> str:
        paragraphs, cell = self.paragraphs, getattr(owner, "cell_type", None)
        first = next((k for k, text in enumerate(paragraphs) if text.startswith(">>>")), len(paragraphs))
        equations = [] if cell is None else inspect.cleandoc(cell.__doc__ or "").split("\n\n")[1:2]
        parameters = inspect.signature(owner).parameters
        call = LAYER_CALL if "num_layers" in parameters else CELL_CALL
        own, examples = paragraphs[1:first], paragraphs[first:]
        own_cell = cell or owner
        starts = getattr(own_cell, "starts", STARTS)
        table = _arguments(parameters, ARGUMENTS | getattr(own_cell, "argument_texts", {}))
        return "\n\n".join([paragraphs[0], *equations, *own, call, table, starts, *examples]) + "\n"


def documented(cls: Class) -> Class:
    """A class with its docstring completed: the first paragraph of its own text, the equations of a layer's cell, how
    it is called, its arguments, how its parameters start, and its examples.

    A cell that has other arguments, or starts otherwise, has `argument_texts`, or `starts`."""
    if cls.__doc__:  # not under `python -OO`
        cls.__doc__ = _Documentation(cls.__doc__)  # type: ignore[assignment]
    return cls


def _arguments(parameters: Iterable[str], texts: dict[str, str]) -> str:
    """A table of the arguments of a constructor."""
    names = [name for name in parameters if name in texts]
    width = 2 + max(map(len, names))
    rows = zip(names, (textwrap.wrap(texts[name], _WIDTH - width) for name in names))
    lines = [f"    {(name if k == 0 else '').ljust(width)}{line}" for name, text in rows for k, line in enumerate(text)]
    return "\n".join(["Arguments:\n", *lines])
