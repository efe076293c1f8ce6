"""The seam of the library: what a method is, what it works on, and the registry of methods by name."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from .errors import InputError, unknown
from .evidence.report import Metric, Verdict

Task = Literal["causal_lm", "image_classification", "text_classification", "diffusion"]
Stage = Literal["before", "after"]


def _say_nothing(*_: object) -> None:
    """Stand in where nobody watches."""


@dataclass
class Subject:
    """What a method works on during one run.

    Args:
        configs: The configs of the recipe by section: `method` (an instance of `Method.config_class`), `model`, `lora`
            and `evidence`.
        model: The model in memory; after `Method.reload` the one read back from the output folder.
        processing_class: Its tokenizer or image processor.
        workspace: Folder for prepared rows and checkpoints; it survives an interruption.
        base_models: Provenance of each base model, as `base_models` in the report.
        target: What has to go, as `target` in the report.
            The list `names` in it holds every name that must not be published, `placeholder` what stands in their
            place, such as `[forgotten person]`.
        records: JSON-able evidence by stage (answers, counts), from which verdicts and cards are made. It survives an
            interruption, with keys as text and tuples as lists.
        artifacts: Files and folders that belong into `private/` of the output folder, by name.
        report: To be called with a line of text where a step of a stage begins.
        progress: To be called with how much of how much of a step is done, during long ones.
    """

    configs: dict[str, Any]
    model: Any
    processing_class: Any
    workspace: Path
    base_models: list[dict[str, Any]] = field(default_factory=list)
    target: dict[str, Any] = field(default_factory=dict)
    records: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Path] = field(default_factory=dict)
    report: Callable[[str], None] = _say_nothing
    progress: Callable[[int, int], None] = _say_nothing


@dataclass
class Conclusion:
    """What a method makes of its two measurements: the verdict, and what a reader should see beside it."""

    verdict: Verdict
    samples: list[dict[str, Any]] = field(default_factory=list)
    series: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    attacks_run: list[str] = field(default_factory=list)


class Method(Protocol):
    """One way to make a model forget (or to repair it); `hf_forget.run` drives it through the road.

    `config_class` is a dataclass whose fields are the recipe's keys. Its `output_dir` is, during a run, the folder for
    checkpoints inside the workspace. A method may name option classes of its own in `model_class` and `evidence_class`;
    otherwise those of `hf_forget.options` and of language models' evidence are used.

    In a run of several processes `load`, `prepare`, `apply` and `save` are called in each of them, `prepare` in the
    first before the others; the rest is called in the first only.
    """

    config_class: type
    task: Task
    paper: dict[str, str]

    def load(self, configs: dict[str, Any], workspace: Path) -> Subject:
        """Load models, processors and data for the configs (see `Subject.configs`); raise `InputError` for what cannot
        be used."""

    def prepare(self, subject: Subject) -> None:
        """Make what the method needs (rows, parents, codes) inside `subject.workspace`.

        A resumed run calls it again: what lies in the workspace is taken from there.
        """

    def measure(self, subject: Subject, stage: Stage) -> list[Metric]:
        """Measure `subject.model`; fill `value` of each metric and `subject.records[stage]`."""

    def apply(self, subject: Subject) -> None:
        """Train, scrub or merge; changes `subject.model`. A resumed run goes on from the checkpoints, if any."""

    def save(self, subject: Subject, folder: Path) -> None:
        """Write a standard checkpoint that plain `transformers` or `diffusers` loads."""

    def reload(self, subject: Subject, folder: Path) -> None:
        """Replace `subject.model` by the one read back from `folder`."""

    def conclude(self, subject: Subject, before: list[Metric], after: list[Metric]) -> Conclusion:
        """Judge the two measurements by the rule of `evidence`."""


_METHODS = {
    "concept_unlearn": ("hf_forget.concept_unlearn.concept_unlearn_method", "ConceptUnlearnMethod"),
    "sae_align": ("hf_forget.sae_align.sae_align_method", "SAEAlignMethod"),
    "fisher_scrub": ("hf_forget.fisher_scrub.fisher_scrub_method", "FisherScrubMethod"),
    "condensed_merge": ("hf_forget.condensed_merge.condensed_merge_method", "CondensedMergeMethod"),
    "ardir": ("hf_forget.ardir.ardir_method", "ARDIRMethod"),
}


def available_methods() -> list[str]:
    """Return the names of all methods, in a fixed order."""
    return list(_METHODS)


def get_method(name: str) -> Method:
    """Return the method registered under `name`.

    Raises:
        InputError: If no method has that name; the message names the nearest one.
    """
    if name not in _METHODS:
        raise InputError(unknown("method", name, _METHODS))
    module, attribute = _METHODS[name]
    return getattr(importlib.import_module(module), attribute)()
