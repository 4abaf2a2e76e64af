"""JavaScript: a text model under Node.js, beside loops that are written by hand, and beside NumPy.

`--quick` measures a small model and writes no results.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tinygrad_gru import no_grad, ops
from tinygrad_gru.interop import javascript
from tinygrad_gru.train import CharacterModel

from .timing import interleaved, report, row

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.javascript"
EXPLANATION = """\
A character model with one GRU (hidden {hidden}, embedding {embedding}, {symbols} symbols) reads {steps} characters, in
float32. In JavaScript, in one process of Node.js {node} and by turns: the script of
`interop.javascript.source`, which keeps every value and every cotangent record by record; the recurrence alone, as
compiled by `scan_source`; and plain loops that are written by hand (`javascript_peer.js`), which agree with it. Beside
them NumPy, in compiled mode. Milliseconds: the least, and the median, of {rounds} rounds."""

MAIN = """
const [ids, targets, rounds] = %s, {info, parameters} = tinygradModel;
const [layer] = info.layers, hidden = layer.size;
const peer = handWritten(parameters, info.symbols, info.embedding.size, hidden);
const first = tinygradModel.forward(ids, {targets}), x = first.inputs[0], zero = new Float32Array(hidden);
const ones = new Float32Array(ids.length * hidden).fill(1);
const runs = {
  "script, forward": () => tinygradModel.forward(ids, {targets}),
  "script, with gradients": () => tinygradModel.backward(tinygradModel.forward(ids, {targets})),
  "compiled recurrence, forward": () => tinygradScan.forward([zero], [x]),
  "compiled recurrence, with gradients": () => tinygradScan.backward(tinygradScan.forward([zero], [x]), {ys: [ones]}),
  "by hand, forward": () => peer.forward(ids, targets),
  "by hand, with gradients": () => peer.backward(peer.forward(ids, targets)),
};
const times = Object.fromEntries(Object.keys(runs).map((name) => [name, []]));
for (let n = 0; n < rounds + 4; n++) {
  for (const name in runs) {
    const start = performance.now();
    runs[name]();
    if (n >= 4) times[name].push(performance.now() - start);
  }
}
const [ours, theirs] = [runs["script, with gradients"]().parameters, runs["by hand, with gradients"]()];
let apart = 0;
for (const name in ours) {
  const scale = Math.max(...ours[name].map(Math.abs));
  ours[name].forEach((g, i) => { apart = Math.max(apart, Math.abs(g - theirs[name][i]) / scale); });
}
console.log(JSON.stringify({times, apart, node: process.version}));
"""


def main(quick: bool = False) -> None:
    node = shutil.which("node")
    if node is None:
        print("skipped: there is no Node.js")
        return
    hidden, steps, rounds = (16, 20, 3) if quick else (192, 200, 20)
    symbols, embedding = 100, 64
    model, random = CharacterModel(symbols, embedding, hidden), np.random.default_rng(0)
    ids, targets = random.integers(0, symbols, (2, steps))
    cell = model.recurrence.cells[0]
    scripts = [
        javascript.source(model),
        javascript.scan_source(cell.step, cell.initial_state(1), model.embedding(ids[:, None])),
        Path(__file__).with_name("javascript_peer.js").read_text(encoding="utf-8"),
        MAIN % json.dumps([ids.tolist(), targets.tolist(), rounds]),
    ]
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.js"
        program.write_text("\n".join(scripts), encoding="utf-8")
        found = json.loads(subprocess.run([node, program], check=True, capture_output=True, text=True).stdout)
    assert found["apart"] < 1e-4, f"the loops by hand give other gradients: {found['apart']:.1e}"

    def forward() -> None:
        with no_grad():
            ops.cross_entropy(model(ids[:, None])[0], targets[:, None])

    def with_gradients() -> None:
        model.zero_grad()
        ops.cross_entropy(model(ids[:, None])[0], targets[:, None]).backward()

    seconds = interleaved({"NumPy, forward": forward, "NumPy, with gradients": with_gradients}, rounds)
    times = found["times"] | {name: [1000 * s for s in values] for name, values in seconds.items()}
    text = EXPLANATION.format(
        hidden=hidden, embedding=embedding, symbols=symbols, steps=steps, rounds=rounds, node=found["node"]
    )
    lines = [text, "", row(["", "forward", "with gradients"]), row(["---"] * 3)]
    for name in dict.fromkeys(name.partition(", ")[0] for name in times):
        of_name = (times[f"{name}, {what}"] for what in ("forward", "with gradients"))
        lines.append(row([name, *(f"{min(one):.1f} ({statistics.median(one):.1f})" for one in of_name)]))
    lines += ["", f"Gradients of the script and of the loops by hand differ by {found['apart']:.0e} of the largest."]
    if quick:
        print("\n".join(lines))
    else:
        report("javascript", "A text model in JavaScript", COMMAND, lines)


if __name__ == "__main__":
    main("--quick" in sys.argv)
