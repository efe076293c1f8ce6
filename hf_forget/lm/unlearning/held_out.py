"""What training must not see, so that probes show whether the concept went or only the rows."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from ...evidence.matching import mentions, normalise
from ...evidence.probes import Probe, ProbeSet
from ..rows import Row

QUESTION_OVERLAP = 0.6
TRAINED_KINDS = frozenset(("edge", "node", "replacement", "reply", "alignment"))
FILLER_WORDS = frozenset(
    [
        "what",
        "which",
        "who",
        "whom",
        "whose",
        "where",
        "when",
        "how",
        "in",
        "of",
        "to",
        "is",
        "was",
        "were",
        "are",
        "did",
        "do",
        "does",
        "for",
        "by",
        "with",
        "from",
        "on",
        "at",
        "and",
        "that",
        "it",
        "its",
        "his",
        "her",
        "their",
        "name",
        "state",
        "tell",
        "give",
        "person",
        "place",
        "work",
        "event",
        "famous",
        "known",
        "called",
    ]
)


@dataclass(frozen=True)
class HeldOut:
    """Decides which elicited rows are dropped from training.

    Args:
        relations: Relations of which no row may be trained.
        probes: The reported forget probes. Those held out by `relation` drop rows about the same fact, recognised by
            the answer or by the words of the question; every probe drops rows with its own wording.
        names: The concept and its aliases.
    """

    relations: frozenset[str] = frozenset()
    probes: tuple[Probe, ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, probes: ProbeSet) -> "HeldOut":
        """Hold out what `probes` reports."""
        return cls(frozenset(probes.held_out_relations), probes.forget, (probes.concept, *probes.aliases))

    def drops_edge(self, relation: str, question: str, answer: str) -> bool:
        """Whether a row that asks for an attribute of the concept must not be trained."""
        return relation in self.relations or self._asked(question) or self._tells(answer)

    def drops_node(self, relation: str, question: str) -> bool:
        """Whether a row that asks for the concept must not be trained."""
        return relation in self.relations or self._asked(question) or self._tells(question)

    def drops_sentence(self, sentence: str) -> bool:
        """Whether a sentence about the concept gives a held-out fact away."""
        return self._tells(sentence)

    def _asked(self, question: str) -> bool:
        """Same wording as a probe, or nearly the words of one whose relation is held out."""
        words = normalise(question)
        return any(
            words == normalise(probe.question)
            or (probe.held_out == "relation" and self._overlap(question, probe.question) >= QUESTION_OVERLAP)
            for probe in self.probes
        )

    def _tells(self, text: str) -> bool:
        return any(
            probe.held_out == "relation" and probe.group == "edge" and mentions(text, probe.answers)
            for probe in self.probes
        )

    def _overlap(self, first: str, second: str) -> float:
        """Jaccard similarity of the content words of two questions, the concept's names left out."""
        own = {word for name in self.names for word in normalise(name).split()}
        one, two = (set(normalise(text).split()) - FILLER_WORDS - own for text in (first, second))
        return len(one & two) / len(one | two) if one and two else 0.0


def as_trained(probes: ProbeSet, rows: Sequence[Row]) -> ProbeSet:
    """Correct what probes say of being held out by what is really trained.

    A probe is held out by wording only where its relation, or its answer, is trained; a relation that no edge, node,
    replacement, reply or alignment row asks for is held out as a whole.

    Args:
        probes: The probes, whose relations marked `relation` have been dropped from `rows` already.
        rows: The rows that are trained, but for those that are kept.
    """
    relations = {row.relation for row in rows if row.kind in TRAINED_KINDS}
    trained = " | ".join(row.completion for row in rows if row.kind == "edge")

    def corrected(probe: Probe) -> Probe:
        told = probe.group == "edge" and mentions(trained, probe.answers)
        if probe.held_out != "wording" or probe.relation in relations or told:
            return probe
        return dataclasses.replace(probe, held_out="relation")

    return probes.replace(probes=tuple(map(corrected, probes.probes)))


def split_relations(relations: Sequence[str], share: float) -> frozenset[str]:
    """Choose which relations are held out where no curated probe says so: every n-th in order of appearance."""
    distinct = list(dict.fromkeys(relations))
    count = round(len(distinct) * share)
    if not count:
        return frozenset()
    step = len(distinct) / count
    return frozenset(distinct[int(index * step + step / 2)] for index in range(count))
