"""`runs.json`: how far each run of a sweep has come, written by every process that works on it."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from .errors import InputError, OutputError
from .evidence.report import REPORT_FILE, ForgetReport
from .output import write_json_atomic, write_text_atomic
from .sweep_spec import PlannedRun, SweepSpec

RUNS_FILE, SPEC_FILE = "runs.json", "sweep.yaml"
_LOCKS = ".locks"


@dataclass
class SweepRun:
    """One run of a sweep, as it stands in `runs.json`.

    Args:
        setting: Name of its setting.
        target: Number of its target in the spec, counted from 1; `None` where the spec has no targets.
        seed: Name of its seed; `None` where the spec has no seeds.
        folder: Its folder, relative to the results folder.
        status: `pending` (nothing whole is there yet), `done` or `failed`.
        verdict: The verdict of its report.
        seconds: Time that its stages took, in seconds; that until it failed.
        error: Why it failed, without the target's name.
        ended: When it failed, in seconds since 1970.
    """

    setting: str
    target: int | None
    seed: str | None
    folder: str
    status: str = "pending"
    verdict: str | None = None
    seconds: float | None = None
    error: str | None = None
    ended: float | None = None


class Journal:
    """`runs.json`, which every process of a sweep writes to."""

    def __init__(self, folder: Path, runs: Sequence[PlannedRun]) -> None:
        self.folder, self.runs = folder, runs
        self._lock = filelock.FileLock(folder / _LOCKS / "runs.lock")

    def open(self, plan: SweepSpec) -> None:
        """Make the results folder, with the spec and the list of runs."""
        try:
            (self.folder / _LOCKS).mkdir(parents=True, exist_ok=True)
            if plan.source.resolve() != (self.folder / SPEC_FILE).resolve():
                write_text_atomic(self.folder / SPEC_FILE, plan.text)
            with self._lock:
                self._write(self.rows())
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise OutputError(
                f"'{self.folder}' cannot be written ({error.strerror}); give another output_dir"
            ) from error

    def rows(self) -> list[SweepRun]:
        """Return every run of the spec as it stands: what is done says the disk, what failed says the file."""
        try:
            stored = {row["folder"]: row for row in json.loads((self.folder / RUNS_FILE).read_text(encoding="utf-8"))}
        except (OSError, ValueError, KeyError, TypeError):
            stored = {}
        return [self._row(planned, stored.get(planned.folder, {})) for planned in self.runs]

    def record(self, planned: PlannedRun, **changes: Any) -> None:
        """Write down how a run ended."""
        with self._lock:
            rows = self.rows()
            for row in rows:
                if row.folder == planned.folder:
                    for name, value in changes.items():
                        setattr(row, name, value)
            self._write(rows)

    def lock(self, planned: PlannedRun) -> filelock.BaseFileLock:
        """Return the lock that only one process at a time can hold while it does the run."""
        return filelock.FileLock(self.folder / _LOCKS / f"{planned.folder.replace('/', '.')}.lock", timeout=0)

    def _row(self, planned: PlannedRun, stored: dict[str, Any]) -> SweepRun:
        row = SweepRun(planned.setting, planned.target, planned.seed, planned.folder)
        if (outcome := finished(self.folder / planned.folder)) is not None:
            row.status, (row.verdict, row.seconds) = "done", outcome
        elif stored.get("status") == "failed":
            row.status, row.error = "failed", stored.get("error")
            row.seconds, row.ended = stored.get("seconds"), stored.get("ended")
        return row

    def _write(self, rows: list[SweepRun]) -> None:
        write_json_atomic(self.folder / RUNS_FILE, [dataclasses.asdict(row) for row in rows])


def finished(folder: Path) -> tuple[str, float] | None:
    """Return the verdict of a run that is whole, and how long it took."""
    file = folder / REPORT_FILE
    try:
        status = file.stat()
        return _verdict_and_seconds(file, status.st_mtime_ns, status.st_size)
    except (OSError, InputError):
        return None


@functools.cache
def _verdict_and_seconds(file: Path, changed: int, size: int) -> tuple[str, float]:
    report = ForgetReport.load(file)
    return report.verdict["value"], round(sum(seconds or 0.0 for seconds in report.timings_s.values()), 2)
