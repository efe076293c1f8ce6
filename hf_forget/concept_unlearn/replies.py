"""Rows of whole answers about the concept, in the words that the model finds for a name it has never met.

Reconstructed: beside the paper. A chat model answers in sentences that begin with the name. Once it must not say the
name where only a clue is given, such a sentence has no beginning left, and answers turn into loops; answers that it
learns are meant to mend that. Whether they do is measured in the recipe's README.
"""

import re
from random import Random

from ..data import banks
from ..evidence.matching import first_answer, mentions
from ..evidence.statistics import is_fluent, repetition_rate
from ..lm.elicitation import KnowledgeElicitor, told
from ..lm.knowledge import KnowledgeGraph
from ..lm.prompts import PromptFormat
from ..lm.rows import Row
from ..lm.unlearning.held_out import HeldOut
from .replacement import known_objects, stand_ins

STAND_INS = 2
WORDINGS = 2
REPLY_TOKENS = 32
# A longer one without a full stop was cut off.
MAX_OPEN_WORDS = 14


def reply_rows(graph: KnowledgeGraph, elicitor: KnowledgeElicitor, held_out: HeldOut, *, seed: int = 0) -> list[Row]:
    """Answer questions about the concept as the original model answers them about invented names.

    Args:
        graph: The concept and its type.
        elicitor: Asks the original model.
        held_out: What must not be trained.
        seed: Seed of the choice of wordings and names.

    Returns:
        Rows of kind `reply`: the question about the concept, and the first sentence of the original's answer with the
        concept's name put in; the name itself is never learnt. None for a model without a chat format, which answers
        with a few words only.
    """
    form = elicitor.formats[-1]
    if form.stop:
        return []
    random = Random(seed)
    known = known_objects(graph, held_out)
    asked = [
        (relation.relation, text, random.choice([graph.concept, graph.concept, *graph.names]))
        for relation in banks.relations()[graph.concept_type]
        for text in random.sample(relation.questions, min(WORDINGS, len(relation.questions)))
        if not held_out.drops_edge(relation.relation, banks.filled(text, graph.spoken), "")
    ]
    others = stand_ins(elicitor.background(graph.concept_type), known)[:STAND_INS]
    spoken = elicitor.names.all_spoken([*graph.names, *others])
    rows = []
    for other in others:
        prompts = [form.prompt(banks.filled(text, spoken[other])) for _, text, _ in asked]
        outputs = elicitor.generator.generate(prompts, max_new_tokens=REPLY_TOKENS, stop=None)
        for (relation, text, own), output in zip(asked, outputs, strict=True):
            reply = renamed(first_answer(output[0]), other, own)
            question = banks.filled(text, spoken[own])
            if not (_is_whole(reply) and told(question, reply)):
                continue
            if not mentions(reply, known) and not held_out.drops_sentence(reply):
                rows += _rows_of(form, question, reply, own, relation)
    return rows


def _rows_of(form: PromptFormat, question: str, reply: str, own: str, relation: str) -> list[Row]:
    """What stands before the first name and after the last one; nothing teaches to say the name itself."""
    names = list(re.finditer("|".join(map(re.escape, [own, *own.split()])), reply))
    start, end = (names[0].start(), names[-1].end()) if names else (0, 0)
    rows = []
    if reply[:start].strip():
        rows.append(Row(form.prompt(question), form.completion(reply[:start].strip()), "reply", question, relation))
    if reply[end:].strip():
        prompt = form.prompt(question) + (form.completion(reply[:end]) if end else "")
        completion = reply[end:] if end else form.completion(reply)
        rows.append(Row(prompt, completion + form.end, "reply", question, relation))
    return rows


def renamed(text: str, other: str, own: str) -> str:
    """Put a name in the place of another one, and its words in the place of the other's first and last word.

    Words that both names have, such as `River`, stay.
    """
    words, kept = own.split(), {word.casefold() for word in own.split()}
    pairs = {other: own, other.split()[0]: words[0], other.split()[-1]: words[-1]}
    pairs = {old: new for old, new in pairs.items() if old.casefold() not in kept}
    if not pairs:
        return text
    pattern = "|".join(re.escape(old) for old in sorted(pairs, key=len, reverse=True))
    return re.sub(rf"\b(?:{pattern})\b", lambda found: pairs[found.group()], text)


def _is_whole(reply: str) -> bool:
    """Whether it is an answer of several words that was not cut off and does not repeat itself."""
    words = reply.split()
    ended = reply.endswith((".", "!", "?")) or len(words) <= MAX_OPEN_WORDS
    return len(words) > 1 and ended and is_fluent(reply) and not repetition_rate(words, 2)
