"""Health of free text: perplexity, variety and repetition of continuations, and drift from the original."""

import math
from collections.abc import Sequence
from typing import Any

from ..data import banks
from .answers import FREE_TOKENS, Generator
from .statistics import ngram_entropy, repetition_rate
from .verdict import Collapse

PARAGRAPH_TOKENS = 64
CONTINUED = 16
OPENING_WORDS = 12
KL_TOKENS = 64
# Greedy text of a small model loops now and then before any edit, which would drown what an edit does.
TEMPERATURE = 0.7


def general_paragraphs() -> list[str]:
    """Return the last paragraphs of the shipped text; training may use the others."""
    return banks.general_text()[-banks.HELD_BACK_PARAGRAPHS :]


def openings() -> list[str]:
    """Return the first words of general paragraphs, to be continued.

    Prose rather than instructions: where an answer ends is a habit that retraining may change without harm, and it
    would change the entropy.
    """
    return [" ".join(text.split()[:OPENING_WORDS]) for text in general_paragraphs()[-CONTINUED:]]


def measure_health(
    generator: Generator, tokenizer: Any, seed: int = 0, reference: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Measure the health of a model.

    Args:
        generator: The model.
        tokenizer: Its tokenizer; cuts the paragraphs.
        seed: Seed of the continuations.
        reference: The record of the original model.

    Returns:
        `paragraph_nll` (mean negative log likelihood per token, in nats, by paragraph), `ngram_entropy` in bits over
        all continuations, `repetition` by continuation, the `continuations`, `next_tokens` (the likeliest tokens after
        each opening with their log probabilities) and, with a reference instead of these, `kl` by opening.
    """
    drawn = generator.generate(openings(), max_new_tokens=FREE_TOKENS, temperature=TEMPERATURE, seed=seed, stop=None)
    continuations = [text[0] for text in drawn]
    words = [text.split() for text in continuations]
    log_probs = generator.next_token_log_probs(openings())
    record: dict[str, Any] = {
        "paragraph_nll": paragraph_nll(generator, tokenizer, general_paragraphs()),
        # Over all texts at once: one text that comes for every prompt is a collapse too.
        "ngram_entropy": ngram_entropy([word for text in words for word in text]),
        "repetition": [repetition_rate(text) for text in words],
        "continuations": continuations,
    }
    if reference is None:
        record["next_tokens"] = _likeliest(log_probs)
    else:
        record["kl"] = [_kl_at(row, now) for row, now in zip(reference["next_tokens"], log_probs, strict=True)]
    return record


def paragraph_nll(generator: Generator, tokenizer: Any, texts: Sequence[str]) -> list[float]:
    """Mean negative log-likelihood per token, in nats, of the first `PARAGRAPH_TOKENS` tokens of each text."""
    heads, tails = [], []
    for text in texts:
        # A text without a word before it needs a start token, which not every tokenizer has.
        first, rest = text.split(maxsplit=1)
        heads.append(first)
        ids = tokenizer(" " + rest, add_special_tokens=False)["input_ids"][:PARAGRAPH_TOKENS]
        tails.append(tokenizer.decode(ids))
    scores = generator.score(heads, tails)
    return [sum(item.negative_log_likelihoods) / len(item.negative_log_likelihoods) for item in scores]


def _likeliest(log_probs: Any) -> list[dict[str, list]]:
    top = log_probs.topk(min(KL_TOKENS, log_probs.shape[-1]), dim=-1)
    return [
        {"ids": ids.tolist(), "log_probs": values.tolist()} for ids, values in zip(top.indices, top.values, strict=True)
    ]


def _kl_at(original: dict[str, list], log_probs: Any) -> float:
    """KL(original ‖ now) in nats over the original's likeliest tokens, all others taken together."""
    earlier = [math.exp(_number(value)) for value in original["log_probs"]]
    later = [math.exp(value) for value in log_probs[original["ids"]].tolist()]
    rest = (max(0.0, 1 - sum(earlier)), max(0.0, 1 - sum(later)))
    pairs = [*zip(earlier, later, strict=True), rest]
    return sum(p * (math.log(p) - math.log(max(q, 1e-30))) for p, q in pairs if p > 1e-12)


def _number(value: float | None) -> float:
    """Records are JSON, where a figure that is not finite stands as null."""
    return math.inf if value is None else value


def perplexity(record: dict[str, Any]) -> float:
    """Return the perplexity of a health record; infinite where the model gives no numbers."""
    losses = [_number(value) for value in record["paragraph_nll"]]
    mean = sum(losses) / len(losses)
    return math.exp(mean) if mean < 700 else math.inf


def as_collapse(record: dict[str, Any] | None) -> Collapse | None:
    """Return the figures of a health record that the verdict needs."""
    if record is None:
        return None
    repetition = record["repetition"]
    return Collapse(_number(record["ngram_entropy"]), perplexity(record), sum(repetition) / len(repetition))
