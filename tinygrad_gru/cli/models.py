"""The commands `generate`, `export` and `info`: what one does with a trained model."""

from __future__ import annotations

import argparse
from typing import Any

from ..backend import available
from ..interop import javascript
from ..io import replacing
from ..train import generate, restore
from ..train.text.run import versions
from .arguments import add_backend, count, path


def add_to(commands: Any) -> None:
    """Add the commands to the parser."""
    command = commands.add_parser("generate", help="print text sampled from a trained model")
    command.set_defaults(command=write_text)
    command.add_argument("checkpoint", type=path, help="a checkpoint file, or the folder of a run")
    command.add_argument("--prompt", default="", help="the beginning of the text")
    command.add_argument("--length", type=count, default=500, help="characters to sample (default: %(default)s)")
    command.add_argument(
        "--temperature", type=float, default=0.8, help="divides the logits, 0 is greedy (default: %(default)s)"
    )
    command.add_argument(
        "--top-p", type=float, default=0.95, help="nucleus sampling: probability mass to keep (default: %(default)s)"
    )
    command.add_argument("--seed", type=count, default=0, help="random seed (default: %(default)s)")
    add_backend(command)

    command = commands.add_parser("export", help="write a trained model as an ONNX graph, or as a JavaScript file")
    command.set_defaults(command=export)
    command.add_argument("checkpoint", type=path, help="a checkpoint file, or the folder of a run")
    command.add_argument("out", type=path, help="the file to write, such as model.onnx or model.js")

    command = commands.add_parser("info", help="print versions and backends, or the content of a checkpoint")
    command.set_defaults(command=info)
    command.add_argument("checkpoint", type=path, nargs="?", help="a checkpoint file, or the folder of a run")


def write_text(options: argparse.Namespace) -> int:
    """Print text sampled from a trained model."""
    model, vocabulary, _ = restore(options.checkpoint, options.backend)
    text = generate(
        model, vocabulary, options.length, options.prompt, options.temperature, options.top_p, seed=options.seed
    )
    print(options.prompt + text)
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a trained model as an ONNX graph or as a JavaScript file, with its vocabulary."""
    if options.out.endswith(".js"):
        restored = restore(options.checkpoint)
        with replacing(options.out) as file:
            file.write(javascript.source(restored.model, restored.vocabulary).encode())
        print(f"wrote {options.out}, which defines tinygradModel, in Node.js and in a page")
        return 0
    from ..interop.onnx import save_text_model

    restored = restore(options.checkpoint)
    save_text_model(restored.model, restored.vocabulary, options.out)
    print(f"wrote {options.out}, an ONNX graph: inputs are ids and a state, outputs are logits and the next state")
    return 0


def info(options: argparse.Namespace) -> int:
    """Print versions and backends, or the content of a checkpoint."""
    if options.checkpoint is None:
        facts: dict[str, Any] = {**versions(), "backends": ", ".join(available())}
    else:
        model, vocabulary, state = restore(options.checkpoint)
        about = state["about"]
        facts = {
            "parameters": f"{model.parameter_count():,}",
            "vocabulary size": len(vocabulary),
            "steps": state["trainer"]["steps"],
            "best held-out loss": state["early_stop"]["best"],
            **about["settings"],
            **{f"corpus {name.replace('_', ' ')}": value for name, value in about["corpus"].items()},
            **{f"{name} version": value for name, value in about["versions"].items()},
        }
    width = max(map(len, facts))
    for name, value in facts.items():
        print(_printable(f"{name:{width}}  {value}"))
    return 0


def _printable(text: str) -> str:
    """A text, possibly from an untrusted file, with control characters escaped."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
