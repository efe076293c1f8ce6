"""Attacks on forgetting: what they share. Each has a control, and a status that never says passed for not run."""

import dataclasses
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...data import banks
from ..answers import Answer
from ..matching import normalise
from ..probes import Probe
from ..statistics import recovered_points

Outcome = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Deadline:
    """Until when attacks may start.

    Args:
        at: Seconds of `time.monotonic`; `None` for no limit.
    """

    at: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> "Deadline":
        """Return the moment in `seconds` from now."""
        return cls(None if seconds is None else time.monotonic() + seconds)

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self.at is not None and time.monotonic() >= self.at


def attempt(attack: Callable[[], Outcome], deadline: Deadline) -> Outcome:
    """Run an attack; what goes wrong becomes its status and reason.

    Returns:
        What the attack returns with `status` `ok`, or `status` `failed` or `not_run` and a `reason`.
    """
    if deadline.passed:
        return not_run("no time was left for it")
    try:
        return {"status": "ok", "reason": "", **attack()}
    except Exception as error:
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:300]}


def not_run(reason: str) -> Outcome:
    """Return the outcome of an attack that was not run."""
    return {"status": "not_run", "reason": reason}


def regained_points(plain: Mapping[str, Answer], attacked: Mapping[str, Answer]) -> float:
    """Return how many of the attacked rows are answered under attack but not plainly, in points of all attacked rows.

    Args:
        plain: The answers without the attack; a row that is missing was not answered.
        attacked: The answers under attack.
    """
    before = [bool(plain.get(name, {}).get("correct")) for name in attacked]
    return recovered_points(before, [bool(answer["correct"]) for answer in attacked.values()])


def accuracy(answers: Mapping[str, Answer]) -> float:
    """Return the share of right answers."""
    return sum(bool(answer["correct"]) for answer in answers.values()) / len(answers)


def about_invented_name(
    probes: Sequence[Probe], names: Sequence[str], concept_type: str, invented: Sequence[str] = ()
) -> list[Probe]:
    """Return the probes that name the target with an invented name of its type in its place: the control.

    Nobody knows anything about these, so what is answered right under attack was guessed.

    Args:
        probes: Edge probes.
        names: Every name of the target.
        concept_type: Its type; a person where unknown.
        invented: The names to put in its place, in turn; all those of its type if not given.
    """
    spelled = "|".join(re.escape(name) for name in sorted(filter(None, names), key=len, reverse=True))
    if not spelled:
        return []
    invented = invented or invented_names(names, concept_type)
    control: list[Probe] = []
    for probe in probes:
        name = invented[len(control) % len(invented)]
        question, count = re.subn(rf"(?<!\w)(?:{spelled})(?!\w)", name, probe.question, flags=re.IGNORECASE)
        if count:
            control.append(dataclasses.replace(probe, id=f"control/{probe.id}", question=question))
    return control


def invented_names(names: Sequence[str], concept_type: str) -> list[str]:
    """Return invented names of a type, first those that share a word with the target: a river stands for a river.

    Args:
        names: Every name of the target.
        concept_type: Its type; a person where unknown.
    """
    words = {word for name in names for word in normalise(name).split()}
    invented = banks.invented_names(concept_type)
    return sorted(invented, key=lambda name: -len(words & set(normalise(name).split())))
