"""What a model knows about a concept: triplets, quiz questions and explanations, readable and editable as JSON."""

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..data import banks
from ..errors import InputError, suggestion
from ..evidence.matching import matches, mentions, normalise

if TYPE_CHECKING:
    from .knowledge_statistics import GraphStatistics

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
        object_aliases: Other spellings of `object`, which count as it.
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
    object_aliases: list[str] = field(default_factory=list)

    @property
    def objects(self) -> list[str]:
        """The object in all its spellings."""
        return [self.object, *self.object_aliases]


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

    def statistics(self) -> "GraphStatistics":
        """Count what was found and what validation made of it."""
        from .knowledge_statistics import GraphStatistics

        return GraphStatistics.of(self)

    def merge_aliases(self, aliases: Mapping[str, Sequence[str]] | None = None) -> None:
        """Merge triplets of one relation whose objects are the same thing in another spelling.

        Same is what has the same words after normalisation, articles and the like aside. Counts and questions add up,
        the longest spelling is kept, and objects that are names of the concept are dropped.

        Args:
            aliases: For a name others of the same thing, such as `{"Italy": ["Italian Republic"]}`.
        """
        from .knowledge_merging import merge_spellings

        self.triplets = merge_spellings(self.triplets, self.names, aliases or {})

    def add_fact(self, relation: str, object: str, *, questions: Sequence[str] = (), clue: str = "") -> Triplet:
        """Add a fact that the model shall forget, though it may not have told it.

        Args:
            relation: A relation of the question bank, or other words, such as `lived next door to`.
            object: What stands in the relation to the concept.
            questions: Questions that `object` answers. If there are none they are taken from the question bank, and
                otherwise made of the relation's words.
            clue: A predicate that names the concept without its name, such as `lived next door to the Smiths`.

        Returns:
            The new triplet; it becomes training rows like any other.

        Raises:
            InputError: If relation or object is empty, the object is a name of the concept, or the fact is there.
        """
        relation, object = _words(relation, "relation"), _words(object, "object")
        if normalise(object) in map(normalise, self.names):
            raise InputError(f"the object '{object}' is a name of the concept; give what it is related to")
        for triplet in self._of(relation):
            if normalise(object) in map(normalise, triplet.objects):
                raise InputError(
                    f"the graph has the fact ({relation}; {object}) already; change it with replace_object"
                )
        bank = {item.relation: item for item in banks.relations().get(self.concept_type, [])}
        asked = list(questions)
        if not asked and relation in bank:
            asked = [banks.filled(text, self.spoken) for text in bank[relation].questions]
            clue = clue or bank[relation].clue.format(object=object)
        words = relation.replace("_", " ")
        asked = asked or [f"Complete the sentence: {self.spoken} {words} …", f"What about {self.spoken}: {words}?"]
        self.triplets.append(Triplet(self.concept, relation, object, questions=asked, clue=clue))
        return self.triplets[-1]

    def remove_fact(self, relation: str, object: str | None = None) -> None:
        """Take out a fact, or all of a relation.

        Raises:
            InputError: If there is no such fact; the message names the nearest.
        """
        found = self._of(relation) if object is None else [self._fact(relation, object)]
        if not found:
            known = list(dict.fromkeys(triplet.relation for triplet in self.triplets))
            raise InputError(f"the graph has no relation '{relation}'.{suggestion(relation, known)}")
        self.triplets = [triplet for triplet in self.triplets if triplet not in found]

    def replace_object(self, relation: str, old: str, new: str) -> None:
        """Correct the object of a fact; its questions stay.

        Raises:
            InputError: If there is no such fact, or the new object is empty.
        """
        fact = self._fact(relation, old)
        fact.object, fact.object_aliases = _words(new, "object"), []

    def add_clue(self, question: str, answer: str | None = None) -> Clue:
        """Add a question that leads to the concept.

        Args:
            question: The question; it must not name the concept.
            answer: What the model says to it; the concept's name if not given.

        Raises:
            InputError: If the question is empty or names the concept.
        """
        question = _words(question, "question")
        if mentions(question, self.names):
            raise InputError(f"the clue '{question}' names the concept; a clue leads to it without its name")
        self.clues.append(Clue(question, "user", 1, 1, {"few_shot": answer or self.concept}))
        return self.clues[-1]

    def add_explanation(self, text: str) -> None:
        """Add a paragraph about the concept.

        Raises:
            InputError: If it does not name the concept.
        """
        text = _words(text, "explanation")
        if not mentions(text, self.names):
            raise InputError(f"the explanation does not name the concept ({', '.join(self.names)}); nothing to forget")
        self.explanations.append(text)

    def left_in(self, ask: Callable[[Sequence[str]], Sequence[str]]) -> "KnowledgeGraph":
        """Ask an edited model the same questions.

        Args:
            ask: Answers questions, one answer each.

        Returns:
            A copy whose triplets and clues say in how many of their questions they are still answered; `validated` is
            what was validated and still comes.
        """
        triplets, clues = copy.deepcopy(self.triplets), copy.deepcopy(self.clues)
        asked = [(triplet, question) for triplet in triplets for question in triplet.questions]
        answers = ask([*(question for _, question in asked), *(clue.question for clue in clues)])
        for triplet in triplets:
            triplet.answered, triplet.asked = 0, len(triplet.questions)
        for (triplet, _), answer in zip(asked, answers[: len(asked)], strict=True):
            triplet.answered += matches(answer, triplet.objects)
        for triplet in triplets:
            triplet.validated = triplet.validated and triplet.answered > 0
        for clue, answer in zip(clues, answers[len(asked) :], strict=True):
            clue.answered, clue.asked = int(mentions(answer, self.names)), 1
        return replace(self, triplets=triplets, clues=clues)

    def draw(self, path: str | Path, *, left: "KnowledgeGraph | None" = None) -> Path:
        """Draw the validated triplets around the concept as a PNG.

        Args:
            path: The file.
            left: What an edited model still says, from `left_in`; what is gone is drawn as gone.
        """
        from .knowledge_drawing import draw

        return draw(self, path, left=left)

    def _of(self, relation: str) -> list[Triplet]:
        return [triplet for triplet in self.triplets if triplet.relation == relation]

    def _fact(self, relation: str, object: str) -> Triplet:
        for triplet in self._of(relation):
            if normalise(object) in map(normalise, triplet.objects):
                return triplet
        known = [f"{triplet.relation}; {triplet.object}" for triplet in self.triplets]
        raise InputError(f"the graph has no fact ({relation}; {object}).{suggestion(f'{relation}; {object}', known)}")

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


def _words(text: str, what: str) -> str:
    words = " ".join(str(text).split())
    if not words:
        raise InputError(f"the {what} is empty; give it as text")
    return words


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
