import itertools
import math
import zlib

import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget.evidence.membership import (
    MembershipTexts,
    measure_membership,
    membership_auc,
    membership_metrics,
    membership_scores,
)
from hf_forget.lm.decoding import AnswerGenerator

TEXTS = MembershipTexts(
    ("Isaac Newton was born in a village.", "The poet lived by the sea."),
    ("The dog is lazy.", "Two men walked on the moon and many people know it."),
)


def test_scores_of_ten_tokens_take_the_two_least_likely():
    log_probs = [-1.0, -2.0, -9.0, -3.0, -0.5, -7.0, -1.5, -0.1, -2.5, -0.2]
    means, deviations = [-2.0] * 10, [1.0, 1.0, 10.0, 1.0, 1.0, 2.0, 1.0, 1.0, 0.25, 1.0]
    found = membership_scores(log_probs, means, deviations, "some text")
    assert found["loss"] == pytest.approx(sum(log_probs) / 10)
    assert found["zlib"] == pytest.approx(sum(log_probs) / len(zlib.compress(b"some text")))
    assert found["min_k"] == pytest.approx((-9 - 7) / 2)
    # (-7 + 2) / 2 = -2.5 and (-2.5 + 2) / 0.25 = -2 are the lowest.
    assert found["min_k_plus"] == pytest.approx((-2.5 - 2.0) / 2)


def test_area_is_the_share_of_pairs_in_which_the_member_scores_higher():
    members, others = [0.3, 0.9, 0.5], [0.1, 0.5, 0.2, 0.8]
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(members, others)]
    area, (low, high) = membership_auc(members, others)
    assert area == pytest.approx(sum(pairs) / len(pairs))
    assert area == pytest.approx(roc_auc_score([1] * 3 + [0] * 4, members + others))
    assert 0 <= low < area < high <= 1
    assert membership_auc([2.0, 3.0], [0.0, 1.0])[0] == 1.0


def test_scores_agree_with_a_loop_over_every_token(tiny_llama):
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tiny_llama).eval(),
        AutoTokenizer.from_pretrained(tiny_llama),
    )
    found = measure_membership(AnswerGenerator(model, tokenizer), TEXTS)
    for kind, texts in (("members", TEXTS.members), ("non_members", TEXTS.non_members)):
        for place, text in enumerate(texts):
            head, rest = text.split(maxsplit=1)
            ids = tokenizer(head)["input_ids"]
            start = len(ids)
            ids = ids + tokenizer(f" {rest}", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0]
            values, means, deviations = [], [], []
            for position in range(start, len(ids)):
                row = logits[position - 1].log_softmax(-1)
                mean = sum(math.exp(value) * value for value in row.tolist())
                square = sum(math.exp(value) * (value - mean) ** 2 for value in row.tolist())
                values.append(row[ids[position]].item())
                means.append(mean)
                deviations.append(math.sqrt(square))
            for name, value in membership_scores(values, means, deviations, text).items():
                assert found[name][kind][place] == pytest.approx(value, rel=1e-3, abs=1e-4)


def test_every_attack_has_its_figure_and_no_texts_give_none():
    scores = {"members": [1.0, 2.0], "non_members": [0.0, 1.5]}
    (metric,) = membership_metrics({"loss": scores})
    assert (metric.name, metric.group, metric.direction, metric.value, metric.n) == (
        "membership_auc_loss",
        "membership",
        "none",
        0.75,
        4,
    )
    assert "0.5 is ideal" in metric.definition
    assert membership_metrics(None) == []
