"""Classifiers that a recipe names, with their provenance."""

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForImageClassification

from ..data.model_names import resolve_model
from ..errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_classifier(name: str, *, dtype: str = "float32", **given: Any) -> tuple["PreTrainedModel", dict[str, Any]]:
    """Load an image classifier in float32 and evaluation mode, and describe it as the report describes base models.

    Args:
        name: Folder or Hub id.
        dtype: The precision that the recipe names, for the description.
        given: Further arguments of `from_pretrained`.

    Raises:
        InputError: If there is no such classifier.
    """
    resolved = resolve_model(name)
    try:
        model = AutoModelForImageClassification.from_pretrained(
            resolved.path, dtype=torch.float32, use_safetensors=True, **given
        )
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"the model in {resolved.path} cannot be loaded as an image classifier: {error}") from None
    identity = {"sha256": resolved.sha256} if resolved.sha256 else {"revision": resolved.revision}
    return model.eval(), {"name": resolved.name, "source": resolved.source, "dtype": dtype, **identity}
