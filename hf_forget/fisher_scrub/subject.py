"""What a recipe of `fisher_scrub` works on: images, the model and its codes, trained where they are not given."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    default_data_collator,
)

from ..data.images import class_names, image_tensors, load_images
from ..data.processors import processor_for
from ..errors import InputError
from ..evidence.labelled_inputs import LabelledInputs
from ..models.given import load_classifier
from ..models.parents import TensorRows, optimizer_of, parent_config, trained_parent, training_arguments
from .fisher_scrub_config import FisherScrubConfig
from .learning import learn_codes
from .mnemonic import MnemonicCodes, MnemonicCollator
from .road_options import ScrubModelOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Material:
    """Images as the model takes them.

    Args:
        train, test: Inputs with labels.
        class_names: Names of the classes, by label.
        processor: The image processor.
    """

    train: LabelledInputs
    test: LabelledInputs
    class_names: list[str]
    processor: Any


def load_material(args: FisherScrubConfig, model_path: str | None) -> Material:
    """Load the images of a recipe; a given model's own processor prepares them, otherwise one is made.

    Raises:
        InputError: If no image set is named or it cannot be used.
    """
    if not args.dataset_name:
        raise InputError("dataset_name is missing; give the images, for example --dataset_name embedded:mnist")
    found = load_images(args.dataset_name)
    processor = (
        processor_for([found["train"]]) if model_path is None else AutoImageProcessor.from_pretrained(model_path)
    )
    parts = [
        LabelledInputs(*image_tensors(found[split], processor, count))
        for split, count in (("train", args.parent_train_images), ("test", args.parent_test_images))
    ]
    return Material(parts[0], parts[1], class_names(found["train"]), processor)


def find_codes(args: FisherScrubConfig, shape: Sequence[int], classes: int) -> MnemonicCodes:
    """Read the codes that a recipe names, or draw them."""
    if args.codes is not None:
        return MnemonicCodes.load(args.codes)
    return MnemonicCodes.generate(classes, shape, seed=args.codes_seed)


def codes_sha256(codes: MnemonicCodes) -> str:
    """Return the hash by which codes are known."""
    return hashlib.sha256(codes.values.numpy().tobytes()).hexdigest()


def make_parent(
    args: FisherScrubConfig,
    material: Material,
    codes: MnemonicCodes,
    *,
    without: Sequence[int] = (),
    report: Callable[[str], None] | None = None,
) -> Path:
    """Return the folder of the parent, trained with the codes unless cached.

    Args:
        args: Options of the recipe.
        material: The images.
        codes: The codes.
        without: Classes that this parent never sees, neither their images nor their codes: the reference.
        report: Called with a line of text when training begins.
    """
    seen = material.train.without(list(without)) if without else material.train
    collator = MnemonicCollator(default_data_collator, codes, args.t_mix, seed=args.parent_seed)
    return trained_parent(
        args,
        parent_config(args, material.train.inputs[:1], material.class_names),
        TensorRows(seen.inputs, seen.labels),
        collator=collator,
        collator_key=f"{codes_sha256(codes)} {args.t_mix}",
        report=report,
    )


def load_given_model(options: ScrubModelOptions, names: Sequence[str]) -> tuple["PreTrainedModel", dict[str, Any]]:
    """Load the classifier that a recipe names, with a new last layer where it has other classes; and its provenance.

    Raises:
        InputError: If there is no such classifier.
    """
    given = {"num_labels": len(names), "ignore_mismatched_sizes": True}
    model, base = load_classifier(str(options.model_name_or_path), dtype=options.dtype, **given)
    if all(name.startswith("LABEL_") for name in model.config.id2label.values()):
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: label for label, name in enumerate(names)}
    return model, base


def teach_codes(
    model: "PreTrainedModel", args: FisherScrubConfig, material: Material, codes: MnemonicCodes, folder: Path
) -> None:
    """Train a given model for `code_epochs` with the codes mixed in; a resumed run finds it in `folder`."""
    if (folder / "config.json").is_file():
        model.load_state_dict(AutoModelForImageClassification.from_pretrained(folder).state_dict())
        return
    options = dataclasses.replace(args, parent_epochs=args.code_epochs)
    learn_codes(
        model,
        codes,
        TensorRows(material.train.inputs, material.train.labels),
        t_mix=args.t_mix,
        args=training_arguments(options, folder.with_name("code_checkpoints")),
        optimizer_cls_and_kwargs=optimizer_of(options),
    )
    model.save_pretrained(folder)
