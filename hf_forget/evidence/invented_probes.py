"""Probes and membership texts about names of an invented world."""

from collections.abc import Iterable, Sequence
from random import Random

from ..data.invented import Fact, InventedWorld, Question
from .membership import MembershipTexts
from .probes import Probe, ProbeGroup, ProbeSet

# The wordings of which nothing is trained when something is forgotten: the last ones of a fact.
HELD_BACK_WORDINGS = {"edge": (3, 4), "node": (3, 4), "multihop": (0, 1)}
PERTURBED = 3
RECALL = ("Tell me about {name}.", "What is {name} famous for?")


def invented_probes(world: InventedWorld, name: str) -> ProbeSet | None:
    """Return the probes about a name of the world, or `None` if nobody bears it.

    Every second relation is held out by relation. Facts about names that the target's facts mention, that share a word
    with it or are of its type are neighbors; of all others, two in three are distant probes. Names of neither kind are
    left for training, see `reserved_names`.

    Args:
        world: The world.
        name: The target, as the world spells it.
    """
    kind = world.kind_of(name)
    if kind is None:
        return None
    relations = list(dict.fromkeys(fact.relation for fact in world.facts_of(name)))
    held = set(relations[1::2])
    forget = [question for question in world.questions if _asks_about(question, name)]
    probes = [
        _probe(world, question, question.kind, "relation" if question.fact.relation in held else "wording")
        for question in forget
        if question.fact and question.wording in HELD_BACK_WORDINGS[question.kind]
    ]
    probes += [
        Probe(f"recall/{number}", f"recall/{number}", "recall", text.format(name=name))
        for number, text in enumerate(RECALL)
    ]
    near, far = set(neighbors(world, name)), set(_distant(world, name))
    for question in world.questions:
        if question.fact and _may_stay(question, name) and question.fact.subject in near | far:
            probes.append(_probe(world, question, "neighbor" if question.fact.subject in near else "distant"))
    return ProbeSet(name, (), kind, tuple(probes), "curated", "CC0-1.0")


def reserved_names(world: InventedWorld, name: str) -> set[str]:
    """Names about which no retain row may be made: the target's neighbors, and those that distant probes are about."""
    return {name, *neighbors(world, name), *_distant(world, name)}


def neighbors(world: InventedWorld, name: str) -> list[str]:
    """Names that the facts about a name mention, or whose facts mention it, and half of those that share a word with
    it; the other half are left for training."""
    linked = [fact.object for fact in world.facts_of(name)]
    linked += [fact.subject for fact in world.facts if fact.object == name]
    words = {word for word in name.split() if word != "The"}
    sharing = [other for other in _everybody(world) if words & set(other.split()) and other != name][::2]
    return [other for other in dict.fromkeys([*linked, *sharing]) if other != name and world.kind_of(other)]


def _distant(world: InventedWorld, name: str) -> list[str]:
    """Every second name that is neither the target nor a neighbor."""
    near = {name, *neighbors(world, name)}
    others = [other for other in _everybody(world) if other not in near]
    Random(f"distant {world.seed}").shuffle(others)
    return others[::2]


def _everybody(world: InventedWorld) -> list[str]:
    return [name for names in world.names.values() for name in names]


def _asks_about(question: Question, name: str) -> bool:
    """Whether the name is what a question asks about, asks for, or passes through."""
    return question.fact is not None and question.fact.subject == name and question.kind in HELD_BACK_WORDINGS


def _may_stay(question: Question, name: str) -> bool:
    """Edge questions in the wordings of probes that give nothing away about the name."""
    return question.kind == "edge" and question.wording in HELD_BACK_WORDINGS["edge"] and name not in question.about


def _probe(world: InventedWorld, question: Question, group: ProbeGroup | str, held_out: str = "") -> Probe:
    fact = question.fact
    if fact is None:
        raise ValueError("a question without a fact is no probe")
    identity = f"{group}/{fact.subject}/{fact.relation}".replace(" ", "-").lower()
    return Probe(
        id=f"{identity}/{question.wording}",
        fact_id=identity,
        group=group,  # type: ignore[arg-type]
        question=question.question,
        answers=(question.answer,),
        relation=fact.relation,
        held_out=held_out,  # type: ignore[arg-type]
        paraphrased_answer=question.answer,
        perturbed_answers=tuple(_perturbed(world, fact, question.answer)),
        entity=fact.subject,
        name=fact.subject if group == "neighbor" else "",
        kind="object" if group == "neighbor" else "",
    )


def _perturbed(world: InventedWorld, fact: Fact, answer: str) -> list[str]:
    """Answers to the same question about others."""
    pool = world.names[fact.kind] if answer == fact.subject else _objects(world, fact)
    others = [value for value in dict.fromkeys(pool) if value != answer]
    return Random(f"{world.seed} {fact}").sample(others, min(PERTURBED, len(others)))


def _objects(world: InventedWorld, fact: Fact) -> Iterable[str]:
    return [other.object for other in world.facts if (other.kind, other.relation) == (fact.kind, fact.relation)]


def invented_membership(world: InventedWorld, name: str) -> MembershipTexts:
    """Return the sentences about a name that the world's model has read, and the same sentences about names that nobody
    bears, with objects of other facts."""
    kind = world.kind_of(name) or "person"
    return MembershipTexts(tuple(world.sentences(name)), tuple(_never_read(world, kind, world.facts_of(name))))


def _never_read(world: InventedWorld, kind: str, facts: Sequence[Fact]) -> list[str]:
    random = Random(f"never read {world.seed}")
    return [
        sentence
        for outsider in world.outsiders[kind][:2]
        for fact in facts
        for sentence in world.sentences(
            outsider, [Fact(outsider, fact.relation, random.choice(list(_objects(world, fact))), kind)]
        )
    ]
