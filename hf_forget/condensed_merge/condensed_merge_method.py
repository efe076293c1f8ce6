"""Merging on the road: how it loads, prepares, merges and measures."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..evidence.curves import draw_curves
from ..evidence.labelled_inputs import LabelledInputs
from ..evidence.merging import (
    accuracy_metrics,
    baseline_metrics,
    ensemble_outcomes,
    judge_merge,
    mean_accuracy,
    mean_loss,
    outcomes,
)
from ..evidence.report import Metric, Verdict
from ..method import Conclusion, Stage, Subject
from ..publishing.checkpoint import read_classifier, save_checkpoint
from .condensed_merge_config import MergeWithCondensedConfig
from .material import (
    MergeMaterial,
    given_models,
    joint_model,
    label_offsets,
    load_material,
    made_models,
    random_subset,
    stand_ins,
)
from .merge_with_condensed import MergeWithCondensed
from .road_options import MergeEvidenceOptions, MergeModelOptions


class CondensedMergeMethod:
    """`condensed_merge`: drives [`MergeWithCondensed`] through the road."""

    config_class = MergeWithCondensedConfig
    model_class = MergeModelOptions
    evidence_class = MergeEvidenceOptions
    task = "image_classification"
    paper = {
        "title": "Toward Data Efficient Model Merging between Different Datasets without Performance Degradation",
        "arxiv": "2306.05641",
    }

    def __init__(self) -> None:
        self.material: MergeMaterial | None = None
        self.models: list[Any] = []
        self.data: list[LabelledInputs] | None = None
        self.reference: list[Tensor] | None = None
        # What `apply` made, where it ran in this process.
        self.merger: MergeWithCondensed | None = None

    def load(self, configs: dict[str, Any], workspace: Path) -> Subject:
        """Load the images, and the models where they are given.

        Raises:
            InputError: If images or models cannot be used.
        """
        args, named = configs["method"], configs["model"].model_names_or_paths
        if configs["lora"].use_peft:
            raise InputError("use_peft cannot be used here: a merge trains no adapter")
        if named is not None and len(named) != len(args.dataset_names or ()):
            raise InputError(
                f"there are {len(named)} model_names_or_paths and {len(args.dataset_names or ())} dataset_names; give "
                "a set of images for each model"
            )
        self.material = load_material(args, named[0] if named else None)
        bases: list[dict[str, Any]] = []
        if named:
            self.models, bases = given_models(named, self.material)
        target = {"name": " and ".join(self.material.names), "type": "tasks", "names": []}
        return Subject(configs, None, self.material.processor, workspace, base_models=bases, target=target)

    def prepare(self, subject: Subject) -> None:
        """Train the models and the reference, and condense the sets, unless cached."""
        args, material = subject.configs["method"], self._material
        if not self.models:
            self.models, subject.base_models = made_models(args, material, subject.report)
        self.data = stand_ins(args, material, self.models[0].config, subject.report, subject.progress)
        if subject.configs["evidence"].joint_reference and not subject.configs["model"].model_names_or_paths:
            subject.report("the reference is trained on all sets")
            self.reference = outcomes(joint_model(args, material, subject.report), self._tasks(args))

    def measure(self, subject: Subject, stage: Stage) -> list[Metric]:
        """Measure each model on its own task, or the merged one on all, beside other ways."""
        args, options = subject.configs["method"], subject.configs["evidence"]
        if stage == "before":
            each = zip(self.models, self._material.test, strict=True)
            return accuracy_metrics([outcomes(model, [task])[0] for model, task in each], self.reference)
        tasks = self._tasks(args)
        merged = outcomes(subject.model, tasks)
        subject.report("the naive average")
        naive = self._merged(args, matching="none")
        averaged = outcomes(naive.model, tasks)
        subject.records["verdict"] = dataclasses.asdict(judge_merge(merged, averaged))
        found = accuracy_metrics(merged, self.reference)
        ways: dict[str, tuple[str, list[Tensor]]] = {"naive": ("the average of the weights as they are", averaged)}
        if options.merge_baselines:
            ways |= self._baselines(subject, tasks)
        found += baseline_metrics(ways)
        if options.curve_points and len(self.models) == 2:
            found += self._curve(subject, tasks)
        return found + _costs(subject.records["merge"])

    def apply(self, subject: Subject) -> None:
        """Match and average."""
        self.merger = self._merged(subject.configs["method"])
        subject.model, result = self.merger.model, self.merger.result
        assert result is not None
        values = sum(part.inputs[0].numel() * len(part) for part in self.data or ())
        subject.records["merge"] = {
            "seconds": result.seconds,
            "losses": result.losses,
            "steps": result.steps,
            "megabytes": values / 1e6,
            "images": sum(map(len, self.data or ())),
        }

    def save(self, subject: Subject, folder: Path) -> None:
        """Write a checkpoint that plain `transformers` loads (for our own nets after `import hf_forget.models`)."""
        save_checkpoint(subject.model, subject.processing_class, folder)

    def reload(self, subject: Subject, folder: Path) -> None:
        """Read the merged model back, as a user would."""
        subject.model, subject.processing_class = read_classifier(folder)

    def conclude(self, subject: Subject, before: list[Metric], after: list[Metric]) -> Conclusion:
        """Judge against the naive average."""
        return Conclusion(Verdict(**subject.records["verdict"]), series=subject.records.get("curve", {}))

    @property
    def _material(self) -> MergeMaterial:
        if self.material is None:
            raise RuntimeError("load() must run before the other stages")
        return self.material

    def _tasks(self, args: MergeWithCondensedConfig) -> list[LabelledInputs]:
        """The test images, with labels as the merged head counts them."""
        firsts = label_offsets(args, self._material)
        return [
            LabelledInputs(task.inputs, task.labels + first)
            for task, first in zip(self._material.test, firsts, strict=True)
        ]

    def _merged(self, args: MergeWithCondensedConfig, data: Any = None, **changes: Any) -> MergeWithCondensed:
        args = dataclasses.replace(args, **changes)
        given = data if data is not None else self.data
        merger = MergeWithCondensed(self.models, given, args, processing_class=self._material.processor)
        merger.merge()
        return merger

    def _baselines(self, subject: Subject, tasks: list[LabelledInputs]) -> dict[str, tuple[str, list[Tensor]]]:
        """Other ways of having all tasks done."""
        args = subject.configs["method"]
        found: dict[str, tuple[str, list[Tensor]]] = {}
        subject.report("matching by weights alone")
        found["weights"] = (
            "a merge by weights alone",
            outcomes(self._merged(args, matching="weights").model, tasks),
        )
        found["ensemble"] = (
            "all models together, their probabilities averaged; it needs all of them",
            ensemble_outcomes(self.models, tasks, joined=args.head == "joined"),
        )
        if self.data is not None:
            subject.report("matching by weights, and rescaling units")
            rescaled = self._merged(args, matching="weights", rescale=True)
            found["repair"] = (
                "the same with units rescaled on the data",
                outcomes(rescaled.model, tasks),
            )
        if args.data == "condensed":
            subject.report("a random subset of equal size")
            rows = [random_subset(part, args.images_per_class, args.merge_seed) for part in self._material.train]
            subset = self._merged(args, rows)
            found["subset"] = (
                "the same merge with as many real images, drawn at random",
                outcomes(subset.model, tasks),
            )
        return found

    def _curve(self, subject: Subject, tasks: list[LabelledInputs]) -> list[Metric]:
        """Accuracy on the way from one model to the other, and the loss in the middle of it."""
        args, count = subject.configs["method"], subject.configs["evidence"].curve_points
        shares = [place / (count - 1) for place in range(count)]
        own = mean_loss(self.models, self._material.test)
        subject.records["curve"] = {}
        found = []
        for name, changes in (("merged", {}), ("naive", {"matching": "none"})):
            subject.report(f"the way between the models: {name}")
            merger = self.merger if not changes and self.merger else self._merged(args, **changes)
            accuracies = [mean_accuracy(outcomes(merger.interpolated([1 - share, share]), tasks)) for share in shares]
            subject.records["curve"][f"accuracy_{name}"] = {"x": shares, "y": accuracies}
            above = mean_loss([merger.interpolated([0.5, 0.5])] * len(tasks), tasks) - own
            definition = (
                "test loss in the middle between the models, minus that of each task's own model; mean of tasks"
            )
            found.append(Metric(f"loss_barrier_{name}", "quality", "lower", above, definition=definition))
        subject.artifacts["accuracy_between"] = draw_curves(
            {name.removeprefix("accuracy_"): curve for name, curve in subject.records["curve"].items()},
            subject.workspace / "accuracy_between.png",
            across="share of the second model",
            upright="accuracy, mean of both tasks",
        )
        return found


def _costs(merge: Mapping[str, Any]) -> list[Metric]:
    return [
        Metric("merge_seconds", "cost", "lower", merge["seconds"], definition="wall-clock seconds of the merge"),
        Metric("data_megabytes", "cost", "lower", merge["megabytes"], definition="its images, a byte a value"),
    ]
