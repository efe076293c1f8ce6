"""Shipped word lists: question templates by relation, well-known names, invented names, and general text.

All of it was written for this project and is released under CC0-1.0.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

CONCEPT_TYPES = ("person", "place", "work", "event", "organization", "thing")

INVENTED_NAMES = {
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


def filled(template: str, name: str, **places: str) -> str:
    """Put a name, with its article if it has one, into the `{name}` place of a template; other places by keyword."""
    text = template.format(name=name, **places)
    return text[:1].upper() + text[1:]


def _read(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


@cache
def relations() -> dict[str, list[Relation]]:
    """The question bank, by concept type."""
    return {
        kind: [Relation(item["relation"], tuple(item["questions"]), item["statement"], item["clue"]) for item in items]
        for kind, items in json.loads(_read("relations.json")).items()
    }


@cache
def names() -> dict[str, list[str]]:
    """Well-known names, by concept type."""
    return json.loads(_read("names.json"))


@cache
def few_shot_examples() -> list[tuple[str, str]]:
    """Simple solved questions for few-shot prompts."""
    return [(item["question"], item["answer"]) for item in json.loads(_read("few_shot.json"))["questions"]]


@cache
def general_questions() -> list[str]:
    """Everyday questions; none of them is among the shipped probes."""
    return [line for line in _read("questions.txt").splitlines() if line]


@cache
def instructions() -> list[tuple[str, str]]:
    """General instructions with short answers."""
    rows = [json.loads(line) for line in _read("instructions.jsonl").splitlines() if line.strip()]
    return [(row["prompt"], row["response"]) for row in rows]


@cache
def general_text() -> list[str]:
    """Short paragraphs of general prose."""
    return [" ".join(part.split()) for part in _read("general.txt").split("\n\n") if part.strip()]
