"""`ARDIRTrainer`: adversarially robust image classifiers, with or without a teacher."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import DataCollator, TrainerCallback, TrainerControl

from ..errors import InputError, TrainingError
from ..evidence.adversarial import PixelModel, check_pixels, pgd, right_under_pgd
from ..evidence.classifier_outputs import class_logits, evaluation_mode
from ..models.given import load_classifier
from ..trainer import ForgetTrainer, last_checkpoint, with_adapter
from .ardir_config import ARDIRConfig
from .averaging import AveragedWeights
from .objectives import Outputs, Seen, get_objective, inner_loss, joined
from .pixel_rows import NumberedRows, PixelCollator
from .representation import FreshGradients, RepresentationReader, check_widths, projection
from .teacher import Teacher

_PROJECTION = "projection.safetensors"


class ARDIRTrainer(ForgetTrainer):
    """Trainer that makes an image classifier robust against small changes of its pixels.

    `x' = PGD(argmax_{‖x' − x‖∞ ≤ ε} CE(S(x'), y))`, `L = KL(p_T(x) ‖ p_S(x')) + λ·d(h_T(x), h_S(x'))` with a frozen
    teacher `T` (arXiv 2211.00239; distance, layer and λ are reconstructed). Other objectives by name, see
    [`~hf_forget.ardir.objectives`].

    Images and ε are pixels in [0, 1]; the processor's normalisation stands inside the attacked model, so that the model
    that is saved takes normalised images as any other. The attack sees the student in evaluation mode: batch norms use
    their running statistics, and these do not learn from unfinished attacks. The step itself runs in training mode, and
    where an objective sees `x'` and `x` they pass together as one batch, whose statistics a batch norm takes.

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`): The student; a string is loaded in float32.
        args ([`ARDIRConfig`]): Options.
        data_collator: Makes batches with `pixel_values` in [0, 1] and `labels`;
            [`~hf_forget.ardir.pixel_rows.PixelCollator`] by default.
        train_dataset, eval_dataset: Rows with `pixel_values`, pixels in [0, 1], or `image`; and `labels` or `label`.
        processing_class: The image processor of the student; without one it takes pixels as they are.
        peft_config: A `peft.PeftConfig` to train an adapter instead of all weights.
        teacher_model (`str` or `PreTrainedModel`, *optional*): The teacher of `ardir`, `ard`, `rslad` and `iad`.
            It is frozen, and read in evaluation mode.
        teacher_processing_class (*optional*): Its image processor; the student's if not given.

    Raises:
        InputError: If there is no teacher where one is needed, it has other labels or another width, a layer does not
            exist, or images lie outside [0, 1].
        TrainingError: If the loss is no number any more; the last checkpoint stays.

    Example:
        ```python
        from hf_forget import ARDIRConfig, ARDIRTrainer

        trainer = ARDIRTrainer(student, ARDIRConfig(output_dir="out", epsilon=0.3), train_dataset=images,
                               eval_dataset=test_images, processing_class=processor, teacher_model=teacher)
        trainer.train()
        print(trainer.evaluate()["eval_robust_accuracy"])
        trainer.save_model()
        ```
    """

    _tag_names = ["hf-forget", "adversarial-robustness", "ardir"]

    def __init__(
        self,
        model: Any,
        args: ARDIRConfig | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        compute_metrics: Callable[..., dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[Any, dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
        quantization_config: Any = None,
        peft_config: Any = None,
        *,
        teacher_model: Any = None,
        teacher_processing_class: Any = None,
    ):
        args = copy.copy(args or ARDIRConfig(output_dir="ardir"))
        args.remove_unused_columns = False
        given = {"quantization_config": quantization_config} if quantization_config is not None else {}
        model = load_classifier(model, **given)[0] if isinstance(model, str) else model
        self.objective = get_objective(args.objective)
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        self._reader = RepresentationReader(base, args.representation_layer) if args.uses_representation else None
        teacher_processor = teacher_processing_class or processing_class
        self.teacher = _teacher(teacher_model, model, args, teacher_processor) if self.objective.uses_teacher else None
        self.projection: nn.Linear | None = None
        model = with_adapter(model, peft_config)
        self.averaged = AveragedWeights(model, args.ema_decay) if args.ema_decay else None
        if self.averaged is not None:
            callbacks = [*(callbacks or ()), self.averaged]
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator or PixelCollator(processing_class),
            train_dataset=_numbered(train_dataset) if self.teacher is not None else train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        # Neither is part of the model that is trained: both only hold it.
        self._student = PixelModel(self.model, processing_class).to(self.args.device)
        if self._reader is not None and self.train_dataset is not None:
            self._join_widths()

    def _join_widths(self) -> None:
        """Compare the widths of both representations on one image, and put a projection between them if asked to."""
        pixels = self.data_collator([self.train_dataset[0]])["pixel_values"].to(self.args.device)
        check_pixels(pixels)
        teacher = self._of_teacher(pixels, None).representation
        with evaluation_mode(self.model), torch.no_grad():
            own = self._outputs(self.model, pixels).representation
        assert teacher is not None and own is not None
        check_widths(own.shape[1], teacher.shape[1], projected=self.args.project_representation)
        if self.args.project_representation:
            if self.args.world_size > 1:
                raise InputError("project_representation learns in one process only; choose layers of one width")
            self.projection = projection(own.shape[1], teacher.shape[1], self.args.seed).to(self.args.device)
            self.add_callback(FreshGradients(self.projection))

    def create_optimizer(self, model: Any = None) -> Any:
        """Make the optimizer, of the projection's weights, too."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if fresh and self.projection is not None:
            optimizer.add_param_group({"params": list(self.projection.parameters()), "weight_decay": 0.0})
        return optimizer

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """Train as `transformers.Trainer.train` does; what is kept beside the weights is read back, too."""
        folder = last_checkpoint(self.args.output_dir) if resume_from_checkpoint is True else resume_from_checkpoint
        if folder:
            if self.averaged is not None:
                self.averaged.load(Path(folder))
            if self.projection is not None:
                self.projection.load_state_dict(load_file(Path(folder) / _PROJECTION))
        return super().train(resume_from_checkpoint, **kwargs)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Attack a batch, and return the loss of the objective, a mean over its images.

        With `return_outputs`, the student's logits on the attacked images come beside it.
        """
        pixels, labels = inputs["pixel_values"], inputs["labels"]
        check_pixels(pixels)
        objective, count = self.objective, len(labels)
        teacher = self._of_teacher(pixels, inputs.get("row_index")) if objective.uses_teacher else None
        attacked = self._attacked(model, pixels, labels, teacher)
        outputs = self._outputs(model, joined([attacked, pixels] if objective.sees_clean else [attacked]))
        adversarial = outputs.rows(0, count)
        if self.projection is not None and adversarial.representation is not None:
            adversarial = Outputs(adversarial.logits, self.projection(adversarial.representation.float()))
        again = self._of_teacher(attacked, None) if objective.asks_teacher_again else None
        clean = outputs.rows(count, 2 * count) if objective.sees_clean else None
        loss = objective.loss(Seen(labels, adversarial, clean, teacher, again), self.args)
        if not bool(torch.isfinite(loss)):
            raise TrainingError(self._diverged("the loss is"))
        return (loss, {"logits": adversarial.logits}) if return_outputs else loss

    def _diverged(self, what: str) -> str:
        kept = last_checkpoint(self.args.output_dir)
        left = f"the last good checkpoint is '{kept}'" if kept else "no checkpoint has been written yet"
        return (
            f"{what} no number any more at step {self.state.global_step}; {left}. Try a lower learning_rate than "
            f"{self.args.learning_rate:g}, or max_grad_norm below {self.args.max_grad_norm:g}"
        )

    def _of_teacher(self, pixels: Tensor, rows: Tensor | None) -> Outputs:
        assert self.teacher is not None
        with torch.no_grad():
            return self.teacher.about(pixels, rows)

    def _attacked(self, model: Any, pixels: Tensor, labels: Tensor, teacher: Outputs | None) -> Tensor:
        """Images within ε on which the student, in evaluation mode and without its wrappers, does worst."""
        student = self.accelerator.unwrap_model(model)
        target = teacher.logits if teacher is not None else None
        with evaluation_mode(student):
            if self.objective.inner == "clean":
                with torch.no_grad():
                    target = class_logits(student, self._student.normalised(pixels))
            loss_of = inner_loss(self.objective.inner, labels, target)
            return pgd(
                pixels,
                lambda images: loss_of(class_logits(student, self._student.normalised(images))),
                epsilon=self.args.epsilon,
                steps=self.args.attack_steps,
                step_size=self.args.attack_step_size,
            )

    def _outputs(self, model: Any, pixels: Tensor) -> Outputs:
        """What the student makes of pixels, in the mode that it is in."""
        inputs = self._student.normalised(pixels)
        if self._reader is None:
            return Outputs(class_logits(model, inputs))
        with self._reader.reading(self.accelerator.unwrap_model(model)) as seen:
            logits = class_logits(model, inputs)
        return Outputs(logits, seen[-1])

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Measure the model, with averaged weights where there are such.

        Returns:
            `accuracy` on images as they are, `robust_accuracy` under PGD with `eval_attack_steps` steps and
            `eval_attack_restarts` restarts within ε, and `loss`, the cross-entropy of images as they are.
        """
        loader = self.get_eval_dataloader(eval_dataset)
        student = self.averaged.model if self.averaged is not None and self.state.global_step else self.model
        measured = PixelModel(student, self.processing_class).to(self.args.device)
        generator = torch.Generator().manual_seed(self.args.seed)
        found: list[Tensor] = []
        with evaluation_mode(student), self.compute_loss_context_manager():
            for batch in loader:
                inputs = self._prepare_inputs(batch)
                found.append(self.accelerator.gather_for_metrics(self._measured(measured, inputs, generator)))
        accuracy, robust, loss = torch.cat(found).mean(0).tolist()
        metrics = {"accuracy": accuracy, "robust_accuracy": robust, "loss": loss}
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _measured(self, model: PixelModel, inputs: dict[str, Any], generator: torch.Generator) -> Tensor:
        """For each image whether it is right, whether it is under attack, and its loss, shape `(n, 3)`."""
        pixels, labels = inputs["pixel_values"], inputs["labels"]
        check_pixels(pixels)
        with torch.no_grad():
            logits = model(pixels).float()
        robust = right_under_pgd(
            model,
            pixels,
            labels,
            epsilon=self.args.epsilon,
            steps=self.args.eval_attack_steps,
            restarts=self.args.eval_attack_restarts,
            generator=generator,
        )
        loss = nn.functional.cross_entropy(logits, labels, reduction="none")
        return torch.stack([(logits.argmax(1) == labels).float(), robust.float(), loss], dim=1)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not all(bool(value.isfinite().all()) for value in self.model.state_dict().values()):
            raise TrainingError(self._diverged("some weights are"))
        super()._save(output_dir, state_dict)
        folder = Path(output_dir or self.args.output_dir)
        if folder.name.startswith("checkpoint-"):
            if self.averaged is not None:
                self.averaged.save(folder)
            if self.projection is not None:
                save_file(self.projection.state_dict(), folder / _PROJECTION)


def _teacher(given: Any, student: Any, args: ARDIRConfig, processor: Any) -> Teacher:
    """Load and check the teacher."""
    if given is None:
        raise InputError(f"objective '{args.objective}' learns from a teacher; give teacher_model, or objective 'at'")
    model = load_classifier(given)[0] if isinstance(given, str) else given
    if model is student:
        raise InputError("student and teacher are the same object; give a copy, or the folder of the teacher")
    counts = [getattr(item.config, "num_labels", None) for item in (student, model)]
    if counts[0] != counts[1]:
        raise InputError(
            f"the student has {counts[0]} labels and the teacher {counts[1]}; give a teacher of the same classes"
        )
    layer = args.teacher_layer or args.representation_layer
    reader = RepresentationReader(model, layer) if args.uses_representation else None
    return Teacher(model, processor, reader, cached=args.cache_teacher)


def _numbered(dataset: Any) -> Any:
    """Number the rows of a dataset that has a length; those of a stream have no number."""
    return NumberedRows(dataset) if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") else dataset
