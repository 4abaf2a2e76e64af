"""A cell of one's own, trained on text, and opened in the browser: every value that its step computes, by its name.

The cell is a GRU without a reset gate:

    z  = σ(x W_z + h U_z + b_z)
    h̃  = tanh(x W_h + h U_h + b_h)
    h' = (1 − z) ⊙ h + z ⊙ h̃

What one learns here: in the page, clamp z to 1 and see what the model forgets; walk backward from one of its losses;
sort the units by what they follow. Change the lines of `step`, run it again, and look at what became of it.

    python examples/inside_your_cell.py            # half a minute; writes runs/inside_your_cell.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tinygrad_gru import manual_seed, nn, ops, save, show
from tinygrad_gru.data import CharacterVocabulary, StreamBatches, standard_library
from tinygrad_gru.ops import sigmoid, tanh
from tinygrad_gru.optim import Adam
from tinygrad_gru.scan import pure
from tinygrad_gru.train import CharacterModel, Trainer, progress


class UpdateCell(nn.Cell):
    """z = σ(x W_z + h U_z + b_z),    h̃ = tanh(x W_h + h U_h + b_h),    h' = (1 − z) ⊙ h + z ⊙ h̃"""

    def __init__(self, input_size: int, hidden_size: int, **options):
        super().__init__(input_size, hidden_size, **options)
        self.W_z, self.U_z, self.b_z = self.new_W(), self.new_U(), self.new_b()
        self.W_h, self.U_h, self.b_h = self.new_W(), self.new_U(), self.new_b()

    @pure  # it depends on the weights and its arguments alone, so that its trace is cached
    def step(self, h, x):
        z = sigmoid(x @ self.W_z + h @ self.U_z + self.b_z)
        h_tilde = tanh(x @ self.W_h + h @ self.U_h + self.b_h)
        return (1 - z) * h + z * h_tilde


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600, help="training steps (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=96, help="width of the state (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/inside_your_cell.html"), help="the page")
    options = parser.parse_args()

    manual_seed(0)
    vocabulary = CharacterVocabulary.code()
    ids = vocabulary.encode(standard_library().training[:1_500_000])
    model = CharacterModel(len(vocabulary), embedding=24, hidden=options.hidden, cell=UpdateCell)
    batches = StreamBatches(ids[:-1], ids[1:], window=48, batch_size=32)
    optimizer = Adam(model.parameters(), lr=0.005)
    trainer = Trainer(model, ops.cross_entropy, optimizer, batches, clip_norm=1.0, carry_state=True)
    with progress(options.steps, unit="steps") as display:
        for _ in range(options.steps):
            loss = trainer.step().loss
            display.advance(1, loss=loss)

    options.out.parent.mkdir(exist_ok=True)
    save(model.state_dict(), options.out.with_suffix(".safetensors"))  # model.load_state_dict(load(path)) reads it
    page = show.explorer(model, vocabulary, path=options.out)
    print(f"{loss:.2f} nats/char; wrote {options.out}: {page}")


if __name__ == "__main__":
    main()
