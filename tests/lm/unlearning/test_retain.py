"""What is kept: other names, none of which is reported on, and answers that say something."""

from random import Random

from hf_forget.data import banks
from hf_forget.evidence.collapse import general_paragraphs
from hf_forget.evidence.probes import Probe, ProbeSet
from hf_forget.lm.knowledge import KnowledgeGraph
from hf_forget.lm.rows import Row
from hf_forget.lm.unlearning.retain import CONTEXTS_PER_NAME, context_rows, text_rows

GRAPH = KnowledgeGraph("Isaac Newton", ["Newton"], "person")
REPORTED, OTHER = banks.names()["person"][:2]


def test_contexts_speak_of_other_names_but_of_none_that_is_reported_on():
    neighbor = Probe("n", "n", "neighbor", f"Who was {REPORTED}?", ("a person",), name=REPORTED)
    probes = ProbeSet("Isaac Newton", ("Newton",), "person", (neighbor,))
    retain = [Row("An example.\n\nQuestion: What is ice? Answer:", " Water", "retain")]
    texts = [row.completion for row in context_rows(GRAPH, retain, probes)]
    assert sum(OTHER in text for text in texts) == CONTEXTS_PER_NAME
    assert not any(REPORTED in text or "Newton" in text for text in texts)
    assert "Question: What is ice? Answer: Water" in texts
    assert any(text in banks.general_text() for text in texts)


def test_general_texts_are_cut_and_none_is_measured():
    rows = text_rows(10_000, 7, Random(0))
    openings = {" ".join(text.split()[:7]) for text in banks.general_text()} - {
        " ".join(text.split()[:7]) for text in general_paragraphs()
    }
    assert {row.completion for row in rows} == openings
    assert [row.completion for row in text_rows(3, 100, Random(0))] == [row.question for row in rows[:3]]
