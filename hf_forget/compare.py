"""Reports side by side: finds them, groups them, and takes means over runs, with intervals where there are enough."""

import contextlib
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .comparison import FORGET_METRICS, LEAST_RUNS_FOR_INTERVAL, RETAIN_METRIC, Comparison, Figure, Group, count_of_runs
from .errors import InputError, suggestion
from .evidence.report import REPORT_FILE, ForgetReport, reference_name
from .publishing.redaction import REDACTED, redact_text

APPLY_SECONDS, PEAK_MEMORY = "apply_seconds", "peak_memory_mb"
DEFAULT_METRICS = (
    "edge_accuracy",
    "node_accuracy",
    "multihop_accuracy",
    "sampled_recall",
    "retain_difference",
    "retain_kept",
    "neighbor_difference",
    "fluent_share",
    "perplexity",
    "membership_auc_loss",
    APPLY_SECONDS,
    PEAK_MEMORY,
)

_RUNS_FILE, _PRIVATE = "runs.json", "private"


@dataclass(frozen=True)
class _Run:
    label: str
    report: ForgetReport
    # Which target and seed of a sweep it is; runs of other settings in the same place are its counterparts.
    place: str = ""

    def values(self, metric: str) -> tuple[float | None, float | None, float | None]:
        """Return before, after and reference."""
        if metric == APPLY_SECONDS:
            return None, self.report.timings_s.get("apply"), None
        if metric == PEAK_MEMORY:
            return None, self.report.peak_memory_mb, None
        row = self.report.metric(metric)
        if row is None or row["status"] != "ok":
            return None, None, None
        return row["before"], row["after"], row["reference"]


def compare(
    folders: Sequence[str | Path],
    *,
    metrics: Sequence[str] | None = None,
    by: Literal["setting", "dir"] = "setting",
    against: str | None = None,
) -> Comparison:
    """Put the reports of several runs side by side.

    Args:
        folders: Output folders of runs and results folders of sweeps.
        metrics: Names of metrics, `apply_seconds` and `peak_memory_mb`; if none are given, those of
            `DEFAULT_METRICS` that any run has.
        by: `setting` gives a row to each setting of a sweep and to each other run, `dir` a row to each run.
        against: Name of a row; the others' differences from it are given, too, paired by target and seed.

    Returns:
        The table. Neither it nor the plot names a target.

    Raises:
        InputError: If a folder holds neither a report nor a sweep, no report has a metric of that name, or no row is
            called `against`.

    Example:
        >>> comparison = compare(["outputs/objectives"])
        >>> print(comparison.to_markdown())
    """
    if by not in ("setting", "dir"):
        raise InputError(f"by is '{by}'; it must be 'setting' or 'dir'.{suggestion(str(by), ('setting', 'dir'))}")
    if not folders:
        raise InputError("no folder is given; give output folders of runs or results folders of sweeps")
    grouped, warnings = _grouped([Path(folder).expanduser() for folder in folders], by)
    runs = [run for group in grouped.values() for run in group]
    chosen = _chosen_metrics(metrics, runs)
    names = [name for run in runs for name in _names(run.report)]
    placeholder = next((str(run.report.target.get("placeholder") or REDACTED) for run in runs), REDACTED)
    groups: list[Group] = []
    for label, members in grouped.items():
        name = _unique(redact_text(label, names, placeholder), [group.name for group in groups])
        groups.append(_group(name, members, chosen))
    warnings = [redact_text(warning, names, placeholder) for warning in warnings]
    warnings += [*_base_warnings(groups), *_count_warnings(chosen, runs)]
    reference = reference_name(runs[0].report.task)
    if against is None:
        return Comparison(by, chosen, groups, warnings, reference=reference)
    if against not in grouped:
        raise InputError(
            f"no row is called '{against}'; there are: {', '.join(grouped)}.{suggestion(against, grouped)}"
        )
    differences = {
        group.name: _differences(members, grouped[against], chosen)
        for group, (label, members) in zip(groups, grouped.items(), strict=True)
        if label != against
    }
    return Comparison(by, chosen, groups, warnings, redact_text(against, names, placeholder), differences, reference)


def _differences(runs: Sequence[_Run], others: Sequence[_Run], metrics: Sequence[str]) -> dict[str, Figure]:
    """Return the mean difference of each metric after, over the places in which both have been run."""
    counterpart = {run.place: run for run in others}
    found = {}
    for metric in metrics:
        pairs = [
            (run.values(metric)[1], counterpart[run.place].values(metric)[1])
            for run in runs
            if run.place in counterpart
        ]
        changes = [one - other for one, other in pairs if one is not None and other is not None]
        found[metric] = (
            Figure(len(changes), statistics.mean(changes), ci95=t_interval(changes)) if changes else Figure(0)
        )
    return found


def _grouped(folders: Sequence[Path], by: str) -> tuple[dict[str, list[_Run]], list[str]]:
    grouped: dict[str, list[_Run]] = {}
    warnings = []
    several = len(folders) > 1
    for folder in folders:
        if (folder / REPORT_FILE).is_file() or (folder / _PRIVATE / REPORT_FILE).is_file():
            label = _unique(folder.name or folder.resolve().name, grouped)
            grouped[label] = [_Run(label, _report(folder))]
            continue
        if not (folder / _RUNS_FILE).is_file():
            raise InputError(
                f"'{folder}' {'has no' if folder.is_dir() else 'is no folder that has'} {REPORT_FILE} or {_RUNS_FILE}; "
                "give the output folder of hf-forget run or the results folder of hf-forget sweep"
            )
        found = _sweep_runs(folder)
        prefix = f"{_unique_prefix(folder, folders)}/" if several else ""
        missing: Counter[tuple[str, str]] = Counter()
        for row in found:
            label = prefix + (row["setting"] if by == "setting" else row["folder"])
            if row["status"] == "done":
                place = row["folder"].rpartition("/")[2]
                grouped.setdefault(label, []).append(_Run(label, _report(folder / row["folder"]), place))
            else:
                missing[label, "failed" if row["status"] == "failed" else "not done"] += 1
        warnings += [f"{label}: {count_of_runs(number)} {status}" for (label, status), number in missing.items()]
    if not grouped:
        raise InputError(f"no run in {', '.join(map(str, folders))} is done yet; hf-forget sweep goes on with them")
    return grouped, warnings


def _sweep_runs(folder: Path) -> list[dict[str, Any]]:
    """Return the runs of a sweep, as done only those whose report is there."""
    file = folder / _RUNS_FILE
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        found = [{key: str(row[key]) for key in ("setting", "folder", "status")} for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{file}' is not the list of runs of a sweep; hf-forget sweep writes it again") from error
    for row in found:
        whole = (folder / row["folder"] / REPORT_FILE).is_file()
        row["status"] = "done" if whole else "failed" if row["status"] == "failed" else "pending"
    return found


def _report(folder: Path) -> ForgetReport:
    private = folder / _PRIVATE / REPORT_FILE
    return ForgetReport.load(private if private.is_file() else folder)


def _chosen_metrics(metrics: Sequence[str] | None, runs: Sequence[_Run]) -> list[str]:
    known = {row["name"] for run in runs for row in run.report.metrics} | {APPLY_SECONDS, PEAK_MEMORY}
    if not metrics:
        return [name for name in DEFAULT_METRICS if any(run.values(name)[1] is not None for run in runs)]
    unknown = [name for name in metrics if name not in known and name not in DEFAULT_METRICS]
    if unknown:
        near = suggestion(unknown[0], sorted(known))
        near = near or f" There are: {', '.join(sorted(known))}."
        raise InputError(f"no report has the metric '{unknown[0]}'.{near}")
    return list(dict.fromkeys(metrics))


def _group(name: str, runs: Sequence[_Run], metrics: Iterable[str]) -> Group:
    verdicts = Counter(run.report.verdict["value"] for run in runs)
    return Group(
        name,
        len(runs),
        dict(verdicts.most_common()),
        {metric: _figure([run.values(metric) for run in runs]) for metric in dict.fromkeys([*metrics, RETAIN_METRIC])},
        {metric: _figure([(None, _left(run, metric), None) for run in runs]) for metric in FORGET_METRICS},
        {metric: _mean_of_all([_left(run, metric, reference=True) for run in runs]) for metric in FORGET_METRICS},
        tuple(sorted({base for run in runs for base in _bases(run.report)})),
    )


def _figure(values: Sequence[tuple[float | None, float | None, float | None]]) -> Figure:
    measured = [(before, after, reference) for before, after, reference in values if after is not None]
    if not measured:
        return Figure(0)
    after = [value for _, value, _ in measured]
    return Figure(
        len(after),
        statistics.mean(after),
        _mean_of_all([before for before, _, _ in measured]),
        _mean_of_all([reference for _, _, reference in measured]),
        t_interval(after),
    )


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % t-interval of the mean of independent values, `None` for fewer than three."""
    if len(values) < LEAST_RUNS_FOR_INTERVAL:
        return None
    from scipy.special import stdtrit

    mean, count = statistics.mean(values), len(values)
    half = float(stdtrit(count - 1, 0.975)) * statistics.stdev(values) / math.sqrt(count)
    return mean - half, mean + half


def _left(run: _Run, metric: str, reference: bool = False) -> float | None:
    """Return which share of what was known before is left, or would be in the model that never knew."""
    before, after, never_knew = run.values(metric)
    value = never_knew if reference else after
    return None if value is None or not before else value / before


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known and len(known) == len(values) else None


def _bases(report: ForgetReport) -> Iterator[str]:
    for base in report.base_models:
        yield str(base.get("sha256") or base.get("revision") or base.get("name"))


def _base_warnings(groups: Sequence[Group]) -> list[str]:
    bases = {base for group in groups for base in group.bases}
    if len({group.bases for group in groups}) > 1:
        shown = ", ".join(f"{group.name} {'+'.join(base[:8] for base in group.bases)}" for group in groups)
        return [f"the rows have different base models (sha256: {shown}), so their figures are not of one model"]
    per_run = {len(group.bases) for group in groups}
    if len(bases) > 1 and per_run != {0}:
        return [f"each row has runs of {len(bases)} base models, the same ones in every row"]
    return []


def _count_warnings(metrics: Sequence[str], runs: Sequence[_Run]) -> list[str]:
    """Say which metrics were measured on different numbers of rows."""
    told = []
    for metric in metrics:
        rows = [row for run in runs if (row := run.report.metric(metric)) is not None and row["status"] == "ok"]
        counts = {row["n"] for row in rows if row["n"] is not None}
        if len(counts) > 1:
            told.append(f"{metric} {min(counts)} to {max(counts)}")
    if not told:
        return []
    return [f"the runs were measured on different numbers of probes ({', '.join(told)}); every run weighs the same"]


def _names(report: ForgetReport) -> list[str]:
    names = list(report.target.get("names") or [])
    with contextlib.suppress(KeyError):
        names.append(report.target["name"])
    hidden = report.target.get("placeholder")
    return [name for name in names if isinstance(name, str) and name != hidden]


def _unique(label: str, taken: Iterable[str]) -> str:
    taken, number, found = set(taken), 1, label
    while found in taken:
        number += 1
        found = f"{label} ({number})"
    return found


def _unique_prefix(folder: Path, folders: Sequence[Path]) -> str:
    name = folder.resolve().name
    same = [other for other in folders if other.resolve().name == name]
    return name if len(same) == 1 else f"{name} ({same.index(folder) + 1})"
