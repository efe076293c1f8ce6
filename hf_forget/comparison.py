"""A table of runs side by side: its rows and figures, as Markdown, as data and as a plot."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import HfForgetError
from .evidence.report import reference_name
from .output import write_json_atomic, write_text_atomic

TABLE_FILE, DATA_FILE, PLOT_FILE = "table.md", "table.json", "forget_vs_retain.png"
LEAST_RUNS_FOR_INTERVAL = 3
# What the plot shows: what is left of the first that most rows have, against the change of the rest.
FORGET_METRICS, RETAIN_METRIC = ("by_wording_rate", "edge_accuracy"), "retain_difference"

_NONE = "–"
_INTERVAL = (
    "95 % t-interval of the mean after, over runs taken as independent, where at least "
    f"{LEAST_RUNS_FOR_INTERVAL} runs have the figure"
)


@dataclass(frozen=True)
class Figure:
    """One metric over the runs of a row.

    Args:
        runs: Number of runs that have it.
        after: Mean over these runs.
        before: Mean over the same runs before; `None` where not all of them have one.
        reference: Mean of the never-knew values; `None` where not all of them have one.
        ci95: t-interval of `after` over runs; `None` with fewer than three.
    """

    runs: int
    after: float | None = None
    before: float | None = None
    reference: float | None = None
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Group:
    """One row of the table.

    Args:
        name: The setting or the folder, without any target's name.
        runs: Number of runs.
        verdicts: Number of runs by verdict, the commonest first.
        figures: The metrics by name.
        forget: Share of what was known before that is left, by metric; the plot's upright axis.
        forget_reference: The same of the model that never knew.
        bases: The base models, by hash.
    """

    name: str
    runs: int
    verdicts: dict[str, int]
    figures: dict[str, Figure]
    forget: dict[str, Figure]
    forget_reference: dict[str, float | None]
    bases: tuple[str, ...]


@dataclass
class Comparison:
    """Reports side by side.

    Args:
        by: What a row is: `setting` or `dir`.
        metrics: The columns.
        groups: The rows.
        warnings: What limits the comparison, in sentences.
        against: The row that the others are compared with, if any.
        differences: For each other row the mean difference of each metric from that row, over pairs of runs.
        reference: What the reference beside a figure is called.
    """

    by: str
    metrics: list[str]
    groups: list[Group]
    warnings: list[str]
    against: str | None = None
    differences: dict[str, dict[str, Figure]] = field(default_factory=dict)
    reference: str = reference_name("causal_lm")

    def to_markdown(self) -> str:
        """Return the table, what its figures mean, and the warnings."""
        title = "setting" if self.by == "setting" else "folder"
        lines = [
            _line([title, "runs", "verdicts", *self.metrics]),
            _line(["---"] * (3 + len(self.metrics))),
            *(
                _line(
                    [group.name, str(group.runs), _verdicts(group), *(self._cell(group, name) for name in self.metrics)]
                )
                for group in self.groups
            ),
            "",
            f"Means over the runs: before → after. In brackets the {_INTERVAL}; else none. {_NONE}: not measured. "
            "Differences are in points.",
        ]
        lines += self._difference_lines()
        return "\n".join([*lines, *(f"\nWarning: {warning}" for warning in self.warnings)]) + "\n"

    def _cell(self, group: Group, metric: str) -> str:
        figure = group.figures[metric]
        if figure.after is None:
            return _NONE
        text = _number(figure.after)
        if figure.before is not None:
            text = f"{_number(figure.before)} → {text}"
        if figure.ci95 is not None:
            text += f" [{_number(figure.ci95[0])}, {_number(figure.ci95[1])}]"
        if figure.reference is not None:
            text += f" ({self.reference}: {_number(figure.reference)})"
        return text if figure.runs == group.runs else f"{text} ({count_of_runs(figure.runs)})"

    def _difference_lines(self) -> list[str]:
        if self.against is None:
            return []
        return [
            "",
            _line([f"minus {self.against}", "pairs", *self.metrics]),
            _line(["---"] * (2 + len(self.metrics))),
            *(
                _line(
                    [
                        name,
                        str(max(figure.runs for figure in figures.values())),
                        *map(_difference_cell, figures.values()),
                    ]
                )
                for name, figures in self.differences.items()
            ),
            "",
            f"Differences of the figures after from those of {self.against}, paired by target and seed, with their "
            "95 % t-intervals; what is smaller than half an interval could not have been detected.",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the table in the types of JSON, missing figures as `None`."""
        return {
            "by": self.by,
            "metrics": self.metrics,
            "interval": _INTERVAL,
            "groups": [
                {
                    "name": group.name,
                    "runs": group.runs,
                    "verdicts": group.verdicts,
                    "metrics": {name: _figure_data(group.figures[name]) for name in self.metrics},
                }
                for group in self.groups
            ],
            "against": self.against,
            "differences": {
                name: {metric: _figure_data(figure) for metric, figure in figures.items()}
                for name, figures in self.differences.items()
            },
            "warnings": self.warnings,
        }

    def plot_problem(self) -> str | None:
        """Return why there can be no plot, or `None`."""
        if not self._plotted()[1]:
            return f"no plot: no row has both {RETAIN_METRIC} and one of {', '.join(FORGET_METRICS)}"
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            return "no plot: matplotlib is not installed; pip install 'hf-forget[eval]'"
        return None

    def plot(self, path: str | Path) -> Path:
        """Draw what is left of the knowledge against what was lost elsewhere, one point per row, into a PNG file.

        Upright stands `by_wording_rate` after / before (`edge_accuracy` where that is missing), to the right
        `retain_difference`; bars are the intervals of the table, the dashed line is the model that never knew.

        Raises:
            HfForgetError: If no row has both figures, or matplotlib is not installed.
        """
        if problem := self.plot_problem():
            raise HfForgetError(problem)
        from matplotlib.figure import Figure as Drawing

        metric, groups = self._plotted()
        drawing = Drawing(figsize=(8.5, 5), layout="constrained")
        axes = drawing.add_subplot()
        for number, group in enumerate(groups):
            retain, forget = group.figures[RETAIN_METRIC], group.forget[metric]
            if retain.after is None or forget.after is None:
                continue
            axes.errorbar(
                [retain.after],
                [forget.after],
                xerr=_half(retain),
                yerr=_half(forget),
                fmt="osD^vPX*<>"[number // 10 % 10],
                color=f"C{number % 10}",
                markersize=8,
                capsize=4,
                # A dollar would begin a formula, and a label with an underscore in front is not shown.
                label=" " + group.name.replace("$", r"\$"),
            )
        references = [value for group in groups if (value := group.forget_reference[metric]) is not None]
        if references:
            axes.axhline(statistics.mean(references), color="black", linestyle="--", label=" never knew")
        axes.axvline(0, color="0.8", zorder=0)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.set_xlabel("change of accuracy on retain rows (points; further right is better)")
        axes.set_ylabel(f"{metric.replace('_', ' ')}: after / before (lower is better)")
        drawing.legend(loc="outside right upper", fontsize=9)
        temporary = Path(path).with_name(f".{Path(path).name}.tmp")
        drawing.savefig(temporary, dpi=150, format="png")
        return temporary.replace(path)

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Write `table.md`, `table.json` and, where there can be one, the plot; return the files by name."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomic(folder / TABLE_FILE, self.to_markdown())
        write_json_atomic(folder / DATA_FILE, self.to_dict())
        written = {"table": folder / TABLE_FILE, "data": folder / DATA_FILE}
        if self.plot_problem() is None:
            written["plot"] = self.plot(folder / PLOT_FILE)
        return written

    def _plotted(self) -> tuple[str, list[Group]]:
        """Return the forget metric that most rows have, and these rows."""
        found = [
            (
                metric,
                [
                    g
                    for g in self.groups
                    if g.figures[RETAIN_METRIC].after is not None and g.forget[metric].after is not None
                ],
            )
            for metric in FORGET_METRICS
        ]
        return max(found, key=lambda item: len(item[1]))


def count_of_runs(count: int) -> str:
    """Return `1 run`, `2 runs` …"""
    return f"{count} run{'s' if count > 1 else ''}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _verdicts(group: Group) -> str:
    return ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in group.verdicts.items())


def _difference_cell(figure: Figure) -> str:
    if figure.after is None:
        return _NONE
    text = f"{'+' if figure.after > 0 else ''}{_number(figure.after)}"
    return text if figure.ci95 is None else f"{text} [{_number(figure.ci95[0])}, {_number(figure.ci95[1])}]"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def _figure_data(figure: Figure) -> dict[str, Any]:
    return {
        "runs": figure.runs,
        "before": figure.before,
        "after": figure.after,
        "reference": figure.reference,
        "ci95": None if figure.ci95 is None else list(figure.ci95),
    }


def _half(figure: Figure) -> list[float] | None:
    return None if figure.ci95 is None else [(figure.ci95[1] - figure.ci95[0]) / 2]
