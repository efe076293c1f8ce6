"""Asks a model what it knows about a name, and keeps what it really answers.

Source: arXiv 2509.15621, section 3 (knowledge triplets and explanatory sentences elicited from the model itself).
Reconstructed: small models write poor triplets, so four routes are tried (a relation bank, quiz questions written by
the model, reverse quiz questions, and triplets after examples), and every answer is validated by asking again.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..data import banks
from ..evidence.matching import first_answer, matches, mentions, normalise
from .clues import find_clues, kinds_of
from .elicitation_prompts import EXPLANATION_PROMPTS, QUIZ_PROMPT, TRIPLET_PROMPT, TYPE_PROMPT
from .generation import TextGenerator
from .knowledge import KnowledgeGraph, Triplet, TripletSource
from .knowledge_merging import merge_triplets
from .names import NameForms
from .prompts import PromptFormat

MAX_OBJECT_WORDS = 6
WORDINGS = 2


@dataclass(frozen=True)
class ElicitationOptions:
    """How much is asked.

    Args:
        num_samples: Continuations sampled from each free prompt (quiz, reverse quiz, triplets).
        temperature: Sampling temperature of these.
        top_p: Nucleus mass of these.
        explanation_samples: Explanatory paragraphs per prompt.
        explanation_tokens: Length of each, in tokens.
        min_answered: Share of the samples of a relation that must agree on an object.
        max_background: Share of invented names that may get the same answer.
        seed: Seed of all sampling.
    """

    num_samples: int = 16
    temperature: float = 0.8
    top_p: float = 1.0
    explanation_samples: int = 1
    explanation_tokens: int = 44
    min_answered: float = 0.4
    max_background: float = 0.4
    seed: int = 0


@dataclass(frozen=True)
class _Claim:
    """A question in the model's own words, and the answer that it gave with it."""

    question: str
    answer: str
    source: TripletSource
    clue: str = ""


class KnowledgeElicitor:
    """Builds a `KnowledgeGraph` from a name by questioning a model.

    Args:
        generator ([`TextGenerator`]): The original model.
        formats: Prompt formats; the first one is asked everything, the others validate.
        options ([`ElicitationOptions`]): How much is asked.
        report: Called with a line of text at each step.
    """

    def __init__(
        self,
        generator: TextGenerator,
        formats: Sequence[PromptFormat],
        *,
        options: ElicitationOptions | None = None,
        report: Callable[[str], None] = lambda line: None,
    ):
        self.generator = generator
        self.formats = list(formats)
        self.options = options or ElicitationOptions()
        self.report = report
        self.names = NameForms(generator)
        self._backgrounds: dict[str, dict[str, dict[str, str]]] = {}

    def detect_type(self, name: str) -> str:
        """Return the concept type under which the model files `name`, corrected for its bias without a name."""
        labels = [" " + kind for kind in banks.CONCEPT_TYPES]
        prompts = [TYPE_PROMPT.format(name=text) for text in (name, "Something") for _ in labels]
        scores = [-sum(score.negative_log_likelihoods) for score in self.generator.score(prompts, labels * 2)]
        count = len(labels)
        lifts = [scores[index] - 0.5 * scores[index + count] for index in range(count)]
        return banks.CONCEPT_TYPES[max(range(count), key=lambda index: lifts[index])]

    def elicit(self, concept: str, aliases: Iterable[str] = (), concept_type: str | None = None) -> KnowledgeGraph:
        """Question the model about `concept` along every route.

        Args:
            concept: The name.
            aliases: Other names, which count as the concept where they are answers.
            concept_type: One of `banks.CONCEPT_TYPES`; asked from the model when not given.
        """
        graph = KnowledgeGraph(concept, list(aliases), concept_type or self.detect_type(concept))
        graph.spoken = self.names.spoken(concept)
        self.report(f"asking what the model knows about {concept} ({graph.concept_type})")
        own_words = [*self._from_quiz(graph), *self._from_triplets(graph)]
        graph.triplets = merge_triplets([*self._from_relations(graph), *self._validate(graph, own_words)])
        self.report(f"{len(graph.known)} of {len(graph.triplets)} answers are specific to {concept}")
        graph.kinds = kinds_of(self, graph)
        graph.clues = find_clues(self, graph)
        self.report(f"{len(graph.answered_clues)} questions lead to {concept}")
        graph.explanations = self._explanations(graph.spoken)
        return graph

    def ask(self, questions: Sequence[str], prompt_format: PromptFormat | None = None) -> list[str]:
        """Answer each question greedily in one format, cut to the first sentence."""
        return answers_to(self.generator, prompt_format or self.formats[0], questions)

    def write(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
        """Continue each prompt once, sampled."""
        outputs = self.generator.generate(
            prompts,
            max_new_tokens=max_new_tokens,
            temperature=self.options.temperature,
            top_p=self.options.top_p,
            seed=self.options.seed,
            stop="\n",
        )
        return [output[0] for output in outputs]

    def _from_relations(self, graph: KnowledgeGraph) -> list[Triplet]:
        bank = banks.relations()[graph.concept_type]
        questions = [
            (relation, banks.filled(text, graph.spoken)) for relation in bank for text in relation.questions[:WORDINGS]
        ]
        answers = self.ask([question for _, question in questions])
        background = self.background(graph.concept_type)
        found = []
        for relation in bank:
            given = [
                (question, answer)
                for (owner, question), answer in zip(questions, answers, strict=True)
                if owner is relation and is_object(answer, graph.names)
            ]
            asked = min(len(relation.questions), WORDINGS)
            for answer, agreeing in _agreements(given):
                common = background[relation.relation].values()
                share = sum(matches(other, [answer]) for other in common) / len(common)
                found.append(
                    Triplet(
                        graph.concept,
                        relation.relation,
                        answer,
                        questions=agreeing,
                        clue=relation.clue.format(object=answer),
                        answered=len(agreeing),
                        asked=asked,
                        background=share,
                        validated=len(agreeing) >= self.options.min_answered * asked
                        and share <= self.options.max_background,
                        source="relation_bank",
                    )
                )
        return found

    def background(self, concept_type: str) -> dict[str, dict[str, str]]:
        """What the model answers about names that do not exist, by relation and invented name."""
        if concept_type in self._backgrounds:
            return self._backgrounds[concept_type]
        bank, invented = banks.relations()[concept_type], banks.invented_names(concept_type)
        asked = [(relation, name) for relation in bank for name in invented]
        spoken = self.names.all_spoken(invented)
        answers = self.ask([banks.filled(relation.questions[0], spoken[name]) for relation, name in asked])
        result: dict[str, dict[str, str]] = {}
        for (relation, name), answer in zip(asked, answers, strict=True):
            result.setdefault(relation.relation, {})[name] = answer
        self._backgrounds[concept_type] = result
        return result

    def _from_quiz(self, graph: KnowledgeGraph) -> list[_Claim]:
        """Quiz questions that the model writes about the topic, with its own answers."""
        texts = self.sample([QUIZ_PROMPT.format(name=graph.concept)], max_new_tokens=26, stop="\n\n")[0]
        written: dict[str, str] = {}
        for text in texts:
            found = re.match(r"\s*(.+\?)\s*\nAnswer:\s*(.+)", text)
            if found and mentions(found[1], graph.names) and is_object(clean_answer(found[2]), graph.names):
                written.setdefault(found[1].strip(), clean_answer(found[2]))
        return [_Claim(question, answer, "quiz") for question, answer in written.items()]

    def _from_triplets(self, graph: KnowledgeGraph) -> list[_Claim]:
        """Triplets in the model's own words, parsed strictly, to be asked again as open statements."""
        texts = self.sample([TRIPLET_PROMPT.format(name=graph.concept)], max_new_tokens=16, stop=")")[0]
        written: dict[tuple[str, str], str] = {}
        for text in texts:
            parts = [part.strip() for part in text.split(";")]
            if len(parts) == 2 and all(parts) and is_object(parts[1], graph.names):
                written.setdefault((parts[0], normalise(parts[1])), parts[1])
        return [
            _Claim(f"Complete the sentence: {graph.concept} {predicate} …", answer, "triplet", f"{predicate} {answer}")
            for (predicate, _), answer in written.items()
        ]

    def _validate(self, graph: KnowledgeGraph, claims: Sequence[_Claim]) -> list[Triplet]:
        """Ask each question again in every format; keep the answer that comes back, if it is specific."""
        if not claims:
            return []
        questions = [claim.question for claim in claims]
        invented = banks.invented_names(graph.concept_type)[:2]
        others = [_replaced(question, graph.names, name) for name in invented for question in questions]
        first = self.ask([*questions, *others])
        answers = [first[: len(claims)], *(self.ask(questions, form) for form in self.formats[1:])]
        background = first[len(claims) :]
        found = []
        for index, claim in enumerate(claims):
            given = [answer[index] for answer in answers]
            claimed, clue = claim.answer, claim.clue
            answered = sum(matches(answer, [claimed]) for answer in given)
            if not answered and is_object(given[0], graph.names):
                claimed, answered, clue = given[0], 1, ""
            share = sum(matches(other, [claimed]) for other in background[index :: len(claims)]) / len(invented)
            found.append(
                Triplet(
                    graph.concept,
                    "own_words",
                    claimed,
                    questions=[claim.question],
                    clue=clue,
                    answered=answered,
                    asked=len(given),
                    background=share,
                    validated=answered > 0 and share == 0,
                    source=claim.source,
                )
            )
        return found

    def _explanations(self, spoken: str) -> list[str]:
        """Paragraphs in the model's own words, cut after the last whole sentence."""
        form = self.formats[-1]
        prompts = [form.free_prompt(text.format(name=spoken)) for text in EXPLANATION_PROMPTS]
        outputs = self.generator.generate(
            prompts,
            max_new_tokens=self.options.explanation_tokens,
            num_samples=self.options.explanation_samples,
            temperature=self.options.temperature,
            top_p=self.options.top_p,
            seed=self.options.seed,
            stop="\n\n",
        )
        return [text for group in outputs for text in map(whole_sentences, group) if len(text.split()) >= 8]

    def sample(self, prompts: Sequence[str], *, max_new_tokens: int, stop: str, times: int = 1) -> list[list[str]]:
        """Sample `times` times `num_samples` continuations, shared out among the prompts."""
        return self.generator.generate(
            prompts,
            max_new_tokens=max_new_tokens,
            num_samples=-(-times * self.options.num_samples // len(prompts)),
            temperature=self.options.temperature,
            top_p=self.options.top_p,
            seed=self.options.seed,
            stop=stop,
        )


def answers_to(generator: TextGenerator, form: PromptFormat, questions: Sequence[str]) -> list[str]:
    """Answer each question greedily, cut to the first sentence."""
    prompts = [form.prompt(question) for question in questions]
    outputs = generator.generate(prompts, max_new_tokens=10 if form.stop else 20, stop=form.stop)
    return [clean_answer(output[0]) for output in outputs]


def clean_answer(text: str) -> str:
    """First sentence of an answer, without quotes and the final full stop."""
    return first_answer(text).strip().strip("\"'").rstrip(".").strip()


def whole_sentences(text: str) -> str:
    """Cut `text` after its last whole sentence."""
    end = max(text.rfind(mark) for mark in ".!?")
    return " ".join((text[: end + 1] if end > 0 else text).split())


def is_object(answer: str, names: Sequence[str]) -> bool:
    """Whether an answer can be the object of a triplet: short, not empty, and no echo of the name."""
    words = normalise(answer).split()
    if not 1 <= len(words) <= MAX_OBJECT_WORDS or mentions(answer, names):
        return False
    parts = {part for name in names for part in normalise(name).split() if len(part) >= 4}
    return not any(word[:5] == part[:5] for word in words for part in parts)


def told(question: str, answer: str) -> bool:
    """Whether an answer says more than the question; rows that only repeat it would teach the model to do so."""
    return bool(normalise(answer)) and not mentions(question, [answer])


def _agreements(given: Sequence[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Group (question, answer) pairs by answer, the most frequent first."""
    counts = Counter(normalise(answer) for _, answer in given)
    groups = []
    for form, _ in counts.most_common():
        agreeing = [(question, answer) for question, answer in given if normalise(answer) == form]
        groups.append((agreeing[0][1], [question for question, _ in agreeing]))
    return groups


def _replaced(text: str, names: Sequence[str], other: str) -> str:
    """Put another name in the place of the concept."""
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(pattern, other, text, flags=re.IGNORECASE)
