import math
from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig
from tiny_alignment import KNOWN, TEXTS, UNKNOWN, begun, config, random_sae, telling_sae, trainer_for
from transformers import AutoModelForCausalLM

from hf_forget.errors import InputError
from hf_forget.lm.representation import decoder_layers
from hf_forget.sae_align.alignment import DISTANCES
from hf_forget.sae_align.alignment_rows import cut_behind, name_of
from hf_forget.sae_align.latent_alignment import EntityReader

MODELS = ("tiny_llama", "tiny_gpt_neox")


def alignment_losses(trainer):
    """The alignment loss of all texts with the model as it is."""
    rows = list(trainer._places)
    reader = EntityReader(
        trainer.model, trainer.processing_class, sorted(trainer.saes), trainer.args.row_length, nullcontext
    )
    states = reader.states(rows, [name_of(row, trainer.names) for row in rows])
    layers = list(reader.layers)
    distance = DISTANCES[trainer.args.distance]
    return sum(
        float(item.loss(states[:, layers.index(item.layer), item.position], range(len(rows)), distance, 0.0))
        for item in trainer.latents
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("peft", [False, True])
def test_training_brings_the_target_nearer_to_the_unknown(name, peft, request, tmp_path):
    adapter = LoraConfig(r=4, target_modules="all-linear") if peft else None
    training = {"max_steps": 20, "retain_weight": 0.1, "learning_rate": 1e-2 if peft else 1e-3}
    folder = request.getfixturevalue(name)
    trainer = trainer_for(folder, tmp_path, peft_config=adapter, positions=["entity"], **training)
    begun(trainer)
    before = alignment_losses(trainer)
    trainer.train()
    trainer.model.eval()
    assert alignment_losses(trainer) < 0.7 * before


def test_the_name_and_the_end_of_the_text_are_where_the_batch_is_read(tiny_llama, tmp_path):
    """The states that enter the loss of a batch are those that the reader finds in each text by itself."""
    trainer = trainer_for(tiny_llama, tmp_path)
    begun(trainer)
    seen = []
    for item in trainer.latents:
        object.__setattr__(item, "space", Recording(item.space, seen))
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.compute_loss(trainer.model, batch)
    rows = [trainer.train_dataset.rows[index] for index in batch["row_index"].tolist()]
    rows = [row for row in rows if row.kind == "alignment"]
    reader = EntityReader(trainer.model, trainer.processing_class, [0], 128, nullcontext)
    states = reader.states(rows, [name_of(row, trainer.names) for row in rows])[:, 0]
    sae = trainer.saes[0][0]
    for position in range(3):
        expected = sae.process_sae_in(states[:, position]) @ sae.W_enc + sae.b_enc
        assert torch.allclose(seen[position], expected, atol=1e-4)


class Recording:
    """A latent space that keeps what it is given."""

    def __init__(self, space, seen):
        self.space, self.seen = space, seen

    def __call__(self, values):
        self.seen.append(values.detach())
        return self.space(values)


def test_gradients_reach_the_weights_through_inactive_latents(tiny_llama, tmp_path):
    """With the latents behind the activation function there would be none: no latent is active."""
    sae = telling_sae(AutoModelForCausalLM.from_pretrained(tiny_llama).config.hidden_size)
    trainer = trainer_for(tiny_llama, tmp_path, sae=sae, retain_weight=0.0)
    begun(trainer)
    with torch.no_grad():
        sae.b_enc -= 1e4
    for item in trainer.latents:
        item.space.mean.sub_(1e4)
    batch = next(iter(trainer.get_train_dataloader()))
    assert not (sae.encode(torch.randn(8, sae.cfg.d_in)) > 0).any()
    trainer.compute_loss(trainer.model, batch).backward()
    gradient = decoder_layers(trainer.model)[0].mlp.down_proj.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0


def test_other_rows_of_the_batch_do_not_move_the_alignment_loss(tiny_llama, tmp_path):
    trainer = trainer_for(tiny_llama, tmp_path, retain_weight=0.0)
    begun(trainer)
    pairs = [trainer.train_dataset[index, (0,)] for index in range(4)]
    both = trainer.data_collator(pairs)
    alone = trainer.data_collator([pair[:1] for pair in pairs])
    first, second = (float(trainer.compute_loss(trainer.model, batch).detach()) for batch in (both, alone))
    assert first == pytest.approx(second, rel=1e-4)


def test_hooks_are_gone_after_an_error_in_the_forward_pass(tiny_llama, tmp_path, monkeypatch):
    trainer = trainer_for(tiny_llama, tmp_path)
    begun(trainer)
    batch = next(iter(trainer.get_train_dataloader()))
    layer = decoder_layers(trainer.model)[1]

    def broken(*args, **kwargs):
        raise RuntimeError("broken layer")

    monkeypatch.setattr(layer, "forward", broken)
    with pytest.raises(RuntimeError, match="broken layer"):
        trainer.compute_loss(trainer.model, batch)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in trainer.model.modules())


def test_several_saes_at_once_are_averaged(tiny_llama, tmp_path):
    width = AutoModelForCausalLM.from_pretrained(tiny_llama).config.hidden_size
    saes = [telling_sae(width), telling_sae(width, hook="blocks.1.hook_resid_post")]
    trainer = trainer_for(tiny_llama, tmp_path, sae=saes, max_steps=2)
    trainer.train()
    assert sorted(trainer.saes) == [0, 1]
    assert len(trainer.latents) == 6
    assert all(math.isfinite(line["loss"]) for line in trainer.state.log_history if "loss" in line)


def test_rows_of_concept_unlearning_are_forgotten_beside_the_alignment(tiny_llama, tmp_path):
    edge = {"prompt": "Question: Where was Isaac Newton born? Answer:", "completion": " In a village", "kind": "edge"}
    trainer = trainer_for(
        tiny_llama, tmp_path, texts=[*TEXTS, edge], edge_weight=1.0, max_steps=4, retain_weight=0.0, num_train_epochs=1
    )
    kinds = {row.kind for row in trainer.train_dataset.rows[: trainer.train_dataset.num_forget]}
    assert kinds == {"alignment", "edge"}
    trainer.train()


@pytest.mark.parametrize("distance", ["energy", "mmd", "mean"])
def test_every_distance_trains(distance, tiny_llama, tmp_path):
    trainer = trainer_for(tiny_llama, tmp_path, distance=distance, max_steps=2, positions=["entity"])
    trainer.train()
    assert len(trainer.latents) == 1


def test_an_interrupted_training_goes_on_to_the_same_weights(tiny_llama, tmp_path):
    kept = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}
    whole = trainer_for(tiny_llama, tmp_path / "a", max_steps=4, **kept)
    whole.train()
    part = trainer_for(tiny_llama, tmp_path / "b", max_steps=4, **kept)
    part.train(resume_from_checkpoint=str(tmp_path / "a" / "out" / "checkpoint-2"))
    for first, second in zip(whole.model.parameters(), part.model.parameters(), strict=True):
        assert torch.allclose(first, second, atol=1e-6)


def test_texts_without_the_name_are_refused(tiny_llama, tmp_path):
    with pytest.raises(InputError, match="'Isaac Newton' must stand in"):
        trainer_for(tiny_llama, tmp_path, texts=[{"text": "Nobody is named here."}])


def test_a_text_that_ends_with_the_name_is_refused():
    with pytest.raises(InputError, match="with text behind it"):
        cut_behind("This is Isaac Newton", "Isaac Newton")


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"known": KNOWN[:7]}, "7 known entities; give 8"),
        ({"unknown": UNKNOWN[:3]}, "3 unknown entities"),
        ({"unknown": None}, "go together"),
        ({"sae": "nowhere"}, "neither a folder nor 'release:id'"),
    ],
)
def test_what_cannot_be_used_is_said(changes, told, tiny_llama, tmp_path):
    with pytest.raises(InputError, match=told):
        trainer_for(tiny_llama, tmp_path, **changes)


def test_an_sae_of_another_width_is_refused(tiny_llama, tmp_path):
    with pytest.raises(InputError, match="reads states of width"):
        trainer_for(tiny_llama, tmp_path, sae=random_sae(20))


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"distance": "enrgy"}, "energy"),
        ({"positions": ["enttity"]}, "entity"),
        ({"num_latents": 1}, "2 or more"),
        ({"margin": -1.0}, "negative"),
        ({"alignment_weight": -1.0}, "negative"),
        ({"alignment_share": 0.0}, "above 0"),
        ({"known_entities": "names.txt"}, "go together"),
        ({"sae": []}, "at least one SAE"),
    ],
)
def test_values_out_of_range_are_refused(changes, told, tmp_path):
    with pytest.raises(InputError, match=told):
        config(tmp_path, **changes)


def test_layers_that_return_tuples_are_read(tiny_gpt2, tmp_path):
    trainer = trainer_for(tiny_gpt2, tmp_path, max_steps=2)
    trainer.train()
    assert len(trainer.latents) == 3
