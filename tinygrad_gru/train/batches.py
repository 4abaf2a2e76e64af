"""Batches of any kind, read into Tensors for a model; and passes over whatever iterates batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import ops
from ..backend import as_array, astype, backend_of, copy_of, is_floating, move, to_host
from ..data import ArrayBatches
from ..nn import Module
from ..nn.recurrent import Recurrent
from ..tensor import Tensor
from ..trees import map_leaves


class Source(Protocol):
    """Batches in epochs, with a position that can be saved: `data.Epochs`, or `Passes` over anything else."""

    epoch: int
    index: int

    def next_batch(self) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Passes:
    """Passes over anything that iterates batches: a list, a generator, a DataLoader of PyTorch. An epoch is a pass.

    A position is restored by skipping the batches before it, which gives the same ones if each pass has the same order.
    Whether a batch is the last one of its pass shows when the next one is read: not before that batch has been used,
    for a generator may write each into the same array.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        if hasattr(batches, "shape"):
            raise TypeError(f"data: got one array of shape {tuple(batches.shape)}: give the targets too, as (x, y)")
        if not isinstance(batches, Iterable):
            raise TypeError(
                f"data: expected arrays (x, y) or something that iterates batches, got {type(batches).__name__}"
            )
        self.batches = batches
        self.epoch = self.index = 0
        self._iterator: Iterator[Any] | None = None
        self._ahead: list[Any] | None = None  # the next batch of the pass, none at its end; None: not read yet

    def next_batch(self) -> Any:
        if self._iterator is None:
            self._start(skip=0)
        elif self.at_end:
            self.epoch, self.index = self.epoch + 1, 0
            self._start(skip=0)
        (batch,), self._ahead = self._read_ahead(), None
        self.index += 1
        return batch

    @property
    def at_end(self) -> bool:
        """Whether the last batch was the last one of its pass."""
        return self._iterator is not None and not self._read_ahead()

    def _start(self, skip: int) -> None:
        self._iterator, self._ahead = iter(self.batches), None
        if self._iterator is self.batches and self.epoch:
            raise ValueError(
                f"data: a {type(self.batches).__name__} can be passed over once, and ended after epoch {self.epoch}: "
                "give a list of batches, an object whose __iter__ begins anew, or with steps= a generator without end"
            )
        for _ in range(skip):
            next(self._iterator, None)
        if not self._read_ahead() and not skip:
            raise ValueError("data: there are no batches (empty data, or a generator that has been used up?)")

    def _read_ahead(self) -> list[Any]:
        assert self._iterator is not None
        if self._ahead is None:
            self._ahead = [batch for batch in [next(self._iterator, self)] if batch is not self]
        return self._ahead

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "index": self.index, "arrangement": {}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        once = hasattr(self.batches, "__next__")
        self.epoch, self.index = (0 if once else state["epoch"]), state["index"]
        self._start(skip=self.index)
        self.epoch = state["epoch"]


def source_of(data: Any) -> Source:
    """`data` itself if it has a position that can be saved, otherwise passes over it."""
    return data if _has_position(data) else Passes(data)


def rewind(data: Any) -> None:
    """Set `data` that has a position to the first batch of the first epoch."""
    if _has_position(data):
        data.load_state_dict({**data.state_dict(), "epoch": 0, "index": 0})


def _has_position(data: Any) -> bool:
    return hasattr(data, "next_batch") and hasattr(data, "load_state_dict")


def at_end(source: Any) -> bool:
    """Whether the last batch of the source was the last one of its epoch."""
    return source.at_end if isinstance(source, Passes) else source.index == len(source)


def batches_in_epoch(source: Any) -> int | None:
    """The number of batches in an epoch; None if it is not known in advance."""
    try:
        batches: Any = source.batches if isinstance(source, Passes) else source
        return len(batches)
    except TypeError:
        return None


def one_pass(data: Any) -> Iterator[Any]:
    """All batches of an epoch, from the first; the position of `data` is the same afterwards."""
    if _has_position(data):
        position = data.state_dict()
        data.load_state_dict({**position, "index": 0})
        try:
            yield from data
        finally:
            data.load_state_dict(position)
        return
    batches = iter(Passes(data).batches)
    first = next(batches, None)
    if first is None:
        raise ValueError("there are no batches (empty data, or a generator that an earlier pass used up? give a list)")
    yield first
    yield from batches


def are_arrays(data: Any) -> bool:
    """Whether `data` are arrays (x, y), and not batches of them."""
    if not isinstance(data, (tuple, list)) or len(data) != 2 or hasattr(data, "inputs"):
        return False
    _, y = data
    if isinstance(data, list):  # a list of two arrays, or of two batches
        return all(hasattr(part, "shape") for part in data)
    return not isinstance(y, tuple) and not hasattr(y, "inputs")


def array_batches(data: Any, batch_size: int, seed: int | None) -> ArrayBatches:
    """Batches of arrays (x, y); Tensors among them are copied to the host."""
    x, y = map(_on_host, data)
    return ArrayBatches(x, y, batch_size, seed)


def _on_host(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _on_host(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_on_host, value))
    return value.numpy() if isinstance(value, Tensor) else value


class ModelBatch(NamedTuple):
    """A batch as a model takes it: its arguments and keywords, and the targets.

    valid    of targets per step: the indices of the valid steps among all T·B, or None if all are valid
    starts   whether a carried state is to be reset, or None if the batch does not say
    """

    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    targets: Any
    per_step: bool
    valid: np.ndarray | None
    starts: bool | None

    @property
    def is_finite(self) -> bool:
        """Whether there is no NaN or infinity in it."""
        tensors = [value for value in (*self.arguments, *self.keywords.values(), self.targets) if value is not None]
        return all(bool(np.isfinite(to_host(getattr(value, "data", value))).all()) for value in tensors)

    def select(self, outputs: Any) -> Any:
        """The outputs that the targets belong to: of targets per step those of the valid steps, flattened."""
        if not self.per_step:
            return outputs
        steps = self.keywords.get("lengths")
        if len(outputs.shape) < 2 or (steps is not None and outputs.shape[1] != len(steps)):
            raise ValueError(
                f"the targets are one per step, but the model's output of shape {tuple(outputs.shape)} is not "
                "(T, B, …): return the output at every step, not the last one"
            )
        return flattened(outputs, self.valid)


def flattened(value: Any, valid: np.ndarray | None) -> Any:
    """(T, B, …) as (T·B, …), or as its rows `valid`."""
    rows = ops.reshape(value, shape=(value.shape[0] * value.shape[1], *value.shape[2:]))
    return rows if valid is None else rows[as_array(valid, device=backend_of(value.data))]


def read_batch(batch: Any, like: Tensor, with_targets: bool = True) -> ModelBatch:
    """A batch (inputs, targets), or an object with these attributes, on the device and in the dtype of `like`.

    Raises TypeError or ValueError if it is not one.
    """
    per_step, lengths = bool(getattr(batch, "per_step", False)), getattr(batch, "lengths", None)
    inputs, targets = inputs_and_targets(batch, with_targets)
    arguments: tuple[Tensor, ...] = ()
    keywords: dict[str, Any] = {}
    if isinstance(inputs, Mapping):
        keywords = {name: as_model_tensor(value, like, f"inputs[{name!r}]") for name, value in inputs.items()}
    elif isinstance(inputs, tuple) or are_collated(inputs):
        arguments = tuple(as_model_tensor(value, like, f"inputs[{k}]") for k, value in enumerate(inputs))
    else:
        arguments = (as_model_tensor(inputs, like, "inputs"),)
    if lengths is not None:
        keywords["lengths"] = lengths = np.array(lengths)
    if not with_targets or targets is None:
        targets, valid = None, _valid(lengths, arguments) if per_step else None
    else:
        targets = as_model_tensor(targets, like, "targets")
        valid = _valid(lengths, (targets,)) if per_step else None
        targets = flattened(targets, valid) if per_step else targets
    starts = getattr(batch, "starts", None)
    return ModelBatch(arguments, keywords, targets, per_step, valid, None if starts is None else bool(starts))


def inputs_and_targets(batch: Any, with_targets: bool = True) -> tuple[Any, Any]:
    """What a batch has of both, as it came. Raises TypeError if it is not a batch."""
    if hasattr(batch, "inputs"):
        return batch.inputs, getattr(batch, "targets", None)
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    if not with_targets and (hasattr(batch, "shape") or isinstance(batch, dict)):
        return batch, None
    length = f" of {len(batch)}" if hasattr(batch, "__len__") else ""
    raise TypeError(
        f"a batch must be (inputs, targets), or an object with .inputs and .targets, got a "
        f"{type(batch).__name__}{length}"
    )


def are_collated(inputs: Any) -> bool:
    """Whether these are several inputs from PyTorch's DataLoader, which makes a list of a tuple."""
    return isinstance(inputs, list) and len(inputs) > 0 and all(type(part).__module__ == "torch" for part in inputs)


def _valid(lengths: np.ndarray | None, values: tuple[Any, ...]) -> np.ndarray | None:
    """The indices of valid steps among the T·B of values (T, B, …); None if all are."""
    if lengths is None or not values or bool(np.all(lengths == values[0].shape[0])):
        return None
    return np.flatnonzero(np.arange(values[0].shape[0])[:, None] < lengths)


def as_model_tensor(value: Any, like: Tensor, name: str) -> Tensor:
    """`value`, of whatever library, as a Tensor on the device of `like`; floats in its dtype; an array is copied."""
    given = array = value.data if isinstance(value, Tensor) else value
    if not isinstance(value, Tensor) and backend_of(value).is_host:
        try:
            given = array = np.asarray(value)
        except ValueError as error:
            raise ValueError(
                f"{name}: expected an array, got a {type(value).__name__} of parts of different shapes: several inputs "
                "are a tuple, (x, lengths); data.SequenceBatches pads sequences of different lengths"
            ) from error
        if array.dtype.kind not in "biuf" and str(array.dtype) != "bfloat16":
            raise TypeError(
                f"{name}: expected numbers, got {array.dtype} (strings, or lists of different lengths? "
                "data.SequenceBatches pads sequences)"
            )
    array = move(array, backend_of(like.data))
    array = astype(array, like.dtype) if is_floating(array.dtype) else array
    return Tensor.from_node(array if isinstance(value, Tensor) or array is not given else copy_of(array), None)


def reference_tensor(model: Module) -> Tensor:
    """The parameter whose dtype and device batches take: the first of floats. Raises ValueError if there is none."""
    if not isinstance(model, Module):
        raise TypeError(f"model: expected a Module, got {type(model).__name__} (nn.Sequential makes one of functions)")
    tensors = [tensor for _, tensor in model.named_tensors() if is_floating(tensor.dtype)]
    if not tensors:
        raise ValueError(
            f"model: {type(model).__name__} has no parameters (are they attributes of a Module, in lists or dicts?)"
        )
    return tensors[0]


def check_layout(model: Module) -> None:
    """Raise ValueError if the model has a layer for which the first axis of arrays of examples would be time."""
    for path, module in model.named_modules():
        if isinstance(module, Recurrent) and not module.batch_first:
            layer = f"nn.{type(module).__name__}({module.input_size}, {module.hidden_size}, batch_first=True)"
            raise ValueError(
                f"data: the first axis of arrays counts the examples, but {path or 'the model'} is time-major and "
                f"would take it for time: write {layer}, or give data.SequenceBatches(sequences, targets); for a model "
                "that exchanges the axes itself, data.ArrayBatches(x, y)"
            )


def batches_of(model: Module, data: Any, validation: Any, batch_size: int, seed: int | None) -> tuple[Any, Any]:
    """The batches to train on, and those to evaluate on or None."""
    reference_tensor(model)
    if isinstance(validation, Real):
        if not are_arrays(data):
            raise ValueError("validation: a fraction is of arrays (x, y); of batches, give others for validation")
        data, validation = _split(data, validation)
    if are_arrays(data):
        check_layout(model)
        data = array_batches(data, batch_size, seed)
    if are_arrays(validation):
        check_layout(model)
        validation = array_batches(validation, batch_size, seed=None)
    return data, validation


def _split(data: Any, fraction: Any) -> tuple[Any, Any]:
    """The arrays without their last fraction, and that."""
    if isinstance(fraction, bool) or not 0 < fraction < 1:
        raise ValueError(f"validation: expected batches, arrays (x, y) or a fraction between 0 and 1, got {fraction!r}")
    whole = array_batches(data, 1, seed=None)
    held_out = round(len(whole) * float(fraction))
    if not 0 < held_out < len(whole):
        raise ValueError(f"validation: {fraction} of {len(whole)} examples leaves none to train on or to evaluate on")
    parts = [
        tuple(map_leaves(itemgetter(rows), value) for value in (whole.inputs, whole.targets))
        for rows in (slice(None, -held_out), slice(-held_out, None))
    ]
    (_, known), (_, targets) = parts
    if isinstance(targets, np.ndarray) and targets.ndim == 1 and targets.dtype.kind in "iu":
        unknown = float(np.mean(~np.isin(targets, known)))
        if unknown > 0.5:
            raise ValueError(
                f"validation: of the last {held_out:,} examples {unknown:.0%} are of classes that the others do not "
                "have: the examples are sorted. Shuffle them: order = np.random.default_rng(0).permutation(len(y))"
            )
    return parts[0], parts[1]
