"""Retain rows that the model makes for itself, in the same formats as the forget rows, and general text.

Source: arXiv 2509.15621, section 3 (self-made retain data). Reconstructed: which names, and in which proportion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from ...data import banks
from ...evidence.matching import mentions, normalise
from ...evidence.probes import ProbeSet
from ..clues import names_of_a_kind, quiz_questions
from ..elicitation import KnowledgeElicitor, told
from ..elicitation_prompts import CLUE_QUESTIONS
from ..knowledge import KnowledgeGraph
from ..prompts import PromptFormat
from ..rows import Row
from .conversion import FormatWheel

QUESTION_SHARE = 0.35
GENERAL_SHARE = 0.35
CLUE_SHARE = 0.1
KIND_SHARE = 0.15
OTHER_TYPES_SHARE = 0.5
QUESTIONS_PER_NAME = 2
KIND_NAMES = 20
KIND_QUESTIONS = 3
CONTEXTS_PER_NAME = 1
OTHER_CONTEXTS = 200
# Relations whose objects lead back to the name.
TELLING_RELATIONS = frozenset(
    [
        "known_for",
        "notable_work",
        "discovery",
        "invention",
        "first_achievement",
        "creator",
        "main_character",
        "famous_feature",
        "landmark",
        "capital",
        "largest_city",
        "leader",
        "outcome",
        "key_moment",
        "product",
        "founder",
        "purpose",
        "discoverer",
        "associated_person",
    ]
)


@dataclass(frozen=True)
class _Asked:
    name: str
    kind: str
    relation: banks.Relation
    question: str


def retain_rows(
    graph: KnowledgeGraph,
    elicitor: KnowledgeElicitor,
    formats: Sequence[PromptFormat],
    probes: ProbeSet,
    *,
    num_rows: int,
    text_share: float,
    text_words: int,
    seed: int = 0,
) -> list[Row]:
    """Ask the original model about other names and keep what it says, right or wrong.

    Args:
        graph: The concept, whose names must not occur.
        elicitor: Asks the original model.
        formats: Prompt formats of the rows.
        probes: Reported probes; no row repeats one of their retain questions or speaks of their neighbors.
        num_rows: Rows in all: questions about names, everyday questions, questions that ask for names, general text and
            instructions.
        text_share: Share of general text among them.
        text_words: Words of each of these texts, and of a reply to an instruction, at most.
        seed: Seed of the choice.
    """
    random, wheel = Random(seed), FormatWheel(formats)
    asked = _questions(graph, elicitor, probes, round(num_rows * QUESTION_SHARE), random)
    reported = {normalise(probe.question) for probe in probes.probes}
    everyday = [text for text in banks.general_questions() if normalise(text) not in reported]
    everyday = random.sample(everyday, min(round(num_rows * GENERAL_SHARE), len(everyday)))
    questions = [*(item.question for item in asked), *everyday]
    answers = elicitor.ask(questions)
    rows = [
        wheel.row(text, answer, kind="retain")
        for text, answer in zip(questions, answers, strict=True)
        if told(text, answer)
    ]
    answers = answers[: len(asked)]
    rows += _clue_rows(graph, elicitor, wheel, asked, answers, round(num_rows * CLUE_SHARE), random)
    rows += _kind_rows(graph, elicitor, wheel, probes, round(num_rows * KIND_SHARE))
    rows += text_rows(round(num_rows * text_share), text_words, random)
    free = [form for form in formats if form.name == "chat"] or list(formats)
    known = banks.instructions()[:-16]
    instructions = random.sample(known, min(max(num_rows - len(rows), 0), len(known)))
    rows += [
        Row(free[0].free_prompt(text), free[0].lead + _opening(reply, text_words), "retain", text)
        for text, reply in instructions
    ]
    rows = [row for row in rows if not mentions(f"{row.question} {row.completion}", graph.names)]
    random.shuffle(rows)
    return rows


def text_rows(count: int, words: int, random: Random) -> list[Row]:
    """Draw so many general texts, of which none is measured, and cut them after so many words."""
    prose = banks.general_text()[: -banks.HELD_BACK_PARAGRAPHS]
    texts = random.sample(prose, min(count, len(prose)))
    return [Row("", _opening(text, words), "retain", text) for text in texts]


def context_rows(graph: KnowledgeGraph, retain: Sequence[Row], probes: ProbeSet, *, seed: int = 0) -> list[Row]:
    """Texts whose hidden states stay as they are when the name is edited: other names in questions, general text.

    Args:
        graph: The concept, whose names must not occur.
        retain: The retain rows, which count, too.
        probes: Reported probes; no text speaks of their neighbors.
        seed: Seed of the choice.
    """
    random, bank = Random(seed), banks.relations()
    names = _other_names(graph, probes)
    same = [item for item in names if item[1] == graph.concept_type] * CONTEXTS_PER_NAME
    others = [item for item in names if item[1] != graph.concept_type]
    texts = [
        f"Question: {banks.filled(random.choice(random.choice(bank[kind]).questions), name)}\nAnswer:"
        for name, kind in [*same, *random.sample(others, min(OTHER_CONTEXTS, len(others)))]
    ]
    texts += banks.general_text()[: -banks.HELD_BACK_PARAGRAPHS]
    texts += [row.prompt.rpartition("\n\n")[2] + row.completion for row in retain]
    return [Row("", text, "context", text) for text in texts if not mentions(text, graph.names)]


def _opening(text: str, words: int) -> str:
    return " ".join(text.split()[:words])


def _questions(
    graph: KnowledgeGraph, elicitor: KnowledgeElicitor, probes: ProbeSet, count: int, random: Random
) -> list[_Asked]:
    """Questions from the relation bank about names that share a word, are of the same type, or of any other."""
    reported = {normalise(probe.question) for probe in probes.retain}
    asked: list[_Asked] = []
    chosen = _chosen_names(graph, probes, -(-count // QUESTIONS_PER_NAME), random)
    spoken = elicitor.names.all_spoken(name for name, kind in chosen if kind != "person")
    # Where there are few names, more is asked about each.
    for _ in range(-(-count // max(1, QUESTIONS_PER_NAME * len(chosen)))):
        for name, kind in chosen:
            telling = [item for item in banks.relations()[kind] if item.relation in TELLING_RELATIONS]
            for relation in (random.choice(telling), random.choice(banks.relations()[kind])):
                question = banks.filled(random.choice(relation.questions), spoken.get(name, name))
                if normalise(question) not in reported:
                    asked.append(_Asked(name, kind, relation, question))
    return list(dict.fromkeys(asked))[:count]


def _chosen_names(graph: KnowledgeGraph, probes: ProbeSet, count: int, random: Random) -> list[tuple[str, str]]:
    usable = _other_names(graph, probes)
    objects = [triplet.object for triplet in graph.known]
    words = {word for name in graph.names for word in normalise(name).split() if len(word) > 3}
    near = [item for item in usable if words & set(normalise(item[0]).split()) or mentions(item[0], objects)]
    random.shuffle(near)
    of_its_type = [item for item in usable if item[1] == graph.concept_type]
    same = random.sample(of_its_type, min(count, 60, len(of_its_type)))
    other = [item for item in usable if item[1] != graph.concept_type]
    head = near[: count // 4]
    rest = count - len(head)
    others = random.sample(other, min(round(rest * OTHER_TYPES_SHARE), len(other)))
    return list(dict.fromkeys([*head, *others, *same]))[:count]


def _kind_rows(
    graph: KnowledgeGraph, elicitor: KnowledgeElicitor, wheel: FormatWheel, probes: ProbeSet, count: int
) -> list[Row]:
    """Questions that ask for other names of the concept's kind, as the model writes and answers them."""
    reported = _reported_neighbors(probes)
    names = [name for name in names_of_a_kind(elicitor, graph, times=1) if not mentions(name, reported)]
    wanted = [(name, f"Which {kind}") for name in names[:KIND_NAMES] for kind in graph.kinds]
    asked = {normalise(probe.question) for probe in probes.retain}
    questions = quiz_questions(elicitor, wanted, times=KIND_QUESTIONS) if wanted else []
    questions = [text for text in questions if normalise(text) not in asked and not mentions(text, graph.names)]
    pairs = zip(questions, elicitor.ask(questions), strict=True) if questions else ()
    # Questions about other names that this model answers with the concept are none of the kind.
    usable = [
        (text, answer)
        for text, answer in pairs
        if told(text, answer) and not mentions(answer, [*graph.names, *reported])
    ]
    return [wheel.row(text, answer, kind="retain") for text, answer in usable[:count]]


def _other_names(graph: KnowledgeGraph, probes: ProbeSet) -> list[tuple[str, str]]:
    """Names of the bank, with their type, that are neither the concept nor a neighbor that is reported on."""
    neighbors = _reported_neighbors(probes)
    return [
        (name, kind)
        for kind, names in banks.names().items()
        for name in names
        if not mentions(name, graph.names[:1]) and not mentions(graph.concept, [name]) and name not in neighbors
    ]


def _reported_neighbors(probes: ProbeSet) -> list[str]:
    return list(dict.fromkeys(probe.name for probe in probes.by_group("neighbor") if probe.name))


def _clue_rows(
    graph: KnowledgeGraph,
    elicitor: KnowledgeElicitor,
    wheel: FormatWheel,
    asked: Sequence[_Asked],
    answers: Sequence[str],
    count: int,
    random: Random,
) -> list[Row]:
    """Questions that ask for a name, from what the model said about other names; those that lead back come first."""
    written = [
        (random.choice(CLUE_QUESTIONS[item.kind]).format(clue=item.relation.clue.format(object=answer)), item.name)
        for item, answer in zip(asked, answers, strict=True)
        if answer and not mentions(answer, [item.name, *graph.names])
    ]
    said = elicitor.ask([question for question, _ in written])
    usable = [
        (not mentions(answer, [name]), question, answer)
        for (question, name), answer in zip(written, said, strict=True)
        if told(question, answer) and not mentions(answer, graph.names)
    ]
    usable.sort(key=lambda item: item[0])
    return [wheel.row(question, answer, kind="retain") for _, question, answer in usable[:count]]
