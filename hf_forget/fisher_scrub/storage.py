"""What a scrub leaves on disk, what of it must not be published, and the way back."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError
from ..publishing.checkpoint import save_checkpoint

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from .fisher_scrubber import FisherScrubber

PRIVATE = "private"
UNDO_FILE = "undo.safetensors"
_NAMES = "hf_forget_names"
_CONFIG_KEYS = ("id2label", "label2id", "forgotten_classes")


@dataclass
class Saved:
    """The trainable weights of a model and the names of its classes at one moment.

    Args:
        weights: Copies by name.
        names: `id2label`, `label2id` and `forgotten_classes` of the configuration.
    """

    weights: "dict[str, Tensor]"
    names: dict[str, Any]

    @classmethod
    def of(cls, model: "PreTrainedModel") -> "Saved":
        """Copy what a scrub may change."""
        weights = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
        names = {key: copy.deepcopy(getattr(model.config, key, None)) for key in _CONFIG_KEYS}
        return cls(weights, names)

    @torch.no_grad()
    def restore(self, model: "PreTrainedModel") -> None:
        """Put everything back, bit for bit."""
        parameters = dict(model.named_parameters())
        for name, value in self.weights.items():
            parameters[name].copy_(value)
        for key, value in self.names.items():
            setattr(model.config, key, copy.deepcopy(value))

    def changes(self, model: "PreTrainedModel") -> dict[str, int]:
        """Return how many weights of each parameter differ by now."""
        return {
            name: int((value != self.weights[name]).sum())
            for name, value in model.named_parameters()
            if name in self.weights
        }


def save_scrubbed(scrubber: "FisherScrubber", folder: Path) -> Path:
    """Write the checkpoint into `folder`, and the codes and the original weights into `folder/private`."""
    save_checkpoint(scrubber.model, scrubber.processing_class, folder)
    save_private(scrubber, folder / PRIVATE)
    return folder


def save_private(scrubber: "FisherScrubber", folder: Path) -> None:
    """Write what must not be published: the codes, and the weights and names from before the first scrub."""
    folder.mkdir(parents=True, exist_ok=True)
    scrubber.codes.save(folder)
    if scrubber._undo:
        first = scrubber._undo[0]
        names = json.dumps(_with_text_keys(first.names))
        weights = {name: value.cpu().contiguous() for name, value in first.weights.items()}
        save_file(weights, folder / UNDO_FILE, metadata={"format": "pt", _NAMES: names})


def undo_saved(model: "PreTrainedModel", folder: str | Path) -> None:
    """Give a model that was read from `folder` its weights and class names from before the first scrub, bit for bit.

    Raises:
        InputError: If `folder/private` holds no undo data, or they belong to another model.
    """
    file = Path(folder) / PRIVATE / UNDO_FILE
    try:
        with safe_open(file, "pt") as stored:
            names = json.loads((stored.metadata() or {})[_NAMES])
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise InputError(f"'{file}' holds no undo data ({error!r}); it is written by save_pretrained") from None
    shapes = {name: value.shape for name, value in model.named_parameters()}
    other = [name for name, value in weights.items() if shapes.get(name) != value.shape]
    if other:
        raise InputError(f"the undo data in '{file}' belong to another model: {other[0]} differs")
    if names["id2label"]:
        names["id2label"] = {int(label): name for label, name in names["id2label"].items()}
    Saved(weights, names).restore(model)


def _with_text_keys(names: dict[str, Any]) -> dict[str, Any]:
    return names | {"id2label": {str(label): name for label, name in (names["id2label"] or {}).items()}}
