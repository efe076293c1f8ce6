"""Robust distillation on the road: how it loads, prepares, trains and measures."""

from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor

from ..evidence.adversarial import PixelModel
from ..evidence.classifier_outputs import batched_logits
from ..evidence.curves import draw_curves
from ..evidence.report import Metric
from ..evidence.robustness import RobustnessMeasurement, judge_robustness, measure_robustness
from ..method import Conclusion, Stage, Subject
from ..models.given import load_classifier
from ..models.parents import load_parent, parent_provenance
from ..publishing.checkpoint import read_classifier, save_checkpoint
from ..trainer import ProgressLine, last_checkpoint
from .examples_drawing import draw_examples
from .material import (
    RobustMaterial,
    load_robust_material,
    new_net,
    robust_trainer,
    trained_teacher,
    trained_without_teacher,
)
from .objectives import get_objective
from .road_options import RobustEvidenceOptions, RobustModelOptions
from .robust_recipe_config import RobustRecipeConfig


class ARDIRMethod:
    """`ardir`: drives [`ARDIRTrainer`] through the road.

    Before: the same net adversarially trained without a teacher. Reference: the teacher.
    """

    config_class = RobustRecipeConfig
    model_class = RobustModelOptions
    evidence_class = RobustEvidenceOptions
    task = "image_classification"
    paper = {
        "title": "ARDIR: Improving Robustness using Knowledge Distillation of Internal Representation",
        "arxiv": "2211.00239",
    }

    def __init__(self) -> None:
        self.material: RobustMaterial | None = None
        # The student before it learns, and the teacher.
        self.student: Any = None
        self.teacher: Any = None
        self.teacher_processor: Any = None

    def load(self, configs: dict[str, Any], workspace: Path) -> Subject:
        """Load the images, and student and teacher where they are given.

        Raises:
            InputError: If images or models cannot be used.
        """
        args, named = configs["method"], configs["model"].model_name_or_path
        processor = AutoImageProcessor.from_pretrained(named) if named else None
        self.material = load_robust_material(args, processor)
        bases: list[dict[str, Any]] = []
        if named:
            self.student, base = load_classifier(named, dtype=configs["model"].dtype)
            bases.append(base)
        else:
            self.student = new_net(args, self.material)
        if args.teacher_model_name_or_path and get_objective(args.objective).uses_teacher:
            self.teacher, base = load_classifier(args.teacher_model_name_or_path)
            self.teacher_processor = AutoImageProcessor.from_pretrained(args.teacher_model_name_or_path)
            bases.append(base)
        target = {"name": str(args.dataset_name), "type": "task", "names": []}
        return Subject(configs, None, self.material.processor, workspace, base_models=bases, target=target)

    def prepare(self, subject: Subject) -> None:
        """Train the teacher, and the same net without one, unless cached."""
        args = subject.configs["method"]
        if self.teacher is None and get_objective(args.objective).uses_teacher:
            folder = trained_teacher(args, self._material, subject.report, subject.progress)
            self.teacher = load_parent(folder)
            name = f"{args.net} trained on {args.dataset_name}, the teacher"
            subject.base_models = [*subject.base_models, parent_provenance(folder, name)]
        folder = trained_without_teacher(args, self.student, self._material, subject.report, subject.progress)
        subject.model = load_parent(folder)

    def measure(self, subject: Subject, stage: Stage) -> list[Metric]:
        """Measure on test images as they are and under attack; the teacher beside it."""
        found = self._measured(subject, subject.model, self._material.processor)
        subject.records[stage] = found.records
        subject.records[f"series_{stage}"] = found.series
        if stage == "after":
            self._draw(subject)
        if stage == "before" and self.teacher is not None and subject.configs["evidence"].measure_teacher:
            subject.report("the teacher")
            processor = self.teacher_processor or self._material.processor
            teacher = {metric.name: metric.value for metric in self._measured(subject, self.teacher, processor).metrics}
            for metric in found.metrics:
                metric.reference = teacher.get(metric.name)
        return found.metrics

    def _draw(self, subject: Subject) -> None:
        """Draw attacked images, and accuracy over ε beside that of the same net without a teacher."""
        material, epsilon = self._material, subject.configs["method"].epsilon
        file = subject.workspace / "attacked_images.png"
        subject.artifacts[file.stem] = draw_examples(
            PixelModel(subject.model, material.processor).eval(),
            material.test,
            material.class_names,
            file,
            epsilon=epsilon,
            steps=subject.configs["evidence"].pgd_steps,
        )
        if not subject.records["series_after"]:
            return
        curves = {
            name: subject.records[f"series_{stage}"]["accuracy_over_epsilon"]
            for name, stage in (("without a teacher", "before"), ("student", "after"))
        }
        file = subject.workspace / "accuracy_over_epsilon.png"
        subject.artifacts[file.stem] = draw_curves(
            curves, file, across="ε, largest change of a pixel", upright="accuracy under PGD"
        )

    def _measured(self, subject: Subject, model: Any, processor: Any) -> RobustnessMeasurement:
        material, args = self._material, subject.configs["method"]
        pixels = PixelModel(model, processor).eval()
        found = measure_robustness(
            pixels, material.test, epsilon=args.epsilon, options=subject.configs["evidence"], report=subject.report
        )
        if len(material.excluded):
            data = material.excluded
            right = batched_logits(model, pixels.normalised(data.inputs)).argmax(1) == data.labels
            share, definition = float(right.float().mean()), "share of test images of the excluded classes right"
            found.metrics.append(
                Metric("accuracy_excluded", "quality", "lower", share, len(right), definition=definition)
            )
        return found

    def apply(self, subject: Subject) -> None:
        """Train the student; an interrupted training goes on from its last checkpoint."""
        args, lora = subject.configs["method"], subject.configs["lora"].peft_config(task_type=None)
        trainer = robust_trainer(
            args,
            self.student,
            self._material,
            self._material.train,
            self.teacher,
            peft_config=lora,
            callbacks=[ProgressLine(subject.progress)],
            teacher_processing_class=self.teacher_processor,
        )
        trainer.train(resume_from_checkpoint=last_checkpoint(args.output_dir))
        subject.records["training"] = trainer.state.log_history
        model = trainer.model
        subject.model = (model.merge_and_unload() if lora is not None else model).eval()

    def save(self, subject: Subject, folder: Path) -> None:
        """Write a checkpoint that plain `transformers` loads (for our own nets after `import hf_forget.models`)."""
        save_checkpoint(subject.model, subject.processing_class, folder)

    def reload(self, subject: Subject, folder: Path) -> None:
        """Read the student back, as a user would."""
        subject.model, subject.processing_class = read_classifier(folder)

    def conclude(self, subject: Subject, before: list[Metric], after: list[Metric]) -> Conclusion:
        """Judge against the same net without a teacher."""
        records = subject.records
        ran = [name for name in ("pgd", "auto", "square") if name in records["after"]]
        return Conclusion(
            judge_robustness(records["before"], records["after"]),
            series=records["series_after"],
            attacks_run=ran,
        )

    @property
    def _material(self) -> RobustMaterial:
        if self.material is None:
            raise RuntimeError("load() must run before the other stages")
        return self.material
