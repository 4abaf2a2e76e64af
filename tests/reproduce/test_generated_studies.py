"""The generated studies: sequences against definitions in loops, baselines, what is held out, and a run of a moment."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from tinygrad_gru import nn
from tinygrad_gru.cli import main
from tinygrad_gru.reproduce import STUDIES, Run, StepTime
from tinygrad_gru.reproduce.studies.adding import BASELINE, adding
from tinygrad_gru.reproduce.studies.copy_memory import baseline, copy_memory
from tinygrad_gru.reproduce.studies.generated import Generated, remember
from tinygrad_gru.reproduce.studies.mingru import selective_copy
from tinygrad_gru.reproduce.studies.shakespeare import as_one
from tinygrad_gru.train import evaluate

CHOSEN = {"adding": "100", "copy-memory": "100", "mingru": "copying"}


def test_the_sum_is_that_of_the_two_marked_numbers(rng):
    x, sums = adding(rng, count=300, length=9)
    assert x.shape == (9, 300, 2) and x.dtype == sums.dtype == np.float32
    halves = set()
    for k in range(300):
        marked = [step for step in range(9) if x[step, k, 1] == 1]
        assert sum(x[:, k, 1]) == 2 and marked[0] < 4 <= marked[1]
        halves.update(marked)
        assert sums[k] == pytest.approx(x[marked[0], k, 0] + x[marked[1], k, 0])
    assert halves == set(range(9))


def test_the_error_of_saying_1_is_a_sixth(rng):
    _, sums = adding(rng, count=200_000, length=4)
    assert np.mean((sums - 1) ** 2) == pytest.approx(BASELINE, rel=0.02)
    expected, found = STUDIES["adding"].baselines("4", {"test": [(None, sums[:50]), (None, sums[50:100])]}).values()
    assert expected == 1 / 6 and found == pytest.approx(np.mean((sums[:100] - 1) ** 2))


def test_copies_are_due_at_the_end(rng):
    inputs, targets = copy_memory(rng, count=50, wait=7)
    for given, due in zip(inputs.T.tolist(), targets.T.tolist()):
        symbols = given[:10]
        assert all(1 <= symbol <= 8 for symbol in symbols)
        assert given[10:] == [0] * 6 + [9] * 11
        assert due == [0] * 17 + symbols
    assert set(inputs[:10].ravel().tolist()) == set(range(1, 9))


def test_the_baseline_of_copying_is_that_of_guessing_the_symbols(rng):
    """Against the cross-entropy of those probabilities on sequences."""
    _, targets = copy_memory(rng, count=20, wait=30)
    p = np.zeros((50, 20, 9))
    p[:40, :, 0], p[40:, :, 1:] = 1, 1 / 8
    losses = -np.log(np.take_along_axis(p, targets[..., None], axis=-1))
    assert baseline(30) == pytest.approx(losses.mean())
    assert baseline(1000) == pytest.approx(0.0204, abs=5e-5)


def test_the_symbols_are_named_in_their_order(rng):
    ids, targets = selective_copy(rng, count=50, length=12, symbols=3)
    places = set()
    for given, due in zip(ids.T.tolist(), targets.T.tolist()):
        assert given[12:] == [9, 9, 9]
        assert [symbol for symbol in given[:12] if symbol != 8] == due and len(due) == 3
        places.update(step for step in range(12) if given[step] != 8)
    assert places == set(range(12)) and set(targets.ravel().tolist()) == set(range(8))


def test_batches_depend_on_seed_and_position_alone():
    def draw(rng, count):
        return rng.random(count), rng.random(count)

    batches = Generated(draw, steps=3, batch_size=2, seed=5)
    first = [batch[0].tolist() for _ in range(4) for batch in [batches.next_batch()]]
    assert len({tuple(values) for values in first}) == 4  # no batch comes again, not even in the next epoch
    again = Generated(draw, steps=3, batch_size=2, seed=5)
    again.load_state_dict({**batches.state_dict(), "epoch": 0, "index": 2})
    assert again.next_batch()[0].tolist() == first[2]
    assert Generated(draw, steps=3, batch_size=2, seed=6).next_batch()[0].tolist() != first[0]


@pytest.mark.parametrize("name", CHOSEN)
def test_what_is_held_out_is_not_trained_on_and_the_same_for_all(name):
    study, task = STUDIES[name], CHOSEN[name]
    settings = {**study.settings, **study.quick}
    data = study.load(task, None, settings)
    again = study.load(task, None, settings)
    np.testing.assert_array_equal(data["test"][0][0], again["test"][0][0])
    assert sum(batch[0].shape[1] for batch in data["test"]) == settings["held_out"]
    trained = Generated(study.draw(task, settings), 3, settings["held_out"], seed=0)
    known = [data["valid"][0], *trained]
    assert not any(np.array_equal(batch[0], data["test"][0][0]) for batch in known)


@pytest.mark.parametrize("name", CHOSEN)
def test_the_curve_is_that_of_the_metric(name):
    """On the same sequences its end is what the run gives: in the same unit, of the same thing."""
    study, task = STUDIES[name], CHOSEN[name]
    settings = {**study.settings, **study.quick, "steps": 2, "batch": 4}
    held_out = study.load(task, None, settings)["valid"]
    result = study.run(Run(task, "gru", 0, {"valid": held_out, "test": held_out}, settings))
    assert [step for step, _ in result.curve] == [0, 1, 2]
    assert result.curve[-1][1] == pytest.approx(result.quality)


def test_units_start_to_remember_for_up_to_the_whole_sequence():
    gru, lstm = nn.GRU(2, 400), nn.LSTM(2, 400)
    for layer in (gru, lstm):
        remember(layer, 600, np.random.default_rng(0))
    (of_gru,), (of_lstm,) = gru.cells, lstm.cells
    u = np.exp(-of_gru.b_z.numpy())  # uniform from 1 to 599
    np.testing.assert_allclose([u.min(), u.mean(), u.max()], [1, 300, 599], rtol=0.1, atol=5)
    np.testing.assert_allclose(of_lstm.b_f.numpy(), -of_lstm.b_i.numpy())
    np.testing.assert_allclose(np.exp(of_lstm.b_f.numpy()).mean(), 300, rtol=0.1)
    assert not of_gru.b_r.numpy().any() and not of_lstm.b_o.numpy().any()
    rnn = nn.RNN(2, 3)
    before = rnn.state_dict()
    remember(rnn, 600, np.random.default_rng(0))
    assert all(np.array_equal(value, before[key]) for key, value in rnn.state_dict().items())


@pytest.mark.parametrize(("name", "low", "high"), [("adding", 69_000, 70_500), ("copy-memory", 15_500, 16_500)])
def test_cells_have_as_many_parameters_as_the_papers(name, low, high):
    study, task = STUDIES[name], CHOSEN[name]
    counts = [study.model(Run(task, cell, 0, {}, study.settings)).parameter_count() for cell in study.cells]
    assert low < min(counts) and max(counts) < high and max(counts) < 1.02 * min(counts)


@pytest.mark.parametrize("name", [*CHOSEN, "shakespeare"])
def test_a_run_of_a_moment_by_the_command_line(name, tmp_path, monkeypatch, capsys):
    pytest.importorskip("scipy")
    study = STUDIES[name]
    words = ["--task", CHOSEN[name]] if name in CHOSEN else ["--data", str(play(study, tmp_path, monkeypatch))]
    monkeypatch.setattr(study, "quick", {**study.quick, "steps": 2, "epochs": 1, "held_out": 100})
    monkeypatch.setattr(study, "cells", {cell: study.cells[cell] for cell in ("gru", "lstm")})
    monkeypatch.setattr(
        "tinygrad_gru.reproduce.running.step_times", lambda steps, *_: dict.fromkeys(steps, StepTime(1, 1, 1, 1, 1))
    )
    out = str(tmp_path / "out")
    assert main(["reproduce", name, *words, "--quick", "--quiet", "--seeds", "1", "--out", out]) == 0
    text = capsys.readouterr().out
    assert study.title in text and "| GRU, " in text
    assert "baseline: " in text or "baseline: bigram" in text


@pytest.mark.parametrize(
    ("words", "error"),
    [(["adding", "--task", "300"], "adding has no task '300'"), (["copy-memory", "--task", "10000"], "has no task"),
     (["copymemory"], "did you mean 'copy-memory'?"), (["shakespeare", "--data", "nowhere"], "tinyshakespeare.txt")],
)  # fmt: skip
def test_wrong_calls_say_what_there_is(words, error, capsys):
    assert main(["reproduce", *words]) == 1
    assert error in capsys.readouterr().err


def play(study, folder, monkeypatch):
    """A text of 12,000 characters in the place of the study's."""
    path = folder / "tinyshakespeare.txt"
    path.write_text("to be, or not to be: that is the question.\n" * 280)
    file = replace(study.tasks["text"].file, sha256=sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(study, "tasks", {"text": replace(study.tasks["text"], file=file)})
    return path


def test_baselines_of_the_whole_text_are_its_entropies(tmp_path, monkeypatch):
    """Against counts of pairs in a loop."""
    study = STUDIES["shakespeare"]
    path = play(study, tmp_path, monkeypatch)
    baselines = study.baselines("text", study.load("text", path, study.settings))
    text = path.read_text()[:-1]
    pairs, first = Counter(zip(text, path.read_text()[1:])), Counter(text)
    entropy = -sum(count * math.log(count / first[a]) for (a, _), count in pairs.items()) / len(text)
    assert baselines["whole text on itself: bigram"] == pytest.approx(entropy, rel=1e-3)
    assert baselines["baseline: unigram"] > baselines["baseline: bigram"] > baselines["baseline: trigram"]


def test_the_loss_of_a_text_is_the_mean_with_the_state_carried(tmp_path, monkeypatch):
    """Against a loop over the characters, one call each."""
    study = STUDIES["shakespeare"]
    data = study.load("text", play(study, tmp_path, monkeypatch), study.settings)
    assert [len(data[split]) for split in ("train", "valid", "test")] == [10836, 602, 602]
    model, ids = study.model(Run("text", "lstm", 0, data, study.settings)), data["test"][:30]
    state, losses = None, []
    for k, then in enumerate(ids[1:]):
        logits, state = model(ids[k : k + 1, None], state)
        logits = logits.numpy().ravel().astype(float)
        losses.append(math.log(np.exp(logits).sum()) - logits[then])
    assert evaluate(model, study.loss, as_one(ids))["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
