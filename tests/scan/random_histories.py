"""Random histories: compiled mode must agree with eager mode, whatever a program does between calls.

A world has parameters, ops of the user's own, steps and layers. A history is a list of events: calls, some of which
record variables of the step, backward passes and second derivatives of any call so far, and between them rules that
are redefined, settings that change, hooks, writes into memory, freezing, train/eval flips, attributes that are
replaced. The same history happens in two worlds, a compiled one and an eager one (which recomputes nothing), and every
event must have the same result in both. A TapeError in either is no disagreement: refusing is right where a value
cannot be computed.

`python -m tests.scan.random_histories 20000` runs that many, and prints those that disagree. `… 500 llvm` and, where
there is a GPU, `… 500 cupy` run other targets; a third number is the first seed, and `… 1 numpy 17` prints one history.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.scan.plain_steps import PlainStep
from tinygrad_gru import (
    TapeError,
    Tensor,
    compiling,
    grad,
    manual_seed,
    nn,
    no_grad,
    op,
    ops,
    rand,
    randn,
    random_state,
    scan,
    set_random_state,
)
from tinygrad_gru.scan import pure
from tinygrad_gru.trees import flatten

WIDTH, READ, STEPS = 3, 2, 3
#: The tolerance, relative to the largest element of each result.
TOLERANCE = {"float64": 1e-8, "float32": 5e-3}


def _reversal(factor: float) -> Any:
    """An op from a factory, whose rule depends on a closure."""

    @op
    def reversal(x, *, strength=1.0):
        return x + 0

    reversal.vjp(x=lambda g, strength: -factor * strength * g)
    return reversal


def _amplifier(factor: float) -> Any:
    """An op from a factory, whose formula depends on a closure."""

    @op
    def amplifier(x):
        return factor * x

    amplifier.vjp(x=lambda g: factor * g)
    return amplifier


def _product() -> Any:
    """An op of two inputs, whose rules keep inputs and output."""

    @op
    def product(a, b):
        return a * b + 0.25 * a

    product.vjp(a=lambda g, b: g * (b + 0.25), b=lambda g, a: g * a)
    return product


class World:
    """The state in which a history runs. Everything is drawn from seeds, so two worlds of one seed are equal."""

    def __init__(self, seed: int, mode: bool | str, device: str = "numpy"):
        random = np.random.default_rng(seed)
        self.mode, self.device = mode, device
        self.dtype = "float64" if random.random() < 0.8 else "float32"
        self.options = {"dtype": self.dtype, "device": self.device}
        manual_seed(seed)
        self.settings = {"strength": 1.0, "k": 1.0, "gain": 0.5, "hook": 0.0, "shift": 0.1}
        self.own = {"reversal": _reversal(0.5), "amplifier": _amplifier(0.7), "product": _product()}
        shapes = {"U": (WIDTH, WIDTH), "V": (WIDTH, WIDTH), "W": (READ, WIDTH), "b": (WIDTH,), "d": (1, WIDTH)}
        self.parameters = {name: self.tensor(random, shape, True, 0.5) for name, shape in shapes.items()}
        self.slow = self.parameters["U"].detach()
        self.models: list[Callable[..., list[Tensor]]] = [self._step(random) for _ in range(2)]
        self.layers: list[nn.Recurrent] = []
        self.models.append(self._layer(random))
        if random.random() < 0.5:
            self.models.append(self._own_layer(random))
        self.models.append(self._plain(random))
        self.calls: list[tuple[list[Tensor], list[Tensor]]] = []
        self.hooks: list[Callable[[], None]] = []
        self.random_state = random_state()

    def tensor(
        self, random: np.random.Generator, shape: tuple[int, ...], requires_grad: bool, scale: float = 1
    ) -> Tensor:
        return self.new_tensor(scale * random.standard_normal(shape), requires_grad)

    def new_tensor(self, values: Any, requires_grad: bool = False) -> Tensor:
        """A tensor of these values, of the dtype and on the device of this world."""
        return Tensor(values, requires_grad=requires_grad, dtype=self.dtype, device=self.device)

    # -- what is called ----------------------------------------------------------------------------------------------

    def _step(self, random: np.random.Generator) -> Callable[..., list[Tensor]]:
        """A recurrence over a step of random operations, which looks up everything that can change at every run."""
        names = [name for name in _OPERATIONS if random.random() < 0.9] or list(_OPERATIONS)
        program = [
            (names[random.integers(len(names))], int(random.integers(99)), int(random.integers(99)))
            for _ in range(random.integers(2, 6))
        ]
        parts, outputs = int(random.integers(1, 3)), int(random.integers(0, 3))
        singular = random.random() < 0.3
        structure = _STRUCTURES[random.integers(len(_STRUCTURES))]

        def step(carry: Any, x: Tensor) -> Any:
            state = flatten(carry)
            pool = [*state, x @ self.parameters["W"]]
            for name, i, j in program:
                pool.append(_OPERATIONS[name](self, pool[i % len(pool)], pool[j % len(pool)]))
            new = [ops.tanh(pool[-1])] + [0.5 * s + 0.5 * pool[-2] for s in state[1:]]
            ys = [pool[-1 - i] for i in range(outputs)]
            if singular:  # finite as long as its gradient is not used
                ys.append(1.0 / (x * 0.0))
                ys.append(ops.sqrt(state[0] * 0.0))
            return (structure(new), structure(ys)) if ys else structure(new)

        def call(random: np.random.Generator) -> tuple[list[Tensor], list[Tensor]]:
            batch = int(random.integers(1, 3))
            carry = [self.tensor(random, (batch, WIDTH), random.random() < 0.7) for _ in range(parts)]
            x = self.tensor(random, (STEPS, batch, READ), random.random() < 0.7)
            variables = [f"pool[{i}]" for i in range(parts + 1 + len(program))] + ["x", "state[0]", "new[0]"]
            record = _recorded(random, variables)
            last, ys, *records = scan(
                step, structure(carry), x, reverse=random.random() < 0.3, record=record,
                checkpoint_every=2 if random.random() < 0.2 and self.mode else None,
            )  # fmt: skip
            regular = flatten(ys)[:-2] if singular else flatten(ys)
            return [*carry, x], [*flatten(last), *regular, *flatten(records)]

        return call

    def _plain(self, random: np.random.Generator) -> Callable[..., list[Tensor]]:
        """A recurrence over a plain function, which reads what it is proved to read."""
        world = self

        class Inner(nn.Module):
            rate = 0.4

            def __init__(self):
                self.w, self.act = world.new_tensor(np.full(WIDTH, 0.3), requires_grad=True), ops.tanh

            def step(self, h, x):
                return self.rate * self.act(h * self.w)

        plain = self.plain = PlainStep(self, Inner(), looks=random.random() < 0.2)

        def call(random: np.random.Generator) -> tuple[list[Tensor], list[Tensor]]:
            batch = int(random.integers(1, 3))
            carry = self.tensor(random, (batch, WIDTH), random.random() < 0.7)
            x = self.tensor(random, (STEPS, batch, READ), random.random() < 0.7)
            for _ in range(2):  # the second call looks for a proof
                last, ys = scan(plain.step(), carry, x)
            return [carry, x], [last, ys]

        return call

    def _layer(self, random: np.random.Generator) -> Callable[..., list[Tensor]]:
        """One of our layers, with keywords."""
        layer_name = ("RNN", "GRU", "LSTM", "MGU")[random.integers(4)]
        options: dict[str, Any] = {}
        for name, value in _KEYWORDS.items():
            if random.random() < 0.25 and not (name == "reset_after" and layer_name != "GRU"):
                options[name] = value
        if random.random() < 0.3:
            options["activation"] = lambda a: ops.tanh(self.settings["k"] * a)
        layer = getattr(nn, layer_name)(READ, WIDTH, dtype=self.dtype, device=self.device, **options)
        if not self.mode:
            layer.checkpoint_every = None
        return self._calling(layer)

    def _own_layer(self, random: np.random.Generator) -> Callable[..., list[Tensor]]:
        """A layer of a pure cell that depends on everything on which a pure cell may depend."""
        world = self

        class Own(nn.Cell):
            factor = 1.0

            def __init__(self, input_size: int, hidden_size: int, **options: Any):
                super().__init__(input_size, hidden_size, **options)
                self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b(0.1)
                self.slow = self.U.detach()
                self.gain, self.pair = 0.5, [world.new_tensor([0.3]), 0.2]
                self.function = lambda a: ops.tanh(world.settings["k"] * a)

            @pure
            def step(self, h, x):
                a = x @ self.W + h @ self.U + self.gain * (h @ self.slow) + self.b
                return self.factor * self.function(a * self.pair[0] + self.pair[1] * self.gate(h))

            def gate(self, h):
                return world.own["reversal"](h, strength=self.gain)

        return self._calling(nn.Recurrent.of(Own)(READ, WIDTH, dtype=self.dtype, device=self.device))

    def _calling(self, layer: nn.Recurrent) -> Callable[..., list[Tensor]]:
        self.layers.append(layer)

        def call(random: np.random.Generator) -> tuple[list[Tensor], list[Tensor]]:
            batch = int(random.integers(1, 3))
            x = self.tensor(random, (STEPS, batch, READ), random.random() < 0.7)
            lengths = random.integers(0, STEPS + 1, batch) if random.random() < 0.3 else None
            y, state, *records = layer(x, lengths=lengths, record=_recorded(random, ["h'", "x", "h"]))
            found = [value for one in (records[0] if records else ()) for value in one.values()]
            return [x], [y, *(state if isinstance(state, tuple) else [state]), *found]

        return call

    # -- events ------------------------------------------------------------------------------------------------------

    def happen(self, event: str, seed: int) -> list[np.ndarray | None]:
        """Run an event in the mode of this world; returns its result."""
        set_random_state(self.random_state)
        with compiling(self.mode), np.errstate(all="ignore"):
            found = getattr(self, event)(np.random.default_rng(seed))
        self.random_state = random_state()
        state = np.array([self.random_state["seed"], self.random_state["position"]], dtype="float64")
        return [*(found or []), state]

    def call(self, random: np.random.Generator) -> list[np.ndarray | None]:
        inputs, outputs = self.models[random.integers(len(self.models))](random)
        self.calls.append((inputs, outputs))
        return [y.numpy() for y in outputs]

    def _loss(self, random: np.random.Generator) -> tuple[list[Tensor], Tensor] | None:
        """The inputs of an earlier call, and a loss of some of its outputs."""
        if not self.calls:
            return None
        inputs, outputs = self.calls.pop(random.integers(len(self.calls)))
        used = [y for y in outputs if random.random() < 0.6] or outputs[:1]
        total = self.new_tensor(0.0)
        for y in used:
            part = y[-1] if random.random() < 0.2 else y
            total = total + (part * self.tensor(random, part.shape, False)).sum()
        return inputs, total

    def _leaves(self, inputs: list[Tensor]) -> list[Tensor]:
        in_layers = (tensor for layer in self.layers for _, tensor in layer.named_parameters())
        every = [*inputs, *self.parameters.values(), *in_layers]
        return [t for t in every if t.requires_grad and t.is_leaf]

    def _gradients(self, inputs: list[Tensor]) -> list[np.ndarray | None]:
        found = [None if t.grad is None else t.grad.numpy() for t in self._leaves(inputs)]
        self.forget(None)
        return found

    def backward(self, random: np.random.Generator) -> list[np.ndarray | None] | None:
        made = self._loss(random)
        if made is None or not made[1].requires_grad:
            return None
        inputs, loss = made
        if random.random() < 0.2:
            loss.backward(retain_graph=True)
        loss.backward()
        return self._gradients(inputs)

    def second_order(self, random: np.random.Generator) -> list[np.ndarray | None] | None:
        made = self._loss(random)
        if made is None or not made[1].requires_grad:
            return None
        inputs, loss = made
        wrt = [t for t in self._leaves(inputs) if random.random() < 0.7] or self._leaves(inputs)
        first = grad(loss, wrt, create_graph=True, allow_unused=True)
        first = [g for g in first if g is not None]
        total = sum(((g * self.tensor(random, g.shape, False)).sum() for g in first), start=loss * 0.1)
        if total.requires_grad:
            total.backward()
        return [*(g.numpy() for g in first), *self._gradients(inputs)]

    def forget(self, random: Any) -> None:
        """Clear all gradients."""
        for tensor in self._leaves([]):
            tensor.zero_grad()

    def redefine_rule(self, random: np.random.Generator) -> None:
        """Give an op of the user's own another rule, as one does in a notebook."""
        factor = float(random.choice([0.2, 2.0, -1.0]))
        self.own["reversal"].vjp(x=lambda g, strength: factor * strength * g)

    def replace_op(self, random: np.random.Generator) -> None:
        name, factory = [("reversal", _reversal), ("amplifier", _amplifier)][random.integers(2)]
        self.own[name] = factory(float(random.choice([0.3, 1.5])))

    def change_setting(self, random: np.random.Generator) -> None:
        self.settings[list(self.settings)[random.integers(len(self.settings))]] = float(random.choice([0.0, 0.4, 1.7]))

    def write(self, random: np.random.Generator) -> None:
        """Write into the memory of a parameter, in one of several ways."""
        tensors = [
            *self.parameters.values(),
            self.slow,
            *(t for layer in self.layers for _, t in layer.named_tensors()),
        ]
        tensor, way = tensors[random.integers(len(tensors))], random.integers(3)
        new = self.new_tensor(tensor.numpy() * 0.9 + 0.05).data
        if way == 0:
            with no_grad():
                tensor[...] = Tensor.from_node(new, None)
        elif way == 1 and tensor.is_leaf:
            tensor.data = new
        elif tensor.is_leaf:
            tensor.data[...] = new
            tensor.mark_changed()

    def freeze(self, random: np.random.Generator) -> None:
        """Freeze a parameter, or unfreeze it."""
        tensors = [t for t in self.parameters.values() if t.is_leaf]
        tensor = tensors[random.integers(len(tensors))]
        tensor.requires_grad = not tensor.requires_grad

    def freeze_layer(self, random: np.random.Generator) -> None:
        layer = self.layers[random.integers(len(self.layers))]
        layer.freeze() if random.random() < 0.5 else layer.unfreeze()

    def flip(self, random: np.random.Generator) -> None:
        self.layers[random.integers(len(self.layers))].train(random.random() < 0.5)

    def reseed(self, random: np.random.Generator) -> None:
        manual_seed(int(random.integers(3)))

    def set_attribute(self, random: np.random.Generator) -> None:
        """Replace an attribute of a cell or of its class: by another tensor, a computed one, a scalar, a function."""
        cells = [cell for layer in self.layers for cell in layer.cells]
        cell = cells[random.integers(len(cells))]
        choice, value = random.integers(5), float(random.choice([0.3, 0.8, 1.3]))
        tensors = [name for name, t in vars(cell).items() if isinstance(t, Tensor) and name.startswith(("W", "U", "b"))]
        name = tensors[random.integers(len(tensors))]
        if choice == 0:
            setattr(cell, name, self.new_tensor(getattr(cell, name).numpy() * value, requires_grad=True))
        elif choice == 1:  # weight normalisation, a hypernetwork
            with_history = getattr(cell, name) * self.new_tensor([value], requires_grad=True)
            setattr(cell, name, with_history)
        elif hasattr(cell, "gain"):
            if choice == 2:
                cell.gain = value
            elif choice == 3:
                type(cell).factor = value
            else:
                cell.pair[random.integers(2)] = value if random.random() < 0.5 else self.new_tensor([value])

    def change_plain(self, random: np.random.Generator) -> None:
        """Change something that the plain function reads."""
        self.plain.change(self, random)

    def set_function(self, random: np.random.Generator) -> None:
        for layer in self.layers:
            for cell in layer.cells:
                if hasattr(cell, "function"):
                    cell.function = ops.sin if random.random() < 0.5 else lambda a: ops.tanh(self.settings["gain"] * a)


def _recorded(random: np.random.Generator, variables: list[str]) -> list[str] | None:
    """An argument `record`: most often None, else some of these variables."""
    if random.random() < 0.6:
        return None
    return [str(name) for name in random.permutation(variables)[: random.integers(1, 4)]]


def _hooked(world: World, a: Tensor, b: Tensor) -> Tensor:
    value, weight = a * 1.0, world.settings["hook"]
    if weight and value.requires_grad:
        value.register_hook(lambda g: g * weight)
    return value + 0.1 * b


#: The operations of a step: functions of the current world and two values.
_OPERATIONS: dict[str, Callable[[World, Tensor, Tensor], Tensor]] = {
    "add": lambda w, a, b: a + b,
    "product": lambda w, a, b: w.own["product"](a, b),
    "reversal": lambda w, a, b: w.own["reversal"](a, strength=w.settings["strength"]) + 0.2 * b,
    "amplifier": lambda w, a, b: w.own["amplifier"](a) - 0.3 * b,
    "gate": lambda w, a, b: (1 - ops.sigmoid(a)) * b + ops.sigmoid(a) * ops.tanh(b),
    "matmul": lambda w, a, b: ops.tanh(a @ w.parameters["U"] + w.parameters["b"]),
    "twice": lambda w, a, b: ops.tanh(a @ w.parameters["U"]) * (b @ w.parameters["V"]),
    "slow": lambda w, a, b: a @ w.slow - b @ w.parameters["U"],
    "detached": lambda w, a, b: a.detach() * b,
    "setting": lambda w, a, b: w.settings["k"] * a + w.settings["shift"],
    "numpy scalar": lambda w, a, b: np.float64(w.settings["k"]) * a if w.dtype == "float64" else a,
    "hook": _hooked,
    "where": lambda w, a, b: ops.where(a > 0.1, b, 0.4 * a),
    "whole": lambda w, a, b: a * ops.exp(w.parameters["d"] * w.parameters["b"]),
    "branch": lambda w, a, b: a * b if w.settings["gain"] > 0.45 else a - b,
    "softmax": lambda w, a, b: ops.softmax(a) * b,
    "dropout": lambda w, a, b: ops.dropout(a, p=0.3) + 0.1 * b,
    "noise": lambda w, a, b: a * rand(*a.shape, **w.options) - b * randn(*b.shape[1:], **w.options),
    "untraceable": lambda w, a, b: a * (0.5 if float(a.detach().sum()) > 0 else 0.7),
}

#: The structures of a carry, and of ys.
_STRUCTURES: list[Callable[[list[Tensor]], Any]] = [
    lambda parts: tuple(parts) if len(parts) > 1 else parts[0], lambda parts: {"a": parts[0], "b": (*parts[1:], None)},
    lambda parts: [parts[:1], *parts[1:]], lambda parts: ((parts[0], None), *parts[1:]),
]  # fmt: skip

_KEYWORDS: dict[str, Any] = {
    "zoneout": 0.3, "recurrent_dropout": 0.3, "layer_norm": True, "bidirectional": True, "num_layers": 2,
    "learn_initial_state": True, "checkpoint_every": 2, "reset_after": True,
}  # fmt: skip

#: The relative frequency of each event.
EVENTS = {
    "call": 8, "backward": 6, "second_order": 2, "redefine_rule": 1, "replace_op": 1, "change_setting": 2, "write": 1,
    "freeze": 1, "freeze_layer": 0.5, "flip": 1, "reseed": 0.5, "set_attribute": 2, "set_function": 0.5, "forget": 0.5,
    "change_plain": 3,
}  # fmt: skip


def history(seed: int, length: int = 10) -> list[tuple[str, int]]:
    """Events and their seeds, ending with the backward pass of the last call."""
    random = np.random.default_rng(seed + 10**6)
    weights = np.array(list(EVENTS.values()))
    events = random.choice(list(EVENTS), length, p=weights / weights.sum())
    names = ["call", *events, "call", "backward", "backward"]
    return [(str(name), int(random.integers(2**31))) for name in names]


def disagreement(seed: int, target: str, tell: Callable[[str], None] = lambda text: None) -> str:
    """The first difference between an eager world on NumPy and a compiled one, or "" if there is none.

    target  "numpy", "llvm", or "cupy"
    """
    eager = World(seed, False)
    compiled = World(seed, "llvm" if target == "llvm" else "numpy", "cupy" if target == "cupy" else "numpy")
    for position, (event, event_seed) in enumerate(history(seed)):
        expected, found = (_outcome(world, event, event_seed) for world in (eager, compiled))
        tell(f"{position} {event}: {_short(expected)} | {_short(found)}")
        refusals = [isinstance(outcome, TapeError) for outcome in (expected, found)]
        if any(refusals):
            for world in (eager, compiled):
                world.forget(None)
                world.calls = world.calls if all(refusals) else []
            continue
        problem = _difference(expected, found, TOLERANCE[eager.dtype])
        if problem:
            return f"event {position}, {event}: {problem}"
    return ""


def _outcome(world: World, event: str, seed: int) -> Any:
    try:
        return world.happen(event, seed)
    except Exception as error:
        return error


def _short(outcome: Any) -> str:
    if isinstance(outcome, Exception):
        return f"{type(outcome).__name__}: {str(outcome)[:120]}"
    return " ".join("-" if a is None else f"{np.sum(a):.6g}" for a in outcome)


def _difference(expected: Any, found: Any, tolerance: float) -> str:
    if isinstance(expected, Exception) or isinstance(found, Exception):
        if type(expected) is type(found):
            return ""
        broken = found if isinstance(found, Exception) else expected
        trace = "".join(traceback.format_exception(broken)[-4:])
        return f"eager gives {_short(expected)}, compiled gives {_short(found)}\n{trace}"
    if len(expected) != len(found):
        return f"eager gives {len(expected)} results, compiled {len(found)}"
    for i, (e, f) in enumerate(zip(expected, found)):
        if e is None or f is None:  # no gradient is a gradient of zero
            present = f if e is None else e
            if present is not None and np.any(present):
                return f"result {i}: eager gives {e}, compiled {f}"
            continue
        if e.shape != f.shape or e.dtype != f.dtype:
            return f"result {i}: eager gives {e.shape} {e.dtype}, compiled {f.shape} {f.dtype}"
        finite = np.isfinite(e)
        apart = np.abs(np.where(finite, f - e, 0.0)).max(initial=0.0)
        if not apart <= tolerance * np.abs(np.where(finite, e, 0.0)).max(initial=1.0):
            return f"result {i}: eager gives {e.ravel()[:4]}, compiled {f.ravel()[:4]}"
    return ""


def main(arguments: list[str]) -> int:
    count, target, first = (
        int(arguments[0]),
        arguments[1] if len(arguments) > 1 else "numpy",
        int((*arguments, 0, 0)[2]),
    )
    bad, events = 0, Counter[str]()
    for seed in range(first, first + count):
        problem = disagreement(seed, target, tell=print if count == 1 else lambda text: None)
        events.update(event for event, _ in history(seed))
        if problem:
            bad += 1
            print(f"seed {seed}: {problem}", flush=True)
    print(f"{count} histories on {target}, {sum(events.values())} events, {bad} disagreements")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
