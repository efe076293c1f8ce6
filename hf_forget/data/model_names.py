"""What a model name means: a local folder, an embedded model, or a model on the Hub."""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InputError, suggestion
from .assets import ASSETS, PREFIX, Asset, embedded_folder, get_asset, verify_asset
from .weights import check_model_folder, weights_sha256

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt"]
_ACCEPTED = (
    "a local folder that holds config.json and safetensors weights, a Hub id such as "
    "'HuggingFaceTB/SmolLM2-135M-Instruct', an embedded model: {embedded}, or the model of an invented world, "
    "invented:0"
)
_INVENTED = re.compile(r"invented:(\d+)(-never-knew)?")


class HubUnreachableError(InputError):
    """A Hub id was given, it is not in the local Hub cache, and the Hub cannot be reached."""


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
    source: Literal["embedded", "invented", "local", "hub"]
    sha256: str | None = None
    revision: str | None = None


def resolve_model(name: str, *, prepare: bool = True) -> ResolvedModel:
    """Find out which weights a model name means.

    Args:
        name: A local folder, `embedded:<name>`, a Hub id `<owner>/<name>`, or `invented:<seed>`, the model of an
            invented world; `invented:<seed>-never-knew` has not met the world's targets. A folder of that name comes
            before a Hub id.
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
    if invented := _INVENTED.fullmatch(name):
        return _resolve_invented(name, int(invented[1]), bool(invented[2]), prepare)
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


def _resolve_invented(name: str, seed: int, never_knew: bool, prepare: bool) -> ResolvedModel:
    """Take the model of an invented world from the cache, or train it."""
    if not prepare:
        return ResolvedModel(name, name, "invented")
    from ..models.invented_models import world_model
    from .invented import DEVELOPMENT, TARGETS, InventedWorld

    left_out = (*TARGETS.values(), *DEVELOPMENT.values()) if never_knew else ()
    folder = world_model(InventedWorld(seed), left_out)
    return ResolvedModel(str(folder), name, "invented", weights_sha256(folder))


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
