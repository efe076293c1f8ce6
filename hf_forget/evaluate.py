"""Measures a checkpoint on a probe file, alone or beside the model that it was made from."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from .data.model_names import resolve_model
from .evidence.language_model import evidence_from_records, measure_language_model, samples_from_records
from .evidence.options import EvidenceOptions
from .evidence.probes import ProbeSet
from .evidence.report import merge_metrics
from .evidence.verdict import judge_language_model


def evaluate(
    model: str,
    probes: str,
    *,
    base: str | None = None,
    options: EvidenceOptions | None = None,
    concept: str = "",
    aliases: Sequence[str] = (),
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Ask a model the questions of a probe file.

    Args:
        model (`str`): Folder, Hub id or embedded model.
        probes (`str`): The probe file.
        base (`str`, *optional*): The model before; with it there is a verdict.
        options: How it is asked.
        concept (`str`, *optional*): What the probes are about; what most of them say that they are about if not given.
        aliases: Its other names.
        report: Called with a line of text at each step.

    Returns:
        `model`, `base`, `probes`, and `metrics`, `checks`, `samples` as in a report; `verdict` is `None` without a
        base.

    Raises:
        InputError: If the probe file or a model cannot be used.
    """
    asked = ProbeSet.from_jsonl(probes, concept, aliases)
    if not concept:
        about = Counter(probe.entity for probe in asked.forget if probe.entity)
        asked = asked.replace(concept=about.most_common(1)[0][0] if about else "")

    def measured(name: str, stage: Any, baseline: dict[str, Any] | None = None) -> Any:
        report(f"Loading {name}")
        loaded, tokenizer, embedded = _loaded(name)
        return measure_language_model(
            loaded,
            tokenizer,
            asked,
            options=options or EvidenceOptions(),
            stage=stage,
            baseline=baseline,
            report=report,
            base_grid=embedded if base is None else resolve_model(base, prepare=False).source == "embedded",
        )

    found: dict[str, Any] = {"model": model, "base": base, "probes": probes, "verdict": None, "checks": []}
    if base is None:
        alone = measured(model, "before")
        samples = samples_from_records(alone.records, None, asked)
        return {**found, "metrics": merge_metrics([], alone.metrics), "samples": samples}
    before = measured(base, "before")
    after = measured(model, "after", before.records)
    verdict = judge_language_model(evidence_from_records(before.records, after.records, asked))
    return {
        **found,
        "verdict": verdict.value,
        "checks": verdict.checks,
        "metrics": merge_metrics(before.metrics, after.metrics),
        "samples": samples_from_records(before.records, after.records, asked),
    }


def _loaded(name: str) -> tuple[Any, Any, bool]:
    from transformers import AutoTokenizer

    from .lm.loading import placed
    from .trainer import causal_lm_from

    resolved = resolve_model(name)
    model = placed(causal_lm_from(name)).eval()
    return model, AutoTokenizer.from_pretrained(resolved.path), resolved.source == "embedded"
