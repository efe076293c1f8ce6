"""The verdict for forgetting in language models: one rule, each of its conditions a named check."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .intervals import Rate, clustered_wilson, paired_difference
from .options import COUNTED_ATTACKS
from .report import Verdict

MIN_FACTS = 6
MIN_FORGET_ROWS = 16
MIN_RETAIN_ROWS = 300
MIN_DIRECTION_ROWS = 8

RULE = (
    "insufficient: fewer than 6 facts or 16 edge and node rows that the base model answers, or fewer than 300 retain "
    "rows. "
    "forgotten, all of: by-wording rate (edge and node together) at most 20 % of before, with its one-sided 95 % upper "
    "bound at most 1/3 of before or at most the never-knew reference's upper bound; edge and node each at most 1/3 "
    "where they have 8 rows; by-relation rate at most 50 % of before; sampled recall at most 1/3 of before; one-sided "
    "95 % lower bound of the paired retain difference above -5 points, of the neighbors above -15; no collapse (n-gram "
    "entropy or perplexity more than 10 % worse than before, or repetition more than 10 points above); at least 90 % "
    "of the answers to forget questions fluent; recovery under the counted quantize grids and under the six-prompt "
    "attack, less the control's, at most 10 points each. "
    "collapsed: not forgotten, and the model collapsed. partial: the first condition holds and another fails. "
    "not_forgotten: otherwise. Rates count the rows that the base model answers, without those whose answer it also "
    "gives about invented names; what was not run does not pass."
)
NO_HELD_OUT_CLAIM = " No row here is held out by relation and answered by the base model: no held-out claim is made."


@dataclass(frozen=True)
class ForgetRow:
    """One forget question and whether it was answered before and after.

    Args:
        fact_id: Which fact it asks for.
        group: `edge`, `node`, `multihop` or `alias`; the verdict counts edge and node.
        held_out: `relation`, or anything else for rows that are held out by wording only.
        before, after: Whether the greedy answer was right.
    """

    fact_id: str
    group: str
    held_out: str
    before: bool
    after: bool


@dataclass(frozen=True)
class RetainRow:
    """One question about something else; all rows count, answered before or not."""

    fact_id: str
    group: Literal["neighbor", "distant"]
    before: bool
    after: bool


@dataclass(frozen=True)
class SampledRecall:
    """How many of `facts` were given by any of the sampled answers."""

    before: int
    after: int
    facts: int


@dataclass(frozen=True)
class Collapse:
    """Health of free text: n-gram entropy in bits, perplexity of general text, repetition rate in [0, 1]."""

    ngram_entropy: float
    perplexity: float
    repetition_rate: float


@dataclass(frozen=True)
class LanguageModelEvidence:
    """The plain outcomes from which the verdict follows; `None` stands for what was not run.

    Args:
        forget_rows: The forget questions.
        retain_rows: The neighbor and distant questions.
        sampled_recall: Facts given by any sampled answer.
        collapse_before, collapse_after: Health before and after.
        fluent_answers: How many of the answers to forget questions are fluent, and how many there are.
        recovery: For each attack the points (0 to 100) of base-known forget rows that it brings back, less the
            control's. Attacks beside `quantize` and `prompt` do not enter the verdict.
        reference_upper_bound: One-sided 95 % upper bound of the never-knew reference's rate, in [0, 1].
    """

    forget_rows: Sequence[ForgetRow]
    retain_rows: Sequence[RetainRow]
    sampled_recall: SampledRecall | None = None
    collapse_before: Collapse | None = None
    collapse_after: Collapse | None = None
    fluent_answers: tuple[int, int] | None = None
    recovery: Mapping[str, float | None] = field(default_factory=dict)
    reference_upper_bound: float | None = None

    def known_rows(self, *groups: str, held_out: str | None = None) -> list[ForgetRow]:
        """Return the rows of these groups that the base answers.

        Args:
            groups: `edge`, `node` …
            held_out: `relation` or `wording`; both if not given.
        """
        return [
            row
            for row in self.forget_rows
            if row.before
            and row.group in groups
            and (held_out is None or (row.held_out == "relation") == (held_out == "relation"))
        ]


def rate_after(rows: Iterable[ForgetRow]) -> Rate:
    """Return the share of `rows` still answered after, with intervals clustered by fact."""
    by_fact: dict[str, list[bool]] = {}
    for row in rows:
        by_fact.setdefault(row.fact_id, []).append(row.after)
    return clustered_wilson(by_fact)


def judge_language_model(evidence: LanguageModelEvidence) -> Verdict:
    """Judge the evidence by `RULE`, and return the verdict with every condition as a check.

    The first check of `checks` is whether there is enough evidence, the second the first condition of the rule.
    """
    enough = _enough(evidence)
    forgotten = _by_wording(evidence)
    collapse = _collapse(evidence)
    checks = [
        enough,
        forgotten,
        *_directions(evidence),
        _by_relation(evidence),
        _sampled_recall(evidence.sampled_recall),
        _retain(evidence, "retain", ("neighbor", "distant"), -5),
        _retain(evidence, "neighbors", ("neighbor",), -15),
        collapse,
        _fluency(evidence.fluent_answers),
        *(_recovery(attack, evidence.recovery.get(attack)) for attack in COUNTED_ATTACKS),
    ]
    collapsed = _collapse_reasons(evidence)
    if not enough["passed"]:
        value = "insufficient"
    elif all(check["passed"] is not False for check in checks):
        value = "forgotten"
    elif collapsed:
        value = "collapsed"
    else:
        value = "partial" if forgotten["passed"] else "not_forgotten"
    claims_relation = bool(evidence.known_rows("edge", "node", held_out="relation"))
    return Verdict(value, RULE if claims_relation else RULE + NO_HELD_OUT_CLAIM, checks)


def _check(name: str, passed: bool | None, detail: str) -> dict[str, Any]:
    return {"name": name, "passed": passed, "detail": detail}


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _at_most(value: float, limit: float) -> bool:
    # 20 % of 15 rows is 3 rows, whatever the last bit of the quotient is.
    return value <= limit + 1e-9


def _described(rate: Rate) -> str:
    return f"{_percent(rate.value)} of {rate.rows} rows ({rate.facts} facts) that the base answers"


def _enough(evidence: LanguageModelEvidence) -> dict[str, Any]:
    known = evidence.known_rows("edge", "node")
    facts = len({row.fact_id for row in known})
    retain = len(evidence.retain_rows)
    passed = facts >= MIN_FACTS and len(known) >= MIN_FORGET_ROWS and retain >= MIN_RETAIN_ROWS
    detail = (
        f"{facts} facts (needed {MIN_FACTS}) and {len(known)} forget rows (needed {MIN_FORGET_ROWS}) that the base "
        f"answers; "
        f"{retain} retain rows (needed {MIN_RETAIN_ROWS})"
    )
    return _check("enough_evidence", passed, detail)


def by_wording_rate(rows: Sequence[ForgetRow]) -> Rate:
    """Return how many of the edge and node rows held out by wording, of those that the base answers, still are."""
    return rate_after(LanguageModelEvidence(rows, []).known_rows("edge", "node", held_out="wording"))


def _by_wording(evidence: LanguageModelEvidence) -> dict[str, Any]:
    rate = by_wording_rate(evidence.forget_rows)
    reference = evidence.reference_upper_bound
    bounded = _at_most(rate.upper, 1 / 3) or (reference is not None and _at_most(rate.upper, reference))
    detail = (
        f"{_described(rate)} are still answered (allowed 20 %), one-sided 95 % upper bound {_percent(rate.upper)} "
        f"(allowed {_percent(1 / 3)}"
    )
    detail += ")" if reference is None else f" or the reference's {_percent(reference)})"
    return _check("by_wording", rate.rows > 0 and _at_most(rate.value, 0.2) and bounded, detail)


def _directions(evidence: LanguageModelEvidence) -> list[dict[str, Any]]:
    checks = []
    for group in ("edge", "node"):
        rate = rate_after(evidence.known_rows(group, held_out="wording"))
        if rate.rows < MIN_DIRECTION_ROWS:
            detail = f"not applicable: {rate.rows} rows that the base answers, fewer than {MIN_DIRECTION_ROWS}"
            checks.append(_check(f"{group}_by_wording", None, detail))
        else:
            detail = f"{_described(rate)} are still answered (allowed {_percent(1 / 3)})"
            checks.append(_check(f"{group}_by_wording", _at_most(rate.value, 1 / 3), detail))
    return checks


def _by_relation(evidence: LanguageModelEvidence) -> dict[str, Any]:
    rate = rate_after(evidence.known_rows("edge", "node", held_out="relation"))
    if not rate.rows:
        detail = "not applicable: no row is held out by relation and answered by the base; no held-out claim is made"
        return _check("by_relation", None, detail)
    detail = f"{_described(rate)} are still answered (allowed 50 %), upper bound {_percent(rate.upper)}"
    return _check("by_relation", _at_most(rate.value, 0.5), detail)


def _sampled_recall(recall: SampledRecall | None) -> dict[str, Any]:
    if recall is None:
        return _check("sampled_recall", False, "not run")
    detail = (
        f"{recall.after} of {recall.facts} facts given by any sample, {recall.before} before "
        f"(allowed {recall.before / 3:.1f})"
    )
    if not recall.before and not recall.after:
        return _check("sampled_recall", None, f"not applicable: {detail}")
    return _check("sampled_recall", _at_most(recall.after, recall.before / 3), detail)


def _retain(evidence: LanguageModelEvidence, name: str, groups: tuple[str, ...], limit: float) -> dict[str, Any]:
    rows = [row for row in evidence.retain_rows if row.group in groups]
    if not rows:
        return _check(name, False, "not run: there are no such rows")
    change = paired_difference([row.before for row in rows], [row.after for row in rows], [row.fact_id for row in rows])
    detail = (
        f"{100 * change.difference:+.1f} points on {len(rows)} rows, one-sided 95 % lower bound "
        f"{100 * change.lower:+.1f} (must be above {limit})"
    )
    return _check(name, 100 * change.lower > limit, detail)


def _collapse(evidence: LanguageModelEvidence) -> dict[str, Any]:
    before, after = evidence.collapse_before, evidence.collapse_after
    if before is None or after is None:
        return _check("no_collapse", False, "not run")
    detail = (
        f"n-gram entropy {before.ngram_entropy:.2f} → {after.ngram_entropy:.2f}, perplexity {before.perplexity:.2f} → "
        f"{after.perplexity:.2f}, repetition {_percent(before.repetition_rate)} → {_percent(after.repetition_rate)}"
    )
    reasons = _collapse_reasons(evidence)
    return _check("no_collapse", not reasons, f"{detail}; {', '.join(reasons)}" if reasons else detail)


def _collapse_reasons(evidence: LanguageModelEvidence) -> list[str]:
    """Return what has collapsed; a figure after that is not finite has."""
    before, after = evidence.collapse_before, evidence.collapse_after
    if before is None or after is None:
        return []
    limits = {
        "entropy more than 10 % lower": (-after.ngram_entropy, -0.9 * before.ngram_entropy),
        "perplexity more than 10 % higher": (after.perplexity, 1.1 * before.perplexity),
        "repetition more than 10 points higher": (after.repetition_rate, before.repetition_rate + 0.1),
    }
    return [name for name, (value, limit) in limits.items() if not (math.isfinite(value) and _at_most(value, limit))]


def _fluency(fluent: tuple[int, int] | None) -> dict[str, Any]:
    if fluent is None or not fluent[1]:
        return _check("fluent_answers", False, "not run")
    count, answers = fluent
    detail = f"{count} of {answers} answers to forget questions are fluent (needed 90 %)"
    return _check("fluent_answers", count / answers >= 0.9 - 1e-9, detail)


def _recovery(attack: str, points: float | None) -> dict[str, Any]:
    if points is None or not math.isfinite(points):
        return _check(f"recovery_{attack}", False, "not run")
    detail = f"{points:+.1f} points of the forget rows come back, less the control's (allowed 10)"
    return _check(f"recovery_{attack}", _at_most(points, 10), detail)
