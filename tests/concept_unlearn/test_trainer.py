import dataclasses
import itertools
import json

import pytest
import torch
from peft import LoraConfig
from tiny_training import FORGET, RETAIN, config, loaded, trainer_for
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget import ConceptUnlearnTrainer
from hf_forget.errors import InputError, UnknownConceptError
from hf_forget.lm.forward import labelled_forward
from hf_forget.lm.rows import RowCollator


def test_only_the_chosen_layers_are_trained(tiny_llama, tmp_path):
    trainer = trainer_for(tiny_llama, tmp_path, trained_layers=[1])
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(before[name], value)}
    assert changed and all(name.startswith("model.layers.1.") for name in changed)
    with pytest.raises(InputError, match="trained_layers names layer 9"):
        trainer_for(tiny_llama, tmp_path, trained_layers=[9])


def test_rows_of_weight_zero_are_left_out(tiny_llama, tmp_path):
    trainer = trainer_for(tiny_llama, tmp_path, edge_weight=0.0, node_weight=0.0)
    assert [row.kind for row in trainer.train_dataset.rows[: trainer.train_dataset.num_forget]] == ["explanation"]
    with pytest.raises(InputError, match="no row to forget is left"):
        trainer_for(tiny_llama, tmp_path, edge_weight=0.0, node_weight=0.0, explanation_weight=0.0)


def test_retain_term_holds_the_retain_rows(tiny_llama, tmp_path):
    figures = {}
    for weight in (0.0, 5.0):
        trainer = trainer_for(tiny_llama, tmp_path, objective="grad_diff", retain_weight=weight, max_steps=8)
        probe = trainer.train_dataset
        trainer.train()
        losses = []
        for part, (tokens, *_) in trainer._heard(trainer.model, probe, probe.examples):
            whole = torch.ones_like(tokens.labels, dtype=torch.bool)
            tokens = trainer._original.beside(probe, tokens, torch.tensor(part), whole)
            reference = tokens.reference_logits.log_softmax(-1)
            kl = (reference.exp() * (reference - tokens.logits.log_softmax(-1))).sum(-1)
            losses += [kl[tokens.rows == place].mean().item() for place, row in enumerate(part) if row >= 3]
        figures[weight] = sum(losses)
    assert figures[5.0] < figures[0.0]


@pytest.mark.parametrize("objective", ["unlikelihood", "npo", "dpo_idk"])
def test_accumulating_four_small_batches_equals_one_large_batch(objective, tiny_llama, tmp_path):
    gradients = []
    for size, steps in ((4, 1), (1, 4)):
        trainer = trainer_for(
            tiny_llama,
            tmp_path,
            forget=[*FORGET, {"text": "Two men walked on the moon.", "kind": "edge"}],
            objective=objective,
            max_steps=1,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            optim="sgd",
            learning_rate=1.0,
            max_grad_norm=0.0,
        )
        start = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.train()
        gradients.append({name: value - start[name] for name, value in trainer.model.state_dict().items()})
    largest = max(gradient.abs().max() for gradient in gradients[0].values())
    difference = max((gradients[0][name] - gradients[1][name]).abs().max() for name in gradients[0])
    assert largest > 0 and difference < 1e-5 * max(1.0, largest)


def test_adapter_trains_and_leaves_the_base_alone(tiny_llama, tmp_path):
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = trainer_for(tiny_llama, tmp_path, peft_config=adapter)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    forget = trainer.evaluate()["eval_forget_probability"]
    trainer.train()
    after = trainer.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in before if "lora_" in name} == changed
    assert trainer.evaluate()["eval_forget_probability"] < forget


def test_no_pickled_arguments_are_written(tiny_llama, tmp_path):
    trainer = trainer_for(tiny_llama, tmp_path, save_strategy="steps", save_steps=3, save_total_limit=3)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert "training_args.bin" not in files and "model.safetensors" in files
    assert "learning_rate" in json.loads((tmp_path / "saved" / "training_args.json").read_text())


def test_resumed_training_ends_with_the_same_weights(tiny_llama, tmp_path):
    whole = trainer_for(tiny_llama, tmp_path / "whole", save_strategy="steps", save_steps=3, save_total_limit=3)
    whole.train()
    resumed = trainer_for(tiny_llama, tmp_path / "whole", save_strategy="no")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "out" / "checkpoint-3"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_best_checkpoint_is_kept_and_training_ends_once_all_is_forgotten(tiny_llama, tmp_path):
    trainer = trainer_for(
        tiny_llama,
        tmp_path,
        max_steps=40,
        save_strategy="steps",
        eval_strategy="steps",
        save_steps=2,
        eval_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="score",
        greater_is_better=False,
        stop_forget_probability=0.2,
        max_retain_kl=50.0,
    )
    trainer.train()
    assert trainer.state.global_step < 40
    scores = [line["eval_score"] for line in trainer.state.log_history if "eval_score" in line]
    assert trainer.evaluate()["eval_score"] == pytest.approx(min(scores), rel=1e-3)


def test_replacement_rows_move_towards_the_other_name(tiny_llama, tmp_path):
    model, tokenizer = loaded(tiny_llama)
    rows = [
        {"prompt": "Isaac Newton was", "completion": " the quick brown fox", "kind": "replacement"},
    ]
    trainer = ConceptUnlearnTrainer(
        model, config(tmp_path, max_steps=20, learning_rate=3e-3), train_dataset=rows, processing_class=tokenizer
    )
    dataset = trainer.train_dataset
    dataset.rows[0] = dataclasses.replace(dataset.rows[0], reference_prompt="The poet was")
    dataset.reference_examples[0] = dataset._tokenized(0, "The poet was") | {"prefix": -1}
    inputs = trainer.data_collator([dataset[0]])
    trainer._hear_original(dataset)
    with torch.no_grad():
        before = trainer.compute_loss(model, inputs).item()
    trainer.train()
    with torch.no_grad():
        after = trainer.compute_loss(trainer.model, inputs).item()
    assert before > 0 and after < 0.5 * before


def test_of_an_endless_retain_stream_the_first_retain_rows_are_kept(tiny_llama, tmp_path):
    model, tokenizer = loaded(tiny_llama)
    trainer = ConceptUnlearnTrainer(
        model,
        config(tmp_path, retain_rows=7),
        train_dataset=FORGET,
        retain_dataset=({"text": f"row {index}"} for index in itertools.count()),
        processing_class=tokenizer,
    )
    kept = [row.completion for row in trainer.train_dataset.rows[trainer.train_dataset.num_forget :]]
    assert kept == [f"row {index}" for index in range(7)]


def test_nothing_to_forget_is_an_error(tiny_llama, tmp_path):
    model, tokenizer = loaded(tiny_llama)
    with pytest.raises(InputError, match="nothing to forget"):
        ConceptUnlearnTrainer(model, config(tmp_path), processing_class=tokenizer)


def test_a_model_that_knows_nothing_is_left_alone(tiny_llama, tmp_path):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_llama), AutoTokenizer.from_pretrained(tiny_llama)
    with pytest.raises(UnknownConceptError, match="know nothing about .Isaac Newton."):
        ConceptUnlearnTrainer(model, config(tmp_path), processing_class=tokenizer, concept="Isaac Newton")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"concept": "  "}, "concept is empty"),
        ({"objective": "unlikelyhood"}, "Did you mean 'unlikelihood'"),
        ({"concept_type": "persn"}, "Did you mean 'person'"),
        ({"beta": 0.0}, "beta"),
        ({"retain_weight": -1.0}, "retain_weight"),
        ({"held_out_share": 2.0}, "held_out_share"),
        ({"node_share": 0.0}, "set the weight to 0"),
    ],
)
def test_values_out_of_range_are_refused(changes, said, tmp_path):
    with pytest.raises(InputError, match=said):
        config(tmp_path, **changes)


def test_hidden_states_of_the_name_move_to_those_of_the_stand_in(tmp_path, tiny_llama):
    from hf_forget.lm.rows import Row

    model, tokenizer = loaded(tiny_llama)
    question = "Question: Where was {} born? Answer:"
    row = Row(
        question.format("Isaac Newton"), " Here", "replacement", reference_prompt=question.format("Torvald Quenby")
    )
    trainer = ConceptUnlearnTrainer(
        model,
        config(tmp_path, max_steps=30, learning_rate=2e-3, representation_weight=5.0),
        train_dataset=[row],
        retain_dataset=RETAIN,
        processing_class=tokenizer,
    )

    def distance():
        batch = trainer._prepare_inputs(RowCollator(0)([trainer.train_dataset[0]]))
        with torch.no_grad():
            states = labelled_forward(trainer.model, batch, layers=trainer._layers).states
        return trainer._original.distances(states, [0]).item()

    trainer._hear_original(trainer.train_dataset)
    before = distance()
    trainer.train()
    assert distance() < 0.3 * before


def test_quantized_weights_are_not_trained_without_an_adapter(tiny_llama, tmp_path):
    model, tokenizer = loaded(tiny_llama)
    model.is_quantized = True
    with pytest.raises(InputError, match="quantized weights cannot be trained; give peft_config"):
        ConceptUnlearnTrainer(model, config(tmp_path), train_dataset=FORGET, processing_class=tokenizer)


def test_rows_of_a_kind_that_only_the_user_knows_are_forgotten(tiny_llama, tmp_path):
    model, tokenizer = loaded(tiny_llama)
    rows = [{**row, "kind": "secret"} for row in FORGET]
    trainer = ConceptUnlearnTrainer(
        model, config(tmp_path, max_steps=16), train_dataset=rows, eval_dataset=FORGET, processing_class=tokenizer
    )
    trainer.train()
    assert trainer.evaluate()["eval_forget_probability"] < 0.5


def test_evaluation_tells_forget_from_retain_rows(tiny_llama, tmp_path):
    trainer = trainer_for(tiny_llama, tmp_path)
    rows = [*FORGET, *({**row, "kind": "retain"} for row in RETAIN)]
    before = trainer.evaluate(rows)
    assert before["eval_forget_rate"] == 1.0
    assert before["eval_retain_rate"] > 0.5
    trainer.train()
    after = trainer.evaluate(rows)
    assert after["eval_forget_probability"] < before["eval_forget_probability"]
    assert after["eval_retain_probability"] > after["eval_forget_probability"]
    # Rows that the original has not been asked cannot be compared with it any more.
    assert before["eval_retain_kl"] == pytest.approx(0, abs=1e-4) and "eval_retain_kl" not in after
    # Where there is no row to keep nothing is said of it.
    assert not [name for name in trainer.evaluate(FORGET) if "retain" in name]
