"""Random streams: one seed, replay, and distinct draws."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from support.strict import STRICT

from tinygrad_gru import manual_seed, random_state, set_random_state
from tinygrad_gru.backend import RandomStream, random_stream, to_host


def draw(n=8, **options):
    return to_host(random_stream().uniform((n,), **options)).tolist()


def test_the_same_seed_gives_the_same_numbers(device):
    manual_seed(7)
    first = [draw(device=device), draw(device=device)]
    manual_seed(7)
    assert [draw(device=device), draw(device=device)] == first
    manual_seed(8)
    assert draw(device=device) not in first


def test_a_state_restored_from_json_continues_the_stream():
    manual_seed(7)
    draw()
    state = json.loads(json.dumps(random_state()))
    expected = [draw(), draw()]
    manual_seed(99)
    set_random_state(state)
    assert [draw(), draw()] == expected and state == {"seed": 7, "position": 1}


def test_draws_differ():
    """Over seeds and positions, also neighbouring ones, and however long the draws are."""
    seen = set()
    for seed in range(20):
        stream = RandomStream(seed)
        for _ in range(20):
            seen.update(map(float, stream.uniform((50,), "float64")))
    assert len(seen) == 20 * 20 * 50


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_uniform_numbers_are_in_0_to_1_exclusive(dtype, device):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    numbers = to_host(random_stream().uniform((200_000,), dtype, device))
    assert numbers.dtype == dtype and numbers.min() >= 0 and numbers.max() < 1
    wide = numbers.astype(np.float64)
    assert abs(wide.mean() - 0.5) < 5e-3 and abs(wide.var() - 1 / 12) < 2e-3


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_normal_numbers(dtype, device):
    numbers = to_host(random_stream().normal((100_000,), dtype, device))
    wide = numbers.astype(np.float64)
    assert numbers.dtype == dtype and abs(wide.mean()) < 0.02 and abs(wide.std() - 1) < 0.02
    assert abs((wide**4).mean() - 3) < 0.2


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_shapes(shape):
    assert np.shape(random_stream().uniform(shape)) == shape


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "1", None])
def test_invalid_seeds(seed):
    with pytest.raises(ValueError, match=r"seed must be an integer in 0 … 2\*\*63 − 1, got"):
        manual_seed(seed)


def test_unseeded_threads_share_a_stream_and_no_draw():
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(tuple(draw()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(seen)) == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_backend_without_random_numbers_draws_on_the_host(dtype):
    for distribution in ("uniform", "normal"):
        on_host, on_device = (
            getattr(RandomStream(3, 1), distribution)((2, 3), dtype, device) for device in ("numpy", STRICT)
        )
        assert on_device.device == STRICT.device and on_device.dtype == getattr(STRICT.xp, dtype)
        assert to_host(on_device).tolist() == on_host.tolist()
