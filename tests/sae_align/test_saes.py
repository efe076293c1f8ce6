import pytest
import torch
from tiny_alignment import CONFIGS, random_sae
from transformers import AutoModelForCausalLM

from hf_forget.errors import InputError
from hf_forget.sae_align.saes import hook_name, hooked_layer, load_sae, pre_activations


@pytest.fixture(params=["tiny_llama", "tiny_gpt_neox"])
def model(request):
    return AutoModelForCausalLM.from_pretrained(request.getfixturevalue(request.param))


def width_of(model):
    return model.config.hidden_size


@pytest.mark.parametrize("hook, layer", [(hook_name(1), 1), (hook_name(0), 0), ("blocks.1.hook_resid_pre", 0)])
def test_the_layer_is_the_one_whose_output_the_sae_reads(model, hook, layer):
    assert hooked_layer(random_sae(width_of(model), hook=hook), model) == layer


@pytest.mark.parametrize(
    "hook, told",
    [
        ("blocks.7.hook_resid_post", r"reads 'blocks\.7\.hook_resid_post', which \w+ does not have: its 2 layers"),
        ("blocks.0.hook_resid_pre", "before layer 0"),
        ("blocks.0.hook_mlp_out", "only the residual stream"),
    ],
)
def test_a_hook_point_that_the_model_lacks_is_refused(model, hook, told):
    with pytest.raises(InputError, match=told):
        hooked_layer(random_sae(width_of(model), hook=hook), model)


def test_an_sae_of_another_width_is_refused_with_both_widths(model):
    width = width_of(model)
    with pytest.raises(InputError, match=rf"width {width + 1}, the model has {width}; it was made for some-model"):
        hooked_layer(random_sae(width + 1), model)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_saved_sae_comes_back_frozen_and_the_same(architecture, tmp_path):
    sae = random_sae(8, architecture)
    sae.save_model(tmp_path)
    loaded, states = load_sae(str(tmp_path)), torch.randn(5, 8)
    torch.testing.assert_close(loaded.encode(states), sae.encode(states))
    assert not any(weight.requires_grad for weight in loaded.parameters()) and not loaded.training


@pytest.mark.parametrize("given, told", [("nowhere", "neither a folder nor 'release:id'"), (3, "sae is a int")])
def test_what_is_no_sae_is_refused(given, told):
    with pytest.raises(InputError, match=told):
        load_sae(given)


def test_a_folder_without_an_sae_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no SAE"):
        load_sae(tmp_path)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sae_lens", None)
    with pytest.raises(InputError, match=r"pip install 'hf-forget\[sae\]'"):
        load_sae("folder")


@pytest.mark.parametrize("architecture", ["standard", "topk"])
def test_latents_are_the_activation_function_of_the_pre_activations(architecture):
    sae, states = random_sae(8, architecture), torch.randn(5, 8)
    before = pre_activations(sae, states)
    torch.testing.assert_close(sae.activation_fn(before), sae.encode(states))


def test_inactive_latents_have_a_gradient_before_the_activation_and_none_behind():
    sae, states = random_sae(8).requires_grad_(False), torch.randn(1, 8, requires_grad=True)
    inactive = int((sae.encode(states)[0] == 0).nonzero()[0])
    pre_activations(sae, states)[0, inactive].backward()
    assert states.grad.abs().sum() > 0
    states.grad = None
    sae.encode(states)[0, inactive].backward()
    assert states.grad.abs().sum() == 0


def test_an_encoder_that_is_no_affine_map_is_refused():
    sae = random_sae(8)
    del sae.b_enc
    with pytest.raises(InputError, match="no single affine encoder"):
        pre_activations(sae, torch.randn(1, 8))
