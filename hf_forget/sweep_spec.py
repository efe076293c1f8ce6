"""The spec of a sweep: a YAML file that says which recipes run with which settings, targets and seeds."""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import InputError, suggestion
from .recipe import ALIASES, ONLY_ON_COMMAND_LINE
from .recipe_files import find_recipe, read_recipe_text, recipes_folder
from .recipe_types import shown
from .recipe_yaml import Entry, plain_value, read_nested_yaml

KEYS = ("recipe", "output_dir", "settings", "grid", "targets", "seeds", "common", "keep_weights")

_SETTING = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)
# The one setting of a spec that has none.
_ONLY_SETTING = "recipe"


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Args:
        setting: Name of its setting.
        target: Number of its target, counted from 1; `None` where the spec has no targets.
        seed: Name of its seed; `None` where the spec has no seeds.
        folder: Its folder below the results folder; it does not name the target.
        recipe: Its recipe.
        values: What replaces the recipe's values, without what the command line gives.
        lines: The line of the spec in which each of these values stands.
    """

    setting: str
    target: int | None
    seed: str | None
    folder: str
    recipe: Path
    values: dict[str, Any]
    lines: dict[str, int]


@dataclass
class SweepSpec:
    """What a spec says.

    Args:
        source: Its file.
        text: What stands in it.
        output_dir: The results folder.
        runs: All runs: settings, in each of them targets, in each of those seeds.
        keep_weights: Whether the edited models are kept.
        overrides: Values by key that replace those of every run.
        problems: One sentence per mistake, those of a line with its number.
    """

    source: Path
    text: str
    output_dir: Path
    runs: list[PlannedRun]
    keep_weights: bool
    overrides: dict[str, Any]
    problems: list[str]


@dataclass(frozen=True)
class _Choice:
    """One of the settings, targets or seeds, and what it overrides."""

    name: str
    values: dict[str, Entry]
    slug: str


def read_spec(path: str | Path, overrides: Mapping[str, Any] | None = None) -> SweepSpec:
    """Read the spec of a sweep.

    Args:
        path: Its file, or the name of a shipped one.
        overrides: Values by key that replace those of every run; `output_dir` replaces the spec's.

    Returns:
        The spec. What is wrong with it stands in `problems`, so that the mistakes of the recipes can join them.

    Raises:
        InputError: If there is no such file, or it is not YAML.
    """
    file = Path(path).expanduser()
    shipped = recipes_folder() / "sweeps" / f"{Path(path).name}.yaml"
    if not file.is_file() and str(path) == Path(path).name and shipped.is_file():
        file = shipped
    if not file.is_file():
        near = suggestion(file.name, (other.name for other in file.parent.glob("*.yaml")))
        raise InputError(f"no sweep spec at '{path}'; give a YAML file with the keys {', '.join(KEYS)}.{near}")
    text = read_recipe_text(file)
    if all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines()):
        raise InputError(f"{file}: the spec is empty; its keys are {', '.join(KEYS)}.")
    return _Reader(file, read_nested_yaml(text, str(file))).spec(text, _normalised(overrides or {}))


def _normalised(values: Mapping[str, Any]) -> dict[str, Any]:
    spelled = ((key.replace("-", "_"), value) for key, value in values.items())
    return {ALIASES.get(key, key): value for key, value in spelled}


class _Reader:
    def __init__(self, file: Path, entries: dict[str, Entry]) -> None:
        self.file, self.entries = file, entries
        self.problems: list[str] = []

    def spec(self, text: str, overrides: dict[str, Any]) -> SweepSpec:
        for key, entry in self.entries.items():
            if key not in KEYS:
                self._problem(entry.line, f"unknown key '{key}'.{suggestion(key, KEYS)}")
        output_dir = overrides.pop("output_dir", None) or self._of_type("output_dir", str, "the results folder")
        if not output_dir:
            if "output_dir" not in self.entries:
                self.problems.append("the key 'output_dir' is missing: give the folder that all results go to.")
            output_dir = "."
        keep_weights = self._of_type("keep_weights", bool, "true or false")
        runs = self._runs()
        return SweepSpec(
            self.file, text, Path(output_dir).expanduser(), runs, keep_weights is not False, overrides, self.problems
        )

    def _runs(self) -> list[PlannedRun]:
        common = self._overrides("common", self.entries["common"]) if "common" in self.entries else {}
        default = self._recipe(self.entries["recipe"]) if "recipe" in self.entries else None
        nothing = [_Choice("", {}, "")]
        targets, seeds = self._targets() or nothing, self._seeds() or nothing
        runs = []
        for setting in self._on_grid(self._settings()):
            own = setting.values.pop("recipe", None)
            recipe = default if own is None else self._recipe(own)
            if own is None and "recipe" not in self.entries:
                self.problems.append(f"setting {setting.name} has no recipe: give the key 'recipe' at the top.")
            if recipe is None:
                continue
            for number, target in enumerate(targets, 1):
                for seed in seeds:
                    entries = common | setting.values | target.values | seed.values
                    folder = "-".join(part for part in (target.slug, seed.slug) if part) or "run"
                    runs.append(
                        PlannedRun(
                            setting.name,
                            number if target.slug else None,
                            seed.name or None,
                            f"{setting.name}/{folder}",
                            recipe,
                            {key: plain_value(entry) for key, entry in entries.items()},
                            {key: entry.line for key, entry in entries.items()},
                        )
                    )
        return runs

    def _settings(self) -> list[_Choice]:
        if "settings" not in self.entries:
            return [_Choice(_ONLY_SETTING, {}, _ONLY_SETTING)]
        choices = []
        for name, entry in self._mapping("settings").items():
            if not _SETTING.fullmatch(name) or name.endswith(".partial") or name == "private":
                self._problem(entry.line, f"a setting names a folder: '{name}' must be letters, digits and any of _.+-")
                continue
            choices.append(_Choice(name, self._overrides(f"settings {name}", entry, ("recipe",)), name))
        return choices

    def _on_grid(self, settings: list[_Choice]) -> list[_Choice]:
        """Every setting with every combination of the grid's values; what a setting gives itself is not varied."""
        if "grid" not in self.entries:
            return settings
        grid = self._overrides("grid", self.entries["grid"])
        for key, entry in list(grid.items()):
            if not isinstance(entry.value, list) or not entry.value:
                self._problem(entry.line, f"grid {key}: expected a list of values, such as [1e-4, 3e-4]")
                del grid[key]
        choices = []
        for setting in settings:
            varied = {key: entry.value for key, entry in grid.items() if key not in setting.values}
            for values in itertools.product(*varied.values()):
                chosen = dict(zip(varied, values, strict=True))
                parts = [re.sub(r"[^\w.+-]+", "_", f"{key}-{plain_value(item)}") for key, item in chosen.items()]
                name = "+".join([setting.name, *parts])
                choices.append(_Choice(name, setting.values | chosen, name))
        return choices

    def _targets(self) -> list[_Choice]:
        entry = self.entries.get("targets")
        if entry is None:
            return []
        if not isinstance(entry.value, list):
            found = self._mapping("targets").items()
            return [
                _Choice(name, self._overrides(f"targets {name}", item), f"target-{number}")
                for number, (name, item) in enumerate(found, 1)
            ]
        names = [item for item in entry.value if self._is_name(item)]
        self._check_repeated(names, "target")
        return [_Choice(str(item.value), {"concept": item}, f"target-{number}") for number, item in enumerate(names, 1)]

    def _is_name(self, item: Entry) -> bool:
        if isinstance(item.value, str) and item.value.strip():
            return True
        what = shown(plain_value(item))
        self._problem(
            item.line, f"targets: expected a name as text, got {what}. Quote it, or give name: {{key: value}}"
        )
        return False

    def _seeds(self) -> list[_Choice]:
        entry = self.entries.get("seeds")
        if entry is None:
            return []
        if not isinstance(entry.value, list):
            choices: list[_Choice] = []
            for name, item in self._mapping("seeds").items():
                slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
                if not slug or slug in (choice.slug for choice in choices):
                    self._problem(item.line, f"seeds: '{name}' names a folder; give it letters or digits of its own")
                    continue
                choices.append(_Choice(name, self._overrides(f"seeds {name}", item), slug))
            return choices
        for item in entry.value:
            if type(item.value) is not int or item.value < 0:
                self._problem(item.line, f"seeds: expected whole numbers from 0, got {shown(plain_value(item))}")
        self._check_repeated(entry.value, "seed")
        return [_Choice(str(item.value), {"seed": item}, f"seed-{item.value}") for item in entry.value]

    def _check_repeated(self, items: list[Entry], what: str) -> None:
        seen: dict[str, int] = {}
        for item in items:
            text = str(plain_value(item))
            if text in seen:
                self._problem(item.line, f"the {what} {text} is already given in line {seen[text]}")
            seen[text] = item.line

    def _overrides(self, where: str, entry: Entry, more: Iterable[str] = ()) -> dict[str, Entry]:
        """Return the overrides of one entry, without those that no spec may give."""
        if entry.value is None:
            return {}
        if not isinstance(entry.value, dict):
            what = shown(plain_value(entry))
            self._problem(entry.line, f"{where}: expected overrides such as {{learning_rate: 1e-4}}, got {what}")
            return {}
        values = {}
        for key, item in _normalised(entry.value).items():
            if key == "recipe" and key not in more:
                self._problem(item.line, f"{where}: only settings can have a recipe of their own")
            elif key == "output_dir":
                self._problem(item.line, f"{where}: the sweep chooses the folder of each run; leave output_dir out")
            elif key == ONLY_ON_COMMAND_LINE and item.value is not False:
                self._problem(
                    item.line, f"{where}: a spec cannot allow the model's own code to run; give --{key} true instead"
                )
            else:
                values[key] = item
        return values

    def _recipe(self, entry: Entry) -> Path | None:
        if not isinstance(entry.value, str):
            self._problem(entry.line, f"recipe: expected a path or a name, got {shown(plain_value(entry))}")
            return None
        beside = self.file.parent / entry.value
        try:
            return beside if beside.is_file() else find_recipe(entry.value)
        except InputError as error:
            self._problem(entry.line, f"recipe: {error}")
            return None

    def _mapping(self, key: str) -> dict[str, Entry]:
        entry = self.entries[key]
        if isinstance(entry.value, dict) and entry.value:
            return entry.value
        what = shown(plain_value(entry))
        self._problem(
            entry.line, f"{key}: expected lines of 'name: {{key: value}}', got {what}; leave it out for one run"
        )
        return {}

    def _of_type(self, key: str, kind: type, what: str) -> Any:
        entry = self.entries.get(key)
        if entry is None:
            return None
        if not isinstance(entry.value, kind) or entry.value == "":
            self._problem(entry.line, f"{key}: expected {what}, got {shown(plain_value(entry))}")
            return None
        return entry.value

    def _problem(self, line: int, text: str) -> None:
        self.problems.append(f"line {line}: {text}")
