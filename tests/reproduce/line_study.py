"""A study of a moment: two models of a straight line."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinygrad_gru import nn, ops, optim
from tinygrad_gru.reproduce import Result, Study, Task
from tinygrad_gru.train import Trainer


class Line(Study):
    name, title, reference = "line", "A straight line", "nobody, 2026"
    protocol = ("MSE: averaged over all points.",)
    metric, unit, takes = "test MSE", "", "a second"
    settings: Mapping = {"steps": 20, "lr": 0.1}
    quick: Mapping = {"steps": 4}
    tasks: Mapping = {"line": Task("y = 3 x", {"small": 0.5}, 0.1), "flat": Task("y = 3", {}, 0.1)}
    cells: Mapping = {"small": "Small, one layer", "large": "Large, two layers"}
    claim = ("small", "large")

    def __init__(self):
        self.made = []

    def model(self, run):
        return nn.Linear(1, 1) if run.cell == "small" else nn.Sequential(nn.Linear(1, 8), nn.Linear(8, 1))

    def load(self, task, path, settings):
        x = np.linspace(-1, 1, 16)[:, None]
        return x, 3 * x if task == "line" else 0 * x + 3

    def run(self, run):
        self.made.append((run.task, run.cell, run.seed))
        model = self.model(run)
        history = run.fit(model, ops.mse, run.data, steps=run.settings["steps"], lr=run.settings["lr"])
        losses = history["loss"]
        curve = [[step + 1, loss] for step, loss in enumerate(losses.tolist())]
        return Result(model.parameter_count(), losses[-1].item(), curve, {})

    def trainer(self, run):
        model = self.model(run)
        return Trainer(model, ops.mse, optim.Adam(model.parameters()), [run.data])

    def baselines(self, task, data):
        return {"baseline: nothing": float(np.square(data[1]).mean())}
