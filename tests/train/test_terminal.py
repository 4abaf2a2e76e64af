import sys
from types import SimpleNamespace

import pytest

from tinygrad_gru.train import terminal as module
from tinygrad_gru.train.terminal import Bar, BestEffort, Lines, Progress, progress


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_line_shows_percentage_values_speed_and_remaining_time(clock, capsys):
    display = Lines(total=4000, done=1000, unit="characters")
    clock.now = 10.0
    display.advance(1000, loss=1.23456)
    assert capsys.readouterr().out == " 50%  2,000 characters  loss 1.235  100 characters/s  0:20 left\n"


def test_lines_come_every_few_seconds_and_at_the_end(clock, capsys):
    display = Lines(total=100, done=0, unit="characters")
    for second in range(1, 101):
        clock.now = float(second)
        display.advance(1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20
    assert lines[-1].startswith("100%")


def test_long_times_are_in_minutes(clock, capsys):
    display = Lines(total=1_000_000, done=0, unit="characters")
    clock.now = 10.0
    display.advance(1000)
    assert "166:30 left" in capsys.readouterr().out


def test_quiet_prints_nothing(capsys):
    with progress(100, quiet=True) as display:
        assert type(display) is Progress
        display.advance(100, loss=1.0)
        display.write("text")
    assert capsys.readouterr() == ("", "")


def test_the_old_name_of_write_names_the_new_one():
    with pytest.raises(AttributeError, match=r"Progress\.say is now called Progress\.write"):
        Progress().say("text")


def test_lines_are_printed_without_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: False))
    assert isinstance(progress(100), Lines)


def test_a_terminal_shows_a_bar_or_lines_without_tqdm(monkeypatch):
    bars = []

    class FakeBar:
        def __init__(self, **settings):
            self.settings, self.calls = settings, []
            bars.append(self)

        def __getattr__(self, name):
            return lambda *arguments, **settings: self.calls.append((name, *arguments))

    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setitem(sys.modules, "tqdm", SimpleNamespace(tqdm=FakeBar))
    with progress(100, done=20) as display:
        assert isinstance(display, Bar)
        display.advance(5, loss=1.0)
        display.write("text")
    assert bars[0].settings["initial"] == 20
    assert bars[0].calls == [("set_postfix", {"loss": "1.000"}), ("update", 5), ("write", "text"), ("close",)]
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert isinstance(progress(100), Lines)


@pytest.mark.parametrize("error", [BrokenPipeError, OSError, ValueError])
def test_output_errors_are_ignored_and_output_is_tried_again(error):
    class Failing(Progress):
        calls = ()

        def _fail(self, what):
            self.calls += (what,)
            raise error

        def advance(self, amount, **figures):
            self._fail(amount)

        def write(self, text):
            self._fail(text)

        def close(self):
            self._fail("close")

    failing = Failing()
    with BestEffort(failing) as display:
        display.advance(3, loss=1.0)
        display.write("text")
        display.write("more")
    assert failing.calls == (3, "text", "more", "close")


def test_other_errors_of_a_display_are_raised():
    class Wrong(Progress):
        def write(self, text):
            raise TypeError("a fault")

    with pytest.raises(TypeError, match="a fault"):
        BestEffort(Wrong()).write("text")


def test_lines_are_printed_without_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert isinstance(progress(100), Lines)
