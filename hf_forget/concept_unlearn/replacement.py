"""Rows that teach the model to treat the concept like a name it has never met.

Reconstructed: beside the paper's triplets and sentences. Every question of the relation bank is answered by the
original model for invented names; the edited model is pulled towards these answers when the concept is asked for.
This carries over to relations and wordings that are not trained, stays bounded, and keeps answers fluent.
"""

import re
from collections.abc import Sequence
from random import Random

from ..data import banks
from ..lm.elicitation import KnowledgeElicitor, is_object
from ..lm.elicitation_prompts import statement_starts
from ..lm.knowledge import KnowledgeGraph
from ..lm.prompts import PromptFormat
from ..lm.rows import Row
from .conversion import FormatWheel, statement_opening
from .held_out import HeldOut

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
    rows = []
    for relation in banks.relations()[graph.concept_type]:
        usable = [item for item in background[relation.relation] if is_object(item[1], [item[0], *graph.names])]
        for index, text in enumerate(random.sample(relation.questions, min(WORDINGS, len(relation.questions)))):
            if not usable or held_out.drops_edge(relation.relation, text.format(name=graph.concept), ""):
                continue
            # One invented name as far as possible: what the model takes its place for is then one and the same.
            stand_in, answer = usable[0]
            name = random.choice([graph.concept, graph.concept, *graph.names])
            asked = [(text.format(name=name), text.format(name=stand_in))]
            if index == 0:
                careless = text.format(name="\0")
                asked.append((careless_text(careless, misspelled(name, random)), careless_text(careless, stand_in)))
            rows += [wheel.replacement(pair, answer, relation.relation) for pair in asked]
            if index == 0 and relation.statement.startswith("{name}"):
                own, other = (statement_opening(relation.statement, each) for each in (name, stand_in))
                rows.append(wheel.replacement(asked[0], answer, relation.relation, (own, other)))
    rows += [row for row in free_rows(graph, elicitor) if not held_out.drops_sentence(row.completion)]
    return rows


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


def free_rows(graph: KnowledgeGraph, elicitor: KnowledgeElicitor) -> list[Row]:
    """What the original model writes at length about invented names, up to where it names them again."""
    form = elicitor.formats[-1]
    opened = [
        (opening, name)
        for opening in (*(f"{{name}} {start}" for start in statement_starts(graph.concept_type)), *REQUESTS)
        for name in banks.INVENTED_NAMES[graph.concept_type][:1]
    ]
    prompts = [_free_prompt(opening, name, form) for opening, name in opened]
    texts = elicitor.write(prompts, max_new_tokens=WRITTEN_TOKENS)
    rows = []
    for (opening, name), text, prompt in zip(opened, texts, prompts, strict=True):
        kept = _before_name(text, [name, *graph.names])
        if len(kept.split()) >= 3:
            rows.append(Row(_free_prompt(opening, graph.concept, form), kept, "replacement", opening, "", prompt))
    return rows


def _free_prompt(opening: str, name: str, form: PromptFormat) -> str:
    text = opening.format(name=name)
    return form.free_prompt(text) if opening in REQUESTS else text


def _before_name(text: str, names: Sequence[str]) -> str:
    """Cut a text before the first word of any of the names."""
    parts = {word.lower() for name in names for word in name.split() if len(word) > 3}
    found = re.search(r"\b(" + "|".join(map(re.escape, sorted(parts))) + r")", text, flags=re.IGNORECASE)
    return (text[: found.start()] if found else text).rstrip()
