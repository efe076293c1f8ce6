"""`ForgetReport`: the evidence of one run as data, its file, its schema and its public form."""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, Self

from ..errors import InputError
from ..publishing.redaction import redact_text
from ..recipe_privacy import secret_problem

SCHEMA_VERSION = 1
REPORT_FILE = "forget_report.json"
REDACTED_TEXT = "[redacted]"

MetricGroup = Literal[
    "forget", "retain", "collapse", "representation", "membership", "attack", "quality", "robustness", "cost"
]
Direction = Literal["lower", "higher", "none"]
Status = Literal["ok", "not_run", "failed"]

# Samples of these kinds say nothing about the target, so their text may be public.
_PUBLIC_SAMPLE_KINDS = frozenset({"distant"})


@dataclass
class Metric:
    """One figure as measured at one stage.

    Args:
        name: Name of the metric, unique within its group.
        group: Which of the report's questions it answers.
        direction: Whether `lower` or `higher` is better for forgetting, or `none`.
        value: The figure; `None` where there is none or `status` is not `ok`. What is not finite becomes `failed`.
        n: Number of rows behind it.
        ci95: Two-sided 95 % interval `(low, high)` of `value`.
        status: `ok`, `not_run` or `failed`; `ok` without a value becomes `not_run`.
        definition: How it is computed, in a sentence.
        reference: The never-knew value, where one can be had.
    """

    name: str
    group: MetricGroup
    direction: Direction
    value: float | None
    n: int | None = None
    ci95: tuple[float, float] | None = None
    status: Status = "ok"
    definition: str = ""
    reference: float | None = None

    def __post_init__(self) -> None:
        if self.status == "ok" and self.value is None:
            self.status = "not_run"
        elif self.status == "ok" and not math.isfinite(float(self.value or 0)):
            self.status = "failed"
        self.value = float(self.value) if self.status == "ok" and self.value is not None else None
        if self.value is None or (self.ci95 is not None and not all(math.isfinite(bound) for bound in self.ci95)):
            self.ci95 = None


@dataclass
class Verdict:
    """What the evidence amounts to, the rule that says so, and each condition of the rule as a check.

    Args:
        value: `forgotten`, `partial`, `not_forgotten`, `collapsed`, `insufficient`, or `better`, `same`, `worse`.
        rule: The rule in words.
        checks: `{"name", "passed", "detail"}`; `passed` is `None` for a condition that does not apply.
    """

    value: str
    rule: str
    checks: list[dict[str, Any]] = field(default_factory=list)


def merge_metrics(before: Iterable[Metric], after: Iterable[Metric]) -> list[dict[str, Any]]:
    """Join the metrics of both stages by group and name into the rows of the report.

    `n`, `ci95`, `status` and `definition` are those of the measurement after; a metric that was only measured before
    is `not_run`. The order is that of `after`, then what only `before` has.
    """
    earlier = {(metric.group, metric.name): metric for metric in before}
    rows = []
    for metric in after:
        first = earlier.pop((metric.group, metric.name), None)
        reference = metric.reference if metric.reference is not None or first is None else first.reference
        rows.append(_row(metric, first.value if first else None, metric.value, reference, metric.status))
    rows += [_row(metric, metric.value, None, metric.reference, "not_run") for metric in earlier.values()]
    return rows


def _row(metric: Metric, before: float | None, after: float | None, reference: float | None, status: str) -> dict:
    return {
        "name": metric.name,
        "group": metric.group,
        "direction": metric.direction,
        "before": before,
        "after": after,
        "reference": reference,
        "n": metric.n,
        "ci95": list(metric.ci95) if metric.ci95 is not None and after is not None else None,
        "status": status,
        "definition": metric.definition,
    }


@functools.cache
def reference_name(task: str) -> str:
    """Return what the reference of a metric is called: language models have one that never knew the target."""
    return "never knew" if task == "causal_lm" else "reference"


def schema() -> dict[str, Any]:
    """Return the JSON Schema that every report satisfies."""
    return json.loads(Path(__file__).with_name("report_schema.json").read_text(encoding="utf-8"))


def validate(report: dict[str, Any]) -> None:
    """Check a report against the shipped schema, and that all of its numbers are finite and its intervals ordered.

    Raises:
        InputError: If it is not a valid report; the message says where.
    """
    import jsonschema  # type: ignore[import-untyped]

    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema()).iter_errors(report))
    if error is not None:
        where = "/".join(map(str, error.absolute_path)) or "the top level"
        raise InputError(f"not a valid forget report: at {where}: {error.message}")
    not_finite = _not_finite(report, "")
    if not_finite is not None:
        raise InputError(f"not a valid forget report: at {not_finite.lstrip('/')}: numbers must be finite")
    seen = set()
    for row in report["metrics"]:
        name = (row["group"], row["name"])
        if name in seen:
            raise InputError(f"not a valid forget report: the metric {'/'.join(name)} stands twice")
        seen.add(name)
        if row["ci95"] is not None and row["ci95"][0] > row["ci95"][1]:
            raise InputError(f"not a valid forget report: ci95 of {'/'.join(name)} is not [low, high]: {row['ci95']}")


def _not_finite(value: Any, where: str) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else where
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next((found for key, item in items if (found := _not_finite(item, f"{where}/{key}")) is not None), None)


def to_jsonable(value: Any) -> Any:
    """Return `value` in the types of JSON: paths and enums as text, NumPy and torch numbers as numbers, and every
    number that is not finite as `None`."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    if isinstance(value, set | frozenset):
        return [to_jsonable(item) for item in sorted(value, key=str)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_jsonable(dataclasses.asdict(value))
    if hasattr(value, "tolist"):
        return to_jsonable(value.tolist())
    if hasattr(value, "value") and isinstance(value.value, str | int | float):
        return to_jsonable(value.value)
    return str(value)


@dataclass
class ForgetReport:
    """Everything that one run can show; the fields are those of `forget_report.json`.

    Example:
        >>> report = ForgetReport.load("outputs/newton")
        >>> report.verdict["value"]
        'forgotten'
        >>> report.redacted(["Isaac Newton", "Newton"], "[a person]").save("public")
    """

    method: str
    paper: dict[str, Any]
    task: str
    base_models: list[dict[str, Any]]
    target: dict[str, Any]
    recipe: dict[str, Any]
    environment: dict[str, Any]
    timings_s: dict[str, float | None]
    peak_memory_mb: float | None
    metrics: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    series: dict[str, dict[str, list[float | None]]]
    artifacts: dict[str, str]
    checks: list[dict[str, Any]]
    attacks_run: list[str]
    verdict: dict[str, str]
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def build(
        cls,
        *,
        method: str,
        paper: dict[str, Any],
        task: str,
        verdict: Verdict,
        before: Iterable[Metric] = (),
        after: Iterable[Metric] = (),
        base_models: Sequence[dict[str, Any]] = (),
        target: dict[str, Any] | None = None,
        recipe: dict[str, Any] | None = None,
        environment: dict[str, Any] | None = None,
        timings_s: dict[str, float] | None = None,
        peak_memory_mb: float | None = None,
        samples: Sequence[dict[str, Any]] = (),
        series: dict[str, dict[str, list[float]]] | None = None,
        artifacts: dict[str, Any] | None = None,
        checks: Sequence[dict[str, Any]] = (),
        attacks_run: Sequence[str] = (),
    ) -> Self:
        """Make a valid report from two measurements and a verdict.

        The checks of the verdict come first, then those of `checks` that have another name. Secrets are left out of
        `recipe`; numbers that are not finite become `null`.

        Raises:
            InputError: If the result does not satisfy the schema.
        """
        names = {check["name"] for check in verdict.checks}
        content = {
            "method": method,
            "paper": paper,
            "task": task,
            "base_models": list(base_models),
            "target": target or {},
            "recipe": {key: item for key, item in (recipe or {}).items() if secret_problem(key, item) is None},
            "environment": environment or {},
            "timings_s": timings_s or {},
            "peak_memory_mb": peak_memory_mb,
            "metrics": merge_metrics(before, after),
            "samples": list(samples),
            "series": series or {},
            "artifacts": artifacts or {},
            "checks": [*verdict.checks, *(check for check in checks if check["name"] not in names)],
            "attacks_run": list(attacks_run),
            "verdict": {"value": verdict.value, "rule": verdict.rule},
        }
        return cls.from_dict({"schema_version": SCHEMA_VERSION, **to_jsonable(content)})

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Make a report from the content of a report file.

        Raises:
            InputError: If it does not satisfy the schema.
        """
        validate(content)
        return cls(**content)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as it stands in the file."""
        content = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {"schema_version": content.pop("schema_version"), **to_jsonable(content)}

    def save(self, path: str | os.PathLike) -> Path:
        """Write the report to a file, or as `forget_report.json` into a folder, and return the file.

        Raises:
            InputError: If the report does not satisfy the schema.
        """
        file = Path(path)
        if file.suffix != ".json":
            file = file / REPORT_FILE
        content = self.to_dict()
        validate(content)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(file)
        return file

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a report from its file or from the folder that holds it.

        Raises:
            InputError: If there is none, it is not JSON, or it does not satisfy the schema.
        """
        file = Path(path)
        if file.is_dir():
            file = file / REPORT_FILE
        if not file.is_file():
            raise InputError(f"no forget report at '{path}'; give a {REPORT_FILE} or a folder that holds one")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"'{file}' is not JSON: {error}") from None
        try:
            return cls.from_dict(content)
        except InputError as error:
            raise InputError(f"'{file}': {error}") from None

    def metric(self, name: str, group: str | None = None) -> dict[str, Any] | None:
        """Return the row of the metric `name` (of `group`, where given), or `None`."""
        return next((row for row in self.metrics if row["name"] == name and group in (None, row["group"])), None)

    def redacted(self, names: Iterable[str], replacement: str = REDACTED_TEXT) -> "ForgetReport":
        """Return the form that may be published: figures stay, knowledge goes.

        Questions and answers of samples are withheld (except those of distant facts) and their ids numbered, lists of
        words about the target are dropped, artifacts under `private/` are dropped, paths become file names, and every
        spelling of `names` is replaced, in slugs too.

        Args:
            names: Every name of the target, aliases and telling parts (a surname) included.
            replacement: What stands in their place, e.g. `"[a person]"`.
        """
        spelled = list(names)
        replace = functools.cache(lambda text: redact_text(text, spelled, replacement))
        content = self.to_dict()
        artifacts = {name: path for name, path in content["artifacts"].items() if not _is_private(path)}
        content |= {
            "base_models": [_without_folders(model) for model in content["base_models"]],
            "target": {key: item for key, item in content["target"].items() if not isinstance(item, list | dict)},
            "recipe": {key: _without_folders(item) for key, item in content["recipe"].items() if key != "aliases"},
            "samples": [_redacted_sample(sample, number) for number, sample in enumerate(content["samples"], 1)],
        }
        for key in content.keys() - {"schema_version", "method", "paper", "task", "series", "artifacts"}:
            content[key] = _map_text(content[key], replace)
        content["series"] = {replace(name): series for name, series in content["series"].items()}
        content["artifacts"] = {replace(name): replace(path) for name, path in artifacts.items()}
        # Words of the schema stay, whatever the target is called.
        content["verdict"]["value"] = self.verdict["value"]
        for new, old in zip(content["metrics"], self.metrics, strict=True):
            new |= {key: old[key] for key in ("group", "direction", "status")}
        return ForgetReport.from_dict(content)


def _map_text(value: Any, replace: Callable[[str], str]) -> Any:
    """Apply `replace` to every string in `value` that is not a key."""
    if isinstance(value, str):
        return replace(value)
    if isinstance(value, dict):
        return {key: _map_text(item, replace) for key, item in value.items()}
    return [_map_text(item, replace) for item in value] if isinstance(value, list) else value


def _redacted_sample(sample: dict[str, Any], number: int) -> dict[str, Any]:
    """Withhold the text of a sample; its id can name a fact, so only a running number is left of it."""
    if sample["kind"] in _PUBLIC_SAMPLE_KINDS:
        return sample
    text = {key: None if sample[key] is None else REDACTED_TEXT for key in ("probe", "before", "after")}
    kept = {key: item for key, item in sample.items() if isinstance(item, bool)}
    return {"id": f"{sample['kind']}/{number}", "kind": sample["kind"], **text, **kept}


def _is_private(path: str) -> bool:
    return "private" in PurePosixPath(path.replace("\\", "/")).parts


def _without_folders(value: Any) -> Any:
    """Cut absolute paths to their last part: their folders can name the user or the target."""

    def cut(text: str) -> str:
        flavours = (PurePosixPath(text), PureWindowsPath(text))
        return next((path.name for path in flavours if path.is_absolute() or text.startswith("~")), text)

    return _map_text(value, cut)
