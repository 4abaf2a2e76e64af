import signal
import sys
import threading
import time

import pytest

from tinygrad_gru.train.stopping import StopRequest

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_only_sets_the_flag(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_raises_at_once():
    with pytest.raises(KeyboardInterrupt), StopRequest():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_a_second_sigterm_raises_unless_it_is_the_first_one_again(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with StopRequest() as stop:
        for moment in (100.0, 100.3, 100.9):  # sent to the process, and to its group
            now[0] = moment
            signal.raise_signal(signal.SIGTERM)
        now[0] = 101.1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert stop.number == signal.SIGTERM


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_a_deadline_ends_what_takes_longer(number):
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), StopRequest(grace=0.05) as stop:
        signal.raise_signal(getattr(signal, number))
        while time.monotonic() - began < 20:
            pass
    assert 0.05 <= time.monotonic() - began < 10 and stop.number == getattr(signal, number)


def test_a_block_that_ends_in_time_is_left_alone_afterwards():
    with StopRequest(grace=0.05):
        signal.raise_signal(signal.SIGTERM)
    time.sleep(0.1)


def test_ctrl_c_has_no_deadline():
    with StopRequest(grace=0.02):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.05)


@pytest.mark.parametrize("number", SIGNALS[2:])
def test_a_terminal_that_closes_never_raises_however_often_it_says_so(number):
    with StopRequest() as stop:
        for _ in range(3):
            signal.raise_signal(number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_is_ignored_stays_so(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(number)
            assert not stop.requested
    finally:
        signal.signal(number, before)


def test_another_thread_leaves_signals_alone():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with StopRequest() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
