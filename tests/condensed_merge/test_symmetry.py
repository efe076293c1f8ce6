import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_classifiers import convnet, mlp, resnet, vit
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

from hf_forget.condensed_merge.permutation import apply_permutation, permuted_state, random_permutation
from hf_forget.condensed_merge.symmetry import Symmetry, symmetry_of
from hf_forget.errors import InputError

WIDTHS = st.integers(1, 4).map(lambda number: 4 * number)


def assert_same_function(model, inputs, seed):
    model.eval()
    symmetry = symmetry_of(model, inputs)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        outputs = model(pixel_values=inputs).logits
        apply_permutation(model, symmetry, random_permutation(symmetry, seed))
        apart = (model(pixel_values=inputs).logits - outputs).abs().max()
    assert apart <= 1e-5 * max(1, outputs.abs().max())
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    return symmetry, moved


@settings(max_examples=8, deadline=None)
@given(st.lists(WIDTHS, min_size=1, max_size=4), st.integers(0, 99))
def test_units_of_an_mlp(widths, seed):
    symmetry, _ = assert_same_function(*mlp(widths), seed)
    assert sorted(symmetry.sizes.values()) == sorted(widths)


@settings(max_examples=8, deadline=None)
@given(st.lists(WIDTHS, min_size=1, max_size=3), st.integers(0, 99))
def test_channels_of_a_conv_net_with_batch_norm(widths, seed):
    symmetry, _ = assert_same_function(*convnet(widths), seed)
    assert sorted(symmetry.sizes.values()) == sorted(widths)


@settings(max_examples=6, deadline=None)
@given(
    st.lists(st.sampled_from([8, 12, 16]), min_size=1, max_size=3),
    st.sampled_from(["basic", "bottleneck"]),
    st.integers(0, 99),
)
def test_resnet_with_shortcuts(widths, kind, seed):
    symmetry, moved = assert_same_function(*resnet(widths, kind), seed)
    # Blocks of a stage share their residual stream, and each has channels of its own inside.
    inside = 2 * len(widths) * (2 if kind == "bottleneck" else 1)
    assert len(symmetry.sizes) >= inside
    assert any(name.endswith("running_mean") for name in moved)


@settings(max_examples=6, deadline=None)
@given(st.lists(WIDTHS, min_size=1, max_size=3), st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_vit_neurons_heads_and_residual_stream(widths, heads, seed):
    symmetry, moved = assert_same_function(*vit(widths, heads), seed)
    sizes = list(symmetry.sizes.values())
    # Per layer: heads, queries with keys inside a head, values inside a head, neurons.
    per_layer = 4 if heads > 1 else 3
    assert len(sizes) == 1 + per_layer * len(widths)
    assert 8 * heads in sizes
    assert "vit.embeddings.cls_token" in moved


def test_a_wrong_symmetry_is_noticed_and_undone():
    model, inputs = mlp([8, 8])
    symmetry = symmetry_of(model.eval(), inputs)
    wrong = Symmetry(symmetry.sizes, {**symmetry.axes, "layers.1.weight": [[(None, 8)], [(None, 8)]]})
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match="do not hold"):
        apply_permutation(model, wrong, random_permutation(wrong, 0), inputs)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_permuting_back_is_exact():
    model, inputs = vit([8, 12], 2)
    symmetry = symmetry_of(model.eval(), inputs)
    permutation = random_permutation(symmetry, 1)
    back = {group: order.argsort() for group, order in permutation.items()}
    state = model.state_dict()
    again = permuted_state(symmetry, permuted_state(symmetry, state, permutation), back)
    assert all(torch.equal(again[name], value) for name, value in state.items())


class _Sorting(nn.Module):
    def forward(self, hidden):
        return hidden.cumsum(-1)


class _Odd(PreTrainedModel):
    config_class = PreTrainedConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.first, self.odd, self.classifier = nn.Linear(4, 6), _Sorting(), nn.Linear(6, 3)

    def forward(self, pixel_values, **kwargs):
        return ImageClassifierOutput(logits=self.classifier(self.odd(self.first(pixel_values))))


def test_a_part_that_cannot_be_followed_is_named():
    with pytest.raises(InputError, match=r"'odd' \(_Sorting\).*'cumsum'"):
        symmetry_of(_Odd(PreTrainedConfig()), torch.randn(2, 4))
