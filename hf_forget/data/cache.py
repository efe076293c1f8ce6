"""The cache folder: where it is, making something in it once, and emptying it."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError

_CACHE_TAG = "CACHEDIR.TAG"


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


def made_once(folder: Path, is_whole: Callable[[], bool], make: Callable[[Path], None]) -> Path:
    """Return a folder of the cache, made unless it is whole: in a folder beside, renamed at the end, under a lock.

    So two processes may start at once, and one that is killed leaves nothing that could be mistaken for the whole.

    Args:
        folder: Where it belongs, two levels below `cache_dir()`.
        is_whole: Whether it is there already and intact.
        make: Writes everything into the folder that it is given.

    Raises:
        OSError: If the cache cannot be written.
    """
    from filelock import FileLock

    locks = cache_dir() / "locks"
    for needed in (locks, folder.parent):
        needed.mkdir(exist_ok=True)
    with FileLock(locks / f"{folder.parent.name}-{folder.name}.lock"):
        if not is_whole():
            stem = f".{folder.name}."
            for stale in [*folder.parent.glob(f"{stem}*"), folder]:
                remove(stale)
            partial = Path(tempfile.mkdtemp(prefix=stem, dir=folder.parent))
            try:
                make(partial)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


def purge_cache() -> list[Path]:
    """Delete everything in the cache folder and return what was deleted."""
    removed = [path for path in sorted(cache_dir().iterdir()) if path.name != _CACHE_TAG]
    for path in removed:
        remove(path)
    return removed


def remove(path: Path) -> None:
    """Delete a file, a link or a whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
