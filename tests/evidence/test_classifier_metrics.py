import math

import numpy as np
import pytest
import torch

from hf_forget.errors import InputError
from hf_forget.evidence.classifier_metrics import (
    confidence,
    confusion,
    entropy,
    losses,
    membership_auc,
    output_metrics,
    predicted_classes,
)
from hf_forget.evidence.feature_probe import linear_probe
from hf_forget.evidence.intervals import wilson
from hf_forget.evidence.labelled_inputs import LabelledInputs

NAN, INF = float("nan"), float("inf")


def one_hot(answers: list[int], classes: int = 3, scale: float = 5.0) -> torch.Tensor:
    return scale * torch.eye(classes)[answers]


def by_name(metrics) -> dict:
    return {metric.name: metric for metric in metrics}


def test_rates_are_those_counted_by_hand():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
    answers = [0, 0, 0, 1, 0, 2, 2, 2, 2, 2, 2, 1]
    found = by_name(output_metrics(one_hot(answers), labels, [1]))
    assert found["remaining_accuracy"].value == pytest.approx(7 / 9) and found["remaining_accuracy"].n == 9
    assert found["remaining_accuracy"].ci95 == pytest.approx(wilson(7, 9))
    assert found["lowest_class_accuracy"].value == pytest.approx(3 / 4)
    assert (found["forgotten_error"].value, found["forgotten_error"].n) == (1.0, 3)
    assert found["forgotten_error"].ci95 == pytest.approx(wilson(3, 3))
    assert found["top_confusion_share"].value == pytest.approx(2 / 3)
    assert "forgotten_error_class_1" not in found
    assert all(metric.definition for metric in found.values())


def test_each_of_several_forgotten_classes_has_its_own_error():
    labels = torch.tensor([0, 1, 1, 1, 1, 2, 2])
    found = by_name(output_metrics(one_hot([0, 0, 0, 0, 1, 2, 0]), labels, [2, 1]))
    assert found["forgotten_error"].value == pytest.approx(4 / 6)
    assert found["forgotten_error_class_1"].value == pytest.approx(3 / 4)
    assert found["forgotten_error_class_2"].value == pytest.approx(1 / 2)


def test_right_answers_are_not_confusion():
    labels = torch.tensor([0, 1, 1, 1, 1])
    found = by_name(output_metrics(one_hot([0, 1, 1, 1, 2]), labels, [1]))
    assert found["top_confusion_share"].value == pytest.approx(1 / 4)


def test_confidence_and_entropy_of_known_distributions():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]))
    torch.testing.assert_close(confidence(logits), torch.tensor([0.5, 1 / 3]))
    torch.testing.assert_close(entropy(logits), torch.tensor([1.5 * math.log(2), math.log(3)]))
    certain = torch.tensor([[0.0, -1e4, -1e4], [0.0, -INF, -INF]])
    assert entropy(certain).tolist() == [0, 0] and confidence(certain).tolist() == [1, 1]


def test_probability_of_the_true_class_is_that_of_forgotten_inputs():
    logits = torch.log(torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.2, 0.2], [0.5, 0.4, 0.1]]))
    found = by_name(output_metrics(logits, torch.tensor([0, 1, 1]), [1]))
    assert found["forgotten_class_probability"].value == pytest.approx(0.3)
    assert found["forgotten_confidence"].value == pytest.approx(0.55)


def test_answers_that_are_no_numbers_are_wrong_for_every_class():
    logits = torch.tensor([[NAN, 0.0, 0.0], [3.0, NAN, 0.0], [0.0, 3.0, 0.0]])
    assert predicted_classes(logits).tolist() == [-1, -1, 1]
    assert confusion(predicted_classes(logits), 3) == pytest.approx([0, 1 / 3, 0])


def test_logits_of_minus_infinity_are_answers():
    assert predicted_classes(torch.tensor([[-INF, 0.0, 1.0]])).tolist() == [2]


def test_losses_stay_exact_where_a_logit_was_dropped():
    assert losses(torch.tensor([[0.0, -1e4]]), torch.tensor([1])).item() == pytest.approx(1e4)


def test_membership_is_the_share_of_pairs_that_are_told_apart():
    generator = np.random.default_rng(0)
    members, others = generator.normal(0, 1, 40), generator.normal(0.7, 1, 60)
    others[:5] = members[:5]  # ties count half
    pairs = [(a < b) + 0.5 * (a == b) for a in members for b in others]
    area, low, high = membership_auc(list(members), list(others))
    assert area == pytest.approx(np.mean(pairs))
    assert low < area < high


def test_membership_interval_is_that_of_hanley_and_mcneil():
    # A published example: area 0.893 with 51 and 58 cases has a standard error of 0.032.
    area, members, others = 0.893, 51, 58
    first, second = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
    error = math.sqrt((area * (1 - area) + (members - 1) * first + (others - 1) * second) / (members * others))
    assert error == pytest.approx(0.032, abs=1e-3)
    found = membership_auc([0.0, 1.0], [2.0, 0.5])
    assert found[0] == pytest.approx(0.75)
    variance = (0.75 * 0.25 + (0.75 / 1.25 - 0.5625) + (2 * 0.5625 / 1.75 - 0.5625)) / 4
    assert found[1:] == pytest.approx((0.75 - 1.959964 * math.sqrt(variance), 1.0), abs=1e-6)


def test_membership_needs_both_kinds():
    with pytest.raises(ValueError, match="both kinds"):
        membership_auc([], [1.0])


def test_probe_finds_what_is_linear_and_nothing_else():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(400, 5)) * np.array([1, 100, 0.01, 1, 0])
    linear, noise = features[:, 2] > 0, generator.random(400) > 0.5
    assert linear_probe(features[:300], linear[:300], features[300:], linear[300:]) >= 95
    assert 30 <= linear_probe(features[:300], noise[:300], features[300:], noise[300:]) <= 70


def test_inputs_are_parted_by_class():
    data = LabelledInputs(torch.arange(6.0)[:, None], torch.tensor([0, 1, 2, 0, 1, 2]), torch.ones(6, 4))
    assert data.of([1, 2]).inputs.flatten().tolist() == [1, 2, 4, 5]
    assert data.without([1, 2]).labels.tolist() == [0, 0]
    assert data.of([1]).attention_mask.shape == (2, 4)
    drawn = data.sample(4, seed=3)
    assert len(drawn) == 4 and len(set(drawn.inputs.flatten().tolist())) == 4
    assert torch.equal(drawn.inputs, data.sample(4, seed=3).inputs)
    assert data.sample(10) is data


def test_inputs_without_their_labels_are_refused():
    with pytest.raises(InputError, match="one label per input, got 3 and 2"):
        LabelledInputs(torch.zeros(3, 2), torch.zeros(2, dtype=torch.long))
