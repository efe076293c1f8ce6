"""Measures what a language model knows of a concept, before and after forgetting.

The original model is asked every question; the edited one only what the original answers, in the formats in which it
did, and everything that has to stay. All figures follow from the records of these answers.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..data import banks
from ..data.invented import world_of
from ..errors import InputError
from ..lm.decoding import AnswerGenerator
from ..lm.prompts import PromptFormat
from ..lm.remembering import RememberingGenerator
from . import answers
from .answers import Answer, Generator, answered
from .attacks.recovery import counted_recovery
from .attacks.stages import Attacker
from .collapse import as_collapse, measure_health
from .given_away import given_away, set_aside
from .language_model_metrics import after_metrics, before_metrics
from .logit_lens import logit_lens_ranks
from .membership import MembershipTexts, measure_membership
from .options import EvidenceOptions
from .probes import Probe, ProbeSet
from .report import Metric, to_jsonable
from .statistics import is_fluent
from .truth_ratio import measure_truth_ratios
from .verdict import ForgetRow, LanguageModelEvidence, RetainRow, SampledRecall, by_wording_rate

SAMPLED_FACTS = 12
SHOWN = {"edge": 6, "node": 4, "multihop": 2, "alias": 2, "neighbor": 4, "distant": 4}

Records = dict[str, Any]


@dataclass
class LanguageModelMeasurement:
    """One measurement.

    Args:
        metrics: The figures, as the report takes them.
        records: What the model answered, JSON-able; it holds the target's facts and belongs into `private/`.
    """

    metrics: list[Metric]
    records: Records


@dataclass
class _Interview:
    """What the steps of one measurement share."""

    tokenizer: Any
    generator: Generator
    formats: list[PromptFormat]
    probes: ProbeSet
    options: EvidenceOptions
    report: Callable[[str], None]
    attacker: Attacker
    model: Any = None
    membership: MembershipTexts | None = None
    by_id: dict[str, Probe] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_id = {probe.id: probe for probe in self.probes.probes}

    def step(self, name: str, line: str, action: Callable[[], Any]) -> Any:
        """Announce a step, run it and note how long it took."""
        self.report(line)
        start = time.monotonic()
        result = action()
        self.seconds[name] = round(time.monotonic() - start, 2)
        return result

    def rows(self, ids: Sequence[str]) -> list[Probe]:
        return [self.by_id[name] for name in ids]

    def ask(self, probes: Sequence[Probe], form: PromptFormat | None = None) -> dict[str, Answer]:
        return answers.ask(self.generator, form or self.formats[0], probes) if probes else {}


def measure_language_model(
    model: Any,
    tokenizer: Any,
    probes: ProbeSet,
    *,
    options: EvidenceOptions,
    stage: Literal["before", "after"],
    baseline: Records | None = None,
    sham_records: Records | None = None,
    reference_records: Records | None = None,
    membership: MembershipTexts | None = None,
    report: Callable[[str], None] = lambda line: None,
    generator: Generator | None = None,
    base_grid: bool = False,
    attack_seconds: float | None = None,
    answers_file: Path | None = None,
) -> LanguageModelMeasurement:
    """Ask a model the probes and attack it.

    Args:
        model (`PreTrainedModel` or `PeftModel`): The model; it is left as it was.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        probes: What is asked.
        options: How it is asked.
        stage: `before` for the original model, `after` for the edited one.
        baseline: Records of the stage before; needed after.
        sham_records: Records after, of a model edited by the same recipe on an invented name.
        reference_records: Records after, of a model that never knew the target, against the same baseline.
        membership: Texts for membership inference, where it is known what the original was trained on.
        report: Called with a line of text at each step.
        generator: Answers in the place of the model.
        base_grid: Whether the base model was de-quantised from a grid; quantizing on it is then reported, too.
        attack_seconds: No attack starts later than this after the attacks began; unlimited if not given.
        answers_file: Where the original model's answers are kept between runs; see `RememberingGenerator`.

    Raises:
        InputError: If a prompt format is unknown or does not suit the tokenizer, or the baseline asked other probes.
    """
    if stage == "after" and baseline is None:
        raise ValueError("stage 'after' needs the records of the stage before as baseline")
    world = world_of(model)
    with banks.speaking(None if world is None else world.bank()):
        names = baseline["formats"] if stage == "after" and baseline is not None else options.prompt_formats
        formats = answers.prompt_formats(names, tokenizer)
        generator = generator or AnswerGenerator(model, tokenizer, batch_size=options.evidence_batch_size)
        attacker = Attacker(model, tokenizer, generator, formats[0], probes, options, base_grid, attack_seconds)
        if stage == "before" and answers_file:
            # Not for the attacks, which change the weights.
            generator = RememberingGenerator(model, tokenizer, answers_file, batch_size=options.evidence_batch_size)
        interview = _Interview(tokenizer, generator, formats, probes, options, report, attacker, model, membership)
        if stage == "before" or baseline is None:
            records = to_jsonable(_measure_before(interview))
            return LanguageModelMeasurement(before_metrics(probes, records), records)
        _check_baseline(baseline, interview.by_id)
        records = to_jsonable(_measure_after(interview, baseline))
        return LanguageModelMeasurement(
            after_metrics(probes, baseline, records, sham_records, reference_records), records
        )


def _check_baseline(baseline: Records, by_id: Mapping[str, Probe]) -> None:
    unknown = next((name for name in (*baseline["forget"], *baseline["retain"]) if name not in by_id), None)
    if unknown is not None:
        raise InputError(
            f"the measurement before asked the probe '{unknown}', which is not among the probes given now; "
            "measure both stages with the same probes"
        )


def _measure_before(interview: _Interview) -> Records:
    options, probes, step = interview.options, interview.probes, interview.step
    forget = answers.chosen(probes.forget, options.max_forget_rows, options.evidence_seed)
    retain = _chosen_retain(probes, options)
    given: dict[str, dict[str, Answer]] = {probe.id: {} for probe in forget}
    for form in interview.formats:
        line = f"Asking {len(forget)} questions about the target ({form.name})"
        asked = step(f"forget_{form.name}", line, partial(interview.ask, forget, form))
        known = [probe for probe in forget if asked[probe.id]["correct"]]
        line = f"Asking {len(known)} of them about invented names"
        guessed = step(f"control_{form.name}", line, partial(_given_away, interview, known, form))
        for name, answer in asked.items():
            given[name][form.name] = set_aside(answer) if name in guessed else answer
    known = [probe for probe in forget if given[probe.id][interview.formats[0].name]["correct"]]
    edges = answers.one_wording_per_fact(probe for probe in forget if probe.group == "edge")
    facts = step("control_sampled", "Drawing answers about invented names", lambda: _sampled_facts(interview, known))
    records = _ask_the_rest(interview, retain, facts, edges, list(probes.by_group("recall")), None)
    return {
        "stage": "before",
        "formats": [form.name for form in interview.formats],
        "forget": given,
        "fluent": _fluent(given),
        **records,
        "attacks": step("attacks", "Attacking the original model", lambda: interview.attacker.before(known)),
        "seconds": interview.seconds,
    }


def _chosen_retain(probes: ProbeSet, options: EvidenceOptions) -> list[Probe]:
    """Where retain rows are limited, neighbors fill up to half of them: there are few, and the verdict needs them."""
    limit, seed = options.max_retain_rows, options.evidence_seed
    near, far = probes.by_group("neighbor"), probes.by_group("distant")
    if limit is None:
        return [*near, *far]
    kept = answers.chosen(near, max(limit - len(far), limit // 2), seed)
    return [*kept, *answers.chosen(far, limit - len(kept), seed)]


def _given_away(interview: _Interview, known: Sequence[Probe], form: PromptFormat) -> set[str]:
    return given_away(lambda rows: interview.ask(rows, form), known, interview.probes)


def _sampled_facts(interview: _Interview, known: Sequence[Probe]) -> list[Probe]:
    """Choose the facts whose answers are drawn, of those that samples about an invented name do not give as well."""
    generator, options, form = interview.generator, interview.options, interview.formats[0]
    facts = answers.one_wording_per_fact(probe for probe in known if probe.group in ("edge", "node"))

    def ask(rows: Sequence[Probe]) -> dict[str, dict[str, Any]]:
        return answers.sample(generator, form, rows, options.sampled_answers, options.evidence_seed)

    guessed = given_away(ask, facts, interview.probes)
    return answers.chosen([row for row in facts if row.id not in guessed], SAMPLED_FACTS, options.evidence_seed)


def _measure_after(interview: _Interview, before: Records) -> Records:
    step = interview.step
    given: dict[str, dict[str, Answer]] = {}
    for form in interview.formats:
        earlier = {name: by_form[form.name] for name, by_form in before["forget"].items() if form.name in by_form}
        known = [name for name, answer in earlier.items() if answer["correct"] or "given_away" in answer]
        line = f"Asking {len(known)} questions that the original answers ({form.name})"
        asked = step(f"forget_{form.name}", line, partial(interview.ask, interview.rows(known), form))
        for name, answer in asked.items():
            given.setdefault(name, {})[form.name] = set_aside(answer) if "given_away" in earlier[name] else answer
    lists = [interview.rows(list(before[key])) for key in ("retain", "sampled", "scores", "recall")]
    records = _ask_the_rest(interview, lists[0], lists[1], lists[2], lists[3], before["health"])
    return {
        "stage": "after",
        "formats": before["formats"],
        "forget": given,
        "fluent": _fluent(given),
        **records,
        "attacks": step("attacks", "Attacking the edited model", lambda: interview.attacker.after(before, given)),
        "seconds": interview.seconds,
    }


def _ask_the_rest(
    interview: _Interview,
    retain: Sequence[Probe],
    sampled: Sequence[Probe],
    scored: Sequence[Probe],
    recall: Sequence[Probe],
    health: Records | None,
) -> Records:
    """Ask what both stages ask alike; `health` is the original's record, after."""
    generator, options, step, form = interview.generator, interview.options, interview.step, interview.formats[0]
    line = f"Asking {len(retain)} questions about other things"
    kept = step("retain", line, lambda: interview.ask(retain))
    line = f"Drawing {options.sampled_answers} answers to each of {len(sampled)} questions"
    count, seed = options.sampled_answers, options.evidence_seed
    drawn = step("sampled", line, lambda: answers.sample(generator, form, sampled, count, seed) if sampled else {})
    line = f"Scoring {len(scored)} true answers"
    scores = step("scores", line, lambda: answers.score(generator, form, scored) if scored else {})

    line = f"Asking {len(recall)} open questions"
    told = step("recall", line, lambda: answers.tell(generator, interview.formats[-1], recall) if recall else {})
    line = "Reading general text and writing on"
    healthy = step("health", line, lambda: measure_health(generator, interview.tokenizer, seed, health))
    texts, ratios = interview.membership, measure_truth_ratios(generator, form, scored)
    return {
        "retain": kept,
        "sampled": drawn,
        "scores": scores,
        "truth_ratios": ratios,
        "membership": measure_membership(generator, texts) if texts else None,
        "lens": _lens(interview, scored),
        "recall": told,
        "health": healthy,
    }


def _lens(interview: _Interview, scored: Sequence[Probe]) -> dict[str, Any]:
    """Ranks by layer, or why there are none."""
    form = interview.formats[0]
    prompts = [form.prompt(probe.question) for probe in scored]
    try:
        ranks = logit_lens_ranks(
            interview.model, interview.tokenizer, prompts, [form.completion(probe.answers[0]) for probe in scored]
        )
    except Exception as error:  # what a foreign architecture raises is not ours to know, and ends no measurement
        return {"ranks": None, "problem": f"not run: {type(error).__name__}: {error}"[:200]}
    return {"ranks": ranks, "problem": ""}


def _fluent(given: Mapping[str, Mapping[str, Answer]]) -> list[int]:
    """Return how many answers are fluent, and how many there are."""
    texts = [answer["answer"] for by_form in given.values() for answer in by_form.values()]
    return [sum(map(is_fluent, texts)), len(texts)]


def evidence_from_records(
    before: Records, after: Records, probes: ProbeSet, reference: Records | None = None
) -> LanguageModelEvidence:
    """Return the outcomes from which the verdict follows.

    Args:
        before, after: Records of both stages.
        probes: The probes that were asked.
        reference: Records of a model that never knew the target.
    """
    by_id = {probe.id: probe for probe in probes.probes}
    forget, never_knew = (
        [
            ForgetRow(
                fact_id=by_id[name].fact_id,
                group=by_id[name].group,
                held_out=by_id[name].held_out,
                before=answered(by_form),
                after=answered(records["forget"].get(name)),
            )
            for name, by_form in before["forget"].items()
        ]
        for records in (after, reference or after)
    )
    retain = [
        RetainRow(by_id[name].fact_id, by_id[name].group, answer["correct"], after["retain"][name]["correct"])  # type: ignore[arg-type]
        for name, answer in before["retain"].items()
    ]
    earlier, later = ([row["correct"] for row in records["sampled"].values()] for records in (before, after))
    return LanguageModelEvidence(
        forget_rows=forget,
        retain_rows=retain,
        sampled_recall=SampledRecall(sum(earlier), sum(later), len(later)) if later else None,
        collapse_before=as_collapse(before["health"]),
        collapse_after=as_collapse(after["health"]),
        fluent_answers=(after["fluent"][0], after["fluent"][1]),
        recovery=counted_recovery(before, after),
        reference_upper_bound=by_wording_rate(never_knew).upper if reference else None,
    )


def samples_from_records(before: Records, after: Records | None, probes: ProbeSet) -> list[dict[str, Any]]:
    """Return answers to read, as `samples` of the report: some that the original gives of each group, and the recall.

    Args:
        before, after: Records of both stages; without the second, the answers before stand alone.
        probes: The probes that were asked.
    """
    by_id = {probe.id: probe for probe in probes.probes}
    form = before["formats"][0]
    first = {name: by_form.get(form) for name, by_form in before["forget"].items()} | before["retain"]
    then = {}
    if after is not None:
        then = {name: by_form.get(form) for name, by_form in after["forget"].items()} | after["retain"]
    samples: list[dict[str, Any]] = []
    for group, count in SHOWN.items():
        known = [
            by_id[name] for name, answer in first.items() if answer and answer["correct"] and by_id[name].group == group
        ]
        for probe in answers.one_wording_per_fact(known)[:count]:
            samples.append(_sample(probe, first[probe.id], then.get(probe.id)))
    for name, text in before["recall"].items():
        told = None if after is None else after["recall"].get(name)
        samples.append({"id": name, "probe": by_id[name].question, "kind": "recall", "before": text, "after": told})
    return samples


def _sample(probe: Probe, before: Answer | None, after: Answer | None) -> dict[str, Any]:
    return {
        "id": probe.id,
        "probe": probe.question,
        "kind": probe.group,
        "expected": list(probe.answers),
        "before": before["answer"] if before else None,
        "after": after["answer"] if after else None,
        "before_correct": bool(before and before["correct"]),
        "after_correct": bool(after["correct"]) if after else None,
    }
