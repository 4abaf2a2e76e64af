"""The command `cache`: the compiled code and the encoded texts that are kept on disk."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import Any

from ..io import remove_parts
from ..native import cache as native_cache
from ..train.text.run import texts_folder


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "cache",
        help="the compiled code and the encoded texts that are kept on disk",
        description="Where the machine code of compiled recurrences and the ids of large texts are kept on disk, and "
        "how much of it there is. The least recently used code goes by itself, texts do not. TINYGRAD_GRU_CACHE names "
        "another folder, or is off.",
    )
    command.set_defaults(command=cache)
    command.add_argument("--clear", action="store_true", help="remove all of it; it is made again when needed")


def cache(options: argparse.Namespace) -> int:
    """Say how much compiled code and how many texts are on disk, and where, or remove them."""
    where, problem = native_cache.folder(), native_cache.problem()
    texts = texts_folder()
    # also what is left of one whose process was killed while it was written: as large, and hidden
    files = [] if texts is None else [path for path in (*texts.glob("*.npy"), *texts.glob(".*.part")) if path.is_file()]
    sizes = {path: path.stat().st_size for path in files}
    if options.clear:
        print(f"removed {_words(native_cache.clear())} from {where}" if where is not None else f"no folder: {problem}")
        for path in files:
            if path.suffix == ".part":
                remove_parts(path.with_name(path.name.split(".")[1] + ".npy"))  # but those that are being written
            else:
                path.unlink(missing_ok=True)
        if removed := [size for path, size in sizes.items() if not path.exists()]:
            print(f"removed {_texts(removed)} from {texts}")
        return 0
    print(f"folder   {where if where is not None else 'none'}")
    print(f"holds    {_words(native_cache.usage())}, of at most {_megabytes(native_cache.LIMIT)}")
    if files:
        print(f"texts    {_texts(sizes.values())}, in {texts}")
    if problem:
        print(f"not used, because {problem}: what is needed is compiled in every process")
    return 0


def _words(usage: native_cache.Usage) -> str:
    return f"{usage.entries:,} compiled function{'' if usage.entries == 1 else 's'}, {_megabytes(usage.bytes)}"


def _texts(sizes: Collection[int]) -> str:
    return f"{len(sizes):,} encoded text{'' if len(sizes) == 1 else 's'}, {_megabytes(sum(sizes))}"


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
