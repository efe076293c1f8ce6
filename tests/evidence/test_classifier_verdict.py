import dataclasses

import pytest

from hf_forget.evidence.classifier_verdict import RULE, ClassifierEvidence, judge_classifier


def outcomes(right: int, rows: int) -> list[bool]:
    return [True] * right + [False] * (rows - right)


def evidence(**changes) -> ClassifierEvidence:
    complete = ClassifierEvidence(
        errors={7: (1000, 1000)},
        remaining_before=outcomes(8700, 9000),
        remaining_after=outcomes(8690, 9000),
        reference_errors={7: (1000, 1000)},
        relearning_steps=40,
        reference_steps=60,
        max_steps=500,
    )
    return dataclasses.replace(complete, **changes)


def failed(verdict) -> list[str]:
    return [check["name"] for check in verdict.checks if not check["passed"]]


def test_model_that_meets_every_condition_has_forgotten():
    verdict = judge_classifier(evidence())
    assert (verdict.value, failed(verdict), verdict.rule) == ("forgotten", [], RULE)
    assert [check["name"] for check in verdict.checks] == [
        "enough_evidence",
        "forgotten_error",
        "remaining_accuracy",
        "relearning",
    ]
    assert all(check["detail"] for check in verdict.checks)


@pytest.mark.parametrize(
    ("changes", "value", "checks"),
    [
        # A dropped logit: everything but relearning.
        ({"relearning_steps": 0}, "partial", ["relearning"]),
        ({"relearning_steps": 29}, "partial", ["relearning"]),
        ({"relearning_steps": 30}, "forgotten", []),
        ({"relearning_steps": None}, "partial", ["relearning"]),
        ({"reference_steps": None}, "partial", ["relearning"]),
        # The retrained model was given up: half of its steps is not known.
        ({"reference_steps": 500, "relearning_steps": 499}, "partial", ["relearning"]),
        ({"reference_steps": 500, "relearning_steps": 500}, "forgotten", []),
        ({"reference_steps": 400, "relearning_steps": 500}, "forgotten", []),
        # An error of 98.5 % has a lower bound of 97.7 %.
        ({"errors": {7: (991, 1000)}}, "forgotten", []),
        ({"errors": {7: (985, 1000)}}, "not_forgotten", ["forgotten_error"]),
        ({"errors": {7: (985, 1000)}, "reference_errors": {7: (995, 1000)}}, "forgotten", []),
        ({"errors": {7: (979, 1000)}, "reference_errors": None}, "not_forgotten", ["forgotten_error"]),
        ({"reference_errors": None}, "forgotten", []),
        # Every class has to go, whatever the others do.
        ({"errors": {3: (1000, 1000), 7: (900, 1000)}}, "not_forgotten", ["forgotten_error"]),
        # 120 of 9,000 are 1.33 points, whose lower bound is below -1.5.
        ({"remaining_after": outcomes(8600, 9000)}, "forgotten", []),
        ({"remaining_after": outcomes(8580, 9000)}, "not_forgotten", ["remaining_accuracy"]),
        ({"remaining_after": outcomes(8500, 9000)}, "not_forgotten", ["remaining_accuracy"]),
        ({"remaining_after": outcomes(9000, 9000)}, "forgotten", []),
        ({"remaining_after": outcomes(7799, 9000)}, "collapsed", ["remaining_accuracy"]),
        (
            {"remaining_after": outcomes(2000, 9000), "errors": {7: (0, 1000)}, "relearning_steps": 0},
            "collapsed",
            ["forgotten_error", "remaining_accuracy", "relearning"],
        ),
        ({"errors": {7: (10, 1000)}, "relearning_steps": 0}, "not_forgotten", ["forgotten_error", "relearning"]),
        ({"errors": {7: (149, 149)}}, "insufficient", ["enough_evidence"]),
        ({"errors": {}}, "insufficient", ["enough_evidence", "forgotten_error"]),
        (
            {"remaining_before": outcomes(299, 299), "remaining_after": outcomes(299, 299)},
            "insufficient",
            ["enough_evidence"],
        ),
    ],
)
def test_verdict_follows_from_the_conditions(changes, value, checks):
    verdict = judge_classifier(evidence(**changes))
    assert (verdict.value, failed(verdict)) == (value, checks)


def test_what_was_assumed_is_said():
    detail = judge_classifier(evidence(reference_errors=None)).checks[1]["detail"]
    assert "no retrained model was measured" in detail


def test_details_give_the_figures_and_what_was_needed():
    details = {check["name"]: check["detail"] for check in judge_classifier(evidence()).checks}
    assert details["forgotten_error"].startswith("class 7: 100.0 % of 1000, lower bound 99.7 % (needed 98.0)")
    assert details["remaining_accuracy"].startswith("-0.11 points on 9000 test inputs")
    assert details["relearning"] == "40 steps, the retrained model 60 (needed 30)"
