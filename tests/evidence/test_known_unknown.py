import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget.evidence.energy import energy_distance
from hf_forget.evidence.known_unknown import (
    TEXTS,
    compared,
    energy_ratio,
    entity_states,
    known_unknown_checks,
    known_unknown_metrics,
)


def drawn(entities, centre, *, seed, texts=4, width=6):
    generator = torch.Generator().manual_seed(seed)
    own = centre + torch.randn(entities, 1, width, generator=generator)
    return own + 0.3 * torch.randn(entities, texts, width, generator=generator)


def test_the_probe_tells_what_is_apart_and_nothing_else():
    unknown, same, apart = (drawn(60, centre, seed=seed) for seed, centre in enumerate((0.0, 0.0, 3.0)))
    assert compared(apart[0], apart[:30], unknown[:30], (apart[30:], unknown[30:])).auc > 0.95
    assert 0.25 < compared(same[0], same[:30], unknown[:30], (same[30:], unknown[30:])).auc < 0.75


def test_a_target_among_the_known_is_above_all_unknown_and_far_from_them():
    known, unknown = drawn(60, 3.0, seed=0), drawn(60, 0.0, seed=1)
    fitted = known[30:], unknown[30:]
    among_known, among_unknown = (
        compared(drawn(1, 3.0, seed=2)[0], known[:30], unknown[:30], fitted),
        compared(unknown[3], known[:30], unknown[:30], fitted),
    )
    assert among_known.percentile == 1.0 and among_unknown.percentile < 0.95
    assert among_known.energy_ratio > 2 * among_unknown.energy_ratio


def test_the_ratio_is_that_of_energy_distances():
    target, unknown = drawn(1, 1.0, seed=5)[0], drawn(7, 0.0, seed=4)
    own = sorted(
        float(energy_distance(unknown[place], torch.cat([unknown[:place], unknown[place + 1 :]]).flatten(0, 1)))
        for place in range(7)
    )
    expected = float(energy_distance(target, unknown.flatten(0, 1))) / own[3]
    assert energy_ratio(target, unknown) == pytest.approx(expected, rel=1e-4)


def test_an_unknown_entity_has_a_ratio_of_about_one():
    unknown = drawn(40, 0.0, seed=3)
    ratios = sorted(
        energy_ratio(unknown[place], torch.cat([unknown[:place], unknown[place + 1 :]])) for place in range(40)
    )
    assert ratios[20] == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
def test_states_are_those_of_the_last_token_whatever_the_batch(name, request):
    folder = request.getfixturevalue(name)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    names = ["Ada", "Giovanni Battista Longname the Elder"]
    found = entity_states(model, tokenizer, names, [0, 1])
    assert found.shape[:3] == (2, len(TEXTS), 3)
    for place, one in enumerate(names):
        ids = tokenizer(TEXTS[2].format(name=one), add_special_tokens=False, return_tensors="pt")["input_ids"]
        if tokenizer.bos_token_id is not None:
            ids = torch.cat([torch.tensor([[tokenizer.bos_token_id]]), ids], dim=1)
        with torch.no_grad():
            states = model(ids, output_hidden_states=True).hidden_states
        assert torch.allclose(found[place, 2, 1], states[1][0, -1], atol=1e-5)
        assert torch.equal(found[place, 2, 0], model.get_input_embeddings()(ids)[0, -1].detach())


def test_metrics_name_every_layer_that_is_looked_at(tiny_llama):
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tiny_llama).eval(),
        AutoTokenizer.from_pretrained(tiny_llama),
    )
    known, unknown = ([f"{word} {number}" for number in range(6)] for word in ("Known", "Strange"))
    metrics = known_unknown_metrics(
        model, tokenizer, "Isaac Newton", known, unknown, layer=1, fitted=(known, unknown), encode=lambda x: x[..., :3]
    )
    names = [metric.name for metric in metrics]
    assert "energy_ratio_latents" in names and "energy_ratio_layer_0" in names
    assert all(metric.group == "representation" and metric.status == "ok" for metric in metrics)


def test_checks_say_when_there_is_nothing_to_stand_on():
    figures = {"before_auc": 0.9, "known_unknown_auc_embedding": 0.5, "target_known_percentile": 0.4}
    good = known_unknown_checks({**figures, "energy_ratio_latents": 1.2})
    assert [check["passed"] for check in good] == [True, True]
    blind = known_unknown_checks({**figures, "before_auc": 0.7, "energy_ratio_latents": 1.6})
    assert [check["passed"] for check in blind] == [False, False]
    assert "nothing to stand on" in blind[0]["detail"]
    assert known_unknown_checks({}) == []
