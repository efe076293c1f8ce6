"""What attacks bring back, less what their controls bring back, from the records of both stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..options import COUNTED_ATTACKS
from ..report import Status
from .prompt import PROMPT_ATTACKS
from .quantize import BASE_GRID, COUNTED_GRIDS

Records = Mapping[str, Any]
VARIANTS = {"quantize": tuple(COUNTED_GRIDS), "prompt": tuple(PROMPT_ATTACKS)}
LEFT_OUT = "it was left out of the attacks"


@dataclass(frozen=True)
class Recovery:
    """What one attack brought back.

    Args:
        status: `ok`, `not_run` or `failed`.
        reason: Why it is not `ok`.
        points: Points of the attacked rows that came back, less the control's, not below 0.
        control: Points that came back of the control's rows, times the share of attacked rows that have a control.
        back: For each attacked row whether it came back.
    """

    status: Status
    reason: str = ""
    points: float | None = None
    control: float | None = None
    back: Mapping[str, bool] | None = None


def recoveries(before: Records, after: Records, kind: str) -> dict[str, Recovery]:
    """Return the recovery under each variant of an attack.

    Args:
        before: Records of the original model, with the controls.
        after: Records of the edited model.
        kind: `quantize` or `prompt`.
    """
    outcomes = after.get("attacks", {}).get(kind) or {}
    extra = [name for name in BASE_GRID if name in outcomes]
    return {name: _recovery(before, after, kind, name) for name in (*VARIANTS[kind], *extra)}


def _recovery(before: Records, after: Records, kind: str, name: str) -> Recovery:
    outcome = (after.get("attacks", {}).get(kind) or {}).get(name)
    if outcome is None:
        return Recovery("not_run", LEFT_OUT)
    if outcome["status"] != "ok":
        return Recovery(outcome["status"], outcome["reason"])
    attacks = before.get("attacks", {})
    if not attacks.get("control") or name in BASE_GRID:
        # Where no question names the target none can name an invented one, and the base's own grid does not change
        # the base: nothing is subtracted.
        control = 0.0
    else:
        measured = (attacks.get(kind) or {}).get(name) or {"status": "not_run", "reason": "it was not measured"}
        if measured["status"] != "ok":
            return Recovery(measured["status"], f"control: {measured['reason']}")
        # Only questions that name the target have a control; the others count as if nobody ever guessed them.
        control = measured["control_regained"] * attacks["control_share"][kind]
    form = after["formats"][0]
    plain = after["forget"]
    back = {
        row: answer["correct"] and not plain.get(row, {}).get(form, {}).get("correct", False)
        for row, answer in outcome["answers"].items()
    }
    return Recovery("ok", "", max(0.0, outcome["regained"] - control), control, back)


def worst(found: Mapping[str, Recovery], kind: str) -> Recovery:
    """Return the strongest of the counted variants; one that is not `ok` makes the whole attack not `ok`."""
    counted = [found[name] for name in VARIANTS[kind]]
    missing = next((item for status in ("failed", "not_run") for item in counted if item.status == status), None)
    return missing or max(counted, key=lambda item: item.points or 0.0)


def counted_recovery(before: Records, after: Records) -> dict[str, float | None]:
    """Return the points that the verdict needs for each counted attack; `None` where it did not run whole."""
    return {kind: worst(recoveries(before, after, kind), kind).points for kind in COUNTED_ATTACKS}
