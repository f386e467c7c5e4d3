"""Where a result was made: the code's commit, the versions of what it ran on, the device."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_prod import __version__

if TYPE_CHECKING:
    import torch


def versions() -> dict[str, str | None]:
    """Versions of python, torch, numpy and this package, read from metadata: torch is not imported."""

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    packages = {name: installed(name) for name in ("torch", "torchvision", "numpy")}
    return {"python": platform.python_version(), **packages, "fewshot_prod": __version__}


@cache
def commit() -> str | None:
    """The git commit of the running code, "-dirty" behind it if the code differs; None outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)

    try:
        # An installed copy may lie in somebody else's repository: it counts only where git tracks this file.
        if git("ls-files", "--error-unmatch", Path(__file__).name).returncode:
            return None
        changed = git("diff", "--quiet", "HEAD", "--", "*.py", ":(top)experiments/*.py").returncode
        return git("rev-parse", "HEAD").stdout.strip() + ("-dirty" if changed else "")
    except FileNotFoundError:  # no git
        return None


def device_name(device: torch.device | str = "cpu") -> str:
    """What to write down as a record's device: the GPU's name, or the processor's and its number of cores."""
    if str(device).startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")  # Linux alone has it; platform.processor() is empty there
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores"
