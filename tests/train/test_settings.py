import pytest

from tinygrad_gru.train import TextSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "transformer"}, "unknown cell 'transformer', expected one of gru, lstm, rnn"),
        ({"compiled": "fast"}, "compiled: expected yes, no, numba, or numba:2 for two threads, got 'fast'"),
        ({"precision": "half"}, "precision: expected one of float32, float16, bfloat16, got 'half'"),
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"characters": -5}, "characters must be at least 1, got -5"),
        ({"seed": -1}, "seed must not be negative"),
        ({"patience": -1}, "patience must not be negative"),
        ({"dropout": 1.0}, "dropout is a probability below 1"),
        ({"lr": 0.0}, "lr must be a positive number"),
        ({"lr": float("nan")}, "lr must be a positive number"),
    ],
)
def test_impossible_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        TextSettings(**changes)


def test_steps_are_the_windows_that_fit_into_the_characters():
    assert TextSettings(batch=2, window=5, characters=109).steps == 10
    assert TextSettings(batch=2, window=5, characters=1).steps == 1


def test_the_defaults_are_the_main_job():
    settings = TextSettings()
    assert (settings.cell, settings.embedding, settings.hidden) == ("gru", 64, 192)
    assert (settings.batch, settings.window, settings.lr) == (32, 64, 6e-3)
    assert settings.precision == "float32" and settings.reading is None


def test_how_recurrences_run():
    assert TextSettings(compiled="no").reading is False
    assert TextSettings(compiled="numba:2").reading == "numba:2"
