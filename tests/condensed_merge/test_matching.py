import copy
import itertools

import pytest
import torch
from tiny_classifiers import convnet, mlp, resnet, vit

from hf_forget.condensed_merge.matching import activation_matching, assigned, weight_matching
from hf_forget.condensed_merge.permutation import apply_permutation, permuted_state, random_permutation
from hf_forget.condensed_merge.symmetry import symmetry_of

MODELS = {
    "mlp": lambda: mlp([16, 8, 12]),
    "convnet": lambda: convnet([8, 12, 4]),
    "resnet": lambda: resnet([8, 12], "basic"),
    "bottleneck": lambda: resnet([8, 16], "bottleneck"),
    "vit": lambda: vit([16, 12], 4),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_matched_with_its_own_permutation(name):
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    symmetry = symmetry_of(model.eval(), inputs)
    permuted = copy.deepcopy(model)
    apply_permutation(permuted, symmetry, random_permutation(symmetry, 5), inputs)
    first, second = model.state_dict(), permuted.state_dict()
    for permutation in (
        weight_matching(symmetry, first, second),
        activation_matching(copy.deepcopy(model), symmetry, first, second, inputs),
    ):
        found = permuted_state(symmetry, second, permutation)
        assert all(torch.equal(found[name], value) for name, value in first.items())


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_assignment_is_the_best_of_all(size):
    gain = torch.randn(size, size, generator=torch.Generator().manual_seed(size))
    rows = torch.arange(size)
    best = max(float(gain[rows, list(order)].sum()) for order in itertools.permutations(range(size)))
    assert float(gain[rows, assigned(gain)].sum()) == pytest.approx(best)


def test_matching_brings_independent_models_nearer():
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(mlp([16, 16])[0].eval())
    first, second = (model.state_dict() for model in models)
    symmetry = symmetry_of(models[0], torch.randn(2, 1, 6, 6))
    matched = permuted_state(symmetry, second, weight_matching(symmetry, first, second))

    def apart(state):
        return sum(float((state[name] - value).square().sum()) for name, value in first.items())

    assert apart(matched) < apart(second)
