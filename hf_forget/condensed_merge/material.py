"""What a recipe of `condensed_merge` works on: sets of images, a model for each, and what stands for the images."""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification

from ..data.cache import cache_dir, made_once
from ..data.images import class_names, image_tensors, load_images
from ..data.processors import processor_bounds, processor_for
from ..errors import InputError
from ..evidence.labelled_inputs import LabelledInputs
from ..models.given import load_classifier
from ..models.parents import TensorRows, load_parent, parent_config, parent_provenance, trained_parent
from .condensation import CondensationOptions, ModelFactory, condensed_inputs
from .condensed_merge_config import MergeWithCondensedConfig
from .condensed_set import DATA, image_set, read_condensed, save_condensed

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Report = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass
class MergeMaterial:
    """Sets of images as the models take them.

    Args:
        train, test: Inputs with labels, for each set.
        class_names: Names of the classes, for each set.
        names: What each set is called.
        processor: The image processor of all.
    """

    train: list[LabelledInputs]
    test: list[LabelledInputs]
    class_names: list[list[str]]
    names: list[str]
    processor: Any


def load_material(args: MergeWithCondensedConfig, model_path: str | None) -> MergeMaterial:
    """Load the sets of a recipe; a given model's own processor prepares them, otherwise one is made for all.

    Raises:
        InputError: If no sets are named or they cannot be used.
    """
    if not args.dataset_names:
        raise InputError(
            "dataset_names is missing; give a set for each model, for example "
            "--dataset_names embedded:mnist,embedded:fashion_mnist"
        )
    sets = [load_images(name) for name in args.dataset_names]
    if model_path is None:
        processor: Any = processor_for([found["train"] for found in sets])
    else:
        processor = AutoImageProcessor.from_pretrained(model_path)
    turns = [degrees // 90 for degrees in args.rotations or [0] * len(sets)]
    parts = [
        [_turned(found[split], processor, count, turn) for found, turn in zip(sets, turns, strict=True)]
        for split, count in (("train", args.parent_train_images), ("test", args.parent_test_images))
    ]
    names = [
        name + (f" turned by {90 * turn} degrees" if turn else "")
        for name, turn in zip(args.dataset_names, turns, strict=True)
    ]
    return MergeMaterial(parts[0], parts[1], [class_names(found["train"]) for found in sets], names, processor)


def given_models(paths: Sequence[str], material: MergeMaterial) -> tuple[list[Any], list[dict[str, Any]]]:
    """Load the classifiers that a recipe names, and their provenance.

    Raises:
        InputError: If there is no such classifier, or it has other classes than its set.
    """
    models, bases = [], []
    for path, names in zip(paths, material.class_names, strict=True):
        model, base = load_classifier(path)
        if model.config.num_labels != len(names):
            raise InputError(f"'{path}' has {model.config.num_labels} classes, and its images have {len(names)}")
        models.append(model)
        bases.append(base)
    return models, bases


def made_models(
    args: MergeWithCondensedConfig, material: MergeMaterial, report: Report
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Train a model on each set unless cached, from different random weights, and describe them."""
    models, bases = [], []
    for place, (rows, names) in enumerate(zip(material.train, material.class_names, strict=True)):
        folder = _trained(args, rows, names, place, report)
        models.append(load_parent(folder))
        name = f"{args.parent} trained on {material.names[place]}"
        bases.append(parent_provenance(folder, name))
    return models, bases


def joint_model(args: MergeWithCondensedConfig, material: MergeMaterial, report: Report) -> Any:
    """Train one model on all sets, unless cached: the reference."""
    offsets = label_offsets(args, material)
    rows = LabelledInputs(
        torch.cat([part.inputs for part in material.train]),
        torch.cat([part.labels + first for part, first in zip(material.train, offsets, strict=True)]),
    )
    names = material.class_names[0] if args.head == "shared" else sum(material.class_names, [])
    return load_parent(_trained(args, rows, names, len(material.train), report))


def label_offsets(args: MergeWithCondensedConfig, material: MergeMaterial) -> list[int]:
    """Where the labels of each set begin in the merged model's head."""
    if args.head == "shared":
        return [0] * len(material.train)
    return [sum(map(len, material.class_names[:place])) for place in range(len(material.train))]


def stand_ins(
    args: MergeWithCondensedConfig,
    material: MergeMaterial,
    config: "PreTrainedConfig",
    report: Report,
    progress: Progress,
) -> list[LabelledInputs] | None:
    """Return what stands for the images of each set in the merge; condensed sets are kept in the cache.

    Args:
        args: Options of the recipe.
        material: The sets.
        config: Configuration of the models, of which random ones condense.
        report: Called with a line of text when a condensation begins.
        progress: Called with its steps.
    """
    if args.data == "none":
        return None
    if args.data == "full":
        return [rows.sample(args.full_images, args.merge_seed) for rows in material.train]
    if args.data == "subset":
        return [random_subset(rows, args.images_per_class, args.merge_seed) for rows in material.train]
    found = []
    for place in range(len(material.train)):
        folder = condensed_folder(
            material.train[place],
            config,
            args.condensation_options(args.merge_seed + place),
            material.processor,
            material.class_names[place],
            material.names[place],
            report=report,
            progress=progress,
        )
        found.append(LabelledInputs(*image_tensors(read_condensed(folder), material.processor)))
    return found


def condensed_folder(
    data: LabelledInputs,
    config: "PreTrainedConfig",
    options: CondensationOptions,
    processor: Any,
    names: list[str],
    source: str,
    *,
    report: Report = lambda line: None,
    progress: Progress = lambda done, of: None,
) -> Path:
    """Return the folder of a condensed set, made unless the cache has it; an interrupted condensation goes on.

    Args:
        data: The inputs.
        config: Configuration of the random models that condense them.
        options: How.
        processor: Their image processor.
        names: Names of the classes.
        source: What the images are, for the card.
        report: Called with a line of text when a condensation begins.
        progress: Called with its steps.
    """
    folder = cache_dir() / "condensed" / _key(data, config, options)
    state = folder.with_suffix(".safetensors")

    def make(partial: Path) -> None:
        report(f"condensing {len(data)} images of {source}")
        found = condensed_inputs(
            data,
            random_models(config),
            options,
            bounds=processor_bounds(processor),
            state_file=state,
            progress=progress,
        )
        how = f"Made by {options.condensation} in {options.steps} steps with random {config.model_type} models."
        save_condensed(image_set(found, processor, names), partial, source=source, made_by=how)
        state.unlink(missing_ok=True)

    folder.parent.mkdir(parents=True, exist_ok=True)
    return made_once(folder, (folder / DATA).is_file, make)


def random_models(config: "PreTrainedConfig") -> ModelFactory:
    """Return a function that makes a new random model of a configuration at each call."""
    return lambda: AutoModelForImageClassification.from_config(copy.deepcopy(config))


def random_subset(data: LabelledInputs, per_class: int, seed: int) -> LabelledInputs:
    """Draw so many inputs of each class."""
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in data.labels.unique().tolist():
        rows = (data.labels == label).nonzero()[:, 0]
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:per_class]])
    return data.rows(torch.cat(chosen))


def _trained(
    args: MergeWithCondensedConfig, rows: LabelledInputs, names: list[str], place: int, report: Report
) -> Path:
    return trained_parent(
        dataclasses.replace(args, parent_seed=args.parent_seed + place),
        parent_config(args, rows.inputs[:1], names),
        TensorRows(rows.inputs, rows.labels),
        report=report,
    )


def _key(data: LabelledInputs, config: "PreTrainedConfig", options: CondensationOptions) -> str:
    described = config.to_dict()
    for name in ("transformers_version", "architectures", "dtype", "id2label", "label2id"):
        described.pop(name, None)
    digest = hashlib.sha256(json.dumps([described, asdict(options)], sort_keys=True, default=str).encode())
    for tensor in (data.inputs, data.labels):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]


def _turned(images: Any, processor: Any, count: int | None, quarters: int) -> LabelledInputs:
    inputs, labels = image_tensors(images, processor, count)
    return LabelledInputs(torch.rot90(inputs, quarters, (2, 3)).contiguous() if quarters % 4 else inputs, labels)
