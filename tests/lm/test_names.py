"""What a model's probabilities say about a name."""

import math

import pytest

from hf_forget.data import banks
from hf_forget.lm.generation import TokenScores
from hf_forget.lm.names import MAX_SURPRISE, NameForms, first_word


class Scorer:
    """Scores completions by a table; counts how many it was asked."""

    def __init__(self, losses):
        self.losses, self.asked = losses, 0

    def score(self, prompts, completions):
        self.asked += len(completions)
        return [TokenScores([1.0, self.losses.get(text, 20.0)], [], []) for text in completions]


@pytest.mark.parametrize(("name", "word"), [("The Odyssey", "Odyssey"), ("Nile", "Nile"), ("A Doll's House", "Doll's")])
def test_the_first_word_is_no_article(name, word):
    assert first_word(name) == word


def test_the_likelier_form_of_a_name_is_taken_and_each_name_scored_once():
    scorer = Scorer({" the Nile": 2.0, " Nile": 3.0, " Japan": 1.0, " the Japan": 5.0})
    judge = NameForms(scorer)
    expected = {"Nile": "the Nile", "Japan": "Japan", "The Odyssey": "The Odyssey"}
    assert judge.all_spoken(["Nile", "Japan", "The Odyssey", "Nile"]) == expected
    asked = scorer.asked
    assert judge.spoken("Nile") == "the Nile" and scorer.asked == asked


def test_a_name_is_recognised_where_it_surprises_less_than_invented_ones():
    assert NameForms(Scorer({" of Liberty": MAX_SURPRISE - 1})).recognises("Statue of Liberty", "place")
    assert not NameForms(Scorer({" of Liberty": MAX_SURPRISE + 1})).recognises("Statue of Liberty", "place")
    invented = " " + banks.invented_names("place")[0].split(maxsplit=1)[1]
    assert not NameForms(Scorer({" of Liberty": 4.0, invented: 3.0})).recognises("Statue of Liberty", "place")


def test_a_name_of_one_word_is_infinitely_surprising():
    assert NameForms(Scorer({})).surprise("Nile") == math.inf


def test_a_filled_template_begins_with_a_capital():
    assert banks.filled("{name} flows into {object}.", "the Nile", object="the sea") == "The Nile flows into the sea."
