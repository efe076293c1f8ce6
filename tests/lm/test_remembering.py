import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget.lm.decoding import AnswerGenerator
from hf_forget.lm.remembering import RememberingGenerator

PROMPTS = ["Question: Where was the poet born? Answer:", "Question: Who painted the picture? Answer:"]


@pytest.fixture(scope="module")
def loaded(tiny_llama):
    return AutoModelForCausalLM.from_pretrained(tiny_llama), AutoTokenizer.from_pretrained(tiny_llama)


@pytest.fixture
def asked(monkeypatch):
    calls = []
    plain = AnswerGenerator.generate

    def generate(self, prompts, **options):
        calls.append(list(prompts))
        return plain(self, prompts, **options)

    monkeypatch.setattr(AnswerGenerator, "generate", generate)
    return calls


def test_answers_are_those_of_the_model_and_asked_once(loaded, asked, tmp_path):
    file = tmp_path / "answers.jsonl"
    plain = AnswerGenerator(*loaded).generate(PROMPTS)
    asked.clear()
    assert RememberingGenerator(*loaded, file).generate(PROMPTS) == plain
    assert RememberingGenerator(*loaded, file).generate([*PROMPTS, PROMPTS[0], "Something else"])[:3] == [
        *plain,
        plain[0],
    ]
    assert asked == [PROMPTS, ["Something else"]]


def test_another_length_or_stop_is_another_question(loaded, asked, tmp_path):
    generator = RememberingGenerator(*loaded, tmp_path / "answers.jsonl")
    generator.generate(PROMPTS, max_new_tokens=4)
    generator.generate(PROMPTS, max_new_tokens=5)
    generator.generate(PROMPTS, max_new_tokens=5, stop=None)
    assert len(asked) == 3


def test_samples_belong_to_a_whole_call_and_its_seed(loaded, asked, tmp_path):
    file, options = tmp_path / "answers.jsonl", {"num_samples": 2, "temperature": 1.0, "seed": 3}
    plain = AnswerGenerator(*loaded).generate(PROMPTS, **options)
    asked.clear()
    for _ in range(2):
        assert RememberingGenerator(*loaded, file).generate(PROMPTS, **options) == plain
    assert asked == [PROMPTS]
    generator = RememberingGenerator(*loaded, file)
    for other in ({"seed": 4}, {"top_p": 0.9}, {"temperature": 0.5}):
        generator.generate(PROMPTS, **{**options, **other})
    generator.generate(PROMPTS[:1], **options)
    assert len(asked) == 5


def test_a_line_that_a_killed_run_left_unfinished_is_passed_over(loaded, asked, tmp_path):
    file = tmp_path / "answers.jsonl"
    first = RememberingGenerator(*loaded, file).generate(PROMPTS)
    file.write_text(file.read_text()[:-9])
    assert RememberingGenerator(*loaded, file).generate(PROMPTS) == first
    assert asked[-1] == PROMPTS[1:]
