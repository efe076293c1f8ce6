"""Questions that give their answer away say nothing about the target, and stand in none of its figures."""

import pytest
import torch
from torch import nn
from transformers import AutoTokenizer

from hf_forget.evidence.given_away import given_away, set_aside
from hf_forget.evidence.language_model import evidence_from_records, measure_language_model
from hf_forget.evidence.options import EvidenceOptions
from hf_forget.evidence.probes import Probe, ProbeSet
from hf_forget.lm.generation import TokenScores

NAME = "Ada Quill"
TRADE = Probe("trade", "trade", "edge", f"What was the trade of {NAME}?", ("smith",), held_out="wording")
MUSEUM = Probe("museum", "museum", "edge", f"Which museum in Paris shows {NAME}?", ("Louvre",), held_out="wording")
NODE = Probe("node", "node", "node", "Who forged the great bell?", (NAME,), held_out="wording")
FAR = Probe("far", "far", "distant", "What is wet?", ("water",))
PROBES = ProbeSet(NAME, ("Quill",), "person", (TRADE, MUSEUM, NODE, FAR), "user")


class Guesser:
    """Knows the trade and the node until it `forgets`, and says the Louvre whoever is meant."""

    def __init__(self, forgets=False):
        self.forgets = forgets
        self.asked = []

    def generate(self, prompts, *, max_new_tokens=12, num_samples=1, temperature=0.0, seed=0, stop="\n"):
        self.asked += prompts
        return [[self._answer(prompt.rpartition("Question:")[2])] * num_samples for prompt in prompts]

    def _answer(self, prompt):
        if "museum" in prompt:
            return "The Louvre"
        if "wet" in prompt:
            return "water"
        if self.forgets:
            return "nothing at all"
        return "a smith" if NAME in prompt else NAME if "bell" in prompt else "many words of a general kind"

    def score(self, prompts, completions):
        return [TokenScores([1.0, 1.0], [1, 2], [1, 2]) for _ in completions]

    def next_token_log_probs(self, prompts):
        return torch.log_softmax(torch.arange(100.0), -1).repeat(len(prompts), 1)


def asker(right, asked):
    def ask(rows):
        asked.extend(rows)
        return {row.id: {"answer": "", "correct": right(row)} for row in rows}

    return ask


def test_row_is_given_away_where_any_invented_name_gets_its_answer():
    asked = []
    ask = asker(lambda row: "museum" in row.question and "Elspeth" in row.question, asked)
    assert given_away(ask, [TRADE, MUSEUM, NODE], PROBES) == {"museum"}
    assert len({row.question for row in asked}) == 4, "two rows that name the target, two invented names"
    assert not any(NAME in row.question or row.group == "node" for row in asked)


def test_rows_that_do_not_name_the_target_are_never_given_away():
    assert given_away(asker(lambda row: True, []), [NODE], PROBES) == set()


@pytest.mark.parametrize("right", [True, False])
def test_answer_set_aside_is_not_counted_and_not_lost(right):
    answer = {"answer": "The Louvre", "correct": right}
    assert set_aside(answer) == {"answer": "The Louvre", "correct": False, "given_away": right}


@pytest.fixture
def stages(tiny_llama):
    """The records and metrics of a model before and after it forgets."""
    options = EvidenceOptions(prompt_formats=["few_shot"])
    network, tokenizer = nn.Linear(64, 4), AutoTokenizer.from_pretrained(tiny_llama)
    before = measure_language_model(network, tokenizer, PROBES, options=options, stage="before", generator=Guesser())
    after = measure_language_model(
        network,
        tokenizer,
        PROBES,
        options=options,
        stage="after",
        baseline=before.records,
        generator=Guesser(forgets=True),
    )
    return before, after


def test_what_is_given_away_counts_neither_as_known_nor_as_left(stages):
    before, after = stages
    rows = {
        row.fact_id: (row.before, row.after)
        for row in evidence_from_records(before.records, after.records, PROBES).forget_rows
    }
    assert rows == {"trade": (True, False), "museum": (False, False), "node": (True, False)}
    assert set(before.records["sampled"]) == {"trade", "node"}
    attacked = before.records["attacks"]["rows"]
    assert "museum" not in {*attacked["quantize"], *attacked["prompt"]}


def test_what_is_given_away_has_a_figure_of_its_own(stages):
    for measurement in stages:
        metric = next(item for item in measurement.metrics if item.name == "given_away_accuracy")
        assert (metric.value, metric.n, metric.direction) == (1.0, 1, "none")
