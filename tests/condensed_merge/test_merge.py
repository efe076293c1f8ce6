import copy

import pytest
import torch
from tiny_classifiers import convnet, mlp, vit
from torch import nn

from hf_forget.condensed_merge import MergeWithCondensed, MergeWithCondensedConfig
from hf_forget.condensed_merge.interpolation import hidden_layers, reestimate_norms, unit_outputs
from hf_forget.condensed_merge.permutation import apply_permutation, random_permutation
from hf_forget.condensed_merge.symmetry import symmetry_of
from hf_forget.errors import InputError
from hf_forget.evidence.classifier_outputs import batched_logits
from hf_forget.evidence.labelled_inputs import LabelledInputs


@pytest.fixture
def pair():
    """A model, and the same with its units in another order."""
    torch.manual_seed(0)
    model, inputs = mlp([16, 12])
    twin = copy.deepcopy(model.eval())
    symmetry = symmetry_of(model, inputs)
    apply_permutation(twin, symmetry, random_permutation(symmetry, 3), inputs)
    return model, twin, torch.randn(24, 1, 6, 6)


def labelled(model, inputs):
    return LabelledInputs(inputs, batched_logits(model, inputs).argmax(1))


@pytest.mark.parametrize("matching", ["weights", "activations", "straight_through"])
def test_a_model_and_its_permuted_twin_merge_into_the_model(pair, matching):
    model, twin, inputs = pair
    data = [labelled(model, inputs)] * 2
    # A model that has learnt nothing is not the best that can be made of its units: at a larger rate another is found.
    args = MergeWithCondensedConfig(matching=matching, matching_steps=2, matching_learning_rate=1e-3)
    merger = MergeWithCondensed([model, twin], data, args)
    result = merger.merge()
    assert torch.allclose(batched_logits(merger.model, inputs), batched_logits(model, inputs), atol=1e-5)
    assert result.losses[0] is not None
    between = merger.interpolated([0.2, 0.8])
    assert torch.allclose(batched_logits(between, inputs), batched_logits(model, inputs), atol=1e-5)


def test_the_naive_average_is_another_function(pair):
    model, twin, inputs = pair
    merger = MergeWithCondensed([model, twin], None, MergeWithCondensedConfig(matching="none"))
    assert merger.merge().losses == [None]
    assert not torch.allclose(batched_logits(merger.model, inputs), batched_logits(model, inputs), atol=1e-2)


def test_three_models(pair):
    model, twin, inputs = pair
    third = copy.deepcopy(model)
    symmetry = symmetry_of(model, inputs[:2])
    apply_permutation(third, symmetry, random_permutation(symmetry, 9), inputs)
    merger = MergeWithCondensed([model, twin, third])
    assert len(merger.merge().permutations) == 2
    assert torch.allclose(batched_logits(merger.model, inputs), batched_logits(model, inputs), atol=1e-5)


def test_straight_through_keeps_the_candidate_that_does_best(pair):
    model, _, inputs = pair
    torch.manual_seed(1)
    other = mlp([16, 12])[0].eval()
    data = [labelled(model, inputs), labelled(other, inputs + 0.1)]
    losses = [
        MergeWithCondensed([model, other], data, MergeWithCondensedConfig(matching=matching, matching_steps=40)).merge()
        for matching in ("weights", "straight_through")
    ]
    assert losses[1].losses[0] <= losses[0].losses[0]


def test_joined_head_has_the_outputs_of_all(pair):
    model, twin, inputs = pair
    for place, item in enumerate((model, twin)):
        item.config.id2label = {label: f"{place}-{label}" for label in range(3)}
    merger = MergeWithCondensed([model, twin], None, MergeWithCondensedConfig(head="joined"))
    merger.merge()
    logits = batched_logits(merger.model, inputs)
    assert logits.shape == (24, 6)
    assert torch.allclose(logits[:, :3], batched_logits(model, inputs), atol=1e-5)
    assert torch.allclose(logits[:, 3:], batched_logits(twin, inputs), atol=1e-5)
    assert merger.model.config.id2label[4] == "1-1"


def test_saved_and_loaded(pair, tmp_path):
    model, twin, inputs = pair
    merger = MergeWithCondensed([model, twin])
    with pytest.raises(InputError, match="call merge"):
        merger.save_pretrained(tmp_path)
    merger.merge()
    merger.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert torch.equal(batched_logits(loaded, inputs), batched_logits(merger.model, inputs))


def test_pushed(pair, pushed):
    model, twin, _ = pair
    merger = MergeWithCondensed([model, twin])
    merger.merge()
    assert merger.push_to_hub("me/merged") == "https://hub/me/merged"
    assert pushed == {"me/merged": ["config.json", "model.safetensors"]}
    with pytest.raises(InputError, match="hub_model_id"):
        merger.push_to_hub()


def test_the_models_are_not_changed(pair):
    model, twin, inputs = pair
    before = copy.deepcopy(twin.state_dict())
    MergeWithCondensed([model, twin], [labelled(model, inputs)] * 2, MergeWithCondensedConfig(matching_steps=2)).merge()
    assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())
    assert not twin.training


def test_rescaled_units_have_the_spread_of_the_parents():
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(mlp([32, 32])[0].eval())
    inputs = torch.randn(200, 1, 6, 6)
    data = [labelled(model, inputs) for model in models]
    merger = MergeWithCondensed(models, data, MergeWithCondensedConfig(matching="none", rescale=True))
    merger.merge()
    everything = torch.cat([part.inputs for part in data])
    for name in hidden_layers(merger.model, inputs):
        spreads = [unit_outputs(model, [name], everything)[name].std(0) for model in (*models, merger.model)]
        assert torch.allclose(spreads[2], (spreads[0] + spreads[1]) / 2, rtol=1e-2)


def test_norm_statistics_are_those_of_the_inputs():
    model, _ = convnet([8, 8, 8])
    model.eval()
    inputs = torch.randn(40, 1, 8, 8)
    reestimate_norms(model, inputs)
    first = model.norms[0]
    outputs = model.convolutions[0](inputs)
    assert torch.allclose(first.running_mean, outputs.mean((0, 2, 3)), atol=1e-5)
    assert first.momentum == nn.BatchNorm2d(1).momentum
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("models", "data", "options", "message"),
    [
        (lambda: [mlp([8])[0]], None, {}, "give two or more"),
        (lambda: [mlp([8])[0], vit([8], 2)[0]], None, {}, "MLPForImageClassification and model 2 a ViT"),
        (lambda: [mlp([8])[0], mlp([12])[0]], None, {}, r"'layers.0.weight' has the shape \(8, 36\) in model 1"),
        (lambda: [mlp([8])[0], mlp([8])[0]], None, {"head": "joined"}, "a class 'LABEL_0'"),
        (lambda: [mlp([8])[0], mlp([8])[0]], None, {"matching": "activations"}, "needs data"),
        (
            lambda: [mlp([8])[0], mlp([8])[0]],
            [LabelledInputs(torch.randn(2, 1, 5, 5), torch.tensor([0, 1]))] * 2,
            {},
            r"\(1, 5, 5\) do not fit model 1",
        ),
        (
            lambda: [mlp([8])[0], mlp([8])[0]],
            [LabelledInputs(torch.randn(2, 1, 6, 6), torch.tensor([0, 7]))] * 2,
            {},
            "label 7",
        ),
    ],
)
def test_clear_errors(models, data, options, message):
    with pytest.raises(InputError, match=message):
        MergeWithCondensed(models(), data, MergeWithCondensedConfig(**options))
