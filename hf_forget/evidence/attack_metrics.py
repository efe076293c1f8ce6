"""The metrics of attacks, from the records of both stages."""

from collections.abc import Mapping
from typing import Any

from .attacks.quantize import BASE_GRID, COUNTED_GRIDS
from .attacks.recovery import LEFT_OUT, VARIANTS, Recovery, recoveries, worst
from .attacks.relearn import STEPS
from .intervals import clustered_wilson, wilson
from .probes import ProbeSet
from .report import Metric

Records = Mapping[str, Any]


def quantized_metrics(before: Records, records: Records) -> list[Metric]:
    """Return the accuracy on each grid: before, that of the quantized base on rows that it answers unquantized."""
    outcomes = records["attacks"].get("quantize") or before["attacks"].get("quantize") or {}
    metrics = []
    for name, grid in (COUNTED_GRIDS | BASE_GRID).items():
        if name in BASE_GRID and name not in outcomes:
            continue
        outcome = (records["attacks"].get("quantize") or {}).get(name) or {"status": "not_run", "reason": LEFT_OUT}
        good = outcome["status"] == "ok"
        definition = f"forget rows that the base answers, answered with the weights rounded {grid.description}"
        count = len(outcome["answers"]) if good else None
        value = outcome["accuracy"] if good else None
        metrics.append(
            Metric(
                f"quantized_accuracy_{name}",
                "attack",
                "lower",
                value,
                count,
                wilson(round(value * count), count) if value is not None and count else None,
                status=outcome["status"],
                definition=definition if good else f"{definition}; {outcome['reason']}",
            )
        )
    return metrics


def recovery_metrics(probes: ProbeSet, before: Records, after: Records) -> list[Metric]:
    """Return what each counted attack brings back, the worst of its variants first."""
    facts = {probe.id: probe.fact_id for probe in probes.probes}
    metrics = []
    for kind in VARIANTS:
        found = recoveries(before, after, kind)
        counted = "counted grids" if kind == "quantize" else "six prompts"
        worst_text = f"the worst of the {counted}; the verdict allows 10"
        metrics.append(_recovery(f"recovery_{kind}", worst(found, kind), worst_text, facts))
        for name, recovery in found.items():
            text = f"variant {name.replace('_', ' ')}"
            if name in BASE_GRID:
                text = f"{BASE_GRID[name].description}, the grid the base was de-quantised from; outside the verdict"
            metrics.append(_recovery(f"recovery_{kind}_{name}", recovery, text, facts))
    return metrics


def relearnt_metrics(after: Records) -> list[Metric]:
    """Return how many questions are answered after some steps of training on other facts; nothing where not asked."""
    outcome = after["attacks"].get("relearn")
    if outcome is None:
        return []
    definition = "forget rows that the base answers, of relations that were not trained, answered after {} steps of "
    definition += "training on true answers to the others"
    if outcome["status"] != "ok":
        problem = f"{definition.format(STEPS[-1])}; {outcome['reason']}"
        name = f"relearnt_accuracy_{STEPS[-1]}"
        return [Metric(name, "attack", "lower", None, status=outcome["status"], definition=problem)]
    count = len(outcome["answers"][0])
    return [
        Metric(
            f"relearnt_accuracy_{step}",
            "attack",
            "lower",
            rate,
            count,
            wilson(round(rate * count), count),
            definition=definition.format(step),
        )
        for step, rate in zip(outcome["steps"], outcome["accuracy"], strict=True)
    ]


def _recovery(name: str, recovery: Recovery, text: str, facts: Mapping[str, str]) -> Metric:
    definition = (
        f"{text}. Points of the attacked rows that the base answers, that are answered under attack and not without "
        "it, less those of the control: the same attack on the original model about invented names"
    )
    if recovery.points is None or recovery.control is None or recovery.back is None:
        definition = f"{definition}; {recovery.reason}"
        return Metric(name, "attack", "lower", None, status=recovery.status, definition=definition)
    by_fact: dict[str, list[bool]] = {}
    for row, back in recovery.back.items():
        by_fact.setdefault(facts[row], []).append(back)
    rate = clustered_wilson(by_fact)
    interval = (max(0.0, 100 * rate.low - recovery.control), max(0.0, 100 * rate.high - recovery.control))
    return Metric(
        name,
        "attack",
        "lower",
        recovery.points,
        len(recovery.back),
        interval,
        definition=f"{definition}. The control's are {recovery.control:.1f}",
    )
