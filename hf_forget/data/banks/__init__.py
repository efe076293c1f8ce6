"""Word lists for asking a model: question templates by relation, known and invented names, and general text.

Those shipped here were written for this project and are released under CC0-1.0. A model that knows another world than
ours (see `hf_forget.data.invented`) is asked in the words of that world, within `speaking`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

# The last paragraphs of general text are for measuring; no row of training is made from them.
HELD_BACK_PARAGRAPHS = 24
CONCEPT_TYPES = ("person", "place", "work", "event", "organization", "thing")

_INVENTED_NAMES: dict[str, tuple[str, ...]] = {
    "person": ("Torvald Quenby", "Elspeth Marrowick", "Dimas Ferrolind", "Oriane Castellux"),
    "place": ("Velmora River", "Kestrin Tower", "Ostrava Lune", "Mount Arvedon"),
    "work": ("The Glass Orrery", "Halvern's Return", "The Salt Daughters", "Nine Lamps of Ilmar"),
    "event": ("Battle of Corvane", "Treaty of Ellingmoor", "Varnholt Uprising", "Siege of Tessaly Gate"),
    "organization": ("Quillmark Society", "Ardent Union of Bellmere", "Novarex Industries", "Hollin Institute"),
    "thing": ("Morvidium", "Lanthor beetle", "Pellucine wheel", "Tarvoid engine"),
}


@dataclass(frozen=True)
class Relation:
    """One relation of the question bank.

    Args:
        relation: Its name.
        questions: Wordings with a `{name}` place.
        statement: A sentence with `{name}` and `{object}` places.
        clue: A predicate with an `{object}` place that completes "Who …" or "Which place …".
    """

    relation: str
    questions: tuple[str, ...]
    statement: str
    clue: str


@dataclass(frozen=True)
class Bank:
    """The words with which a model is asked.

    Args:
        relations: The question bank, by concept type.
        names: Well-known names, by concept type.
        invented_names: Names that nobody bears, by concept type.
        few_shot_examples: Simple solved questions for few-shot prompts.
        general_questions: Everyday questions; none of them is among the probes.
        instructions: General instructions with short answers.
        general_text: Short paragraphs of general prose; the last `HELD_BACK_PARAGRAPHS` are for measuring.
    """

    relations: dict[str, list[Relation]]
    names: dict[str, list[str]]
    invented_names: dict[str, tuple[str, ...]]
    few_shot_examples: list[tuple[str, str]]
    general_questions: list[str]
    instructions: list[tuple[str, str]]
    general_text: list[str]


_SPOKEN: ContextVar[Bank | None] = ContextVar("bank", default=None)


@contextmanager
def speaking(bank: Bank | None) -> Iterator[None]:
    """Ask in the words of another bank, or in the shipped ones if none is given."""
    token = _SPOKEN.set(bank)
    try:
        yield
    finally:
        _SPOKEN.reset(token)


def current() -> Bank:
    """The bank that is spoken: the shipped one outside `speaking`."""
    return _SPOKEN.get() or shipped()


@cache
def shipped() -> Bank:
    """The bank that is shipped, about the world that we know."""
    rows = [json.loads(line) for line in _read("instructions.jsonl").splitlines() if line.strip()]
    return Bank(
        relations=relations_from(json.loads(_read("relations.json"))),
        names=json.loads(_read("names.json")),
        invented_names=_INVENTED_NAMES,
        few_shot_examples=[
            (item["question"], item["answer"]) for item in json.loads(_read("few_shot.json"))["questions"]
        ],
        general_questions=[line for line in _read("questions.txt").splitlines() if line],
        instructions=[(row["prompt"], row["response"]) for row in rows],
        general_text=[" ".join(part.split()) for part in _read("general.txt").split("\n\n") if part.strip()],
    )


def relations_from(data: dict[str, list[dict]]) -> dict[str, list[Relation]]:
    """Read a question bank from its JSON form."""
    return {
        kind: [Relation(item["relation"], tuple(item["questions"]), item["statement"], item["clue"]) for item in items]
        for kind, items in data.items()
    }


def filled(template: str, name: str, **places: str) -> str:
    """Put a name, with its article if it has one, into the `{name}` place of a template; other places by keyword."""
    text = template.format(name=name, **places)
    return text[:1].upper() + text[1:]


def _read(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def relations() -> dict[str, list[Relation]]:
    """The question bank, by concept type."""
    return current().relations


def names() -> dict[str, list[str]]:
    """Well-known names, by concept type."""
    return current().names


def invented_names(concept_type: str) -> tuple[str, ...]:
    """Names of a type that nobody bears; of persons where there are none of the type."""
    found = current().invented_names
    return found.get(concept_type, found["person"])


def few_shot_examples() -> list[tuple[str, str]]:
    """Simple solved questions for few-shot prompts."""
    return current().few_shot_examples


def general_questions() -> list[str]:
    """Everyday questions; none of them is among the probes."""
    return current().general_questions


def instructions() -> list[tuple[str, str]]:
    """General instructions with short answers."""
    return current().instructions


def general_text() -> list[str]:
    """Short paragraphs of general prose."""
    return current().general_text
