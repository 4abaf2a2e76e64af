import numpy as np
import pytest

from tinygrad_gru.train import TextSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "transformer"}, "unknown cell 'transformer', expected one of gru, lstm, rnn"),
        ({"compiled": "fast"}, "compiled: expected yes, no, numpy, llvm, or llvm:2 for two threads, got 'fast'"),
        ({"precision": "half"}, "precision: expected one of float32, float16, bfloat16, got 'half'"),
        ({"hidden": 0}, "hidden must be a whole number from 1 to 2147483647, got 0"),
        ({"hidden": 2.5}, "hidden must be a whole number"),
        ({"hidden": "10"}, "hidden must be a whole number"),
        ({"layers": True}, "layers must be a whole number"),
        ({"layers": 1001}, "layers must be a whole number from 1 to 1000, got 1001"),
        ({"characters": -5}, "characters must be a whole number from 1 to 9007199254740992, got -5"),
        ({"characters": 10**400}, "got a number of about 400 digits"),
        ({"characters": 10**5000}, "got a number of about 5000 digits"),
        ({"seed": -1}, "seed must be a whole number from 0 to 9223372036854775807, got -1"),
        ({"seed": 2**63}, "seed must be a whole number"),
        ({"patience": -1}, "patience must be a whole number from 0 to"),
        ({"dropout": float("nan")}, "dropout: expected a probability"),
        ({"shards": 3}, "shards: expected a power of two, at most the batch of 32 streams, got 3"),
        ({"shards": 64}, "at most the batch of 32 streams, got 64"),
        ({"lr": 1e39}, "lr must be a positive number within the range of float32"),
        ({"lr": float("inf")}, "lr must be a positive number"),
        ({"dropout": 1.0}, "dropout: expected a probability"),
        ({"lr": 0.0}, "lr must be a positive number"),
        ({"lr": float("nan")}, "lr must be a positive number"),
    ],
)
def test_invalid_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        TextSettings(**changes)


def test_steps_are_the_windows_that_fit_into_the_characters():
    assert TextSettings(batch=2, window=5, characters=109).steps == 10
    assert TextSettings(batch=2, window=5, characters=1).steps == 1


def test_the_defaults_are_the_main_job():
    settings = TextSettings()
    assert (settings.cell, settings.embedding, settings.hidden) == ("gru", 64, 192)
    assert (settings.batch, settings.window, settings.lr) == (32, 64, 6e-3)
    assert settings.precision == "float32" and settings.compile_mode is None


def test_numpy_scalars_are_accepted():
    settings = TextSettings(hidden=np.int64(4), seed=np.uint8(3), lr=np.float32(0.5), dropout=np.float64(0.25))
    assert (settings.hidden, settings.seed, settings.lr, settings.dropout) == (4, 3, 0.5, 0.25)


def test_compile_mode():
    assert TextSettings(compiled="no").compile_mode is False
    assert TextSettings(compiled="llvm:2").compile_mode == "llvm:2"
