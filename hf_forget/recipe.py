"""Recipes: flat YAML files that become the typed configs of one run; checked, explained and written back."""

import dataclasses
import hashlib
import json
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from .errors import InputError, nearest
from .publishing.redaction import redact_tree
from .recipe_files import RecipeInfo, find_recipe, list_recipes, read_recipe_text
from .recipe_privacy import secret_problem
from .recipe_types import TypeMismatch, coerce, parse_argument, shown
from .recipe_yaml import Entry, read_yaml, write_yaml

__all__ = [
    "Entry",
    "KeyInfo",
    "Recipe",
    "RecipeError",
    "RecipeInfo",
    "find_recipe",
    "list_recipes",
    "load_recipe",
    "make_recipe",
    "read_yaml",
    "recipe_keys",
    "redact",
    "sections_for",
]

ALIASES = {"model": "model_name_or_path"}
ONLY_ON_COMMAND_LINE = "trust_remote_code"

# Where a run writes and what it says on the way do not change what it computes.
_NOT_PART_OF_THE_RUN = {"output_dir", "overwrite", "resume", "resume_from_checkpoint", "report_to", "run_name"}
_NOT_PART_OF_THE_RUN |= {"project", "push_to_hub", "disable_tqdm", "publish_target", "require_verdict"}
_NOT_PART_OF_THE_RUN_PREFIXES = ("hub_", "trackio_", "logging_", "log_")


class RecipeError(InputError):
    """All mistakes found in a recipe and in the keys that override it.

    Args:
        source: What the recipe is called.
        errors: One sentence per mistake; those in a file begin with `line n`, those in overrides with `--key`.
    """

    def __init__(self, source: str, errors: list[str]) -> None:
        self.errors = list(errors)
        if len(errors) == 1:
            super().__init__(f"{source}{', ' if errors[0].startswith('line ') else ': '}{errors[0]}")
        else:
            super().__init__("\n  ".join([f"{source}: {len(errors)} mistakes:", *errors]))


@dataclass(frozen=True)
class KeyInfo:
    """A key that the recipes of a method may contain: a field of one of its sections.

    Args:
        name: The key.
        section: `method`, `model`, `lora` or `evidence`.
        hint: The resolved annotation of the field.
        default: The default value, `None` for a required key.
        required: Whether the key must be given.
        help: What it does, in a sentence.
    """

    name: str
    section: str
    hint: Any
    default: Any
    required: bool
    help: str


@dataclass
class Recipe:
    """One run, fully described: the method and the values of its keys, checked for type.

    Args:
        method: Name of the method.
        values: The keys that were given, by file or override; everything else has its default.
        source: The file they came from.
        lines: The line of each key whose value is the file's.
    """

    method: str
    values: dict[str, Any]
    source: Path | None = None
    lines: dict[str, int] = field(default_factory=dict)

    def model_names(self) -> list[tuple[str, str]]:
        """Return the models that are named, each as the key that names it and the name."""
        found = []
        for key in ("model_name_or_path", "model_names_or_paths"):
            value = self.values.get(key)
            names = value if isinstance(value, list) else [] if value is None else [value]
            found += [(key, str(name)) for name in names]
        return found

    def configs(self) -> dict[str, Any]:
        """Return one config object per section: `method`, `model`, `lora`, `evidence`.

        Raises:
            RecipeError: If the configs refuse the values; lists what every section found.
        """
        from .options import check_together

        configs: dict[str, Any] = {}
        errors = []
        for section in sections_for(self.method):
            try:
                configs[section] = self.config_for(section)
            except RecipeError as error:
                errors.extend(error.errors)
        if not errors:
            try:
                check_together(configs["model"], configs["lora"])
            except InputError as error:
                errors.append(self._located(str(error)))
        if errors:
            raise RecipeError(self._name(), errors)
        return configs

    def config_for(self, section: str) -> Any:
        """Return the config object of one section.

        Raises:
            RecipeError: If the config refuses the values.
        """
        config_class = sections_for(self.method)[section]
        names = {info.name for info in dataclasses.fields(config_class) if info.init}
        try:
            return config_class(**{key: value for key, value in self.values.items() if key in names})
        except (ValueError, TypeError, ImportError, OSError, RuntimeError) as error:
            # Training arguments check themselves on construction and raise all of these for unusable values.
            raise RecipeError(self._name(), [self._located(str(error))]) from error

    def with_values(self, **changes: Any) -> "Recipe":
        """Return a copy with some values replaced, checked like overrides.

        Raises:
            RecipeError: If a key is unknown or a value has the wrong type.
        """
        values, errors = _check(self.method, {}, {**self.values, **changes}, parse_text=False)
        if errors:
            raise RecipeError(self._name(), errors)
        return dataclasses.replace(self, values=values)

    def to_yaml(self) -> str:
        """Return the recipe as YAML: the method, then the keys that were given, in the order of the configs.

        Permission to run remote code is never written: whoever repeats the run has to give it again.

        Raises:
            RecipeError: If a value looks like a secret.
        """
        errors = [problem for key, value in self.values.items() if (problem := secret_problem(key, value))]
        if errors:
            raise RecipeError(self._name(), errors)
        order = {name: position for position, name in enumerate(recipe_keys(self.method))}
        keys = sorted(self.values, key=lambda key: (order.get(key, len(order)), key))
        text = write_yaml({"method": self.method, **{k: self.values[k] for k in keys if k != ONLY_ON_COMMAND_LINE}})
        if self.values.get(ONLY_ON_COMMAND_LINE):
            text += f"# The run was allowed to run the model's own code: give --{ONLY_ON_COMMAND_LINE} true again.\n"
        return text

    def hash(self) -> str:
        """Return the SHA-256 of what the run computes.

        Defaults count as if they had been written out; where output and reports go does not count.
        """
        keys = recipe_keys(self.method).values()
        resolved = {key.name: key.default for key in keys} | self.values
        relevant = {
            key: value
            for key, value in resolved.items()
            if key not in _NOT_PART_OF_THE_RUN and not key.startswith(_NOT_PART_OF_THE_RUN_PREFIXES)
        }
        canonical = json.dumps({"method": self.method, "values": relevant}, sort_keys=True, default=_plain_value)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def _name(self) -> str:
        return str(self.source) if self.source else f"options of {self.method}"

    def _located(self, message: str) -> str:
        """Put the line of the first key that the message mentions in front of it."""
        for word in re.findall(r"\w+", message):
            if word in self.lines:
                return f"line {self.lines[word]}: {message}"
        return message


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe, put the overrides on top and check every key and value.

    Args:
        name_or_path: A path or the name of a shipped recipe.
        overrides: Values by key, from the command line (text, read like a scalar of a recipe) or from Python.
            Hyphens in keys count as underscores; `model` is short for `model_name_or_path`.

    Raises:
        InputError: If there is no such recipe, or it is not YAML.
        RecipeError: For unknown keys, wrong types and missing keys: all of them at once.
    """
    path = find_recipe(name_or_path)
    entries = read_yaml(read_recipe_text(path), str(path))
    return _build(entries, dict(overrides or {}), path)


def make_recipe(method: str, values: Mapping[str, Any]) -> Recipe:
    """Return a recipe without a file; `values` are checked like the overrides of `load_recipe`.

    Raises:
        RecipeError: For unknown keys, wrong types and missing keys: all of them at once.
    """
    return _build({}, {**values, "method": method}, None)


def sections_for(method: str) -> dict[str, type]:
    """Return the config classes that the keys of a recipe belong to, by section.

    Raises:
        InputError: If there is no such method.
    """
    from .evidence.options import EvidenceOptions
    from .method import get_method
    from .options import LoraOptions, ModelOptions

    found = get_method(method)
    return {
        "method": found.config_class,
        "model": getattr(found, "model_class", ModelOptions),
        "lora": LoraOptions,
        "evidence": getattr(found, "evidence_class", EvidenceOptions),
    }


def recipe_keys(method: str) -> dict[str, KeyInfo]:
    """Return every key that a recipe of the method may contain, in the order of the sections and their fields."""
    keys: dict[str, KeyInfo] = {}
    for section, config_class in sections_for(method).items():
        hints = typing.get_type_hints(config_class, include_extras=True)
        for info in dataclasses.fields(config_class):
            if info.init:
                required = info.default is dataclasses.MISSING and info.default_factory is dataclasses.MISSING
                default = None if info.default is dataclasses.MISSING else info.default
                if info.default_factory is not dataclasses.MISSING:
                    default = info.default_factory()
                help_text = str(info.metadata.get("help", ""))
                keys[info.name] = KeyInfo(info.name, section, hints[info.name], default, required, help_text)
    return keys


def redact(recipe: Recipe, names: list[str], replacement: str) -> Recipe:
    """Return a copy in which no text value, path or id contains any of the names.

    Args:
        recipe: The recipe to publish.
        names: The names of the target, aliases included; see `redact_text` for the spellings that are found.
        replacement: What stands in their place.
    """
    return Recipe(recipe.method, {key: redact_tree(value, names, replacement) for key, value in recipe.values.items()})


def _build(entries: dict[str, Entry], overrides: dict[str, Any], path: Path | None) -> Recipe:
    given = {key.replace("-", "_"): value for key, value in overrides.items()}
    for short, name in ALIASES.items():
        if short in given:
            given.setdefault(name, given.pop(short))
    method, name = _method(entries, given, path), str(path) if path else "options"
    values, errors = _check(method, entries, given)
    if errors:
        raise RecipeError(name, errors)
    lines = {key: entry.line for key, entry in entries.items() if key in values and key not in given}
    return Recipe(method, values, path, lines)


def _method(entries: dict[str, Entry], overrides: dict[str, Any], path: Path | None) -> str:
    from .method import available_methods, get_method

    entry = entries.get("method")
    method = overrides.get("method", entry.value if entry else None)
    where = "--method: " if "method" in overrides else f"line {entry.line}: " if entry else ""
    source = str(path) if path else "options"
    if not isinstance(method, str):
        got = f", got {shown(method)}" if entry else ""
        raise RecipeError(source, [f"{where}the key 'method' must name one of {', '.join(available_methods())}{got}."])
    try:
        get_method(method)
    except InputError as error:
        raise RecipeError(source, [f"{where}{error}"]) from error
    return method


def _check(
    method: str, entries: dict[str, Entry], overrides: dict[str, Any], parse_text: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """Return the checked values and one sentence per mistake."""
    keys = recipe_keys(method)
    values: dict[str, Any] = {}
    errors: list[str] = []
    for key, entry in entries.items():
        if key != "method":
            problem = _file_problem(key, entry.value, keys)
            if problem is None and key not in overrides:
                values[key], problem = _convert(key, entry.value, keys[key].hint, coerce)
            if problem:
                errors.append(f"line {entry.line}: {problem}")
    for key, value in overrides.items():
        if key != "method":
            problem = secret_problem(key, value) or _unknown_problem(key, keys, "--")
            if problem is None:
                reader = parse_argument if parse_text and isinstance(value, str) else coerce
                values[key], problem = _convert("", value, keys[key].hint, reader)
            if problem:
                errors.append(f"--{key}: {problem}")
    given = {*entries, *overrides}
    errors.extend(
        f"the key '{key.name}' is missing ({key.help or 'it has no default'})"
        for key in keys.values()
        if key.required and key.name not in given
    )
    return values, errors


def _file_problem(key: str, value: Any, keys: dict[str, KeyInfo]) -> str | None:
    if key == ONLY_ON_COMMAND_LINE and value is not False:
        return f"a recipe cannot allow the model's own code to run; give --{key} true on the command line instead."
    return secret_problem(key, value) or _unknown_problem(key, keys, "")


def _unknown_problem(key: str, keys: dict[str, KeyInfo], prefix: str) -> str | None:
    if key in keys:
        return None
    close = ALIASES.get(key) or nearest(key, keys)
    hint = f" Did you mean '{prefix}{close}'?" if close else ""
    return f"unknown key '{key}'.{hint}"


def _convert(key: str, value: Any, hint: Any, reader: Any) -> tuple[Any, str | None]:
    try:
        return reader(value, hint), None
    except TypeMismatch as mismatch:
        return None, f"{key}: {mismatch}" if key else str(mismatch)


def _plain_value(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else str(value)
