import json

import pytest
import sae_lens
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget.errors import InputError, OutputError
from hf_forget.lm.representation import decoder_layers
from hf_forget.sae_align.activations import layer_activations, ordinary_positions, token_batches
from hf_forget.sae_align.sae_quality import sae_quality
from hf_forget.sae_align.sae_training import ARCHITECTURES, SAETraining, train_sae

WORDS = ["river", "mountain", "poet", "town", "bridge", "winter", "song", "king", "apple", "stone", "garden", "letter"]
TEXTS = [f"The {a} and the {b} of the {c}." for a in WORDS for b in WORDS for c in WORDS[:3]]
SMALL = {"num_latents": 96, "num_tokens": 12_000, "batch_tokens": 256, "buffer_tokens": 1024, "k": 8}


@pytest.fixture(params=["tiny_llama", "tiny_gpt_neox"])
def loaded(request):
    folder = request.getfixturevalue(request.param)
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def llama(tiny_llama):
    return AutoModelForCausalLM.from_pretrained(tiny_llama).eval(), AutoTokenizer.from_pretrained(tiny_llama)


def test_every_text_is_read_once_and_shuffling_only_changes_the_order(llama):
    def rows(seed):
        batches = token_batches(llama[1], TEXTS, batch_size=7, max_length=32, seed=seed)
        return [tuple(row[kept.bool()].tolist()) for ids, mask in batches for row, kept in zip(ids, mask, strict=True)]

    assert len(rows(None)) == len(TEXTS) and sorted(rows(None)) == sorted(rows(1))
    assert rows(1) != rows(2) and rows(1) == rows(1)


def test_long_texts_are_cut(llama):
    ids, _ = next(token_batches(llama[1], ["word " * 100], batch_size=1, max_length=9))
    assert ids.shape == (1, 9)


def test_first_padding_and_massive_positions_are_left_out():
    states = torch.ones(2, 5, 4)
    states[0, 2] *= 100
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    assert ordinary_positions(states, mask).tolist() == [
        [False, True, False, True, True],
        [False, True, True, False, False],
    ]


def test_activations_are_those_of_the_whole_model_and_no_hook_stays(loaded):
    model, tokenizer = loaded
    (ids, mask), *_ = batches = list(token_batches(tokenizer, TEXTS[:4], batch_size=4, max_length=32))
    hooks = [len(layer._forward_hooks) for layer in decoder_layers(model)]
    (states,) = layer_activations(model, iter(batches), 0)
    assert [len(layer._forward_hooks) for layer in decoder_layers(model)] == hooks
    hidden = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[1]
    torch.testing.assert_close(states, hidden[ordinary_positions(hidden, mask)])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_explains_held_out_states_and_saves_in_the_format_of_sae_lens(llama, tmp_path, architecture):
    model, tokenizer = llama
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    options = SAETraining(architecture=architecture, learning_rate=4e-3, sparsity_coefficient=0.01, **SMALL)
    sae = train_sae(model, tokenizer, TEXTS[:-100], 0, tmp_path / "sae", training=options, model_name="tiny")
    quality = sae_quality(model, tokenizer, sae, TEXTS[-100:])
    # The threshold of a batchtopk SAE follows its training slowly.
    assert quality.explained_variance > (0.6 if architecture == "batchtopk" else 0.7)
    assert quality.l0 <= 8 or architecture != "topk"
    loaded = sae_lens.SAE.load_from_disk(tmp_path / "sae")
    assert loaded.cfg.metadata.hook_name == "blocks.0.hook_resid_post" and loaded.cfg.metadata.model_name == "tiny"
    states = torch.randn(3, sae.cfg.d_in)
    torch.testing.assert_close(loaded(states), sae(states))
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["sae"]


def test_an_interrupted_training_goes_on(llama, tmp_path, monkeypatch):
    from sae_lens.training.sae_trainer import SAETrainer

    options, step, steps = SAETraining(checkpoints=4, **SMALL), SAETrainer.step, []

    def dies(self, batch):
        steps.append(self.n_training_samples)
        if len(steps) == 30:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(SAETrainer, "step", dies)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train_sae(*llama, TEXTS, 1, tmp_path / "sae", training=options)
    assert "is kept in" in stopped.value.__notes__[0]
    (position,) = tmp_path.glob("sae.partial/*/position.json")
    assert json.loads(position.read_text())["batches"] > 0 and not (tmp_path / "sae").exists()
    with pytest.raises(OutputError, match="another SAE; delete it"):
        train_sae(*llama, TEXTS, 0, tmp_path / "sae", training=options)
    told = []
    train_sae(*llama, TEXTS, 1, tmp_path / "sae", training=options, report=told.append)
    # 46 steps in all, of which those before the checkpoint are not done again.
    assert told == [f"going on after {position.parent.name} tokens"] and len(steps) < 30 + 46 - 10
    assert (tmp_path / "sae" / "cfg.json").is_file()
    with pytest.raises(OutputError, match="exists"):
        train_sae(*llama, TEXTS, 1, tmp_path / "sae", training=options)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"architecture": "topk2"}, "unknown architecture 'topk2'.*Did you mean 'topk'"),
        ({"k": 0}, "k is 0"),
        ({"num_tokens": 10}, "num_tokens is 10"),
        ({"buffer_tokens": 10}, "buffer_tokens is 10"),
    ],
)
def test_impossible_options_are_refused(options, told):
    with pytest.raises(InputError, match=told):
        SAETraining(**options)


def test_a_layer_that_the_model_lacks_and_no_texts_are_refused(llama, tmp_path):
    with pytest.raises(InputError, match="layer names layer 2; the model has layers 0 to 1"):
        train_sae(*llama, TEXTS, 2, tmp_path / "sae")
    with pytest.raises(InputError, match="no texts"):
        train_sae(*llama, [], 0, tmp_path / "sae")


def test_an_sae_that_gives_its_input_back_recovers_everything(loaded):
    model, tokenizer = loaded
    width = model.config.hidden_size
    config = sae_lens.StandardSAEConfig(d_in=width, d_sae=2 * width)
    config.metadata.hook_name = "blocks.0.hook_resid_post"
    sae = sae_lens.StandardSAE(config)
    with torch.no_grad():
        sae.W_enc.copy_(torch.cat([torch.eye(width), -torch.eye(width)], 1))
        sae.W_dec.copy_(sae.W_enc.T)
    quality = sae_quality(model, tokenizer, sae, TEXTS[:20])
    assert quality.explained_variance == pytest.approx(1) and quality.l0 == pytest.approx(width)
    assert quality.loss_with_sae == pytest.approx(quality.loss, abs=1e-5)
    assert quality.recovered_against_mean == pytest.approx(1, abs=1e-3)
    with torch.no_grad():
        sae.W_enc[:, 0], sae.W_enc[:, width] = 0, 0
    assert sae_quality(model, tokenizer, sae, TEXTS[:20]).dead_share == pytest.approx(2 / (2 * width))
