import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_forget.evidence.matching import first_answer, matches, mentions, normalise


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Starry Night!", "starry night"),
        ("Newton’s laws", "newton laws"),
        ("the 1960's", "1960s"),
        ("twenty-one", "21"),
        ("Fifteen hundred", "1500"),
        ("3 million", "3000000"),
        ("1,500 km", "1500 km"),
        ("3.14", "3.14"),
        ("15.4.1452", "15 4 1452"),
        ("1452–1519", "1452 1519"),
        ("fifteenth century", "15th century"),
        ("World War II", "world war 2"),
        ("U.S.A.", "usa"),
        ("J. R. R. Tolkien", "jrr tolkien"),
        ("Vitamin A", "vitamin a"),
        ("Łódź, Beyoncé", "lodz beyonce"),
        ("Ｐａｒｉｓ", "paris"),
        ("Rock & Roll", "rock and roll"),
        ("", ""),
        ("?!…", ""),
    ],
)
def test_normalised_text_is_plain_words(text, words):
    assert normalise(text) == words


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ("It is in Paris, France.", "Paris"),
        ("Newton's", "Newton"),
        ("Moby Dick", "Moby-Dick"),
        ("MobyDick", "Moby-Dick"),
        ("An Xray.", "X-ray"),
        ("Stratford upon Avon", "Stratford-upon-Avon"),
        ("He lived 1452-1519", "1452"),
        ("April 15, 1452", "1452"),
        ("three", "3"),
        ("There are 3.", "three"),
        ("the lord of the rings", "Lord of Rings"),
        ("Lord of the Rings", "The Lord of the Rings"),
        ("JRR Tolkien", "J. R. R. Tolkien"),
        ("in the U.S.", "US"),
        ("Saint Exupery", "Saint-Exupéry"),
        ("他住在巴黎市", "巴黎"),
        ("파리는 도시다", "파리"),
        ("पेरिस शहर", "पेरिस"),
        ("В Париже", "Париже"),
        ("Sure! It is Paris.", "Paris"),
    ],
)
def test_right_answers_match(answer, accepted):
    assert matches(answer, ["something else", accepted])


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ("a Parisian", "Paris"),
        ("Newtonian", "Newton"),
        ("14520", "1452"),
        ("the 1960s", "1960"),
        ("the 1960's", "1960"),
        ("twenty-one", "20"),
        ("one hundred", "1"),
        ("3 million", "3"),
        ("3.14", "3"),
        ("Vitamin C", "Vitamin A"),
        ("I do not know. Maybe Paris.", "Paris"),
        ("London\nParis", "Paris"),
        ("London Question: What is the capital of France? Answer: Paris", "Paris"),
        ("", "Paris"),
        ("...", "..."),
        ("पेरिस", "पेर"),
    ],
)
def test_wrong_answers_and_bare_substrings_do_not_match(answer, accepted):
    assert not matches(answer, [accepted])


def test_nothing_accepted_matches_nothing():
    assert not matches("Paris", [])


def test_mentions_looks_beyond_the_first_sentence():
    assert mentions("I do not know.\nMaybe Paris.", ["Paris"])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\n\n Answer: Paris. It is big.", "Paris."),
        ("A: Paris\nQ: Who?", "Paris"),
        ("J. R. R. Tolkien wrote it. Yes.", "J. R. R. Tolkien wrote it."),
        ("St. Petersburg. Then Moscow.", "St. Petersburg."),
        ("Washington D.C. is the capital. Indeed.", "Washington D.C. is the capital."),
        ("It is 3.5 metres. Tall.", "It is 3.5 metres."),
        ("巴黎。是的", "巴黎。"),
        ("Yes.", "Yes."),
        (" \n ", ""),
    ],
)
def test_first_answer_is_one_sentence(text, answer):
    assert first_answer(text) == answer


@given(st.text(max_size=60), st.text(max_size=60))
def test_matching_never_fails_and_each_text_with_a_word_mentions_itself(text, other):
    normalise(text)
    matches(text, [other])
    if normalise(text):
        assert mentions(text, [text])


@given(st.lists(st.sampled_from(["one", "two", "million", "thousand", "999", "1.5", "twenty"]), max_size=80))
def test_endless_number_words_are_read(words):
    assert isinstance(normalise(" ".join(words)), str)
