"""The model card: what was forgotten, how that was measured, what was not tested, and how to use the model."""

import contextlib
import math
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.assets import PREFIX, get_asset
from ..errors import AssetError, InputError
from ..evidence.report import reference_name
from .redaction import contains_any, looks_like_token, redact_text

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

DATASET_NAME = "hf_forget probes"
_TEMPLATE = Path(__file__).with_name("templates") / "forget_card.md.jinja"
_DASH = "–"

# Task of the report → pipeline tag and library of the Hub, and the class that the loading example uses.
_TASKS = {
    "causal_lm": ("text-generation", "transformers", "AutoModelForCausalLM"),
    "text_classification": ("text-classification", "transformers", "AutoModelForSequenceClassification"),
    "image_classification": ("image-classification", "transformers", "AutoModelForImageClassification"),
    "diffusion": ("unconditional-image-generation", "diffusers", "DiffusionPipeline"),
}
_ORIGINS = {"hub": "the Hub", "invented": "an invented world", "recipe": "training by the recipe"}
_QUESTIONS = {
    "Is it gone?": ("forget", "representation", "membership"),
    "Is the rest intact?": ("retain", "quality", "robustness"),
    "Is the model still healthy?": ("collapse",),
    "Does it come back?": ("attack",),
    "What did it cost?": ("cost",),
}
_TYPES = ("person", "place", "work", "event", "organization", "thing", "class", "concept")
_JUDGEMENTS = ("better", "same", "worse")
_PUBLIC_SAMPLE_KINDS = ("distant",)
_SAMPLES_OF_EACH = 3
_HUB_LICENCE = re.compile(
    r"apache-2\.0|mit|bsd(-[23]-clause)?|[al]?gpl-3\.0|mpl-2\.0|cc0-1\.0|cc-by(-nc)?(-sa)?-4\.0|unlicense"
    r"|((creativeml|bigscience)-)?openrail(-m)?|llama(2|3|3\.[123]|4)|gemma|unknown|other"
)
_ACCEPTED = {
    "base_model_relation": "adapter|finetune|merge|quantized",
    "language": "[a-z]{2,3}|code|multilingual",
    "library_name": "[a-z0-9-]+",
    "pipeline_tag": "[a-z0-9-]+",
}

_RATE = re.compile(r"accuracy|(?<!learning_)rate\b|recall|share|probability|memorization|fluen|error|coverage")
_NO_RATE = re.compile(r"rouge|auc|ratio|difference|recovery|loss|entropy|perplexity|distance|rank|seconds|steps")
_ESCAPED = re.compile(r"[&<>`|$\\*~\[\]{}@^]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def render_card(
    report: dict[str, Any],
    *,
    publish_target: bool = False,
    repo_id: str | None = None,
    base_licence: str | None = None,
    names: Iterable[str] = (),
) -> "ModelCard":
    """Return the model card of a run.

    Questions and answers about the target never stand in it, whether or not the report was redacted before. The name
    itself does only with `publish_target`.

    Args:
        report: The content of a forget report, redacted or full; of any method.
        publish_target: Name the target; otherwise it is described by its type.
        repo_id: The repository on the Hub that the card is for, `user/name`.
        base_licence: Licence of the base model; known without it for embedded models.
        names: Names of the target, in addition to those in `report["target"]`, that must not stand in the card.

    Raises:
        InputError: If `repo_id` is no valid name of a repository.
    """
    from huggingface_hub import ModelCard

    target = _Target.of(report.get("target") or {}, names, publish_target)
    bases = [_base(model, target) for model in report.get("base_models", [])]
    if repo_id is not None and not _is_repo_id(repo_id):
        raise InputError(f"'{repo_id}' is no name of a repository on the Hub; give one such as 'user/my-model'")
    if repo_id and target.hidden and contains_any(repo_id, target.names):
        repo_id = None
    licence = inline(base_licence or next((base["licence"] for base in bases if base["licence"]), ""))
    metadata = _metadata(report, bases, repo_id, licence, target)
    context = _context(report, bases, target) | {"licence": licence, "repo": repo_id or "path/to/this/folder"}
    card = ModelCard.from_template(metadata, template_path=str(_TEMPLATE), **context)
    card.text = re.sub(r"\n{3,}", "\n\n", card.text).rstrip() + "\n"
    return card


def card_metadata_problems(text: str) -> list[str]:
    """Return what the Hub would not accept in the metadata of a whole card, without asking it; empty if nothing."""
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard import REGEX_YAML_BLOCK, metadata_load

    if not REGEX_YAML_BLOCK.search(text):
        return ["the card has no metadata block between two lines of ---"]
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "README.md")
            file.write_text(text, encoding="utf-8", newline="")
            metadata, card = metadata_load(file) or {}, ModelCard.load(file)
    except Exception as error:  # YAML's errors and the Hub client's have no common base
        return [f"the metadata cannot be read: {error}"]
    return [*_key_problems(metadata), *_model_index_problems(metadata.get("model-index"), card.data)]


def inline(text: Any, limit: int = 300) -> str:
    """Return text of unknown origin in a form that says the same in one line of Markdown and can do nothing else there.

    Mark-up, HTML, table cells, maths, links, mentions and template tags become plain characters; control characters go.

    Args:
        text: What a model, a user or a file said.
        limit: Longest result in characters of `text`; more is cut with `…`.
    """
    visible = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in str(text)[: 4 * limit])
    plain = " ".join(visible.split())
    if len(plain) > limit:
        plain = plain[: limit - 1].rstrip() + "…"
    plain = _ESCAPED.sub(_as_entity, plain)
    plain = re.sub(r":(?=//)", _as_entity, plain)
    plain = re.sub(r"(?i)(?<=\bwww)\.", _as_entity, plain)
    # Signs that mean something only where a line begins: headings, lists, rules.
    plain = re.sub(r"^(?:#(?=[#\s]|$)|[-+=](?=[-+=\s]|$))", _as_entity, plain)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", lambda match: f"{match[1]}&#{ord(match[2])};", plain)


def _as_entity(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};"


@dataclass(frozen=True)
class _Target:
    """What was forgotten, and how the card may speak of it."""

    names: tuple[str, ...]
    phrase: str
    hidden: bool

    @classmethod
    def of(cls, target: dict[str, Any], names: Iterable[str], publish: bool) -> "_Target":
        keys = ("name", "names", "concept", "concepts", "class", "classes")
        main = list(dict.fromkeys(name for key in keys for name in _texts(target.get(key))))
        every = (*main, *_texts(target.get("aliases")), *names)
        # What stands in brackets is a replacement already, such as `[a person]`.
        known = tuple(dict.fromkeys(name for name in every if not re.fullmatch(r"\s*\[.*\]\s*", name)))
        if publish and main:
            return cls(known, " and ".join(inline(name) for name in main), False)
        given = next((target[key] for key in ("type", "concept_type") if target.get(key) in _TYPES), "concept")
        article = "an" if given[0] in "aeiou" else "a"
        phrase = f"{article} {given}" if len(main) < 2 else f"{len(main)} targets ({given})"
        return cls(known, phrase, not publish)

    def redact(self, text: Any) -> str:
        return redact_text(str(text), self.names, f"[{self.phrase}]") if self.hidden else str(text)

    def say(self, text: Any, limit: int = 300) -> str:
        """Return a text as the card may show it."""
        return "&#91;withheld&#93;" if looks_like_token(str(text)) else inline(self.redact(text), limit)


def _base(model: dict[str, Any], target: _Target) -> dict[str, Any]:
    """Return what the card says of a base model: its name, its id on the Hub if any, and where its weights are from."""
    name, source = str(model.get("name", "")), str(model.get("source", ""))
    hub_id, licence = (name if source == "hub" and _is_repo_id(name) else None), None
    if name.startswith(PREFIX):
        with contextlib.suppress(AssetError):
            asset = get_asset(name)
            hub_id, licence = next(iter(asset.relatives), None), asset.licence
    if hub_id and target.hidden and contains_any(hub_id, target.names):
        hub_id = None
    return {
        "name": target.say(hub_id or (Path(name).name if source == "local" else name) or "unnamed"),
        "hub_id": hub_id,
        "licence": licence,
        "origin": "an embedded model" if name.startswith(PREFIX) else _ORIGINS.get(source, "a local folder"),
        "weights": target.say(model.get("sha256") or model.get("revision") or _DASH),
        "dtype": target.say(model.get("dtype") or _DASH),
    }


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def _texts(value: Any) -> list[str]:
    return [item for item in _as_list(value) if isinstance(item, str) and item.strip()]


def _is_repo_id(name: str) -> bool:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _metadata(
    report: dict[str, Any], bases: list[dict[str, Any]], repo_id: str | None, licence: str, target: _Target
) -> "ModelCardData":
    from huggingface_hub import ModelCardData

    tag, library, _ = _TASKS.get(report.get("task", ""), _TASKS["causal_lm"])
    hub_ids = list(dict.fromkeys(base["hub_id"] for base in bases if base["hub_id"]))
    results = list(_eval_results(report, tag, target))
    method = _identifier(report.get("method", "unknown"))
    judged = (report.get("verdict") or {}).get("value") in _JUDGEMENTS
    licence_id = licence.lower() or "unknown"
    is_known = _HUB_LICENCE.fullmatch(licence_id) is not None
    name = repo_id or f"{hub_ids[0] if hub_ids else 'model'}-{method}"
    return ModelCardData(
        language="en" if tag.startswith("text") else None,
        license=licence_id if is_known else "other",
        license_name=None if is_known else _identifier(licence, "-"),
        base_model=hub_ids[0] if len(hub_ids) == 1 else hub_ids or None,
        library_name=library,
        pipeline_tag=tag,
        tags=["hf-forget", *([] if judged else ["unlearning"]), method],
        model_name=name.split("/")[-1] if results else None,
        eval_results=results or None,
        base_model_relation=("merge" if len(hub_ids) > 1 else "finetune") if hub_ids else None,
    )


def _eval_results(report: dict[str, Any], tag: str, target: _Target) -> Iterator["EvalResult"]:
    from huggingface_hub import EvalResult

    for metric in report.get("metrics", []):
        value = metric.get("after")
        if metric["status"] == "ok" and metric["group"] != "cost" and _is_number(value):
            name = _identifier(target.redact(metric["name"]))
            yield EvalResult(
                task_type=tag,
                dataset_type="hf_forget_probes",
                dataset_name=DATASET_NAME,
                dataset_config=_identifier(metric["group"]),
                metric_type=name,
                metric_name=name.replace("_", " "),
                metric_value=round(float(value), 6),
            )


def _identifier(text: Any, joint: str = "_") -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", joint, str(text)).strip("_.-")[:80] or "unnamed"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _context(report: dict[str, Any], bases: list[dict[str, Any]], target: _Target) -> dict[str, Any]:
    verdict, paper = report.get("verdict") or {}, report.get("paper") or {}
    rule = target.redact(verdict.get("rule", ""))
    metrics, timings = report.get("metrics", []), report.get("timings_s") or {}
    task = report.get("task", "causal_lm")
    samples: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for sample in report.get("samples", []):
        samples[sample["kind"] in _PUBLIC_SAMPLE_KINDS].append(sample)
    _, library, auto_class = _TASKS.get(task, _TASKS["causal_lm"])
    sections: list[dict[str, Any]] = [
        {"question": question, "rows": [_row(metric, target) for metric in metrics if metric.get("group") in groups]}
        for question, groups in _QUESTIONS.items()
    ]
    return {
        "bases": bases,
        "title": bases[0]["name"].split("/")[-1] if bases else "Model",
        "target": target.phrase,
        "hidden": target.hidden,
        "withheld_name": bool(target.hidden and report.get("target")),
        "method": inline(str(report.get("method", "unknown")).replace("_", " ")),
        "task": task,
        "library": library,
        "reference": reference_name(task).capitalize(),
        "auto_class": auto_class,
        "paper": {key: inline(value) for key, value in paper.items() if value},
        "arxiv": paper.get("arxiv") if re.fullmatch(r"\d{4}\.\d{4,5}", str(paper.get("arxiv"))) else None,
        "bibtex_title": re.sub(r"[^\w ,.:;?!()'-]+", " ", str(paper.get("title", ""))),
        "verdict": verdict.get("value"),
        "judged": verdict.get("value") in _JUDGEMENTS,
        "rule": [inline(part, 2000) for part in re.split(r"(?<=[^.]\.)\s+", rule) if part],
        "checks": [
            (target.say(check["name"].replace("_", " ")), check["passed"], target.say(check["detail"], 600))
            for check in report.get("checks", [])
        ],
        "sections": [section for section in sections if section["rows"]],
        "timings": [(inline(key.replace("_", " ")), value) for key, value in timings.items() if _is_number(value)],
        "memory": _number(report["peak_memory_mb"]) if _is_number(report.get("peak_memory_mb")) else None,
        "tried": {word.rstrip("s") for name in report.get("attacks_run", []) for word in re.findall("[a-z]+", name)},
        "measured": {metric["group"] for metric in metrics if metric["status"] == "ok"},
        "unmeasured": [row for section in sections for row in section["rows"] if row["status"] != "ok"],
        "samples": [
            _sample(sample, target) for sample in samples[False][:_SAMPLES_OF_EACH] + samples[True][:_SAMPLES_OF_EACH]
        ],
        "private": sorted(
            target.say(f"{name}: {path}") for name, path in (report.get("artifacts") or {}).items() if "private" in path
        ),
        "environment": [
            (target.say(key.replace("_", " ")), target.say(_plain(value), 1000))
            for key, value in (report.get("environment") or {}).items()
            if value is not None
        ],
    }


def _row(metric: dict[str, Any], target: _Target) -> dict[str, str]:
    interval = metric.get("ci95")
    values = [metric.get(key) for key in ("before", "after", "reference")]
    show = _formatter(metric, [*values, *(interval or [])])
    return {
        "name": target.say(metric["name"].replace("_", " ")),
        "better": metric["direction"] if metric["direction"] in ("lower", "higher") else _DASH,
        **dict(zip(("before", "after", "reference"), map(show, values), strict=True)),
        "n": str(metric["n"]) if _is_number(metric.get("n")) else _DASH,
        "interval": " to ".join(map(show, interval)) if interval else _DASH,
        "status": inline(metric["status"].replace("_", " ")),
        "definition": target.say(metric.get("definition", ""), 600),
    }


def _formatter(metric: dict[str, Any], values: Sequence[Any]) -> Callable[[Any], str]:
    """Return how the numbers of a metric are written: as points, as percentages or plainly."""
    name = metric["name"].lower()
    if "points" in metric.get("definition", "").lower() and re.search("difference|recovery|change", name):
        return lambda value: f"{value:+.1f} points" if _is_number(value) else _DASH
    is_rate = _RATE.search(name) and not _NO_RATE.search(name) and metric["group"] != "cost"
    if is_rate and all(0 <= value <= 1 for value in values if _is_number(value)):
        return lambda value: f"{100 * value:.1f} %" if _is_number(value) else _DASH
    return _number


def _number(value: Any) -> str:
    if not _is_number(value):
        return _DASH
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value)}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _sample(sample: dict[str, Any], target: _Target) -> list[str]:
    cells = [target.say(sample["kind"].replace("_", " "))]
    for key in ("probe", "before", "after"):
        public = sample["kind"] in _PUBLIC_SAMPLE_KINDS and sample.get(key)
        outcome = {"True": " (right)", "False": " (wrong)"}.get(str(sample.get(f"{key}_correct")), "")
        cells.append((target.say(sample[key], 160) if public else "withheld") + outcome)
    return cells


def _plain(value: Any) -> str:
    """Return a value of the environment as text; a path loses its folders, which can name the user."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    text = str(value)
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1] if re.match(r"[/~\\]|[A-Za-z]:[/\\]", text) else text


def _key_problems(metadata: dict[str, Any]) -> Iterator[str]:
    licence = str(metadata.get("license"))
    if not _HUB_LICENCE.fullmatch(licence):
        yield f"license: '{licence}' is no licence id of the Hub; use 'other' with license_name"
    elif licence == "other" and not isinstance(metadata.get("license_name"), str):
        yield "license_name: missing, although license is 'other'"
    for base in _as_list(metadata.get("base_model")):
        if not isinstance(base, str) or not _is_repo_id(base):
            yield f"base_model: '{base}' is no id of a model on the Hub"
    for key, accepted in _ACCEPTED.items():
        for value in _as_list(metadata.get(key)):
            if not isinstance(value, str) or not re.fullmatch(accepted, value):
                yield f"{key}: the Hub does not know '{value}'"
    tags = metadata.get("tags")
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
        yield f"tags: must be a list of texts, got {tags!r}"


def _model_index_problems(index: Any, data: Any) -> Iterator[str]:
    from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

    if index is None:
        return
    try:
        name, results = model_index_to_eval_results(index)
        if eval_results_to_model_index(name, results) != index or data.eval_results != results:
            yield "model-index: changes when it is read and written again"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        yield f"model-index: cannot be read: {error!r}"
        return
    for result in results:
        if not _is_number(result.metric_value):
            yield f"model-index: the value of {result.metric_type} is not a finite number: {result.metric_value!r}"
