"""Mutations of bytes: flips, splices, truncations, and numbers that are off by one or out of range."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

_NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1)
_WORDS = (
    b"0",
    b"-1",
    b"9" * 30,
    b"1e999",
    b"NaN",
    b"null",
    b"[",
    b"{}",
    b'""',
    b"\0",
    b"\xff\xfe",
    b"true",
    b"\\u0000",
)


def mutate(random: Random, seed: bytes, others: Sequence[bytes]) -> bytes:
    """`seed` after one to six mutations; `others` is where splices come from."""
    content = bytearray(seed)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        random.choice(_MUTATIONS)(random, content, others)
    return bytes(content)


def _flip(random: Random, content: bytearray, others: Sequence[bytes]) -> None:
    if content:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)


def _byte(random: Random, content: bytearray, others: Sequence[bytes]) -> None:
    if content:
        content[random.randrange(len(content))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))


def _number(random: Random, content: bytearray, others: Sequence[bytes]) -> None:
    width, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
    position = random.randrange(len(content) + 1)
    content[position : position + width] = (random.choice(_NUMBERS) % 256**width).to_bytes(width, order)


def _digit(random: Random, content: bytearray, others: Sequence[bytes]) -> None:
    positions = [position for position, byte in enumerate(content) if 48 <= byte < 58]
    if positions:
        position = random.choice(positions)
        content[position : position + 1] = random.choice((b"", b"0", b"1", b"7", b"-1", b"99999999", b"1.5", b"9" * 25))


def _word(random: Random, content: bytearray, others: Sequence[bytes]) -> None:
    position = random.randrange(len(content) + 1)
    content[position : position + random.choice((0, 1, 4))] = random.choice(_WORDS)


def _cut(random: Random, content: bytearray, others: Sequence[bytes]) -> None:
    begin, end = _slice(random, len(content))
    del content[begin:end]


def _truncate(random: Random, content: bytearray, others: Sequence[bytes]) -> None:
    del content[random.randrange(len(content) + 1) :]


def _repeat(random: Random, content: bytearray, others: Sequence[bytes]) -> None:
    begin, end = _slice(random, len(content))
    content[begin:begin] = content[begin:end] * random.choice((1, 1, 2, 50))
    del content[1 << 20 :]


def _splice(random: Random, content: bytearray, others: Sequence[bytes]) -> None:
    other = random.choice(others)
    begin, end = _slice(random, len(other))
    position = random.randrange(len(content) + 1)
    content[position : position + random.choice((0, end - begin))] = other[begin:end]


def _slice(random: Random, length: int) -> tuple[int, int]:
    begin = random.randrange(length + 1)
    return begin, min(length, begin + random.choice((1, 2, 4, 8, 16, 64, 256)))


_MUTATIONS = (_flip, _byte, _number, _digit, _word, _cut, _truncate, _repeat, _splice)
