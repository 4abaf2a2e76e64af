"""From one sequence to another: read dates as people write them, "den 3. Mraz 2019", and write 2019-03-03.

The dates, of the years 1900 to 2099, are written in five languages and eleven formats; one has only month and year, and
in a third two neighbouring letters are exchanged. An encoder (a GRU in both directions) reads the text; a decoder (a
GRU) writes one character after another, and for each looks at what the encoder has read (attention: Luong et al. 2015).
The network is compared with one without attention, and with `strptime` of Python's standard library, which is given all
formats and all names, and cannot read those with exchanged letters.

What one learns here: in training the decoder is given the right characters so far ("teacher forcing"), all at once; in
use it is given what it wrote itself, one at a time, in a `scan` whose step chooses and embeds the character, compiled.
`train.fit` with one's own batches and a model of several inputs.

    python examples/sequence_to_sequence.py      # 20 seconds
"""

from __future__ import annotations

import argparse
import calendar
from datetime import date, datetime

import numpy as np

from tinygrad_gru import Tensor, arange, data, manual_seed, nn, no_grad, ops, scan, train

MONTHS = {
    "English": [name.lower() for name in calendar.month_name[1:]],
    "French": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre".split(),
    "German": "januar februar märz april mai juni juli august september oktober november dezember".split(),
    "Spanish": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre".split(),
    "Italian": (
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre".split()
    ),
}
FORMATS = {
    "English": ["{d} {name} {y}", "{name} {d}, {y}", "{name} {y}", "{m}/{d}/{y}", "{y}/{m}/{d}"],
    "French": ["{d} {name} {y}"],
    "German": ["{d}. {name} {y}", "den {d}. {name} {y}", "{d}.{m}.{y}"],
    "Spanish": ["{d} de {name} de {y}"],
    "Italian": ["{d} {name} {y}"],
}
END = "\n"  # the character that ends an output, and that the decoder is given first
LONGEST = len("2019-03-03\n")


def examples(days: np.ndarray, random: np.random.Generator) -> list[tuple[str, str]]:
    """Pairs of a date as people write it and as ISO 8601 has it."""
    pairs = []
    for day in map(date.fromordinal, days.tolist()):
        language = str(random.choice(list(FORMATS)))
        written = str(random.choice(FORMATS[language]))
        name = MONTHS[language][day.month - 1]
        if random.random() < 1 / 3:
            k = random.integers(len(name) - 1)
            name = name[:k] + name[k + 1] + name[k] + name[k + 2 :]
        text = written.format(d=day.day, m=day.month, y=day.year, name=name)
        pairs.append((text, day.isoformat() if "{d}" in written else f"{day:%Y-%m}"))
    return pairs


class PairBatches(data.Epochs):
    """Batches of sources and targets, padded and time first, in another order in every epoch.

    The model gets the source, its lengths and what precedes each target; a StepBatch has a target for each step.
    """

    def __init__(self, sources: list[np.ndarray], targets: list[np.ndarray], batch_size: int, seed: int):
        super().__init__(-(-len(sources) // batch_size))
        self.sources, self.targets, self.batch_size, self.seed = sources, targets, batch_size, seed

    def _prepare(self, epoch: int) -> None:
        self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.sources))

    def _batch(self, index: int) -> data.StepBatch:
        rows = self.order[index * self.batch_size :][: self.batch_size]
        sources, targets = [self.sources[k] for k in rows], [self.targets[k] for k in rows]
        given = [np.r_[ids[-1], ids[:-1]] for ids in targets]  # what precedes each target; before the first one the end
        source_lengths, lengths = (np.array(list(map(len, ids))) for ids in (sources, targets))
        source, given, targets = map(data.pad_sequence, (sources, given, targets))
        return data.StepBatch((source, source_lengths, given), lengths, targets)

    def _arrangement(self) -> dict[str, int]:
        return {"pairs": len(self.sources), "batch_size": self.batch_size, "seed": self.seed}


class Translator(nn.Module):
    """Logits (T, batch, symbols) of each character of the output, from the source and the characters before it.

    The decoder reads from left to right, so that it does not need the `lengths` of the output, which `fit` passes.
    """

    def __init__(self, symbols: int, hidden: int, attention: bool):
        self.embedding = nn.Embedding(symbols, 32)
        self.encoder = nn.GRU(32, hidden // 2, bidirectional=True)
        self.decoder = nn.GRU(32, hidden)
        self.attention = nn.Linear(2 * hidden, hidden) if attention else None
        self.output = nn.Linear(hidden, symbols)

    def forward(self, source: Tensor, source_lengths: Tensor, given: Tensor, lengths: np.ndarray) -> Tensor:
        logits, _ = self.decode(given, *self.encode(source, source_lengths))
        return logits

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What was read (batch, S, hidden), where it is padding (batch, 1, S), and the decoder's first state."""
        read, state = self.encoder(self.embedding(source), lengths=lengths)
        padding = arange(len(source)) >= lengths[:, None, None]
        return ops.moveaxis(read, 0, 1), padding, ops.concatenate([state[0], state[1]], axis=-1)[None]

    def decode(self, given: Tensor, read: Tensor, padding: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h, state = self.decoder(self.embedding(given), state)
        if self.attention is not None:
            scores = ops.moveaxis(h, 0, 1) @ read.mT  # (batch, T, S): how well each step's h fits what was read
            weights = ops.softmax(ops.masked_fill(scores, padding, -np.inf), axis=-1)
            context = ops.moveaxis(weights @ read, 0, 1)
            h = ops.tanh(self.attention(ops.concatenate([h, context], axis=-1)))
        return self.output(h), state


def translate(model: Translator, texts: list[str], vocabulary: data.CharacterVocabulary) -> list[str]:
    """The outputs for texts: at each step the most probable character, which is given at the next step."""
    source, lengths, _ = data.SequenceBatches(list(map(vocabulary.encode, texts)), None, len(texts)).next_batch()
    with model.evaluating(), no_grad():
        read, padding, state = model.encode(Tensor(source), Tensor(lengths))

        def step(carry: tuple[Tensor, Tensor], _: None) -> tuple:
            state, ids = carry
            logits, state = model.decode(ids[None], read, padding, state)
            ids = ops.argmax(logits[0], axis=-1)
            return (state, ids), ids

        given = Tensor(vocabulary.encode(END * len(texts)).astype(np.int64))  # argmax gives int64
        _, written = scan(step, (state, given), length=LONGEST)
    return [vocabulary.decode(ids).partition(END)[0] for ids in written.numpy().T]


def by_strptime(text: str) -> str:
    """The baseline: `strptime` with the names in all languages, and all formats. Without a match it is empty."""
    english = {name: MONTHS["English"][k] for names in MONTHS.values() for k, name in enumerate(names)}
    text = " ".join(english.get(word, word) for word in text.split())
    for written in [written for formats in FORMATS.values() for written in formats]:
        try:
            day = datetime.strptime(text, written.format(d="%d", m="%m", y="%Y", name="%B"))
            return f"{day:%Y-%m-%d}" if "{d}" in written else f"{day:%Y-%m}"
        except ValueError:
            continue
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dates", type=int, default=6000, help="to train on (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the dates (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=64, help="width of the state (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    random = np.random.default_rng(options.seed)
    first, last = date(1900, 1, 1).toordinal(), date(2099, 12, 31).toordinal()
    days = random.permutation(np.arange(first, last + 1))  # no day is in both parts
    test, training = examples(days[-1000:], random), examples(days[: options.dates], random)
    vocabulary = data.CharacterVocabulary.from_text("".join(text + iso + END for text, iso in training))
    sources, targets = [[vocabulary.encode(text) for text in column] for column in zip(*training)]
    targets = [np.r_[ids, vocabulary.encode(END)] for ids in targets]

    texts, truth = zip(*test)
    outputs = {"strptime": [by_strptime(text) for text in texts]}
    for name, attention in (("without attention", False), ("with attention", True)):
        print(f"{name}:")
        manual_seed(options.seed)
        model = Translator(len(vocabulary), options.hidden, attention)
        batches = PairBatches(sources, targets, batch_size=64, seed=options.seed)
        train.fit(model, ops.cross_entropy, batches, epochs=options.epochs, lr=5e-3, clip_norm=1.0)
        outputs[name] = translate(model, texts, vocabulary)
    print(f"\nof {len(test)} other dates, right to the last character are:\n")
    for name, translations in outputs.items():
        print(f"  {name:20}{np.mean(np.array(translations) == truth):6.1%}")
    print()
    misspelt = [k for k, translation in enumerate(outputs["strptime"]) if translation != truth[k]]
    for k in misspelt[:6]:
        print(f"  {texts[k]:28} {truth[k]:12} {outputs['with attention'][k]}")


if __name__ == "__main__":
    main()
