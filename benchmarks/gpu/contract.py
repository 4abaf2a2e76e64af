"""The op contract on the GPU: `tinygrad-gru check --backend cupy`, printing only failures."""

from __future__ import annotations

from tinygrad_gru.backend import resolve
from tinygrad_gru.testing import check_all

from .options import Failed, Options


def main(options: Options) -> None:
    count, failed = 0, []
    for name, passed, message in check_all(resolve(options.backend)):
        count += 1
        if not passed:
            failed.append(name)
            print(f"- {name}: {message}\n", flush=True)
    print(f"{count - len(failed)} of {count} ops pass the contract.")
    if failed:
        raise Failed(f"{len(failed)} of {count} ops: {', '.join(failed)}")
