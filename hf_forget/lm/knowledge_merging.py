"""Triplets that say the same in other words become one."""

from collections.abc import Callable, Mapping, Sequence

from ..evidence.matching import normalise
from .knowledge import Triplet

# Words that stand before a name and do not change what is meant.
FILLER = frozenset(
    ["the", "a", "an", "of", "city", "town", "village", "river", "lake", "mount", "state", "country", "kingdom"]
)


def merge_triplets(triplets: Sequence[Triplet]) -> list[Triplet]:
    """Merge triplets of one relation whose objects are the same after normalisation."""
    return _merged(triplets, lambda triplet: normalise(triplet.object))


def merge_spellings(
    triplets: Sequence[Triplet], names: Sequence[str], aliases: Mapping[str, Sequence[str]]
) -> list[Triplet]:
    """Merge triplets of one relation whose objects are the same thing.

    Args:
        triplets: The triplets.
        names: The concept's own names, which are no objects: triplets that have one are dropped.
        aliases: For a name the others of the same thing.

    Returns:
        One triplet for each thing, in order of appearance, with its longest spelling; the others are its
        `object_aliases`.
    """
    own = {normalise(name) for name in names}
    usable = [triplet for triplet in triplets if normalise(triplet.object) not in own]
    canonical = {normalise(other): normalise(name) for name, others in aliases.items() for other in (name, *others)}

    def key(triplet: Triplet) -> str:
        found = canonical.get(normalise(triplet.object))
        words = (found or normalise(triplet.object)).split()
        return " ".join([word for word in words if word not in FILLER] or words)

    return _merged(usable, key)


def _merged(triplets: Sequence[Triplet], key: Callable[[Triplet], str]) -> list[Triplet]:
    merged: dict[tuple[str, str], Triplet] = {}
    for triplet in triplets:
        place = (triplet.relation, key(triplet))
        if place in merged:
            _absorb(merged[place], triplet)
        else:
            merged[place] = triplet
    return list(merged.values())


def _absorb(kept: Triplet, other: Triplet) -> None:
    spellings = [kept.object, *kept.object_aliases, other.object, *other.object_aliases]
    different = list({normalise(text): text for text in reversed(spellings)}.values())[::-1]
    kept.object = max(different, key=lambda text: (len(normalise(text)), text == kept.object))
    kept.object_aliases = [text for text in different if text != kept.object]
    kept.questions = list(dict.fromkeys([*kept.questions, *other.questions]))
    kept.answered, kept.asked = kept.answered + other.answered, kept.asked + other.asked
    kept.background = max(kept.background, other.background)
    kept.validated = kept.validated or other.validated
    kept.clue = kept.clue or other.clue
