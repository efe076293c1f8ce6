"""The road that every method goes: recipe, load, prepare, measure, apply, save, reload, measure again, report."""

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .data.assets import ASSETS
from .data.model_names import HubUnreachableError, ResolvedModel, resolve_model
from .data.weights import weight_files
from .environment import peak_memory_mb, run_environment
from .errors import InputError
from .evidence.report import ForgetReport, Metric, to_jsonable
from .method import Method, Stage, Subject, get_method
from .output import OutputFolder, write_json_atomic
from .recipe import Recipe, RecipeError, load_recipe
from .run_files import PRIVATE, copy_artifacts, write_run_files

_TITLES = {
    "load": "load the model",
    "prepare": "prepare",
    "measure_before": "measure before",
    "apply": "change the model",
    "save": "save",
    "measure_after": "reload and measure again",
    "report": "write report and card",
}
# Checkpoints hold the optimizer's state, and the output lies beside them until it is whole.
_SPACE_PER_WEIGHT_BYTE = 3


@dataclass
class RunResult:
    """What a run gave.

    Args:
        output_dir: The output folder.
        report: The full report; `None` after a dry run, and in all but the first of several processes.
        plan: After a dry run, what would be done; `unresolved` lists what could not be checked.
    """

    output_dir: Path
    report: ForgetReport | None = None
    plan: dict[str, Any] = field(default_factory=dict)


def run(
    recipe: Recipe | str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    report: Callable[[str], None] | None = print,
    progress: Callable[[int, int], None] | None = None,
) -> RunResult:
    """Go the whole road from a recipe to a checkpoint with report and card.

    Args:
        recipe (`Recipe`, `str` or `Path`): A recipe, its path, or the name of a shipped one.
        overrides: Values by key that replace those of the recipe.
        overwrite (`bool`, defaults to `False`): Replace an existing output of this package.
        resume (`bool`, defaults to `False`): Go on from an interrupted run of the same recipe.
        dry_run (`bool`, defaults to `False`): Check everything and train nothing.
        report: Called with a line of text at the beginning of each stage and of its steps; `None` for silence.
        progress: Called with how much of how much of the current stage is done.

    Raises:
        InputError: If something that the user gave cannot be used; a dry run names all of it at once.

    Example:
        >>> result = run("quickstart", overrides={"concept": "Isaac Newton", "output_dir": "outputs/quickstart"})
        >>> result.report.verdict["value"]
        'forgotten'
    """
    recipe = _resolved(recipe, overrides)
    output = OutputFolder(_final_folder(recipe), recipe.hash(), overwrite=overwrite, resume=resume)
    inside = recipe.with_values(output_dir=str(output.workspace / "checkpoints"))
    if dry_run:
        return RunResult(output.final, plan=_plan(recipe, inside, output))
    configs = inside.configs()
    output.required_bytes = _required_bytes(configs["model"].model_name_or_path)
    processes = _Processes.here()
    road = _Road(recipe, configs, output, processes, report, progress)
    processes.open(output)
    try:
        return RunResult(output.final, road.go())
    except BaseException as error:
        if processes.first:
            _leave(output, error)
        raise


def _leave(output: OutputFolder, error: BaseException) -> None:
    """Keep what can be resumed; nothing can when the user's input was refused before any work was done."""
    if isinstance(error, InputError) and not output.resumed and not output.stage_done("prepare"):
        output.discard()
        return
    output.close()
    if output.partial.is_dir():
        error.add_note(f"What is done so far is kept in {output.partial}; a run with --resume goes on from it.")


@dataclass(frozen=True)
class _Processes:
    """This process among those that `accelerate launch` or `torchrun` started."""

    rank: int
    count: int

    @classmethod
    def here(cls) -> "_Processes":
        return cls(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))

    @property
    def first(self) -> bool:
        return self.rank == 0

    def open(self, output: OutputFolder) -> None:
        """Open the folder in the first process; the others attach to it."""
        if self.first:
            output.open()
        self.wait()
        if not self.first:
            output.attach()

    def wait(self) -> None:
        if self.count > 1:
            _accelerate_state().wait_for_everyone()

    def first_before_others(self) -> contextlib.AbstractContextManager:
        if self.count == 1:
            return contextlib.nullcontext()
        return _accelerate_state().main_process_first()


def _accelerate_state() -> Any:
    from accelerate import PartialState  # type: ignore[import-untyped]

    return PartialState()


@dataclass
class _Road:
    recipe: Recipe
    configs: dict[str, Any]
    output: OutputFolder
    processes: _Processes
    say: Callable[[str], None] | None
    progress: Callable[[int, int], None] | None

    def __post_init__(self) -> None:
        self.method: Method = get_method(self.recipe.method)
        self.timings: dict[str, float] = {}

    def go(self) -> ForgetReport | None:
        subject = self._load_and_prepare()
        before = self._measure(subject, "before")
        if not self.output.stage_done("save"):
            self._apply_and_save(subject)
        if not self.processes.first:
            return None
        after = self._measure(subject, "after")
        with self._stage("report"):
            return self._report(subject, before, after)

    def _load_and_prepare(self) -> Subject:
        self.timings = _read_json(self._timings_file, {})
        with self._stage("load"):
            subject = self.method.load(self.configs, self.output.workspace)
        if self.processes.first:
            subject.progress = self.progress or subject.progress
            subject.report = self._say_step
        with self._stage("prepare"), self.processes.first_before_others():
            self.method.prepare(subject)
        if self.processes.first:
            self.output.mark_done("prepare")
        kept = _read_json(self._records_file, {"records": {}, "artifacts": {}})
        subject.records |= kept["records"]
        subject.artifacts |= {name: Path(path) for name, path in kept["artifacts"].items()}
        return subject

    def _measure(self, subject: Subject, stage: Stage) -> list[Metric]:
        name, file = f"measure_{stage}", self.output.workspace / f"metrics_{stage}.json"
        if self.output.stage_done(name):
            return [_metric(row) for row in _read_json(file, [])]
        metrics: list[Metric] = []
        if self.processes.first:
            with self._stage(name):
                if stage == "after":
                    self.method.reload(subject, self.output.staging)
                metrics = self.method.measure(subject, stage)
            write_json_atomic(file, to_jsonable(metrics))
            self._keep(subject)
            self.output.mark_done(name)
        if stage == "before":
            self.processes.wait()
        return metrics

    def _apply_and_save(self, subject: Subject) -> None:
        with self._stage("apply"):
            self.method.apply(subject)
        self.processes.wait()
        with self._stage("save"):
            if self.processes.first:
                self._clear_staging()
            self.processes.wait()
            self.method.save(subject, self.output.staging)
        self.processes.wait()
        if self.processes.first:
            self._keep(subject)
            self.output.mark_done("save", {"peak_memory_mb": peak_memory_mb()})

    def _report(self, subject: Subject, before: list[Metric], after: list[Metric]) -> ForgetReport:
        conclusion = self.method.conclude(subject, before, after)
        folder, model = self.output.staging, self.configs["model"]
        report = ForgetReport.build(
            method=self.recipe.method,
            paper=self.method.paper,
            task=self.method.task,
            before=before,
            after=after,
            base_models=subject.base_models,
            target=subject.target,
            recipe={"method": self.recipe.method, **self.recipe.values},
            environment=run_environment(self.configs, self.processes.count),
            timings_s={name: round(self.timings[name], 2) for name in _TITLES if name in self.timings},
            peak_memory_mb=max(peak_memory_mb(), self.output.stage_data("save").get("peak_memory_mb", 0.0)),
            artifacts=copy_artifacts(subject.artifacts, folder),
            **{item.name: getattr(conclusion, item.name) for item in dataclasses.fields(conclusion)},
        )
        write_run_files(
            folder,
            report,
            self.recipe,
            publish_target=self.configs["evidence"].publish_target,
            repo_id=getattr(self.configs["method"], "hub_model_id", None),
            base_licence=_licence(model.model_name_or_path),
        )
        self.output.commit()
        return report

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        if self.say and self.processes.first:
            self.say(f"[{list(_TITLES).index(name) + 1}/{len(_TITLES)}] {_TITLES[name]}")
        start = time.perf_counter()
        try:
            yield
        finally:
            if name != "report":
                self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start
                # A workspace that is empty otherwise is no reason to keep the folder of a run that failed.
                if self.processes.first and any(self.output.workspace.iterdir()):
                    with contextlib.suppress(OSError):  # a full disk is reported by what filled it
                        write_json_atomic(self._timings_file, self.timings)

    def _say_step(self, text: str) -> None:
        if self.say:
            self.say(f"      {text}")

    def _keep(self, subject: Subject) -> None:
        """Write what the method has recorded, and hand it back as a resumed run would read it."""
        subject.records = to_jsonable(subject.records)
        artifacts = {name: str(path) for name, path in subject.artifacts.items()}
        write_json_atomic(self._records_file, {"records": subject.records, "artifacts": artifacts})

    def _clear_staging(self) -> None:
        """Remove what an interrupted save left behind."""
        for path in self.output.staging.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        (self.output.staging / PRIVATE).mkdir()

    @property
    def _timings_file(self) -> Path:
        return self.output.workspace / "timings.json"

    @property
    def _records_file(self) -> Path:
        return self.output.workspace / "records.json"


def _resolved(recipe: Recipe | str | Path, overrides: Mapping[str, Any] | None) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe.with_values(**overrides) if overrides else recipe
    return load_recipe(recipe, overrides)


def _final_folder(recipe: Recipe) -> Path:
    given = recipe.values.get("output_dir")
    if not given or not str(given).strip():
        raise InputError("output_dir is missing: give the folder that the edited model goes to, with --output_dir.")
    return Path(given)


def _plan(recipe: Recipe, inside: Recipe, output: OutputFolder) -> dict[str, Any]:
    """Check everything that can be checked without working, and say what would be done.

    Raises:
        InputError: If something is wrong; names all of it.
    """
    problems: list[str] = []
    unresolved: list[str] = []
    try:
        inside.configs()
    except RecipeError as error:
        problems.extend(error.errors)
    name = recipe.values.get("model_name_or_path")
    models: list[ResolvedModel] = []
    for key, given in recipe.model_names():
        try:
            models.append(resolve_model(given, prepare=False))
        except HubUnreachableError as error:
            unresolved.append(f"{key}: {error}")
        except InputError as error:
            problems.append(str(error))
    for check in (lambda: _check_probes(recipe.values.get("probes")), lambda: _check_output(output, name)):
        try:
            check()
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise RecipeError(str(recipe.source or f"options of {recipe.method}"), problems)
    return {
        "method": recipe.method,
        "recipe": to_jsonable(recipe.values),
        "output_dir": str(output.final),
        "models": to_jsonable(models),
        "required_bytes": output.required_bytes,
        "interrupted_run": output.partial.is_dir(),
        "unresolved": unresolved,
    }


def _check_probes(path: str | None) -> None:
    from .evidence.probes import read_probes

    if path is not None:
        read_probes(path)


def _check_output(output: OutputFolder, model: str | None) -> None:
    with contextlib.suppress(HubUnreachableError):
        output.required_bytes = _required_bytes(model)
    output._check_final()
    output._check_partial_is_ours()
    output._check_disk()


def _required_bytes(model: str | None) -> int:
    """Return the disk space that a run needs, in bytes; 0 where the model is not here yet or is of another kind."""
    if model is None:
        return 0
    if model in ASSETS:
        return _SPACE_PER_WEIGHT_BYTE * ASSETS[model].converted_size
    try:
        folder = Path(resolve_model(model, prepare=False).path)
    except HubUnreachableError:
        raise
    except InputError:
        return 0
    return _SPACE_PER_WEIGHT_BYTE * sum(file.stat().st_size for file in weight_files(folder))


def _licence(model: str | None) -> str | None:
    """Return the licence that the card of a local base model states, if it has one."""
    if model is None:
        return None
    card = Path(model).expanduser() / "README.md"
    if not card.is_file():
        return None
    from huggingface_hub import ModelCard

    try:
        licence = ModelCard.load(card).data.license
    except Exception:  # a card that cannot be read says nothing, whatever is wrong with it
        return None
    return licence if isinstance(licence, str) else None


def _metric(row: dict[str, Any]) -> Metric:
    return Metric(**row | {"ci95": tuple(row["ci95"]) if row["ci95"] else None})


def _read_json(file: Path, default: Any) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else default
