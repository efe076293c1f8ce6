"""Rows that teach the model to treat the concept like a name it has never met.

Reconstructed: beside the paper's triplets and sentences. Every question of the relation bank is answered by the
original model for invented names; the edited model is pulled towards these answers when the concept is asked for.
This carries over to relations and wordings that are not trained, stays bounded, and keeps answers fluent.
"""

from collections.abc import Sequence
from random import Random

from ..data import banks
from ..lm.elicitation import KnowledgeElicitor, is_object
from ..lm.knowledge import KnowledgeGraph
from ..lm.prompts import PromptFormat
from ..lm.rows import Row
from .conversion import FormatWheel
from .held_out import HeldOut


def replacement_rows(
    graph: KnowledgeGraph,
    elicitor: KnowledgeElicitor,
    formats: Sequence[PromptFormat],
    held_out: HeldOut,
    *,
    seed: int = 0,
) -> list[Row]:
    """Pair questions about the concept with the same questions about invented names.

    Args:
        graph: The concept and its type.
        elicitor: Asks the original model.
        formats: Prompt formats of the rows.
        held_out: What must not be trained.
        seed: Seed of the choice of invented names.

    Returns:
        Rows of kind `replacement`; `reference_prompt` asks for an invented name.
    """
    random, wheel = Random(seed), FormatWheel(formats)
    background = elicitor.background(graph.concept_type)
    rows = []
    for relation in banks.relations()[graph.concept_type]:
        for text in relation.questions:
            name, answer = random.choice(background[relation.relation])
            question = text.format(name=random.choice([graph.concept, graph.concept, graph.names[-1]]))
            if not is_object(answer, [name, *graph.names]):
                continue
            if not held_out.drops_edge(relation.relation, text.format(name=graph.concept), ""):
                rows.append(wheel.replacement(question, text.format(name=name), answer, relation.relation))
    return rows
