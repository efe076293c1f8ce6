"""Membership inference: whether a model tells texts that it was trained on from texts that it was not."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .answers import Generator
from .report import Metric

SHARE = 0.2
ATTACKS = {
    "loss": "mean log-likelihood per token",
    "zlib": "log-likelihood over the length of the text after zlib (Carlini et al. 2021)",
    "min_k": "mean log-likelihood of the least likely 20 % of the tokens (min-k %, Shi et al. 2024)",
    "min_k_plus": "the same of log-likelihoods in units of their spread under the model (min-k %++, Zhang et al. 2024)",
}


@dataclass(frozen=True)
class MembershipTexts:
    """Texts for membership inference.

    Args:
        members: Texts that the original model was trained on, about what has to go.
        non_members: Texts of the same form that no model was trained on.
    """

    members: tuple[str, ...]
    non_members: tuple[str, ...]


def membership_scores(
    log_probs: Sequence[float], means: Sequence[float], deviations: Sequence[float], text: str
) -> dict[str, float]:
    """Score one text by every attack; higher means more likely a member.

    Args:
        log_probs: Log-likelihood of each token, in nats.
        means, deviations: Mean and standard deviation of the log-likelihood at each place, over the model's own
            distribution.
        text: The text.
    """
    standardised = [
        (value - mean) / max(deviation, 1e-6)
        for value, mean, deviation in zip(log_probs, means, deviations, strict=True)
    ]
    return {
        "loss": sum(log_probs) / len(log_probs),
        "zlib": sum(log_probs) / len(zlib.compress(text.encode())),
        "min_k": _mean_of_lowest(log_probs),
        "min_k_plus": _mean_of_lowest(standardised),
    }


def _mean_of_lowest(values: Sequence[float]) -> float:
    lowest = sorted(values)[: max(1, math.floor(SHARE * len(values)))]
    return sum(lowest) / len(lowest)


def membership_auc(members: Sequence[float], non_members: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return the chance that a member scores higher than a non-member, with a 95 % interval (Hanley & McNeil 1982)."""
    from scipy.stats import mannwhitneyu

    first, second = len(members), len(non_members)
    auc = float(mannwhitneyu(members, non_members).statistic) / (first * second)
    one, both = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (first - 1) * (one - auc**2) + (second - 1) * (both - auc**2)
    margin = 1.96 * math.sqrt(max(variance, 0.0) / (first * second))
    return auc, (max(0.0, auc - margin), min(1.0, auc + margin))


def measure_membership(generator: Generator, texts: MembershipTexts) -> dict[str, Any]:
    """Score all texts by all attacks; the first word of a text is given.

    Returns:
        For each attack the scores of the `members` and of the `non_members`.
    """
    found: dict[str, dict[str, list[float]]] = {name: {"members": [], "non_members": []} for name in ATTACKS}
    for kind, group in (("members", texts.members), ("non_members", texts.non_members)):
        parts = [text.split(maxsplit=1) for text in group]
        scored = generator.score([head for head, _ in parts], [f" {rest}" for _, rest in parts], moments=True)
        for text, score in zip(group, scored, strict=True):
            log_probs = [-value for value in score.negative_log_likelihoods]
            for name, value in membership_scores(log_probs, score.means, score.deviations, text).items():
                found[name][kind].append(value)
    return found


def membership_metrics(records: Mapping[str, Any] | None) -> list[Metric]:
    """Return the area under the curve of each attack; none where there were no texts."""
    metrics = []
    for name, scores in (records or {}).items():
        auc, interval = membership_auc(scores["members"], scores["non_members"])
        definition = (
            f"AUC of sentences about the target that the original was trained on against sentences that it was not, by "
            f"{ATTACKS[name]}; 0.5 is ideal, and far below it is as telling as far above"
        )
        count = len(scores["members"]) + len(scores["non_members"])
        metrics.append(
            Metric(f"membership_auc_{name}", "membership", "none", auc, count, interval, definition=definition)
        )
    return metrics
