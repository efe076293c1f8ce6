"""Where a run took place: what the report says about versions, machine, precision and seeds."""

import contextlib
import importlib.metadata
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import __version__

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")


def run_environment(configs: dict[str, Any], world_size: int) -> dict[str, Any]:
    """Return versions, device, precision, number of processes, seeds and commit, as `environment` in the report.

    Args:
        configs: The configs of the recipe by section.
        world_size: Number of processes.
    """
    versions = {"hf_forget": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    method = configs["method"]
    autocast = next((name for name in ("bf16", "fp16") if getattr(method, name, None)), None)
    seeds = {name: getattr(method, name, None) for name in ("seed", "data_seed")}
    seeds["evidence_seed"] = configs["evidence"].evidence_seed
    environment = {
        "versions": versions,
        "device": "cpu",
        "dtype": configs["model"].dtype + (f", {autocast} autocast" if autocast else ""),
        "world_size": world_size,
        "seeds": {name: seed for name, seed in seeds.items() if seed is not None},
        "git": _git_commit(),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and not getattr(method, "use_cpu", False):
        environment["device"] = torch.cuda.get_device_name()
        environment["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return environment


def _git_commit() -> str | None:
    """Return the commit of the checkout that this package runs from, `None` where it is installed."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def peak_memory_mb() -> float:
    """Return the most main memory, in MiB, that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
