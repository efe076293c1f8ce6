"""The output folder: written as `<final>.partial` under a lock, renamed when whole, resumable when interrupted."""

import errno
import json
import os
import secrets
import shutil
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock

from .errors import OutputError

_OUR_MARK = "forget_report.json"
_LOCK, _OWNER, _STATE, _REPLACED = "run.lock", "owner.json", "state.json", "replaced"


class OutputFolder:
    """One run's claim on an output folder.

    Everything is written below `<final>.partial/`, which only one process at a time can hold. `commit` renames the
    finished output to its final name. When the run fails or is killed, the partial folder stays, the lock goes, and a
    later run with `resume=True` and the same recipe continues from the stages that were marked as done.

    In a run of several processes only the first opens the folder; the others `attach` to it.

    Args:
        final: The folder that the run is to produce.
        recipe_hash: What the run computes, as `Recipe.hash()`.
        overwrite: Replace an existing output of this package, and drop an interrupted run.
        resume: Continue an interrupted run of the same recipe; without one, start normally.
        required_bytes: Disk space that the run needs, in bytes.

    Example:

    ```python
    with OutputFolder(Path("outputs/run"), recipe.hash()) as output:
        if not output.stage_done("prepare"):
            ...
            output.mark_done("prepare", {"rows": 120})
        model.save_pretrained(output.staging)
        output.commit()
    ```
    """

    def __init__(
        self,
        final: Path,
        recipe_hash: str,
        *,
        overwrite: bool = False,
        resume: bool = False,
        required_bytes: int = 0,
    ) -> None:
        try:
            self.final = Path(final).expanduser().resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise OutputError(f"'{final}' is no usable path ({error}); choose another --output_dir.") from error
        if not self.final.name or self.final.suffix == ".partial":
            raise OutputError(f"'{final}' cannot be an output folder; give one whose name does not end in .partial.")
        self.partial = self.final.with_name(f"{self.final.name}.partial")
        self.recipe_hash = recipe_hash
        self.overwrite = overwrite
        self.resume = resume
        self.required_bytes = required_bytes
        self.resumed = False
        self._lock = filelock.FileLock(self.partial / _LOCK, timeout=0)
        self._state: dict[str, Any] = {"stages": {}}

    @property
    def workspace(self) -> Path:
        """Folder for prepared rows and checkpoints; it survives an interruption and goes with the commit."""
        return self.partial / "work"

    @property
    def staging(self) -> Path:
        """Folder that becomes the output."""
        return self.partial / "output"

    @property
    def private(self) -> Path:
        """Folder inside the output for what must never be published."""
        return self.staging / "private"

    def __enter__(self) -> "OutputFolder":
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Check everything that can be checked before the work starts, and take the lock.

        Raises:
            OutputError: If the folder exists, belongs to something else, is in use, holds an interrupted run, cannot
                be written, or the disk is too small; the message says what to do.
        """
        try:
            self._check_final()
            self._check_partial_is_ours()
            self._check_disk()
            self._acquire()
            self._restore_replaced()
            self._check_final()
            self._take_up_or_start()
        except OSError as error:
            self.close()
            raise self._unusable(f"it cannot be written ({_reason(error)}); choose another --output_dir") from error
        except BaseException:
            self.close()
            raise

    def attach(self) -> None:
        """Read the state of a run that another process of the same run has opened; takes no lock."""
        self._state = self._read_state()
        self.resumed = bool(self._state["stages"])

    def discard(self) -> None:
        """Remove the partial folder and release the lock, when the run left nothing worth continuing from."""
        self._discard_partial()
        self._lock.release()

    def close(self) -> None:
        """Release the lock. A partial folder with something to continue from stays, an empty one goes."""
        if self._lock.is_locked:
            if self.partial.is_dir() and not self._holds_work():
                self._discard_partial()
            self._lock.release()

    def stage_done(self, name: str) -> bool:
        """Return whether the stage was finished, by this process or by the interrupted one."""
        return name in self._state["stages"]

    def stage_data(self, name: str) -> dict[str, Any]:
        """Return what `mark_done` was given for a finished stage, an empty dict otherwise."""
        return dict(self._state["stages"].get(name, {}))

    def mark_done(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Remember, on disk, that a stage is finished.

        Args:
            name: Name of the stage.
            data: JSON-able figures that a resumed run needs from it.
        """
        state = {**self._state, "stages": {**self._state["stages"], name: data or {}}}
        write_json_atomic(self.partial / _STATE, state)
        self._state = state

    def commit(self) -> None:
        """Give the finished output its final name and remove the partial folder.

        With `overwrite` the old output is removed only after the new one is in place, and comes back if that fails.

        Raises:
            OutputError: If the final name was taken meanwhile or the rename fails; the work stays resumable.
        """
        self._check_final()
        _sync_tree(self.staging)
        replaced = self.partial / _REPLACED
        try:
            if self.final.exists():
                os.rename(self.final, replaced)
            os.rename(self.staging, self.final)
        except BaseException as error:
            self._restore_replaced()
            if isinstance(error, OSError):
                raise self._unusable(f"the finished output cannot be moved there ({_reason(error)})") from error
            raise
        _sync_folder(self.final.parent)
        self._discard_partial()
        self._lock.release()

    def _check_final(self) -> None:
        if not self.final.exists():
            return
        if not self.final.is_dir():
            raise self._unusable("it is a file; choose another --output_dir")
        if not self.overwrite:
            raise self._unusable("it exists already; choose another --output_dir or pass --overwrite to replace it")
        if any(self.final.iterdir()) and not (self.final / _OUR_MARK).is_file():
            raise self._unusable(
                f"--overwrite replaces only outputs of hf-forget, and this folder has no {_OUR_MARK}; "
                "choose another --output_dir or remove the folder yourself"
            )

    def _check_partial_is_ours(self) -> None:
        if not self.partial.exists():
            return
        ours = self.partial.is_dir() and ((self.partial / _LOCK).is_file() or not any(self.partial.iterdir()))
        if not ours:
            raise self._unusable(f"{self.partial} is in the way and is no interrupted run; move it away")

    def _check_disk(self) -> None:
        # What an interrupted run left is either used again or removed.
        available = free_bytes(self.final.parent) + _folder_bytes(self.partial)
        if available < self.required_bytes:
            raise self._unusable(
                f"the disk is too small: {_size(available)} free, {_size(self.required_bytes)} needed; "
                "free some space or choose an --output_dir on another disk"
            )

    def _acquire(self) -> None:
        try:
            self.partial.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout as error:
            raise self._unusable(f"{self._owner()} is writing to it; wait or choose another --output_dir") from error

    def _owner(self) -> str:
        try:
            owner = json.loads((self.partial / _OWNER).read_text(encoding="utf-8"))
            return f"another run (process {owner['pid']} on {owner['host']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another run"

    def _restore_replaced(self) -> None:
        """Put the old output back where a failed or killed commit had moved it away."""
        replaced = self.partial / _REPLACED
        if replaced.exists() and not self.final.exists():
            os.rename(replaced, self.final)

    def _take_up_or_start(self) -> None:
        self._remove_leftovers()
        self._state = self._read_state()
        # Without a staging folder the commit had gone through, and only the clearing up was cut short.
        pending = self.staging.is_dir() and self._holds_work()
        same_recipe = self._state.get("recipe_hash") == self.recipe_hash
        if pending and self.resume and not same_recipe:
            raise self._unusable(
                f"the interrupted run in {self.partial} had a different recipe, or its state is damaged; resume with "
                "the options of that run, or pass --overwrite without --resume to start afresh"
            )
        # Of another recipe, only finished stages are worth asking about.
        if pending and not self.resume and not self.overwrite and (same_recipe or self._state["stages"]):
            raise self._unusable(
                f"an interrupted run is waiting in {self.partial}; pass --resume to continue it or --overwrite to "
                "start afresh"
            )
        self.resumed = pending and self.resume
        if not self.resumed:
            self._start_afresh()
        write_json_atomic(self.partial / _OWNER, {"pid": os.getpid(), "host": socket.gethostname()})
        self.private.mkdir(parents=True, exist_ok=True)
        self.workspace.mkdir(exist_ok=True)

    def _start_afresh(self) -> None:
        for path in self.partial.iterdir():
            if path.name != _LOCK:
                _remove(path)
        self._state = {"recipe_hash": self.recipe_hash, "stages": {}}
        write_json_atomic(self.partial / _STATE, self._state)

    def _read_state(self) -> dict[str, Any]:
        try:
            state = json.loads((self.partial / _STATE).read_text(encoding="utf-8"))
            if isinstance(state["stages"], dict):
                return state
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        return {"stages": {}}

    def _holds_work(self) -> bool:
        files = (path for folder in (self.workspace, self.staging) for path in folder.rglob("*") if path.is_file())
        return bool(self._state["stages"]) or next(files, None) is not None

    def _discard_partial(self) -> None:
        # Renamed first, lock included: a run that starts meanwhile gets a folder and a lock of its own.
        discarded = self.partial.with_name(f"{self.partial.name}.{secrets.token_hex(4)}.discarded")
        try:
            os.rename(self.partial, discarded)
        except OSError:
            return
        shutil.rmtree(discarded, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        for path in self.partial.parent.iterdir():
            if path.name.startswith(f"{self.partial.name}.") and path.name.endswith(".discarded"):
                shutil.rmtree(path, ignore_errors=True)

    def _unusable(self, problem: str) -> OutputError:
        return OutputError(f"output folder {self.final}: {problem}.")


def write_text_atomic(path: Path, text: str) -> None:
    """Write a UTF-8 text file that is, at every moment, either the old one or the new one as a whole."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json_atomic(path: Path, obj: Any) -> None:
    """Write `obj` as indented JSON, as `write_text_atomic` does.

    Raises:
        ValueError: If a number is not finite: JSON has no word for it.
        TypeError: If something in it is not JSON-able.
    """
    write_text_atomic(path, json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def free_bytes(path: Path) -> int:
    """Return the free space, in bytes, of the disk that `path` lies on or would lie on."""
    folder = Path(path).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "a file stands where a folder is needed"
    return str(getattr(error, "strerror", None) or error)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                os.fsync(file.fileno())
        _sync_folder(Path(parent))
