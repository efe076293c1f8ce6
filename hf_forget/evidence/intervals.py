"""Intervals for rates, means and paired differences, honest about rows that ask for the same fact."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Rate:
    """A rate over rows that are clustered by fact.

    Args:
        value: Share of successes over all rows, in [0, 1].
        rows: Number of rows.
        facts: Number of facts.
        effective_n: Number of independent rows that would be worth as much.
        low, high: Two-sided interval.
        lower, upper: One-sided bounds at the same confidence.
    """

    value: float
    rows: int
    facts: int
    effective_n: float
    low: float
    high: float
    lower: float
    upper: float


@dataclass(frozen=True)
class PairedDifference:
    """How much a rate changed between two measurements on the same rows.

    Args:
        difference: Rate after minus rate before, in [-1, 1].
        low, high: Two-sided interval.
        lower: One-sided lower bound at the same confidence.
        effective_n: Number of independent rows that would be worth as much.
    """

    difference: float
    low: float
    high: float
    lower: float
    effective_n: float


def _normal_quantile(confidence: float, one_sided: bool) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    return NormalDist().inv_cdf(confidence if one_sided else (1 + confidence) / 2)


def wilson(k: float, n: float, confidence: float = 0.95, one_sided: bool = False) -> tuple[float, float]:
    """Return the score interval of a rate (Wilson 1927).

    Args:
        k: Successes; may be fractional when `n` is an effective number.
        n: Trials; with none, the interval is (0, 1).
        confidence: Coverage of the interval, or of each bound alone when `one_sided`.
        one_sided: Whether each bound is meant to be used without the other.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must be between 0 and n, got k={k}, n={n}")
    if n == 0:
        return 0.0, 1.0
    z = _normal_quantile(confidence, one_sided)
    rate = k / n
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    # The bound that equals the rate at 0 and 1 must not miss it by rounding.
    return (0.0 if k == 0 else max(0.0, centre - half)), (1.0 if k == n else min(1.0, centre + half))


def design_effect(values: Sequence[float] | np.ndarray, clusters: Sequence[Hashable]) -> float:
    """Return by how much clustering inflates the variance of a mean.

    `1 + (m - 1) · ICC` with `m` the size-weighted mean cluster size, sum(m_i²) / sum(m_i), and ICC the intraclass
    correlation from the one-way analysis of variance, kept in [0, 1] (Kish 1965, Survey Sampling, §5.4; Donner 1986,
    Int. Stat. Rev. 54:67). Where the rows of each cluster agree, the ICC is 1.
    """
    groups = _by_cluster(values, clusters)
    if not groups:
        return 1.0
    sizes = np.array([len(group) for group in groups], dtype=float)
    rows, count = sizes.sum(), len(sizes)
    weighted_size = (sizes**2).sum() / rows
    means = np.array([group.mean() for group in groups])
    within = sum(((group - mean) ** 2).sum() for group, mean in zip(groups, means, strict=True))
    if within <= 1e-12:
        return float(rows / count)
    if count < 2:
        return float(weighted_size)
    mean = np.concatenate(groups).mean()
    between_square = (sizes * (means - mean) ** 2).sum() / (count - 1)
    within_square = within / (rows - count)
    typical_size = (rows - weighted_size) / (count - 1)
    icc = (between_square - within_square) / (between_square + (typical_size - 1) * within_square)
    return float(1 + (weighted_size - 1) * min(1.0, max(0.0, icc)))


def _by_cluster(values: Sequence[float] | np.ndarray, clusters: Sequence[Hashable]) -> list[np.ndarray]:
    if len(values) != len(clusters):
        raise ValueError(f"one cluster per value is needed, got {len(values)} values and {len(clusters)} clusters")
    groups: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        groups.setdefault(cluster, []).append(float(value))
    return [np.array(group) for group in groups.values()]


def clustered_wilson(outcomes_by_fact: Mapping[str, Sequence[bool]], confidence: float = 0.95) -> Rate:
    """Return a rate over rows that are clustered by fact, with Wilson intervals.

    Where all rows of each fact agree, n is the number of facts; otherwise it is the number of rows divided by the
    `design_effect`. So few disagreements that the design effect cannot be told from 1 must not make the rate look
    better known than full agreement does: no bound is tighter than that of all facts failing (upper) or all
    succeeding (lower).

    Args:
        outcomes_by_fact: The outcomes of the rows of each fact.
        confidence: Coverage of the two-sided interval and of each one-sided bound.
    """
    pairs = [(float(outcome), fact) for fact, outcomes in outcomes_by_fact.items() for outcome in outcomes]
    values, clusters = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    rows, facts = len(values), len(set(clusters))
    if not rows:
        return Rate(0.0, 0, 0, 0.0, 0.0, 1.0, 0.0, 1.0)
    rate = sum(values) / rows
    effective = rows / design_effect(values, clusters)
    bounds = []
    for one_sided in (False, True):
        low, high = wilson(rate * effective, effective, confidence, one_sided)
        least_low = wilson(facts, facts, confidence, one_sided)[0]
        least_high = wilson(0, facts, confidence, one_sided)[1]
        bounds += [min(low, least_low), max(high, least_high)]
    return Rate(rate, rows, facts, effective, *bounds)


def cluster_bootstrap_mean(
    values: Sequence[float] | np.ndarray,
    clusters: Sequence[Hashable] | None = None,
    *,
    n: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Return the mean and its percentile interval when whole clusters are drawn again (Davison and Hinkley 1997, §3.8).

    Args:
        values: One number per row.
        clusters: The cluster of each row; each row its own if not given.
        n: Number of draws.
        seed: Seed of the draws.
        confidence: Coverage of the interval.

    Returns:
        `(mean, low, high)`; the interval is infinite where one cluster leaves nothing to draw.

    Raises:
        ValueError: If there are no values.
    """
    if len(values) == 0:
        raise ValueError("values is empty; a mean needs at least one")
    groups = _by_cluster(values, range(len(values)) if clusters is None else clusters)
    sums, sizes = np.array([group.sum() for group in groups]), np.array([len(group) for group in groups])
    mean = float(sums.sum() / sizes.sum())
    if len(groups) < 2:
        return mean, -math.inf, math.inf
    counts = np.random.default_rng(seed).multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=n)
    low, high = np.quantile(counts @ sums / (counts @ sizes), [(1 - confidence) / 2, (1 + confidence) / 2])
    return mean, float(low), float(high)


def paired_difference(
    before: Sequence[bool] | np.ndarray,
    after: Sequence[bool] | np.ndarray,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> PairedDifference:
    """Return the change of a rate on the same rows, with the score interval of Tango (1998, Stat. Med. 17:891).

    The number of rows is divided by the `design_effect` of the row-wise changes. Unlike a bootstrap, the interval
    does not shrink to a point when no row changed.

    Args:
        before, after: Outcome of each row.
        clusters: Cluster of each row; each row its own if not given.
        confidence: Coverage of the two-sided interval and of the one-sided bound.
    """
    if len(before) != len(after):
        raise ValueError(f"before and after must be of one length, got {len(before)} and {len(after)}")
    if len(before) == 0:
        return PairedDifference(0.0, -1.0, 1.0, -1.0, 0.0)
    change = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    effective = len(change) / design_effect(change, range(len(change)) if clusters is None else clusters)
    gained, lost = (float(moved.mean()) * effective for moved in (change > 0, change < 0))
    two_sided, one_sided = _normal_quantile(confidence, False), _normal_quantile(confidence, True)
    return PairedDifference(
        difference=float(change.mean()),
        low=_tango_bound(gained, lost, effective, two_sided, lower=True),
        high=_tango_bound(gained, lost, effective, two_sided, lower=False),
        lower=_tango_bound(gained, lost, effective, one_sided, lower=True),
        effective_n=effective,
    )


def _tango_bound(gained: float, lost: float, n: float, z: float, *, lower: bool) -> float:
    """Find the difference at which the score statistic reaches ±z; it falls as the difference grows."""

    def score(difference: float) -> float:
        linear = -gained - lost + (2 * n - gained + lost) * difference
        constant = -lost * difference * (1 - difference)
        root = math.sqrt(max(0.0, linear**2 - 8 * n * constant))
        probability_lost = max(0.0, (root - linear) / (4 * n))
        variance = n * (2 * probability_lost + difference * (1 - difference))
        distance = gained - lost - n * difference
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    estimate, edge, target = (gained - lost) / n, (-1.0 if lower else 1.0), (z if lower else -z)
    inside, outside = estimate, edge
    for _ in range(80):
        middle = (inside + outside) / 2
        if abs(score(middle)) < abs(target):
            inside = middle
        else:
            outside = middle
    return inside
