import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget.evidence.logit_lens import final_norm, lens_metrics, lens_series, logit_lens_ranks

PROMPTS = ["Where was the poet born?", "The quick brown fox jumps over", "Rome"]
ANSWERS = [" village", " the", " is"]


@pytest.fixture(params=["tiny_llama", "tiny_gpt_neox", "adapter"])
def loaded(request):
    folder = request.getfixturevalue("tiny_llama" if request.param == "adapter" else request.param)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    return (get_peft_model(model, LoraConfig()) if request.param == "adapter" else model), tokenizer


def test_the_last_layer_ranks_as_the_model_itself(loaded):
    model, tokenizer = loaded
    ranks = logit_lens_ranks(model, tokenizer, PROMPTS, ANSWERS)
    for prompt, answer, row in zip(PROMPTS, ANSWERS, ranks, strict=True):
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        wanted = tokenizer(answer, add_special_tokens=False)["input_ids"][0]
        with torch.no_grad():
            logits = model(ids).logits[0, -1]
        assert row[-1] == int((logits > logits[wanted]).sum())
        assert len(row) == model.config.num_hidden_layers


def test_layers_in_between_are_read_through_the_final_norm_and_the_head(loaded):
    model, tokenizer = loaded
    ranks = logit_lens_ranks(model, tokenizer, PROMPTS, ANSWERS)
    for prompt, answer, row in zip(PROMPTS, ANSWERS, ranks, strict=True):
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        wanted = tokenizer(answer, add_special_tokens=False)["input_ids"][0]
        with torch.no_grad():
            states = model(ids, output_hidden_states=True).hidden_states[1][0, -1]
            logits = model.get_output_embeddings()(final_norm(model)(states))
        assert row[0] == int((logits > logits[wanted]).sum())


def test_neither_padding_nor_the_other_rows_change_a_rank(loaded):
    model, tokenizer = loaded
    together = logit_lens_ranks(model, tokenizer, PROMPTS, ANSWERS)
    assert together == logit_lens_ranks(model, tokenizer, PROMPTS, ANSWERS, batch_size=1)


def test_the_figure_is_the_median_of_the_best_late_rank():
    # Of three layers the last two count.
    (metric,) = lens_metrics([[0, 5, 9], [0, 7, 3], [0, 100, 80]])
    assert (metric.value, metric.n, metric.group) == (5.0, 3, "representation")
    assert lens_metrics(None, "not run: no norm")[0].status == "not_run"


def test_curves_are_medians_by_layer():
    series = lens_series({"before": [[9, 0], [99, 0]], "after": None})
    assert series == {"logit_lens_before": {"x": [0.0, 1.0], "y": [1.5, 0.0]}}
