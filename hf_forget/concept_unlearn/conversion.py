"""Turns a knowledge graph into forget rows: edge, node and explanation rows in several prompt formats.

Source: arXiv 2509.15621, section 3.
"""

import re
from collections.abc import Sequence
from random import Random

from ..data import banks
from ..evidence.matching import mentions
from ..lm.elicitation_prompts import CLUE_QUESTIONS
from ..lm.knowledge import Clue, KnowledgeGraph, Triplet
from ..lm.names import first_word
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

    def named(self, question: str, spoken: str, *, relation: str = "") -> Row:
        """A question whose answer is a name, up to its first word; the article stands in the prompt."""
        form, word = self._next(), first_word(spoken)
        article = spoken[: spoken.index(word)].strip().capitalize()
        return Row(*form.begun(question, article, word), "node", question, relation)

    def replacement(
        self, questions: tuple[str, str], answer: str, relation: str, openings: tuple[str, str] = ("", "")
    ) -> Row:
        """A question that the model shall answer as the original answers another one.

        Args:
            questions: The question about the concept, and the one about an invented name.
            answer: What the original answers to the second.
            relation: What they ask for.
            openings: How the answer to each begins, where it is a sentence.
        """
        form = self._next()
        prompt, completion = form.begun(questions[0], openings[0], answer)
        reference, _ = form.begun(questions[1], openings[1], answer)
        return Row(prompt, completion + form.end, "replacement", questions[0], relation, reference)

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
    rows: list[Row] = []
    for triplet in graph.known:
        relation = bank.get(triplet.relation)
        spelled = spellings(triplet.object)
        wordings = [banks.filled(text, graph.spoken) for text in relation.questions] if relation else []
        for question in dict.fromkeys([*triplet.questions, *wordings]):
            if not held_out.drops_edge(triplet.relation, question, triplet.object):
                answer = spelled[len(rows) % len(spelled)]
                rows.append(wheel.row(question, answer, kind="edge", relation=triplet.relation))
        if relation and not held_out.drops_edge(triplet.relation, "", triplet.object):
            rows += _statement(relation.statement, graph.spoken, triplet)
    return rows


def spellings(answer: str) -> list[str]:
    """An answer without its article, with one, and as a sentence might begin with it."""
    bare = re.sub(r"^(the|an?)\s+", "", answer, flags=re.IGNORECASE)
    if not bare or bare[0].isdigit():
        return [answer]
    article = "An" if bare[0].lower() in "aeiou" else "A"
    with_article = f"The {bare}" if " " in bare else f"{article} {bare.lower()}"
    return list(dict.fromkeys([bare, answer, with_article]))


def _statement(template: str, spoken: str, triplet: Triplet) -> list[Row]:
    before = statement_opening(template, spoken)
    if not mentions(before, [triplet.subject]):
        return []
    return [Row(before, " " + triplet.object, "edge", before, triplet.relation)]


def statement_opening(template: str, name: str) -> str:
    """A sentence of the relation bank up to the object."""
    return banks.filled(template, name, object="\0").split("\0")[0].rstrip()


def node_rows(graph: KnowledgeGraph, wheel: FormatWheel, held_out: HeldOut) -> list[Row]:
    """Clue given, name asked: loss on the word that begins the name, where the model itself begins it.

    The rest of a name follows from its first word with near certainty; a loss on it would teach the model to end the
    name in another way, not to keep from saying it.
    """
    clues = [clue for clue in graph.clues if not held_out.drops_node(clue.relation, clue.question)]
    rows = []
    for clue in clues:
        for form in wheel.formats:
            said = clue.answers.get(form.name, "")
            rows += _name_rows(form, clue, said, graph.names)
    pairs = [triplet for triplet in graph.known if triplet.clue and not mentions(triplet.clue, graph.names)]
    pairs = [triplet for triplet in pairs if not held_out.drops_node(triplet.relation, triplet.clue)]
    wording = CLUE_QUESTIONS[graph.concept_type][1]
    for first, second in zip(pairs, pairs[1:], strict=False):
        question = wording.format(clue=f"{first.clue} and {second.clue}")
        rows.append(wheel.named(question, graph.spoken, relation=first.relation))
    return rows


def _name_rows(form: PromptFormat, clue: Clue, said: str, names: Sequence[str]) -> list[Row]:
    """One row where the model's own answer begins a name, or one per name at the start of the answer."""
    starts = {name: re.search(rf"\b{re.escape(name)}\b", said) for name in names}
    found = sorted((match.start(), name) for name, match in starts.items() if match)
    if found:
        before, word = said[: found[0][0]].rstrip(), first_word(found[0][1])
        return [Row(*form.begun(clue.question, before, word), "node", clue.question, clue.relation)]
    words = dict.fromkeys(first_word(name) for name in names[:2])
    return [
        Row(form.prompt(clue.question), form.completion(word), "node", clue.question, clue.relation) for word in words
    ]


def explanation_rows(graph: KnowledgeGraph, held_out: HeldOut) -> list[Row]:
    """Sentences about the concept that give no held-out fact away."""
    rows = []
    for text in graph.explanations:
        sentences = [part for part in re.split(r"(?<=[.!?])\s+", text) if part]
        kept = [part for part in sentences if mentions(part, graph.names) and not held_out.drops_sentence(part)]
        rows += [Row("", sentence, "explanation", sentence) for sentence in kept]
    return rows
