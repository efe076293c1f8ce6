"""What is kept: other names, none of which is reported on, and answers that say something."""

import pytest

from hf_forget.concept_unlearn.retain import CONTEXTS_PER_NAME, context_rows, told
from hf_forget.data import banks
from hf_forget.evidence.probes import Probe, ProbeSet
from hf_forget.lm.knowledge import KnowledgeGraph
from hf_forget.lm.rows import Row

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


@pytest.mark.parametrize(
    ("question", "answer", "says_more"),
    [
        ("What is the capital of Norway?", "Oslo", True),
        ("What is the capital of Norway?", "Norway", False),
        ("Which monument is called the Old Gate?", "The Old Gate", False),
        ("Who was it?", " ", False),
    ],
)
def test_an_answer_that_repeats_the_question_is_no_retain_row(question, answer, says_more):
    assert told(question, answer) is says_more
