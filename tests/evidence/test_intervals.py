import numpy as np
import pytest
from scipy.stats import binomtest

from hf_forget.evidence.intervals import (
    cluster_bootstrap_mean,
    clustered_wilson,
    design_effect,
    paired_difference,
    wilson,
)


@pytest.mark.parametrize(("k", "n"), [(0, 6), (1, 10), (5, 10), (37, 300), (6, 6)])
def test_wilson_equals_scipy(k, n):
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_one_sided_wilson_is_the_two_sided_one_at_ninety_percent():
    assert wilson(3, 20, one_sided=True) == pytest.approx(wilson(3, 20, confidence=0.9))


def test_six_facts_are_the_fewest_that_can_bound_a_rate_by_a_third():
    assert wilson(0, 6, one_sided=True)[1] < 1 / 3 < wilson(0, 5, one_sided=True)[1]


def test_no_rows_bound_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    assert clustered_wilson({}).upper == 1.0
    assert paired_difference([], []).lower == -1.0


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="k must be"):
        wilson(3, 2)


def test_agreeing_rows_count_as_facts():
    rate = clustered_wilson({"a": [True] * 4, "b": [False] * 4, "c": [False] * 4})
    assert (rate.rows, rate.facts, rate.effective_n) == (12, 3, pytest.approx(3))
    assert (rate.low, rate.high) == pytest.approx(wilson(1, 3))
    assert rate.upper == pytest.approx(wilson(1, 3, one_sided=True)[1])


def test_independent_rows_count_as_rows():
    rate = clustered_wilson({str(fact): [True, False] for fact in range(20)})
    assert rate.effective_n == pytest.approx(40)
    assert (rate.low, rate.high) == pytest.approx(wilson(20, 40))


def test_design_effect_equals_the_formula_by_hand():
    # Means 0.5, 1, 0, 0.5 over pairs: MSB = 2 * (0 + .25 + .25 + 0) / 3, MSW = (0.5 + 0.5) / 4, so ICC = 1/7.
    values, clusters = [1, 0, 1, 1, 0, 0, 0, 1], list("aabbccdd")
    assert design_effect(values, clusters) == pytest.approx(1 + 1 / 7)


def test_one_stray_row_does_not_tighten_the_bound():
    none = clustered_wilson({str(fact): [False] * 4 for fact in range(10)})
    one = clustered_wilson({str(fact): [fact == 0, False, False, False] for fact in range(10)})
    assert one.upper >= none.upper
    assert one.high >= none.high


def test_bootstrap_interval_of_a_mean_covers_like_the_normal_one():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    mean, low, high = cluster_bootstrap_mean(values, seed=0)
    assert mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.03)


def test_bootstrap_draws_clusters_not_rows():
    values, clusters = [0.0] * 50 + [1.0] * 50, ["a"] * 50 + ["b"] * 50
    mean, low, high = cluster_bootstrap_mean(values, clusters)
    assert (mean, low, high) == (0.5, 0.0, 1.0)
    assert cluster_bootstrap_mean(values, clusters, seed=4) == cluster_bootstrap_mean(values, clusters, seed=4)


def test_bootstrap_of_one_cluster_knows_nothing():
    assert cluster_bootstrap_mean([1.0, 2.0], ["a", "a"])[1:] == (-np.inf, np.inf)
    with pytest.raises(ValueError, match="empty"):
        cluster_bootstrap_mean([])


def tango_score(gained: int, lost: int, n: int, difference: float) -> float:
    """The score statistic with its nuisance parameter found by a fine grid over the likelihood."""
    grid = np.linspace(max(0, -difference) + 1e-9, (1 - difference) / 2 - 1e-9, 200_001)
    likelihood = gained * np.log(grid + difference) + lost * np.log(grid)
    likelihood += (n - gained - lost) * np.log(1 - 2 * grid - difference)
    nuisance = grid[likelihood.argmax()]
    return (gained - lost - n * difference) / np.sqrt(n * (2 * nuisance + difference * (1 - difference)))


@pytest.mark.parametrize(("gained", "lost", "n"), [(3, 9, 60), (12, 5, 44), (1, 2, 330)])
def test_paired_bounds_solve_the_score_equation(gained, lost, n):
    before = [False] * gained + [True] * (n - gained)
    after = [True] * gained + [False] * lost + [True] * (n - gained - lost)
    change = paired_difference(before, after)
    assert change.difference == pytest.approx((gained - lost) / n)
    assert tango_score(gained, lost, n, change.low) == pytest.approx(1.95996, abs=2e-3)
    assert tango_score(gained, lost, n, change.high) == pytest.approx(-1.95996, abs=2e-3)
    assert tango_score(gained, lost, n, change.lower) == pytest.approx(1.64485, abs=2e-3)


def test_unchanged_rows_still_leave_doubt_about_the_difference():
    # With no change at all the score bound is -z² / (n + z²).
    change = paired_difference([True] * 50, [True] * 50)
    assert change.difference == 0
    assert change.lower == pytest.approx(-(1.644854**2) / (50 + 1.644854**2), abs=1e-5)


def test_losses_that_fall_on_whole_facts_widen_the_interval():
    before = [True] * 200
    after = [False] * 10 + [True] * 190
    clustered = paired_difference(before, after, [row // 5 for row in range(200)])
    assert clustered.effective_n == pytest.approx(40)
    assert clustered.lower < paired_difference(before, after).lower


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        paired_difference([True], [True, False])
    with pytest.raises(ValueError, match="one cluster per value"):
        paired_difference([True], [True], ["a", "b"])
