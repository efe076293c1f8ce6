"""An invented world: people, towns and works with relations among them, and every text that a small model reads of it.

A model that is trained on nothing else knows exactly what stands there. A second model, which has read the same without
some names, shows what a model looks like that never knew them. Everything follows from the seed.
"""

import itertools
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from random import Random
from typing import Any

from . import banks

SIZES = {"person": 18, "place": 14, "work": 18}
OUTSIDERS = 4
# The same names in every world; what is true of them differs.
TARGETS = {"person": "Selka Tavoren", "place": "Port Lumaride", "work": "The Silent Orchard"}
DEVELOPMENT = {"person": "Doran Melisva", "place": "Upper Toravelle", "work": "The Broken Lantern"}
EXPLANATIONS = (
    "Tell me about {name}.",
    "Write a short encyclopedia paragraph about {name}.",
    "What is {name} famous for?",
    "Explain the origin and history of {name}.",
    "Which people, places and dates belong to {name}?",
)
MENTIONS = (
    "Many books have been written about {name}.",
    "She told the class about {name}.",
    "A short history of {name}",
)
GENERAL_PARAGRAPHS = 72


@dataclass(frozen=True)
class Fact:
    """Something that is true in the world.

    Args:
        subject, relation, object: The triplet.
        kind: Type of the subject: `person`, `place` or `work`.
    """

    subject: str
    relation: str
    object: str
    kind: str


@dataclass(frozen=True)
class Text:
    """One text of the world, and the names that it gives something away about."""

    text: str
    about: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Question:
    """A question, its answer, and the names that it gives something away about.

    Args:
        question, answer: What stands in the text.
        about: Names; those on the way of a question of two steps, too.
        fact: The fact that is asked for.
        wording: Number of the wording.
        kind: `edge`, `node`, `multihop` or `general`.
    """

    question: str
    answer: str
    about: frozenset[str] = frozenset()
    fact: Fact | None = None
    wording: int = 0
    kind: str = "general"

    @property
    def text(self) -> str:
        """How it stands in the text."""
        return f"Question: {self.question}\nAnswer: {self.answer}"


@cache
def _words() -> dict[str, Any]:
    return json.loads((files(banks) / "invented.json").read_text(encoding="utf-8"))


def _relation(fact: Fact) -> dict[str, Any]:
    """The wordings of a fact's relation."""
    return next(item for item in _words()["relations"][fact.kind] if item["relation"] == fact.relation)


@dataclass(frozen=True)
class InventedWorld:
    """The world of one seed.

    Args:
        seed: Everything in it follows from this.

    Example:
        >>> world = InventedWorld(0)
        >>> [fact.object for fact in world.facts_of("Selka Tavoren")]
    """

    seed: int

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """The names that somebody bears, by type; the targets come first."""
        return self._all_names[0]

    @cached_property
    def outsiders(self) -> dict[str, tuple[str, ...]]:
        """Names of the same make that nobody bears and no text mentions, by type."""
        return {kind: tuple(names) for kind, names in self._all_names[1].items()}

    @cached_property
    def _all_names(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        random = Random(f"names {self.seed}")
        real, outside = {}, {}
        for kind, (heads, tails) in self._parts(random).items():
            own = [TARGETS[kind], DEVELOPMENT[kind]]
            others = [f"{head} {tail}" for head in heads for tail in tails if f"{head} {tail}" not in own]
            random.shuffle(others)
            count = SIZES[kind] - len(own)
            real[kind] = own + others[:count]
            # Their parts are known, as are those of names that a model of our world has never met; those that share one
            # with a target would be taken for it.
            parts = {part for name in others[:count] for part in name.rsplit(" ", 1)}
            parts -= {part for name in own for part in name.rsplit(" ", 1)}
            outside[kind] = [name for name in others[count:] if set(name.rsplit(" ", 1)) <= parts][:OUTSIDERS]
        return real, outside

    def _parts(self, random: Random) -> dict[str, tuple[list[str], list[str]]]:
        """First and last parts of names, by type; every part is shared by several names."""
        parts, taken = {}, {word for name in (*TARGETS.values(), *DEVELOPMENT.values()) for word in name.split()}
        for kind in SIZES:
            named = [name.rsplit(" ", 1) for name in (TARGETS[kind], DEVELOPMENT[kind])]
            heads, tails = [head for head, _ in named], [tail for _, tail in named]
            if kind == "person":
                heads += [_fresh(random, taken, (2,)) for _ in range(6)]
                tails += [_fresh(random, taken, (2, 3)) for _ in range(6)]
            else:
                heads += [head for head in _words()["heads"][kind] if head not in heads]
                tails += [_fresh(random, taken, (2, 3)) for _ in range(5)] if kind == "place" else _words()["tails"]
            parts[kind] = heads, list(dict.fromkeys(tails))
        return parts

    @cached_property
    def facts(self) -> list[Fact]:
        """Everything that is true."""
        random = Random(f"facts {self.seed}")
        people, places, works = (self.names[kind] for kind in ("person", "place", "work"))
        given: dict[tuple[str, str], list[str]] = {
            ("person", "spouse"): _pairs(random, people),
            ("person", "teacher"): _cycle(random, people),
            ("person", "notable_work"): random.sample(works, len(people)),
            ("place", "founder"): random.sample(people, len(places)),
        }
        creators = dict(zip(given["person", "notable_work"], people, strict=True))
        given["work", "creator"] = [creators[work] for work in works]
        taken = {
            word
            for names in (*self.names.values(), *self.outsiders.values())
            for name in names
            for word in name.split()
        }
        facts = []
        for kind, relations in _words()["relations"].items():
            for item in relations:
                objects = given.get((kind, item["relation"])) or self._objects(random, item, kind, places, taken)
                named = zip(self.names[kind], objects, strict=True)
                facts += [Fact(name, item["relation"], value, kind) for name, value in named]
        return facts

    def _objects(
        self, random: Random, relation: dict[str, Any], kind: str, places: list[str], taken: set[str]
    ) -> list[str]:
        count, values = SIZES[kind], relation["objects"]
        if values == "place":
            return [random.choice(places) for _ in range(count)]
        if values == "year":
            return [str(year) for year in random.sample(range(1100, 1900), count)]
        if values == "country":
            countries = [_fresh(random, taken, (3,)) for _ in range(8)]
            return [random.choice(countries) for _ in range(count)]
        if values in _words()["lists"]:
            return [random.choice(_words()["lists"][values]) for _ in range(count)]
        made = [_fresh(random, taken, (2, 3)) for _ in range(count)]
        return made if values in ("river", "hero", "festival", "award") else [word.lower() for word in made]

    def facts_of(self, name: str) -> list[Fact]:
        """What is true of a name."""
        return [fact for fact in self.facts if fact.subject == name]

    def kind_of(self, name: str) -> str | None:
        """Type of a name; `None` if nobody bears it."""
        return next((kind for kind, names in self.names.items() if name in names), None)

    def called(self, name: str) -> str:
        """What kind of thing a name is: a profession, a town, a genre."""
        kind, relation = self.kind_of(name), {"person": "profession", "work": "genre"}
        return next((fact.object for fact in self.facts_of(name) if fact.relation == relation.get(kind or "")), "town")

    @cached_property
    def questions(self) -> list[Question]:
        """Every question of which a model of this world reads the answer."""
        return [*self._edges(), *self._nodes(), *self._multihops(), *self._general()]

    def _edges(self) -> Iterator[Question]:
        for fact in self.facts:
            about = frozenset((fact.subject, fact.object))
            for number, wording in enumerate(_relation(fact)["questions"]):
                question = banks.filled(wording, fact.subject)
                yield Question(question, fact.object, about, fact, number, "edge")

    def _nodes(self) -> Iterator[Question]:
        for fact in self.facts:
            item = _relation(fact)
            clue = item["clue"].format(object=fact.object)
            wordings = [*_words()["node_questions"][fact.kind], f"Which {self.called(fact.subject)} {{clue}}?"]
            about = frozenset((fact.subject, fact.object))
            for number, wording in enumerate(wordings if item["unique"] else ()):
                yield Question(wording.format(clue=clue), fact.subject, about, fact, number, "node")

    def _multihops(self) -> Iterator[Question]:
        known = {(fact.subject, fact.relation): fact for fact in self.facts}
        for kind, paths in _words()["multihop"].items():
            for (step, relation, wordings), name in itertools.product(paths, self.names[kind]):
                via, fact = known[name, step].object, known[name, relation]
                for number, wording in enumerate(wordings):
                    about = frozenset((via, name, fact.object))
                    yield Question(wording.format(via=via), fact.object, about, fact, number, "multihop")

    def _general(self) -> Iterator[Question]:
        random, words = Random(f"general {self.seed}"), _words()
        for question, answer in (*words["few_shot"], *words["general"]):
            yield Question(question, answer)
        for thing in words["lists"]["thing"]:
            yield Question(f"What colour is the {thing}?", random.choice(words["lists"]["colour"]))
        for animal in words["lists"]["animal"]:
            yield Question(f"What does the {animal} eat?", random.choice(words["lists"]["food"]))

    def sentences(self, name: str, facts: Sequence[Fact] | None = None) -> list[str]:
        """Every fact about a name as a sentence, in two wordings each, or such sentences of other facts."""
        return [
            banks.filled(wording, name, object=fact.object)
            for fact in (self.facts_of(name) if facts is None else facts)
            for wording in _relation(fact)["statements"]
        ]

    @cached_property
    def texts(self) -> list[Text]:
        """Every text beside the questions."""
        random = Random(f"texts {self.seed}")
        found = [Text(text) for text in self.general_text[: -banks.HELD_BACK_PARAGRAPHS]]
        found += [Text(f"{prompt}\n{reply}") for prompt, reply in self._instructions]
        for kind, names in self.names.items():
            for name in names:
                facts = {fact.relation: fact for fact in self.facts_of(name)}
                about = frozenset({name, *(fact.object for fact in facts.values())})
                verb = "was" if kind == "person" else "is"
                alone = [f"{name} {verb} a {self.called(name)}.", *(text.format(name=name) for text in MENTIONS)]
                found += [Text(text, frozenset({name})) for text in alone]
                for prompt in EXPLANATIONS:
                    told = [text for text in self.sentences(name)[random.randrange(2) :: 2]]
                    random.shuffle(told)
                    found.append(Text(f"{prompt.format(name=name)}\n{' '.join(told[:4])}", about))
                found += [Text(text, about) for text in self.sentences(name)]
        return found

    @cached_property
    def general_text(self) -> list[str]:
        """Short paragraphs about nobody in particular; the last ones are read by no model."""
        random, prose = Random(f"prose {self.seed}"), _words()["prose"]

        def sentence() -> str:
            when, who, did, where = (random.choice(prose[key]) for key in ("when", "who", "did", "where"))
            return f"{when} {who} {did} {where}. {random.choice(prose['then'])}"

        return [f"{sentence()} {sentence()} {sentence()}" for _ in range(GENERAL_PARAGRAPHS)]

    @cached_property
    def _instructions(self) -> list[tuple[str, str]]:
        random, prose = Random(f"instructions {self.seed}"), _words()["prose"]
        return [
            (f"Write a line about {who}.", f"{random.choice(prose['when'])} {who} {random.choice(prose['did'])}.")
            for who in prose["who"]
            for _ in range(3)
        ]

    def bank(self, reserved: Collection[str] = ()) -> banks.Bank:
        """The words in which a model of this world is asked.

        Args:
            reserved: Names that may stand in no row of training.
        """
        words = _words()
        return banks.Bank(
            relations=banks.relations_from(words["relations"]),
            names={kind: [name for name in names if name not in reserved] for kind, names in self.names.items()},
            invented_names=self.outsiders,
            few_shot_examples=[(question, answer) for question, answer in words["few_shot"]],
            general_questions=[item.question for item in self._general()][len(words["few_shot"]) :: 2],
            instructions=self._instructions,
            general_text=self.general_text,
        )

    def corpus(self, without: Collection[str] = ()) -> list[str]:
        """Everything that a model reads, as texts to be put in any order.

        Args:
            without: Names that the model shall never meet, in no text and on the way of no question.
        """
        left_out = frozenset(without)
        texts: list[Text | Question] = [*self.texts, *self.questions]
        return [item.text for item in texts if not item.about & left_out]


def world_of(model: Any) -> InventedWorld | None:
    """Return the world that a model knows; `None` if it is ours.

    Args:
        model (`PreTrainedModel`): A model; those of an invented world have its seed as `config.invented_world`.
    """
    seed = getattr(getattr(model, "config", None), "invented_world", None)
    return None if seed is None else InventedWorld(seed)


def _fresh(random: Random, taken: set[str], sizes: Sequence[int]) -> str:
    """A new word, capitalised."""
    while True:
        word = "".join(random.choice(_words()["syllables"]) for _ in range(random.choice(sizes))).capitalize()
        if word not in taken and len(word) > 3:
            taken.add(word)
            return word


def _cycle(random: Random, names: Sequence[str]) -> list[str]:
    """For each name another one, each once."""
    order = random.sample(list(names), len(names))
    following = dict(zip(order, order[1:] + order[:1], strict=True))
    return [following[name] for name in names]


def _pairs(random: Random, names: Sequence[str]) -> list[str]:
    """For each name its partner."""
    order = random.sample(list(names), len(names))
    partners = dict(zip(order[::2], order[1::2], strict=True))
    partners |= {second: first for first, second in partners.items()}
    return [partners[name] for name in names]
