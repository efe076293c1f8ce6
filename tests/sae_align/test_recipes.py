"""The recipes that are too large to run here: what a dry run says, and two steps of each on a tiny relative."""

import pytest
import torch
from tiny_alignment import KNOWN, RETAIN, TEXTS, UNKNOWN, telling_sae
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget import SAEAlignTrainer, load_recipe, run

RECIPES = {
    "gemma_2_2b": ("google/gemma-2-2b-it", "tiny_gemma2", [0]),
    "llama_3_1_8b": ("meta-llama/Llama-3.1-8B-Instruct", "tiny_llama", [0, 1]),
}
SHORT = {"max_steps": 2, "warmup_steps": 0, "bf16": False, "use_cpu": True, "save_strategy": "no", "disable_tqdm": True}


@pytest.mark.parametrize("name", RECIPES)
def test_a_dry_run_finds_nothing_wrong_but_that_the_hub_is_out_of_reach(name, no_hub, tmp_path):
    recipe = load_recipe(f"sae_align/{name}", {"output_dir": str(tmp_path / "out")})
    plan = run(recipe, dry_run=True).plan
    (unresolved,) = plan["unresolved"]
    assert plan["method"] == "sae_align" and plan["recipe"]["use_peft"] is True
    assert unresolved.startswith("model_name_or_path: ") and f"'{RECIPES[name][0]}'" in unresolved


@pytest.mark.parametrize("name", RECIPES)
def test_the_saes_of_a_recipe_are_in_the_directory_of_sae_lens(name):
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    directory = get_pretrained_saes_directory()
    for item in load_recipe(f"sae_align/{name}").configs()["method"].sae:
        release, _, identifier = item.partition(":")
        assert identifier in directory[release].saes_map


@pytest.mark.parametrize("name", RECIPES)
def test_two_steps_change_the_adapter_and_nothing_else(name, request, tmp_path):
    _, family, layers = RECIPES[name]
    folder = request.getfixturevalue(family)
    configs = load_recipe(f"sae_align/{name}").with_values(output_dir=str(tmp_path / "out"), **SHORT).configs()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    width = model.config.hidden_size
    base = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = SAEAlignTrainer(
        model,
        configs["method"],
        train_dataset=TEXTS,
        retain_dataset=RETAIN,
        processing_class=AutoTokenizer.from_pretrained(folder),
        concept="Isaac Newton",
        sae=[telling_sae(width, hook=f"blocks.{layer}.hook_resid_post") for layer in layers],
        known=KNOWN,
        unknown=UNKNOWN,
        peft_config=configs["lora"].peft_config(),
    )
    adapter = {key: value.clone() for key, value in trainer.model.state_dict().items() if "lora_" in key}
    trainer.train()
    now = trainer.model.state_dict()
    assert trainer.state.global_step == 2
    assert [key for key, value in adapter.items() if not torch.equal(value, now[key])]
    kept = {key.replace(".base_layer", ""): value for key, value in trainer.model.get_base_model().state_dict().items()}
    assert [key for key, value in base.items() if not torch.equal(value, kept[key])] == []
