import functools
import json

import pytest
from tiny_alignment import random_sae
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget.errors import InputError
from hf_forget.sae_align import sae_folder
from hf_forget.sae_align.sae_folder import QUALITY_FILE, default_sae, saes_for
from hf_forget.sae_align.sae_training import SAETraining

TEXTS = [f"The {animal} of {place} sleeps for {count} days." for animal in ("cat", "dog", "owl", "fox")
         for place in ("Bern", "Rome", "Oslo", "Lima") for count in range(4)]  # fmt: skip


@pytest.fixture
def loaded(tiny_llama):
    return AutoModelForCausalLM.from_pretrained(tiny_llama).eval(), AutoTokenizer.from_pretrained(tiny_llama)


@pytest.fixture
def quick(monkeypatch, cache):
    small = functools.partial(SAETraining, num_latents=16, k=4, num_tokens=512, batch_tokens=128, buffer_tokens=256)
    monkeypatch.setattr(sae_folder, "SAETraining", small)
    monkeypatch.setattr(sae_folder, "default_texts", lambda: TEXTS)
    return cache


def test_the_default_sae_is_trained_once_and_kept_in_the_cache(loaded, quick):
    said = []
    folder = default_sae(*loaded, report=said.append)
    assert folder.is_relative_to(quick) and folder.name.endswith("-layer1")
    assert (folder / "README.md").exists() and json.loads((folder / QUALITY_FILE).read_text())["tokens"] > 0
    assert any("training" in line for line in said)
    assert default_sae(*loaded, report=pytest.fail) == folder
    assert list(saes_for(*loaded)) == [1]


def test_one_that_was_interrupted_while_it_was_measured_is_measured(loaded, quick):
    folder = default_sae(*loaded)
    weights = (folder / "sae_weights.safetensors").read_bytes()
    (folder / QUALITY_FILE).unlink()
    said = []
    default_sae(*loaded, report=said.append)
    assert (folder / QUALITY_FILE).exists() and (folder / "sae_weights.safetensors").read_bytes() == weights
    assert not any("training" in line for line in said)


def test_a_model_without_a_name_needs_an_sae(loaded, quick):
    model, tokenizer = loaded
    model.config.name_or_path = ""
    with pytest.raises(InputError, match="give sae"):
        default_sae(model, tokenizer)


def test_a_layer_that_is_not_there_is_refused(loaded, quick):
    with pytest.raises(InputError, match="sae_layer names layer 5"):
        default_sae(*loaded, 5)


def test_several_saes_are_sorted_by_layer(loaded):
    width = loaded[0].config.hidden_size
    given = [random_sae(width, hook=f"blocks.{layer}.hook_resid_post") for layer in (1, 0, 1)]
    assert {layer: len(found) for layer, found in saes_for(*loaded, given).items()} == {0: 1, 1: 2}
