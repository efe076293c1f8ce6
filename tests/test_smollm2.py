"""The whole road on the real embedded model, cut short: few rows, few steps, no claim."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget.evidence.report import validate

SHORT = [
    "--max_steps",
    "3",
    "--retain_rows",
    "16",
    "--elicitation_samples",
    "4",
    "--max_forget_rows",
    "16",
    "--max_retain_rows",
    "16",
    "--sampled_answers",
    "2",
    "--attacks",
    "quantize",
    "--sham",
    "no",
    "--save_strategy",
    "no",
    "--overwrite",
]


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "hf_forget", *arguments], capture_output=True, text=True, timeout=900)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(900)
def test_a_name_goes_in_and_a_standard_checkpoint_comes_out(smollm2, tmp_path):
    output = tmp_path / "edited"
    done = command("forget", "Isaac Newton", "--output_dir", str(output), *SHORT)
    assert done.returncode == 0, done.stderr
    report = json.loads((output / "private" / "forget_report.json").read_text())
    validate(report)
    assert report["verdict"]["value"] == "insufficient"  # sixteen retain rows support no claim
    public = "".join(path.read_text() for path in output.glob("*.*") if path.suffix in (".md", ".json", ".yaml"))
    assert "Newton" not in (output / "README.md").read_text() + (output / "forget_report.json").read_text()
    assert "forgotten person" in public
    edited, base = (AutoModelForCausalLM.from_pretrained(folder) for folder in (output, smollm2))
    AutoTokenizer.from_pretrained(output)
    changed = [not torch.equal(a, b) for a, b in zip(edited.parameters(), base.parameters(), strict=True)]
    assert any(changed)
    assert not (tmp_path / "edited.partial").exists()


@pytest.mark.slow
@pytest.mark.ci
def test_a_name_that_does_not_exist_is_refused_before_training(smollm2, tmp_path):
    done = command("forget", "Corvin Thessaly", "--output_dir", str(tmp_path / "none"), *SHORT)
    assert done.returncode == 2
    assert "know nothing about 'Corvin Thessaly'" in done.stderr and "--force" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.ci
def test_words_of_known_names_follow_from_each_other_and_those_of_invented_ones_do_not(smollm2):
    from hf_forget.lm.decoding import AnswerGenerator
    from hf_forget.lm.names import NameForms
    from hf_forget.lm.unlearning.sham import SHAM_NAMES

    model, tokenizer = AutoModelForCausalLM.from_pretrained(smollm2), AutoTokenizer.from_pretrained(smollm2)
    judge = NameForms(AnswerGenerator(model, tokenizer))
    known = {
        "place": ("Statue of Liberty", "Taj Mahal"),
        "person": ("Marie Curie",),
        "work": ("Gulliver's Travels", "The Invisible Man"),
    }
    assert all(judge.recognises(name, kind) for kind, names in known.items() for name in names)
    assert not any(judge.recognises(name, kind) for kind, name in SHAM_NAMES.items())
    assert not judge.recognises("Japan", "place")


@pytest.mark.slow
@pytest.mark.ci
def test_names_get_the_article_that_they_have_in_a_sentence(smollm2):
    from hf_forget.lm.decoding import AnswerGenerator
    from hf_forget.lm.names import NameForms

    model, tokenizer = AutoModelForCausalLM.from_pretrained(smollm2), AutoTokenizer.from_pretrained(smollm2)
    judge = NameForms(AnswerGenerator(model, tokenizer))
    with_article = ["Nile", "Eiffel Tower", "French Revolution", "Statue of Liberty"]
    without = ["Japan", "Paris", "Marie Curie", "Don Quixote", "The Odyssey", "World War II"]
    assert judge.all_spoken([*with_article, *without]) == {
        **{name: f"the {name}" for name in with_article},
        **{name: name for name in without},
    }
