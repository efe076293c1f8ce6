"""What a recipe of `ardir` works on: images as pixels, the nets, and those that are trained once and kept."""

import copy
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageClassification, PrinterCallback, TrainingArguments

from ..data.cache import cache_dir, made_once
from ..data.images import class_names, image_tensors, load_images
from ..data.processors import processor_for
from ..errors import InputError
from ..evidence.labelled_inputs import LabelledInputs
from ..models.parents import TensorRows, parent_config
from ..trainer import ProgressLine
from .ardir_config import ARDIRConfig
from .ardir_trainer import ARDIRTrainer
from .robust_recipe_config import RobustRecipeConfig

_MARKER = "hf_forget_robust.json"
_VERSION = 1
# Options that leave the weights of a finished training as they are.
_NO_MATTER = ("output_dir", "report_to", "disable_tqdm", "run_name", "hub_token", "logging_dir")
# Options of ours that count where there is no teacher; the others must not make it train anew.
_WITHOUT_TEACHER = {"epsilon", "attack_steps", "attack_step_size", "trades_weight", "ema_decay"}
Report = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass
class RobustMaterial:
    """Images as pixels in [0, 1].

    Args:
        train, test: Images with labels, without those of excluded classes.
        teacher_train: What a teacher is trained on.
        excluded: Test images of the excluded classes; none without such.
        class_names: Names of the classes, by label.
        processor: The image processor, whose normalisation stands inside the models.
    """

    train: LabelledInputs
    test: LabelledInputs
    teacher_train: LabelledInputs
    excluded: LabelledInputs
    class_names: list[str]
    processor: Any


def load_robust_material(args: RobustRecipeConfig, processor: Any = None) -> RobustMaterial:
    """Load the images of a recipe.

    Args:
        args: Options of the recipe.
        processor: The processor of a given model; one is made for the images otherwise.

    Raises:
        InputError: If no images are named, or they cannot be used.
    """
    if not args.dataset_name:
        raise InputError("dataset_name is missing; give the images, for example --dataset_name embedded:mnist")
    found = load_images(args.dataset_name)
    names = class_names(found["train"])
    processor = processor or processor_for([found["train"]])
    plain = _without_normalisation(processor)
    train, test = (LabelledInputs(*image_tensors(found[split], plain)) for split in ("train", "test"))
    if args.validation_images is not None:
        if args.validation_images >= len(train):
            raise InputError(
                f"validation_images is {args.validation_images}, and there are {len(train)} training images"
            )
        left = len(train) - args.validation_images
        train, test = train.first(left), train.rows(torch.arange(left, len(train)))
    test = test.first(args.test_images)
    excluded = list(args.exclude_classes or ())
    unknown = [label for label in excluded if not 0 <= label < len(names)]
    if unknown:
        raise InputError(f"exclude_classes names {unknown[0]}; the labels are 0 to {len(names) - 1}")
    return RobustMaterial(
        train=train.without(excluded).first(args.train_images),
        test=test.without(excluded),
        teacher_train=train.without(excluded).first(args.teacher_train_images),
        excluded=test.of(excluded),
        class_names=names,
        processor=processor,
    )


def new_net(
    args: RobustRecipeConfig, material: RobustMaterial, hidden_sizes: list[int] | None = None, seed: int | None = None
) -> Any:
    """Return a net with random weights, by the seed of the options if none is given."""
    config = parent_config(args.net_options(hidden_sizes), material.train.inputs[:1], material.class_names)
    with torch.random.fork_rng():
        torch.manual_seed(args.seed if seed is None else seed)
        return AutoModelForImageClassification.from_config(config)


def trained_teacher(args: RobustRecipeConfig, material: RobustMaterial, report: Report, progress: Progress) -> Path:
    """Return the folder of the teacher of a recipe, trained unless cached."""
    changes = {
        "objective": args.teacher_objective,
        "num_train_epochs": args.teacher_epochs,
        "learning_rate": args.teacher_learning_rate,
        "max_steps": -1,
        "ema_decay": args.teacher_ema_decay,
        "seed": args.teacher_seed,
    }
    net = new_net(args, material, args.teacher_hidden_sizes, args.teacher_seed)
    return _kept(net, _trainer_config(args, changes), material, material.teacher_train, "the teacher", report, progress)


def trained_without_teacher(
    args: RobustRecipeConfig, model: Any, material: RobustMaterial, report: Report, progress: Progress
) -> Path:
    """Return the folder of the student as it becomes without a teacher, by the same options, trained unless cached."""
    config = _trainer_config(args, {"objective": "at"})
    what = "the same net without a teacher"
    return _kept(copy.deepcopy(model), config, material, material.train, what, report, progress)


def robust_trainer(
    args: ARDIRConfig, model: Any, material: RobustMaterial, data: LabelledInputs, teacher: Any = None, **given: Any
) -> ARDIRTrainer:
    """Return a trainer on images in memory."""
    trainer = ARDIRTrainer(
        model,
        args,
        train_dataset=TensorRows(data.inputs, data.labels),
        eval_dataset=TensorRows(material.test.inputs, material.test.labels),
        processing_class=material.processor,
        teacher_model=teacher,
        **given,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _kept(
    model: Any,
    args: ARDIRConfig,
    material: RobustMaterial,
    data: LabelledInputs,
    what: str,
    report: Report,
    progress: Progress,
) -> Path:
    """Train a model unless the cache has it, by the hash of all that makes it."""
    folder = cache_dir() / "robust" / _key(model, args, data)

    def make(partial: Path) -> None:
        report(f"training {what} on {len(data)} images, once")
        args.output_dir = str(partial / "checkpoints")
        trainer = robust_trainer(args, model, material, data, callbacks=[ProgressLine(progress)])
        start = time.perf_counter()
        trainer.train()
        trainer.model.save_pretrained(partial)
        shutil.rmtree(partial / "checkpoints", ignore_errors=True)
        (partial / _MARKER).write_text(json.dumps({"seconds": time.perf_counter() - start}) + "\n")

    return made_once(folder, (folder / _MARKER).is_file, make)


def _trainer_config(args: RobustRecipeConfig, changes: dict[str, Any]) -> ARDIRConfig:
    common = {item.name for item in fields(TrainingArguments)}
    names = [item.name for item in fields(ARDIRConfig) if item.init and item.name in common | _WITHOUT_TEACHER]
    values = {name: getattr(args, name) for name in names} | changes
    # Nothing is gone on with: a killed training begins anew.
    return ARDIRConfig(**(values | {"save_strategy": "no"}))


def _key(model: Any, args: ARDIRConfig, data: LabelledInputs) -> str:
    values = {item.name: getattr(args, item.name) for item in fields(args) if item.name not in _NO_MATTER}
    digest = hashlib.sha256(json.dumps([_VERSION, values], sort_keys=True, default=str).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    digest.update(data.inputs.contiguous().numpy().tobytes())
    digest.update(data.labels.numpy().tobytes())
    return digest.hexdigest()[:24]


def _without_normalisation(processor: Any) -> Any:
    plain = copy.deepcopy(processor)
    plain.do_normalize = False
    return plain
