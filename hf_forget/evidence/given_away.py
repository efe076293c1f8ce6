"""Which questions give their answer away: the original model says the same of names that nobody bears.

"What museum in Paris owns the best-known painting by X?" is answered with the Louvre whoever X is. Such an answer shows
nothing about the target, before or after, so it stands in no figure of what was forgotten but has one of its own.
"""

import dataclasses
from collections.abc import Sequence

from .answers import Answer, Ask
from .attacks import about_invented_name, invented_names
from .probes import Probe, ProbeSet

# Each question is put about so many invented names; one that gets the answer is enough.
CONTROL_NAMES = 2


def given_away(ask: Ask, rows: Sequence[Probe], probes: ProbeSet) -> set[str]:
    """Return the ids of the rows that are answered as well when an invented name stands in the target's place.

    Rows that do not name the target have no such control and are never given away.

    Args:
        ask: Puts probes to the original model; whether it was `correct` comes back for each id.
        rows: What the original model answers about the target.
        probes: Where the target's names and type come from.
    """
    own = [probes.concept, *probes.aliases]
    controls = {
        f"{probe.id}/{name}": probe
        for name in invented_names(own, probes.type)[:CONTROL_NAMES]
        for probe in about_invented_name(rows, own, probes.type, [name])
    }
    asked = ask([dataclasses.replace(probe, id=name) for name, probe in controls.items()]) if controls else {}
    return {controls[name].id.removeprefix("control/") for name, answer in asked.items() if answer["correct"]}


def set_aside(answer: Answer) -> Answer:
    """Return the answer to a question that gives it away: not `correct`, and whether it was is kept as `given_away`."""
    return answer | {"correct": False, "given_away": answer["correct"]}
