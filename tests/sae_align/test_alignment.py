import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import energy_distance as one_dimensional

from hf_forget.errors import InputError
from hf_forget.sae_align.alignment import DISTANCES, alignment_loss, energy_distance, mean_distance, mmd
from hf_forget.sae_align.latents import MAX_GENERAL_RATE, choose_latents, separation_scores

SAMPLES = [torch.randn(n, 3, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (5, 7)]


def mean_over_pairs(first, second, function, same=False):
    pairs = [(i, j) for i, j in itertools.product(range(len(first)), range(len(second))) if not (same and i == j)]
    return sum(function(math.dist(first[i].tolist(), second[j].tolist())) for i, j in pairs) / len(pairs)


def test_energy_distance_is_a_double_loop_over_pairs():
    x, y = SAMPLES
    distance = float
    expected = 2 * mean_over_pairs(x, y, distance)
    expected -= mean_over_pairs(x, x, distance, same=True) + mean_over_pairs(y, y, distance, same=True)
    assert float(energy_distance(x, y)) == pytest.approx(expected)


def test_energy_distance_agrees_with_scipy_on_large_samples():
    random = np.random.default_rng(0)
    x, y = random.normal(0, 1, 800), random.normal(1.5, 1, 800)
    ours = float(energy_distance(torch.tensor(x)[:, None], torch.tensor(y)[:, None]))
    # scipy gives the root of the biased estimate.
    assert math.sqrt(ours) == pytest.approx(one_dimensional(x, y), rel=0.01)


def test_mmd_is_a_double_loop_over_pairs():
    x, y = SAMPLES
    apart = sorted(math.dist(y[i].tolist(), y[j].tolist()) for i in range(7) for j in range(7) if i != j)
    width = apart[(len(apart) - 1) // 2]

    def kernel(distance):
        return math.exp(-(distance**2) / (2 * width**2))

    expected = mean_over_pairs(x, x, kernel, same=True) + mean_over_pairs(y, y, kernel, same=True)
    assert float(mmd(x, y)) == pytest.approx(expected - 2 * mean_over_pairs(x, y, kernel))


def test_only_the_mean_distance_is_blind_to_spread():
    narrow, wide = SAMPLES[1] - SAMPLES[1].mean(0), 5 * (SAMPLES[1] - SAMPLES[1].mean(0))
    assert float(mean_distance(narrow, wide)) == pytest.approx(0, abs=1e-9)
    assert float(energy_distance(narrow, wide)) > 0.1 and float(mmd(wide, narrow)) > 0.1


@pytest.mark.parametrize("name", DISTANCES)
def test_gradients_are_those_of_finite_differences_even_where_points_coincide(name):
    x = SAMPLES[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda points: DISTANCES[name](points, SAMPLES[1]), (x,))
    double = torch.cat([x[:1], x[:1], SAMPLES[1][:1]]).detach().requires_grad_()
    DISTANCES[name](double, SAMPLES[1]).backward()
    assert bool(torch.isfinite(double.grad).all())


@given(st.floats(-3, 3), st.floats(0, 2))
def test_the_push_ends_where_the_target_is_nearer_to_the_unknown_by_the_margin(shift, margin):
    unknown, known = SAMPLES[1], SAMPLES[1] + 3
    target = SAMPLES[0] + shift
    near, far = (float(energy_distance(target, sample)) for sample in (unknown, known))
    loss = float(alignment_loss(target, unknown, known, distance=energy_distance, margin=margin))
    assert loss == pytest.approx(near + max(0, margin + near - far))


def test_descent_makes_the_target_one_of_the_unknown():
    torch.manual_seed(0)
    unknown, known = torch.randn(60, 4), torch.randn(60, 4) + 4
    target = (torch.randn(20, 4) * 0.1 + 4).requires_grad_()
    optimizer = torch.optim.Adam([target], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        alignment_loss(target, unknown, known, distance=energy_distance, margin=1.0).backward()
        optimizer.step()
    assert float(energy_distance(target.detach(), unknown)) < 0.15
    # Not only the mean: a distribution is matched.
    assert 0.5 < float(target.detach().std(0).mean()) < 1.5


def test_scores_are_differences_of_shares_and_the_least_over_types():
    known = {"person": torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]), "place": torch.tensor([[1.0, 0.0, 0.0]])}
    unknown = {"person": torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]), "place": torch.tensor([[0.0, 1.0, 0.0]])}
    for_known, for_unknown = separation_scores(known, unknown)
    assert for_known.tolist() == [0.5, -1.0, 0.0] and for_unknown.tolist() == [-1.0, 1.0, -1.0]


def test_latents_that_fire_on_general_text_are_left_out_and_the_rest_is_standardised():
    known = {"person": torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0]])}
    unknown = {"person": torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]])}
    general = torch.tensor([0.0, 2 * MAX_GENERAL_RATE, MAX_GENERAL_RATE, 0.0])
    before = torch.randn(4, 4)
    space = choose_latents(known, unknown, general, before, count=4)
    assert space.indices.tolist() == [0, 2]
    values = space(before)
    torch.testing.assert_close(values.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(values.std(0), torch.ones(2))


def test_where_no_latent_tells_them_apart_or_the_types_differ_that_is_said():
    same = {"person": torch.ones(2, 3)}
    with pytest.raises(InputError, match="does not tell them apart"):
        choose_latents(same, same, torch.zeros(3), torch.randn(4, 3), count=2)
    with pytest.raises(InputError, match=r"types \['person'\], unknown ones of \['place'\]"):
        choose_latents(same, {"place": torch.ones(2, 3)}, torch.zeros(3), torch.randn(4, 3), count=2)
