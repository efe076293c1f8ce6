"""Claims about the hash of weights, and about folders that are incomplete or damaged."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from hf_forget.data.model_names import resolve_model
from hf_forget.data.weights import weights_sha256
from hf_forget.errors import InputError


def test_changed_weights_have_another_hash_although_hashes_are_kept(cache, model_folder):
    before = weights_sha256(model_folder)
    save_file({"weight": torch.arange(6.0) + 1}, model_folder / "model.safetensors")
    os.utime(model_folder / "model.safetensors", ns=(1, 1))
    assert weights_sha256(model_folder) != before


def test_every_shard_counts_for_the_hash(cache, model_folder):
    (model_folder / "model.safetensors").rename(model_folder / "a.safetensors")
    save_file({"bias": torch.zeros(2)}, model_folder / "b.safetensors")
    index = {"weight_map": {"weight": "a.safetensors", "bias": "b.safetensors"}}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    before = resolve_model(str(model_folder)).sha256
    save_file({"bias": torch.ones(2)}, model_folder / "b.safetensors")
    os.utime(model_folder / "b.safetensors", ns=(1, 1))
    assert resolve_model(str(model_folder)).sha256 != before
    (model_folder / "b.safetensors").unlink()
    with pytest.raises(InputError, match="b.safetensors' are missing"):
        resolve_model(str(model_folder))


@pytest.mark.parametrize("keep", [0, 4, 8, 40, -1])
def test_truncated_safetensors_is_an_error_that_names_the_file(keep, model_folder):
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(InputError, match="model.safetensors' is truncated"):
        resolve_model(str(model_folder))


def test_folder_without_config_is_no_model(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no config.json"):
        resolve_model(str(tmp_path / "empty"))


def test_adapter_folder_is_told_from_a_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="PEFT adapter"):
        resolve_model(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="Pickled weights are not read"):
        resolve_model(str(tmp_path))
