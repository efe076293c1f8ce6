"""The weights in a model folder: which files they are, their hash, and whether they are whole."""

import contextlib
import hashlib
import json
from pathlib import Path

from ..errors import InputError
from .cache import cache_dir


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
