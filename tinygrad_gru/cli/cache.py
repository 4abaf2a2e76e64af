"""The command `cache`: the compiled code and the encoded texts that are kept on disk."""

from __future__ import annotations

import argparse
from typing import Any

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
    files = [] if texts is None else [path for path in texts.glob("*.npy") if path.is_file()]
    size = _megabytes(sum(path.stat().st_size for path in files))
    words = f"{len(files):,} encoded text{'' if len(files) == 1 else 's'}, {size}"
    if options.clear:
        print(f"removed {_words(native_cache.clear())} from {where}" if where is not None else f"no folder: {problem}")
        if files:
            print(f"removed {words} from {texts}")
        for path in files:
            path.unlink()
        return 0
    print(f"folder   {where if where is not None else 'none'}")
    print(f"holds    {_words(native_cache.usage())}, of at most {_megabytes(native_cache.LIMIT)}")
    if files:
        print(f"texts    {words}, in {texts}")
    if problem:
        print(f"not used, because {problem}: what is needed is compiled in every process")
    return 0


def _words(usage: native_cache.Usage) -> str:
    return f"{usage.entries:,} compiled function{'' if usage.entries == 1 else 's'}, {_megabytes(usage.bytes)}"


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
