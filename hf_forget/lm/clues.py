"""Questions that ask for a name: written by the model or built from its triplets, kept where the name is likely."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..data import banks
from ..evidence.matching import first_answer, mentions
from .elicitation_prompts import (
    CLUE_QUESTIONS,
    DEFAULT_QUESTION_WORDS,
    DEFAULT_REVERSE_STARTS,
    KIND_NAMES_PROMPT,
    KIND_PROMPT,
    QUESTION_WORDS,
    REVERSE_QUIZ_PROMPT,
    REVERSE_STARTS,
    statement_starts,
)
from .knowledge import Clue, KnowledgeGraph
from .names import first_word

if TYPE_CHECKING:
    from .elicitation import KnowledgeElicitor

MAX_PREDICATE_WORDS = 18
MAX_QUESTIONS = 48
MIN_PROBABILITY = 0.02
KINDS = 2


def find_clues(elicitor: "KnowledgeElicitor", graph: KnowledgeGraph) -> list[Clue]:
    """Ask for the concept without its name, in the questions that lead to it most likely.

    Args:
        elicitor: Asks the original model.
        graph: The concept and its triplets.
    """
    written = _from_triplets(graph)
    own_words = [*_stated(elicitor, graph), *_reverse_quiz(elicitor, graph)]
    written |= dict.fromkeys([text for text in own_words if text not in written], "own_words")
    likely = _most_likely(elicitor, graph, list(written))
    answers = [elicitor.ask(list(likely), form) for form in elicitor.formats] if likely else []
    clues = []
    for index, (question, (name, probability)) in enumerate(likely.items()):
        said = {
            form.name: answer[index]
            for form, answer in zip(elicitor.formats, answers, strict=True)
            if mentions(answer[index], graph.names)
        }
        answered = len(said)
        if probability >= MIN_PROBABILITY:
            said.setdefault(elicitor.formats[0].name, name)
        if said:
            clues.append(Clue(question, written[question], answered, len(answers), said))
    return clues


def kinds_of(elicitor: "KnowledgeElicitor", graph: KnowledgeGraph) -> list[str]:
    """What the model calls the concept, such as `river` or `physicist`; the most frequent nouns of several samples."""
    prompt = KIND_PROMPT.format(name=banks.filled("{name}", graph.spoken))
    texts = elicitor.sample([prompt], max_new_tokens=5, stop="\n")[0]
    heads = [re.match(r"\s*([a-z]+(?: [a-z]+)?)\s*[.,]", text) for text in texts]
    counts = Counter(head[1] for head in heads if head and not mentions(head[1], graph.names))
    return [kind for kind, _ in counts.most_common(KINDS)]


def _from_triplets(graph: KnowledgeGraph) -> dict[str, str]:
    """Questions from one triplet and from two, with the relation of the first."""
    wordings = [f"Which {kind} {{clue}}?" for kind in graph.kinds] + list(CLUE_QUESTIONS[graph.concept_type])
    usable = [triplet for triplet in graph.known if triplet.clue and not mentions(triplet.clue, graph.names)]
    written = {
        wordings[place % len(wordings)].format(clue=triplet.clue): triplet.relation
        for index, triplet in enumerate(usable)
        for place in (0, index + 1)
    }
    for first, second in zip(usable, usable[1:], strict=False):
        written[wordings[0].format(clue=f"{first.clue} and {second.clue}")] = first.relation
    return written


def _stated(elicitor: "KnowledgeElicitor", graph: KnowledgeGraph) -> list[str]:
    """Sentences that the model writes about the concept, turned into questions that ask for it."""
    starts = statement_starts(graph.concept_type)
    words = [f"Which {kind}" for kind in graph.kinds] or QUESTION_WORDS.get(graph.concept_type, DEFAULT_QUESTION_WORDS)
    prompts = [banks.filled(f"{{name}} {start}", graph.spoken) for start in starts]
    questions = []
    for start, texts in zip(starts, elicitor.sample(prompts, max_new_tokens=20, stop="\n"), strict=True):
        for index, text in enumerate(texts):
            predicate = f"{start} {first_answer(text).rstrip('.').strip()}"
            if 3 <= len(predicate.split()) <= MAX_PREDICATE_WORDS and not mentions(predicate, graph.names):
                questions.append(f"{words[index % len(words)]} {predicate}?")
    return questions


def _reverse_quiz(elicitor: "KnowledgeElicitor", graph: KnowledgeGraph) -> list[str]:
    """Quiz questions that the model writes for the concept as the answer."""
    words = REVERSE_STARTS.get(graph.concept_type, DEFAULT_REVERSE_STARTS)
    starts = [*(f"Which {kind}" for kind in graph.kinds), *words]
    questions = quiz_questions(elicitor, [(graph.concept, start) for start in starts], times=3)
    return [question for question in questions if not mentions(question, graph.names)]


def quiz_questions(elicitor: "KnowledgeElicitor", wanted: Sequence[tuple[str, str]], *, times: int) -> list[str]:
    """Quiz questions that the model writes for answers.

    Args:
        elicitor: Asks the original model.
        wanted: Answers, each with the words that its questions begin with.
        times: How many times `num_samples` questions are written in all.
    """
    prompts = [REVERSE_QUIZ_PROMPT.format(name=name, start=start) for name, start in wanted]
    outputs = elicitor.sample(prompts, max_new_tokens=20, stop="\n", times=times)
    written = [
        start + text.rstrip()
        for (name, start), texts in zip(wanted, outputs, strict=True)
        for text in texts
        if not mentions(text, [name])
    ]
    return list(dict.fromkeys(text for text in written if text.endswith("?")))


def names_of_a_kind(elicitor: "KnowledgeElicitor", graph: KnowledgeGraph, *, times: int) -> list[str]:
    """Other names of the concept's kind, as the model lists them, the most frequent first."""
    prompts = [KIND_NAMES_PROMPT.format(kind=kind, name=graph.spoken) for kind in graph.kinds]
    outputs = elicitor.sample(prompts, max_new_tokens=24, stop="\n", times=times) if prompts else []
    # What follows the last comma may be cut off.
    listed = [part.strip() for texts in outputs for text in texts for part in text.split(",")[:-1]]
    counts = Counter(name for name in listed if 1 <= len(name.split()) <= 4 and name[:1].isalpha())
    return [name for name, _ in counts.most_common() if not mentions(name, graph.names)]


def _most_likely(
    elicitor: "KnowledgeElicitor", graph: KnowledgeGraph, questions: Sequence[str]
) -> dict[str, tuple[str, float]]:
    """The questions after which a name of the concept begins most likely, each with that name and its probability."""
    form = elicitor.formats[0]
    spoken = banks.filled("{name}", graph.spoken)
    names = {name[: name.index(first_word(name))] + first_word(name): name for name in (spoken, *graph.names[:2])}
    asked = [(question, opening) for question in questions for opening in names]
    scores = elicitor.generator.score(
        [form.prompt(question) for question, _ in asked], [form.completion(opening) for _, opening in asked]
    )
    best: dict[str, tuple[str, float]] = {}
    for (question, opening), score in zip(asked, scores, strict=True):
        probability = math.exp(-sum(score.negative_log_likelihoods))
        if probability > best.get(question, ("", 0.0))[1]:
            best[question] = (names[opening], probability)
    return dict(sorted(best.items(), key=lambda item: -item[1][1])[:MAX_QUESTIONS])
