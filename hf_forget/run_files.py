"""The files that a run leaves beside the checkpoint: the full ones in `private/`, publishable ones at the root."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import HfForgetError
from .evidence.report import REPORT_FILE, ForgetReport, schema
from .output import write_text_atomic
from .publishing.card import render_card
from .publishing.redaction import REDACTED, contains_any, looks_like_token, redact_text
from .recipe import Recipe

CARD_FILE, RECIPE_FILE, PRIVATE = "README.md", "recipe.yaml", "private"

# Written by trainers; it repeats the recipe, the target's name included.
_TRAINING_ARGUMENTS = "training_args.json"
_TEXT_SUFFIXES = {".json", ".jsonl", ".yaml", ".yml", ".md", ".html", ".txt", ".csv", ".py", ".log"}
# The vocabulary of a model has a token for almost every name, before and after.
_VOCABULARIES = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt"}
_VOCABULARIES |= {"added_tokens.json", "special_tokens_map.json"}
_FREE_TEXT = ("base_models", "target", "recipe", "environment", "samples", "checks")


def copy_artifacts(artifacts: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """Copy files and folders into `private/` of the output and return where they lie, relative to `folder`."""
    placed = {}
    for name, path in artifacts.items():
        place = folder / PRIVATE / f"{name}{path.suffix if path.is_file() else ''}"
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, place, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, place)
        placed[name] = place.relative_to(folder).as_posix()
    return placed


def write_run_files(
    folder: Path,
    report: ForgetReport,
    recipe: Recipe,
    *,
    publish_target: bool = False,
    repo_id: str | None = None,
    base_licence: str | None = None,
) -> None:
    """Write report, recipe and card: in full into `private/`, without the target's names at the root.

    Args:
        folder: The checkpoint; what lies in it is checked too.
        report: The full report. `target["names"]` are the names to leave out, `target["placeholder"]` what to write
            instead.
        recipe: The full recipe.
        publish_target: Leave the names in. Questions, answers and everything else in `private/` is withheld even so.
        repo_id: The repository on the Hub that the card is for.
        base_licence: Licence of the base model.

    Raises:
        HfForgetError: If a file that may be published names the target or holds what looks like a secret.
    """
    names = list(report.target.get("names") or [])
    private = folder / PRIVATE
    private.mkdir(parents=True, exist_ok=True)
    if (folder / _TRAINING_ARGUMENTS).is_file():
        (folder / _TRAINING_ARGUMENTS).replace(private / _TRAINING_ARGUMENTS)
    report.save(private / REPORT_FILE)
    write_text_atomic(private / RECIPE_FILE, recipe.to_yaml())

    hidden = [] if publish_target else names
    public = public_report(report, hidden, str(report.target.get("placeholder") or REDACTED))
    public.save(folder / REPORT_FILE)
    write_text_atomic(folder / RECIPE_FILE, _public_recipe(public, recipe, bool(hidden)))
    card = render_card(
        public.to_dict(), publish_target=publish_target, repo_id=repo_id, base_licence=base_licence, names=hidden
    )
    write_text_atomic(folder / CARD_FILE, str(card))
    check_public_files(folder, _tellable(hidden, report, folder))


def public_report(report: ForgetReport, names: list[str], placeholder: str) -> ForgetReport:
    """Return the report that may be published: no questions, answers or lists about the target, and no `names`."""
    public = report.redacted(names, placeholder)
    for part in _FREE_TEXT:
        setattr(public, part, _map_text(getattr(public, part), lambda text: redact_text(text, names, placeholder)))
    return ForgetReport.from_dict(public.to_dict())


def check_public_files(folder: Path, names: Iterable[str]) -> None:
    """Check that no file outside of `private/` names the target, and that no file holds what looks like a secret.

    Raises:
        HfForgetError: If one does; the message says which.
    """
    names = list(names)
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        is_text = path.is_file() and path.suffix in _TEXT_SUFFIXES and not _is_vocabulary(path)
        if PRIVATE in place.parts:
            # Answers of a model can look like anything; what we write about the run must not.
            if place.name in (RECIPE_FILE, _TRAINING_ARGUMENTS) and looks_like_token(_text(path)):
                raise HfForgetError(f"'{place}' holds what looks like a secret; the output is not finished")
            continue
        if contains_any(place.as_posix(), names) or (is_text and contains_any(_text(path), names)):
            shown = redact_text(place.as_posix(), names)
            raise HfForgetError(
                f"'{shown}' names what was forgotten, and it may be published; the output is not finished. "
                "Give --publish_target to name the target on purpose."
            )
        if is_text and looks_like_token(_text(path)):
            raise HfForgetError(f"'{place}' holds what looks like a secret; the output is not finished")


def _public_recipe(public: ForgetReport, recipe: Recipe, hidden: bool) -> str:
    values = {key: value for key, value in public.recipe.items() if key in recipe.values}
    text = dataclasses.replace(recipe, values=values).to_yaml()
    if hidden:
        text = f"# The target's name is left out here; {PRIVATE}/{RECIPE_FILE} repeats the run.\n{text}"
    return text


def _tellable(names: list[str], report: ForgetReport, folder: Path) -> list[str]:
    """Return the names that are no words of the files' own format: `Transformers` stands in every card."""
    if not names:
        return []
    blank = dataclasses.replace(
        report,
        base_models=[],
        target={},
        recipe={},
        samples=[],
        series={},
        artifacts={},
        checks=[{**check, "detail": ""} for check in report.checks],
    )
    words = [json.dumps(schema()), json.dumps(blank.to_dict()), str(render_card(blank.to_dict()))]
    words += [*report.recipe, *_keys(report.target), *_keys(report.base_models)]
    words += map(str, _model_words(folder / "config.json"))
    vocabulary = "\n".join(words)
    return [name for name in names if not contains_any(vocabulary, [name])]


def _model_words(config: Path) -> Iterator[str]:
    if config.is_file():
        content = json.loads(_text(config))
        for key, value in content.items():
            yield key
            if key in ("architectures", "model_type", "auto_map"):
                yield str(value)


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _keys(item)
    elif isinstance(value, list):
        for item in value:
            yield from _keys(item)


def _map_text(value: Any, replace: Callable[[str], str]) -> Any:
    """Apply `replace` to every text in `value` that is not a key."""
    if isinstance(value, str):
        return replace(value)
    if isinstance(value, dict):
        return {key: _map_text(item, replace) for key, item in value.items()}
    return [_map_text(item, replace) for item in value] if isinstance(value, list) else value


def _is_vocabulary(path: Path) -> bool:
    return path.name in _VOCABULARIES or path.name.endswith(".index.json")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
