"""The verdict for forgetting classes in a classifier: one rule, each of its conditions a named check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .intervals import paired_difference, wilson
from .report import Verdict

MIN_FORGOTTEN_ROWS = 150
MIN_REMAINING_ROWS = 300
ERROR_MARGIN = 2.0
ACCURACY_MARGIN = 1.5
COLLAPSE_POINTS = 10.0

RULE = (
    f"insufficient: fewer than {MIN_FORGOTTEN_ROWS} test inputs of a forgotten class or {MIN_REMAINING_ROWS} of the "
    "remaining ones. "
    "forgotten, all of: E_F of every forgotten class at or above that of a model retrained without it less "
    f"{ERROR_MARGIN:g} points (100 where there is no such model), with its one-sided 95 % lower bound; the one-sided "
    f"95 % lower bound of the paired difference of A_R above -{ACCURACY_MARGIN:g} points; relearning takes at least "
    "half as many steps as it takes the retrained model. "
    f"collapsed: not forgotten, and A_R more than {COLLAPSE_POINTS:g} points below before. partial: only the last "
    "condition fails. not_forgotten: otherwise. What was not run does not pass."
)


@dataclass(frozen=True)
class ClassifierEvidence:
    """The plain outcomes from which the verdict follows; `None` stands for what was not run.

    Args:
        errors: For each forgotten class how many of its test inputs are wrong, and how many there are.
        remaining_before, remaining_after: Whether each test input of the remaining classes was right, row by row.
        reference_errors: `errors` of the model retrained without the classes.
        relearning_steps: Steps until half of the forgotten inputs were right again.
        reference_steps: The same for the retrained model.
        max_steps: After so many steps relearning was given up; a number of steps that reaches it may be larger.
    """

    errors: Mapping[int, tuple[int, int]]
    remaining_before: Sequence[bool]
    remaining_after: Sequence[bool]
    reference_errors: Mapping[int, tuple[int, int]] | None = None
    relearning_steps: int | None = None
    reference_steps: int | None = None
    max_steps: int = 0


def judge_classifier(evidence: ClassifierEvidence) -> Verdict:
    """Judge the evidence by `RULE`, and return the verdict with every condition as a check."""
    enough, gone, intact = _enough(evidence), _forgotten_error(evidence), _remaining_accuracy(evidence)
    relearning = _relearning(evidence)
    if not enough["passed"]:
        value = "insufficient"
    elif gone["passed"] and intact["passed"]:
        value = "forgotten" if relearning["passed"] else "partial"
    else:
        value = "collapsed" if _points_lost(evidence) > COLLAPSE_POINTS else "not_forgotten"
    return Verdict(value, RULE, [enough, gone, intact, relearning])


def _check(name: str, passed: bool, detail: str) -> dict[str, Any]:
    return {"name": name, "passed": passed, "detail": detail}


def _enough(evidence: ClassifierEvidence) -> dict[str, Any]:
    fewest = min((rows for _, rows in evidence.errors.values()), default=0)
    remaining = len(evidence.remaining_after)
    detail = (
        f"{fewest} test inputs of the rarest forgotten class (needed {MIN_FORGOTTEN_ROWS}), {remaining} of the "
        f"remaining classes (needed {MIN_REMAINING_ROWS})"
    )
    return _check("enough_evidence", fewest >= MIN_FORGOTTEN_ROWS and remaining >= MIN_REMAINING_ROWS, detail)


def _forgotten_error(evidence: ClassifierEvidence) -> dict[str, Any]:
    passed, details = bool(evidence.errors), []
    for label, (wrong, rows) in sorted(evidence.errors.items()):
        needed = _reference_error(evidence, label) - ERROR_MARGIN
        error = 100 * wrong / rows if rows else 0.0
        bound = 100 * wilson(wrong, rows, one_sided=True)[0]
        passed &= error >= needed - 1e-9 and bound >= needed - 1e-9
        details.append(f"class {label}: {error:.1f} % of {rows}, lower bound {bound:.1f} % (needed {needed:.1f})")
    detail = "; ".join(details)
    if evidence.reference_errors is None:
        detail += "; no retrained model was measured, 100 % is assumed of it"
    return _check("forgotten_error", passed, detail)


def _reference_error(evidence: ClassifierEvidence, label: int) -> float:
    wrong, rows = (evidence.reference_errors or {}).get(label, (0, 0))
    return 100 * wrong / rows if rows else 100.0


def _points_lost(evidence: ClassifierEvidence) -> float:
    return -100 * paired_difference(evidence.remaining_before, evidence.remaining_after).difference


def _remaining_accuracy(evidence: ClassifierEvidence) -> dict[str, Any]:
    change = paired_difference(evidence.remaining_before, evidence.remaining_after)
    detail = (
        f"{100 * change.difference:+.2f} points on {len(evidence.remaining_after)} test inputs, one-sided 95 % lower "
        f"bound {100 * change.lower:+.2f} (must be above -{ACCURACY_MARGIN:g})"
    )
    return _check("remaining_accuracy", 100 * change.lower > -ACCURACY_MARGIN, detail)


def _relearning(evidence: ClassifierEvidence) -> dict[str, Any]:
    steps, reference, limit = evidence.relearning_steps, evidence.reference_steps, evidence.max_steps
    if steps is None or reference is None:
        missing = "the model" if steps is None else "a model retrained without the classes"
        return _check("relearning", False, f"not run: relearning was not measured on {missing}")
    if reference >= limit:
        # Half of a number that is only known to be large is not known.
        detail = f"{_steps(steps, limit)} steps; the retrained model was given up after {limit}: as many are needed"
        return _check("relearning", steps >= limit, detail)
    detail = f"{_steps(steps, limit)} steps, the retrained model {reference} (needed {reference / 2:g})"
    return _check("relearning", 2 * steps >= reference, detail)


def _steps(steps: int, limit: int) -> str:
    return f"{steps} or more" if steps >= limit else str(steps)
