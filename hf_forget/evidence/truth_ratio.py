"""How much likelier a right answer is than wrong ones of the same form, and whether a model that never knew agrees.

Source: TOFU (Maini et al. 2024), truth ratio and forget quality.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..lm.prompts import PromptFormat
from .answers import Generator
from .intervals import cluster_bootstrap_mean
from .probes import Probe
from .report import Metric

Ratios = Mapping[str, Mapping[str, Any]]


def truth_ratio(perturbed_losses: Sequence[float], paraphrase_loss: float) -> float:
    """Return p(perturbed) / p(paraphrase), with p = exp(−mean loss per token), p(perturbed) a mean over wrong answers.

    Args:
        perturbed_losses: Mean negative log-likelihood per token of each wrong answer, in nats.
        paraphrase_loss: That of the right answer in other words.
    """
    if not perturbed_losses:
        raise ValueError("a truth ratio needs at least one wrong answer")
    return sum(math.exp(paraphrase_loss - loss) for loss in perturbed_losses) / len(perturbed_losses)


def forget_quality(ratios: Sequence[float], reference: Sequence[float]) -> tuple[float, float]:
    """Compare the truth ratios of an edited model with those of one that never knew.

    Returns:
        The two-sample Kolmogorov-Smirnov statistic, 0 where both are distributed alike, and its p-value.
    """
    from scipy.stats import ks_2samp

    found = ks_2samp(ratios, reference)
    return float(found.statistic), float(found.pvalue)


def measure_truth_ratios(generator: Generator, form: PromptFormat, probes: Sequence[Probe]) -> dict[str, Any]:
    """Score right and wrong answers of the probes that have both.

    Returns:
        For each id the `truth_ratio`, and the mean losses `paraphrase` and `perturbed` behind it.
    """
    usable = [probe for probe in probes if probe.paraphrased_answer and probe.perturbed_answers]
    asked = [
        (probe, answer) for probe in usable for answer in (str(probe.paraphrased_answer), *probe.perturbed_answers)
    ]
    scores = generator.score(
        [form.prompt(probe.question) for probe, _ in asked], [form.completion(answer) for _, answer in asked]
    )
    losses: dict[str, list[float]] = {}
    for (probe, _), score in zip(asked, scores, strict=True):
        values = score.negative_log_likelihoods
        losses.setdefault(probe.id, []).append(sum(values) / len(values))
    return {
        name: {"truth_ratio": truth_ratio(wrong, right), "paraphrase": right, "perturbed": wrong}
        for name, (right, *wrong) in losses.items()
    }


def truth_ratio_metrics(ratios: Ratios, facts: Mapping[str, str], reference: Ratios | None = None) -> list[Metric]:
    """Return the mean truth ratio and, where there is a reference, the forget quality."""
    definition = (
        "p(wrong answers) / p(right answer in other words), p = exp(-mean loss); first wording of every edge fact"
    )
    if not ratios:
        return [Metric("truth_ratio", "forget", "higher", None, n=0, definition=f"{definition}; there are none")]
    values = [row["truth_ratio"] for row in ratios.values()]
    mean, low, high = cluster_bootstrap_mean(values, [facts[name] for name in ratios])
    metrics = [Metric("truth_ratio", "forget", "higher", mean, len(values), (low, high), definition=definition)]
    if reference:
        statistic, p = forget_quality(values, [row["truth_ratio"] for row in reference.values()])
        text = "two-sample Kolmogorov-Smirnov test of the truth ratios against the never-knew model's"
        metrics += [
            Metric(
                "forget_quality_ks", "forget", "lower", statistic, len(values), definition=f"statistic of the {text}"
            ),
            Metric(
                "forget_quality_p",
                "forget",
                "none",
                p,
                len(values),
                definition=f"p-value of the {text}; few facts make it large whatever the model",
            ),
        ]
    return metrics
