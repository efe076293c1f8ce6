"""Scrubbing on the road: how it loads, prepares, scrubs and measures."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..evidence.classifier import ClassifierMeasurement, evidence_from_measurements, measure_classifier
from ..evidence.classifier_verdict import judge_classifier
from ..evidence.labelled_inputs import LabelledInputs
from ..evidence.report import Metric
from ..method import Conclusion, Stage, Subject
from ..models.parents import load_parent, parent_provenance
from ..publishing.checkpoint import read_classifier, save_checkpoint
from ..publishing.redaction import contains_any
from .fisher_scrub_config import FisherScrubConfig
from .fisher_scrubber import FisherScrubber, ScrubResult
from .mnemonic import MnemonicCodes, check_classes
from .road_options import ScrubEvidenceOptions, ScrubModelOptions
from .storage import save_private
from .subject import (
    Material,
    find_codes,
    load_given_model,
    load_material,
    make_parent,
    teach_codes,
)

TAUGHT, SECRETS = "taught", "secrets"
_PLACEHOLDER = "[forgotten class]"
_SCOPES = {"all": "every layer", "head": "the last layer alone"}


class FisherScrubMethod:
    """`fisher_scrub`: drives [`FisherScrubber`] through the road."""

    config_class = FisherScrubConfig
    model_class = ScrubModelOptions
    evidence_class = ScrubEvidenceOptions
    task = "image_classification"
    paper = {"title": "One-Shot Machine Unlearning with Mnemonic Code", "arxiv": "2306.05670"}

    def __init__(self) -> None:
        self.material: Material | None = None
        self.codes: MnemonicCodes | None = None
        self.retrained: Any = None
        self.after: ClassifierMeasurement | None = None

    def load(self, configs: dict[str, Any], workspace: Path) -> Subject:
        """Load the images, and the model where one is given.

        Raises:
            InputError: If images, model, codes or classes cannot be used.
        """
        args, options = configs["method"], configs["model"]
        if not args.forget_classes:
            raise InputError("forget_classes is missing; name what must go, for example --forget_classes 3,7")
        if configs["lora"].use_peft:
            raise InputError("use_peft cannot be used here: a scrub changes the weights once and trains no adapter")
        named = options.model_name_or_path
        if named is not None and args.codes is None and not args.code_epochs:
            raise InputError(
                f"codes is missing: '{named}' can only be scrubbed with the codes it was trained with. Give their "
                "file, or set code_epochs: 1 to train it for one epoch with new ones"
            )
        model, base = None, None
        material = load_material(args, named)
        if named is not None:
            model, base = load_given_model(options, material.class_names)
        self.material = material
        self.codes = find_codes(args, material.train.inputs.shape[1:], len(material.class_names))
        classes = check_classes(args.forget_classes, len(material.class_names))
        bases = [base] if base else []
        target = _target(classes, material.class_names)
        return Subject(configs, model, material.processor, workspace, base_models=bases, target=target)

    def prepare(self, subject: Subject) -> None:
        """Train the parent and the reference unless cached, or teach a given model its codes."""
        args, material, codes = subject.configs["method"], self._material, self._codes
        classes = subject.target["classes"]
        if subject.model is None:
            folder = make_parent(args, material, codes, report=subject.report)
            subject.model = load_parent(folder)
            subject.base_models = [parent_provenance(folder, f"{args.parent} trained on {args.dataset_name}")]
            if subject.configs["evidence"].retrain_reference:
                subject.report("The reference never sees the forgotten classes")
                self.retrained = load_parent(make_parent(args, material, codes, without=classes, report=subject.report))
        elif args.codes is None:
            teach_codes(subject.model, args, material, codes, subject.workspace / TAUGHT)

    def measure(self, subject: Subject, stage: Stage) -> list[Metric]:
        """Measure on the test images, probe the features, and train the classes back in."""
        given = {
            "forget_classes": subject.target["classes"],
            "train": self._material.train,
            "options": subject.configs["evidence"],
            "report": subject.report,
        }
        reference = None
        if stage == "before" and self.retrained is not None:
            subject.report("Measuring the model that was trained without the classes")
            reference = measure_classifier(self.retrained, self._material.test, **given)
            subject.records["reference"] = reference.records
        found = measure_classifier(subject.model, self._material.test, reference=reference, **given)
        subject.records[stage] = found.records
        subject.records[f"series_{stage}"] = found.series
        if stage == "after":
            found.metrics += _costs(subject.records["scrub"])
        return found.metrics

    def apply(self, subject: Subject) -> None:
        """Scrub, and keep what undoes it for `private/`."""
        args = subject.configs["method"]
        scrubber = FisherScrubber(subject.model, self._codes, args, processing_class=subject.processing_class)
        images = few_images(self._material.train, args.images_per_class) if args.images_per_class else None
        result = scrubber.scrub(subject.target["classes"], images=images)
        for warning in result.warnings:
            subject.report(f"Warning: {warning}")
        subject.records["scrub"] = _described(result)
        secrets = subject.workspace / SECRETS
        save_private(scrubber, secrets)
        subject.artifacts |= {file.stem: file for file in sorted(secrets.iterdir())}

    def save(self, subject: Subject, folder: Path) -> None:
        """Write a checkpoint that plain `transformers` loads (for our own nets after `import hf_forget.models`)."""
        save_checkpoint(subject.model, subject.processing_class, folder)

    def reload(self, subject: Subject, folder: Path) -> None:
        """Read the scrubbed model back, as a user would."""
        subject.model, subject.processing_class = read_classifier(folder)

    def conclude(self, subject: Subject, before: list[Metric], after: list[Metric]) -> Conclusion:
        """Judge by the rule for classifiers."""
        records = subject.records
        kept = {
            name: ClassifierMeasurement([], records[name])
            for name in ("before", "after", "reference")
            if name in records
        }
        evidence = evidence_from_measurements(kept["before"], kept["after"], kept.get("reference"))
        return Conclusion(
            judge_classifier(evidence),
            series=records["series_after"],
            checks=_checks(records["scrub"]),
            attacks_run=["relearn_class"],
        )

    @property
    def _material(self) -> Material:
        if self.material is None:
            raise RuntimeError("load() must run before the other stages")
        return self.material

    @property
    def _codes(self) -> MnemonicCodes:
        if self.codes is None:
            raise RuntimeError("load() must run before the other stages")
        return self.codes


def few_images(data: LabelledInputs, per_class: int) -> LabelledInputs:
    """Return the first `per_class` inputs of each class."""
    chosen = [
        row
        for label in data.labels.unique().tolist()
        for row in (data.labels == label).nonzero()[:per_class, 0].tolist()
    ]
    return LabelledInputs(data.inputs[chosen], data.labels[chosen])


def _target(classes: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    forgotten = [names[label] for label in classes]
    rest = "\n".join(name for label, name in enumerate(names) if label not in classes)
    # A digit stands everywhere, and what is part of another class' name cannot be hidden.
    telling = [name for name in forgotten if sum(map(str.isalpha, name)) > 2 and not contains_any(rest, [name])]
    return {
        "name": ", ".join(forgotten),
        "type": "class" if len(classes) == 1 else "classes",
        "classes": list(classes),
        "names": telling,
        "placeholder": _PLACEHOLDER,
    }


def _described(result: ScrubResult) -> dict[str, Any]:
    return {
        "chosen": asdict(result.chosen) | {"strengths": result.chosen.strengths},
        "tried": len(result.tried),
        "witnesses": result.witnesses,
        "seconds": result.seconds,
        "changed": sum(result.changed.values()),
        "warnings": result.warnings,
    }


def _costs(scrub: dict[str, Any]) -> list[Metric]:
    definition = "wall-clock seconds of the scrub, with the search for its strengths"
    return [
        Metric("scrub_seconds", "cost", "lower", scrub["seconds"], definition=definition),
        Metric("changed_weights", "cost", "none", scrub["changed"], definition="weights that differ from before"),
    ]


def _checks(scrub: dict[str, Any]) -> list[dict[str, Any]]:
    chosen = scrub["chosen"]
    detail = f"{chosen['strengths']}, sign {chosen['sign']:+d} of {scrub['tried']} candidates; witnesses: " + ", ".join(
        f"{count} {kind}" for kind, count in scrub["witnesses"].items()
    )
    warnings = "; ".join([detail, *scrub["warnings"]])
    return [{"name": "choice_of_strengths", "passed": not scrub["warnings"], "detail": warnings}]
