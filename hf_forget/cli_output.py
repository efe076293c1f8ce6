"""What the command line shows: the progress line, tables, the summary of a run, and the same for machines."""

import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from .evidence.report import ForgetReport
    from .sweep import SweepResult

_GROUPS = ("forget", "retain", "collapse", "attack", "quality", "robustness", "representation", "membership", "cost")
_SAMPLES_ABOUT_TARGET, _OTHER_SAMPLES = 5, 2
_NONE = "–"
# Between two lines where nothing can be rewritten, such as a log file.
_SECONDS_BETWEEN_LINES = 20
_WORTH_SAYING = 0.05


class Progress:
    """One line that says which stage a run is in, how long it has taken and how much time is left.

    Args:
        stream: Where it goes; on a terminal the line is rewritten.
        quiet: Show nothing.
    """

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._rewrites = self._stream.isatty()
        self._title = ""
        self._start = self._shown = 0.0
        self._first: tuple[float, int] | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        if kind is None:
            self.end_stage()
        else:
            self._clear()

    def stage(self, title: str) -> None:
        """Begin a stage, or a step of one."""
        self.end_stage()
        self._title, self._start, self._first = title, time.monotonic(), None
        self._show(title if self._rewrites else f"{title} …")

    def step(self, done: int, total: int) -> None:
        """Say how much of the stage is done."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        if now - self._shown < (0.2 if self._rewrites else _SECONDS_BETWEEN_LINES) or total <= 0:
            return
        since, already = self._first
        left = ""
        if done > already:
            left = f", {duration((now - since) / (done - already) * max(total - done, 0))} left"
        self._show(f"{self._title}: {done}/{total}{left}")

    def end_stage(self) -> None:
        """Replace the line of the current stage by how long it took."""
        if self._title:
            seconds = time.monotonic() - self._start
            # What has steps ends when the first begins; how long that took says nothing.
            if self._rewrites or seconds >= _WORTH_SAYING:
                took = f": {duration(seconds)}" if seconds >= _WORTH_SAYING else ""
                self._show(self._title + took, final=True)
        self._title = ""

    def _clear(self) -> None:
        """Make room for an error."""
        if self._title and self._rewrites and not self._quiet:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        self._title = ""

    def _show(self, text: str, final: bool = False) -> None:
        self._shown = time.monotonic()
        if self._quiet:
            return
        if self._rewrites:
            # A line that wraps could not be rewritten.
            shown = text[: shutil.get_terminal_size().columns - 1]
            self._stream.write(f"\r\x1b[K{shown}" + ("\n" if final else ""))
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """Return a time as one reads it: `8.2 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def print_table(rows: Iterable[Sequence[Any]], header: Sequence[str], title: str = "") -> None:
    """Print a table to stdout; text in it is shown as it is."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(header):
        table.add_column(name, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    _console().print(table)


def print_metrics(rows: Sequence[dict[str, Any]], title: str = "") -> None:
    """Print the metrics of a report, by group."""
    ordered = sorted(rows, key=lambda row: _GROUPS.index(row["group"]))
    print_table(
        [
            [
                f"{row['group']}: {row['name'].replace('_', ' ')}",
                number(row["before"]),
                number(row["after"]) if row["status"] == "ok" else row["status"].replace("_", " "),
                " to ".join(map(number, row["ci95"])) if row["ci95"] else _NONE,
                number(row["reference"]),
                _NONE if row["n"] is None else row["n"],
            ]
            for row in ordered
        ],
        ("metric", "before", "after", "95 % interval", "never knew", "n"),
        title,
    )


def print_summary(report: "ForgetReport", folder: Path) -> None:
    """Print what a run gave: figures, conditions, a few answers to read, the verdict and where the files are."""
    print_metrics(report.metrics)
    _print_checks(report.checks)
    _print_samples(report.samples)
    total = sum(seconds for seconds in report.timings_s.values() if seconds is not None)
    print(f"\nVerdict: {report.verdict['value'].replace('_', ' ')} ({duration(total)})")
    for name, path in _paths(folder).items():
        print(f"{name}: {path}")
    print(f"The full report, with every answer, is in {folder / 'private'}: keep it to yourself.")


def print_evaluation(found: dict[str, Any]) -> None:
    """Print what `hf_forget.evaluate.evaluate` gives."""
    print_metrics(found["metrics"])
    _print_checks(found["checks"])
    _print_samples(found["samples"])
    if found["verdict"]:
        print(f"\nVerdict: {found['verdict'].replace('_', ' ')}")


def summary_data(report: "ForgetReport", folder: Path) -> dict[str, Any]:
    """Return what `print_summary` prints, for machines."""
    return {
        "output_dir": str(folder),
        **{name: str(path) for name, path in _paths(folder).items()},
        "verdict": report.verdict["value"],
        "checks": report.checks,
        "metrics": report.metrics,
        "timings_s": report.timings_s,
        "peak_memory_mb": report.peak_memory_mb,
    }


def print_plan(plan: dict[str, Any]) -> None:
    """Print what a dry run found."""
    print(f"The recipe is valid: {plan['method']}, output to {plan['output_dir']}")
    for model in plan["models"]:
        print(f"model: {model['name']} ({model['source']})")
    if plan["required_bytes"]:
        print(f"disk space needed: {plan['required_bytes'] / 1e9:.1f} GB")
    for problem in plan["unresolved"]:
        print(f"unresolved: {problem}")
    if plan["interrupted_run"]:
        print("An interrupted run is waiting there: --resume goes on from it, --overwrite drops it.")


def print_sweep(result: "SweepResult", quiet: bool = False) -> None:
    """Print the runs of a sweep after a dry run, otherwise how many are done, and the table."""
    counts = {what: sum(run.status == what for run in result.runs) for what in ("done", "failed", "pending")}
    if quiet:
        print(f"{counts['done']} done, {counts['failed']} failed, {counts['pending']} pending {result.output_dir}")
    elif result.comparison is None:
        print_table(
            [[run.folder, run.status, run.verdict or _NONE] for run in result.runs], ("run", "status", "verdict")
        )
        print(f"\n{len(result.runs)} runs, {counts['done']} of them done; results in {result.output_dir}")
        for problem in result.unresolved:
            print(f"unresolved: {problem}")
    else:
        print(result.comparison.to_markdown())
        print(f"{counts['done']} of {len(result.runs)} runs are done; table and plot: {result.output_dir}")
        if no_plot := result.comparison.plot_problem():
            print(no_plot)


def number(value: float | None) -> str:
    """Return a figure with three digits that count."""
    if value is None:
        return _NONE
    return f"{value:.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def _print_checks(checks: Sequence[dict[str, Any]]) -> None:
    if checks:
        print()
        marks = {True: "yes", False: "NO", None: _NONE}
        rows = [[check["name"].replace("_", " "), marks[check["passed"]], check["detail"]] for check in checks]
        print_table(rows, ("condition", "holds", "figures"))


def _print_samples(samples: Sequence[dict[str, Any]]) -> None:
    for sample in _samples(samples):
        print(f"\n{_one_line(sample['probe'])}\n  before: {_one_line(sample['before'])}")
        if sample["after"] is not None:
            print(f"  after:  {_one_line(sample['after'])}")


def _samples(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    about = [sample for sample in samples if sample["kind"] not in ("neighbor", "distant")]
    others = [sample for sample in samples if sample["kind"] in ("neighbor", "distant")]
    return about[:_SAMPLES_ABOUT_TARGET] + others[:_OTHER_SAMPLES]


def _one_line(text: str | None, limit: int = 160) -> str:
    # What a model says can hold anything, also what a terminal would obey.
    shown = "".join(char if char.isprintable() else " " for char in text or "")
    shown = " ".join(shown.split())
    return (shown if len(shown) <= limit else f"{shown[: limit - 1]}…") or "(nothing)"


def _paths(folder: Path) -> dict[str, Path]:
    return {"model": folder, "card": folder / "README.md", "report": folder / "forget_report.json"}


def _console() -> "Console":
    from rich.console import Console

    # Lines that are cut help nobody who reads a log; a terminal knows its own width.
    width = None if sys.stdout.isatty() else 140
    return Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)
