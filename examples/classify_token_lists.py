"""Classify lists of ids of different lengths: from which country is the name of this province or town?

The names, of twelve countries, are those of ISO 3166-2, which come with pycountry; a name is the list of the ids of its
letters. A fifth of each country's names is held out. The network is compared with two that know no order of letters:
the most frequent country, and naive Bayes, the country whose names have such letters.

What one learns here: batches of lists of ids, in buckets of similar length; a classifier in the 15 lines of `classify`.

    pip install pycountry                        # its file of names is read
    python examples/classify_token_lists.py      # ten seconds
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tinygrad_gru import data, manual_seed, nn, ops, train


def names_and_countries(number: int) -> tuple[list[str], list[str]]:
    """The names in the countries that have the most."""
    package = find_spec("pycountry")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("this example needs the names of pycountry: pip install pycountry")
    file = Path(package.submodule_search_locations[0], "databases", "iso3166-2.json")
    places = json.loads(file.read_text(encoding="utf-8"))["3166-2"]
    counts = Counter(place["code"][:2] for place in places)
    frequent = {country for country, _ in counts.most_common(number)}
    kept = [place for place in places if place["code"][:2] in frequent]
    return [place["name"].partition(" [")[0].lower() for place in kept], [place["code"][:2] for place in kept]


def classify(names: list[str], countries: list[str], hidden: int, epochs: int, seed: int) -> tuple[np.ndarray, ...]:
    """The indices of the names for training and test, and the countries predicted for the test."""
    vocabulary = data.CharacterVocabulary.from_text("".join(names))
    codes, labels = np.unique(countries, return_inverse=True)
    training, test = data.split(len(names), 0.8, seed, stratify=labels)
    ids = [vocabulary.encode(name) for name in names]
    model = nn.Sequential(
        nn.Embedding(len(vocabulary), 32),
        nn.GRU(32, hidden, bidirectional=True),
        nn.LastStep(),
        nn.Dropout(0.5),
        nn.Linear(2 * hidden, len(codes)),
    )
    batches = data.SequenceBatches([ids[k] for k in training], labels[training], seed=seed, bucket=8)
    train.fit(model, ops.cross_entropy, batches, epochs=epochs, lr=3e-3)
    logits = train.predict(model, data.SequenceBatches([ids[k] for k in test]))
    return training, test, codes[logits.argmax(axis=-1)]


def naive_bayes(names: np.ndarray, countries: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The most probable countries of `test` by how often each letter is in the names of each country, plus one."""
    letters = sorted(set("".join(names)))
    counts, of_test = (
        np.array([[name.count(letter) for letter in letters] for name in part]) for part in (names, test)
    )
    codes, frequency = np.unique(countries, return_counts=True)
    of_country = np.stack([counts[countries == code].sum(axis=0) + 1 for code in codes])
    log_probability = np.log(of_country / of_country.sum(axis=1, keepdims=True))
    return codes[(of_test @ log_probability.T + np.log(frequency)).argmax(axis=1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--countries", type=int, default=12, help="(default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=15, help="passes over the names (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=64, help="width of each direction (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    manual_seed(options.seed)

    names, countries = map(np.array, names_and_countries(options.countries))
    training, test, predicted = classify(
        names.tolist(), countries.tolist(), options.hidden, options.epochs, options.seed
    )
    truth, by_letters = countries[test], naive_bayes(names[training], countries[training], names[test])
    frequent = Counter(countries[training].tolist()).most_common(1)[0][0]
    print(f"\nof {len(test)} names held out, of {options.countries} countries, right are:\n")
    print(f"  network                {(predicted == truth).mean():6.1%}")
    print(f"  naive Bayes            {(by_letters == truth).mean():6.1%}")
    print(f"  most frequent country  {(frequent == truth).mean():6.1%}\n")
    for k in range(0, len(test), len(test) // 8):
        print(f"  {names[test[k]]:40.40} {truth[k]}, predicted {predicted[k]}")


if __name__ == "__main__":
    main()
