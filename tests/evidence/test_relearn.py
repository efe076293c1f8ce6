import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget.evidence.attacks.relearn import STEPS, parted, relearn_attack
from hf_forget.evidence.probes import Probe
from hf_forget.lm.decoding import AnswerGenerator
from hf_forget.lm.prompts import plain_format

PROBES = [
    Probe(f"edge/{number}/{wording}", f"edge/{number}", "edge", f"{text} number {number}?", (f"answer {number}",),
          relation=f"relation {number}")
    for number in range(4) for wording, text in enumerate(("What is", "Tell me"))
]  # fmt: skip


def test_no_relation_is_in_both_parts_and_only_what_was_known_is_asked():
    learnt, asked = parted(PROBES, PROBES[:6])
    assert {probe.relation for probe in learnt} == {"relation 0", "relation 2"}
    assert asked == PROBES[2:4]


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
def test_what_is_trained_comes_back_and_the_weights_are_put_back(name, request, monkeypatch):
    monkeypatch.setattr("hf_forget.evidence.attacks.relearn.LEARNING_RATE", 5e-3)
    folder = request.getfixturevalue(name)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    model.get_input_embeddings().weight.requires_grad_(False)
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    form, generator = plain_format(), AnswerGenerator(model, tokenizer)

    def ask(probes):
        said = generator.generate([form.prompt(probe.question) for probe in probes], stop=form.stop)
        return {
            probe.id: {"correct": probe.answers[0] in text, "answer": text}
            for probe, (text,) in zip(probes, said, strict=True)
        }

    # What is trained itself, so that a tiny model can learn it.
    outcome = relearn_attack(model, tokenizer, form, ask, PROBES[:2], PROBES[:2])
    assert outcome["steps"] == [0, *STEPS] and outcome["accuracy"][0] == 0.0 and outcome["accuracy"][-1] == 1.0
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    assert not model.get_input_embeddings().weight.requires_grad
    assert all(weight.grad is None for weight in model.parameters())


def test_weights_are_put_back_after_an_error(tiny_llama):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_llama), AutoTokenizer.from_pretrained(tiny_llama)
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    asked = []

    def ask(probes):
        asked.append(probes)
        if len(asked) == 2:
            raise RuntimeError("out of time")
        return {probe.id: {"correct": False} for probe in probes}

    with pytest.raises(RuntimeError):
        relearn_attack(model, tokenizer, plain_format(), ask, PROBES[:2], PROBES[:2])
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
