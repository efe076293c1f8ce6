"""Puts probes to a model in its prompt formats, and chooses which rows are asked."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..data import banks
from ..lm.prompts import PromptFormat, default_format_names, get_format
from .matching import matches
from .probes import Probe
from .statistics import answer_probability, exact_memorization, extraction_strength

if TYPE_CHECKING:
    import torch

FEW_SHOT_EXAMPLES = 3
FEW_SHOT_TOKENS = 10
CHAT_TOKENS = 20
FREE_TOKENS = 40

Answer = dict[str, Any]
Ask = Callable[[Sequence[Probe]], dict[str, Answer]]


class Generator(Protocol):
    """What measuring needs of a model; `AnswerGenerator` is one."""

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = ...,
        num_samples: int = ...,
        temperature: float = ...,
        seed: int = ...,
        stop: str | None = ...,
    ) -> list[list[str]]: ...

    def score(self, prompts: Sequence[str], completions: Sequence[str], *, moments: bool = ...) -> list[Any]: ...

    def next_token_log_probs(self, prompts: Sequence[str]) -> "torch.Tensor": ...


def prompt_formats(names: Sequence[str] | None, tokenizer: Any) -> list[PromptFormat]:
    """Return the formats in which probes are asked, those that suit the tokenizer if none are named.

    Raises:
        InputError: If a format is unknown or the tokenizer cannot serve it.
    """
    examples = banks.few_shot_examples()[:FEW_SHOT_EXAMPLES]
    return [get_format(name, tokenizer, examples) for name in names or default_format_names(tokenizer)]


def ask(
    generator: Generator,
    form: PromptFormat,
    probes: Sequence[Probe],
    prompt: Callable[[Probe], str] | None = None,
) -> dict[str, Answer]:
    """Ask for greedy answers.

    Args:
        generator: The model.
        form: How the questions are put.
        probes: What is asked.
        prompt: Writes the prompt of a probe; its plain question in `form` if not given.

    Returns:
        For each id the `answer` and whether it is `correct`.
    """
    prompts = [prompt(probe) if prompt else form.prompt(probe.question) for probe in probes]
    tokens = CHAT_TOKENS if form.name == "chat" else FEW_SHOT_TOKENS
    texts = generator.generate(prompts, max_new_tokens=tokens, stop=form.stop)
    return {probe.id: _judged(probe, text[0]) for probe, text in zip(probes, texts, strict=True)}


def sample(
    generator: Generator, form: PromptFormat, probes: Sequence[Probe], count: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Draw `count` answers per probe at temperature 1; `correct` is whether any of them is right."""
    prompts = [form.prompt(probe.question) for probe in probes]
    drawn = generator.generate(
        prompts,
        max_new_tokens=CHAT_TOKENS if form.name == "chat" else FEW_SHOT_TOKENS,
        num_samples=count,
        temperature=1.0,
        seed=seed,
        stop=form.stop,
    )
    return {
        probe.id: {
            "answers": [text.strip() for text in texts],
            "correct": any(matches(text, probe.answers) for text in texts),
        }
        for probe, texts in zip(probes, drawn, strict=True)
    }


def score(generator: Generator, form: PromptFormat, probes: Sequence[Probe]) -> dict[str, dict[str, float]]:
    """Score the first accepted answer of each probe, teacher forced."""
    prompts = [form.prompt(probe.question) for probe in probes]
    completions = [form.completion(probe.answers[0]) for probe in probes]
    scores = generator.score(prompts, completions)
    return {
        probe.id: {
            "answer_probability": answer_probability(sum(item.negative_log_likelihoods), len(item.target_ids)),
            "extraction_strength": extraction_strength(item.predicted_ids, item.target_ids),
            "exact_memorization": exact_memorization(item.predicted_ids, item.target_ids),
        }
        for probe, item in zip(probes, scores, strict=True)
    }


def tell(generator: Generator, form: PromptFormat, probes: Sequence[Probe]) -> dict[str, str]:
    """Return what the model writes at length on each open probe, greedily."""
    prompts = [form.free_prompt(probe.question) for probe in probes]
    texts = generator.generate(prompts, max_new_tokens=FREE_TOKENS, stop=None)
    return {probe.id: text[0].strip() for probe, text in zip(probes, texts, strict=True)}


def _judged(probe: Probe, text: str) -> Answer:
    return {"answer": text.strip(), "correct": matches(text, probe.answers)}


def answered(answers: Mapping[str, Answer] | None) -> bool:
    """Return whether a probe was answered in any of the formats in which it was asked."""
    return any(answer["correct"] for answer in (answers or {}).values())


def chosen(rows: Sequence[Probe], count: int | None, seed: int) -> list[Probe]:
    """Choose at most `count` rows by seed, in their own order."""
    if count is None or len(rows) <= count:
        return list(rows)
    picked = sorted(random.Random(seed).sample(range(len(rows)), count))
    return [rows[index] for index in picked]


def one_wording_per_fact(rows: Iterable[Probe]) -> list[Probe]:
    """Return the first row of each fact, whatever its group."""
    facts: dict[str, Probe] = {}
    for probe in rows:
        facts.setdefault(probe.fact_id, probe)
    return list(facts.values())
