"""What a knowledge graph holds, in numbers."""

from collections import Counter
from dataclasses import dataclass

from .knowledge import KnowledgeGraph


@dataclass(frozen=True)
class GraphStatistics:
    """What a graph holds, in numbers.

    Args:
        triplets, validated: How many there are, and how many count as knowledge.
        disagreeing: Not validated: too few answers agree, and not because others get the same.
        unspecific: Not validated: names that do not exist get the same answer as often as is allowed, or more.
        agreement: Mean share of the samples that gave the object, over all that were asked.
        background: Mean share of invented names that get the same answer.
        sources, relations: Validated triplets by how they were found, and by relation.
        clues, answered_clues: Questions that should lead to the concept, and those that do.
        explanations: Paragraphs.
    """

    triplets: int
    validated: int
    disagreeing: int
    unspecific: int
    agreement: float
    background: float
    sources: dict[str, int]
    relations: dict[str, int]
    clues: int
    answered_clues: int
    explanations: int

    @classmethod
    def of(cls, graph: KnowledgeGraph) -> "GraphStatistics":
        """Count a graph."""
        rejected = [triplet for triplet in graph.triplets if not triplet.validated]
        unspecific = sum(triplet.background > 0 for triplet in rejected)
        asked = [triplet.answered / triplet.asked for triplet in graph.triplets if triplet.asked]
        background = [triplet.background for triplet in graph.triplets]
        return cls(
            triplets=len(graph.triplets),
            validated=len(graph.known),
            disagreeing=len(rejected) - unspecific,
            unspecific=unspecific,
            agreement=sum(asked) / len(asked) if asked else 0.0,
            background=sum(background) / len(background) if background else 0.0,
            sources=dict(Counter(triplet.source for triplet in graph.known)),
            relations=dict(Counter(triplet.relation for triplet in graph.known)),
            clues=len(graph.clues),
            answered_clues=len(graph.answered_clues),
            explanations=len(graph.explanations),
        )

    def __str__(self) -> str:
        sources = ", ".join(f"{count} {name}" for name, count in self.sources.items()) or "none"
        return (
            f"{self.validated} of {self.triplets} triplets validated ({sources}); not validated: {self.disagreeing} "
            f"on which answers disagree, {self.unspecific} that invented names get, too; agreement "
            f"{100 * self.agreement:.0f} %, background {100 * self.background:.0f} %; {self.answered_clues} of "
            f"{self.clues} clues lead to the concept; {self.explanations} explanations"
        )
