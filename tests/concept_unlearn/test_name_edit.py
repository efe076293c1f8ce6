"""The closed-form edit: exact on paper, and on models of three families."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from hf_forget import ConceptUnlearnConfig, ConceptUnlearnTrainer
from hf_forget.concept_unlearn.name_edit import RIDGE, edit_layers, edit_name_states, least_squares_update
from hf_forget.errors import InputError
from hf_forget.lm.representation import decoder_layers, mlp_output, run_to_layer
from hf_forget.lm.rows import Row

QUESTIONS = ("Question: Where was {} born?", "In which country did {} live?", "{} is known for the", "Who taught {}?")
PAIRS = [
    Row(text.format("Isaac Newton"), " Here", "replacement", reference_prompt=text.format("Torvald Quenby"))
    for text in QUESTIONS
]
CONTEXTS = [text.format(name) for text in QUESTIONS for name in ("Leonardo da Vinci", "William Shakespeare", "a poet")]


@pytest.fixture(params=["tiny_llama", "tiny_gpt_neox", "gpt2"])
def family(request, tiny_llama):
    """A model whose MLP ends in a linear layer, or in GPT-2's transposed one, and its tokenizer."""
    if request.param == "gpt2":
        tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=4)), tokenizer
    folder = request.getfixturevalue(request.param)
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def test_the_update_solves_the_stated_least_squares():
    generator = torch.Generator().manual_seed(0)
    keys, residuals, others = (torch.randn(*shape, generator=generator) for shape in ((3, 5), (3, 2), (20, 5)))
    kept, weight = others.T @ others, 7.0
    update = least_squares_update(keys, residuals, kept, weight)
    ridge = RIDGE * (weight * keys.T @ keys + kept).diagonal().mean().double()
    stacked = torch.cat([weight**0.5 * keys.double(), others.double(), ridge.sqrt() * torch.eye(5).double()])
    wanted = torch.cat([weight**0.5 * residuals.double(), torch.zeros(25, 2).double()])
    assert torch.allclose(update, torch.linalg.lstsq(stacked, wanted).solution.T, atol=1e-8)


def states(model, tokenizer, text, layer):
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return run_to_layer(model.eval(), ids, torch.ones_like(ids), layer)[0]


def test_the_name_reads_like_the_other_one_and_other_names_hardly_change(family):
    model, tokenizer = family
    before = {name: value.clone() for name, value in model.state_dict().items()}
    text = "Question: Where was {}"
    wanted = states(model, tokenizer, text.format("Torvald Quenby"), 1)[-1]
    earlier = {
        name: states(model, tokenizer, text.format(name), 1)[-1] for name in ("Isaac Newton", "Leonardo da Vinci")
    }
    left = edit_name_states(model, tokenizer, PAIRS, CONTEXTS, weight=50.0, layers=[0, 1])
    later = {name: states(model, tokenizer, text.format(name), 1)[-1] for name in earlier}
    assert left and list(left.values()) == sorted(left.values(), reverse=True)
    assert (later["Isaac Newton"] - wanted).norm() < 0.5 * (earlier["Isaac Newton"] - wanted).norm()
    moved = {name: (later[name] - earlier[name]).norm() for name in earlier}
    assert moved["Leonardo da Vinci"] < 0.2 * moved["Isaac Newton"]
    edited = {id(mlp_output(layer).weight) for layer in decoder_layers(model)}
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and changed <= {name for name, value in model.named_parameters() if id(value) in edited}


def test_a_change_that_does_not_bring_the_states_closer_is_taken_back(family, monkeypatch):
    model, tokenizer = family
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr(
        "hf_forget.concept_unlearn.name_edit.least_squares_update",
        lambda keys, residuals, kept, weight: -100 * residuals.double().T @ keys.double(),
    )
    assert edit_name_states(model, tokenizer, PAIRS, CONTEXTS, weight=50.0, layers=[0, 1]) == {}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_rows_without_another_name_leave_the_model_alone(family):
    model, tokenizer = family
    rows = [Row("Isaac Newton was", " born", "replacement"), Row("a", " b", "replacement", reference_prompt="a")]
    assert edit_name_states(model, tokenizer, rows, CONTEXTS, weight=50.0) == {}


def test_a_name_at_the_very_start_is_left_out_as_the_first_states_are_unlike_all_others(family):
    model, tokenizer = family
    rows = [Row("Isaac Newton was", " born", "replacement", reference_prompt="Torvald Quenby was")]
    assert edit_name_states(model, tokenizer, rows, CONTEXTS, weight=50.0, layers=[0, 1]) == {}
    assert edit_name_states(model, tokenizer, [*rows, PAIRS[0]], CONTEXTS, weight=50.0, layers=[0, 1])


def test_frozen_weights_are_not_edited(family):
    model, tokenizer = family
    mlp_output(decoder_layers(model)[0]).weight.requires_grad_(False)
    frozen = mlp_output(decoder_layers(model)[0]).weight.clone()
    assert set(edit_name_states(model, tokenizer, PAIRS, CONTEXTS, weight=50.0, layers=[0, 1])) == {1}
    assert torch.equal(mlp_output(decoder_layers(model)[0]).weight, frozen)


def test_layers_outside_the_model_are_refused(family):
    model, _ = family
    assert edit_layers(model, None) == [1]
    with pytest.raises(InputError, match="edit_layers names layer 7; the model has layers 0 to 1"):
        edit_layers(model, [7])


def test_a_layer_without_a_narrowing_output_is_named():
    with pytest.raises(InputError, match="set edit_weight to 0"):
        mlp_output(torch.nn.Sequential(torch.nn.Linear(4, 4)))


@pytest.mark.parametrize(("weight", "edited"), [(20.0, True), (0.0, False)])
def test_the_trainer_edits_before_training_where_contexts_are_given(tiny_llama, tmp_path, weight, edited):
    args = ConceptUnlearnConfig(
        output_dir=str(tmp_path), edit_weight=weight, max_steps=1, save_strategy="no", bf16=False, use_cpu=True
    )
    trainer = ConceptUnlearnTrainer(
        AutoModelForCausalLM.from_pretrained(tiny_llama),
        args,
        train_dataset=PAIRS,
        retain_dataset=[Row("", text, "context") for text in CONTEXTS] + [Row("One and", " two", "retain")],
        processing_class=AutoTokenizer.from_pretrained(tiny_llama),
    )
    assert [row.kind for row in trainer.train_dataset.rows].count("context") == 0
    trainer.train()
    assert bool(trainer.edit_distances) is edited
