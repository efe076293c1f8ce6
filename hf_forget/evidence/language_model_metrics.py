"""The figures of language-model evidence, each with n, interval and definition, from the records of answers."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .answers import answered
from .attack_metrics import quantized_metrics, recovery_metrics, relearnt_metrics
from .collapse import KL_TOKENS, TEMPERATURE, perplexity
from .given_away import CONTROL_NAMES
from .intervals import cluster_bootstrap_mean, clustered_wilson, paired_difference, wilson
from .logit_lens import lens_metrics
from .membership import membership_metrics
from .probes import Probe, ProbeSet
from .report import Metric, MetricGroup
from .statistics import rouge_l_recall
from .truth_ratio import truth_ratio_metrics

Records = Mapping[str, Any]


@dataclass(frozen=True)
class _Kind:
    """A kind of forget rows whose rate is reported."""

    name: str
    rows: str
    includes: Callable[[Probe], bool]


def _direct(probe: Probe) -> bool:
    return probe.group in ("edge", "node")


FORGET_RATES = (
    _Kind("edge_accuracy", "name given, attribute asked", lambda probe: probe.group == "edge"),
    _Kind("node_accuracy", "clues given, name asked", lambda probe: probe.group == "node"),
    _Kind("multihop_accuracy", "target reached through other facts", lambda probe: probe.group == "multihop"),
    _Kind("alias_accuracy", "target reached through another name", lambda probe: probe.group == "alias"),
    _Kind(
        "by_wording_rate",
        "edge and node rows held out by wording only",
        lambda probe: _direct(probe) and probe.held_out != "relation",
    ),
    _Kind(
        "by_relation_rate",
        "edge and node rows of relations of which nothing was trained",
        lambda probe: _direct(probe) and probe.held_out == "relation",
    ),
)
SCORES = {
    "answer_probability": "exp(-NLL/|y|) of the first accepted answer",
    "extraction_strength": "1 - k/|y|, k the smallest index from which the whole suffix is predicted greedily, 0 when "
    "none is",
    "exact_memorization": "share of the answer's tokens that are the likeliest ones, teacher forced",
}
RETAIN_RATES = {
    "neighbor_accuracy": ("neighbor", "things close to the target"),
    "distant_accuracy": ("distant", "unrelated facts"),
}


def before_metrics(probes: ProbeSet, before: Records) -> list[Metric]:
    """Return the metrics of the original model."""
    metrics = [
        *_forget_rates(probes, before, before),
        _given_away(probes, before),
        *_sampled(probes, before),
        *_scores(probes, before),
        *_inner(probes, before),
        *_retain_rates(probes, before),
        *_health(before),
        *quantized_metrics(before, before),
    ]
    # The sham run starts from the same model, so its figures before are these.
    return metrics + [_as_sham(metric) for metric in metrics if metric.name in _sham_names()]


def after_metrics(
    probes: ProbeSet,
    before: Records,
    after: Records,
    sham: Records | None = None,
    reference: Records | None = None,
) -> list[Metric]:
    """Return the metrics of the edited model, of its attacks, and of the sham run beside it.

    Args:
        probes: What was asked.
        before: Records of the original model.
        after: Records of the edited model.
        sham: Records of a model edited by the same recipe on an invented name.
        reference: Records of a model that never knew the target, which each metric then has beside it.
    """
    never = (reference or {}).get("truth_ratios")
    metrics = [
        *_forget_rates(probes, before, after),
        _given_away(probes, after),
        *_sampled(probes, after),
        *_scores(probes, after),
        *_inner(probes, after, never),
        *_recall(before, after),
        *_retain_rates(probes, after),
        *_retain_differences(probes, before, after),
        _retain_kept(before, after),
        *_health(after),
        *quantized_metrics(before, after),
        *recovery_metrics(probes, before, after),
        *relearnt_metrics(after),
        *_sham(probes, before, sham),
    ]
    if reference is None:
        return metrics
    known = {metric.name: metric.value for metric in after_metrics(probes, before, reference)}
    return [replace(metric, reference=known.get(metric.name)) for metric in metrics]


def _inner(probes: ProbeSet, records: Records, reference: Records | None = None) -> list[Metric]:
    """What the answers alone do not show: truth ratios, membership, and the middle of the model."""
    facts = {probe.id: probe.fact_id for probe in probes.probes}
    lens = records.get("lens") or {}
    return [
        *truth_ratio_metrics(records.get("truth_ratios") or {}, facts, reference),
        *membership_metrics(records.get("membership")),
        *lens_metrics(lens.get("ranks"), lens.get("problem", "")),
    ]


def _retain_kept(before: Records, after: Records) -> Metric:
    """The share of before that is left of the retain rows."""
    earlier, later = (sum(row["correct"] for row in records["retain"].values()) for records in (before, after))
    definition = "neighbor and distant rows answered after / answered before, in percent"
    value = 100 * later / earlier if earlier else None
    return Metric("retain_kept", "retain", "higher", value, len(before["retain"]), definition=definition)


def _forget_rates(probes: ProbeSet, before: Records, records: Records) -> list[Metric]:
    asked = [probe for probe in probes.forget if probe.id in before["forget"]]
    metrics = []
    for kind in FORGET_RATES:
        rows = [probe for probe in asked if kind.includes(probe)]
        known = sum(answered(before["forget"][probe.id]) for probe in rows)
        outcomes = [(probe.fact_id, answered(records["forget"].get(probe.id))) for probe in rows]
        definition = (
            f"{kind.rows}: rows answered greedily in any of the formats {', '.join(before['formats'])} / all n rows. "
            f"The base answers {known} of them; after, only these are asked again, in the formats in which it did, and "
            "the others count as not answered, and so do answers that the question gives away"
        )
        metrics.append(_rate(kind.name, "forget", "lower", outcomes, definition))
    return metrics


def _given_away(probes: ProbeSet, records: Records) -> Metric:
    facts = {probe.id: probe.fact_id for probe in probes.forget}
    outcomes = [
        (facts[name], answer["given_away"])
        for name, by_form in records["forget"].items()
        for answer in by_form.values()
        if "given_away" in answer
    ]
    definition = (
        f"questions to which the base gives the same right answer about one of {CONTROL_NAMES} invented names, still "
        "answered; each format counts, and none of them is in any other figure"
    )
    return _rate("given_away_accuracy", "forget", "none", outcomes, definition)


def _rate(
    name: str, group: MetricGroup, direction: Any, outcomes: Sequence[tuple[str, bool]], definition: str
) -> Metric:
    """Make the metric of a rate over (fact, outcome) pairs."""
    if not outcomes:
        return Metric(name, group, direction, None, n=0, definition=f"{definition}; there are no such rows")
    by_fact: dict[str, list[bool]] = {}
    for fact, outcome in outcomes:
        by_fact.setdefault(fact, []).append(outcome)
    rate = clustered_wilson(by_fact)
    return Metric(name, group, direction, rate.value, len(outcomes), (rate.low, rate.high), definition=definition)


def _mean(
    name: str,
    group: MetricGroup,
    direction: Any,
    values: Sequence[float | None],
    definition: str,
    facts: Sequence[str] | None = None,
) -> Metric:
    if not values:
        return Metric(name, group, direction, None, n=0, definition=f"{definition}; there are no such rows")
    numbers = [math.nan if value is None else value for value in values]
    if not all(map(math.isfinite, numbers)):
        return Metric(name, group, direction, math.nan, n=len(values), definition=definition)
    mean, low, high = cluster_bootstrap_mean(numbers, facts)
    return Metric(name, group, direction, mean, len(values), (low, high), definition=definition)


def _sampled(probes: ProbeSet, records: Records) -> list[Metric]:
    facts = {probe.id: probe.fact_id for probe in probes.probes}
    drawn = max((len(row["answers"]) for row in records["sampled"].values()), default=0)
    outcomes = [(facts[name], row["correct"]) for name, row in records["sampled"].items()]
    definition = (
        "share of facts that the base answers greedily and does not draw for invented names, given by any of "
        f"k = {drawn} samples at T = 1"
    )
    return [_rate("sampled_recall", "forget", "lower", outcomes, definition)]


def _scores(probes: ProbeSet, records: Records) -> list[Metric]:
    facts = {probe.id: probe.fact_id for probe in probes.probes}
    clusters = [facts[name] for name in records["scores"]]
    return [
        _mean(
            name,
            "forget",
            "lower",
            [row[name] for row in records["scores"].values()],
            f"{definition}; mean over the first wording of every edge fact, known or not",
            clusters,
        )
        for name, definition in SCORES.items()
    ]


def _recall(before: Records, after: Records) -> list[Metric]:
    values = [rouge_l_recall(text, before["recall"][name]) for name, text in after["recall"].items()]
    definition = "ROUGE-L recall of what the model says when asked to tell about the target against the original's"
    return [_mean("free_recall_rouge_l", "forget", "lower", values, definition)]


def _retain_rates(probes: ProbeSet, records: Records) -> list[Metric]:
    metrics = []
    for name, (group, text) in RETAIN_RATES.items():
        rows = [probe for probe in probes.by_group(group) if probe.id in records["retain"]]
        outcomes = [(probe.fact_id, records["retain"][probe.id]["correct"]) for probe in rows]
        definition = f"{text}: rows answered greedily in the format {records['formats'][0]} / all rows, known or not"
        metrics.append(_rate(name, "retain", "higher", outcomes, definition))
    return metrics


def _retain_differences(probes: ProbeSet, before: Records, after: Records) -> list[Metric]:
    metrics = []
    for name, groups in (("retain_difference", ("neighbor", "distant")), ("neighbor_difference", ("neighbor",))):
        rows = [probe for probe in probes.by_group(*groups) if probe.id in before["retain"]]
        definition = (
            f"accuracy after minus before on the same {' and '.join(groups)} rows, paired, in points (100 = all); the "
            "verdict takes its one-sided 95 % lower bound"
        )
        if not rows:
            metrics.append(Metric(name, "retain", "higher", None, n=0, definition=definition))
            continue
        pairs = [(before["retain"][row.id]["correct"], after["retain"][row.id]["correct"]) for row in rows]
        change = paired_difference([a for a, _ in pairs], [b for _, b in pairs], [row.fact_id for row in rows])
        value, interval = 100 * change.difference, (100 * change.low, 100 * change.high)
        metrics.append(Metric(name, "retain", "higher", value, len(rows), interval, definition=definition))
    return metrics


def _health(records: Records) -> list[Metric]:
    health = records["health"]
    losses = _mean("perplexity", "collapse", "lower", health["paragraph_nll"], "of general text: exp of the mean NLL")
    low, high = losses.ci95 or (-math.inf, math.inf)
    bounds = (math.exp(low), math.exp(min(700.0, high)))
    entropy, texts = health["ngram_entropy"], len(health["repetition"])
    metrics = [
        replace(losses, value=perplexity(dict(health)), ci95=bounds if losses.ci95 else None, status="ok"),
        Metric(
            "ngram_entropy",
            "collapse",
            "higher",
            math.nan if entropy is None else entropy,
            texts,
            definition="2- and 3-gram entropy in bits over all continuations of general prose (weights 2/3 and 4/3), "
            f"sampled at T = {TEMPERATURE} with a fixed seed",
        ),
        _mean(
            "repetition_rate",
            "collapse",
            "lower",
            health["repetition"],
            f"share of 4-grams seen before in the same continuation of general prose at T = {TEMPERATURE}, mean",
        ),
    ]
    if records["stage"] == "after":
        definition = (
            f"KL(original, edited) of the next token after general openings, in nats, over the original's {KL_TOKENS} "
            "likeliest tokens with all others taken together"
        )
        metrics.append(_mean("kl_to_original", "collapse", "lower", health.get("kl") or [], definition))
    fluent, count = records["fluent"]
    metrics.append(
        Metric(
            "fluent_share",
            "collapse",
            "higher",
            fluent / count if count else None,
            count,
            wilson(fluent, count) if count else None,
            definition="answers to forget questions that say something and do not loop / all such answers",
        )
    )
    return metrics


def _sham_names() -> list[str]:
    return [*(kind.name for kind in FORGET_RATES), "sampled_recall", *RETAIN_RATES]


def _as_sham(metric: Metric) -> Metric:
    return replace(
        metric,
        name=f"sham_{metric.name}",
        direction="none",
        definition=f"the same recipe on an invented name: {metric.definition}",
    )


def _sham(probes: ProbeSet, before: Records, sham: Records | None) -> list[Metric]:
    """Return what the same recipe on an invented name does to these figures: regression to the mean and damage."""
    records = before if sham is None else sham
    rates = [*_forget_rates(probes, before, records), *_sampled(probes, records), *_retain_rates(probes, records)]
    metrics = [_as_sham(metric) for metric in (*rates, *_retain_differences(probes, before, records))]
    if sham is not None:
        return metrics
    return [replace(metric, value=None, n=None, ci95=None, status="not_run") for metric in metrics]
