"""Checks of the installation, each with what to do about it, and the emptying of the cache."""

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .data.assets import ASSETS, verify_asset
from .data.cache import cache_dir, purge_cache
from .data.fetching import FILE_ASSETS
from .data.packaged_files import verify_files
from .errors import HfForgetError

# As in constraints.txt, which does not come with the wheel.
TESTED_VERSIONS = {
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "trl": "1.16.0",
    "peft": "0.21.2",
    "accelerate": "1.15.0",
    "datasets": "5.2.0",
    "huggingface-hub": "2.4.0",
    "safetensors": "0.8.0",
    "numpy": "2.4.6",
    "scipy": "1.17.1",
    "gguf": "0.19.0",
    "jinja2": "3.1.6",
}
_DISK_NEEDED = 4 * 2**30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: What was looked at.
        ok: Whether `hf_forget` can work with it.
        detail: What was found.
        remedy: What to do; empty when there is nothing to do.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def diagnose() -> list[Check]:
    """Look at everything that a run depends on; imports torch and waits up to three seconds for the Hub."""
    return [
        _python(),
        *(_package(name, tested) for name, tested in TESTED_VERSIONS.items()),
        _torchvision(),
        _processor(),
        *_cache(),
        *_assets(),
        *_file_assets(),
        _hub(),
    ]


def purge() -> list[Path]:
    """Empty the cache, which holds the knowledge of models that were made to forget; returns what was removed."""
    return purge_cache()


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check("python", ok, platform.python_version(), "" if ok else "use Python 3.11 or newer")


def _package(name: str, tested: str) -> Check:
    remedy = f"pip install {name}=={tested}"
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "not installed", remedy)
    wanted = _declared_range(name)
    if wanted and not _inside(installed, wanted):
        return Check(name, False, f"{installed}, outside of {wanted}", remedy)
    if installed.split("+")[0] != tested:
        return Check(name, True, f"{installed}; tested with {tested}", f"if something fails: {remedy}")
    return Check(name, True, f"{installed}, as tested")


def _declared_range(name: str) -> str:
    """Return the version range that our own metadata gives for a package; empty when we are not installed."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires("hf-forget") or []]
    except importlib.metadata.PackageNotFoundError:
        return ""
    return next((str(r.specifier) for r in requirements if r.name == name and r.marker is None), "")


def _inside(installed: str, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(installed, prereleases=True)


def _torchvision() -> Check:
    for name in ("torchvision", "timm"):
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        detail = f"{name} {found} is installed; it is not used, and often does not fit a CPU build of torch"
        return Check("torchvision", False, detail, f"pip uninstall {name}, and install torch again if it fails to load")
    return Check("torchvision", True, "absent, as it should be")


def _processor() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("processor", False, f"torch cannot be imported: {error}", "install torch again")
    if torch.cuda.is_available():
        return Check("processor", True, f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    capabilities = torch.cpu.get_capabilities()
    fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    detail = f"CPU, {torch.get_num_threads()} threads, bf16 {'in hardware' if fast else 'emulated: trains in fp32'}"
    return Check("processor", True, detail)


def _cache() -> list[Check]:
    try:
        folder = cache_dir()
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (HfForgetError, OSError) as error:
        return [Check("cache", False, str(error), "set HF_FORGET_CACHE to a folder that can be written")]
    free = shutil.disk_usage(folder).free
    room = Check(
        "disk",
        free >= _DISK_NEEDED,
        f"{free / 2**30:.1f} GiB free in the cache folder",
        "" if free >= _DISK_NEEDED else f"make room: a run on a small model needs {_DISK_NEEDED // 2**30} GiB",
    )
    return [Check("cache", True, str(folder)), room]


def _assets() -> list[Check]:
    checks = []
    for asset in ASSETS.values():
        try:
            verify_asset(asset)
            checks.append(Check(asset.id, True, f"{asset.package}, hash as expected, licence {asset.licence}"))
        except HfForgetError as error:
            checks.append(Check(asset.id, False, str(error), asset.install_command))
    return checks


def _file_assets() -> list[Check]:
    checks = []
    for asset in FILE_ASSETS.values():
        try:
            verify_files(asset)
            found = "hashes as expected" if asset.files else "installed"
            checks.append(Check(asset.id, True, f"{asset.package}, {found}, licence {asset.licence}"))
        except HfForgetError as error:
            checks.append(Check(asset.id, False, str(error), asset.install_command))
    return checks


def _hub() -> Check:
    from huggingface_hub import constants, get_session

    offline = "only local folders, models in the local Hub cache and embedded models can be used"
    if constants.HF_HUB_OFFLINE:
        name = next((n for n in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(n)), "HF_HUB_OFFLINE")
        return Check("hub", True, f"switched off by {name}: {offline}")
    try:
        get_session().head(constants.ENDPOINT, timeout=3)
    except Exception as error:  # being offline is no fault, whatever the HTTP client calls it
        return Check("hub", True, f"{constants.ENDPOINT} cannot be reached ({error}): {offline}")
    return Check("hub", True, f"{constants.ENDPOINT} answers")
