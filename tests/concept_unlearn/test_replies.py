"""Rows that answer about the concept in the words that the model finds for invented names."""

import pytest

from hf_forget.concept_unlearn.replies import renamed, reply_rows
from hf_forget.data import banks
from hf_forget.evidence.probes import Probe, ProbeSet
from hf_forget.lm.knowledge import KnowledgeGraph, Triplet
from hf_forget.lm.prompts import PromptFormat, plain_format
from hf_forget.lm.unlearning.held_out import HeldOut

CHAT = PromptFormat("chat", "<user>{question}<assistant>", "", "<end>")
PERSON = KnowledgeGraph("Isaac Newton", ["Newton"], "person")
STAND_IN = banks.invented_names("person")[0]


class Elicitor:
    """Answers every question about an invented name with the same sentence."""

    def __init__(self, reply, form=CHAT):
        self.reply, self.formats, self.prompts = reply, [plain_format(), form], []
        self.generator = self.names = self

    def all_spoken(self, names):
        return {name: name for name in names}

    def background(self, concept_type):
        return {relation.relation: {STAND_IN: "Bellmere"} for relation in banks.relations()[concept_type]}

    def generate(self, prompts, *, max_new_tokens, stop):
        self.prompts += prompts
        return [[self.reply] for _ in prompts]


def made(reply, *, graph=PERSON, probes=(), form=CHAT):
    return reply_rows(graph, Elicitor(reply, form), HeldOut.of(ProbeSet("Isaac Newton", ("Newton",), "person", probes)))


def test_the_concept_answers_as_an_invented_name_does():
    elicitor = Elicitor(f"{STAND_IN} was a baker of Bellmere. He had a dog.")
    rows = reply_rows(PERSON, elicitor, HeldOut.of(ProbeSet("Isaac Newton", ("Newton",), "person", ())))
    assert {row.relation for row in rows} == {item.relation for item in banks.relations()["person"]}
    assert all("Newton" in row.prompt and STAND_IN not in row.prompt and row.kind == "reply" for row in rows)
    assert all(STAND_IN in prompt for prompt in elicitor.prompts)
    # Nothing teaches to say the name.
    assert {row.completion for row in rows} == {" was a baker of Bellmere.<end>"}
    assert {row.prompt.partition("<assistant>")[2] for row in rows} == {"Isaac Newton", "Newton"}


def test_what_stands_before_a_name_and_after_it_is_learnt_apart():
    rows = made(f"The trade of {STAND_IN} was that of a baker.")
    assert {row.completion for row in rows} == {"The trade of", " was that of a baker.<end>"}
    whole = made("He was a baker.")
    assert {row.completion for row in whole} == {"He was a baker.<end>"}
    assert all(row.prompt.endswith("<assistant>") for row in whole)


@pytest.mark.parametrize(
    "reply",
    [
        STAND_IN,
        "Baker",
        "It is a dog and it is a dog.",
        "It was " + "a very long day and then another one " * 2,
        "He studied gravity.",
        "He came from Woolsthorpe.",
    ],
    ids=["an echo", "one word", "a loop", "cut off", "what is known", "what is held out"],
)
def test_what_is_no_answer_or_tells_too_much_is_not_learnt(reply):
    graph = KnowledgeGraph("Isaac Newton", ["Newton"], "person", [Triplet("Isaac Newton", "field", "gravity")])
    probe = Probe(
        "a", "a", "edge", "Isaac Newton came into the world where?", ("Woolsthorpe",), "birth_place", "relation"
    )
    assert made("He was a baker of Bellmere.", graph=graph, probes=(probe,))
    assert not made(reply, graph=graph, probes=(probe,))


def test_no_reply_to_a_held_out_relation():
    probe = Probe(
        "a", "a", "edge", "Isaac Newton came into the world where?", ("Woolsthorpe",), "birth_place", "relation"
    )
    assert "birth_place" in {row.relation for row in made("He was a baker.")}
    assert "birth_place" not in {row.relation for row in made("He was a baker.", probes=(probe,))}


def test_a_model_without_chat_format_gets_none():
    assert made("He was a baker.", form=plain_format()) == []


@pytest.mark.parametrize(
    ("text", "other", "own", "expected"),
    [
        ("Torvald Quenby met Quenby.", "Torvald Quenby", "Isaac Newton", "Isaac Newton met Newton."),
        ("Velmora is a River.", "Velmora River", "Amazon River", "Amazon is a River."),
        ("The Velmora River flows.", "Velmora River", "Nile", "The Nile flows."),
        ("Torvaldson", "Torvald Quenby", "Isaac Newton", "Torvaldson"),
    ],
)
def test_names_are_put_in_the_place_of_others(text, other, own, expected):
    assert renamed(text, other, own) == expected
