"""What the tests of models as files share."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A folder with the files of a model, whose weights are one small tensor."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    save_file({"weight": torch.arange(6.0)}, folder / "model.safetensors")
    return folder
