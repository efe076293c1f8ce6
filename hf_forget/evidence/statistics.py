"""The metrics of language-model evidence as small pure functions on numbers, token ids and text."""

import math
import re
from collections import Counter
from collections.abc import Hashable, Sequence

# A text with fewer repeats than these can be a list or a refrain.
_WORD_LOOP = 4
_PHRASE_LOOP = 3
_LONGEST_PHRASE = 12
_CHARACTER_LOOP = re.compile(r"([^\W\d_]{1,12}?|[^\w\s])\1{5,}")


def answer_probability(nll_sum: float, length: int) -> float:
    """Return exp(−NLL/|y|), the geometric mean probability of the answer's tokens (Maini et al. 2024, TOFU).

    Args:
        nll_sum: Negative log likelihood of the whole answer, in nats.
        length: Number of its tokens.
    """
    if length < 1:
        raise ValueError(f"length must be 1 or more, got {length}")
    return math.exp(-nll_sum / length)


def extraction_strength(argmax_ids: Sequence[int], target_ids: Sequence[int]) -> float:
    """Return 1 − k/|y|, with k the smallest index from which the whole suffix is predicted greedily, 0 when none is.

    Teacher forced (Carlini et al. 2021; Wang et al. 2025).

    Args:
        argmax_ids: The likeliest token at each position of the answer, given the true tokens before it.
        target_ids: The answer.
    """
    correct = _hits(argmax_ids, target_ids)
    suffix = next((length for length, hit in enumerate(reversed(correct)) if not hit), len(correct))
    return suffix / len(correct)


def exact_memorization(argmax_ids: Sequence[int], target_ids: Sequence[int]) -> float:
    """Return the share of the answer's tokens that are the likeliest ones, teacher forced (Tirumala et al. 2022)."""
    correct = _hits(argmax_ids, target_ids)
    return sum(correct) / len(correct)


def _hits(argmax_ids: Sequence[int], target_ids: Sequence[int]) -> list[bool]:
    if len(argmax_ids) != len(target_ids) or len(target_ids) == 0:
        raise ValueError(f"need one prediction per target token, got {len(argmax_ids)} for {len(target_ids)}")
    return [bool(predicted == target) for predicted, target in zip(argmax_ids, target_ids, strict=True)]


def ngram_entropy(tokens: Sequence[Hashable]) -> float:
    """Return the mean of the 2-gram and 3-gram entropies in bits, weighted 2/3 and 4/3 (Zhang et al. 2018; Meng et al.
    2022). Low values mean repetition; a text too short for an n-gram has an entropy of 0 there."""
    return (2 / 3 * _entropy(_ngrams(tokens, 2)) + 4 / 3 * _entropy(_ngrams(tokens, 3))) / 2


def _entropy(items: Sequence[Hashable]) -> float:
    shares = [count / len(items) for count in Counter(items).values()]
    return -sum(share * math.log2(share) for share in shares) + 0.0


def _ngrams(tokens: Sequence[Hashable], size: int) -> list[tuple[Hashable, ...]]:
    return [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]


def repetition_rate(tokens: Sequence[Hashable], size: int = 4) -> float:
    """Return the share of n-grams that occurred before in the text (seq-rep-n, Welleck et al. 2020).

    Args:
        tokens: Token ids or words of one generated text.
        size: Length of the n-grams.
    """
    ngrams = _ngrams(tokens, size)
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def is_fluent(text: str) -> bool:
    """Return whether an answer says something and does not loop.

    It must hold a letter or digit; no word may come four times in a row, no phrase of up to twelve words three times,
    and no piece of a word or mark six times.
    """
    words = text.casefold().split()
    if not any(character.isalnum() for character in text) or _CHARACTER_LOOP.search(text.casefold()):
        return False
    for size in range(1, min(_LONGEST_PHRASE, len(words) // 2) + 1):
        times = _WORD_LOOP if size == 1 else _PHRASE_LOOP
        needed, run = size * (times - 1), 0
        for earlier, word in zip(words, words[size:], strict=False):
            run = run + 1 if word == earlier else 0
            if run >= needed:
                return False
    return True


def rouge_l_recall(candidate: str, reference: str) -> float:
    """Return the share of the reference's words in its longest common subsequence with the candidate (Lin 2004)."""
    wanted, given = (re.findall(r"\w+", text.casefold()) for text in (reference, candidate))
    if not wanted:
        return 0.0
    lengths = [0] * (len(given) + 1)
    for word in wanted:
        diagonal = 0
        for column, other in enumerate(given, 1):
            above = lengths[column]
            lengths[column] = diagonal + 1 if word == other else max(above, lengths[column - 1])
            diagonal = above
    return lengths[-1] / len(wanted)


def recovered_points(after: Sequence[bool], attacked: Sequence[bool]) -> float:
    """Return how many rows an attack brings back, in points (100 = all).

    Args:
        after: Whether each row that the base answers was answered after forgetting.
        attacked: The same under attack; the worst over grids or prompts when there are several.
    """
    if len(after) != len(attacked) or len(after) == 0:
        raise ValueError(f"need as many outcomes under attack as without, got {len(attacked)} and {len(after)}")
    return 100 * sum(bool(now) and not then for then, now in zip(after, attacked, strict=True)) / len(after)
