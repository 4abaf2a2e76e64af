"""Node.js, in which the tests run what was exported to JavaScript."""

import json
import shutil
import subprocess

import numpy as np
import pytest

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs Node.js to run JavaScript")

#: Typed arrays as lists, and numbers that JSON has not as strings.
_WRITER = """
const plain = (key, value) => ArrayBuffer.isView(value) ? Array.from(value)
  : typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
require("fs").writeFileSync(process.argv[2], JSON.stringify(main(), plain));
"""


def run(script, folder):
    """What the function `main` of a script returns."""
    program, result = folder / "program.js", folder / "result.json"
    program.write_text(script + _WRITER, encoding="utf-8")
    done = subprocess.run([NODE, program, result], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(result.read_text(encoding="utf-8"))


def array(numbers, shape):
    return np.array(numbers, float).reshape(shape)
