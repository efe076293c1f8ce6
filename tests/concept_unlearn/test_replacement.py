"""Rows that treat the concept like a name the model has never met."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_forget.concept_unlearn.replacement import careless_text, misspelled, replacement_rows, stand_ins
from hf_forget.data import banks
from hf_forget.evidence.probes import Probe, ProbeSet
from hf_forget.lm.elicitation import ElicitationOptions
from hf_forget.lm.knowledge import KnowledgeGraph
from hf_forget.lm.prompts import plain_format
from hf_forget.lm.unlearning.conversion import FormatWheel
from hf_forget.lm.unlearning.held_out import HeldOut

GRAPH = KnowledgeGraph("Isaac Newton", ["Newton"], "person")


class NoArticles:
    """Takes every name as it is."""

    def spoken(self, name):
        return name

    def all_spoken(self, names):
        return {name: name for name in names}


class Elicitor:
    """Answers every question about an invented name with the same word."""

    formats = [plain_format()]
    options = ElicitationOptions()
    names = NoArticles()

    answer = "Bellmere"

    def background(self, concept_type):
        name = banks.invented_names(concept_type)[0]
        return {relation.relation: {name: self.answer} for relation in banks.relations()[concept_type]}

    def write(self, prompts, *, max_new_tokens):
        return [" was a person of whom little is told" for _ in prompts]


def made(probes=(), elicitor=Elicitor):
    held_out = HeldOut.of(ProbeSet("Isaac Newton", ("Newton",), "person", tuple(probes)))
    return replacement_rows(GRAPH, elicitor(), [plain_format()], held_out)


def test_every_row_asks_the_original_the_same_about_an_invented_name():
    name = banks.invented_names("person")[0].lower()
    rows = made()
    assert {row.relation for row in rows if row.relation} == {item.relation for item in banks.relations()["person"]}
    for row in rows:
        assert name in row.reference_prompt.lower() and name not in row.prompt.lower()
        assert row.kind == "replacement" and "newton" not in row.reference_prompt.lower()


def test_some_rows_are_written_carelessly_and_some_answer_with_a_sentence():
    rows = [row for row in made() if row.relation]
    assert any(row.question == row.question.lower() for row in rows)
    assert any(row.prompt.endswith("was born in the year") for row in rows)


def test_no_row_asks_for_a_held_out_relation():
    probe = Probe(
        "a", "a", "edge", "Isaac Newton came into the world where?", ("Woolsthorpe",), "birth_place", "relation"
    )
    assert "birth_place" in {row.relation for row in made()}
    assert "birth_place" not in {row.relation for row in made([probe])}


def test_no_row_answers_with_words_of_its_question():
    class Echo(Elicitor):
        answer = "born"

    assert any("born" in row.question for row in made())
    assert not [row for row in made(elicitor=Echo) if row.relation and "born" in row.question.split()]


def test_the_stand_in_is_the_name_that_shares_the_least_with_the_concept():
    background = {"continent": {"Velmora River": "Africa", "Kestrin Tower": "Europe"}}
    assert stand_ins(background, ["Africa", "Cairo"]) == ["Kestrin Tower", "Velmora River"]
    assert stand_ins(background, []) == ["Velmora River", "Kestrin Tower"]


@given(st.integers(0, 10_000))
def test_a_misspelled_name_stays_close_to_the_name(seed):
    wrong = misspelled("Isaac Newton", Random(seed))
    assert len(wrong.split()) == 2 and abs(len(wrong) - len("Isaac Newton")) <= 1
    assert wrong[0] == "I" and sorted(wrong.split()[0][0] + wrong.split()[1][0]) == ["I", "N"]


def test_short_names_are_not_misspelled():
    assert misspelled("Bo Li", Random(0)) == "Bo Li"


def test_careless_text_has_no_capitals_and_no_punctuation():
    assert careless_text("Where was \0's brother, John, born?", "Isaac Newton") == (
        "where was isaac newtons brother john born"
    )


@pytest.mark.parametrize("openings", [("", ""), ("Isaac Newton was born in", "Torvald Quenby was born in")])
def test_an_answer_that_is_a_sentence_begins_in_the_prompt(openings):
    row = FormatWheel([plain_format()]).replacement(("a?", "b?"), "Rome", "birth_place", openings)
    assert row.completion == " Rome\n"
    assert row.prompt == f"Question: a?\nAnswer:{' ' + openings[0] if openings[0] else ''}"
    assert row.reference_prompt == f"Question: b?\nAnswer:{' ' + openings[1] if openings[1] else ''}"


def test_everyday_questions_are_none_of_the_probes():
    from hf_forget.evidence.matching import normalise
    from hf_forget.evidence.probes import distant_probes

    everyday = set(map(normalise, banks.general_questions()))
    assert len(everyday) == len(banks.general_questions()) >= 30
    assert not everyday & {normalise(probe.question) for probe in distant_probes()}
