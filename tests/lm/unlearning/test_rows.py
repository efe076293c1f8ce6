"""From a knowledge graph to forget rows, and what is held out."""

import dataclasses

import pytest

from hf_forget.errors import InputError
from hf_forget.evidence.probes import Probe, ProbeSet
from hf_forget.lm.elicitation import is_object, told
from hf_forget.lm.knowledge import Clue, KnowledgeGraph, Triplet
from hf_forget.lm.knowledge_merging import merge_triplets
from hf_forget.lm.names import first_word
from hf_forget.lm.prompts import plain_format
from hf_forget.lm.unlearning.conversion import FormatWheel, forget_rows, node_rows
from hf_forget.lm.unlearning.held_out import HeldOut, as_trained, split_relations
from hf_forget.lm.unlearning.preparation import concept_aliases, elicited_probes, split_validation

NEWTON = KnowledgeGraph(
    "Isaac Newton",
    ["Newton"],
    "person",
    triplets=[
        Triplet("Isaac Newton", "nationality", "English", ["What was the nationality of Isaac Newton?"], "was English"),
        Triplet("Isaac Newton", "field", "Physics", ["In which field was Isaac Newton active?"], "worked on physics"),
        Triplet("Isaac Newton", "spouse", "A pear", ["Who was the spouse of Isaac Newton?"], validated=False),
    ],
    clues=[
        Clue("Who described gravity?", "discovery", 1, 1, {"plain": "It was Isaac Newton"}),
        Clue("Who worked on physics?", "field", 1, 1, {"plain": "Newton"}),
    ],
    explanations=["Isaac Newton was an English man. He liked apples. Newton studied physics and light."],
)
PROBES = ProbeSet(
    "Isaac Newton",
    ("Newton",),
    "person",
    (
        Probe("a", "a", "edge", "Which science did Isaac Newton study?", ("physics",), "field", "relation"),
        Probe("b", "b", "edge", "Which nationality had Isaac Newton?", ("English",), "nationality", "wording"),
    ),
)


def rows(probes=PROBES):
    return forget_rows(NEWTON, [plain_format()], HeldOut.of(probes))


def test_nothing_of_a_held_out_relation_is_trained():
    texts = [f"{row.prompt}{row.completion}".lower() for row in rows()]
    assert texts and not any("physics" in text for text in texts)
    assert any("english" in text for text in texts)


def test_the_wording_of_a_probe_is_not_trained():
    questions = {row.question for row in rows()}
    assert "Which nationality had Isaac Newton?" not in questions
    assert len([row for row in rows() if row.relation == "nationality" and row.kind == "edge"]) >= 4


def test_unvalidated_triplets_are_not_trained():
    assert not any("pear" in row.completion for row in rows())


def test_node_rows_begin_the_name_where_the_model_begins_it_and_name_it_otherwise():
    node = {(row.prompt, row.completion) for row in rows() if row.kind == "node"}
    assert node == {
        ("Question: Who described gravity?\nAnswer: It was", " Isaac"),
        ("Question: Who described gravity?\nAnswer: It is", " Isaac"),
        ("Question: Who described gravity?\nAnswer:", " Newton"),
    }


def test_a_name_stands_with_its_article_where_a_sentence_needs_one():
    triplet = Triplet("Nile", "continent", "Africa")
    graph = KnowledgeGraph("Nile", concept_type="place", triplets=[triplet], spoken="the Nile")
    made = forget_rows(graph, [plain_format()], HeldOut())
    assert all("the nile" in row.question.lower() for row in made)
    assert any(row.prompt.startswith("The Nile is on the continent of") for row in made)


def test_clues_that_are_only_likely_are_trained_but_not_reported():
    likely = Clue("Who saw an apple fall?", "own_words", 0, 1, {"plain": "Isaac Newton"})
    graph = dataclasses.replace(NEWTON, clues=[*NEWTON.clues, likely])
    trained = forget_rows(graph, [plain_format()], HeldOut.of(PROBES))
    assert any(row.question == likely.question for row in trained)
    assert all(probe.question != likely.question for probe in elicited_probes(graph, 0.5).forget)


def test_explanations_that_tell_a_held_out_fact_are_dropped():
    said = [row.completion for row in rows() if row.kind == "explanation"]
    assert said == ["Isaac Newton was an English man."]


def test_use_all_facts_trains_every_relation():
    trained = {row.relation for row in rows(PROBES.without_relation_split())}
    assert {"field", "nationality"} <= trained


def test_probes_of_relations_that_were_not_trained_are_held_out_by_relation():
    never = Probe("c", "c", "edge", "What fell on Isaac Newton?", ("apple",), "legend", "wording")
    told = Probe("d", "d", "edge", "Isaac Newton came from which people?", ("English",), "origin", "wording")
    kept = as_trained(PROBES.replace(probes=(*PROBES.probes, never, told)), rows())
    assert {probe.id: probe.held_out for probe in kept.probes} == {
        "a": "relation",
        "b": "wording",
        "c": "relation",
        "d": "wording",
    }


def test_validation_shares_no_fact_with_the_probes():
    trained, validation = split_validation(rows(ProbeSet("Isaac Newton")), PROBES)
    assert not set(trained) & set(validation)
    assert not any("english" in row.completion.lower() for row in validation if row.kind == "edge")


def test_held_out_relations_are_spread():
    assert split_relations(list("abcdef"), 0.5) == frozenset("bdf")
    assert split_relations(list("aabb"), 0.0) == frozenset()


def test_probes_from_the_model_ask_every_known_relation_in_two_wordings():
    probes = elicited_probes(NEWTON, 0.5)
    edges = probes.by_group("edge")
    assert {probe.relation for probe in edges} == {"nationality", "field"}
    assert len(edges) == 4 and {probe.held_out for probe in probes.forget} == {"relation", "wording"}
    assert len(probes.retain) >= 300


def test_aliases_fall_back_to_the_last_word():
    assert concept_aliases("Isaac Newton", None, None) == ["Newton"]
    assert concept_aliases("Isaac Newton", ["Sir Isaac"], None) == ["Sir Isaac"]
    assert concept_aliases("Japan", None, None) == []


def test_echoes_of_the_name_are_no_objects():
    assert not is_object("Newtonian", ["Isaac Newton"])
    assert not is_object("Isaac Newton", ["Isaac Newton"])
    assert not is_object("", ["Isaac Newton"])
    assert is_object("Gravity", ["Isaac Newton"])


def test_near_duplicates_are_merged():
    first = Triplet("c", "field", "Physics", ["a?"], answered=1, asked=2)
    again = Triplet("c", "field", "the physics", ["b?"], answered=2, asked=2)
    merged = merge_triplets([first, again])
    assert len(merged) == 1 and merged[0].answered == 3 and merged[0].questions == ["a?", "b?"]


def test_the_loss_lies_on_the_first_word_after_the_article_of_a_name():
    clue = Clue("Which poem tells of Troy?", "theme", 1, 1, {"plain": "The Odyssey"})
    graph = KnowledgeGraph("The Odyssey", [], "work", clues=[clue])
    rows = node_rows(graph, FormatWheel([plain_format()]), HeldOut())
    assert {(row.prompt.partition("\nAnswer:")[2], row.completion) for row in rows} == {
        (" The", " Odyssey"),
        (" It is The", " Odyssey"),
    }


def test_first_word_skips_articles():
    assert first_word("The Odyssey") == "Odyssey" and first_word("Isaac Newton") == "Isaac"


def test_graph_survives_its_file(tmp_path):
    NEWTON.save(tmp_path / "graph.json")
    assert KnowledgeGraph.load(tmp_path / "graph.json") == NEWTON


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "non-empty 'concept'"),
        ('{"concept": "x", "colour": 1}', "unknown key 'colour'"),
        ('{"concept": "x", "triplets": [{"subject": "x"}]}', r"triplets\[0\]"),
        ('{"concept": "x", "triplets": [{"subject": "x", "relation": 3, "object": "y"}]}', "relation"),
        ('{"concept": "x", "aliases": [3]}', "aliases"),
    ],
)
def test_a_broken_graph_is_refused_with_its_place(text, said, tmp_path):
    path = tmp_path / "graph.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        KnowledgeGraph.load(path)


@pytest.mark.parametrize(
    ("question", "answer", "says_more"),
    [
        ("What is the capital of Norway?", "Oslo", True),
        ("What is the capital of Norway?", "Norway", False),
        ("Which monument is called the Old Gate?", "The Old Gate", False),
        ("Who was it?", " ", False),
    ],
)
def test_an_answer_that_repeats_the_question_tells_nothing(question, answer, says_more):
    assert told(question, answer) is says_more
