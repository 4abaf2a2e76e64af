"""Writes frozen.json: updates of one parameter by PyTorch's optimizers, for machines without PyTorch.

    python tests/optim/make_frozen.py

Each case starts from the same parameter and sees the same gradients, in float64.
"""

from __future__ import annotations

import json
from math import cos, sin
from pathlib import Path

import torch

START = [1.0, -0.5, 0.25, 2.0]
GRADIENTS = [[sin(1.3 * t + 0.7 * i) * (1 + 0.5 * cos(i)) for i in range(4)] for t in range(6)]
CASES = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.25, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
    ],
    "RMSprop": [
        {"lr": 0.05},
        {"lr": 0.05, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.8, "centered": True},
    ],
    "Adagrad": [
        {"lr": 0.2},
        {"lr": 0.2, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3},
    ],
    "Adam": [{"lr": 0.1}, {"lr": 0.1, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}],
    "AdamW": [{"lr": 0.1}, {"lr": 0.1, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}],
}


def trajectory(name: str, settings: dict) -> list[list[float]]:
    """The parameter after each step."""
    parameter = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = getattr(torch.optim, name)([parameter], **settings)
    path = []
    for gradient in GRADIENTS:
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        path.append(parameter.tolist())
    return path


if __name__ == "__main__":
    cases = [
        {"optimizer": name, "settings": settings, "trajectory": trajectory(name, settings)}
        for name, variants in CASES.items()
        for settings in variants
    ]
    lines = ",\n".join(json.dumps(case) for case in cases)
    head = json.dumps({"torch": torch.__version__, "start": START, "gradients": GRADIENTS})[:-1]
    Path(__file__).with_name("frozen.json").write_text(f'{head}, "cases": [\n{lines}\n]}}\n')
