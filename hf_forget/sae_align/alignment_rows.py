"""Rows that say where a name stands: texts about the target, cut behind its name, and the same about other entities."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from ..data import banks
from ..errors import InputError
from ..lm.knowledge import KnowledgeGraph
from ..lm.prompts import PromptFormat
from ..lm.rows import Row
from ..lm.unlearning.conversion import statement_opening
from ..lm.unlearning.held_out import HeldOut

KIND = "alignment"
# They fit an entity of any type.
REQUESTS = (
    "Tell me about {name}.",
    "Who or what is {name}?",
    "Write a short text about {name}.",
    "Why is {name} well known?",
    "Say something that is true of {name}.",
    "What do you know about {name}?",
)
WORDINGS = 2


def alignment_rows(
    graph: KnowledgeGraph, formats: Sequence[PromptFormat], held_out: HeldOut, *, count: int, seed: int = 0
) -> list[Row]:
    """Make texts that speak of the target, each cut behind its name.

    Requests that fit any entity, in every format; questions and statement openings of the relations of its type, where
    the entities that it is compared with are of its type.

    Args:
        graph: The target and its type.
        formats: Prompt formats.
        held_out: What must not be trained; a relation that is held out gives no text.
        count: At most this many.
        seed: Which ones, and in which order.

    Returns:
        Rows of kind `alignment`: the prompt ends with the name, the completion is what follows it.
    """
    random, name = Random(seed), graph.spoken
    rows = []
    for text in REQUESTS:
        request = banks.filled(text, name)
        rows += [cut_behind(form.free_prompt(request), name, request) for form in formats]
    wordings: list[tuple[str, str]] = []
    for relation in banks.relations().get(graph.concept_type, ()):
        asked = random.sample(relation.questions, min(WORDINGS, len(relation.questions)))
        wordings += [(relation.relation, banks.filled(text, name)) for text in asked]
        opening = statement_opening(relation.statement, name)
        if not held_out.drops_edge(relation.relation, "", "") and not opening.endswith(name):
            rows.append(replace(cut_behind(opening, name, opening), relation=relation.relation))
    usable = [(key, text) for key, text in wordings if not held_out.drops_edge(key, text, "")]
    for place, (key, text) in enumerate(usable):
        rows.append(replace(cut_behind(formats[place % len(formats)].prompt(text), name, text), relation=key))
    rows = list(dict.fromkeys(rows))
    random.shuffle(rows)
    return rows[:count]


def cut_behind(text: str, name: str, question: str = "") -> Row:
    """Cut a text behind the last place where it has a name.

    Raises:
        InputError: If the name does not stand in it, or nothing stands behind it.
    """
    end = text.lower().rfind(name.lower()) + len(name)
    if end < len(name) or not text[end:].strip():
        raise InputError(
            f"'{name}' must stand in {text!r}, with text behind it: the states there and at the end of the text are "
            "compared with those of other entities"
        )
    return Row(text[:end], text[end:], KIND, question)


def about(row: Row, names: Sequence[str], other: str) -> Row:
    """The same text about another entity.

    Args:
        row: A row of kind `alignment`.
        names: Names of the target, one of which its prompt ends with, in any case.
        other: The name that is put in its place. An article before the target's name goes: others have none.
    """
    before = row.prompt[: len(row.prompt) - len(name_of(row, names))]
    if before.lower().endswith("the "):
        before = before[: -len("the ")]
    return replace(row, prompt=before + other)


def name_of(row: Row, names: Sequence[str]) -> str:
    """Return which of the names the prompt of a row ends with, in any case; the longest one."""
    return max((name for name in names if row.prompt.lower().endswith(name.lower())), key=len)
