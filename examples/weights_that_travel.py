"""Interchange of weights: import from PyTorch, export to ONNX.

The file beside this program is a small GRU that PyTorch has trained to add two numbers bit by bit, lowest bit first: it
learned to carry, on numbers of 15 bits. This program imports its weights, adds longer numbers with them, exports the
network as an ONNX graph, and runs that in onnxruntime; all results must agree.

What one learns here: how weights of other frameworks are imported and exported; that there are two GRUs: PyTorch's
reset gate acts after the product and ours by default before, and no weights make one of them compute the other.

    python examples/weights_that_travel.py               # a second; needs the packages onnx and onnxruntime
    python examples/weights_that_travel.py --train       # first train it again, in PyTorch, and write the file
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tinygrad_gru import Tensor, no_grad
from tinygrad_gru.interop import InteropError
from tinygrad_gru.interop import torch as torch_weights
from tinygrad_gru.nn import GRU, Linear, Module

try:
    import onnxruntime

    from tinygrad_gru.interop import onnx as onnx_graphs
except ImportError:
    raise SystemExit("this example exports an ONNX file and runs it: pip install onnx onnxruntime") from None

WEIGHTS = Path(__file__).with_suffix(".safetensors")
HIDDEN = 8
#: The names of our submodules in PyTorch's module.
NAMES = {"gru": "rnn", "output": "head"}


class Adder(Module):
    """Logits (bits, batch) of the bits of a sum, from the bits (bits, batch, 2) of two numbers, lowest bit first."""

    def __init__(self, reset_after: bool = True):
        self.gru = GRU(2, HIDDEN, reset_after=reset_after)
        self.output = Linear(HIDDEN, 1)

    def forward(self, bits: Tensor) -> Tensor:
        hidden, _ = self.gru(bits)
        return self.output(hidden)[..., 0]


def bits_of(numbers: np.ndarray, count: int) -> np.ndarray:
    """(…) numbers as (count, …) bits, lowest first."""
    return np.stack([numbers >> k & 1 for k in range(count)]).astype(np.float32)


def numbers_of(logits: np.ndarray) -> np.ndarray:
    """The numbers whose bits are 1 where a logit is positive."""
    return sum((row > 0).astype(np.int64) << k for k, row in enumerate(logits))


def train_in_pytorch() -> None:
    """Train the same network in PyTorch, and write its weights to the file beside this program."""
    import torch
    from safetensors.torch import save_file

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = torch.nn.GRU(2, HIDDEN), torch.nn.Linear(HIDDEN, 1)

        def forward(self, bits):
            return self.head(self.rnn(bits)[0])[..., 0]

    torch.manual_seed(0)
    random = np.random.default_rng(0)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for step in range(3001):
        pairs = random.integers(0, 2**15, (64, 2))
        bits, total = bits_of(pairs, 16), bits_of(pairs.sum(axis=1), 16)
        logits = network(torch.tensor(bits))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(total))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 500 == 0:
            print(f"step {step:5}  loss {loss.item():.5f}")
    save_file(network.state_dict(), WEIGHTS)
    print(f"written: {WEIGHTS}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", action="store_true", help="train the network again, in PyTorch")
    if parser.parse_args().train:
        train_in_pytorch()

    print("The file from PyTorch contains")
    for name, array in torch_weights.read(WEIGHTS).items():
        print(f"  {name:18} {array.shape}")

    try:
        torch_weights.load(Adder(reset_after=False), WEIGHTS, NAMES)
    except InteropError as refusal:
        print(f"\nA GRU with the reset gate before the product cannot load it:\n  {refusal}")

    adder = torch_weights.load(Adder(), WEIGHTS, NAMES)
    print(f"\nOne with the reset gate after the product can:\n{adder}\n")

    pairs = np.array([[1, 1], [19, 23], [27_182, 31_415], [123_456_789, 987_654_321]])
    bits = bits_of(pairs, 32)
    with no_grad():
        ours = adder(Tensor(bits)).numpy()

    path = Path("runs", "adder.onnx")
    path.parent.mkdir(exist_ok=True)
    onnx_graphs.save(adder, path, bits[:4, :2], axes={"bits": ("time", "batch", None)}, output_names=["logits"])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"bits": bits})
    graph = onnx_graphs.load(path)
    reimported = graph(bits).numpy()
    for (a, b), one, two in zip(pairs, numbers_of(ours), numbers_of(theirs)):
        print(f"{a:>11,} + {b:<11,} = {one:>13,}   in onnxruntime {two:>13,}   {'right' if one == a + b else 'wrong'}")

    print(f"\nlargest difference of a logit, onnxruntime to ours: {np.abs(ours - theirs).max():.1e}")
    print(f"and after reading the ONNX file back:               {np.abs(ours - reimported).max():.1e}")
    print(f"\n{path} contains\n{graph}")
    print(f"GRUs in it with the reset gate on the wrong side: {len(onnx_graphs.check(path))}")


if __name__ == "__main__":
    main()
