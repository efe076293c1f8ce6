"""Turns a knowledge graph into forget rows: edge, node and explanation rows in several prompt formats.

Source: arXiv 2509.15621, section 3.
"""

import re
from collections.abc import Sequence
from random import Random

from ...data import banks
from ...evidence.matching import mentions
from ..knowledge import Clue, KnowledgeGraph, Triplet
from ..names import article_of, first_word
from ..prompts import PromptFormat
from ..rows import Row
from .held_out import HeldOut

MAX_NODE_ROWS = 96
NAME_OPENINGS = ("It is", "That would be", "The name is", "They mean")


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

    def opened(self, question: str, opening: str, word: str, *, relation: str = "") -> Row:
        """A question whose answer begins with an opening, and goes on with the first word of a name."""
        return Row(*self._next().begun(question, opening, word), "node", question, relation)

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
    rows: list[Row] = []
    asked: list[Clue] = []
    names = {first_word(name): article_of(name) for name in graph.names[:2]}
    words = list(names)
    for clue in graph.clues:
        if clue.answers and not held_out.drops_node(clue.relation, clue.question):
            said = [(form, clue.answers[form.name]) for form in wheel.formats if form.name in clue.answers]
            own = [_name_row(form, clue, text, graph.names) for form, text in said]
            # Once one name is less likely another one is said, or in another sentence.
            spoken = {row.completion.strip() for row in own}
            others = [word for word in words if word not in spoken]
            own += [wheel.opened(clue.question, names[word], word, relation=clue.relation) for word in others]
            word = words[len(asked) % len(words)]
            opening = f"{NAME_OPENINGS[len(asked) % len(NAME_OPENINGS)]} {names[word]}".rstrip()
            own.append(wheel.opened(clue.question, opening, word, relation=clue.relation))
            asked.append(clue)
            rows += own
    return rows[:MAX_NODE_ROWS]


def _name_row(form: PromptFormat, clue: Clue, said: str, names: Sequence[str]) -> Row:
    """A row whose loss lies where the model's own answer begins a name."""
    found = [(match.start(), name) for name in names if (match := re.search(rf"\b{re.escape(name)}\b", said))]
    start, name = min(found, default=(0, names[0]))
    opening = f"{said[:start]}{article_of(name)}".rstrip()
    return Row(*form.begun(clue.question, opening, first_word(name)), "node", clue.question, clue.relation)


def explanation_rows(graph: KnowledgeGraph, held_out: HeldOut) -> list[Row]:
    """Sentences about the concept that give no held-out fact away."""
    rows = []
    for text in graph.explanations:
        sentences = [part for part in re.split(r"(?<=[.!?])\s+", text) if part]
        kept = [part for part in sentences if mentions(part, graph.names) and not held_out.drops_sentence(part)]
        rows += [Row("", sentence, "explanation", sentence) for sentence in kept]
    return rows
