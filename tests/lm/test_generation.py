import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget.errors import InputError
from hf_forget.lm.decoding import AnswerGenerator
from hf_forget.lm.generation import TextGenerator
from hf_forget.lm.prefix import shared_prefix_length
from hf_forget.lm.prompts import chat_format, default_format_names, few_shot_format, get_format

PROMPTS = ["Question: Who painted the famous picture? Answer:", "Question: Who painted it? Answer:", "The quick"]


@pytest.fixture(params=["tiny_llama", "tiny_gpt_neox"])
def loaded(request):
    folder = request.getfixturevalue(request.param)
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("generator", [TextGenerator, AnswerGenerator])
def test_batched_answers_are_those_of_one_by_one(loaded, generator):
    model, tokenizer = loaded
    texts = generator(model, tokenizer).generate(PROMPTS, max_new_tokens=6, stop=None)
    for prompt, text in zip(PROMPTS, texts, strict=True):
        inputs = tokenizer(prompt, return_tensors="pt")
        plain = model.generate(**inputs, max_new_tokens=6, do_sample=False, pad_token_id=0)
        assert text[0] == tokenizer.decode(plain[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)


def test_scores_agree_with_a_plain_forward_pass(loaded):
    model, tokenizer = loaded
    scores = TextGenerator(model, tokenizer).score(PROMPTS[:2], [" A painter", " the poet"])
    for prompt, completion, score in zip(PROMPTS, [" A painter", " the poet"], scores, strict=False):
        target = tokenizer(completion, add_special_tokens=False)["input_ids"]
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        assert score.target_ids == target
        whole = torch.cat([ids, torch.tensor([target])], 1)
        log_probs = model(whole).logits[0].log_softmax(-1)
        expected = [-log_probs[ids.shape[1] - 1 + place, token].item() for place, token in enumerate(target)]
        assert score.negative_log_likelihoods == pytest.approx(expected, abs=1e-4)


def test_sampling_is_repeatable_and_restores_the_mode(loaded):
    model, tokenizer = loaded
    model.train()
    generator = AnswerGenerator(model, tokenizer)
    first, again = (generator.generate(PROMPTS[:1], num_samples=4, temperature=1.0, seed=5) for _ in range(2))
    assert first == again and len(first[0]) == 4
    assert model.training


def test_shared_prefix_leaves_each_row_a_token():
    assert shared_prefix_length([[1, 2, 3], [1, 2, 3]]) == 2
    assert shared_prefix_length([[1, 2], [3]]) == 0


def test_formats_by_tokenizer(tiny_llama, tiny_gpt_neox):
    chat, base = (AutoTokenizer.from_pretrained(folder) for folder in (tiny_llama, tiny_gpt_neox))
    assert default_format_names(chat) == ["few_shot", "chat"]
    assert default_format_names(base) == ["few_shot", "plain"]
    assert chat_format(chat).prompt("Why?").endswith("assistant\n")
    with pytest.raises(InputError, match="chat template"):
        chat_format(base)
    with pytest.raises(InputError, match="Did you mean 'few_shot'"):
        get_format("fewshot", base, [])


def test_few_shot_prompt_shows_the_examples_first():
    form = few_shot_format([("What is two and two?", "Four")])
    assert form.prompt("Why?") == "Question: What is two and two?\nAnswer: Four\n\nQuestion: Why?\nAnswer:"
    assert form.completion("Because") == " Because" and form.stop == "\n"
