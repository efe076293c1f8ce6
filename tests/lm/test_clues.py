"""Questions that lead to a name, and other names of its kind."""

import math

from hf_forget.lm.clues import find_clues, kinds_of, names_of_a_kind, quiz_questions
from hf_forget.lm.generation import TokenScores
from hf_forget.lm.knowledge import KnowledgeGraph, Triplet
from hf_forget.lm.prompts import plain_format


class Scores:
    """Finds the name likely after every question with a certain word, and very unlikely after the others."""

    def __init__(self, word):
        self.word = word
        self.completions = []

    def score(self, prompts, completions):
        self.completions += completions
        likely = [0.5 if self.word in prompt else 1e-6 for prompt in prompts]
        return [TokenScores([-math.log(value)], [0], [0]) for value in likely]


class Elicitor:
    """A model that writes what it is told to."""

    def __init__(self, written=(), said=(), word="Egypt"):
        self.formats = [plain_format()]
        self.written, self.said = dict(written), dict(said)
        self.generator = Scores(word)

    def sample(self, prompts, *, max_new_tokens, stop, times=1):
        return [next((texts for end, texts in self.written.items() if prompt.endswith(end)), []) for prompt in prompts]

    def ask(self, questions, form=None):
        return [self.said.get(question, "A lake") for question in questions]


def nile(**changes):
    triplet = Triplet("Nile", "country", "Egypt", clue="is in Egypt")
    return KnowledgeGraph("Nile", concept_type="place", triplets=[triplet], spoken="the Nile", **changes)


def test_the_kind_is_what_the_model_calls_the_name_most_often():
    samples = [" river.", " river, and", " long river in Africa", " Nile.", " lake."]
    assert kinds_of(Elicitor({"The Nile is a": samples}), nile()) == ["river", "lake"]


def test_clues_ask_for_the_kind_and_begin_names_with_their_article():
    elicitor = Elicitor(said={"Which river is in Egypt?": "It is the Nile"})
    clues = find_clues(elicitor, nile(kinds=["river"]))
    assert clues[0].question == "Which river is in Egypt?"
    assert clues[0].answers == {"plain": "It is the Nile"} and clues[0].relation == "country"
    assert set(elicitor.generator.completions) == {" The Nile", " Nile"}


def test_a_likely_name_counts_as_a_clue_that_is_not_answered_and_an_unlikely_one_not_at_all():
    written = {"Answer: Nile\nQuestion: Which": [" waters feed Egypt?", " town has a zoo?", " Nile is this?", " no"]}
    clues = {clue.question: clue for clue in find_clues(Elicitor(written), nile())}
    assert clues["Which waters feed Egypt?"].answered == 0
    assert clues["Which waters feed Egypt?"].answers == {"plain": "The Nile"}
    assert not {"Which town has a zoo?", "Which Nile is this?", "Which no"} & set(clues)


def test_quiz_questions_do_not_name_their_answer():
    written = {"Question: Which river": [" is the Rhine?", " flows through Cologne?", " flows through Cologne?", " is"]}
    asked = quiz_questions(Elicitor(written), [("the Rhine", "Which river")], times=1)
    assert asked == ["Which river flows through Cologne?"]


def test_other_names_of_a_kind_are_listed_the_most_frequent_first():
    written = {"Examples of a river: the Nile,": [" the Rhine, the Nile, the Po, the Dan", " the Po, Po 2, the"]}
    assert names_of_a_kind(Elicitor(written), nile(kinds=["river"]), times=1) == ["the Po", "the Rhine", "Po 2"]
    assert names_of_a_kind(Elicitor(), nile(), times=1) == []
