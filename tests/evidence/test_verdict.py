import dataclasses
import math

import pytest

from hf_forget.evidence.verdict import (
    NO_HELD_OUT_CLAIM,
    RULE,
    Collapse,
    ForgetRow,
    LanguageModelEvidence,
    RetainRow,
    SampledRecall,
    judge_language_model,
)

HEALTHY = Collapse(ngram_entropy=8.0, perplexity=20.0, repetition_rate=0.02)


def forget_rows(group: str, held_out: str, facts: int, recalled: int, rows: int = 2) -> list[ForgetRow]:
    """`facts` facts asked `rows` times each, all known before, `recalled` of them after."""
    return [
        ForgetRow(f"{group}-{held_out}-{fact}", group, held_out, True, fact < recalled)
        for fact in range(facts)
        for _ in range(rows)
    ]


def retain_rows(group: str, count: int, lost: int = 0, gained: int = 0) -> list[RetainRow]:
    outcomes = [(True, False)] * lost + [(False, True)] * gained + [(True, True)] * (count - lost - gained)
    return [RetainRow(f"{group}-{index}", group, *outcome) for index, outcome in enumerate(outcomes)]


def evidence(**changes) -> LanguageModelEvidence:
    complete = LanguageModelEvidence(
        forget_rows=[
            *forget_rows("edge", "wording", 10, 0),
            *forget_rows("node", "wording", 5, 0),
            *forget_rows("edge", "relation", 8, 2),
        ],
        retain_rows=[*retain_rows("neighbor", 50), *retain_rows("distant", 300)],
        sampled_recall=SampledRecall(before=12, after=2, facts=15),
        collapse_before=HEALTHY,
        collapse_after=HEALTHY,
        fluent_answers=(46, 46),
        recovery={"quantize": 0.0, "prompt": 3.0},
    )
    return dataclasses.replace(complete, **changes)


def failed(verdict) -> list[str]:
    return [check["name"] for check in verdict.checks if check["passed"] is False]


def rows(edge_recalled: int = 0, node_recalled: int = 0, relation_recalled: int = 0) -> list[ForgetRow]:
    return [
        *forget_rows("edge", "wording", 15, edge_recalled),
        *forget_rows("node", "wording", 10, node_recalled),
        *forget_rows("edge", "relation", 10, relation_recalled),
    ]


def test_model_that_meets_every_condition_has_forgotten():
    verdict = judge_language_model(evidence())
    assert (verdict.value, failed(verdict), verdict.rule) == ("forgotten", [], RULE)
    assert [check["name"] for check in verdict.checks] == [
        "enough_evidence",
        "by_wording",
        "edge_by_wording",
        "node_by_wording",
        "by_relation",
        "sampled_recall",
        "retain",
        "neighbors",
        "no_collapse",
        "fluent_answers",
        "recovery_quantize",
        "recovery_prompt",
    ]
    assert all(check["detail"] for check in verdict.checks)


@pytest.mark.parametrize(
    "changes",
    [
        {"forget_rows": forget_rows("edge", "wording", 5, 0, rows=8)},
        {"forget_rows": forget_rows("edge", "wording", 7, 0, rows=2)},
        {"forget_rows": forget_rows("alias", "wording", 30, 0)},
        {"forget_rows": [dataclasses.replace(row, before=False) for row in forget_rows("edge", "wording", 30, 0)]},
        {"retain_rows": retain_rows("neighbor", 50) + retain_rows("distant", 249)},
        {"forget_rows": [], "retain_rows": []},
    ],
)
def test_too_little_evidence_gives_no_verdict(changes):
    verdict = judge_language_model(evidence(**changes))
    assert verdict.value == "insufficient"
    assert "enough_evidence" in failed(verdict)


def test_five_facts_held_out_by_wording_are_too_few_to_call_forgotten():
    few = forget_rows("edge", "relation", 12, 0) + forget_rows("edge", "wording", 5, 0)
    verdict = judge_language_model(evidence(forget_rows=few))
    assert (verdict.value, failed(verdict)) == ("not_forgotten", ["by_wording"])  # upper bound 35 %


def test_sixteen_rows_of_six_facts_and_three_hundred_retain_rows_suffice():
    six = forget_rows("edge", "wording", 6, 0, rows=3)
    few = evidence(forget_rows=six[:16], retain_rows=retain_rows("neighbor", 50) + retain_rows("distant", 250))
    assert judge_language_model(few).value == "forgotten"


def test_rows_that_the_base_did_not_know_do_not_count():
    unknown = [ForgetRow(f"u{fact}", "edge", "wording", False, True) for fact in range(100)]
    assert judge_language_model(evidence(forget_rows=[*rows(), *unknown])).value == "forgotten"


def test_multihop_and_alias_rows_do_not_enter_the_rates():
    others = forget_rows("multihop", "wording", 20, 20) + forget_rows("alias", "relation", 20, 20)
    assert judge_language_model(evidence(forget_rows=[*rows(), *others])).value == "forgotten"


def test_a_fifth_by_wording_is_the_most_that_counts_as_forgotten():
    assert judge_language_model(evidence(forget_rows=forget_rows("edge", "wording", 60, 12))).value == "forgotten"
    above = judge_language_model(evidence(forget_rows=forget_rows("edge", "wording", 60, 13)))
    assert (above.value, failed(above)) == ("not_forgotten", ["by_wording"])


def test_upper_bound_must_be_below_a_third_or_the_reference():
    few = forget_rows("edge", "wording", 10, 2, rows=4)  # 20 %, upper bound 46 %
    assert judge_language_model(evidence(forget_rows=few)).value == "not_forgotten"
    assert judge_language_model(evidence(forget_rows=few, reference_upper_bound=0.5)).value == "forgotten"
    assert judge_language_model(evidence(forget_rows=few, reference_upper_bound=0.4)).value == "not_forgotten"


def test_one_direction_that_stays_makes_it_partial():
    stays = [*forget_rows("edge", "wording", 30, 0), *forget_rows("node", "wording", 5, 3)]
    verdict = judge_language_model(evidence(forget_rows=stays))
    assert (verdict.value, failed(verdict)) == ("partial", ["node_by_wording"])


def test_direction_with_fewer_than_eight_rows_is_not_judged_alone():
    few = [*forget_rows("edge", "wording", 30, 0), *forget_rows("node", "wording", 3, 3)]
    verdict = judge_language_model(evidence(forget_rows=few))
    assert verdict.value == "forgotten"
    node = next(check for check in verdict.checks if check["name"] == "node_by_wording")
    assert node["passed"] is None and node["detail"].startswith("not applicable")


def test_more_than_half_by_relation_makes_it_partial():
    assert judge_language_model(evidence(forget_rows=rows(relation_recalled=5))).value == "forgotten"
    verdict = judge_language_model(evidence(forget_rows=rows(relation_recalled=6)))
    assert (verdict.value, failed(verdict)) == ("partial", ["by_relation"])


@pytest.mark.parametrize("held_out", ["wording", ""])
def test_without_rows_held_out_by_relation_no_such_claim_is_made(held_out):
    verdict = judge_language_model(evidence(forget_rows=forget_rows("edge", held_out, 20, 0)))
    assert verdict.value == "forgotten"
    assert verdict.rule == RULE + NO_HELD_OUT_CLAIM
    relation = next(check for check in verdict.checks if check["name"] == "by_relation")
    assert relation["passed"] is None and relation["detail"].startswith("not applicable")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"sampled_recall": SampledRecall(12, 5, 15)}, "sampled_recall"),
        ({"sampled_recall": SampledRecall(0, 1, 15)}, "sampled_recall"),
        ({"sampled_recall": None}, "sampled_recall"),
        ({"retain_rows": retain_rows("neighbor", 60) + retain_rows("distant", 340, lost=15)}, "retain"),
        ({"retain_rows": retain_rows("neighbor", 50, lost=5) + retain_rows("distant", 900)}, "neighbors"),
        ({"retain_rows": retain_rows("distant", 400)}, "neighbors"),
        ({"collapse_before": None}, "no_collapse"),
        ({"fluent_answers": (89, 100)}, "fluent_answers"),
        ({"fluent_answers": None}, "fluent_answers"),
        ({"recovery": {"quantize": 10.1, "prompt": 0.0}}, "recovery_quantize"),
        ({"recovery": {"quantize": 0.0, "prompt": None}}, "recovery_prompt"),
        ({"recovery": {"quantize": 0.0}}, "recovery_prompt"),
        ({"recovery": {"quantize": math.nan, "prompt": 0.0}}, "recovery_quantize"),
    ],
)
def test_each_other_condition_alone_makes_it_partial(changes, name):
    verdict = judge_language_model(evidence(**changes))
    assert (verdict.value, failed(verdict)) == ("partial", [name])


@pytest.mark.parametrize(
    "changes",
    [
        {"sampled_recall": SampledRecall(12, 4, 15)},
        {"sampled_recall": SampledRecall(0, 0, 15)},
        {"retain_rows": retain_rows("neighbor", 60) + retain_rows("distant", 340, lost=9)},
        {"retain_rows": retain_rows("neighbor", 60) + retain_rows("distant", 340, lost=15, gained=12)},
        {"fluent_answers": (90, 100)},
        {"recovery": {"quantize": 10.0, "prompt": -2.0, "relearn": 90.0}},
        {"collapse_after": Collapse(7.2, 22.0, 0.12)},
    ],
)
def test_values_at_the_limits_pass(changes):
    assert judge_language_model(evidence(**changes)).value == "forgotten"


@pytest.mark.parametrize(
    "after",
    [Collapse(7.1, 20.0, 0.02), Collapse(8.0, 22.1, 0.02), Collapse(8.0, 20.0, 0.13), Collapse(8.0, math.inf, 0.02)],
)
@pytest.mark.parametrize("recalled", [0, 15])
def test_broken_model_is_collapsed_whatever_it_still_knows(after, recalled):
    verdict = judge_language_model(evidence(collapse_after=after, forget_rows=rows(edge_recalled=recalled)))
    assert verdict.value == "collapsed"
    assert "no_collapse" in failed(verdict)


def test_unchanged_model_has_not_forgotten():
    assert judge_language_model(evidence(forget_rows=rows(15, 10, 10))).value == "not_forgotten"
