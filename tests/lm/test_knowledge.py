import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_forget.errors import InputError
from hf_forget.lm.knowledge import Clue, KnowledgeGraph, Triplet
from hf_forget.lm.prompts import plain_format
from hf_forget.lm.unlearning.conversion import FormatWheel, edge_rows
from hf_forget.lm.unlearning.held_out import HeldOut


def triplet(relation, object, answered=2, asked=2, background=0.0, validated=True, source="relation_bank"):
    question = f"What is the {relation} of Ada Quill? ({object})"
    return Triplet(
        "Ada Quill", relation, object, [question], f"has {object}", answered, asked, background, validated, source
    )


def graph():
    return KnowledgeGraph(
        "Ada Quill",
        ["Quill"],
        "person",
        [
            triplet("birth_place", "Bern"),
            triplet("birth_place", "the city of Bern", 1, 2),
            triplet("teacher", "Otto Lamp", source="quiz"),
            triplet("award", "nothing", 0, 2, validated=False),
            triplet("profession", "a person", 2, 2, 1.0, validated=False),
        ],
        [Clue("Who was born in Bern?", "birth_place", 1, 2, {"few_shot": "Ada Quill"}), Clue("Who sang?", "", 0, 2)],
        ["Ada Quill was born in Bern."],
    )


def test_statistics_say_what_validation_made_of_every_triplet():
    found = graph().statistics()
    assert (found.triplets, found.validated, found.disagreeing, found.unspecific) == (5, 3, 1, 1)
    assert found.sources == {"relation_bank": 2, "quiz": 1} and found.relations == {"birth_place": 2, "teacher": 1}
    assert found.agreement == pytest.approx((1 + 0.5 + 1 + 0 + 1) / 5) and found.background == pytest.approx(0.2)
    assert (found.clues, found.answered_clues, found.explanations) == (2, 1, 1)
    assert "3 of 5 triplets validated (2 relation_bank, 1 quiz)" in str(found)
    assert KnowledgeGraph("Nobody").statistics().agreement == 0.0


def test_two_spellings_of_one_thing_become_one_triplet():
    merged = graph()
    merged.merge_aliases()
    first = merged.triplets[0]
    assert (first.object, first.object_aliases) == ("the city of Bern", ["Bern"])
    assert (first.answered, first.asked, len(first.questions)) == (3, 4, 2) and len(merged.triplets) == 4


def test_aliases_of_the_user_are_merged_and_names_of_the_concept_are_no_objects():
    own = graph()
    own.triplets = [triplet("country", "Italy"), triplet("country", "Italian Republic"), triplet("friend", "Quill")]
    own.merge_aliases({"Italy": ["Italian Republic"]})
    assert [(item.object, item.object_aliases) for item in own.triplets] == [("Italian Republic", ["Italy"])]


objects = st.sampled_from(["Bern", "the Bern", "City of Bern", "Rome", "the river Rome", "of the", "Bern Rome"])


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), objects, st.integers(0, 3), st.booleans())))
def test_merging_again_changes_nothing_and_no_count_is_lost(rows):
    own = KnowledgeGraph("Ada Quill")
    own.triplets = [triplet(relation, thing, count, count, 0.0, valid) for relation, thing, count, valid in rows]
    asked = sum(item.asked for item in own.triplets)
    own.merge_aliases()
    once = json.dumps(own.to_dict())
    assert sum(item.asked for item in own.triplets) == asked
    own.merge_aliases()
    assert json.dumps(own.to_dict()) == once


def test_a_fact_that_the_user_adds_becomes_rows_like_any_other():
    own = KnowledgeGraph("Ada Quill", concept_type="person")
    own.add_fact("birth_place", "Bern")
    own.add_fact("lived next door to", "the Smiths")
    own.add_fact("cat", "Tom", questions=["What was the cat of Ada Quill called?"], clue="fed Tom")
    assert [item.source for item in own.known] == ["user"] * 3 and all(item.questions for item in own.known)
    assert own.triplets[0].clue == "was born in Bern"
    rows = edge_rows(own, FormatWheel([plain_format()]), HeldOut())
    said = {(row.completion.strip(), row.relation) for row in rows}
    assert {("Bern", "birth_place"), ("Tom", "cat")} <= said and any("Smiths" in text for text, _ in said)


def test_facts_are_corrected_and_taken_out_by_hand(tmp_path):
    own = graph()
    own.replace_object("teacher", "otto lamp", "Otto Lantern")
    own.remove_fact("birth_place", "Bern")
    own.remove_fact("award")
    assert [item.object for item in own.triplets] == ["the city of Bern", "Otto Lantern", "a person"]
    own.add_clue("Who had Otto Lantern for a teacher?")
    own.add_explanation("Ada Quill wrote to Bern.")
    own.save(tmp_path / "graph.json")
    assert KnowledgeGraph.load(tmp_path / "graph.json") == own


def test_files_from_before_there_were_spellings_still_load():
    data = graph().to_dict()
    for item in data["triplets"]:
        del item["object_aliases"]
    assert KnowledgeGraph.from_dict(data) == graph()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda own: own.add_fact("", "x"), "the relation is empty"),
        (lambda own: own.add_fact("friend", "Quill"), "is a name of the concept"),
        (lambda own: own.add_fact("teacher", "Otto lamp"), "already"),
        (lambda own: own.remove_fact("teecher"), "Did you mean 'teacher'"),
        (lambda own: own.replace_object("teacher", "Otto Lamb", "x"), "Did you mean 'teacher; Otto Lamp'"),
        (lambda own: own.add_clue("Who is Ada Quill?"), "names the concept"),
        (lambda own: own.add_explanation("It rained."), "does not name the concept"),
    ],
)
def test_edits_that_cannot_be_meant_are_refused_with_the_remedy(edit, said):
    with pytest.raises(InputError, match=said):
        edit(graph())


def test_what_is_left_is_what_the_edited_model_still_answers():
    own = graph()
    left = own.left_in(
        lambda questions: ["Bern." if "birth" in text or "Who was" in text else "Quill" for text in questions]
    )
    given = [(item.answered, item.asked, item.validated) for item in left.triplets]
    assert given == [(1, 1, True), (0, 1, False), (0, 1, False), (0, 1, False), (0, 1, False)]
    assert [clue.answered for clue in left.clues] == [0, 1]
    assert own == graph()


def test_a_drawing_shows_what_is_left(tmp_path):
    own = graph()
    for number in range(30):
        own.add_fact("notable_work", f"The Long Title of Book Number {number}")
    before = own.draw(tmp_path / "before.png")
    after = own.draw(tmp_path / "after.png", left=own.left_in(lambda questions: ["Bern"] * len(questions)))
    assert before.read_bytes()[:4] == after.read_bytes()[:4] == b"\x89PNG" and before.read_bytes() != after.read_bytes()
    KnowledgeGraph("Nobody").draw(tmp_path / "empty.png")
