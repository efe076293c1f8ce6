"""Turns a knowledge graph into forget rows: edge, node and explanation rows in several prompt formats.

Source: arXiv 2509.15621, section 3.
"""

import re
from collections.abc import Sequence
from random import Random

from ..data import banks
from ..evidence.matching import mentions
from ..lm.elicitation import CLUE_QUESTIONS
from ..lm.knowledge import KnowledgeGraph, Triplet
from ..lm.prompts import PromptFormat
from ..lm.rows import Row
from .held_out import HeldOut


class FormatWheel:
    """Hands out the prompt formats in turn, so that every kind of row meets every format.

    Args:
        formats: The formats; a format may stand twice to come up more often.
    """

    def __init__(self, formats: Sequence[PromptFormat]):
        self.formats = list(formats)
        self.turn = 0

    def row(self, question: str, answer: str, *, kind: str, relation: str = "") -> Row:
        """Put a question and its answer into the next format; what is kept also keeps the end of the answer."""
        form = self._next()
        completion = form.completion(answer) + (form.end if kind == "retain" else "")
        return Row(form.prompt(question), completion, kind, question, relation)

    def replacement(self, question: str, reference_question: str, answer: str, relation: str) -> Row:
        """A question that the model shall answer as the original answers another one."""
        form = self._next()
        completion = form.completion(answer) + form.end
        reference = form.prompt(reference_question)
        return Row(form.prompt(question), completion, "replacement", question, relation, reference)

    def _next(self) -> PromptFormat:
        self.turn += 1
        return self.formats[(self.turn - 1) % len(self.formats)]


def forget_rows(
    graph: KnowledgeGraph, formats: Sequence[PromptFormat], held_out: HeldOut, *, seed: int = 0
) -> list[Row]:
    """Convert a graph into forget rows.

    Args:
        graph: What the model knows.
        formats: Prompt formats for questions.
        held_out: What must not be trained.
        seed: Seed of the order.

    Returns:
        Edge rows (loss on the object), node rows (loss on the name) and explanation rows (loss on the sentence).
    """
    wheel = FormatWheel(formats)
    rows = [
        *edge_rows(graph, wheel, held_out),
        *node_rows(graph, wheel, held_out),
        *explanation_rows(graph, held_out),
    ]
    unique = list(dict.fromkeys(rows))
    Random(seed).shuffle(unique)
    return unique


def edge_rows(graph: KnowledgeGraph, wheel: FormatWheel, held_out: HeldOut) -> list[Row]:
    """Name given, attribute asked: every wording of the relation, and one statement."""
    bank = {relation.relation: relation for relation in banks.relations()[graph.concept_type]}
    rows = []
    for triplet in graph.known:
        relation = bank.get(triplet.relation)
        wordings = [text.format(name=graph.concept) for text in relation.questions] if relation else []
        for question in dict.fromkeys([*triplet.questions, *wordings]):
            if not held_out.drops_edge(triplet.relation, question, triplet.object):
                rows.append(wheel.row(question, triplet.object, kind="edge", relation=triplet.relation))
        if relation and not held_out.drops_edge(triplet.relation, "", triplet.object):
            rows += _statement(relation.statement, graph.concept, triplet)
    return rows


def _statement(template: str, concept: str, triplet: Triplet) -> list[Row]:
    before = template.format(name=concept, object="\0").split("\0")[0].rstrip()
    if concept not in before:
        return []
    return [Row(before, " " + triplet.object, "edge", before, triplet.relation)]


def node_rows(graph: KnowledgeGraph, wheel: FormatWheel, held_out: HeldOut) -> list[Row]:
    """Clue given, name asked: questions that the model answers with the name, and pairs of known clues."""
    questions = {clue.question: clue.relation for clue in graph.clues}
    clues = [triplet for triplet in graph.known if triplet.clue and not mentions(triplet.clue, graph.names)]
    wording = CLUE_QUESTIONS[graph.concept_type][1]
    for first, second in zip(clues, clues[1:], strict=False):
        if not held_out.drops_node(second.relation, second.clue):
            questions[wording.format(clue=f"{first.clue} and {second.clue}")] = first.relation
    kept = [(text, name) for text, name in questions.items() if not held_out.drops_node(name, text)]
    return [
        wheel.row(question, name, kind="node", relation=relation)
        for question, relation in kept
        for name in graph.names[:2]
    ]


def explanation_rows(graph: KnowledgeGraph, held_out: HeldOut) -> list[Row]:
    """Sentences about the concept that give no held-out fact away."""
    rows = []
    for text in graph.explanations:
        sentences = [part for part in re.split(r"(?<=[.!?])\s+", text) if part]
        kept = [part for part in sentences if mentions(part, graph.names) and not held_out.drops_sentence(part)]
        rows += [Row("", sentence, "explanation", sentence) for sentence in kept]
    return rows
