"""Label every step of a sequence: highlight Python code, a label for each character of a line.

The lines are those of Python's standard library, the labels those of its tokenizer. The network, which reads each line
by itself in both directions, is compared with the most frequent label of each character. No file is in both parts.

What one learns here: a target for each step; a split by group; the steps that are padding count for nothing.

    python examples/label_sequences.py           # half a minute
"""

from __future__ import annotations

import argparse
import io
import keyword
import sysconfig
import token
import tokenize
from pathlib import Path

import numpy as np

from tinygrad_gru import data, manual_seed, nn, ops, train

LABELS = {"space": " ", "name": "n", "keyword": "K", "number": "9", "string": "s", "comment": "#", "operator": "o"}
KINDS = {token.NUMBER: 3, token.STRING: 4, tokenize.COMMENT: 5, token.OP: 6}
LONGEST = 100


def labelled_lines(file: Path) -> list[tuple[str, np.ndarray]]:
    """The lines of a file that are not blank, with the label of each character."""
    text = file.read_text(encoding="utf-8")
    lines = text.split("\n")
    labels = [np.zeros(len(line), dtype=int) for line in lines]
    for kind, string, (row, column), (last_row, last_column), _ in tokenize.generate_tokens(io.StringIO(text).readline):
        label = KINDS.get(kind, 0)
        if kind == token.NAME:
            label = 2 if keyword.iskeyword(string) else 1
        elif token.tok_name[kind].startswith("FSTRING"):  # from Python 3.12 on, for a part of one
            label = 4
        for k in range(row, last_row + 1) if label else ():
            labels[k - 1][column if k == row else 0 : last_column if k == last_row else None] = label
    return [(line, label) for line, label in zip(lines, labels) if line.strip() and len(line) <= LONGEST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=40, help="(default: %(default)s)")
    parser.add_argument("--lines", type=int, default=4000, help="of which so many lines (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=5, help="passes over the lines (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=48, help="width of each direction (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    manual_seed(options.seed)

    random = np.random.default_rng(options.seed)
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-z]*.py"))
    chosen = [files[k] for k in random.permutation(len(files))[: options.files]]
    rows = [(number, *pair) for number, file in enumerate(chosen) for pair in labelled_lines(file)]
    rows = [rows[k] for k in random.permutation(len(rows))[: options.lines]]

    vocabulary = data.CharacterVocabulary.code()
    groups, lines, labels = zip(*rows)
    ids = [vocabulary.encode(line) for line in lines]
    parts = data.split_by_group(groups, (0.8, 0.2), options.seed)
    training, test = [([ids[k] for k in part], [labels[k] for k in part]) for part in parts]

    model = nn.Sequential(
        nn.Embedding(len(vocabulary), 24),
        nn.GRU(24, options.hidden, bidirectional=True),
        nn.Linear(2 * options.hidden, len(LABELS)),
    )
    batches = data.SequenceBatches(*training, batch_size=32, seed=options.seed, per_step=True, bucket=8)
    train.fit(model, ops.cross_entropy, batches, epochs=options.epochs, lr=5e-3)
    held_out = data.SequenceBatches(*test, per_step=True)
    figures = train.evaluate(model, ops.cross_entropy, held_out, metrics=["accuracy"])

    counts = np.zeros((len(vocabulary), len(LABELS)))
    np.add.at(counts, tuple(map(np.concatenate, training)), 1)
    baseline = counts.argmax(axis=1)[np.concatenate(test[0])] == np.concatenate(test[1])
    print(f"\nof {baseline.size:,} characters in {len(test[0])} lines of files held out, right are:\n")
    print(f"  network                               {figures['accuracy']:6.1%}")
    print(f"  most frequent label of the character  {baseline.mean():6.1%}\n")
    some = sorted(parts[1], key=lambda k: -len(set(labels[k])))[:4]
    outputs = train.predict(
        model, data.SequenceBatches([ids[k] for k in some], [labels[k] for k in some], per_step=True)
    )
    for k, output in zip(some, outputs):
        print(f"  {lines[k].strip()}")
        print(
            f"  {''.join(list(LABELS.values())[label] for label in output.argmax(axis=-1))[-len(lines[k].strip()) :]}\n"
        )


if __name__ == "__main__":
    main()
