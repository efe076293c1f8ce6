"""What a model knows about a concept: triplets, quiz questions and explanations, readable and editable as JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError

TripletSource = Literal["relation_bank", "quiz", "reverse_quiz", "triplet", "user"]


@dataclass
class Triplet:
    """One edge of the graph: the concept, a relation, and what the model answers.

    Args:
        subject: The concept.
        relation: Name of the relation, as in the shipped relation bank, or the model's own words.
        object: The model's answer.
        questions: Questions that the model answers with `object`.
        clue: A predicate that names the concept without its name ("painted the Mona Lisa").
        answered: In how many of the samples the model gave `object`.
        asked: Number of samples.
        background: Share of invented names for which the model gives the same answer.
        validated: Whether the triplet counts as knowledge about the concept.
        source: How it was found.
    """

    subject: str
    relation: str
    object: str
    questions: list[str] = field(default_factory=list)
    clue: str = ""
    answered: int = 0
    asked: int = 0
    background: float = 0.0
    validated: bool = True
    source: TripletSource = "user"


@dataclass
class Clue:
    """One question that leads the model to the concept.

    Args:
        question: The question; it does not name the concept.
        relation: The relation that it was built from, or `own_words`.
        answered: In how many prompt formats the concept was the answer.
        asked: Number of prompt formats.
        answers: What the model said, by prompt format, where it named the concept; the name alone where it did not,
            but is likely to.
    """

    question: str
    relation: str = ""
    answered: int = 0
    asked: int = 0
    answers: dict[str, str] = field(default_factory=dict)


@dataclass
class KnowledgeGraph:
    """A concept and everything the model said about it.

    Args:
        concept: The name that was given.
        aliases: Other names of it.
        concept_type: `person`, `place`, `work`, `event`, `organization` or `thing`.
        triplets: Edges.
        clues: Questions whose answer is the concept.
        explanations: Paragraphs about the concept.
        spoken: The concept as it stands in a sentence, with its article if it has one: `the Nile`.
        kinds: What the model calls the concept, such as `river`.

    The source is arXiv 2509.15621, section 3: the model's knowledge as a graph, elicited by prompting the model.
    """

    concept: str
    aliases: list[str] = field(default_factory=list)
    concept_type: str = "thing"
    triplets: list[Triplet] = field(default_factory=list)
    clues: list[Clue] = field(default_factory=list)
    explanations: list[str] = field(default_factory=list)
    spoken: str = ""
    kinds: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spoken = self.spoken or self.concept

    @property
    def names(self) -> list[str]:
        """The concept and its aliases."""
        return [self.concept, *self.aliases]

    @property
    def known(self) -> list[Triplet]:
        """The validated triplets."""
        return [triplet for triplet in self.triplets if triplet.validated]

    @property
    def answered_clues(self) -> list[Clue]:
        """The clues that the model answers with the concept."""
        return [clue for clue in self.clues if clue.answered]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return asdict(self)

    def save(self, path: str | Path) -> None:
        """Write the graph as JSON that can be edited and passed back in."""
        Path(path).write_text(json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "knowledge graph") -> "KnowledgeGraph":
        """Build a graph from its JSON form.

        Raises:
            InputError: If a key is unknown, missing or of another type; the message names the place.
        """
        if not isinstance(data, dict) or not str(data.get("concept", "")).strip():
            raise InputError(f"{source}: expected a JSON object with a non-empty 'concept'")
        parts = dict(data)
        parts["triplets"] = [
            _build(Triplet, item, f"{source}: triplets[{index}]")
            for index, item in enumerate(_items(parts, "triplets"))
        ]
        parts["clues"] = [
            _build(Clue, item, f"{source}: clues[{index}]") for index, item in enumerate(_items(parts, "clues"))
        ]
        for key in ("aliases", "explanations"):
            if not all(isinstance(item, str) for item in _items(parts, key)):
                raise InputError(f"{source}: '{key}' must be a list of strings")
        return _build(cls, parts, source)

    @classmethod
    def load(cls, path: str | Path) -> "KnowledgeGraph":
        """Read a graph that `save` wrote or that was written by hand.

        Raises:
            InputError: If the file is missing or is not such a graph.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"knowledge graph {path} cannot be read: {error}") from None
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"knowledge graph {path} is not valid JSON: {error}") from None
        return cls.from_dict(data, source=str(path))


def _items(data: dict[str, Any], key: str) -> Iterable[Any]:
    items = data.get(key, [])
    if not isinstance(items, list):
        raise InputError(f"knowledge graph: '{key}' must be a list, not {type(items).__name__}")
    return items


_KINDS: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
}


def _build(kind: Any, data: Any, place: str) -> Any:
    """Make a dataclass from a mapping, with errors that name the place."""
    if not isinstance(data, dict):
        raise InputError(f"{place}: expected an object, got {type(data).__name__}")
    known = {item.name: item for item in fields(kind)}
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise InputError(f"{place}: unknown key '{unknown[0]}'; known keys: {', '.join(known)}")
    for key, value in data.items():
        expected = _KINDS.get(getattr(known[key].type, "__name__", str(known[key].type)))
        if expected and not isinstance(value, expected):
            raise InputError(f"{place}: '{key}' must be {known[key].type}, got {value!r}")
    try:
        return kind(**data)
    except TypeError as error:
        raise InputError(f"{place}: {error}") from None
