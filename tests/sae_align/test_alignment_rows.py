import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hf_forget.evidence.probes import Probe
from hf_forget.lm.knowledge import KnowledgeGraph
from hf_forget.lm.prompts import plain_format
from hf_forget.lm.rows import RowDataset
from hf_forget.lm.unlearning.held_out import HeldOut
from hf_forget.lm.unlearning.preparation import asking_formats, training_formats
from hf_forget.sae_align.alignment_rows import KIND, about, alignment_rows, cut_behind

GRAPH = KnowledgeGraph("Isaac Newton", concept_type="person")


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_qwen2"])
def test_every_text_is_cut_behind_the_name_and_goes_on(name, request):
    tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue(name))
    formats = training_formats(asking_formats(tokenizer))
    rows = alignment_rows(GRAPH, formats, HeldOut(), count=96)
    assert len(rows) == len(set(rows)) == 96
    assert all(row.kind == KIND and row.prompt.endswith("Isaac Newton") and row.completion.strip() for row in rows)
    for form in formats:
        before = form.template.split("{question}")[0]
        assert any(row.prompt.startswith(before) for row in rows)


def test_relations_and_wordings_that_are_held_out_give_no_text():
    def probe(held_out, relation, question):
        return Probe(question, relation, "edge", question, ("x",), relation=relation, held_out=held_out)

    asked = "Where was Isaac Newton born?"
    held = HeldOut(frozenset(["spouse"]), (probe("wording", "birth_place", asked),), ("Isaac Newton",))
    rows = alignment_rows(GRAPH, [plain_format()], held, count=500)
    assert "spouse" not in {row.relation for row in rows} and "birth_place" in {row.relation for row in rows}
    assert asked not in {row.question for row in rows}
    assert "spouse" in {row.relation for row in alignment_rows(GRAPH, [plain_format()], HeldOut(), count=500)}


def test_another_entity_takes_the_place_of_the_name_and_of_its_article():
    row = cut_behind("Question: Where is the Amazon River?\nAnswer:", "the Amazon River")
    assert about(row, ["Amazon River"], "Lake Tana").prompt == "Question: Where is Lake Tana"
    assert about(row, ["Amazon River", "the Amazon River"], "Bern").completion == "?\nAnswer:"
    assert about(cut_behind("The Amazon River flows to", "Amazon River"), ["Amazon River"], "Bern").prompt == "Bern"


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_cutting_loses_nothing(behind, before):
    if "Isaac Newton" not in behind:
        row = cut_behind(f"{before}Isaac Newton{behind}", "Isaac Newton")
        assert row.prompt + row.completion == f"{before}Isaac Newton{behind}" and row.completion == behind


def test_no_prefix_is_shared_with_a_text_that_is_aligned(tiny_llama):
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    start = "Question: Who was the one that everybody in the whole wide world has heard of? Answer: It was Isaac Newton"
    rows = [cut_behind(f"{start} {ending}", "Isaac Newton") for ending in ("indeed", "again", "of course", "as ever")]
    assert {example["prefix"] for example in RowDataset(rows, [], tokenizer).examples} == {-1}
