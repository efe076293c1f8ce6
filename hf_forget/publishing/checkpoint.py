"""A checkpoint with its processor: written as plain `transformers` loads it, and pushed with nothing beside it."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def save_checkpoint(model: "PreTrainedModel", processing_class: Any, folder: str | Path) -> Path:
    """Write a model and, if there is one, its processor, and return the folder.

    Args:
        model: The model.
        processing_class: Its image processor or tokenizer, or `None`.
        folder: Where they go; made if it does not exist.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    if processing_class is not None:
        processing_class.save_pretrained(folder)
    return folder


def read_classifier(folder: str | Path) -> tuple["PreTrainedModel", Any]:
    """Read an image classifier in evaluation mode, and its image processor, as a user would.

    Args:
        folder: What [`save_checkpoint`] wrote.
    """
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    return model, AutoImageProcessor.from_pretrained(folder)


def push_checkpoint(
    model: "PreTrainedModel", processing_class: Any, repo_id: str, *, private: bool | None = None, message: str
) -> str:
    """Upload what [`save_checkpoint`] writes, and return the address of the commit.

    Args:
        model: The model.
        processing_class: Its image processor or tokenizer, or `None`.
        repo_id: The repository; made if it does not exist.
        private: Whether to make it as a private one.
        message: The commit's message.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(model, processing_class, folder)
        info = api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    return info.commit_url
