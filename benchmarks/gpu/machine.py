"""The machine of a report: device, driver, CUDA, host, versions."""

from __future__ import annotations

import platform
import shutil
import subprocess

from tinygrad_gru.backend import resolve
from tinygrad_gru.train.text.run import versions

from ..timing import installed, machine, row
from .options import Options


def main(options: Options) -> None:
    print(row(["", ""]))
    print(row(["---", "---"]))
    print(row(["device", device_name(options)]), flush=True)
    for name, value in facts(options).items():
        print(row([name, value]))


def facts(options: Options) -> dict[str, str]:
    backend, found = resolve(options.backend), {}
    if not options.rehearsal:
        runtime = backend.xp.cuda.runtime
        found |= _nvidia_smi(backend.device.pci_bus_id)
        found["CUDA"] = f"driver {_cuda(runtime.driverGetVersion())}, runtime {_cuda(runtime.runtimeGetVersion())}"
    found["host"] = machine()
    found["system"] = platform.platform()
    found |= {name: version for name, version in versions(backend.xp).items() if name not in ("python", "numpy")}
    if installed("torch"):
        import torch

        found["PyTorch"] = f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return found


def device_name(options: Options) -> str:
    if options.rehearsal:
        return f"{options.backend} (a rehearsal: no GPU)"
    backend = resolve(options.backend)
    return backend.xp.cuda.runtime.getDeviceProperties(backend.device.id)["name"].decode()


def _nvidia_smi(address: str) -> dict[str, str]:
    """Driver version, memory and clocks, from nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return {"driver": "unknown: there is no nvidia-smi"}
    fields = {"driver": "driver_version", "memory": "memory.total", "maximum clocks": "clocks.max.sm,clocks.max.mem"}
    query = f"--query-gpu={','.join(fields.values())}"
    command = ["nvidia-smi", f"--id={address}", query, "--format=csv,noheader"]
    process = subprocess.run(command, capture_output=True, text=True)
    values = process.stdout.strip().split(", ")
    if process.returncode or len(values) != 4:
        return {"driver": f"unknown: nvidia-smi printed {(process.stdout + process.stderr).strip()!r}"}
    return {"driver": values[0], "memory": values[1], "maximum clocks": f"{values[2]} and {values[3]} (memory)"}


def _cuda(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
