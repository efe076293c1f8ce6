import math
from types import SimpleNamespace

import pytest
from scipy.stats import ks_2samp

from hf_forget.evidence.probes import Probe
from hf_forget.evidence.truth_ratio import forget_quality, measure_truth_ratios, truth_ratio, truth_ratio_metrics
from hf_forget.lm.prompts import plain_format


class Scores:
    """Scores each completion by its length, in nats per token."""

    def score(self, prompts, completions, *, moments=False):
        assert all(prompt.startswith("Question:") for prompt in prompts)
        return [SimpleNamespace(negative_log_likelihoods=[len(text) - 1.0] * 3) for text in completions]


def probe(number, right="ab", wrong=("a", "abc")):
    question = f"What is {number}?"
    return Probe(
        f"e/{number}", f"f/{number}", "edge", question, ("x",), paraphrased_answer=right, perturbed_answers=wrong
    )


def test_truth_ratio_is_the_mean_of_wrong_over_right():
    assert truth_ratio([1.0, 3.0], 2.0) == pytest.approx((math.e + math.exp(-1)) / 2)
    with pytest.raises(ValueError, match="at least one wrong answer"):
        truth_ratio([], 1.0)


def test_probes_are_scored_in_their_prompt_and_those_without_wrong_answers_left_out():
    found = measure_truth_ratios(Scores(), plain_format(), [probe(0), probe(1, wrong=())])
    assert found == {
        "e/0": {
            "truth_ratio": pytest.approx((math.e + math.exp(-1)) / 2),
            "paraphrase": 2.0,
            "perturbed": [1.0, 3.0],
        }
    }


def test_forget_quality_is_the_two_sample_test_against_the_never_knew_model():
    edited, never = [0.1, 0.2, 0.9, 1.4], [0.8, 1.1, 1.2, 1.3]
    expected = ks_2samp(edited, never)
    assert forget_quality(edited, never) == (expected.statistic, expected.pvalue)
    assert forget_quality(never, never) == (0.0, 1.0)


def test_forget_quality_stands_only_beside_a_reference():
    ratios, facts = {"e/0": {"truth_ratio": 2.0}, "e/1": {"truth_ratio": 4.0}}, {"e/0": "a", "e/1": "b"}
    (alone,) = truth_ratio_metrics(ratios, facts)
    assert (alone.name, alone.value, alone.n) == ("truth_ratio", 3.0, 2)
    beside = {metric.name: metric.value for metric in truth_ratio_metrics(ratios, facts, ratios)}
    assert beside == {"truth_ratio": 3.0, "forget_quality_ks": 0.0, "forget_quality_p": 1.0}
    assert truth_ratio_metrics({}, {})[0].status == "not_run"
