"""train.fit: an interrupted and resumed run is the uninterrupted one."""

import signal

import pytest
from fit_case import LABELS, SEQUENCES, STREAM, Counter, Stateful, X, Y, assert_identical, network, quiet

from tinygrad_gru import data, manual_seed, nn, ops, optim
from tinygrad_gru.train import CheckpointError, load_checkpoint

JOBS = {
    "shuffled arrays": (network, ops.mse, lambda: (X, Y), {"batch_size": 8, "epochs": 4, "validation": (X, Y)}),
    "accumulated": (
        network, ops.mse, lambda: (X, Y), {"batch_size": 8, "epochs": 4, "accumulate": 3, "metrics": ["mae", "r2"]},
    ),
    "float16": (network, ops.mse, lambda: (X, Y), {"batch_size": 8, "steps": 17, "precision": "float16"}),
    "a carried state": (Stateful, ops.mse, lambda: STREAM, {"carry_state": True, "epochs": 2, "clip_norm": 1.0}),
    "a generator": (network, ops.mse, lambda: iter([(X, Y)] * 12), {"epochs": 1}),
    "sequences": (
        lambda: nn.Sequential(nn.GRU(3, 4), nn.LastStep(), nn.Linear(4, 2)), ops.cross_entropy,
        lambda: data.SequenceBatches([s[: 2 + k % 5] for k, s in enumerate(SEQUENCES)], LABELS, 8, seed=3),
        {"epochs": 3, "patience": 5, "validation": [(SEQUENCES.transpose(1, 0, 2), LABELS)]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("stop_at", [1, 7, 10])
def test_an_interrupted_and_resumed_run_is_bit_identical(job, stop_at, tmp_path):
    build, loss, make_data, settings = JOBS[job]

    def run(folder, counter, seed=5):
        manual_seed(seed)
        model = build()
        history = quiet(
            model, loss, make_data(), **settings, schedule=optim.WarmupLinear if job != "a generator" else None,
            callbacks=[counter], folder=tmp_path / folder, resume=True,
        )  # fmt: skip
        return model, history

    whole, expected = run("whole", uninterrupted := Counter())
    _, history = run("parts", Counter(stop_at))
    assert history.stopped == "interrupted by Ctrl-C" and history["loss"].size == stop_at
    resumed, history = run("parts", counter := Counter(), seed=99)
    assert_identical(resumed, whole)
    assert counter.count == uninterrupted.count
    assert history.records == expected.records
    assert history.epochs == expected.epochs
    left, right = (load_checkpoint(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "parts"))
    assert left["early_stop"] == right["early_stop"] and left["epochs"] == right["epochs"]


def test_a_finished_run_goes_on_for_more_epochs(tmp_path):
    whole, longer = network(), network()
    manual_seed(2)
    quiet(whole, ops.mse, (X, Y), epochs=5, folder=tmp_path / "whole")
    manual_seed(2)
    quiet(longer, ops.mse, (X, Y), epochs=2, folder=tmp_path / "longer")
    history = quiet(longer, ops.mse, (X, Y), epochs=5, folder=tmp_path / "longer", resume=True)
    assert_identical(longer, whole)
    assert len(history.epochs) == 5


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    quiet(network(), ops.mse, (X, Y), steps=2, folder=tmp_path)
    with pytest.raises(FileExistsError, match="holds a run already: resume it"):
        quiet(network(), ops.mse, (X, Y), steps=2, folder=tmp_path)


def test_a_run_with_other_settings_is_not_resumed(tmp_path):
    quiet(network(), ops.mse, (X, Y), steps=2, folder=tmp_path)
    for change, message in (({"accumulate": 2}, "other settings"), ({"seed": 3}, "saved with seed 0 is invalid")):
        with pytest.raises(CheckpointError, match=message):
            quiet(network(), ops.mse, (X, Y), steps=3, folder=tmp_path, resume=True, **change)


def test_the_last_checkpoints_are_kept(tmp_path):
    quiet(network(), ops.mse, (X, Y), epochs=5, validation=(X, Y), folder=tmp_path, keep_last=2)
    names = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert names == [
        "best.safetensors", "checkpoint-000000008.safetensors", "checkpoint-000000010.safetensors",
        "checkpoint.safetensors",
    ]  # fmt: skip
    assert load_checkpoint(tmp_path / names[1])["trainer"]["steps"] == 8


def test_sigterm_saves_and_then_does_what_it_does(tmp_path):
    received = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        history = quiet(network(), ops.mse, (X, Y), steps=9, folder=tmp_path, callbacks=[Counter(4, signal.SIGTERM)])
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert received == [signal.SIGTERM]
    assert history.stopped == "interrupted by SIGTERM"
    assert load_checkpoint(tmp_path / "checkpoint.safetensors")["trainer"]["steps"] == 4
