"""Fast decoding: the answers are those of `generate`."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget.evidence.answers import prompt_formats
from hf_forget.lm.decoding import AnswerGenerator
from hf_forget.lm.generation import TextGenerator


def loaded(folder):
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_gpt_neox"])
def test_fast_greedy_answers_are_those_of_generate(fixture, request):
    model, tokenizer = loaded(request.getfixturevalue(fixture))
    form = prompt_formats(["few_shot"], tokenizer)[0]
    questions = ["Where?", "Who painted the famous picture?", "What is the name of the longest river?", "Why now?"]
    prompts = [form.prompt(question) for question in questions]
    for stop in ("\n", " ", None):
        slow = TextGenerator(model, tokenizer, batch_size=3).generate(prompts, max_new_tokens=9, stop=stop)
        fast = AnswerGenerator(model, tokenizer, batch_size=3).generate(prompts, max_new_tokens=9, stop=stop)
        assert fast == slow


def test_rows_that_end_leave_the_batch_and_the_others_go_on_unchanged(tiny_llama):
    model, tokenizer = loaded(tiny_llama)
    prompts = ["Where is the tower now?", "Who?", "Paris is the capital of", "two men walked"]
    whole = AnswerGenerator(model, tokenizer).generate(prompts, max_new_tokens=12, stop=None)
    stop = whole[0][0][3]
    cut = AnswerGenerator(model, tokenizer).generate(prompts, max_new_tokens=12, stop=stop)
    assert cut == [[text.split(stop)[0]] for (text,) in whole]
    assert len(set(map(len, (text for (text,) in cut)))) > 1


def test_samples_follow_the_seed_and_differ_from_each_other(tiny_llama):
    generator = AnswerGenerator(*loaded(tiny_llama), batch_size=4)
    draw = {"max_new_tokens": 6, "num_samples": 5, "temperature": 1.0, "stop": None}
    first, again, other = (generator.generate(["Who?", "Where is it?"], seed=seed, **draw) for seed in (1, 1, 2))
    assert first == again != other
    assert [len(texts) for texts in first] == [5, 5]
    assert len(set(first[0])) > 1


def test_sampling_from_a_model_that_gives_no_numbers_still_returns(tiny_llama):
    model, tokenizer = loaded(tiny_llama)
    model.model.norm.weight.data.fill_(float("nan"))
    texts = AnswerGenerator(model, tokenizer).generate(["Who?"], num_samples=2, temperature=1.0, max_new_tokens=3)
    assert len(texts[0]) == 2


def test_model_without_positions_is_decoded_the_ordinary_way(tiny_llama):
    model, tokenizer = loaded(tiny_llama)
    expected = AnswerGenerator(model, tokenizer).generate(["Who is it?"], stop=None)
    generator = AnswerGenerator(model, tokenizer)
    generator._read = lambda *args: (_ for _ in ()).throw(TypeError("unexpected keyword argument 'position_ids'"))
    assert generator.generate(["Who is it?"], stop=None) == expected


def test_next_token_log_probs_are_those_of_a_plain_forward_pass(tiny_llama):
    model, tokenizer = loaded(tiny_llama)
    found = AnswerGenerator(model, tokenizer).next_token_log_probs(["Who?", "Where is the long river?"])
    ids = tokenizer("Who?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = model(ids).logits[0, -1].log_softmax(-1)
    assert torch.allclose(found[0], expected, atol=1e-5)
    assert found.shape == (2, model.config.vocab_size)
