"""Parents: small models that a recipe trains once and keeps in the cache, by the hash of all that makes them."""

import copy
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoModelForImageClassification,
    PrinterCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from ..data.cache import cache_dir, made_once
from ..data.weights import weights_sha256
from ..errors import InputError
from ..trainer import ForgetTrainer
from . import ConvNetConfig, MLPConfig
from .parent_options import ParentOptions

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

logger = logging.getLogger(__name__)

_VERSION = 2
_MARKER = "hf_forget_parent.json"
_CONFIGS = {"mlp": MLPConfig, "convnet": ConvNetConfig}
Collator = Callable[[list[Any]], dict[str, Any]]


class TensorRows(torch.utils.data.Dataset):
    """Images and labels in memory, as rows for a `Trainer`."""

    def __init__(self, pixel_values: "Tensor", labels: "Tensor") -> None:
        self.pixel_values = pixel_values
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, "Tensor"]:
        return {"pixel_values": self.pixel_values[index], "labels": self.labels[index]}


def parent_config(options: ParentOptions, images: "Tensor", class_names: list[str]) -> "PreTrainedConfig":
    """Return the configuration of a parent for images of this size and these classes.

    Raises:
        InputError: If the images are not square.
    """
    channels, height, width = images.shape[1:]
    if height != width:
        raise InputError(f"parents take square images, and these have {height} × {width} pixels; resize them")
    given: dict[str, Any] = {"image_size": height, "num_channels": channels}
    if options.parent_hidden_sizes is not None:
        given["hidden_sizes"] = options.parent_hidden_sizes
    if options.parent_activation is not None:
        given["hidden_act"] = options.parent_activation
    return _CONFIGS[options.parent](
        **given, id2label=dict(enumerate(class_names)), label2id={name: i for i, name in enumerate(class_names)}
    )


def trained_parent(
    options: ParentOptions,
    config: "PreTrainedConfig",
    rows: TensorRows,
    *,
    collator: Collator = default_data_collator,
    collator_key: str = "",
    report: Callable[[str], None] | None = None,
) -> Path:
    """Return the folder of a parent, trained unless the cache has it.

    It is trained by `transformers.Trainer` with a linear schedule, in a folder beside that is renamed when whole, under
    a lock.

    Args:
        options ([`ParentOptions`]): How to train.
        config: Configuration of the model.
        rows: What to train on.
        collator: Makes batches of rows.
        collator_key: What tells this collator from others, such as the hash of its codes.
        report: Called with a line of text when training begins.
    """
    folder = cache_dir() / "parents" / _key(options, config, rows, collator_key)

    def train(partial: Path) -> None:
        if report is not None:
            report(f"Training the parent on {len(rows)} images, once")
        _train(options, config, rows, collator, partial)

    return made_once(folder, (folder / _MARKER).is_file, train)


def parent_provenance(folder: Path, name: str) -> dict[str, Any]:
    """Describe a model that a recipe trained as the report describes base models."""
    return {"name": name, "source": "recipe", "sha256": weights_sha256(folder), "dtype": "float32"}


def training_seconds(folder: Path) -> float:
    """Return how long the training of a parent took, whenever that was."""
    return json.loads((folder / _MARKER).read_text())["seconds"]


def load_parent(folder: Path) -> "PreTrainedModel":
    """Load a parent in evaluation mode."""
    return AutoModelForImageClassification.from_pretrained(folder).eval()


def _train(options: ParentOptions, config: Any, rows: TensorRows, collator: Collator, folder: Path) -> None:
    set_seed(options.parent_seed)
    model = AutoModelForImageClassification.from_config(copy.deepcopy(config))
    trainer = ForgetTrainer(
        model=model,
        args=training_arguments(options, folder / "checkpoints"),
        data_collator=collator,
        train_dataset=rows,
        optimizer_cls_and_kwargs=optimizer_of(options),
    )
    trainer.remove_callback(PrinterCallback)
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    model.save_pretrained(folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / _MARKER).write_text(json.dumps({"version": _VERSION, "seconds": seconds}) + "\n")


def optimizer_of(options: ParentOptions) -> tuple[type[torch.optim.Optimizer], dict[str, Any]] | None:
    """Return what trains a parent as `transformers.Trainer` takes it; `None` for the AdamW of its arguments."""
    if options.parent_optimizer == "adamw":
        return None
    return torch.optim.SGD, {"lr": options.parent_learning_rate, "momentum": 0.9}


def training_arguments(options: ParentOptions, folder: Path) -> TrainingArguments:
    """Return how a parent is trained, with `folder` for what the trainer writes."""
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=options.parent_epochs,
        learning_rate=options.parent_learning_rate,
        weight_decay=options.parent_weight_decay,
        per_device_train_batch_size=options.parent_batch_size,
        seed=options.parent_seed,
        lr_scheduler_type="linear",
        remove_unused_columns=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )


def _key(options: ParentOptions, config: Any, rows: TensorRows, collator_key: str) -> str:
    training = {
        name: getattr(options, name)
        for name in (
            "parent_epochs",
            "parent_optimizer",
            "parent_learning_rate",
            "parent_weight_decay",
            "parent_batch_size",
            "parent_seed",
        )
    }
    described = {"version": _VERSION, "config": config.to_dict(), "training": training, "collator": collator_key}
    for name in ("transformers_version", "architectures", "dtype"):  # set when a model is made or saved
        described["config"].pop(name, None)
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for tensor in (rows.pixel_values, rows.labels):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]
