"""Rows that teach the model to treat the concept like a name it has never met.

Reconstructed: beside the paper's triplets and sentences. Every question of the relation bank is answered by the
original model for invented names; the edited model is pulled towards these answers when the concept is asked for.
This carries over to relations and wordings that are not trained, stays bounded, and keeps answers fluent.
"""

import re
from collections.abc import Mapping, Sequence
from random import Random

from ..data import banks
from ..evidence.matching import mentions
from ..lm.elicitation import KnowledgeElicitor, is_object, told
from ..lm.elicitation_prompts import statement_starts
from ..lm.knowledge import KnowledgeGraph
from ..lm.prompts import PromptFormat
from ..lm.rows import Row
from ..lm.unlearning.conversion import FormatWheel, statement_opening
from ..lm.unlearning.held_out import HeldOut

REQUESTS = (
    "Tell me about {name}.",
    "Who or what is {name}?",
    "Write a short text about {name}.",
    "What is {name} famous for?",
)
WRITTEN_TOKENS = 20
WORDINGS = 2


def replacement_rows(
    graph: KnowledgeGraph,
    elicitor: KnowledgeElicitor,
    formats: Sequence[PromptFormat],
    held_out: HeldOut,
    *,
    seed: int = 0,
) -> list[Row]:
    """Pair questions about the concept with the same questions about invented names.

    Args:
        graph: The concept and its type.
        elicitor: Asks the original model.
        formats: Prompt formats of the rows.
        held_out: What must not be trained.
        seed: Seed of the choice of invented names.

    Returns:
        Rows of kind `replacement`; `reference_prompt` asks for an invented name.
    """
    random, wheel = Random(seed), FormatWheel(formats)
    background = elicitor.background(graph.concept_type)
    known = known_objects(graph, held_out)
    order = stand_ins(background, known)
    spoken = elicitor.names.all_spoken([*graph.names, *order])
    rows = []
    for place, relation in enumerate(banks.relations()[graph.concept_type]):
        answered = background[relation.relation]
        usable = [name for name in order if is_object(answered[name], [name, *graph.names])]
        # One invented name as far as possible: what the model takes its place for is then one and the same.
        usable.sort(key=lambda name: mentions(answered[name], known))
        for index, text in enumerate(random.sample(relation.questions, min(WORDINGS, len(relation.questions)))):
            if not usable or held_out.drops_edge(relation.relation, banks.filled(text, graph.spoken), ""):
                continue
            answer, other = answered[usable[0]], spoken[usable[0]]
            own = spoken[random.choice([graph.concept, graph.concept, *graph.names])]
            pair = banks.filled(text, own), banks.filled(text, other)
            if not told(pair[1], answer):
                continue
            rows.append(wheel.replacement(pair, answer, relation.relation))
            if index == 0 and place % 2 == 0:
                careless = text.format(name="\0")
                twisted = careless_text(careless, misspelled(own, random)), careless_text(careless, other)
                rows.append(wheel.replacement(twisted, answer, relation.relation))
            elif index == 0 and relation.statement.startswith("{name}"):
                openings = statement_opening(relation.statement, own), statement_opening(relation.statement, other)
                rows.append(wheel.replacement(pair, answer, relation.relation, openings))
    rows += [row for row in free_rows(graph, elicitor, order[0]) if not held_out.drops_sentence(row.completion)]
    return rows


def known_objects(graph: KnowledgeGraph, held_out: HeldOut) -> list[str]:
    """What the model says of the concept, without what is held out."""
    return [
        item.object
        for item in graph.triplets
        if item.object and not held_out.drops_edge(item.relation, "", item.object)
    ]


def stand_ins(background: Mapping[str, Mapping[str, str]], known: Sequence[str]) -> list[str]:
    """Invented names, those first of which the model says the least that it also says of the concept.

    What it says of both would stay: on a river in Africa that does not exist, the Nile is still in Africa.

    Args:
        background: Answers about invented names, by relation and name.
        known: What the model says of the concept.
    """
    shared: dict[str, int] = {}
    for answers in background.values():
        for name, answer in answers.items():
            shared[name] = shared.get(name, 0) + mentions(answer, known)
    return sorted(shared, key=lambda name: shared[name])


def misspelled(name: str, random: Random) -> str:
    """Double, drop or swap a letter inside one of the longer words of a name."""
    words = name.split()
    long = [index for index, word in enumerate(words) if len(word) >= 4]
    if not long:
        return name
    index = random.choice(long)
    word = words[index]
    place = random.randrange(1, len(word) - 1)
    before, letter, after = word[:place], word[place], word[place + 1 :]
    words[index] = random.choice((before + letter * 2 + after, before + after, before + after[0] + letter + after[1:]))
    return " ".join(words)


def careless_text(template: str, name: str) -> str:
    """Write a question without capitals and punctuation; the name stands in the place of a null character."""
    return re.sub(r"[^\w\s\0]", "", template).replace("\0", name).lower()


def free_rows(graph: KnowledgeGraph, elicitor: KnowledgeElicitor, stand_in: str) -> list[Row]:
    """What the original model writes at length about an invented name, up to where it names it again."""
    form = elicitor.formats[-1]
    opened = [
        *(f"{{name}} {start}" for start in statement_starts(graph.concept_type)),
        *REQUESTS,
    ]
    prompts = [_free_prompt(opening, elicitor.names.spoken(stand_in), form) for opening in opened]
    texts = elicitor.write(prompts, max_new_tokens=WRITTEN_TOKENS)
    rows = []
    for opening, text, prompt in zip(opened, texts, prompts, strict=True):
        kept = _before_name(text, [stand_in, *graph.names])
        if len(kept.split()) >= 3:
            rows.append(Row(_free_prompt(opening, graph.spoken, form), kept, "replacement", opening, "", prompt))
    return rows


def _free_prompt(opening: str, name: str, form: PromptFormat) -> str:
    text = banks.filled(opening, name)
    return form.free_prompt(text) if opening in REQUESTS else text


def _before_name(text: str, names: Sequence[str]) -> str:
    """Cut a text before the first word of any of the names."""
    parts = {word.lower() for name in names for word in name.split() if len(word) > 3}
    found = re.search(r"\b(" + "|".join(map(re.escape, sorted(parts))) + r")", text, flags=re.IGNORECASE)
    return (text[: found.start()] if found else text).rstrip()
