import pytest
import torch
from tiny_alignment import random_sae
from transformers import AutoTokenizer

from hf_forget.lm.rows import IGNORE_INDEX
from hf_forget.sae_align.alignment import energy_distance
from hf_forget.sae_align.latent_alignment import EntityLatents, name_length, spans
from hf_forget.sae_align.latents import LatentSpace
from hf_forget.sae_align.saes import pre_activations

MODELS = ("tiny_llama", "tiny_gpt_neox")
TEXTS, ENTITIES, WIDTH = 4, 6, 16


def latents_of(known, unknown):
    """What `entity_latents` makes of states within texts, with all latents on their own scale."""
    sae = random_sae(WIDTH)
    codes = [pre_activations(sae, states).detach() for states in (known, unknown)]
    centers = codes[1].mean(1)
    count = sae.cfg.d_sae
    space = LatentSpace(torch.arange(count), torch.zeros(count), torch.ones(count))
    parts = [space(values - centers[:, None]) for values in codes]
    return EntityLatents(0, 0, sae, space, centers, *parts, torch.tensor(1.0))


@pytest.fixture
def states():
    torch.manual_seed(0)
    return torch.randn(TEXTS, WIDTH), torch.randn(TEXTS, ENTITIES, WIDTH) + 1, torch.randn(TEXTS, ENTITIES, WIDTH)


def test_within_texts_what_a_text_makes_of_a_state_does_not_count(states):
    own, known, unknown = states
    texts = [0, 2, 3]
    before = latents_of(known, unknown).loss(own[texts], texts, energy_distance, 1.0)
    shift = 5 * torch.randn(TEXTS, WIDTH)
    moved = latents_of(known + shift[:, None], unknown + shift[:, None])
    after = moved.loss((own + shift)[texts], texts, energy_distance, 1.0)
    assert after.item() == pytest.approx(before.item(), rel=1e-3)


def test_the_middle_of_the_unknown_costs_less_than_any_known_entity(states):
    _, known, unknown = states
    latents = latents_of(known, unknown)
    texts = list(range(TEXTS))
    middle = latents.loss(unknown.mean(1), texts, energy_distance, 1.0)
    assert all(latents.loss(known[:, one], texts, energy_distance, 1.0) > middle for one in range(ENTITIES))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("before", ["Tell me about ", "", "<|user|>Who was "])
def test_the_tokens_of_a_name_are_those_that_its_text_needs(name, before, request):
    tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue(name))
    prompt = before + "Leonardo da Vinci"
    ids = tokenizer(prompt)["input_ids"]
    count = name_length(prompt, "Leonardo da Vinci", tokenizer)
    assert tokenizer.decode(ids[-count:]).strip() == "Leonardo da Vinci"
    assert "Leonardo" not in tokenizer.decode(ids[:-count] + ids[len(ids) - count + 1 :])


def test_a_row_is_read_in_its_name_at_its_end_and_at_the_end_of_the_text():
    labels = [IGNORE_INDEX] * 5 + [7, 8]
    assert spans(labels, 3) == [(2, 5), (4, 5), (6, 7)]
    assert spans(labels, 9)[0] == (0, 5)
