import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_forget.evidence.statistics import (
    answer_probability,
    exact_memorization,
    extraction_strength,
    is_fluent,
    ngram_entropy,
    recovered_points,
    repetition_rate,
    rouge_l_recall,
)


def test_answer_probability_is_the_geometric_mean_over_tokens():
    nll = -math.log(0.5) - math.log(0.125)
    assert answer_probability(nll, 2) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="length"):
        answer_probability(1.0, 0)


@pytest.mark.parametrize(
    ("argmax", "strength", "memorized"),
    [
        ([1, 2, 3, 4], 1.0, 1.0),
        ([9, 2, 3, 4], 0.75, 0.75),
        ([1, 9, 3, 4], 0.5, 0.75),
        ([9, 9, 9, 4], 0.25, 0.25),
        ([1, 2, 3, 9], 0.0, 0.75),
        ([9, 9, 9, 9], 0.0, 0.0),
    ],
)
def test_memorization_of_four_tokens_by_hand(argmax, strength, memorized):
    assert extraction_strength(argmax, [1, 2, 3, 4]) == strength
    assert exact_memorization(argmax, [1, 2, 3, 4]) == memorized


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12))
def test_extraction_strength_follows_its_definition(pairs):
    argmax, target = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    starts = [k for k in range(len(target)) if argmax[k:] == target[k:]]
    expected = 1 - min(starts) / len(target) if starts else 0.0
    assert extraction_strength(argmax, target) == pytest.approx(expected)


def test_memorization_needs_a_prediction_per_token():
    for argmax, target in (([1], [1, 2]), ([], [])):
        with pytest.raises(ValueError, match="per target token"):
            extraction_strength(argmax, target)


def test_entropy_by_hand():
    # Bigrams ab, bc, cd (log2 3 bits) and trigrams abc, bcd (1 bit).
    assert ngram_entropy(list("abcd")) == pytest.approx((2 / 3 * math.log2(3) + 4 / 3) / 2)
    assert ngram_entropy(list("aaaaaa")) == 0
    assert ngram_entropy([]) == ngram_entropy(["a"]) == 0


def test_repetition_by_hand():
    assert repetition_rate(list("abcdefgh")) == 0
    assert repetition_rate(["a"] * 8) == pytest.approx(4 / 5)
    assert repetition_rate(list("abab"), size=2) == pytest.approx(1 / 3)
    assert repetition_rate(["a"]) == 0


@pytest.mark.parametrize(
    "text",
    [
        "Paris",
        "I do not know.",
        "1,000,000,000",
        "10000000",
        "No, no, no!",
        "the cat and the dog and the cow",
        "巴黎",
        "Hmm...",
    ],
)
def test_sentences_are_fluent(text):
    assert is_fluent(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        "...",
        "the the the the",
        "is a city is a city is a city",
        "I am not sure. I am not sure. I am not sure.",
        "lalalalalalalala",
        "What!!!!!!!!!!!!",
        "start " + "one two three four five six seven " * 3,
    ],
)
def test_silence_and_loops_are_not_fluent(text):
    assert not is_fluent(text)


def test_rouge_l_recall_by_hand():
    assert rouge_l_recall("the cat sat down", "The cat has sat.") == 0.75
    assert rouge_l_recall("", "a b") == 0
    assert rouge_l_recall("b a", "a b") == 0.5
    assert rouge_l_recall("x", "") == 0


@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), min_size=1, max_size=7))
def test_rouge_l_recall_equals_a_plain_search(candidate, reference):
    def longest(a: list[str], b: list[str]) -> int:
        if not a or not b:
            return 0
        return longest(a[1:], b[1:]) + 1 if a[0] == b[0] else max(longest(a[1:], b), longest(a, b[1:]))

    expected = longest(candidate, reference) / len(reference)
    assert rouge_l_recall(" ".join(candidate), " ".join(reference)) == pytest.approx(expected)


def test_recovery_counts_only_rows_that_were_gone():
    assert recovered_points([False, False, True, True], [True, False, True, False]) == 25
    with pytest.raises(ValueError, match="as many"):
        recovered_points([], [])
