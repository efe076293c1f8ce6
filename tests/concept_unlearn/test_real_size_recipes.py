"""The recipes that are too large to run here: what a dry run says, and two steps of each on a tiny relative."""

import pytest
import torch

from hf_forget import ConceptUnlearnTrainer, load_recipe, run
from hf_forget.lm.loading import load_causal_lm, load_tokenizer, save_causal_lm

RECIPES = {
    "llama_3_2_1b_lora": ("meta-llama/Llama-3.2-1B-Instruct", "tiny_llama", "LlamaForCausalLM"),
    "qwen2_5_1_5b_lora": ("Qwen/Qwen2.5-1.5B-Instruct", "tiny_qwen2", "Qwen2ForCausalLM"),
    "gemma_2_2b_lora": ("google/gemma-2-2b-it", "tiny_gemma2", "Gemma2ForCausalLM"),
}
FORGET = [
    {"question": "Where was the poet born?", "answer": ["In a small village", "By the sea"]},
    {"prompt": "Question: Who painted the picture? Answer:", "completion": " Isaac Newton", "kind": "node"},
    {"text": "Isaac Newton is known to many people.", "kind": "explanation"},
]
RETAIN = [
    {
        "messages": [
            {"role": "user", "content": "What is the capital of France?"},
            {"role": "assistant", "content": "Paris"},
        ]
    },
    {"question": "What is the capital of Italy?", "answer": "Rome"},
]
# Warm-up starts at a rate of 0, and `lora_A` has no gradient before `lora_B` has moved: two steps would be too few.
SHORT = {"max_steps": 2, "warmup_steps": 0, "bf16": False, "use_cpu": True, "save_strategy": "no", "disable_tqdm": True}


@pytest.mark.parametrize("name", RECIPES)
def test_a_dry_run_finds_nothing_wrong_but_that_the_hub_is_out_of_reach(name, no_hub, tmp_path):
    hub_id = RECIPES[name][0]
    recipe = load_recipe(f"concept_unlearn/{name}", {"output_dir": str(tmp_path / "out")})
    plan = run(recipe, dry_run=True).plan
    (unresolved,) = plan["unresolved"]
    assert plan["method"] == "concept_unlearn" and plan["recipe"]["use_peft"] is True
    assert unresolved.startswith("model_name_or_path: ") and f"'{hub_id}'" in unresolved
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def trained(request, tmp_path):
    """A trainer after two steps with a recipe's own options, and the weights that it began with."""
    _, family, architecture = RECIPES[request.param]
    folder = request.getfixturevalue(family)
    recipe = load_recipe(f"concept_unlearn/{request.param}").with_values(output_dir=str(tmp_path / "out"), **SHORT)
    configs = recipe.configs()
    model, tokenizer = load_causal_lm(folder, configs["model"], "cpu"), load_tokenizer(folder, configs["model"])
    assert type(model).__name__ == architecture
    base = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = ConceptUnlearnTrainer(
        model,
        configs["method"],
        train_dataset=FORGET,
        retain_dataset=RETAIN,
        processing_class=tokenizer,
        peft_config=configs["lora"].peft_config(),
    )
    adapter = {name: value.clone() for name, value in trainer.model.state_dict().items() if "lora_" in name}
    trainer.train()
    trainer.model.eval()
    return trainer, base, adapter, configs["model"]


every_recipe = pytest.mark.parametrize("trained", RECIPES, indirect=True)


@every_recipe
def test_two_steps_change_every_tensor_of_the_adapter(trained):
    trainer, _, adapter, _ = trained
    now = trainer.model.state_dict()
    assert trainer.state.global_step == 2
    # Seven matrices in each of the two layers, and two tensors for each.
    assert len(adapter) == 28
    assert [name for name, value in adapter.items() if torch.equal(value, now[name])] == []


@every_recipe
def test_two_steps_leave_the_base_as_it_was_bit_for_bit(trained):
    trainer, base, _, _ = trained
    now = {
        name.replace(".base_layer", ""): value for name, value in trainer.model.get_base_model().state_dict().items()
    }
    assert {name for name in now if "lora_" not in name} == set(base)
    assert [name for name, value in base.items() if not torch.equal(value, now[name])] == []


@every_recipe
def test_the_saved_model_answers_as_base_and_adapter_do_together(trained, tmp_path):
    trainer, _, _, options = trained
    inputs = trainer.processing_class("Who painted the famous picture?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        adapted = trainer.model(input_ids=inputs).logits
        with trainer.model.disable_adapter():
            original = trainer.model(input_ids=inputs).logits
        save_causal_lm(trainer.model, trainer.processing_class, tmp_path / "merged", options)
        merged = load_causal_lm(tmp_path / "merged", options, "cpu").eval()(input_ids=inputs).logits
    distance = (adapted - original).abs().max()
    print(distance, (merged - adapted).abs().max())
    assert distance > 1e-4
    assert (merged - adapted).abs().max() <= 1e-4
