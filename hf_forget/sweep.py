"""Many runs from one spec: settings × targets × seeds, resumable, shared between processes, compared at the end."""

import contextlib
import dataclasses
import gc
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock

from .compare import Comparison, compare
from .errors import HfForgetError, InputError, OutputError, unknown
from .output import write_text_atomic
from .publishing.redaction import redact_text
from .recipe import ONLY_ON_COMMAND_LINE, Recipe, RecipeError, load_recipe
from .run import run
from .run_files import PRIVATE, RECIPE_FILE
from .sweep_journal import Journal, SweepRun, finished
from .sweep_spec import PlannedRun, SweepSpec, read_spec

_SECONDS_BETWEEN_TRIES = 2.0


@dataclass
class SweepResult:
    """What a sweep gave.

    Args:
        output_dir: The results folder.
        runs: The runs in the order of the spec.
        comparison: The table of all runs of the spec that are done; `None` after a dry run and where none is.
        unresolved: After a dry run, what could not be checked, such as models on the Hub without a connection.
    """

    output_dir: Path
    runs: list[SweepRun]
    comparison: Comparison | None = None
    unresolved: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[SweepRun]:
        """The runs that failed."""
        return [one for one in self.runs if one.status == "failed"]

    def to_dict(self) -> dict[str, Any]:
        """Return the result in the types of JSON."""
        return {
            "output_dir": str(self.output_dir),
            "runs": [dataclasses.asdict(one) for one in self.runs],
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
            "unresolved": self.unresolved,
        }


def sweep(
    spec: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    dry_run: bool = False,
    report: Callable[[str], None] | None = print,
    progress: Callable[[int, int], None] | None = None,
) -> SweepResult:
    """Run every setting of a spec on every target with every seed, and compare them.

    Called again, it goes on: runs that are done are not repeated, an interrupted one is resumed, one that failed is
    tried again. Several processes may work on one spec at the same time. A run that fails is recorded in `runs.json`
    of the results folder and the others go on.

    Args:
        spec (`str` or `Path`): The file of the spec; its keys are those of `hf_forget.sweep_spec.KEYS`.
        overrides: Values by key for every run; they replace those of the recipes and of the spec.
        only: Names of the settings to run; all of them if none is given.
        dry_run (`bool`, defaults to `False`): Check everything and train nothing.
        report: Called with a line of text at the beginning of each run, stage and step; `None` for silence.
        progress: Called with how much of how much of the current stage is done.

    Returns:
        The chosen runs. The comparison lies in the results folder too, as `table.md`, `table.json` and
        `forget_vs_retain.png`.

    Raises:
        InputError: If the spec or the recipe of any run cannot be used; names all mistakes, before anything is trained.

    Example:
        >>> result = sweep("objectives.yaml", overrides={"max_steps": 40})
        >>> print(result.comparison.to_markdown())
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("a sweep runs in one process at a time; start it without accelerate launch or torchrun")
    plan = read_spec(spec, overrides)
    chosen = _chosen(plan, only)
    recipes, unresolved = _check(plan, chosen)
    journal = Journal(plan.output_dir, plan.runs)
    if dry_run:
        return SweepResult(plan.output_dir, _of(chosen, journal.rows()), unresolved=unresolved)
    journal.open(plan)
    say = report or (lambda text: None)
    work = _Work(
        plan, journal, recipes, say, lambda recipe, **how: run(recipe, report=report, progress=progress, **how)
    )
    try:
        work.go()
    except BaseException as error:
        done = sum(row.status == "done" for row in journal.rows())
        error.__notes__ = [f"{done} of {len(plan.runs)} runs are done; the same command goes on with the rest."]
        raise
    comparison = None
    if any(row.status == "done" for row in journal.rows()):
        comparison = compare([plan.output_dir])
        comparison.save(plan.output_dir)
    return SweepResult(plan.output_dir, _of(chosen, journal.rows()), comparison)


def _of(runs: Sequence[PlannedRun], rows: list[SweepRun]) -> list[SweepRun]:
    folders = {planned.folder for planned in runs}
    return [row for row in rows if row.folder in folders]


def _chosen(plan: SweepSpec, only: Sequence[str]) -> list[PlannedRun]:
    settings = list(dict.fromkeys(planned.setting for planned in plan.runs))
    for name in only:
        if name not in settings:
            plan.problems.append(f"--only: {unknown('setting', name, settings)}")
    # Where a name is wrong nothing will run, and the check should find what else is wrong.
    known = set(only) <= set(settings)
    return [planned for planned in plan.runs if not only or not known or planned.setting in only]


def _check(plan: SweepSpec, runs: Sequence[PlannedRun]) -> tuple[dict[str, Recipe], list[str]]:
    """Return the recipes by folder and what could not be checked.

    Raises:
        RecipeError: For everything that is wrong with the spec or with any of the runs.
    """
    recipes: dict[str, Recipe] = {}
    unresolved: dict[str, None] = {}
    # Most mistakes are those of many runs; each is told once.
    where: dict[str, list[str]] = {}
    for planned in runs:
        try:
            folder = plan.output_dir / planned.folder
            recipe = load_recipe(planned.recipe, {**planned.values, **plan.overrides, "output_dir": str(folder)})
            recipes[planned.folder] = recipe
            if finished(folder) is None:
                unresolved |= dict.fromkeys(run(recipe, overwrite=True, dry_run=True).plan["unresolved"])
            elif not _same_run(folder, recipe):
                raise OutputError(
                    f"{folder} holds a run of another recipe; move it away, or give another output_dir for this sweep"
                )
        except InputError as error:
            for problem in error.errors if isinstance(error, RecipeError) else [str(error)]:
                where.setdefault(_located(problem, planned, plan), []).append(planned.folder)
    problems = list(plan.problems)
    for problem, folders in where.items():
        more = f" and {len(folders) - 1} more" if len(folders) > 1 else ""
        located = problem.startswith(("line ", "--"))
        problems.append(problem if located else f"{folders[0]}{more}: {problem}")
    if problems:
        raise RecipeError(str(plan.source), problems)
    return recipes, list(unresolved)


def _located(problem: str, planned: PlannedRun, plan: SweepSpec) -> str:
    """Say where in the spec, in the recipe or on the command line a mistake was made."""
    if problem.startswith("line "):
        return f"{planned.recipe}, {problem}"
    named = re.match(r"--(\w+): ", problem)
    if named is None:
        if planned.folder in problem:
            return problem
        mentioned = (word for word in re.findall(r"\w+", problem) if word in planned.lines)
        key = next((word for word in mentioned if word not in plan.overrides), None)
        return problem if key is None else f"line {planned.lines[key]}: {problem}"
    key = named[1]
    if key in plan.overrides or key not in planned.lines:
        return problem
    text = problem[named.end() :].replace("'--", "'")
    return f"line {planned.lines[key]}: {text}" if f"'{key}'" in text else f"line {planned.lines[key]}: {key}: {text}"


def _same_run(folder: Path, recipe: Recipe) -> bool:
    """Return whether a finished run computed what the recipe says; one without `private/` is taken at its word."""
    file = folder / PRIVATE / RECIPE_FILE
    if not file.is_file():
        return True
    # The permission to run remote code is never written down.
    values = {key: value for key, value in recipe.values.items() if key != ONLY_ON_COMMAND_LINE}
    try:
        return load_recipe(file).hash() == dataclasses.replace(recipe, values=values).hash()
    except InputError:
        return False


def _resumable(folder: Path, recipe: Recipe) -> bool:
    """Return whether an interrupted run of the same recipe waits there."""
    try:
        state = json.loads((folder.with_name(f"{folder.name}.partial") / "state.json").read_text(encoding="utf-8"))
        return state["recipe_hash"] == recipe.hash()
    except (OSError, ValueError, KeyError, TypeError):
        return False


class _Work:
    """This process' share of a sweep."""

    def __init__(
        self,
        plan: SweepSpec,
        journal: Journal,
        recipes: dict[str, Recipe],
        say: Callable[[str], None],
        run_one: Callable[..., Any],
    ) -> None:
        self.plan, self.journal, self.recipes, self.say, self.run_one = plan, journal, recipes, say, run_one
        self.runs = [planned for planned in plan.runs if planned.folder in recipes]
        self.started = time.time()

    def go(self) -> None:
        """Do every run that nobody else does, and at the end those that somebody else had begun and left."""
        waiting, told = self.runs, False
        while waiting := [planned for planned in waiting if not self._take(planned)]:
            if not told:
                self.say(f"waiting for {len(waiting)} of {len(self.runs)} runs, which another process is doing")
            told = True
            time.sleep(_SECONDS_BETWEEN_TRIES)

    def _take(self, planned: PlannedRun) -> bool:
        lock = self.journal.lock(planned)
        try:
            lock.acquire()
        except filelock.Timeout:
            return False
        try:
            self._do(planned)
        finally:
            lock.release()
        return True

    def _do(self, planned: PlannedRun) -> None:
        folder = self.plan.output_dir / planned.folder
        (row,) = _of([planned], self.journal.rows())
        failed_meanwhile = row.status == "failed" and (row.ended or 0) >= self.started
        if row.status != "done" and not failed_meanwhile:
            self.say(f"run {self.runs.index(planned) + 1} of {len(self.runs)}: {planned.folder}")
            row = self._run(planned, self.recipes[planned.folder], folder)
        if row.status == "done" and not self.plan.keep_weights:
            for file in folder.glob("*.safetensors"):
                file.unlink()

    def _run(self, planned: PlannedRun, recipe: Recipe, folder: Path) -> SweepRun:
        start = time.perf_counter()
        changes: dict[str, Any] = {"error": None}
        with _memory_of_its_own():
            try:
                self.run_one(recipe, overwrite=True, resume=_resumable(folder, recipe))
            except Exception as error:
                known = isinstance(error, HfForgetError)
                text = redact_text(str(error) if known else f"{type(error).__name__}: {error}", _names(recipe))
                changes = {"status": "failed", "error": text, "ended": time.time()}
                changes["seconds"] = round(time.perf_counter() - start, 2)
                if not known:
                    self._keep_traceback(planned)
        self.journal.record(planned, **changes)
        if changes["error"]:
            self.say(f"failed: {planned.folder}: {changes['error']}")
        return _of([planned], self.journal.rows())[0]

    def _keep_traceback(self, planned: PlannedRun) -> None:
        """Write the traceback of a mistake of ours to where it may name the target."""
        private = self.plan.output_dir / PRIVATE
        private.mkdir(exist_ok=True)
        write_text_atomic(private / f"{planned.folder.replace('/', '.')}.error.txt", traceback.format_exc())


def _names(recipe: Recipe) -> list[str]:
    aliases = recipe.values.get("aliases") or []
    names = [recipe.values.get("concept"), *([aliases] if isinstance(aliases, str) else aliases)]
    return [name for name in names if isinstance(name, str) and name.strip()]


@contextlib.contextmanager
def _memory_of_its_own() -> Iterator[None]:
    """Let the peak memory of a run be its own, and leave nothing of it to the next."""
    # Linux counts the peak anew from here; elsewhere a run's peak is the highest of those before it.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_available() and cuda.is_initialized():
        cuda.reset_peak_memory_stats()
    try:
        yield
    finally:
        gc.collect()
        cuda = getattr(sys.modules.get("torch"), "cuda", None)
        if cuda is not None and cuda.is_available():
            cuda.empty_cache()
